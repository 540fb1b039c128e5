package connectivity

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// podGroup is a pod's control group: "pod" and its UID, with dashes under the cgroupfs driver and underscores under systemd's.
var podGroup = regexp.MustCompile(`pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})`)

// PodProcesses finds one process of every pod that runs below the given ones, the inits of the machines, in a network namespace
// other than theirs: the pod's UID to the process. Pods that share their node's network have none. proc is usually "/proc".
func PodProcesses(proc string, inits []int) (map[string]int, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, e := range entries {
		process, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(proc, e.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		// The name before it, in parentheses, may hold anything.
		_, rest, _ := cutLast(string(stat), ')')
		if fields := strings.Fields(rest); len(fields) > 1 {
			parents[process], _ = strconv.Atoi(fields[1])
		}
	}
	networks := map[int]string{}
	for _, init := range inits {
		network, err := os.Readlink(filepath.Join(proc, strconv.Itoa(init), "ns", "net"))
		if err != nil {
			return nil, fmt.Errorf("network of the machine: %w", err)
		}
		networks[init] = network
	}
	pods := map[string]int{}
	for process := range parents {
		init, ok := ancestor(parents, process, networks)
		if !ok || process == init {
			continue
		}
		dir := filepath.Join(proc, strconv.Itoa(process))
		groups, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		if err != nil {
			continue
		}
		match := podGroup.FindStringSubmatch(string(groups))
		network, err := os.Readlink(filepath.Join(dir, "ns", "net"))
		if match == nil || err != nil || network == networks[init] {
			continue
		}
		// The oldest is the sandbox, which lives as long as the pod's network.
		uid := strings.ReplaceAll(match[1], "_", "-")
		if known, ok := pods[uid]; !ok || process < known {
			pods[uid] = process
		}
	}
	return pods, nil
}

// ancestor returns the init that a process descends from.
func ancestor(parents map[int]int, process int, inits map[int]string) (int, bool) {
	for steps := 0; process > 0 && steps <= len(parents); steps++ {
		if _, ok := inits[process]; ok {
			return process, true
		}
		process = parents[process]
	}
	return 0, false
}

func cutLast(s string, separator byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

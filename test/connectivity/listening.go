package connectivity

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ephemos.dev/deploy/components/zones"
)

// States of sockets in /proc/net/tcp and udp (include/net/tcp_states.h).
const (
	stateListen      = "0A"
	stateUnconnected = "07"
)

// firstEphemeral is where the ports begin that Linux gives to clients (ip_local_port_range).
const firstEphemeral = 32768

// ReadListening returns what listens in the network namespace of a process, at the address or at all, in order and without
// what only the loopback reaches. proc is usually "/proc".
//
// An unconnected UDP socket is a server's, unless it has a port that clients are given.
func ReadListening(proc string, process int, address netip.Addr) ([]Socket, error) {
	var (
		out  []Socket
		errs []error
	)
	for _, table := range []struct {
		file     string
		protocol zones.Protocol
		state    string
	}{
		{"tcp", zones.TCP, stateListen}, {"tcp6", zones.TCP, stateListen},
		{"udp", zones.UDP, stateUnconnected}, {"udp6", zones.UDP, stateUnconnected},
	} {
		path := filepath.Join(proc, strconv.Itoa(process), "net", table.file)
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && strings.HasSuffix(table.file, "6") {
			continue // a kernel without IPv6
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		sockets, err := parseSockets(string(text), table.state)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
		for _, s := range sockets {
			at := s.Addr().Unmap()
			if !at.IsUnspecified() && at != address || table.protocol == zones.UDP && s.Port() >= firstEphemeral {
				continue
			}
			out = append(out, Socket{table.protocol, int(s.Port())})
		}
	}
	slices.SortFunc(out, func(a, b Socket) int {
		if a.Protocol != b.Protocol {
			return strings.Compare(string(a.Protocol), string(b.Protocol))
		}
		return a.Port - b.Port
	})
	return slices.Compact(out), errors.Join(errs...)
}

// parseSockets returns the local ends of the sockets in a state, from the text of /proc/net/tcp and its like.
func parseSockets(text, state string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		fields := strings.Fields(line)
		if i == 0 || len(fields) == 0 {
			continue
		}
		if len(fields) < 4 {
			return nil, fmt.Errorf("line %d: %q has no state", i+1, line)
		}
		if fields[3] != state {
			continue
		}
		local, err := parseAddress(fields[1])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		out = append(out, local)
	}
	return out, nil
}

// parseAddress reads "0100007F:1F90": each four bytes of the address as the number they are on a little-endian machine.
func parseAddress(text string) (netip.AddrPort, error) {
	address, port, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || portErr != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("%q is not an address and a port", text)
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr, uint16(number)), nil
}

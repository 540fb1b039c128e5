// Package stack deploys the stack "local" of this repository onto the testbed's cluster, with the Pulumi command line and provider
// that the toolchain built, a state backend below the testbed's state directory, and images by digest.
//
// What flows in: a running cluster, the toolchain's programs, Pulumi.yaml and Pulumi.local.yaml of the checkout, and
// overrides of configuration keys. What comes out: the deployed stack and its outputs. The checkout is only read.
package stack

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/testbed"
	"ephemos.dev/deploy/toolchain"
	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/events"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optdestroy"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optpreview"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
)

// Name is the stack's name, as in Pulumi.local.yaml.
const Name = "local"

// kubernetesPlugin is the provider's version: the one of pulumi-kubernetes/sdk in go.mod.
const kubernetesPlugin = "4.25.0"

// Stack is the local stack on one testbed.
type Stack struct {
	cluster *testbed.Cluster
	auto    auto.Stack
	dir     string
	config  map[string]string
	LogFile string // everything the last operation printed
}

// Open prepares the workspace of the stack. overrides sets configuration keys without their namespace ("x509SVIDTTL") for this handle
// only; an empty value removes a key of Pulumi.local.yaml.
func Open(ctx context.Context, cluster *testbed.Cluster, root string, overrides map[string]string) (*Stack, error) {
	tools, err := cluster.Tools(ctx)
	if err != nil {
		return nil, err
	}
	s := &Stack{cluster: cluster, dir: filepath.Join(cluster.Dir(), "pulumi"), config: map[string]string{}}
	s.LogFile = filepath.Join(s.dir, "pulumi.log")
	unlock, err := cluster.LockStack(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.prepare(root, tools); err != nil {
		return nil, fmt.Errorf("workspace of the stack: %w", err)
	}
	command, err := auto.NewPulumiCommand(&auto.PulumiCommandOptions{Root: s.dir})
	if err != nil {
		return nil, err
	}
	s.auto, err = auto.UpsertStackLocalSource(ctx, Name, filepath.Join(s.dir, "project"), auto.Pulumi(command), auto.Program(stacks.Program(s.config)),
		auto.PulumiHome(filepath.Join(s.dir, "home")), auto.EnvVars(s.environment()))
	if err != nil {
		return nil, fmt.Errorf("open stack %s: %w", Name, err)
	}
	if err := s.configure(ctx, cluster, tools, overrides); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Stack) passphraseFile() string { return filepath.Join(s.dir, "passphrase") }

// environment is what the Pulumi command line needs to work without a network.
func (s *Stack) environment() map[string]string {
	name, value := s.cluster.Environment()
	return map[string]string{
		name:                            value,
		"PULUMI_BACKEND_URL":            "file://" + filepath.Join(s.dir, "state"),
		"PULUMI_CONFIG_PASSPHRASE_FILE": s.passphraseFile(),
		"PULUMI_SKIP_UPDATE_CHECK":      "1",
		"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
		"PULUMI_K8S_CLIENT_BURST":                     "400",
		"PULUMI_K8S_CLIENT_QPS":                       "200",
		"NO_PROXY":                                    "127.0.0.1,localhost",
	}
}

// prepare lays out the directories that the command line expects; doing it again changes nothing.
func (s *Stack) prepare(root string, tools *toolchain.Result) error {
	cli, err := tools.Program("pulumi")
	if err != nil {
		return err
	}
	provider, err := tools.Program("pulumi-resource-kubernetes")
	if err != nil {
		return err
	}
	project := filepath.Join(s.dir, "project")
	plugin := filepath.Join(s.dir, "home", "plugins", "resource-kubernetes-v"+kubernetesPlugin)
	for _, dir := range []string{project, plugin, filepath.Join(s.dir, "bin"), filepath.Join(s.dir, "state")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := errors.Join(
		relink(cli, filepath.Join(s.dir, "bin", "pulumi")),
		relink(provider, filepath.Join(plugin, "pulumi-resource-kubernetes")),
		copyFile(filepath.Join(root, "Pulumi.yaml"), filepath.Join(project, "Pulumi.yaml")),
	); err != nil {
		return err
	}
	if _, err := os.Stat(s.passphraseFile()); errors.Is(err, os.ErrNotExist) {
		secret := make([]byte, 24)
		if _, err := rand.Read(secret); err != nil {
			return err
		}
		if err := os.WriteFile(s.passphraseFile(), []byte(hex.EncodeToString(secret)), 0o600); err != nil {
			return err
		}
	}
	// The copy gets this machine's paths and the salt of its passphrase, which the checkout must not. A salt written earlier stays.
	settings := filepath.Join(project, "Pulumi."+Name+".yaml")
	salt := ""
	if old, err := os.ReadFile(settings); err == nil {
		for line := range strings.Lines(string(old)) {
			if strings.HasPrefix(line, "encryptionsalt:") {
				salt = line
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "Pulumi."+Name+".yaml"))
	if err != nil {
		return err
	}
	return os.WriteFile(settings, append([]byte(salt), text...), 0o600)
}

func (s *Stack) configure(ctx context.Context, cluster *testbed.Cluster, tools *toolchain.Result, overrides map[string]string) error {
	// The toolchain's own list belongs to the checkout that built last.
	images := filepath.Join(s.dir, "images.json")
	list, err := json.Marshal(tools.ImageRefs())
	if err != nil {
		return err
	}
	if err := os.WriteFile(images, list, 0o600); err != nil {
		return err
	}
	values := map[string]string{
		"kubeconfig":   cluster.Kubeconfig(),
		"imagesFile":   images,
		"storageClass": testbed.StorageClass,
		"podCIDR":      testbed.PodRange,
		"nodeCIDR":     testbed.NodeRange,
		// Policies see the endpoints behind the Services' addresses.
		"apiServerCIDR": testbed.APIServerRange,
		"apiServerPort": strconv.Itoa(testbed.APIServerPort),
		"dnsPort":       strconv.Itoa(testbed.DNSPort),
	}
	maps.Copy(values, overrides)
	set := auto.ConfigMap{}
	for key, value := range values {
		if value == "" {
			if err := s.auto.RemoveConfig(ctx, stacks.Namespace+":"+key); err != nil {
				return err
			}
			continue
		}
		set[stacks.Namespace+":"+key] = auto.ConfigValue{Value: value}
	}
	if err := s.auto.SetAllConfig(ctx, set); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	all, err := s.auto.GetAllConfig(ctx)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	for key, value := range all {
		s.config[key] = value.Value
	}
	return nil
}

// Changes counts an operation's resources by what was done to them ("create", "update", "same", "delete").
type Changes map[string]int

// Up deploys the stack and returns when everything that it waits for is ready. Progress gets a line every few seconds.
func (s *Stack) Up(ctx context.Context, progress io.Writer) (Changes, error) {
	var changes Changes
	err := s.operate(ctx, progress, "deploy", func(log io.Writer, stream chan<- events.EngineEvent) error {
		result, err := s.auto.Up(ctx, optup.ProgressStreams(log), optup.ErrorProgressStreams(log), optup.EventStreams(stream), optup.SuppressOutputs())
		if result.Summary.ResourceChanges != nil {
			changes = *result.Summary.ResourceChanges
		}
		return err
	})
	return changes, err
}

// Preview returns what Up would do.
func (s *Stack) Preview(ctx context.Context, progress io.Writer) (Changes, error) {
	changes := Changes{}
	err := s.operate(ctx, progress, "preview", func(log io.Writer, stream chan<- events.EngineEvent) error {
		result, err := s.auto.Preview(ctx, optpreview.ProgressStreams(log), optpreview.ErrorProgressStreams(log), optpreview.EventStreams(stream))
		for op, n := range result.ChangeSummary {
			changes[string(op)] = n
		}
		return err
	})
	return changes, err
}

// Destroy removes everything that Up made.
func (s *Stack) Destroy(ctx context.Context, progress io.Writer) (Changes, error) {
	var changes Changes
	err := s.operate(ctx, progress, "destroy", func(log io.Writer, stream chan<- events.EngineEvent) error {
		result, err := s.auto.Destroy(ctx, optdestroy.ProgressStreams(log), optdestroy.ErrorProgressStreams(log), optdestroy.EventStreams(stream))
		if result.Summary.ResourceChanges != nil {
			changes = *result.Summary.ResourceChanges
		}
		return err
	})
	return changes, err
}

// PreviewProgram is Preview as a person with a stock Pulumi has it: the command line, its Go language host and main.go of the
// checkout, which the host builds. It fails when anything would change, and returns what was printed.
func (s *Stack) PreviewProgram(ctx context.Context, root string) (string, error) {
	tools, err := s.cluster.Tools(ctx)
	if err != nil {
		return "", err
	}
	host, err := tools.Program("pulumi-language-go")
	if err != nil {
		return "", err
	}
	unlock, err := s.cluster.LockStack(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	command := exec.CommandContext(ctx, filepath.Join(s.dir, "bin", "pulumi"), "preview", "--non-interactive", "--expect-no-changes", "--suppress-outputs",
		"--stack", Name, "--cwd", root, "--config-file", filepath.Join(s.dir, "project", "Pulumi."+Name+".yaml"))
	command.Env = append(os.Environ(), "PULUMI_HOME="+filepath.Join(s.dir, "home"), "PATH="+filepath.Dir(host)+":"+os.Getenv("PATH"))
	for name, value := range s.environment() {
		command.Env = append(command.Env, name+"="+value)
	}
	// What the command line started may hold its output open after it.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	out, err := command.CombinedOutput()
	return string(out), err
}

// Outputs returns the outputs of the deployed stack; secret ones are left out.
func (s *Stack) Outputs(ctx context.Context) (map[string]any, error) {
	outputs, err := s.auto.Outputs(ctx)
	if err != nil {
		return nil, err
	}
	plain := map[string]any{}
	for name, o := range outputs {
		if !o.Secret {
			plain[name] = o.Value
		}
	}
	return plain, nil
}

// Export returns the stack's state as JSON, with secrets encrypted.
func (s *Stack) Export(ctx context.Context) ([]byte, error) {
	state, err := s.auto.Export(ctx)
	return state.Deployment, err
}

// operate runs an operation with its full output in the log file, a short progress, and diagnostics as the error's text.
//
// One operation runs at a time. One that was killed leaves the engine at work and its lock behind: the first is ended, the second
// removed, which is safe while this process holds the stack.
func (s *Stack) operate(ctx context.Context, progress io.Writer, name string, run func(io.Writer, chan<- events.EngineEvent) error) error {
	unlock, err := s.cluster.LockStack(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.cluster.EndOrphans(ctx); err != nil {
		return err
	}
	if err := s.auto.Cancel(ctx); err != nil && !strings.Contains(err.Error(), "no update") {
		_, _ = fmt.Fprintf(progress, "  stack: remove the lock of an interrupted run: %v\n", err)
	}
	log, err := os.Create(s.LogFile)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	start := time.Now()
	stream := make(chan events.EngineEvent)
	// The operation closes the stream before it returns, unless it failed before it used it.
	returned, watched := make(chan struct{}), make(chan []string)
	go func() { watched <- watch(progress, name, start, stream, returned) }()
	err = run(log, stream)
	close(returned)
	problems := <-watched
	go func() { // an operation that failed in an odd place may still write
		for range stream {
			continue
		}
	}()
	if err == nil {
		_, _ = fmt.Fprintf(progress, "  stack: %s: done in %.1fs\n", name, time.Since(start).Seconds())
		return nil
	}
	if len(problems) == 0 {
		return fmt.Errorf("%s: %w (log: %s)", name, err, s.LogFile)
	}
	return fmt.Errorf("%s failed (log: %s):\n%s", name, s.LogFile, strings.Join(problems, "\n"))
}

// watch prints a line every few seconds while resources are worked on, and returns the errors that the engine reported.
func watch(progress io.Writer, name string, start time.Time, stream <-chan events.EngineEvent, returned <-chan struct{}) (problems []string) {
	var finished int
	pending := map[string]bool{}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	short := func(urn string) string { return urn[strings.LastIndex(urn, "::")+2:] }
	for {
		select {
		case <-returned:
			return problems
		case e, open := <-stream:
			if !open {
				return problems
			}
			switch {
			case e.ResourcePreEvent != nil && e.ResourcePreEvent.Metadata.Op != apitype.OpSame:
				pending[short(e.ResourcePreEvent.Metadata.URN)] = true
			case e.ResOutputsEvent != nil:
				finished++
				delete(pending, short(e.ResOutputsEvent.Metadata.URN))
			case e.ResOpFailedEvent != nil:
				delete(pending, short(e.ResOpFailedEvent.Metadata.URN))
			case e.DiagnosticEvent != nil && e.DiagnosticEvent.Severity == "error":
				problems = append(problems, strings.TrimSpace(e.DiagnosticEvent.Message))
			}
		case <-tick.C:
			_, _ = fmt.Fprintf(progress, "  stack: %s: %d resources done, %d under way (%s), %.0fs\n", name, finished, len(pending), some(pending), time.Since(start).Seconds())
		}
	}
}

// some names a few members of a set.
func some(set map[string]bool) string {
	var names []string
	for name := range set {
		if len(names) == 3 {
			return strings.Join(names, ", ") + ", ..."
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func relink(target, link string) error {
	if current, err := os.Readlink(link); err == nil && current == target {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(target, link)
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

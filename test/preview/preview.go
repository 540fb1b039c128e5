package preview

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/events"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optpreview"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"sigs.k8s.io/yaml"

	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/stacks/aws"
	"ephemos.dev/deploy/test/graph"
)

// Programs are the paths of the real programs.
type Programs struct {
	// CLI is the Pulumi command line, which holds the engine.
	CLI string
	// Kubernetes is the Kubernetes provider. Empty: a stand-in takes its place.
	Kubernetes string
}

// Options of a preview.
type Options struct {
	Programs Programs
	// Stack is the name of the stack.
	Stack string
	// Config are configuration values under full keys ("ephemos:trustDomain").
	Config map[string]string
	// Program is the program to preview.
	Program pulumi.RunFunc
	// PolicyPacks and PolicyPackConfigs are paths, as the Pulumi CLI takes them.
	PolicyPacks, PolicyPackConfigs []string
	// State is a deployment that exists, as Stack.Export gives it; nil previews the first deployment.
	State []byte
	// Check is asked about the inputs of every AWS resource. Optional.
	Check Check
	// Log receives everything that the engine prints. Default: nothing.
	Log io.Writer
}

// Resource is one resource of a preview.
type Resource struct {
	URN, Type, Name string
	// Parent is the URN of the parent; empty below the stack itself.
	Parent string
	// Custom says that a provider manages the resource; components are not.
	Custom bool
	// Op is what the engine would do: create, update, replace, delete or same.
	Op string
	// Changed are the inputs that differ from those of the state.
	Changed []string
	Protect bool
}

// Result is what a preview found.
type Result struct {
	Stack string
	// Resources are in the order in which the engine came to them; the stack itself is not among them.
	Resources []*Resource
	// Warnings and Errors are what the engine, the program and the policies said.
	Warnings, Errors []string
	// Outputs are the stack's outputs as the engine shows them.
	Outputs map[string]any
	// Time is how long the preview took, without setting up the workspace; Setup is that.
	Time, Setup time.Duration
	// EngineMemory is the largest resident set of a child process so far, in bytes: the engine or the Kubernetes provider.
	EngineMemory int64
}

// errFailed says that the preview itself found errors; they are in the Result.
var errFailed = errors.New("the preview found errors")

// StackOptions are the options of a preview of one of the repository's stacks. root is the repository's root folder, overrides are
// configuration values under full keys that replace the stack's.
func StackOptions(root, stack string, overrides map[string]string) (Options, error) {
	config, err := graph.Configuration(root, stack)
	if err != nil {
		return Options{}, err
	}
	maps.Copy(config, overrides)
	return Options{Stack: stack, Config: config, Program: stacks.Program(config, aws.Platform)}, nil
}

// Run previews. It returns a Result together with the error when the engine came so far.
func Run(ctx context.Context, o Options) (*Result, error) {
	begin := time.Now()
	dir, err := os.MkdirTemp("", "ephemos-preview-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	w := &workspace{dir: dir, options: o}
	defer w.close()
	stack, err := w.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("workspace of the preview: %w", err)
	}
	result := &Result{Stack: o.Stack, Setup: time.Since(begin)}
	begin = time.Now()
	err = w.preview(ctx, stack, result)
	result.Time = time.Since(begin)
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_CHILDREN, &usage) == nil {
		result.EngineMemory = usage.Maxrss << 10
	}
	return result, err
}

// workspace is everything of one preview that lies outside of this process, below one temporary folder.
type workspace struct {
	dir     string
	options Options
	stops   []func()
}

func (w *workspace) close() {
	for _, stop := range w.stops {
		stop()
	}
}

func (w *workspace) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

func (w *workspace) open(ctx context.Context) (auto.Stack, error) {
	var none auto.Stack
	plugins := w.path("home", "plugins")
	for _, dir := range []string{w.path("project"), w.path("bin"), w.path("state"), plugins} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return none, err
		}
	}
	if err := errors.Join(os.Symlink(w.options.Programs.CLI, w.path("bin", "pulumi")), w.project()); err != nil {
		return none, err
	}
	attached, err := w.providers(plugins)
	if err != nil {
		return none, err
	}
	command, err := auto.NewPulumiCommand(&auto.PulumiCommandOptions{Root: w.dir})
	if err != nil {
		return none, err
	}
	stack, err := auto.NewStackLocalSource(ctx, w.options.Stack, w.path("project"), auto.Pulumi(command), auto.Program(w.options.Program),
		auto.PulumiHome(w.path("home")), auto.EnvVars(map[string]string{
			"PULUMI_BACKEND_URL":                          "file://" + w.path("state"),
			"PULUMI_CONFIG_PASSPHRASE":                    "of a preview, which keeps nothing",
			"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
			"PULUMI_SKIP_UPDATE_CHECK":                    "1",
			"PULUMI_DEBUG_PROVIDERS":                      attached,
			// Whatever the user has for clusters and accounts stays out.
			"KUBECONFIG": w.path("none"), "NO_PROXY": "127.0.0.1,localhost",
			"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		}))
	if err != nil || w.options.State == nil {
		return stack, err
	}
	return stack, stack.Import(ctx, apitype.UntypedDeployment{Version: apitype.DeploymentSchemaVersionCurrent, Deployment: w.options.State})
}

// project writes what the engine reads of a project: its name, and the stack's configuration, in which nothing is encrypted.
func (w *workspace) project() error {
	config := map[string]any{}
	for key, value := range w.options.Config {
		config[key] = value
		if key == "pulumi:disable-default-providers" { // the engine reads this one itself
			var list []string
			if err := yaml.Unmarshal([]byte(value), &list); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			config[key] = list
		}
	}
	settings, err := yaml.Marshal(map[string]any{"config": config})
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(w.path("project", "Pulumi.yaml"), []byte("name: "+graph.Project+"\nruntime: go\n"), 0o600),
		os.WriteFile(w.path("project", "Pulumi."+w.options.Stack+".yaml"), settings, 0o600),
	)
}

// providers links the real Kubernetes provider and starts the stand-ins. It returns what tells the engine where those serve.
func (w *workspace) providers(plugins string) (attached string, err error) {
	standIns := []*standIn{awsStandIn(w.options.Check)}
	if real := w.options.Programs.Kubernetes; real == "" {
		standIns = append(standIns, kubernetesStandIn())
	} else if err := link(real, filepath.Join(plugins, "resource-kubernetes-v"+kubernetesVersion), "pulumi-resource-kubernetes"); err != nil {
		return "", err
	}
	var list []string
	for _, s := range standIns {
		port, stop, err := s.serve()
		if err != nil {
			return "", err
		}
		w.stops = append(w.stops, stop)
		list = append(list, fmt.Sprintf("%s:%d", s.name, port))
	}
	return strings.Join(list, ","), nil
}

func link(program, dir, name string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Symlink(program, filepath.Join(dir, name))
}

func (w *workspace) preview(ctx context.Context, stack auto.Stack, result *Result) error {
	log := w.options.Log
	if log == nil {
		log = io.Discard
	}
	stream := make(chan events.EngineEvent)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range stream {
			result.see(e)
		}
	}()
	options := []optpreview.Option{
		optpreview.EventStreams(stream), optpreview.ProgressStreams(log), optpreview.ErrorProgressStreams(log), optpreview.Color("never"),
		optpreview.PolicyPacks(w.options.PolicyPacks...), optpreview.PolicyPackConfigs(w.options.PolicyPackConfigs...),
	}
	_, err := stack.Preview(ctx, options...)
	if err != nil { // the stream is closed only when the engine started
		select {
		case <-done:
		case <-time.After(2 * time.Second):
			return err
		}
	} else {
		<-done
	}
	if len(result.Errors) > 0 {
		return errFailed
	}
	return err
}

// colour matches the engine's marks for colours.
var colour = regexp.MustCompile(`<\{%[^%]*%\}>`)

// see takes what an event of the engine says.
func (r *Result) see(e events.EngineEvent) {
	switch {
	case e.ResourcePreEvent != nil:
		r.add(e.ResourcePreEvent.Metadata)
	case e.ResOutputsEvent != nil && strings.HasSuffix(e.ResOutputsEvent.Metadata.Type, string(resource.RootStackType)):
		if state := e.ResOutputsEvent.Metadata.New; state != nil {
			r.Outputs = state.Outputs
		}
	case e.DiagnosticEvent != nil:
		d := e.DiagnosticEvent
		message := strings.TrimSpace(colour.ReplaceAllString(d.Message, ""))
		if message == "preview failed" { // says nothing that the other errors do not
			return
		}
		if u := resource.URN(d.URN); u != "" && u.Type() != resource.RootStackType {
			message = fmt.Sprintf("%s %s: %s", u.Type(), u.Name(), message)
		}
		switch d.Severity {
		case "error":
			r.Errors = append(r.Errors, message)
		case "warning":
			r.Warnings = append(r.Warnings, message)
		}
	case e.PolicyEvent != nil:
		p := e.PolicyEvent
		message := fmt.Sprintf("policy %s (%s): %s: %s", p.PolicyName, p.EnforcementLevel, resource.URN(p.ResourceURN).Name(), strings.TrimSpace(colour.ReplaceAllString(p.Message, "")))
		if p.EnforcementLevel == "mandatory" {
			r.Errors = append(r.Errors, message)
		} else {
			r.Warnings = append(r.Warnings, message)
		}
	}
}

func (r *Result) add(m apitype.StepEventMetadata) {
	state := m.New
	if state == nil {
		state = m.Old
	}
	if state == nil || m.Type == string(resource.RootStackType) {
		return
	}
	res := &Resource{URN: m.URN, Type: m.Type, Name: resource.URN(m.URN).Name(), Custom: state.Custom, Op: string(m.Op), Changed: m.Diffs, Protect: state.Protect}
	if parent := resource.URN(state.Parent); parent != "" && parent.QualifiedType() != resource.RootStackType {
		res.Parent = state.Parent
	}
	// A replacement comes in several steps; what counts is that it is one.
	if i := slices.IndexFunc(r.Resources, func(o *Resource) bool { return o.URN == res.URN }); i >= 0 {
		if strings.Contains(res.Op, "replace") {
			r.Resources[i].Op = "replace"
		}
		return
	}
	if strings.Contains(res.Op, "replace") {
		res.Op = "replace"
	}
	r.Resources = append(r.Resources, res)
}

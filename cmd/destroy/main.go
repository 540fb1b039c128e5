// Command destroy takes a stack down in order: first what runs in the cluster, then the rest. Before it does anything it prints what
// refuses to be deleted and what retention and deletion windows leave behind. A stack of the profile production is taken down only
// with its name given as confirmation. It runs in the root of the repository, with the Pulumi CLI on PATH and the user's own backend and
// credentials.
//
//	destroy [-confirm stack] [-preview] stack
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optdestroy"

	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/stacks/inventory"
	"ephemos.dev/deploy/stacks/teardown"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout, open); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "destroy: %v\n", err)
		os.Exit(1)
	}
}

// An engine is a stack as the Pulumi CLI knows it.
type engine interface {
	// Profile is the profile that the stack's configuration names; empty for the default.
	Profile(context.Context) (string, error)
	// Export is the deployment.
	Export(context.Context) ([]byte, error)
	// Destroy deletes the targets and what depends on them; without targets everything. A preview only says so.
	Destroy(ctx context.Context, targets []string, preview bool, out io.Writer) error
}

func run(ctx context.Context, args []string, out io.Writer, open func(context.Context, string) (engine, error)) error {
	flags := flag.NewFlagSet("destroy", flag.ContinueOnError)
	confirm := flags.String("confirm", "", "name of the `stack`, to confirm that a stack of the profile production is to go")
	preview := flags.Bool("preview", false, "only say what would be deleted")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("wants the name of one stack, such as staging")
	}
	stack := flags.Arg(0)
	e, err := open(ctx, stack)
	if err != nil {
		return err
	}
	profile, err := e.Profile(ctx)
	if err != nil {
		return err
	}
	deployment, err := e.Export(ctx)
	if err != nil {
		return err
	}
	inv, err := inventory.FromState(stack, deployment)
	if err != nil {
		return err
	}
	if len(inv.Resources) == 0 {
		fmt.Fprintf(out, "Stack %s has no resources.\n", stack)
		return nil
	}
	plan := teardown.Plan(inv)
	fmt.Fprintf(out, "Stack %s: first %d resources in the cluster, then %d.\n", stack, len(plan.Kubernetes)+len(plan.Dependents), plan.Rest)
	for _, urn := range plan.Dependents {
		fmt.Fprintf(out, "  goes with the cluster's, because it needs them: %s\n", inv.Get(urn).Name)
	}
	fmt.Fprintln(out, "What is not simply deleted:")
	findings := teardown.Findings(inv)
	teardown.Write(out, findings)
	if !*preview {
		if err := permitted(stack, profile, *confirm, findings); err != nil {
			return err
		}
	}
	if len(plan.Kubernetes) > 0 {
		fmt.Fprintln(out, "\nFirst what runs in the cluster:")
		if err := e.Destroy(ctx, append(plan.Kubernetes, plan.Dependents...), *preview, out); err != nil {
			return fmt.Errorf("what runs in the cluster; nothing else was touched. If the cluster cannot be reached any more, PULUMI_K8S_DELETE_UNREACHABLE=true takes its objects out of the state, and what they held in AWS (volumes, network interfaces) has to be deleted by hand: %w", err)
		}
	}
	fmt.Fprintln(out, "\nThen the rest:")
	return e.Destroy(ctx, nil, *preview, out)
}

// permitted refuses what must not be, or would fail half-way.
func permitted(stack, profile, confirm string, findings []teardown.Finding) error {
	if cmp.Or(profile, production) == production && confirm != stack {
		return fmt.Errorf("stack %s is of the profile production, and nothing was deleted. To delete it: make destroy STACK=%s CONFIRM=%s", stack, stack, stack)
	}
	if blocking := teardown.Blocking(findings); len(blocking) > 0 {
		return fmt.Errorf("%d resources refuse to be deleted, and nothing was deleted; what has to be done is said above", len(blocking))
	}
	return nil
}

const production = "production"

// installed is an engine by the Pulumi CLI of the user.
type installed struct{ stack auto.Stack }

func open(ctx context.Context, stack string) (engine, error) {
	if _, err := exec.LookPath("pulumi"); err != nil {
		return nil, errors.New("the Pulumi CLI (pulumi) is not on PATH")
	}
	s, err := auto.SelectStackLocalSource(ctx, stack, ".")
	if err != nil {
		return nil, err
	}
	return installed{s}, nil
}

func (i installed) Profile(ctx context.Context) (string, error) {
	all, err := i.stack.GetAllConfig(ctx)
	return all[stacks.Namespace+":profile"].Value, err
}

func (i installed) Export(ctx context.Context) ([]byte, error) {
	state, err := i.stack.Export(ctx)
	return state.Deployment, err
}

func (i installed) Destroy(ctx context.Context, targets []string, preview bool, out io.Writer) error {
	options := []optdestroy.Option{optdestroy.ProgressStreams(out), optdestroy.ErrorProgressStreams(out)}
	if len(targets) > 0 {
		options = append(options, optdestroy.Target(targets), optdestroy.TargetDependents())
	}
	if preview {
		_, err := i.stack.PreviewDestroy(ctx, options...)
		return err
	}
	_, err := i.stack.Destroy(ctx, options...)
	return err
}

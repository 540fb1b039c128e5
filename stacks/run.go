package stacks

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	"github.com/pulumi/pulumi/sdk/v3/go/common/constant"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Run runs the program under the Pulumi CLI that started this process and
// returns the process's exit code. Errors that the CLI does not show go to
// stderr. platforms are what can be deployed onto besides a cluster that exists.
func Run(stderr io.Writer, platforms ...Platform) int {
	config := map[string]string{}
	err := pulumi.RunErr(logged(Program(config, platforms...)), ReadConfig(config))
	switch reported := (*reportedError)(nil); {
	case err == nil:
		return 0
	case errors.As(err, &reported):
		return constant.ExitStatusLoggedError
	default:
		fmt.Fprintf(stderr, "ephemos: %v\n", err)
		return 1
	}
}

// ReadConfig copies the whole configuration of the stack into config when the
// program starts. A pulumi.Context answers only for keys that the program knows,
// which hides keys that were misspelt.
func ReadConfig(config map[string]string) pulumi.RunOption {
	return func(info *pulumi.RunInfo) { maps.Copy(config, info.Config) }
}

// Program is the Pulumi program of every stack. config maps full keys
// ("ephemos:trustDomain") to values and is read when the program runs; the
// process environment gives HOME and KUBECONFIG. An error in the configuration
// is a ConfigErrors, which withholds what the stack's configuration holds
// encrypted, and leaves nothing registered.
//
// For an inline program of the Automation API, config is what
// Stack.GetAllConfig returns.
func Program(config map[string]string, platforms ...Platform) pulumi.RunFunc {
	return func(ctx *pulumi.Context) error {
		parsed, err := Parse(ctx.Stack(), config, ctx.IsConfigSecret, os.Getenv)
		if err != nil {
			return err
		}
		for _, p := range append(platforms, Kubernetes) {
			if p.Name == parsed.Platform {
				return p.Deploy(ctx, parsed)
			}
		}
		return fmt.Errorf("this program was built without the platform %s", parsed.Platform)
	}
}

// Platform is what a stack can be deployed onto. Those with an SDK of their own
// are packages of their own: the test bed, which needs one platform only, does not
// carry the SDKs of all, as main.go does.
type Platform struct {
	// Name is the value of the configuration key platform.
	Name string
	// Deploy makes the resources of a stack on it.
	Deploy func(*pulumi.Context, *Config) error
}

// Kubernetes is a cluster that exists already. Every program has it.
var Kubernetes = Platform{Name: PlatformKubernetes, Deploy: deployKubernetes}

// reportedError is an error that the CLI has shown.
type reportedError struct{ error }

func (e *reportedError) Unwrap() error { return e.error }

// logged shows the error of program through the engine, one message for each
// joined error, so that the CLI prints it among its diagnostics and adds
// nothing of its own.
func logged(program pulumi.RunFunc) pulumi.RunFunc {
	return func(ctx *pulumi.Context) error {
		err := program(ctx)
		if err == nil {
			return nil
		}
		for _, e := range flatten(err) {
			if logErr := ctx.Log.Error(e.Error(), nil); logErr != nil {
				return errors.Join(err, logErr)
			}
		}
		return &reportedError{err}
	}
}

// flatten lists the errors that err joins.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

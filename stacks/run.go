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
// stderr.
func Run(stderr io.Writer) int {
	config := map[string]string{}
	err := pulumi.RunErr(logged(Program(config)), ReadConfig(config))
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
func Program(config map[string]string) pulumi.RunFunc {
	return func(ctx *pulumi.Context) error {
		parsed, err := Parse(ctx.Stack(), config, ctx.IsConfigSecret, os.Getenv)
		if err != nil {
			return err
		}
		return deployKubernetes(ctx, parsed)
	}
}

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

package preview

import (
	"context"
	"fmt"

	"ephemos.dev/deploy/toolchain"
)

// Which Kubernetes provider previews.
const (
	// Auto takes the real one when the toolchain has built it already: building it takes ten minutes.
	Auto = "auto"
	// Real builds the real one if need be.
	Real = "real"
	// StandIn takes the stand-in.
	StandIn = "stand-in"
)

// FindPrograms returns the engine, built if need be, and the Kubernetes provider that kubernetes (Auto, Real or StandIn) asks for.
func FindPrograms(ctx context.Context, o toolchain.Options, kubernetes string) (Programs, error) {
	const cli, provider = "pulumi", "pulumi-resource-kubernetes"
	groups := []toolchain.Group{cli}
	switch kubernetes {
	case Auto, StandIn:
	case Real:
		groups = append(groups, "pulumi-kubernetes")
	default:
		return Programs{}, fmt.Errorf("Kubernetes provider %q is refused: %s, %s or %s", kubernetes, Auto, Real, StandIn)
	}
	built, err := toolchain.Ensure(ctx, o, groups...)
	if err != nil {
		return Programs{}, err
	}
	var programs Programs
	if programs.CLI, err = built.Program(cli); err != nil || kubernetes == StandIn {
		return programs, err
	}
	if kubernetes == Auto {
		if built, err = toolchain.Lookup(ctx, o); err != nil {
			return programs, err
		}
	}
	programs.Kubernetes, err = built.Program(provider)
	if kubernetes == Auto {
		err = nil // it is not there: the stand-in it is
	}
	return programs, err
}

// Notice says what is real in a preview with these programs.
func Notice(p Programs) string {
	const aws = "A stand-in takes the place of the AWS provider: nothing is asked of AWS, and what AWS would compute is unknown."
	if p.Kubernetes == "" {
		return aws + "\nA stand-in takes the place of the Kubernetes provider too, which is not built; -kubernetes real builds it. The engine is the real one."
	}
	return aws + "\nThe engine and the Kubernetes provider are the real ones; no cluster is asked."
}

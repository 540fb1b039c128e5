// Package platforms is the list of what a stack can be deployed onto, for programs that take any stack. It carries the SDKs of all.
package platforms

import (
	"ephemos.dev/deploy/stacks"
	"ephemos.dev/deploy/stacks/aws"
)

// All are the platforms besides a cluster that exists, which every program has.
func All() []stacks.Platform { return []stacks.Platform{aws.Platform} }

package preview

import (
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"ephemos.dev/deploy/test/awsrules"
)

// AWSRules is a Check by what is known of AWS' rules without asking AWS; see test/awsrules. Rules between resources are not among them:
// the provider sees one resource at a time. The recording of a stack is checked for those.
func AWSRules(token, name string, inputs resource.PropertyMap) []string {
	problems, err := awsrules.Check([]awsrules.Resource{{Type: token, Name: name, Inputs: inputs}})
	if err != nil {
		return []string{err.Error()}
	}
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = p.String()
	}
	return texts
}

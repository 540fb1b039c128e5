package graph

import "ephemos.dev/deploy/test/awsrules"

// AWSRules finds resources of AWS that it or its provider would refuse.
func AWSRules(g *Graph) []Finding {
	type key struct{ typ, name string }
	byName := map[key]*Resource{}
	var resources []awsrules.Resource
	for _, r := range g.Resources {
		if r.Custom {
			byName[key{r.Type, r.Name}] = r
			resources = append(resources, awsrules.Resource{Type: r.Type, Name: r.Name, Provider: r.Provider, Inputs: r.Inputs})
		}
	}
	problems, err := awsrules.Check(resources)
	if err != nil {
		return []Finding{{nil, err.Error()}}
	}
	var findings []Finding
	for _, p := range problems {
		findings = append(findings, Finding{byName[key{p.Type, p.Name}], p.Detail()})
	}
	return findings
}

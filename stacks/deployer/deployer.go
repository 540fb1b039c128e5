// Package deployer derives what somebody who deploys a stack on AWS has to be allowed to do, from the resources of the stack.
//
// In: the resources of a stack, and the account. Out: IAM policies, each small enough for one managed policy, with exactly the actions
// that creating, reading, changing, tagging and deleting these resources takes, limited to the account, its regions and, where AWS
// names resources in ARNs, to the names of the stack.
//
// Whoever may create roles and hand them to services can, through them, do what the roles may do. AttachRolePolicy is limited to the
// managed policies that the stack attaches and PassRole to its roles and to the services that it hands them to, but what stands in an
// inline policy IAM cannot limit: a permissions boundary has to, if the deployer is not to be trusted with that.
package deployer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ephemos.dev/deploy/stacks/inventory"
)

// MaxPolicy is how many characters other than white space AWS allows in a managed policy.
const MaxPolicy = 6144

// Scope is where the stack is deployed.
type Scope struct {
	// Account is the number of the AWS account.
	Account string
	// Region is the region of resources whose provider does not say.
	Region string
	// Partition defaults to aws.
	Partition string
}

// Statement is one statement of a policy.
type Statement struct {
	Sid       string
	Effect    string
	Action    []string
	Resource  []string
	Condition map[string]map[string][]string `json:",omitempty"`
}

// Policy is an IAM policy document.
type Policy struct {
	Version   string
	Statement []Statement
}

// Size is the number of characters that AWS counts.
func (p Policy) Size() int {
	text, err := json.Marshal(p)
	if err != nil {
		return 0
	}
	return len(text) // compact JSON of these values has no white space outside of ARNs, which have none
}

// A grant is a set of actions on the resources that ARN templates name. In a template stand {partition}, {region} (each region of the
// type's resources), {account} and {name} (each name of the type's resources); a template "*" is every resource.
type grant struct {
	actions   []string
	arns      []string
	condition map[string]map[string][]string
	// regional limits a grant on "*" to the regions of the stack.
	regional bool
}

// A row says what resources of a type take.
type row struct {
	grants []grant
	// passes are the services that a role of the stack is handed to, linked those whose service-linked role AWS makes with the first
	// resource of the type.
	passes, linked []string
}

// Policies returns the policies for a stack. An error names the types for which the table has no row.
func Policies(inv *inventory.Inventory, scope Scope) ([]Policy, error) {
	scope.Partition = cmp.Or(scope.Partition, "aws")
	byType := map[string][]*inventory.Resource{}
	for i := range inv.Resources {
		if r := &inv.Resources[i]; r.AWS() {
			byType[r.Type] = append(byType[r.Type], r)
		}
	}
	var missing []string
	collected := newStatements(scope)
	collected.add(grant{actions: []string{"sts:GetCallerIdentity"}, arns: []string{"*"}}, nil, nil)
	roles := names(byType["aws:iam/role:Role"])
	for _, typ := range slices.Sorted(maps.Keys(byType)) {
		row, ok := rows[typ]
		if !ok {
			missing = append(missing, typ)
			continue
		}
		var regions []string
		for _, r := range byType[typ] {
			regions = append(regions, inv.Region(r, scope.Region))
		}
		regions = unique(regions)
		for _, g := range row.grants {
			collected.add(g, regions, names(byType[typ]))
		}
		if len(row.passes) > 0 && len(roles) > 0 {
			collected.add(grant{
				actions: []string{"iam:PassRole"}, arns: []string{roleARN},
				condition: map[string]map[string][]string{"StringEquals": {"iam:PassedToService": row.passes}},
			}, nil, roles)
		}
		for _, service := range row.linked {
			collected.add(grant{
				actions: []string{"iam:CreateServiceLinkedRole"}, arns: []string{"arn:{partition}:iam::{account}:role/aws-service-role/" + service + "/*"},
				condition: map[string]map[string][]string{"StringEquals": {"iam:AWSServiceName": {service}}},
			}, nil, nil)
		}
	}
	collected.attachments(byType["aws:iam/rolePolicyAttachment:RolePolicyAttachment"], roles)
	if len(missing) > 0 {
		return nil, fmt.Errorf("stacks/deployer has no row for %s", strings.Join(missing, ", "))
	}
	return split(collected.list())
}

// statements collects grants and joins those that differ only in their actions, or only in what conditions list.
type statements struct {
	scope   Scope
	actions map[string]map[string]bool // by resources and condition
	rest    map[string]Statement
}

func newStatements(scope Scope) *statements {
	return &statements{scope: scope, actions: map[string]map[string]bool{}, rest: map[string]Statement{}}
}

func (s *statements) add(g grant, regions, names []string) {
	if len(regions) == 0 {
		regions = []string{s.scope.Region}
	}
	var resources []string
	for _, template := range g.arns {
		resources = append(resources, s.expand(template, regions, names)...)
	}
	condition := map[string]map[string][]string{}
	for operator, keys := range g.condition {
		condition[operator] = map[string][]string{}
		for key, values := range keys {
			var expanded []string
			for _, v := range values {
				expanded = append(expanded, s.expand(v, regions, names)...)
			}
			condition[operator][key] = unique(expanded)
		}
	}
	if g.regional {
		condition["StringEquals"] = map[string][]string{"aws:RequestedRegion": unique(regions)}
	}
	if len(condition) == 0 {
		condition = nil
	}
	resources = unique(resources)
	key := fmt.Sprint(resources, condition)
	if s.actions[key] == nil {
		s.actions[key] = map[string]bool{}
	}
	for _, a := range g.actions {
		s.actions[key][a] = true
	}
	s.rest[key] = Statement{Effect: "Allow", Resource: resources, Condition: condition}
}

// expand fills a template once for each region and name that it has a place for.
func (s *statements) expand(template string, regions, names []string) []string {
	template = strings.NewReplacer("{partition}", s.scope.Partition, "{account}", s.scope.Account).Replace(template)
	filled := []string{template}
	fill := func(place string, values []string) {
		if !strings.Contains(template, place) {
			return
		}
		var next []string
		for _, f := range filled {
			for _, v := range values {
				next = append(next, strings.ReplaceAll(f, place, v))
			}
		}
		filled = next
	}
	fill("{region}", unique(regions))
	fill("{name}", names)
	return filled
}

// attachments allows to attach the managed policies that the stack attaches, to its own roles. A policy whose ARN the graph does not
// know is one of the stack's own.
func (s *statements) attachments(attached []*inventory.Resource, roles []string) {
	if len(attached) == 0 || len(roles) == 0 {
		return
	}
	var policies []string
	for _, a := range attached {
		if arn := a.String("policyArn"); strings.HasPrefix(arn, "arn:") && strings.Contains(arn, ":iam::aws:policy/") {
			policies = append(policies, arn)
		} else {
			policies = append(policies, "arn:{partition}:iam::{account}:policy/*")
		}
	}
	s.add(grant{
		actions: []string{"iam:AttachRolePolicy", "iam:DetachRolePolicy"}, arns: []string{roleARN},
		condition: map[string]map[string][]string{"ArnLike": {"iam:PolicyARN": unique(policies)}},
	}, nil, roles)
}

// list returns the statements; those on the same resources, for which only the values of one condition differ, are one.
func (s *statements) list() []Statement {
	merged := map[string]Statement{}
	for _, key := range slices.Sorted(maps.Keys(s.actions)) {
		st := s.rest[key]
		st.Action = slices.Sorted(maps.Keys(s.actions[key]))
		// PassRole to several services is one statement, which StringEquals reads as any of them.
		like := key
		if st.Condition["StringEquals"]["iam:PassedToService"] != nil {
			like = "pass" + fmt.Sprint(st.Resource)
			if other, ok := merged[like]; ok {
				st.Condition["StringEquals"]["iam:PassedToService"] = unique(append(other.Condition["StringEquals"]["iam:PassedToService"],
					st.Condition["StringEquals"]["iam:PassedToService"]...))
			}
		}
		merged[like] = st
	}
	all := slices.Collect(maps.Values(merged))
	slices.SortFunc(all, func(a, b Statement) int {
		return cmp.Or(cmp.Compare(a.Action[0], b.Action[0]), slices.Compare(a.Resource, b.Resource), cmp.Compare(fmt.Sprint(a.Condition), fmt.Sprint(b.Condition)))
	})
	return all
}

// split divides statements among policies of at most MaxPolicy, in order; one that is too large by itself is divided by its actions.
func split(all []Statement) ([]Policy, error) {
	var policies []Policy
	current := Policy{Version: "2012-10-17"}
	for len(all) > 0 {
		st := all[0]
		all = all[1:]
		st.Sid = fmt.Sprintf("S%d", len(current.Statement))
		next := Policy{Version: current.Version, Statement: append(slices.Clone(current.Statement), st)}
		if next.Size() <= MaxPolicy {
			current = next
			continue
		}
		if len(current.Statement) > 0 {
			policies = append(policies, current)
			current = Policy{Version: current.Version}
			all = slices.Insert(all, 0, st)
			continue
		}
		half := len(st.Action) / 2
		if half == 0 {
			return nil, fmt.Errorf("%s on %d resources does not fit a policy of %d characters", st.Action[0], len(st.Resource), MaxPolicy)
		}
		first, second := st, st
		first.Action, second.Action = st.Action[:half], st.Action[half:]
		all = slices.Insert(all, 0, first, second)
	}
	if len(current.Statement) > 0 {
		policies = append(policies, current)
	}
	return policies, nil
}

// maxNames is how many patterns of names stand for the resources of one type.
const maxNames = 6

// names are patterns for the physical names of resources: the name that the program gives, or the resource's name and what Pulumi adds
// to it. More than maxNames are joined by what they have in common, but never to nothing.
func names(resources []*inventory.Resource) []string {
	var patterns []string
	for _, r := range resources {
		if name := r.PhysicalName(); name != "" {
			patterns = append(patterns, name)
		} else {
			patterns = append(patterns, r.Name+"-*")
		}
	}
	patterns = unique(patterns)
	for parts := 6; len(patterns) > maxNames && parts > 0; parts-- {
		var shorter []string
		for _, p := range patterns {
			shorter = append(shorter, cut(p, parts))
		}
		patterns = unique(shorter)
	}
	return patterns
}

// cut keeps the first parts of a name; of a path, one more, for its first is the empty one before the slash.
func cut(name string, parts int) string {
	end := 0
	if strings.HasPrefix(name, "/") {
		parts++
	}
	for i, c := range name {
		if c != '-' && c != '/' {
			continue
		}
		if parts--; parts == 0 {
			end = i + 1
			break
		}
	}
	if end == 0 || end >= len(name) {
		return name
	}
	return name[:end] + "*"
}

func unique(values []string) []string {
	sorted := slices.Sorted(slices.Values(values))
	return slices.Compact(sorted)
}

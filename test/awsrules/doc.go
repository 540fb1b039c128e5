// Package awsrules says what AWS and its provider would refuse in the inputs of AWS resources, without asking either of them.
//
// In: resources with type, name and inputs, as a recording of a program has them; values may be unknown. Out: a Problem for each
// input that a plan or the request after it would be refused for. What is known comes from four places:
//
//   - The provider's schema, as its Go SDK carries it (package sdk): inputs that do not exist, are missing or are of the wrong type.
//   - AWS' own descriptions of its APIs (api.json and waf.json, made by internal/apirules): enumerations, patterns, lengths, ranges.
//   - The tables here (table_*.go), written after the provider's documentation and AWS' API references: inputs that exclude or need
//     each other, sizes of address ranges, JSON documents, what depends on another input's value.
//   - Rules between resources (across.go): overlapping subnets, rule numbers used twice, a listener's protocol and its balancer's
//     kind, names used twice, default quotas of rules in a group.
//
// Names that the program leaves to Pulumi are checked as Pulumi would make them.
//
// What is not covered: what only a call can tell (whether an instance type is offered in a zone, an engine or add-on version exists,
// a certificate or key is usable, a name is taken, a quota is used up), differences between regions, whether a policy grants what is
// meant, and enumerations that AWS enlarged after the descriptions were made. An unknown value counts as given and as right. Types
// with no table of their own (see Covered) have only what the first two places tell.
package awsrules

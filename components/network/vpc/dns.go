package vpc

import (
	"fmt"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/route53"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// answered are the domains that the DNS firewall answers: those of AWS' services in the region, of the nodes, and private ones. None
// is one in which somebody else could be given a name that leads to a server of theirs. Names of AWS' that have no region are left
// out on purpose, as those behind them are far from the endpoints.
func (a Args) answered() []string {
	domains := []string{
		fmt.Sprintf("*.%s.amazonaws.com", a.Region),     // most services, and load balancers
		fmt.Sprintf("*.%s.eks.amazonaws.com", a.Region), // the cluster's API
		fmt.Sprintf("*.%s.rds.amazonaws.com", a.Region), // databases
		fmt.Sprintf("*.%s.elb.amazonaws.com", a.Region), // load balancers of the other kind
		fmt.Sprintf("eks-auth.%s.api.aws", a.Region),    // where the Pod Identity Agent gets credentials
		fmt.Sprintf("*.%s.compute.internal", a.Region),  // nodes
	}
	for _, domain := range a.PrivateZones {
		domains = append(domains, domain, "*."+domain)
	}
	return domains
}

// makeDNS writes down every name that is asked for, and lets only those be answered that something here needs.
func (v *VPC) makeDNS(m maker) error {
	group, err := m.logGroup("queries")
	if err != nil {
		return fmt.Errorf("log group: %w", err)
	}
	v.QueryLogGroupARN = group.Arn
	config, err := route53.NewResolverQueryLogConfig(m.ctx, m.name+"-queries", &route53.ResolverQueryLogConfigArgs{
		Name: pulumi.String(m.name + "-queries"), DestinationArn: group.Arn,
	}, m.opts...)
	if err != nil {
		return fmt.Errorf("query log: %w", err)
	}
	if _, err := route53.NewResolverQueryLogConfigAssociation(m.ctx, m.name+"-queries-association", &route53.ResolverQueryLogConfigAssociationArgs{
		ResolverQueryLogConfigId: config.ID(), ResourceId: v.VPCID,
	}, m.opts...); err != nil {
		return fmt.Errorf("query log: %w", err)
	}
	if m.args.OpenDNS {
		return nil
	}
	rules, err := route53.NewResolverFirewallRuleGroup(m.ctx, m.name+"-dns", &route53.ResolverFirewallRuleGroupArgs{Name: pulumi.String(m.name + "-dns")}, m.opts...)
	if err != nil {
		return err
	}
	for i, rule := range []struct {
		name, action string
		domains      []string
	}{
		{"answered", "ALLOW", m.args.answered()},
		{"refused", "BLOCK", []string{"*"}},
	} {
		name := m.name + "-dns-" + rule.name
		list, err := route53.NewResolverFirewallDomainList(m.ctx, name, &route53.ResolverFirewallDomainListArgs{
			Name: pulumi.String(name), Domains: pulumi.ToStringArray(rule.domains),
		}, m.opts...)
		if err != nil {
			return err
		}
		args := &route53.ResolverFirewallRuleArgs{
			Name: pulumi.String(name), Action: pulumi.String(rule.action), Priority: pulumi.Int(100 * (i + 1)),
			FirewallRuleGroupId: rules.ID(), FirewallDomainListId: list.ID(),
		}
		if rule.action == "BLOCK" {
			args.BlockResponse = pulumi.String("NXDOMAIN")
		}
		if _, err := route53.NewResolverFirewallRule(m.ctx, name+"-rule", args, m.opts...); err != nil {
			return err
		}
	}
	// What cannot be judged is not answered.
	if _, err := route53.NewResolverFirewallConfig(m.ctx, m.name+"-dns-config", &route53.ResolverFirewallConfigArgs{
		ResourceId: v.VPCID, FirewallFailOpen: pulumi.String("DISABLED"),
	}, m.opts...); err != nil {
		return err
	}
	protection := map[bool]string{true: "ENABLED", false: "DISABLED"}[m.args.Protect]
	_, err = route53.NewResolverFirewallRuleGroupAssociation(m.ctx, m.name+"-dns-association", &route53.ResolverFirewallRuleGroupAssociationArgs{
		Name: pulumi.String(m.name + "-dns"), VpcId: v.VPCID, FirewallRuleGroupId: rules.ID(),
		// The least that AWS leaves to its users.
		Priority: pulumi.Int(101), MutationProtection: pulumi.String(protection),
	}, m.opts...)
	return err
}

package reach

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/network"
	"ephemos.dev/deploy/components/zones"
)

// tiny is a model of the small VPC.
func tiny() zones.Model {
	port := func(number int, p zones.Protection) []zones.Port {
		return []zones.Port{{Name: "port", Number: number, Protection: p}}
	}
	return zones.Model{
		Zones: []zones.ZoneSpec{
			{Zone: zones.Internet, Class: zones.Outside, Default: zones.Deny},
			{Zone: zones.DMZ, Class: zones.Tiered, Tier: 1, Default: zones.Deny},
			{Zone: zones.Application, Class: zones.Tiered, Tier: 2, Default: zones.Deny},
		},
		Namespaces: []zones.Namespace{{Name: "dmz", Zone: zones.DMZ}, {Name: "services", Zone: zones.Application}},
		Roles: []zones.Role{
			{Name: "clients", Zone: zones.Internet, Place: zones.Elsewhere},
			{Name: "lb", Zone: zones.DMZ, Place: zones.Managed, Group: "lb", Ports: port(443, zones.TLS)},
			{Name: "gateway", Zone: zones.DMZ, Place: zones.Pods, Namespace: "dmz", Labels: map[string]string{"app": "gateway"}, Ports: port(8443, zones.TLS)},
			{Name: "service", Zone: zones.Application, Place: zones.Pods, Namespace: "services", Labels: map[string]string{"app": "service"}, Ports: port(8443, zones.MTLS)},
		},
		Flows: []zones.Flow{
			{From: "clients", To: "lb", Port: "port", Kind: zones.Request, Why: "x"},
			{From: "lb", To: "gateway", Port: "port", Kind: zones.Request, Why: "x"},
			{From: "gateway", To: "service", Port: "port", Kind: zones.Request, MTLS: true, Why: "x"},
			{From: "service", To: "service", Port: "port", Kind: zones.Request, MTLS: true, Why: "x"},
		},
	}
}

var placement = Placement{
	Subnets: map[zones.Zone][]netip.Prefix{
		zones.DMZ:         {netip.MustParsePrefix("10.0.1.0/24")},
		zones.Application: {netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("10.0.3.0/24")},
	},
	Roles: map[string][]netip.Prefix{"lb": {netip.MustParsePrefix("10.0.0.0/24")}},
	Group: func(g network.Group) string {
		return map[network.Group]string{"lb": "lb", "dmz": "gateway", "application": "service"}[g]
	},
}

func compare(t *testing.T, b built, m zones.Model) Report {
	t.Helper()
	report, err := Differences(b.graph(), m, placement)
	require.NoError(t, err)
	return report
}

func TestANetworkThatIsTheModel(t *testing.T) {
	report := compare(t, small(), tiny())
	require.Empty(t, report.Missing)
	require.Empty(t, report.Excess)
	require.Empty(t, report.Idle)
	// Five stations: the outside, the load balancer, the gateway, the service in two availability zones; ports 9, 443 and 8443 by two
	// protocols.
	require.Equal(t, (5*5-1)*3*2, report.Tried)
	require.Equal(t, 1+1+2+4, report.Allowed)
}

func TestDifferencesAreFound(t *testing.T) {
	b := small()
	b.set("service-from-gateway", "fromPort", 8444)
	b.set("service-from-gateway", "toPort", 8444)
	report := compare(t, b, tiny())
	require.Len(t, report.Missing, 2, "in both availability zones")
	require.Contains(t, report.Missing[0].String(), "dmz in 10.0.1.0/24 -> application in 10.0.2.0/24 tcp 8443: denied by service")
	require.Empty(t, report.Excess)

	m := tiny()
	m.Flows = m.Flows[:3]
	report = compare(t, small(), m)
	require.Empty(t, report.Missing)
	require.Len(t, report.Excess, 4)
	require.Contains(t, report.Excess[0].String(), "but no flow")

	b = small()
	b.set("lb-from-all", "fromPort", 0)
	b.set("acl-public", "ingress", []any{entryOf(100, "allow", "tcp", "0.0.0.0/0", 0, 65535)})
	report = compare(t, b, tiny())
	require.Empty(t, report.Excess)
	require.NotEmpty(t, report.Idle, "port 9 is nobody's")
	require.False(t, report.Idle[0].SharedDNS())
}

func TestDifferencesNeedAPlace(t *testing.T) {
	_, err := Differences(small().graph(), tiny(), Placement{Group: placement.Group})
	require.ErrorContains(t, err, "has no subnets")
	m := tiny()
	m.Flows[0].Why = ""
	_, err = Differences(small().graph(), m, placement)
	require.ErrorContains(t, err, "reason")
}

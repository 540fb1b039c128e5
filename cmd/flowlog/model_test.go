package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/zones"
)

// TestViolationIsWhatNoModelMayAllow compares the program's rule with that of the model's validation, for each pair of zones.
func TestViolationIsWhatNoModelMayAllow(t *testing.T) {
	standard := zones.Standard(zones.Options{})
	model := newZoneModel(standard)
	pairs := 0
	for _, from := range standard.Zones {
		for _, to := range standard.Zones {
			// A request between two roles that do nothing else.
			m := zones.Model{
				Zones:      standard.Zones,
				Namespaces: []zones.Namespace{},
				Flows:      []zones.Flow{{From: "a", To: "b", Port: "mtls", Kind: zones.Request, MTLS: true, Why: "to see what is refused"}},
			}
			for _, end := range []struct {
				role string
				zone zones.ZoneSpec
			}{{"a", from}, {"b", to}} {
				r := zones.Role{Name: end.role, Zone: end.zone.Zone, Place: zones.Nodes, Ports: []zones.Port{{Name: "mtls", Number: 1, Protection: zones.MTLS}}}
				if end.zone.Class == zones.Outside {
					r.Place = zones.Elsewhere
				}
				m.Roles = append(m.Roles, r)
			}
			got := model.violation(string(from.Zone), string(to.Zone))
			pairs++
			if from.Class == zones.Underlying {
				require.Empty(t, got, "%s -> %s", from.Zone, to.Zone)
				continue
			}
			require.Equal(t, m.Validate() != nil, got != "", "%s -> %s: %q against %v", from.Zone, to.Zone, got, m.Validate())
		}
	}
	require.Equal(t, len(standard.Zones)*len(standard.Zones), pairs)

	require.Equal(t, skipsTier, model.violation("dmz", "data"))
	require.Equal(t, goesBack, model.violation("data", "application"))
	require.Equal(t, entersManaged, model.violation("application", "management"))
	require.Empty(t, model.violation("", "data"), "who it is must be known")
	require.Empty(t, model.violation("dmz", "nowhere"))
}

func TestPodsRole(t *testing.T) {
	model := newZoneModel(zones.Standard(zones.Options{}))
	for _, c := range []struct {
		name, namespace string
		labels          map[string]string
		zone            zones.Zone
		role            string
	}{
		{"a role", "services", map[string]string{"app.kubernetes.io/name": "user", "app.kubernetes.io/instance": "user", "more": "x"}, zones.Application, zones.User},
		{"a role apart from its zone", "spire-server", map[string]string{"app.kubernetes.io/name": "postgresql", "app.kubernetes.io/instance": "spire-db"}, zones.Data, zones.Database},
		{"half of the labels", "services", map[string]string{"app.kubernetes.io/name": "user"}, zones.Application, ""},
		{"the same labels elsewhere", "dmz", map[string]string{"app.kubernetes.io/name": "user", "app.kubernetes.io/instance": "user"}, zones.DMZ, ""},
		{"of the cluster", "kube-system", map[string]string{"k8s-app": "kube-dns"}, zones.Platform, zones.DNS},
		{"somebody else's", "other", nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			zone, role := model.pod(c.namespace, c.labels)
			require.Equal(t, c.zone, zone)
			require.Equal(t, c.role, role.Name)
		})
	}
}

func TestAllowsWhatTheModelAllows(t *testing.T) {
	standard := zones.Standard(zones.Options{})
	model := newZoneModel(standard)
	for _, end := range standard.Resolve() {
		protocol := uint8(protocolTCP)
		if end.Port.Protocol == zones.UDP {
			protocol = protocolUDP
		}
		at := target{protocol: protocol, port: uint16(end.Port.Number)}
		require.True(t, model.allows(partyOf(end.From), partyOf(end.To), at), end.Flow)
		at.port++
		if end.Port.Number != 8080 && end.From.Place == zones.Pods && end.To.Place == zones.Pods {
			require.False(t, model.allows(partyOf(end.From), partyOf(end.To), at), end.Flow)
		}
	}
	require.False(t, model.allows(Party{Kind: KindUnknown}, Party{Kind: KindPod, Role: zones.Cache}, target{protocol: protocolTCP, port: 6379}))
	require.False(t, model.allows(Party{Role: zones.User}, Party{Role: zones.Cache}, target{protocol: protocolICMP, port: 6379}))
}

func partyOf(r zones.Role) Party {
	switch r.Place {
	case zones.Pods:
		return Party{Kind: KindPod, Role: r.Name, Zone: string(r.Zone)}
	case zones.Elsewhere:
		return Party{Kind: KindOutside, Zone: string(r.Zone)}
	case zones.Nodes, zones.APIServer:
	}
	return Party{Kind: KindNode}
}

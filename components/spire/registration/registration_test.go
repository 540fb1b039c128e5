package registration

import (
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/manifest/manifesttest"
)

func payment() Identity {
	return Identity{
		Name: "payment", SPIFFEIDPath: "/workload/payment-service", Namespace: "services", ServiceAccount: "payment",
		PodLabels: map[string]string{"app.kubernetes.io/name": "payment"},
	}
}

func TestSpec(t *testing.T) {
	full := payment()
	full.Name, full.SPIFFEIDPath = "full", "/workload/full"
	full.TTL, full.DNSNames, full.Admin = 5*time.Minute, []string{"payment.services.svc"}, true
	g := manifesttest.Record(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "identities", &Args{ClassName: pulumi.String("spire-server"), Identities: []Identity{payment(), full}})
		return err
	})
	require.Equal(t, map[string]any{
		"className":                 "spire-server",
		"spiffeIDTemplate":          "spiffe://{{ .TrustDomain }}/workload/payment-service",
		"namespaceSelector":         map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": "services"}},
		"podSelector":               map[string]any{"matchLabels": map[string]any{"app.kubernetes.io/name": "payment"}},
		"workloadSelectorTemplates": []any{"k8s:ns:services", "k8s:sa:payment"},
	}, g.One(t, "ClusterSPIFFEID", "payment").Object["spec"])
	spec := g.One(t, "ClusterSPIFFEID", "full").Object["spec"]
	require.Equal(t, "5m0s", manifesttest.Get(spec, "ttl"))
	require.Equal(t, []any{"payment.services.svc"}, manifesttest.Get(spec, "dnsNameTemplates"))
	require.Equal(t, true, manifesttest.Get(spec, "admin"))
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Identity)
		want   []string
	}{
		{"every pod", func(i *Identity) { i.PodLabels = nil }, []string{"podLabels", "every pod"}},
		{"every namespace", func(i *Identity) { i.Namespace = "" }, []string{"namespace"}},
		{"pattern of namespaces", func(i *Identity) { i.Namespace = "*" }, []string{"namespace", "*"}},
		{"every account", func(i *Identity) { i.ServiceAccount = "" }, []string{"serviceAccount"}},
		{"another selector", func(i *Identity) { i.ServiceAccount = "payment\nunix:uid:0" }, []string{"serviceAccount"}},
		{"template", func(i *Identity) { i.SPIFFEIDPath = "/ns/{{ .PodMeta.Namespace }}" }, []string{"spiffeIDPath"}},
		{"no path", func(i *Identity) { i.SPIFFEIDPath = "" }, []string{"spiffeIDPath", "must be set"}},
		{"no leading slash", func(i *Identity) { i.SPIFFEIDPath = "workload" }, []string{"spiffeIDPath"}},
		{"a server's name", func(i *Identity) { i.SPIFFEIDPath = "/spire/server" }, []string{"spiffeIDPath", "reserved"}},
		{"empty label", func(i *Identity) { i.PodLabels = map[string]string{"app": ""} }, []string{"podLabels[app]"}},
		{"label key", func(i *Identity) { i.PodLabels = map[string]string{"a b": "c"} }, []string{"podLabels", "a b"}},
		{"lifetime", func(i *Identity) { i.TTL = time.Second }, []string{"ttl", "30s"}},
		{"DNS template", func(i *Identity) { i.DNSNames = []string{"{{ .PodMeta.Name }}"} }, []string{"dnsNames"}},
		{"name", func(i *Identity) { i.Name = "Payment" }, []string{"name", "Payment"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			identity := payment()
			c.change(&identity)
			err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
				_, err := New(ctx, "identities", &Args{ClassName: pulumi.String("x"), Identities: []Identity{identity}})
				return err
			})
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestRefusesSharedIdentity(t *testing.T) {
	other := payment()
	other.ServiceAccount = "other"
	err := manifesttest.Refused(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "identities", &Args{Identities: []Identity{payment(), other}})
		return err
	})
	for _, part := range []string{"className", "another identity has it", "could not tell them apart"} {
		require.ErrorContains(t, err, part)
	}
}

package stacks

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"ephemos.dev/deploy/components/manifest"
	"ephemos.dev/deploy/components/postgres"
	"ephemos.dev/deploy/components/segmentation"
	"ephemos.dev/deploy/components/zones"
)

var update = flag.Bool("update", false, "rewrite generated files")

const kubeconfigFile = `apiVersion: v1
kind: Config
current-context: here
contexts:
  - {name: here, context: {cluster: c, user: u}}
  - {name: nowhere, context: {cluster: gone, user: u}}
clusters:
  - {name: c, cluster: {server: "https://192.0.2.1:6443"}}
users:
  - {name: u, user: {}}
`

// written makes a file in a fresh folder.
func written(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}

// parse parses a good configuration with the given changes; an empty value
// removes a key.
func parse(t *testing.T, changes map[string]string) (*Config, error) {
	t.Helper()
	values := map[string]string{
		"trustDomain":   "prod.company.com",
		"kubeconfig":    written(t, "config", kubeconfigFile),
		"imageRegistry": "registry.example.com/ephemos",
	}
	maps.Copy(values, changes)
	full := map[string]string{"kubernetes:context": "not ours"}
	for name, value := range values {
		full[Namespace+":"+name] = value
	}
	return Parse("test", full, public, func(string) string { return "" })
}

// public says that no value is secret.
func public(string) bool { return false }

// shown shows every value.
func shown(_, value string) string { return value }

// messages lists the lines of a configuration error.
func messages(t *testing.T, err error) []string {
	t.Helper()
	var all ConfigErrors
	require.ErrorAs(t, err, &all)
	lines := make([]string, len(all))
	for i, e := range all {
		lines[i] = e.Error()
		assert.NotContains(t, lines[i], "\n", "one line an error")
	}
	return lines
}

func TestParseFillsFromProfile(t *testing.T) {
	for name, profile := range Profiles {
		t.Run(name, func(t *testing.T) {
			c, err := parse(t, map[string]string{"profile": name})
			require.NoError(t, err)
			assert.Equal(t, profile, c.Profile)
		})
	}
}

func TestParseDefaults(t *testing.T) {
	c, err := parse(t, nil)
	require.NoError(t, err)
	assert.Equal(t, "test", c.Stack)
	assert.Equal(t, "test", c.ClusterName)
	assert.Equal(t, PlatformKubernetes, c.Platform)
	assert.Equal(t, Profiles["production"], c.Profile)
	assert.Empty(t, c.StorageClass)
	assert.False(t, c.LegacyKubeletAuthorization)
	assert.Empty(t, c.Ranges.Pods, "the default range of pods is every private one, which the internet is not the rest of")
	assert.NotEmpty(t, c.Ranges.Nodes)
	assert.NotEmpty(t, c.Ranges.APIServer)
	assert.Equal(t, "www."+c.TrustDomain, c.WebHost)
	assert.Equal(t, "api."+c.TrustDomain, c.APIHost)
	assert.Equal(t, "here", c.Kubeconfig.Context)
	assert.Equal(t, publicImages[imageHAProxy], c.Images[imageHAProxy])
	assert.Equal(t, "registry.example.com/ephemos/payment:"+ownImageTag, c.Images[imagePayment])
}

func TestParseOverrides(t *testing.T) {
	c, err := parse(t, map[string]string{
		"profile": "development", "serverReplicas": "5", "serverQuorum": "4", "spread": "nodes", "postgresInstances": "3", "dataDurability": "required",
		"caTTL": "6m", "x509SVIDTTL": "60s", "jwtSVIDTTL": "1m", "agentTTL": "1m", "workloadReplicas": "2",
		"callRate": "0", "protect": "true", "clusterName": "east-1", "podCIDR": "10.0.0.0/8, fd00::/48",
		"adminIDs": "spiffe://prod.company.com/admin", "storageClass": "fast", "rootCASecret": "our.root", "legacyKubeletAuthorization": "true",
		"nodeCIDR": "10.1.0.0/16", "apiServerCIDR": "192.0.2.1/32,192.0.2.2/32", "apiServerPort": "443", "dnsPort": "5353",
		"webHost": "shop.company.com", "apiHost": "api.company.com", "edgeSecret": "edge-tls", "gatewayReplicas": "4",
	})
	require.NoError(t, err)
	assert.Equal(t, Profile{
		ServerReplicas: 5, ServerQuorum: 4, Spread: manifest.SpreadNodes, PostgresInstances: 3, DataDurability: postgres.Required,
		CATTL: 6 * time.Minute, X509SVIDTTL: time.Minute, JWTSVIDTTL: time.Minute, AgentTTL: time.Minute,
		WorkloadReplicas: 2, GatewayReplicas: 4, Protect: true, AWS: Profiles["development"].AWS,
	}, c.Profile)
	assert.Equal(t, 0, c.CallRate)
	assert.Equal(t, "east-1", c.ClusterName)
	assert.Equal(t, []string{"10.0.0.0/8", "fd00::/48"}, c.PodCIDRs)
	assert.Equal(t, segmentation.Ranges{
		Nodes: []string{"10.1.0.0/16"}, APIServer: []string{"192.0.2.1/32", "192.0.2.2/32"}, Pods: []string{"10.0.0.0/8", "fd00::/48"},
	}, c.Ranges)
	assert.Equal(t, zones.Options{APIServerPort: 443, DNSPort: 5353}, c.Zones)
	assert.Equal(t, []string{"shop.company.com", "api.company.com", "edge-tls"}, []string{c.WebHost, c.APIHost, c.EdgeSecret})
	assert.Equal(t, []string{"spiffe://prod.company.com/admin"}, c.AdminIDs)
	assert.Equal(t, "fast", c.StorageClass)
	assert.Equal(t, "our.root", c.RootCASecret)
	assert.True(t, c.LegacyKubeletAuthorization)
	assert.False(t, Profiles["development"].Protect, "the table itself stays as it is")
}

func TestParseRefuses(t *testing.T) {
	tests := map[string]struct {
		changes map[string]string
		want    string // the only message; FILE stands for the kubeconfig's path
	}{
		"trust domain with a slash": {map[string]string{"trustDomain": "prod/company.com"},
			`ephemos:trustDomain: "prod/company.com" is refused: it takes a name of at most 255 lower-case letters, digits, dots, dashes and underscores, without scheme, port or path`},
		"trust domain as an ID": {map[string]string{"trustDomain": "spiffe://prod.company.com"},
			`ephemos:trustDomain: "spiffe://prod.company.com" is refused: it takes a name of at most 255 lower-case letters, digits, dots, dashes and underscores, without scheme, port or path`},
		"no trust domain": {map[string]string{"trustDomain": ""},
			`ephemos:trustDomain is not set: it takes a trust domain such as prod.company.com`},
		"quorum above replicas": {map[string]string{"serverReplicas": "2", "serverQuorum": "3"},
			`ephemos:serverQuorum: "3" is refused: it takes less than ephemos:serverReplicas, which is 2, so that nodes can be drained`},
		"the profile's quorum above replicas": {map[string]string{"serverReplicas": "1"},
			`ephemos:serverQuorum: "2" is refused: it takes less than ephemos:serverReplicas, which is 1, so that nodes can be drained`},
		"SVID outlives a sixth of the CA": {map[string]string{"caTTL": "24h", "x509SVIDTTL": "4h1m"},
			`ephemos:x509SVIDTTL: "4h1m" is refused: it takes at most 4h: a sixth of ephemos:caTTL, which is 24h, and no more than 168h`},
		"SVID above a week": {map[string]string{"caTTL": "8760h", "jwtSVIDTTL": "169h"},
			`ephemos:jwtSVIDTTL: "169h" is refused: it takes at most 168h: a sixth of ephemos:caTTL, which is 8760h, and no more than 168h`},
		"unknown key": {map[string]string{"trustDomian": "x"},
			`ephemos:trustDomian is refused: there is no such key; the keys are ` + strings.Join(keyNames(), ", ")},
		"platform": {map[string]string{"platform": "aws2"},
			`ephemos:platform: "aws2" is refused: it takes kubernetes or aws`},
		"profile": {map[string]string{"profile": "prod"},
			`ephemos:profile: "prod" is refused: it takes one of development, production, staging`},
		"count that is no number": {map[string]string{"serverReplicas": "three"},
			`ephemos:serverReplicas: "three" is refused: it takes an integer from 1 to 7`},
		"count out of range": {map[string]string{"postgresInstances": "0"},
			`ephemos:postgresInstances: "0" is refused: it takes an integer from 1 to 7`},
		"durability without a standby": {map[string]string{"postgresInstances": "1"},
			`ephemos:dataDurability: "required" is refused: it takes preferred unless ephemos:postgresInstances, which is 1, is at least 2`},
		"duration without unit": {map[string]string{"x509SVIDTTL": "60"},
			`ephemos:x509SVIDTTL: "60" is refused: it takes a duration of whole seconds such as 90m or 1h30m, at least 1m`},
		"duration too short": {map[string]string{"caTTL": "5m"},
			`ephemos:caTTL: "5m" is refused: it takes a duration of whole seconds such as 90m or 1h30m, at least 6m`},
		"choice": {map[string]string{"kubeletAddress": "localhost"},
			`ephemos:kubeletAddress: "localhost" is refused: it takes ip or node-name`},
		"path on the nodes": {map[string]string{"kubeletCA": "/etc/../ca"},
			`ephemos:kubeletCA: "/etc/../ca" is refused: it takes an absolute path without . and .. elements`},
		"Secret that Kubernetes refuses": {map[string]string{"rootCASecret": "our..root"},
			`ephemos:rootCASecret: "our..root" is refused: it takes the name of a Secret: at most 253 lower-case letters, digits, dashes and dots, with a letter or digit at both ends and beside each dot`},
		"legacy authorization": {map[string]string{"legacyKubeletAuthorization": "1.32"},
			`ephemos:legacyKubeletAuthorization: "1.32" is refused: it takes true or false`},
		"boolean": {map[string]string{"protect": "yes"},
			`ephemos:protect: "yes" is refused: it takes true or false`},
		"node range with host bits": {map[string]string{"nodeCIDR": "10.0.0.1/8"},
			`ephemos:nodeCIDR: "10.0.0.1/8" is refused: it takes address ranges such as 10.244.0.0/16, separated by commas`},
		"a port too high": {map[string]string{"apiServerPort": "65536"},
			`ephemos:apiServerPort: "65536" is refused: it takes an integer from 1 to 65535`},
		"a host with a scheme": {map[string]string{"webHost": "https://shop.company.com"},
			`ephemos:webHost: "https://shop.company.com" is refused: it takes a DNS name in lower case`},
		"pod range with host bits": {map[string]string{"podCIDR": "10.244.1.1/16"},
			`ephemos:podCIDR: "10.244.1.1/16" is refused: it takes address ranges such as 10.244.0.0/16, separated by commas`},
		"admin of another trust domain": {map[string]string{"adminIDs": "spiffe://staging.company.com/admin"},
			`ephemos:adminIDs: "spiffe://staging.company.com/admin" is refused: it takes SPIFFE IDs of the trust domain prod.company.com`},
		"admin that is no ID": {map[string]string{"adminIDs": "admin"},
			`ephemos:adminIDs: "admin" is refused: it takes SPIFFE IDs such as spiffe://prod.company.com/admin, separated by commas`},
		"missing kubeconfig": {map[string]string{"kubeconfig": "/nonexistent/config"},
			`ephemos:kubeconfig: "/nonexistent/config" is refused: it takes the path of a kubeconfig file (by default $KUBECONFIG, else ~/.kube/config): no such file or directory`},
		"empty kubeconfig": {map[string]string{"kubeconfig": written(t, "empty", " \n")},
			`ephemos:kubeconfig: FILE is refused: it takes the path of a kubeconfig file (by default $KUBECONFIG, else ~/.kube/config): this file is empty`},
		"kubeconfig that is none": {map[string]string{"kubeconfig": written(t, "text", "{]")},
			`ephemos:kubeconfig: FILE is refused: it takes the path of a kubeconfig file (by default $KUBECONFIG, else ~/.kube/config): this file cannot be parsed as one`},
		"kubeconfig without context": {map[string]string{"kubeconfig": written(t, "bare", "apiVersion: v1\nkind: Config\n")},
			`ephemos:kubeconfig: FILE is refused: it takes the path of a kubeconfig file (by default $KUBECONFIG, else ~/.kube/config): this file has no current context`},
		"registry": {map[string]string{"imageRegistry": "https://registry.example.com"},
			`ephemos:imageRegistry: "https://registry.example.com" is refused: it takes a registry host with an optional port and path, such as registry.example.com/ephemos`},
		"no registry": {map[string]string{"imageRegistry": ""},
			"ephemos:imageRegistry is not set: it takes the registry that holds payment, user, order, rootca, gateway, flowlog, ghostunnel, which have no public image, as `make images-push REGISTRY=<registry>` leaves it; or set ephemos:imagesFile to a file with the output of that command"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, test.changes)
			want := strings.ReplaceAll(test.want, "FILE", fmt.Sprintf("%q", test.changes["kubeconfig"]))
			assert.Equal(t, []string{want}, messages(t, err))
		})
	}
}

func TestParseReportsAllAtOnce(t *testing.T) {
	_, err := parse(t, map[string]string{
		"trustDomain": "a/b", "serverReplicas": "2", "serverQuorum": "3", "x509SVIDTTL": "5h", "colour": "red", "kubeconfig": "/nonexistent",
	})
	var refused []string
	for _, line := range messages(t, err) {
		key, _, _ := strings.Cut(strings.TrimPrefix(line, Namespace+":"), " is refused")
		key, _, _ = strings.Cut(key, ":")
		refused = append(refused, key)
	}
	assert.Equal(t, []string{"colour", "trustDomain", "serverQuorum", "x509SVIDTTL", "kubeconfig"}, refused)
}

// No message holds a secret value: neither that of the key it is about, nor that
// of a key it explains itself with.
func TestParseWithholdsSecrets(t *testing.T) {
	file := written(t, "hidden-kubeconfig", kubeconfigFile)
	tests := map[string]struct {
		changes map[string]string
		secrets []string // words of the message that must not be there
		want    string
	}{
		"unknown key": {map[string]string{"dbPassword": "hunter2"}, []string{"hunter2"}, "ephemos:dbPassword is refused: there is no such key"},
		"refused":     {map[string]string{"trustDomain": "hunter/2"}, []string{"hunter"}, "ephemos:trustDomain: [secret] is refused: it takes a name"},
		"registry":    {map[string]string{"imageRegistry": "https://hunter2"}, []string{"hunter"}, "ephemos:imageRegistry: [secret] is refused"},
		"images file": {map[string]string{"imagesFile": "/hunter2"}, []string{"hunter"}, "ephemos:imagesFile: [secret] is refused"},
		"replicas":    {map[string]string{"serverReplicas": "2", "serverQuorum": "6"}, []string{"6", "is 2"}, "[secret] is refused: it takes less than ephemos:serverReplicas, which is [secret]"},
		"instances": {map[string]string{"postgresInstances": "1", "dataDurability": "required"}, []string{`"required"`, "is 1,"},
			"ephemos:dataDurability: [secret] is refused: it takes preferred unless ephemos:postgresInstances, which is [secret]"},
		"lifetimes": {map[string]string{"caTTL": "66h", "x509SVIDTTL": "12h"}, []string{"66h", "11h", "12h"},
			"ephemos:x509SVIDTTL: [secret] is refused: it takes at most [secret]: a sixth of ephemos:caTTL, which is [secret]"},
		"administrators": {map[string]string{"trustDomain": "hunter2", "adminIDs": "spiffe://hunter3/x"}, []string{"hunter"},
			"ephemos:adminIDs: [secret] is refused: it takes SPIFFE IDs of the trust domain [secret]"},
		"kubeconfig": {map[string]string{"kubeconfig": "/hunter2"}, []string{"hunter"}, "ephemos:kubeconfig: [secret] is refused"},
		"context": {map[string]string{"kubeconfig": file, "kubeContext": "hunter2"}, []string{"hunter", "hidden"},
			"ephemos:kubeContext: [secret] is refused: it takes a context of [secret]: here, nowhere"},
		"context without cluster": {map[string]string{"kubeconfig": file, "kubeContext": "nowhere"}, []string{"nowhere", "hidden"}, "its context [secret] names no cluster"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			values := map[string]string{
				"ephemos:trustDomain": "prod.company.com", "ephemos:kubeconfig": written(t, "config", kubeconfigFile), "ephemos:imageRegistry": "registry.example.com",
			}
			for key, value := range test.changes {
				values[Namespace+":"+key] = value
			}
			secret := func(key string) bool {
				_, ours := test.changes[strings.TrimPrefix(key, Namespace+":")]
				return ours
			}
			_, err := Parse("test", values, secret, func(string) string { return "" })
			text := strings.Join(messages(t, err), "\n")
			assert.Contains(t, text, test.want)
			for _, word := range test.secrets {
				assert.NotContains(t, text, word)
			}
			var all ConfigErrors
			require.ErrorAs(t, err, &all)
			for _, e := range all {
				assert.NotContains(t, fmt.Sprintf("%#v", e), "hunter")
			}
		})
	}
}

// A value that is refused must not lead to a second error about a value that
// the stack did not set.
func TestParseFollowsUpNothing(t *testing.T) {
	_, err := parse(t, map[string]string{"caTTL": "soon", "x509SVIDTTL": "20h"})
	assert.Len(t, messages(t, err), 1)
}

func TestParseRefusesStackNameAsCluster(t *testing.T) {
	_, err := Parse("My_Stack", map[string]string{
		"ephemos:trustDomain": "a.b", "ephemos:imageRegistry": "r.example.com", "ephemos:kubeconfig": written(t, "config", kubeconfigFile),
	}, public, os.Getenv)
	assert.Equal(t, []string{`ephemos:clusterName: "My_Stack" is refused: it takes ` + labelAllowed + ` (by default the stack's name)`}, messages(t, err))
}

func TestKubeconfigLocation(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			if i := slices.Index(pairs, name); i >= 0 {
				return pairs[i+1]
			}
			return ""
		}
	}
	assert.Equal(t, "/given", kubeconfigPath("/given", env("KUBECONFIG", "/env", "HOME", "/home")))
	assert.Equal(t, "/env", kubeconfigPath("", env("KUBECONFIG", "/env", "HOME", "/home")))
	assert.Equal(t, "/home/.kube/config", kubeconfigPath("", env("HOME", "/home")))
	assert.Equal(t, "/home/k", kubeconfigPath("~/k", env("HOME", "/home")))

	_, err := loadKubeconfig("/a:/b", "", shown)
	assert.ErrorContains(t, err, "this is a list of several files")
}

func TestKubeconfigContext(t *testing.T) {
	file := written(t, "config", kubeconfigFile)
	_, err := loadKubeconfig(file, "there", shown)
	assert.EqualError(t, err, fmt.Sprintf(`ephemos:kubeContext: "there" is refused: it takes a context of %s: here, nowhere`, file))
	_, err = loadKubeconfig(file, "nowhere", shown)
	assert.ErrorContains(t, err, `its context "nowhere" names no cluster with a server`)
}

// The identity of the cluster follows its authority, not the way there.
func TestKubeconfigClusterIdentity(t *testing.T) {
	load := func(ca, server string) string {
		t.Helper()
		content := strings.Replace(kubeconfigFile, `{server: "https://192.0.2.1:6443"}`,
			fmt.Sprintf(`{server: %q, certificate-authority: ca.crt}`, server), 1)
		file := written(t, "config", content)
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(file), "ca.crt"), []byte(ca), 0o600))
		k, err := loadKubeconfig(file, "", shown)
		require.NoError(t, err)
		return k.Cluster
	}
	assert.Equal(t, load("one", "https://a"), load("one", "https://b"))
	assert.NotEqual(t, load("one", "https://a"), load("two", "https://a"))

	_, err := loadKubeconfig(written(t, "config", strings.Replace(kubeconfigFile, `{server:`, `{certificate-authority: gone.crt, server:`, 1)), "", shown)
	assert.ErrorContains(t, err, "gone.crt cannot be read: no such file or directory")
}

// The gateways' names are made from the trust domain, which need not be a DNS name.
func TestHosts(t *testing.T) {
	_, err := parse(t, map[string]string{"trustDomain": "under_score.company.com"})
	assert.Len(t, messages(t, err), 2)
	for _, key := range []string{"webHost", "apiHost"} {
		assert.ErrorContains(t, err, "ephemos:"+key+": ")
		assert.ErrorContains(t, err, "set it when the trust domain is none")
	}
	_, err = parse(t, map[string]string{"trustDomain": "under_score.company.com", "webHost": "www.company.com", "apiHost": "api.company.com"})
	assert.NoError(t, err)
	_, err = parse(t, map[string]string{"webHost": "www.company.com", "apiHost": "www.company.com"})
	assert.ErrorContains(t, err, `ephemos:apiHost: "www.company.com" is refused: it takes another name than that of ephemos:webHost`)
}

// In whatever order: the default of podCIDR is no range of pods for the policies.
func TestDefaultPodRange(t *testing.T) {
	ranges := splitList(privateRanges)
	slices.Reverse(ranges)
	c, err := parse(t, map[string]string{"podCIDR": strings.Join(ranges, ", ")})
	require.NoError(t, err)
	assert.Empty(t, c.Ranges.Pods)
	assert.Len(t, c.PodCIDRs, len(ranges))
}

func TestRegistry(t *testing.T) {
	for registry, want := range map[string]bool{
		"registry.example.com": true, "registry.example.com/a/b": true, "localhost": true, "localhost:5000/x": true, "10.0.0.1:5000": true,
		"registry.example.com:443/x": true, "ephemos": false, "https://registry.example.com": false, "registry.example.com/A": false,
		"registry.example.com//x": false, "registry.example.com:x": false,
	} {
		_, err := parse(t, map[string]string{"imageRegistry": registry})
		assert.Equal(t, want, err == nil, registry)
	}
}

func TestImagesFile(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	file := func(images ...string) string {
		refs := map[string]string{}
		for _, image := range images {
			name, _, _ := strings.Cut(image, ":")
			refs[name] = "l/" + image + digest
		}
		content, err := json.Marshal(refs)
		require.NoError(t, err)
		return string(content)
	}
	tests := map[string]struct {
		content string
		want    string // empty: accepted
	}{
		"all of our own": {file(ownImages...), ""},
		"others too":     {file(append([]string{"pause", "postgresql:15"}, ownImages...)...), ""},
		"one missing": {file(slices.DeleteFunc(slices.Clone(ownImages), func(image string) bool { return image == imageRootCA })...),
			"the registry that holds rootca, which"},
		"no JSON":                   {`payment: x`, "a JSON file from image name to reference: invalid character"},
		"no reference":              {`{"payment":"l/Payment"}`, `payment: "l/Payment" is not an image reference`},
		"Postgres without a tag":    {`{"postgresql":"l/postgresql` + digest + `"}`, `needs a tag that begins with 15`},
		"Postgres of another major": {`{"postgresql":"l:5000/postgresql:150"}`, `needs a tag that begins with 15`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := parse(t, map[string]string{"imageRegistry": "", "imagesFile": written(t, "images.json", test.content)})
			if test.want != "" {
				assert.Contains(t, strings.Join(messages(t, err), "\n"), test.want)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "l/payment"+digest, c.Images[imagePayment])
			assert.Equal(t, publicImages[imageSPIREServer], c.Images[imageSPIREServer])
		})
	}
}

// Every row of the table, as it is and with every key at its default, is
// consistent.
func TestProfilesAreConsistent(t *testing.T) {
	for name := range Profiles {
		_, err := parse(t, map[string]string{"profile": name})
		assert.NoError(t, err, name)
	}
}

func FuzzParse(f *testing.F) {
	for _, k := range keys {
		f.Add(k.name, k.def)
	}
	f.Add("trustDomain", "a/b")
	f.Add("x509SVIDTTL", "-1h")
	f.Add("adminIDs", ",,spiffe://")
	f.Fuzz(func(t *testing.T, name, value string) {
		c, err := Parse("fuzz", map[string]string{Namespace + ":" + name: value}, public, func(string) string { return "" })
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		assert.NotEmpty(t, messages(t, err), "a trust domain alone is never enough")
	})
}

// projectFile is the path of the project file whose configuration section is
// generated from keys.
const projectFile = "../Pulumi.yaml"

// The project file documents exactly the keys that Parse takes. The CLI demands
// a default for every key that a stack may leave out, and stops at the first
// value of a wrong type: so every key is declared a string, and an empty default
// means that Parse decides.
func TestProjectFileDocumentsEveryKey(t *testing.T) {
	content, err := os.ReadFile(projectFile)
	require.NoError(t, err)
	head, _, ok := strings.Cut(string(content), "\nconfig:\n")
	require.True(t, ok)
	var b strings.Builder
	b.WriteString(head + "\nconfig:\n")
	for _, k := range keys {
		description := k.doc
		switch {
		case k.unset != "":
			description += " Default: " + k.unset + "."
		case k.def != "":
			description += " Default: " + k.def + "."
		}
		fmt.Fprintf(&b, "  %s:\n    type: string\n    description: >-\n%s    default: %q\n", k.name, folded(description), k.def)
	}
	if *update {
		require.NoError(t, os.WriteFile(projectFile, []byte(b.String()), 0o644))
		return
	}
	assert.Equal(t, b.String(), string(content), "run go test ./stacks -run ProjectFile -update")

	var project struct {
		Name   string
		Config map[string]struct{ Type, Description, Default string }
	}
	require.NoError(t, yaml.Unmarshal(content, &project))
	assert.Equal(t, Namespace, project.Name)
	assert.Len(t, project.Config, len(keys))
}

// folded breaks text into indented lines of a folded YAML scalar.
func folded(text string) string {
	var b strings.Builder
	line := "     "
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > 100 {
			b.WriteString(line + "\n")
			line = "     "
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
	return b.String()
}

func TestConfigErrorsUnwrap(t *testing.T) {
	_, err := parse(t, map[string]string{"trustDomain": "a/b"})
	var one *ConfigError
	require.True(t, errors.As(err, &one))
	assert.Equal(t, "trustDomain", one.Key)
	assert.Equal(t, "a/b", one.Value)
}

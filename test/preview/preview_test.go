package preview

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"ephemos.dev/deploy/test/graph"
	"ephemos.dev/deploy/toolchain"
)

// programs are the engine and the providers to test with: without a Kubernetes provider of the toolchain's only the stand-in.
func programs(t *testing.T) map[string]Programs {
	t.Helper()
	built, err := toolchain.Lookup(t.Context(), toolchain.Options{Progress: io.Discard})
	require.NoError(t, err)
	cli, err := built.Program("pulumi")
	if err != nil {
		if os.Getenv("EPHEMOS_REQUIRE_PROGRAMS") != "" {
			t.Fatal(err)
		}
		t.Skipf("the engine is not built: %v", err)
	}
	found := map[string]Programs{"Kubernetes stand-in": {CLI: cli}}
	if provider, err := built.Program("pulumi-resource-kubernetes"); err == nil {
		found["Kubernetes provider"] = Programs{CLI: cli, Kubernetes: provider}
	}
	return found
}

func oneOf(t *testing.T) Programs { return programs(t)["Kubernetes stand-in"] }

// object registers a resource as the SDK of a provider does, without compiling one.
func object(ctx *pulumi.Context, typ, name string, inputs pulumi.Map, options ...pulumi.ResourceOption) (*custom, error) {
	res := &custom{}
	return res, ctx.RegisterResource(typ, name, inputs, res, options...)
}

type custom struct {
	pulumi.CustomResourceState
	ARN      pulumi.StringOutput `pulumi:"arn"`
	Endpoint pulumi.StringOutput `pulumi:"endpoint"`
}

type part struct{ pulumi.ResourceState }

// example has a component on AWS and one in the cluster that this makes, whose kubeconfig is unknown until then. keyUsage and window are
// inputs of its key.
func example(window float64, keyUsage string) pulumi.RunFunc {
	return func(ctx *pulumi.Context) error {
		aws := &pulumi.ProviderResourceState{}
		if err := ctx.RegisterResource("pulumi:providers:aws", "aws", pulumi.Map{"region": pulumi.String("eu-central-1")}, aws, pulumi.Version(awsVersion)); err != nil {
			return err
		}
		foundation := &part{}
		if err := ctx.RegisterComponentResource("ephemos:test:Foundation", "foundation", foundation); err != nil {
			return err
		}
		below := []pulumi.ResourceOption{pulumi.Parent(foundation), pulumi.Provider(aws)}
		key, err := object(ctx, "aws:kms/key:Key", "foundation-key", pulumi.Map{
			"deletionWindowInDays": pulumi.Float64(window), "keyUsage": pulumi.String(keyUsage)}, append(below, pulumi.Protect(true))...)
		if err != nil {
			return err
		}
		cluster, err := object(ctx, "aws:eks/cluster:Cluster", "foundation-cluster", pulumi.Map{
			"name": pulumi.String("test"), "encryptionConfig": pulumi.Map{"provider": pulumi.Map{"keyArn": key.ARN}}}, below...)
		if err != nil {
			return err
		}
		kubernetes := &pulumi.ProviderResourceState{}
		if err := ctx.RegisterResource("pulumi:providers:kubernetes", "kubernetes", pulumi.Map{
			"kubeconfig": pulumi.Sprintf(`{"clusters":[{"cluster":{"server":"%s"}}]}`, cluster.Endpoint)}, kubernetes, pulumi.Version(kubernetesVersion)); err != nil {
			return err
		}
		apps := &part{}
		if err := ctx.RegisterComponentResource("ephemos:test:Apps", "apps", apps); err != nil {
			return err
		}
		if _, err := object(ctx, "kubernetes:core/v1:Namespace", "apps-namespace", pulumi.Map{
			"apiVersion": pulumi.String("v1"), "kind": pulumi.String("Namespace"), "metadata": pulumi.Map{"name": pulumi.String("apps")},
		}, pulumi.Parent(apps), pulumi.Provider(kubernetes)); err != nil {
			return err
		}
		ctx.Export("endpoint", cluster.Endpoint)
		return errors.Join(ctx.RegisterResourceOutputs(foundation, pulumi.Map{}), ctx.RegisterResourceOutputs(apps, pulumi.Map{}))
	}
}

func options(p Programs, program pulumi.RunFunc) Options {
	return Options{Programs: p, Stack: "test", Program: program, Config: map[string]string{"pulumi:disable-default-providers": `["*"]`}}
}

func (r *Result) named(name string) *Resource {
	i := slices.IndexFunc(r.Resources, func(res *Resource) bool { return res.Name == name })
	if i < 0 {
		return nil
	}
	return r.Resources[i]
}

func TestTheRealEnginePreviews(t *testing.T) {
	for name, p := range programs(t) {
		t.Run(name, func(t *testing.T) {
			result, err := Run(t.Context(), options(p, example(7, "ENCRYPT_DECRYPT")))
			require.NoError(t, err, "%v", result)
			assert.Empty(t, result.Warnings)
			assert.Len(t, result.Resources, 7)
			for _, r := range result.Resources {
				assert.Equal(t, "create", r.Op, r.Name)
			}
			assert.True(t, result.named("foundation-key").Protect)
			assert.Equal(t, result.named("apps").URN, result.named("apps-namespace").Parent)
			assert.Equal(t, []Counts{
				{Component: "-", Type: "providers of the stack", AWS: 1, Kubernetes: 1},
				{Component: "apps", Type: "ephemos:test:Apps", Kubernetes: 1, Components: 1},
				{Component: "foundation", Type: "ephemos:test:Foundation", AWS: 2, Components: 1},
			}, result.ByComponent())
			assert.Positive(t, result.EngineMemory)

			var out bytes.Buffer
			result.WriteTree(&out)
			result.WriteCounts(&out)
			assert.Contains(t, out.String(), "│  └─ aws:kms/key:Key foundation-key (create, protected)\n")
			assert.Contains(t, out.String(), "7 create; preview")
		})
	}
}

func TestErrorsAreSaid(t *testing.T) {
	p := oneOf(t)
	withAWS := func(then func(ctx *pulumi.Context, aws pulumi.ProviderResource) error) pulumi.RunFunc {
		return func(ctx *pulumi.Context) error {
			aws := &pulumi.ProviderResourceState{}
			if err := ctx.RegisterResource("pulumi:providers:aws", "aws", pulumi.Map{}, aws, pulumi.Version(awsVersion)); err != nil {
				return err
			}
			return then(ctx, aws)
		}
	}
	refused := options(p, example(3, "ENCRYPT_DECRYPT"))
	refused.Check = func(token, _ string, inputs resource.PropertyMap) []string {
		if token == "aws:kms/key:Key" && inputs["deletionWindowInDays"].NumberValue() < 7 {
			return []string{"deletionWindowInDays: at least 7"}
		}
		return nil
	}
	for name, test := range map[string]struct {
		options Options
		want    string
	}{
		"program": {options(p, func(*pulumi.Context) error { return errors.New("ephemos:region: is missing") }), "ephemos:region: is missing"},
		"data source": {options(p, withAWS(func(ctx *pulumi.Context, aws pulumi.ProviderResource) error {
			var result map[string]any
			return ctx.Invoke("aws:index/getCallerIdentity:getCallerIdentity", &struct{}{}, &result, pulumi.Provider(aws))
		})), "cannot answer the data source"},
		"unknown type": {options(p, withAWS(func(ctx *pulumi.Context, aws pulumi.ProviderResource) error {
			_, err := object(ctx, "aws:braket/job:Job", "job", nil, pulumi.Provider(aws))
			return err
		})), "no answer for this type"},
		"rules": {refused, "deletionWindowInDays: at least 7"},
		"no default provider": {options(p, func(ctx *pulumi.Context) error {
			_, err := object(ctx, "aws:kms/key:Key", "key", nil)
			return err
		}), "Default provider"},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := Run(t.Context(), test.options)
			require.Error(t, err)
			require.NotNil(t, result)
			assert.Contains(t, strings.Join(result.Errors, "\n"), test.want)
			assert.NotContains(t, strings.Join(result.Errors, "\n"), "<{%")
		})
	}
}

// A second preview, after an update that a recording stands for, changes nothing; one of a changed program says what it would replace.
func TestPreviewOverAState(t *testing.T) {
	p := oneOf(t)
	recorded, err := graph.Record("test", example(7, "ENCRYPT_DECRYPT"), graph.Update)
	require.NoError(t, err)
	state, err := State(recorded)
	require.NoError(t, err)

	o := options(p, example(7, "ENCRYPT_DECRYPT"))
	o.State = state
	result, err := Run(t.Context(), o)
	require.NoError(t, err, "%v", result)
	for _, r := range result.Resources {
		assert.Equal(t, "same", r.Op, "%s %v", r.Name, r.Changed)
	}

	o = options(p, example(14, "ENCRYPT_DECRYPT"))
	o.State = state
	result, err = Run(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, "update", result.named("foundation-key").Op)
	assert.Equal(t, []string{"deletionWindowInDays"}, result.named("foundation-key").Changed)

	// The key is protected: a replacement is an error.
	o = options(p, example(7, "SIGN_VERIFY"))
	o.State = state
	result, err = Run(t.Context(), o)
	require.Error(t, err)
	assert.Contains(t, strings.Join(result.Errors, "\n"), "marked for protection")
}

// The engine registers for a stack of the repository what a recording of it has, and nothing that AWS' rules would refuse.
func TestAStackPreviewsAsItIsRecorded(t *testing.T) {
	for _, stack := range []string{"local", "prod", "staging"} {
		for name, p := range programs(t) {
			t.Run(stack+" "+name, func(t *testing.T) {
				o, err := StackOptions("../..", stack, nil)
				require.NoError(t, err)
				o.Programs, o.Check = p, AWSRules
				result, err := Run(t.Context(), o)
				if result != nil {
					require.Empty(t, result.Errors)
				}
				require.NoError(t, err)
				assert.Empty(t, result.Warnings)
				recorded, err := graph.RecordStack(stack, o.Config, graph.Update)
				require.NoError(t, err)
				var previewed, registered []string
				for _, r := range result.Resources {
					previewed = append(previewed, r.URN)
				}
				for _, r := range recorded.Resources {
					registered = append(registered, r.URN)
				}
				assert.ElementsMatch(t, registered, previewed)
				t.Logf("%d resources in %.1f s, workspace %.1f s", len(previewed), result.Time.Seconds(), result.Setup.Seconds())
			})
		}
	}
}

// insideEnv says to the test that it runs in a network of its own.
const insideEnv = "EPHEMOS_PREVIEW_WITHOUT_NETWORK"

// The whole preview runs in a network namespace that has the loopback interface and nothing else, not even a route.
func TestNeedsNoNetwork(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		oneOf(t)
		if os.Geteuid() != 0 {
			t.Skip("a network namespace needs root")
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestNeedsNoNetwork$", "-test.v", "-test.timeout", "5m")
		cmd.Env = append(os.Environ(), insideEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Contains(t, string(out), "previewed without a network")
		return
	}
	require.NoError(t, loopbackUp())
	_, err := os.Stat("/proc/self/net/route")
	require.NoError(t, err)
	routes, err := os.ReadFile("/proc/self/net/route")
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(routes), "\n"), "there is a route:\n%s", routes)
	for name, p := range programs(t) {
		result, err := Run(t.Context(), options(p, example(7, "ENCRYPT_DECRYPT")))
		require.NoError(t, err, "%s %v", name, result)
		assert.Len(t, result.Resources, 7)
		assert.Less(t, result.Time, time.Minute, "something waits for a network")
	}
	t.Log("previewed without a network")
}

func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

func TestOrderedRefusesACircle(t *testing.T) {
	g := &graph.Graph{Resources: []*graph.Resource{{URN: "a", Dependencies: []string{"b"}}, {URN: "b", Dependencies: []string{"a"}}}}
	_, err := Ordered(g)
	assert.ErrorContains(t, err, "wait for each other")
}

func TestNoticeSaysWhatIsReal(t *testing.T) {
	assert.Contains(t, strings.SplitN(Notice(Programs{}), "\n", 2)[0], "stand-in takes the place of the AWS provider")
	assert.Contains(t, Notice(Programs{}), "place of the Kubernetes provider too")
	assert.Contains(t, Notice(Programs{Kubernetes: "x"}), "are the real ones")
}

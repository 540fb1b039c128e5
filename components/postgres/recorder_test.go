package postgres

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recorder takes what a program registers.
type recorder struct {
	mu        sync.Mutex
	resources []pulumi.MockResourceArgs
}

func (r *recorder) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resources = append(r.resources, args)
	return args.Name, args.Inputs, nil
}

func (r *recorder) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

func (r *recorder) inputs(t *testing.T, name string) map[string]any {
	t.Helper()
	for _, res := range r.resources {
		if res.Name == name {
			return res.Inputs.MapRepl(nil, func(v resource.PropertyValue) (any, bool) {
				if v.IsSecret() {
					return v.SecretValue().Element.MapRepl(nil, nil), true
				}
				return nil, false
			})
		}
	}
	require.Failf(t, "not registered", "%s", name)
	return nil
}

func (r *recorder) names() []string {
	var out []string
	for _, res := range r.resources {
		out = append(out, res.Name)
	}
	return out
}

func run(t *testing.T, program func(ctx *pulumi.Context) error) *recorder {
	t.Helper()
	r := &recorder{}
	require.NoError(t, pulumi.RunErr(program, pulumi.WithMocks("project", "stack", r)))
	return r
}

func runErr(program func(ctx *pulumi.Context) error) error {
	return pulumi.RunErr(program, pulumi.WithMocks("project", "stack", &recorder{}))
}

// at walks into nested maps and lists of one element.
func at(t *testing.T, object any, path string) any {
	t.Helper()
	for key := range strings.SplitSeq(path, ".") {
		if list, ok := object.([]any); ok {
			require.Len(t, list, 1, "before %s in %s", key, path)
			object = list[0]
		}
		fields, ok := object.(map[string]any)
		require.True(t, ok, "%s in %s", key, path)
		object, ok = fields[key]
		require.True(t, ok, "%s is missing in %s", key, path)
	}
	return object
}

// golden compares an object with testdata/<name>.yaml.
func golden(t *testing.T, name string, object any) {
	t.Helper()
	text, err := yaml.Marshal(object)
	require.NoError(t, err)
	file := filepath.Join("testdata", name+".yaml")
	if *update {
		require.NoError(t, os.WriteFile(file, text, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(text), "if the change is wanted, run go test with -update")
}

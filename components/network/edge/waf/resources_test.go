package waf

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/stretchr/testify/require"
)

// sdk returns the directory of the SDK's sources and its version.
func sdk(t *testing.T) (dir, version string) {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}} {{.Version}}", "github.com/pulumi/pulumi-aws/sdk/v6").Output()
	require.NoError(t, err)
	dir, version, _ = strings.Cut(strings.TrimSpace(string(out)), " ")
	require.NotEmpty(t, dir, "the module's sources are there")
	return filepath.Join(dir, "go", "aws", "wafv2"), strings.TrimPrefix(version, "v")
}

var property = regexp.MustCompile("(?m)^\t[A-Z]\\w* +(\\S+) +`pulumi:\"(\\w+)\"`")

// fields returns the properties of a struct in the SDK's sources, with their types.
func fields(t *testing.T, source, name string) map[string]string {
	t.Helper()
	_, body, found := strings.Cut(source, "\ntype "+name+" struct {\n")
	require.True(t, found, name)
	body, _, _ = strings.Cut(body, "\n}\n")
	found2 := map[string]string{}
	for _, m := range property.FindAllStringSubmatch(body, -1) {
		found2[m[2]] = m[1]
	}
	return found2
}

// TestPropertiesAreTheSDKs: tokens, names and kinds of all properties, the required ones among them, and the version.
func TestPropertiesAreTheSDKs(t *testing.T) {
	dir, version := sdk(t)
	require.Equal(t, version, providerVersion)
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(text)
	}
	types := read("pulumiTypes.go") + read("pulumiTypes1.go")

	a := minimal()
	some := pulumi.String("arn")
	for _, c := range []struct {
		token, file, args string
		inputs            pulumi.Map
		outputs           []string
	}{
		{tokenWebACL, "webAcl.go", "webAclArgs", a.webACLInputs("[]"), []string{"arn"}},
		{tokenAssociation, "webAclAssociation.go", "webAclAssociationArgs", associationInputs(some, some), []string{"webAclArn"}},
		{tokenLogging, "webAclLoggingConfiguration.go", "webAclLoggingConfigurationArgs", loggingInputs(some, some), nil},
	} {
		source := read(c.file)
		require.Contains(t, source, `ctx.RegisterResource("`+c.token+`", name, args`)
		known := fields(t, source, c.args)
		for name, kind := range known {
			// What is neither a pointer, a list nor a map is required.
			if !strings.ContainsAny(kind[:1], "*[m") {
				require.Contains(t, c.inputs, name, c.token)
			}
		}
		check(t, c.token, c.inputs, known, types)
		outputs := fields(t, source, strings.ToUpper(c.args[:1])+strings.TrimSuffix(c.args[1:], "Args"))
		for _, name := range c.outputs {
			require.Equal(t, "pulumi.StringOutput", outputs[name])
		}
	}
}

// check holds a value's properties against those of the SDK's type, and theirs.
func check(t *testing.T, path string, value pulumi.Map, known map[string]string, types string) {
	t.Helper()
	for name, v := range value {
		require.Contains(t, known, name, path)
		kind := strings.TrimPrefix(known[name], "*")
		at := path + "." + name
		switch v := v.(type) {
		case pulumi.String, pulumi.StringInput:
			require.Equal(t, "string", kind, at)
		case pulumi.Bool:
			require.Equal(t, "bool", kind, at)
		case pulumi.StringMap:
			require.Equal(t, "map[string]string", kind, at)
		case pulumi.Map:
			check(t, at, v, fields(t, types, kind), types)
		case pulumi.Array:
			kind, isList := strings.CutPrefix(kind, "[]")
			require.True(t, isList, at)
			for _, element := range v {
				if object, ok := element.(pulumi.Map); ok {
					check(t, at, object, fields(t, types, kind), types)
				} else {
					require.Equal(t, "string", kind, at)
				}
			}
		default:
			t.Errorf("%s: %T", at, v)
		}
	}
}

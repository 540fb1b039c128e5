package config

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/printer"
	"github.com/stretchr/testify/require"
)

// FuzzHCLQuote holds that any string comes back from HCL as it went in, that
// the file keeps its shape around it, and that it survives the way SPIRE hands
// plugin data on: parsed, printed and parsed again.
func FuzzHCLQuote(f *testing.F) {
	for _, s := range []string{
		"", `"`, `\`, `\"`, "${", `${"`, `${" } evil = "x`, "$${x}", "$HOME", "a\nb", "\x00", "\r\t\v\a\b\f", "é", "🔒", "\ufeff", "\ue123", "\u2028",
		`x" } plugins { KeyManager "memory" {} } y = "`, "}", "#", "//", "/*", "<<EOF\nx\nEOF\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			t.Skip("refused by Validate")
		}
		var w hclWriter
		w.block("server", func() {
			w.text("value", s)
			w.list("values", []string{s, "b"})
			w.text("after", "intact")
		})
		file, err := hcl.Parse(w.String())
		require.NoError(t, err)
		var again strings.Builder
		require.NoError(t, printer.Fprint(&again, file.Node))
		for _, text := range []string{w.String(), again.String()} {
			var got struct {
				Server struct {
					Value  string              `hcl:"value"`
					Values []string            `hcl:"values"`
					After  string              `hcl:"after"`
					Rest   map[string][]string `hcl:",unusedKeyPositions"`
				} `hcl:"server"`
			}
			require.NoError(t, hcl.Decode(&got, text))
			require.Equal(t, s, got.Server.Value)
			require.Equal(t, []string{s, "b"}, got.Server.Values)
			require.Equal(t, "intact", got.Server.After)
			parsed, err := hcl.Parse(text)
			require.NoError(t, err)
			require.Len(t, parsed.Node.(*ast.ObjectList).Items, 1)
		}
	})
}

// FuzzServer holds that arbitrary strings in a configuration are either
// refused or end up as the values they are, in a file of the same shape.
func FuzzServer(f *testing.F) {
	f.Add("spire", "Company", "CA")
	f.Add(`spire sslmode=disable`, `x" }`, "${")
	f.Add(`a' b\`, "$HOME", "\x7f")
	shape := serverShape(f, minimalServer())
	f.Fuzz(func(t *testing.T, user, organization, name string) {
		s := minimalServer()
		s.DataStore.User = user
		s.CASubject = CASubject{Organization: []string{organization}, CommonName: name}
		text, err := s.Render()
		if err != nil {
			require.True(t, user == "" || organization == "" || name == "" ||
				strings.ContainsRune(user+organization+name, 0) || !utf8.ValidString(user) || !utf8.ValidString(organization) || !utf8.ValidString(name),
				"refused without need: %v", err)
			return
		}
		tree := parse(t, text)
		require.Equal(t, name, lookup(t, tree, "server.ca_subject.common_name"))
		require.Equal(t, []any{organization}, lookup(t, tree, "server.ca_subject.organization"))
		connection := lookup(t, tree, "plugins.DataStore.sql.plugin_data.connection_string").(string)
		require.Equal(t, user, parseLibpq(t, connection)["user"])
		require.Equal(t, "verify-full", parseLibpq(t, connection)["sslmode"])
		require.Equal(t, shape, keysOf(tree))
	})
}

func serverShape(tb testing.TB, s Server) []string {
	tb.Helper()
	text, err := s.Render()
	require.NoError(tb, err)
	return keysOf(parse(tb, text))
}

// parseLibpq reads a connection string by the rules of libpq: blanks separate
// keywords, single quotes group, a backslash takes the next character as it is.
func parseLibpq(tb testing.TB, s string) map[string]string {
	tb.Helper()
	out := map[string]string{}
	r := []rune(s)
	for i := 0; i < len(r); {
		var key, value strings.Builder
		for ; i < len(r) && r[i] != '='; i++ {
			key.WriteRune(r[i])
		}
		require.Less(tb, i, len(r), "keyword without a value in %q", s)
		i++
		quoted := i < len(r) && r[i] == '\''
		if quoted {
			i++
		}
		for ; i < len(r) && (quoted && r[i] != '\'' || !quoted && r[i] != ' '); i++ {
			if r[i] == '\\' {
				i++
			}
			value.WriteRune(r[i])
		}
		if quoted {
			i++
		}
		_, twice := out[key.String()]
		require.False(tb, twice, "keyword %q twice in %q", key.String(), s)
		out[key.String()] = value.String()
		for i < len(r) && r[i] == ' ' {
			i++
		}
	}
	return out
}

package naming

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTruncate(t *testing.T) {
	long := "production-spire-server-entry-primary"
	for _, c := range []struct {
		name string
		max  int
		want string
	}{
		{"", 32, ""},
		{"edge", 32, "edge"},
		{strings.Repeat("a", 32), 32, strings.Repeat("a", 32)},
		{long, 37, long},
		{long, 32, "production-spire-server-24a42cd6"},
		{"production-spire-serve--r-entry-primary", 32, "production-spire-serve-1ef9a208"},
		{strings.Repeat("-", 40), 32, "d064d859"},
		{long, 9, "24a42cd6"},
		{long, 4, "24a4"},
		{long, 0, ""},
	} {
		require.Equal(t, c.want, Truncate(c.name, c.max), "%q in %d", c.name, c.max)
	}
}

func TestTruncateTellsNamesApart(t *testing.T) {
	seen := map[string]string{}
	for _, prefix := range []string{"a", "production-spire-server-entry", strings.Repeat("x", 60)} {
		for i := range 1000 {
			name := fmt.Sprintf("%s-%d", prefix, i)
			short := Truncate(name, 32)
			require.LessOrEqual(t, len(short), 32)
			require.NotContains(t, short, "--")
			require.Equal(t, short, Truncate(name, 32))
			require.Equal(t, short, Truncate(short, 32), "what fits is left as it is")
			require.Empty(t, seen[short], "%s", name)
			seen[short] = name
		}
	}
}

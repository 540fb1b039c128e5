package corpus

import (
	"bufio"
	"bytes"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func find(t *testing.T, cases []Case, name string) Case {
	t.Helper()
	i := slices.IndexFunc(cases, func(c Case) bool { return c.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return cases[i]
}

func TestRuleSet(t *testing.T) {
	cases, err := RuleSet()
	require.NoError(t, err)
	c := find(t, cases, "942100-1")
	require.Equal(t, Case{Name: "942100-1", Kind: Attack, Class: "SQL injection", Level: 1, Critical: true, Body: true, Bytes: c.Bytes}, c)
	require.Equal(t, "POST /post HTTP/1.1\r\n"+
		"Accept: text/xml,application/xml,application/xhtml+xml,text/html;q=0.9,text/plain;q=0.8,image/png,*/*;q=0.5\r\n"+
		"Connection: close\r\nContent-Length: 17\r\nContent-Type: application/x-www-form-urlencoded\r\nHost: localhost\r\n"+
		"User-Agent: OWASP CRS test agent\r\n\r\nvar=1234+OR+1%3D1", string(c.Bytes))

	require.Equal(t, Negative, find(t, cases, "932230-9").Kind, "an attack that another rule is there for")
	require.Equal(t, Innocent, find(t, cases, "942151-13").Kind, "described as a false positive")
	require.Equal(t, Attack, find(t, cases, "920100-13").Kind, "no rule is expected, but that it is refused")
	require.True(t, find(t, cases, "920100-13").Claimed(1))
	require.False(t, find(t, cases, "942101-1").Claimed(1), "its rule is of a higher level")
	require.True(t, find(t, cases, "942101-1").Claimed(2))
	require.False(t, find(t, cases, "920350-1").Claimed(4), "its rule alone is not enough")
	require.Contains(t, string(find(t, cases, "920400-1").Bytes), "1111111111", "templates are filled in")
	require.Greater(t, len(find(t, cases, "920400-1").Bytes), 64200)

	seen := map[string]bool{}
	for _, c := range cases {
		seen[c.Class] = true
		require.NotEmpty(t, c.Bytes, c.Name)
		require.NotContains(t, string(c.Bytes), "{{ ", c.Name)
	}
	for _, class := range classes {
		require.True(t, seen[class], class)
	}
	for _, class := range []string{"SQL injection", "cross-site scripting", "path traversal", "command execution", "protocol abuse"} {
		require.True(t, seen[class], class)
	}
	require.Greater(t, len(Select(cases, Attack)), 3000)
	require.Greater(t, len(Select(cases, Innocent)), 100)
}

func TestRecordings(t *testing.T) {
	cases, err := Recordings(t.Context(), "recorded")
	require.NoError(t, err)
	methods, libraries := map[string]int{}, map[string]int{}
	for _, c := range cases {
		require.Equal(t, Recorded, c.Kind)
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(c.Bytes)))
		require.NoError(t, err, c.Name)
		require.NotEmpty(t, r.Host)
		require.NotEmpty(t, r.UserAgent())
		methods[r.Method]++
		libraries[c.Class]++
	}
	require.Greater(t, libraries["linodego"], 350)
	require.Greater(t, libraries["scaleway-sdk-go"], 80)
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		require.Positive(t, methods[m], m)
	}
}

func TestSummarise(t *testing.T) {
	attack := Case{Kind: Attack, Class: "SQL injection", Level: 1, Critical: true, Body: true}
	weak := Case{Kind: Attack, Class: "SQL injection", Level: 2, Critical: true}
	r := Summarise(1, []Result{
		{Case: attack, Outcome: Blocked}, {Case: attack, Outcome: Refused}, {Case: attack, Outcome: Passed}, {Case: weak, Outcome: Passed},
		{Case: Case{Name: "x", Kind: Recorded}, Outcome: Blocked}, {Case: Case{Kind: Recorded}, Outcome: Passed},
		{Case: Case{Name: "y", Kind: Negative}, Outcome: Blocked},
	})
	require.Equal(t, Count{Requests: 4, Blocked: 1, Refused: 1}, r.Attacks["SQL injection"])
	require.Equal(t, Count{Requests: 3, Blocked: 1, Refused: 1}, r.Claimed["SQL injection"])
	require.Equal(t, r.Claimed["SQL injection"], r.ClaimedInBody)
	require.InDelta(t, 0.5, r.Others[Recorded].Rate(), 0)
	require.Len(t, r.Missed, 1)
	require.Equal(t, []string{"x"}, r.Refused)
	err := r.Check()
	for _, want := range []string{"number of attacks", "claimed attacks detected: SQL injection", "recorded requests stopped"} {
		require.ErrorContains(t, err, want)
	}
}

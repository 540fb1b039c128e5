package waf

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckJSON(t *testing.T) {
	deep := func(levels int) string { return strings.Repeat("[", levels) + "1" + strings.Repeat("]", levels) }
	many := strings.TrimSuffix(strings.Repeat("1,", 20000), ",")
	for _, c := range []struct {
		body, want string
	}{
		{`{}`, ""},
		{`[]`, ""},
		{`"text"`, ""},
		{` null `, ""},
		{`{"a":{"b":[1,{"c":true},"x"]},"b":[1,2],"ab":"","":{"":1}}`, ""},
		{`[{"a":1},{"a":1}]`, ""},
		{deep(maxDepth), ""},
		{`{"list":[` + many + `]}`, ""},
		{``, "not JSON"},
		{`{"a":`, "not JSON"},
		{`{} {}`, "not JSON"},
		{`{"a":1,"a":2}`, "same path"},
		{`{"a":1,"\u0061":2}`, "same path"},
		{`{"a":1,"A":2}`, "same path"},
		{`{"a":[{"b":1,"b":null}]}`, "same path"},
		{`{"a.b":1,"a":{"b":2}}`, "same path"},
		{`{"a":["x"],"a.0":"y"}`, "same path"},
		{`{"a":"x","a":[1]}`, "same path"},
		{deep(maxDepth + 1), "too deeply"},
		{deep(20000), "not JSON"},
		{`{"` + strings.Repeat("k", 60000) + `":[` + many + `]}`, "too long"},
	} {
		err := checkJSON([]byte(c.body))
		if c.want == "" {
			require.NoError(t, err, "%.100s", c.body)
		} else {
			require.ErrorContains(t, err, c.want, "%.100s", c.body)
		}
	}
}

// FuzzCheckJSON: what is accepted is JSON in which no two values have the same path.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{"a":{"b":[1,{"c":true},"x"]}}`, `{"a.b":1,"a":{"b":2}}`, `[[[]]]`, `{"a":1,"a":2}`, `{"":{"":""}}`, `1`, `{"a"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if checkJSON([]byte(text)) != nil {
			return
		}
		var value any
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		require.NoError(t, decoder.Decode(&value))
		// A key that stands twice is gone now: encoding/json keeps the last. The number of values tells.
		require.Equal(t, strings.Count(paths(value, ""), "\n"), scalars(text), text)
	})
}

// paths lists the paths of all scalars, a line each.
func paths(value any, path string) string {
	var b strings.Builder
	switch v := value.(type) {
	case map[string]any:
		for key, value := range v {
			b.WriteString(paths(value, path+"."+key))
		}
	case []any:
		for i, value := range v {
			b.WriteString(paths(value, fmt.Sprintf("%s.%d", path, i)))
		}
	default:
		return strings.ReplaceAll(path, "\n", " ") + "\n"
	}
	return b.String()
}

// scalars counts the scalars of a JSON text that are not keys.
func scalars(text string) int {
	decoder := json.NewDecoder(strings.NewReader(text))
	type level struct{ object, key bool }
	var open []level
	n := 0
	for {
		token, err := decoder.Token()
		if err != nil {
			return n
		}
		in := len(open) - 1
		switch delimiter, ok := token.(json.Delim); {
		case ok && (delimiter == '}' || delimiter == ']'):
			open = open[:in]
			continue
		case in >= 0 && open[in].object && !open[in].key:
			open[in].key = true
			continue
		case ok:
			if in >= 0 {
				open[in].key = false
			}
			open = append(open, level{object: delimiter == '{'})
			continue
		}
		if in >= 0 {
			open[in].key = false
		}
		n++
	}
}

package waf

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckJSON(t *testing.T) {
	deep := func(levels int) string { return strings.Repeat("[", levels) + "1" + strings.Repeat("]", levels) }
	many := func(values int) string { return strings.TrimSuffix(strings.Repeat("1,", values), ",") }
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
		{`[` + many(maxArguments-1) + `]`, ""},
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
		{`[` + many(maxArguments) + `]`, "more than 255 values"},
		{`{"` + strings.Repeat("k", 60000) + `":[` + many(200) + `]}`, "too long"},
	} {
		err := checkJSON([]byte(c.body))
		if c.want == "" {
			require.NoError(t, err, "%.100s", c.body)
		} else {
			require.ErrorContains(t, err, c.want, "%.100s", c.body)
		}
	}
}

func TestCheckHead(t *testing.T) {
	fields := func(n int) string { return strings.TrimSuffix(strings.Repeat("a=1&", n), "&") }
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		want   string
	}{
		{"arguments", func(r *http.Request) { r.URL.RawQuery = fields(maxArguments) }, ""},
		{"an argument more", func(r *http.Request) { r.URL.RawQuery = fields(maxArguments + 1) }, "more than 255 arguments"},
		{"cookies", func(r *http.Request) { r.Header.Set("Cookie", "a"+strings.Repeat("; a=1", maxCookies-1)) }, ""},
		{"a cookie more", func(r *http.Request) { r.Header.Set("Cookie", "a"+strings.Repeat("; a=1", maxCookies)) }, "more than 100 cookies"},
		{"many lines of cookies", func(r *http.Request) {
			r.Header["Cookie"] = []string{strings.Repeat("a;", 60), strings.Repeat("a;", 60)}
		}, "more than 100 cookies"},
		{"headers", func(r *http.Request) { r.Header["X"] = make([]string, maxHeaders-len(r.Header)) }, ""},
		{"a header more", func(r *http.Request) { r.Header["X"] = make([]string, maxHeaders-len(r.Header)+1) }, "more than 100 headers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request(http.MethodGet, "/chain", nil)
			c.change(r)
			if err := checkHead(r); c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
			}
		})
	}
}

func TestCheckBody(t *testing.T) {
	many := strings.Repeat("a=1&", maxArguments+1)
	for contentType, refused := range map[string]bool{
		"application/x-www-form-urlencoded": true, "application/x-www-form-urlencoded; charset=utf-8": true, "": true, "text/plain": true, "a/b/c": true,
		"application/json": true, "application/problem+json": true, // it is no JSON
		"multipart/form-data; boundary=b": false, "text/xml": false, "application/soap+xml": false,
	} {
		r := request(http.MethodPost, "/chain", strings.NewReader(many))
		r.Header.Set("Content-Type", contentType)
		require.Equal(t, refused, checkBody(r, []byte(many)) != nil, contentType)
		require.NoError(t, checkBody(r, nil), contentType)
	}
	r := request(http.MethodPost, "/chain", nil)
	r.Header.Set("Content-Type", "text/xml; charset=utf-8")
	require.NoError(t, checkBody(r, []byte(strings.Repeat("<a>", maxTags))))
	require.ErrorContains(t, checkBody(r, []byte(strings.Repeat("<a>", maxTags+1))), "more than 2000 tags")
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	require.NoError(t, checkBody(r, []byte(strings.Repeat("\r\n--b", maxArguments))))
	require.ErrorContains(t, checkBody(r, []byte(strings.Repeat("\r\n--b", maxArguments+1))), "more than 255 parts")
}

// TestRequestsAreCheap: without the counts before, each of these bodies makes the engine allocate from fifty megabytes to
// more than a gigabyte.
func TestRequestsAreCheap(t *testing.T) {
	f := start(t, Options{})
	fill := func(text string) string { return strings.Repeat(text, 60<<10/len(text)) }
	for _, c := range []struct{ contentType, body string }{
		{"application/x-www-form-urlencoded", fill("a=1&")},
		{"application/json", "[" + fill("1,") + "1]"},
		{"application/json", `{"` + strings.Repeat("k", 40<<10) + `":[` + strings.Repeat("1,", 8<<10) + `1]}`},
		{"application/json", strings.Repeat("[", 9000) + strings.Repeat("]", 9000)},
		{"text/xml", "<a>" + fill("<b>x y</b>") + "</a>"},
		{"multipart/form-data; boundary=b", fill("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n") + "--b--\r\n"},
	} {
		r := request(http.MethodPost, "/chain", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.contentType)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		require.Equal(t, http.StatusForbidden, f.do(r).Code)
		runtime.ReadMemStats(&after)
		require.Less(t, (after.TotalAlloc-before.TotalAlloc)>>20, uint64(32), "MiB for %.40s", c.body)
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

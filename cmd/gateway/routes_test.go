package main

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRoutesRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "routes such as",
		"/chain":                    "routes such as",
		"chain=/chain":              "routes such as",
		"/chain=chain":              "routes such as",
		"/chain=":                   "routes such as",
		"/a//b=/c":                  "routes such as",
		"/a/../b=/c":                "routes such as",
		"/a%20b=/c":                 "routes such as",
		"/a=/b,":                    "routes such as",
		"/a=/b=/c":                  "routes such as",
		"/api/=/v1":                 "both sides",
		"/api=/v1/":                 "both sides",
		"/a=/b,/a=/c":               "two routes for /a",
		"/a?x=/b":                   "routes such as",
		"/chain=http://order/chain": "routes such as",
	} {
		_, err := ParseRoutes(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestTarget(t *testing.T) {
	routes, err := ParseRoutes("/chain=/chain,/api/admin/=/nowhere/,/api/=/v1/,/old=/new")
	require.NoError(t, err)
	for raw, want := range map[string]string{
		"/chain":                 "/chain",
		"/chain?a=b&c=%2f":       "/chain?a=b&c=%2f",
		"/chain?":                "/chain",
		"/old":                   "/new",
		"/api/":                  "/v1/",
		"/api/users":             "/v1/users",
		"/api/users/":            "/v1/users/",
		"/api/a%20b/%C3%BC":      "/v1/a%20b/%C3%BC",
		"/api/a+b!":              "/v1/a+b!",
		"/api/admin/x":           "/nowhere/x", // the first that fits
		"/api/..x":               "/v1/..x",
		"":                       "",
		"/":                      "",
		"/Chain":                 "",
		"/chain/":                "",
		"/chain/x":               "",
		"/chainx":                "",
		"/api":                   "",
		"/apix/":                 "",
		"/api/../chain":          "",
		"/api/%2e%2e/chain":      "",
		"/api/.":                 "",
		"//chain":                "",
		"/api//x":                "",
		"/api/a%2fb":             "",
		"/api/a%2Fb":             "",
		"/api/a%5Cb":             "",
		"/api/%00":               "",
		"/api/%0a":               "",
		"/api/%7f":               "",
		"http://elsewhere/chain": "/chain",
	} {
		u, err := url.Parse(raw)
		require.NoError(t, err, raw)
		target, ok := routes.Target(u)
		require.Equal(t, want, target, raw)
		require.Equal(t, want != "", ok, raw)
	}
}

// FuzzTarget: whatever is asked for, what is passed on stays below what the routes name, and is the path that was matched.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"/chain", "/api/a%20b?x", "/api/%2e%2e/chain", "/api/../x", "/api/a%2fb", "http://h/api/x", "*", "/api/%25%32%65"} {
		f.Add(seed)
	}
	routes, err := ParseRoutes("/chain=/chain,/api/=/v1/")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.ParseRequestURI(raw)
		if err != nil {
			return
		}
		target, ok := routes.Target(u)
		if !ok {
			require.Empty(t, target)
			return
		}
		to, err := url.Parse("https://10.0.0.1:8443" + target)
		require.NoError(t, err, target)
		require.Equal(t, "10.0.0.1:8443", to.Host)
		require.True(t, to.Path == "/chain" || strings.HasPrefix(to.Path, "/v1/"), target)
		require.Equal(t, to.Path, path.Clean(to.Path)+map[bool]string{true: "/"}[strings.HasSuffix(to.Path, "/")])
		require.Equal(t, u.Path, map[bool]string{true: "/chain", false: "/api/" + strings.TrimPrefix(to.Path, "/v1/")}[to.Path == "/chain"])
	})
}

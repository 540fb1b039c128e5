package main

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Route maps a path of clients to one of the upstream. With a slash at the end of both it maps every path below.
type Route struct {
	From, To string
}

// Routes are the paths that a gateway passes on. The first that fits is taken.
type Routes []Route

// ParseRoutes reads routes, separated by commas, each as from=to: "/chain=/chain" passes exactly that path on,
// "/api/=/v1/" passes /api/users on as /v1/users. The error says what is allowed.
func ParseRoutes(text string) (Routes, error) {
	var routes Routes
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		from, to, found := strings.Cut(strings.TrimSpace(part), "=")
		r := Route{From: from, To: to}
		switch {
		case !found || !plainPath(from) || !plainPath(to):
			return nil, errors.New("routes such as /chain=/chain or /api/=/v1/, separated by commas, " +
				"of unescaped paths without empty or dot segments")
		case r.prefix() != strings.HasSuffix(to, "/"):
			return nil, fmt.Errorf("a list in which both sides of a route end with a slash, or neither does, unlike %q", part)
		case seen[from]:
			return nil, fmt.Errorf("a list without two routes for %s", from)
		}
		seen[from] = true
		routes = append(routes, r)
	}
	return routes, nil
}

// plainPath says whether a path is absolute, clean, and made of characters that need no escape.
func plainPath(p string) bool {
	return clean(p) && strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/") == ""
}

// clean says whether a path is absolute and has neither empty nor dot segments.
func clean(p string) bool {
	cleaned := path.Clean(p)
	return strings.HasPrefix(p, "/") && (p == cleaned || p == cleaned+"/")
}

func (r Route) prefix() bool { return strings.HasSuffix(r.From, "/") }

// Target returns what is requested of the upstream for a client's URL, escaped, with its query; false when no route fits.
//
// No route fits a path that server and upstream may understand differently: with dot segments, empty ones, backslashes or
// control characters, or escaped slashes.
func (routes Routes) Target(u *url.URL) (string, bool) {
	escaped := u.EscapedPath()
	ambiguous := func(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f }
	if !clean(u.Path) || strings.Contains(strings.ToLower(escaped), "%2f") || strings.ContainsFunc(u.Path, ambiguous) {
		return "", false
	}
	for _, r := range routes {
		var target string
		switch {
		case !r.prefix() && u.Path == r.From:
			target = r.To
		case r.prefix() && strings.HasPrefix(escaped, r.From):
			target = r.To + escaped[len(r.From):]
		default:
			continue
		}
		if u.RawQuery != "" {
			target += "?" + u.RawQuery
		}
		return target, true
	}
	return "", false
}

package waf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// The engine's work grows with the number of things that it inspects, each by some hundred expressions: a third of a
// millisecond for an argument. The rule set refuses too many arguments after it has inspected them all, so that one request
// of 128 KiB could take four seconds and more than a gigabyte. Therefore they are counted before.
const (
	maxHeaders = 100
	maxCookies = 100
	// maxTags bounds the tags of an XML body, at twice as many as elements.
	maxTags = 2000
	// maxDepth bounds the nesting of a JSON body. The work grows with its square.
	maxDepth = 32
	// maxPaths bounds the length in bytes of the paths to all values of a JSON body together: the engine keeps every path, with
	// all keys that lead to it.
	maxPaths = 1 << 20
)

// checkHead says why a head is refused before the engine sees it.
func checkHead(r *http.Request) error {
	headers, cookies := 0, 0
	for _, values := range r.Header {
		headers += len(values)
	}
	for _, value := range r.Header["Cookie"] {
		cookies += 1 + strings.Count(value, ";")
	}
	switch {
	case headers > maxHeaders:
		return fmt.Errorf("it has more than %d headers", maxHeaders)
	case cookies > maxCookies:
		return fmt.Errorf("it has more than %d cookies", maxCookies)
	}
	return checkForm(r.URL.RawQuery)
}

// checkBody says why a body is refused before the engine sees it.
func checkBody(r *http.Request, body []byte) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case len(body) == 0:
		return nil
	case err == nil && (media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")):
		return checkJSON(body)
	case err == nil && strings.HasPrefix(media, "multipart/"):
		if bytes.Count(body, []byte("\n--")) > maxArguments {
			return fmt.Errorf("it has more than %d parts", maxArguments)
		}
		return nil
	case err == nil && strings.HasSuffix(media, "xml"):
		if bytes.Count(body, []byte("<")) > maxTags {
			return fmt.Errorf("it has more than %d tags", maxTags)
		}
		return nil
	}
	// The engine takes everything else for a form.
	return checkForm(string(body))
}

func checkForm(text string) error {
	if strings.Count(text, "&") >= maxArguments {
		return fmt.Errorf("it has more than %d arguments", maxArguments)
	}
	return nil
}

// checkJSON refuses JSON of which the engine would see something else than an application behind it.
//
// The engine takes what it can from a text that is not JSON. It files values by their path, keys joined by dots in lower case,
// and of two values of the same path it inspects one: {"a":"x","A":"y"} and {"a.b":"x","a":{"b":"y"}} hide the other.
func checkJSON(body []byte) error {
	if !json.Valid(body) {
		return errors.New("it is not JSON")
	}
	type container struct {
		list bool
		next int // of a list: the number of the next value
		path string
	}
	var (
		open   []container
		key    *string // read, its value is next
		seen   = map[string]bool{}
		length int
	)
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			open = open[:len(open)-1]
			continue
		}
		path := ""
		if len(open) > 0 {
			in := &open[len(open)-1]
			switch {
			case in.list:
				path = in.path + "." + strconv.Itoa(in.next)
				in.next++
			case key == nil:
				name := token.(string)
				key = &name
				continue
			default:
				path, key = in.path+"."+*key, nil
			}
		}
		folded := strings.ToLower(path)
		if seen[folded] {
			return errors.New("two values have the same path")
		}
		seen[folded] = true
		if len(seen) > maxArguments {
			return fmt.Errorf("it has more than %d values", maxArguments)
		}
		if length += len(path); length > maxPaths {
			return errors.New("the paths to its values are too long")
		}
		if delimiter, ok := token.(json.Delim); ok {
			if len(open) == maxDepth {
				return errors.New("it is nested too deeply")
			}
			open = append(open, container{list: delimiter == '[', path: path})
		}
	}
}

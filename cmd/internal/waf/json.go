package waf

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

const (
	// maxDepth bounds the nesting of a JSON body. The engine's work grows with its square.
	maxDepth = 32
	// maxPaths bounds the length in bytes of the paths to all values of a JSON body together. The engine keeps every path, each
	// with the keys that lead to it: one long key over many values would take gigabytes.
	maxPaths = 1 << 20
)

func isJSON(r *http.Request) bool {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && (media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json"))
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

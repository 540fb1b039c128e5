// Package debian makes file trees from Debian packages: it finds the mirrors that the host uses, runs mmdebstrap with them and
// picks what an image needs.
package debian

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Suite is the release that trees are made of, whatever the host runs: Debian 12.
const Suite = "bookworm"

// keyring holds Debian's archive keys. It comes with package debian-archive-keyring, on which apt depends.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// A Source is a repository that has the component main.
type Source struct {
	URI   string
	Suite string // for example "bookworm-security"
}

// Line returns the source in one-line format for sources.list.
func (s Source) Line() string {
	return fmt.Sprintf("deb [signed-by=%s] %s %s main", keyring, s.URI, s.Suite)
}

// Mirrors reads the package sources of a host, from its folder /etc/apt, and returns Debian's own among them, for Suite instead
// of the host's release codename. An error says that there are none.
func Mirrors(etcApt, codename string) ([]Source, error) {
	files := []string{filepath.Join(etcApt, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		found, err := filepath.Glob(filepath.Join(etcApt, "sources.list.d", pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	var mirrors []Source
	for _, name := range files {
		found, err := readSources(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, source := range found {
			if mirror, ok := source.debian(codename); ok && !slices.Contains(mirrors, mirror) {
				mirrors = append(mirrors, mirror)
			}
		}
	}
	if len(mirrors) == 0 {
		return nil, fmt.Errorf("no source of Debian's own in %s: want one with suite %s, component main", etcApt, codename)
	}
	return mirrors, nil
}

func readSources(name string) ([]entry, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	parse := parseOneLine
	if strings.HasSuffix(name, ".sources") {
		parse = parseDeb822
	}
	entries, err := parse(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return entries, nil
}

// entry is a source as a file has it.
type entry struct {
	uri, suite string
	components []string
	signedBy   string // path of a keyring, "inline" for a key in the file itself, or ""
}

// debian returns the entry as a source for Suite, and whether it is Debian's own: a suite of the host's release, the component
// main, and no key other than Debian's.
func (e entry) debian(codename string) (Source, bool) {
	rest, ok := strings.CutPrefix(e.suite, codename)
	switch {
	case !ok, rest != "" && rest != "-updates" && rest != "-security":
		return Source{}, false
	case !slices.Contains(e.components, "main"):
		return Source{}, false
	case e.signedBy != "" && !strings.HasPrefix(filepath.Base(e.signedBy), "debian-archive-"):
		return Source{}, false
	case strings.HasPrefix(e.uri, "cdrom:"):
		return Source{}, false
	}
	return Source{URI: e.uri, Suite: Suite + rest}, true
}

// parseOneLine reads the format of sources.list(5): "deb [option=value ...] uri suite component ...".
func parseOneLine(r io.Reader) ([]entry, error) {
	var entries []entry
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		kind, rest, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
		if kind != "deb" {
			continue // a comment, an empty line or deb-src
		}
		rest = strings.TrimSpace(rest)
		var options string
		if strings.HasPrefix(rest, "[") {
			var closed bool
			options, rest, closed = strings.Cut(rest[1:], "]")
			if !closed {
				return nil, fmt.Errorf("line %d: options without a closing bracket", number)
			}
		}
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %d: want deb, a URI and a suite", number)
		}
		e := entry{uri: fields[0], suite: fields[1], components: fields[2:]}
		for option := range strings.FieldsSeq(options) {
			if value, ok := strings.CutPrefix(option, "signed-by="); ok {
				e.signedBy = value
			}
		}
		entries = append(entries, e)
	}
	return entries, lines.Err()
}

// parseDeb822 reads the format of *.sources files: stanzas of "Key: value" lines, continued by lines that start with a blank.
// Comment lines may stand anywhere, also between the lines of a value.
func parseDeb822(r io.Reader) ([]entry, error) {
	var entries []entry
	stanza, key := map[string]string{}, ""
	flush := func() {
		entries = append(entries, expand(stanza)...)
		stanza, key = map[string]string{}, ""
	}
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == ' ' || line[0] == '\t':
			if key == "" {
				return nil, fmt.Errorf("line %d: continues nothing", number)
			}
			stanza[key] += "\n" + strings.TrimSpace(line)
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				return nil, fmt.Errorf("line %d: want \"Key: value\"", number)
			}
			key = strings.ToLower(strings.TrimSpace(name))
			stanza[key] = strings.TrimSpace(value)
		}
	}
	flush()
	return entries, lines.Err()
}

// expand returns an entry for each URI and suite of a stanza.
func expand(stanza map[string]string) []entry {
	if !slices.Contains(strings.Fields(stanza["types"]), "deb") {
		return nil
	}
	switch strings.ToLower(stanza["enabled"]) {
	case "no", "false", "0", "off", "without", "disable":
		return nil
	}
	signedBy := stanza["signed-by"]
	if strings.Contains(signedBy, "BEGIN PGP") {
		signedBy = "inline"
	}
	var entries []entry
	for uri := range strings.FieldsSeq(stanza["uris"]) {
		for suite := range strings.FieldsSeq(stanza["suites"]) {
			entries = append(entries, entry{uri, suite, strings.Fields(stanza["components"]), signedBy})
		}
	}
	return entries
}

// Release returns ID and VERSION_CODENAME of an os-release(5) file.
func Release(osRelease string) (id, codename string, err error) {
	data, err := os.ReadFile(osRelease)
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch name {
		case "ID":
			id = value
		case "VERSION_CODENAME":
			codename = value
		}
	}
	return id, codename, nil
}

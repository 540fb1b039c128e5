package corpus

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza-coreruleset/v4/tests"
	"go.yaml.in/yaml/v3"
)

// classes are the classes of attack by the folder of the regression tests. Not among them: the rules about responses, which
// are not in force, and 949, whose tests repeat others'.
var classes = map[string]string{
	"REQUEST-911-METHOD-ENFORCEMENT":                  "protocol abuse",
	"REQUEST-913-SCANNER-DETECTION":                   "scanners",
	"REQUEST-920-PROTOCOL-ENFORCEMENT":                "protocol abuse",
	"REQUEST-921-PROTOCOL-ATTACK":                     "protocol abuse",
	"REQUEST-922-MULTIPART-ATTACK":                    "protocol abuse",
	"REQUEST-930-APPLICATION-ATTACK-LFI":              "path traversal",
	"REQUEST-931-APPLICATION-ATTACK-RFI":              "remote file inclusion",
	"REQUEST-932-APPLICATION-ATTACK-RCE":              "command execution",
	"REQUEST-933-APPLICATION-ATTACK-PHP":              "PHP injection",
	"REQUEST-934-APPLICATION-ATTACK-GENERIC":          "code injection",
	"REQUEST-941-APPLICATION-ATTACK-XSS":              "cross-site scripting",
	"REQUEST-942-APPLICATION-ATTACK-SQLI":             "SQL injection",
	"REQUEST-943-APPLICATION-ATTACK-SESSION-FIXATION": "session fixation",
	"REQUEST-944-APPLICATION-ATTACK-JAVA":             "Java injection",
}

// regression is a file of the rule set's regression tests, in the format of go-ftw.
type regression struct {
	Rule  int `yaml:"rule_id"`
	Tests []struct {
		Number      int    `yaml:"test_id"`
		Description string `yaml:"desc"`
		Stages      []struct {
			Input  input  `yaml:"input"`
			Output output `yaml:"output"`
		} `yaml:"stages"`
	} `yaml:"tests"`
}

type input struct {
	Method       *string           `yaml:"method"`
	URI          *string           `yaml:"uri"`
	Version      *string           `yaml:"version"`
	Headers      map[string]string `yaml:"headers"`
	Data         string            `yaml:"data"`
	Autocomplete *bool             `yaml:"autocomplete_headers"`
	Encoded      string            `yaml:"encoded_request"`
}

type output struct {
	Status int `yaml:"status"`
	Log    struct {
		Expect     []int  `yaml:"expect_ids"`
		MatchRegex string `yaml:"match_regex"`
	} `yaml:"log"`
}

// attack says whether the request is to be found, or refused.
func (o output) attack() bool {
	return len(o.Log.Expect) > 0 || o.Log.MatchRegex != "" || o.Status >= http.StatusBadRequest
}

var falsePositive = regexp.MustCompile(`(?i)false[- ]positive|\bFP\b`)

// RuleSet returns the rule set's regression tests, each stage of a test a case.
func RuleSet() ([]Case, error) {
	rules, err := readRules()
	if err != nil {
		return nil, err
	}
	var cases []Case
	for _, folder := range slices.Sorted(maps.Keys(classes)) {
		files, err := fs.Glob(tests.FS, folder+"/*.yaml")
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			found, err := readFile(file, classes[folder], rules)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			cases = append(cases, found...)
		}
	}
	return distinct(cases), nil
}

func readFile(file, class string, rules map[int]rule) ([]Case, error) {
	text, err := fs.ReadFile(tests.FS, file)
	if err != nil {
		return nil, err
	}
	var r regression
	if err := yaml.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	var cases []Case
	for _, test := range r.Tests {
		for stage, s := range test.Stages {
			raw, err := s.Input.bytes()
			if err != nil {
				return nil, fmt.Errorf("test %d: %w", test.Number, err)
			}
			c := Case{Name: fmt.Sprintf("%d-%d", r.Rule, test.Number), Kind: Negative, Class: class, Bytes: raw}
			if stage > 0 {
				c.Name += fmt.Sprintf(" (%d)", stage+1)
			}
			_, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
			c.Body = len(body) > 0
			switch {
			case s.Output.attack():
				c.Kind = Attack
				expected := s.Output.Log.Expect
				if s.Output.Log.MatchRegex != "" {
					expected = append(expected, r.Rule)
				}
				c.Level, c.Critical = strength(expected, rules)
			case falsePositive.MatchString(test.Description):
				c.Kind = Innocent
			}
			cases = append(cases, c)
		}
	}
	return cases, nil
}

// strength returns the lowest paranoia level at which one of the rules is in force, and whether one is critical there.
func strength(expected []int, rules map[int]rule) (level int, critical bool) {
	if len(expected) == 0 {
		return 0, true
	}
	level = 4
	for _, id := range expected {
		if r, known := rules[id]; known && r.level <= level {
			critical = r.critical || critical && r.level == level
			level = r.level
		}
	}
	return level, critical
}

// rule is what a rule of the rule set says of itself.
type rule struct {
	level    int
	critical bool
}

var (
	continued = regexp.MustCompile(`\\\n\s*`)
	ruleID    = regexp.MustCompile(`\bid:(\d+)`)
	ruleLevel = regexp.MustCompile(`paranoia-level/(\d)`)
)

func readRules() (map[int]rule, error) {
	files, err := fs.Glob(coreruleset.FS, "@owasp_crs/REQUEST-*.conf")
	if err != nil {
		return nil, err
	}
	rules := map[int]rule{}
	for _, file := range files {
		text, err := fs.ReadFile(coreruleset.FS, file)
		if err != nil {
			return nil, err
		}
		for line := range strings.SplitSeq(continued.ReplaceAllString(string(text), " "), "\n") {
			id, level := ruleID.FindStringSubmatch(line), ruleLevel.FindStringSubmatch(line)
			if strings.HasPrefix(line, "#") || id == nil || level == nil {
				continue
			}
			number, _ := strconv.Atoi(id[1])
			rules[number] = rule{level: int(level[1][0] - '0'), critical: strings.Contains(line, "severity:'CRITICAL'")}
		}
	}
	return rules, nil
}

// repeated is the one template that the tests use, {{ "1" | repeat 64200 }}.
var repeated = regexp.MustCompile(`\{\{ "(.)" \| repeat (\d+) \}\}`)

// bytes returns the request as go-ftw sends it: unless told otherwise it adds a content type and a length to a body, and
// encodes a form that is not encoded yet.
func (i input) bytes() ([]byte, error) {
	if i.Encoded != "" {
		return base64.StdEncoding.DecodeString(i.Encoded)
	}
	header := http.Header{}
	for name, value := range i.Headers {
		header[name] = []string{value}
	}
	get := func(name string) string {
		for n, values := range header {
			if strings.EqualFold(n, name) {
				return values[0]
			}
		}
		return ""
	}
	add := func(name, value string) {
		if get(name) == "" {
			header[name] = []string{value}
		}
	}
	data := repeated.ReplaceAllStringFunc(i.Data, func(match string) string {
		parts := repeated.FindStringSubmatch(match)
		times, _ := strconv.Atoi(parts[2])
		return strings.Repeat(parts[1], times)
	})
	complete := i.Autocomplete == nil || *i.Autocomplete
	method := value(i.Method, http.MethodGet)
	if complete && data != "" {
		add("Content-Type", "application/x-www-form-urlencoded")
		if get("Content-Type") == "application/x-www-form-urlencoded" {
			data = encodeForm(data)
		}
	}
	if strings.HasPrefix(get("Content-Type"), "multipart/form-data;") {
		data = strings.ReplaceAll(data, "\n", "\r\n")
	}
	if complete {
		add("Connection", "close")
		if data != "" || slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, method) {
			add("Content-Length", strconv.Itoa(len(data)))
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", method, value(i.URI, "/"), value(i.Version, "HTTP/1.1"))
	for _, name := range slices.SortedFunc(maps.Keys(header), cmp.Compare[string]) {
		fmt.Fprintf(&b, "%s: %s\r\n", name, header[name][0])
	}
	b.WriteString("\r\n" + data)
	return b.Bytes(), nil
}

func value(s *string, fallback string) string {
	if s == nil {
		return fallback
	}
	return *s
}

// encodeForm encodes a form in which nothing is encoded yet.
func encodeForm(data string) string {
	if decoded, err := url.QueryUnescape(data); err != nil || decoded != data {
		return data
	}
	fields := strings.Split(data, "&")
	for i, field := range fields {
		name, content, found := strings.Cut(field, "=")
		fields[i] = url.QueryEscape(name)
		if found {
			fields[i] += "=" + url.QueryEscape(content)
		}
	}
	return strings.Join(fields, "&")
}

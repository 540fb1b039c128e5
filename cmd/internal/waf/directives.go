package waf

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Options are what a Firewall is made of. The zero value takes the defaults.
type Options struct {
	// ParanoiaLevel is the core rule set's: 1, the default, hardly ever refuses what is legitimate; each level up to 4 adds
	// rules that find more and refuse more.
	ParanoiaLevel int
	// Threshold is the anomaly score at which a request is refused. Default 5, the score of one critical finding.
	Threshold int
	// Methods are the HTTP methods that are not refused. Default GET, HEAD, POST and OPTIONS, the rule set's own.
	Methods []string
	// BodyLimit is the length in bytes of the longest request body that is inspected and passed on; a longer one is refused
	// with 413. Default 65536. To inspect a body takes some five milliseconds of processor time for each KiB.
	BodyLimit int
	// Concurrency is how many requests are inspected at one time; others wait. An inspection keeps one processor busy and takes
	// up to some 10 MiB. Default 4.
	Concurrency int
}

const (
	// The rule set's own suggestions for the number and lengths of arguments (crs-setup.conf, rules 920360, 920380 and 920390).
	// Its limit on the length of a single argument, 400, is left out: an SSH key is longer.
	maxArguments       = 255
	maxArgumentName    = 100
	maxArgumentsLength = 64000
)

func (o Options) withDefaults() Options {
	o.ParanoiaLevel = cmp.Or(o.ParanoiaLevel, 1)
	o.Threshold = cmp.Or(o.Threshold, 5)
	if o.Methods == nil {
		o.Methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions}
	}
	o.BodyLimit = cmp.Or(o.BodyLimit, 64<<10)
	o.Concurrency = cmp.Or(o.Concurrency, 4)
	return o
}

// Validate returns every error at once.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	fail := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: \"%v\" is not allowed: it must be %s", key, value, allowed))
	}
	if o.ParanoiaLevel < 1 || o.ParanoiaLevel > 4 {
		fail("paranoiaLevel", o.ParanoiaLevel, "from 1 to 4")
	}
	if o.Threshold < 1 || o.Threshold > 1000 {
		fail("threshold", o.Threshold, "from 1 to 1000")
	}
	if o.BodyLimit < 1<<10 || o.BodyLimit > 16<<20 {
		fail("bodyLimit", o.BodyLimit, "from 1024 to 16777216 bytes")
	}
	if o.Concurrency < 1 || o.Concurrency > 1000 {
		fail("concurrency", o.Concurrency, "from 1 to 1000")
	}
	if len(o.Methods) == 0 {
		fail("methods", "", "at least one HTTP method")
	}
	for _, m := range o.Methods {
		// The list becomes part of a rule.
		if m == "" || strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			fail("methods", m, "an HTTP method in capital letters")
		}
	}
	return errors.Join(errs...)
}

// directives are the engine's configuration, in SecLang.
//
// What comes later overrides what came before: first Coraza's recommendations, which parse bodies by their content type
// and refuse those that cannot be parsed, then what differs here, then the rule set. Its rules for responses are left out:
// answers come from the deployment's own services and are not inspected.
func (o Options) directives() string {
	return fmt.Sprintf(`
Include @coraza.conf-recommended
SecRuleEngine On
SecRequestBodyAccess On
SecRequestBodyLimit %[1]d
SecRequestBodyInMemoryLimit %[1]d
SecRequestBodyLimitAction Reject
SecResponseBodyAccess Off
SecAuditEngine Off
Include @crs-setup.conf.example
SecAction "id:900000,phase:1,pass,nolog,\
  setvar:tx.blocking_paranoia_level=%[2]d,\
  setvar:tx.inbound_anomaly_score_threshold=%[3]d,\
  setvar:'tx.allowed_methods=%[4]s',\
  setvar:tx.crs_validate_utf8_encoding=1,\
  setvar:tx.max_num_args=%[5]d,\
  setvar:tx.arg_name_length=%[6]d,\
  setvar:tx.total_arg_length=%[7]d"
Include @owasp_crs/REQUEST-*.conf
`, o.BodyLimit+1, o.ParanoiaLevel, o.Threshold, strings.Join(o.Methods, " "), maxArguments, maxArgumentName, maxArgumentsLength)
}

package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// problems collects the findings of a validation.
type problems []error

// add records that the value of key is not allowed; allowed says what is.
func (p *problems) add(key string, value any, allowed string) {
	if d, ok := value.(time.Duration); ok {
		value = formatDuration(d)
	}
	*p = append(*p, fmt.Errorf("%s: %q is not allowed: %s", key, fmt.Sprint(value), allowed))
}

func (p *problems) err() error { return errors.Join(*p...) }

// text refuses what cannot be written into a configuration file.
func (p *problems) text(key, value string) bool {
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		p.add(key, value, "it must be valid UTF-8 without NUL")
		return false
	}
	return true
}

func (p *problems) required(key, value string) bool {
	if value == "" {
		p.add(key, value, "it must be set")
		return false
	}
	return p.text(key, value)
}

func (p *problems) trustDomain(key, value string) (spiffeid.TrustDomain, bool) {
	td, err := spiffeid.TrustDomainFromString(value)
	// TrustDomainFromString also takes a SPIFFE ID and keeps its domain: the
	// domain has to be written as such.
	if err != nil || td.Name() != value {
		p.add(key, value, "it must be a trust domain name: lower-case letters, digits, dots, dashes and underscores, no scheme, no path")
		return spiffeid.TrustDomain{}, false
	}
	return td, true
}

// file checks the path of a file inside a container.
func (p *problems) file(key, value string) bool {
	if !p.required(key, value) {
		return false
	}
	if !path.IsAbs(value) || path.Clean(value) != value || value == "/" {
		p.add(key, value, "it must be an absolute path without . and .. elements")
		return false
	}
	return true
}

// socket checks the path of a Unix socket. Linux takes at most 107 bytes.
func (p *problems) socket(key, value string) {
	if p.file(key, value) && len(value) > 107 {
		p.add(key, value, "the path of a Unix socket must not be longer than 107 bytes")
	}
}

func (p *problems) port(key string, value int) {
	if value < 1 || value > 65535 {
		p.add(key, value, "it must be a port from 1 to 65535")
	}
}

func (p *problems) ip(key, value string) {
	if _, err := netip.ParseAddr(value); err != nil {
		p.add(key, value, "it must be an IP address")
	}
}

var dnsName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)

// host checks a DNS name or an IP address, without a port.
func (p *problems) host(key, value string) {
	if net.ParseIP(value) != nil {
		return
	}
	if len(value) > 253 || !dnsName.MatchString(value) {
		p.add(key, value, "it must be a DNS name in lower case or an IP address, without scheme and port")
	}
}

func (p *problems) positive(key string, value time.Duration) bool {
	if value <= 0 {
		p.add(key, value, "it must be greater than zero")
		return false
	}
	return true
}

func (p *problems) atLeast(key string, value, floor time.Duration, reason string) bool {
	if value < floor {
		p.add(key, value, fmt.Sprintf("it must be at least %s: %s", formatDuration(floor), reason))
		return false
	}
	return true
}

func (p *problems) oneOf(key, value string, allowed ...string) bool {
	if !slices.Contains(allowed, value) {
		p.add(key, value, "it must be one of "+strings.Join(allowed, ", "))
		return false
	}
	return true
}

// logging checks level and format. The messages that make an audit trail
// ("API accessed" of the server, "Creating X509-SVID" of the agent) are logged
// at level INFO, so a higher level would silence them.
func (p *problems) logging(level, format string, audited bool) {
	if p.oneOf("log_level", level, "DEBUG", "INFO", "WARN", "ERROR") && audited && (level == "WARN" || level == "ERROR") {
		p.add("log_level", level, "it must be INFO or DEBUG, because the audit trail is logged at INFO")
	}
	p.oneOf("log_format", format, "json", "text")
}

// A DNS-1123 label names a Kubernetes object that is also used as a DNS label,
// such as a namespace.
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (p *problems) kubernetesName(key, value string) {
	if !dnsLabel.MatchString(value) {
		p.add(key, value, "it must be a Kubernetes name: lower-case letters, digits and dashes, at most 63")
	}
}

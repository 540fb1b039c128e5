package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An hclWriter prints HCL 1 in the form that SPIRE's documentation uses. It
// keeps the order in which it is called, so its output is deterministic.
type hclWriter struct {
	b     strings.Builder
	depth int
}

// block prints header { body }. The header is made by the caller from
// constants and hclQuote.
func (w *hclWriter) block(header string, body func()) {
	w.line(header + " {")
	w.depth++
	body()
	w.depth--
	w.line("}")
}

// plugin prints a plugin of the given type and name with its plugin_data.
func (w *hclWriter) plugin(kind, name string, data func()) {
	w.block(kind+" "+hclQuote(name), func() { w.block("plugin_data", data) })
}

func (w *hclWriter) text(key, value string) { w.line(key + " = " + hclQuote(value)) }

// values prints values, one after the other, as one text.
func (w *hclWriter) values(key string, values ...Value) { w.line(key + " = " + expandable(values)) }

func (w *hclWriter) number(key string, value int) { w.line(key + " = " + strconv.Itoa(value)) }

func (w *hclWriter) boolean(key string, value bool) { w.line(key + " = " + strconv.FormatBool(value)) }

func (w *hclWriter) duration(key string, value time.Duration) { w.text(key, formatDuration(value)) }

func (w *hclWriter) list(key string, values []string) {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = hclQuote(v)
	}
	w.line(key + " = [" + strings.Join(quoted, ", ") + "]")
}

func (w *hclWriter) line(s string) {
	w.b.WriteString(strings.Repeat("    ", w.depth))
	w.b.WriteString(s)
	w.b.WriteByte('\n')
}

func (w *hclWriter) String() string { return w.b.String() }

// hclQuote quotes a valid UTF-8 string so that no content can end the string
// or start an interpolation. HCL 1 reads "${" as the start of an expression in
// which quotes do not count, and SPIRE replaces "$NAME" by the environment when
// it runs with -expandEnv, so a dollar sign is written as an escape, like
// everything that is not printable ASCII.
func hclQuote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= 0x20 && r < 0x7f && r != '$':
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// formatDuration prints a duration without the zero units that
// time.Duration.String adds: "24h", not "24h0m0s".
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Package waf is the gateways' web application firewall: the engine Coraza with the OWASP core rule set, refusing what it
// finds.
//
// In: HTTP requests. Out: those that pass, with their body read and inspected, at the next handler; for the others an answer
// and one line in the log, without anything of the request that may be secret.
//
// # What it does not see
//
// Answers; the contents of uploaded files, of which the engine inspects names and headers only; and what an application
// would decode further than the rules do. It is one layer: what is behind it has to check its input as if it were not there.
package waf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
)

// RequestIDHeader is the header of the answer in which an outer handler has put the request's ID. It is part of the log
// line and of the answer to a refused request, so that a user's complaint can be found.
const RequestIDHeader = "X-Request-Id"

// Firewall inspects requests. It is safe for concurrent use.
type Firewall struct {
	engine coraza.WAF
	limit  int64
	room   chan struct{} // holds one for each inspection under way
	log    *slog.Logger

	mu     sync.Mutex
	counts Counts
}

// Counts are the requests by what became of them; each is counted once.
type Counts struct {
	// Allowed went to the next handler.
	Allowed uint64 `json:"allowed"`
	// Blocked were refused by the rules, or because they are made to escape or to exhaust them.
	Blocked uint64 `json:"blocked"`
	// TooLarge had a body longer than the limit.
	TooLarge uint64 `json:"too_large"`
	// Unreadable had a body that did not arrive as announced, or too slowly.
	Unreadable uint64 `json:"unreadable"`
	// Overloaded waited in vain for their inspection, because too many others were under way.
	Overloaded uint64 `json:"overloaded"`
	// Failed could not be inspected, and were refused.
	Failed uint64 `json:"failed"`
	// Classes counts blocked requests by the rule set's attack classes ("sqli", "xss"), once for each class that was found.
	Classes map[string]uint64 `json:"classes"`
}

// New returns a firewall that logs to log. It fails when the options are wrong, or when the directory for temporary files,
// where the parts of multipart bodies are inspected, is not writable.
func New(o Options, log *slog.Logger) (*Firewall, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("web application firewall: %w", err)
	}
	o = o.withDefaults()
	return build(o, o.directives(), log)
}

func build(o Options, directives string, log *slog.Logger) (*Firewall, error) {
	engine, err := coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(coreruleset.FS).WithDirectives(directives))
	if err != nil {
		return nil, fmt.Errorf("web application firewall: %w", err)
	}
	return &Firewall{
		engine: engine, limit: int64(o.BodyLimit), room: make(chan struct{}, o.Concurrency), log: log,
		counts: Counts{Classes: map[string]uint64{}},
	}, nil
}

// Counts returns the counts so far.
func (f *Firewall) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := f.counts
	counts.Classes = maps.Clone(f.counts.Classes)
	return counts
}

func (f *Firewall) count(update func(*Counts)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	update(&f.counts)
}

// Handler passes requests in which nothing is found to next. What is refused never reaches it: head and body are inspected
// before next is called, and the request that it gets has the inspected bytes as its body.
//
// A request that is refused for what it is, is answered with 403, whatever status a rule suggests; one whose body is too long
// with 413; one whose body cannot be read with 400; one that waited in vain with 503; one that cannot be inspected with 500.
func (f *Firewall) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, status := f.inspect(w, r)
		if status != 0 {
			refuse(w, status)
			return
		}
		f.count(func(c *Counts) { c.Allowed++ })
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		next.ServeHTTP(w, r)
	})
}

// maxWait bounds the wait for an inspection to begin.
const maxWait = 5 * time.Second

// inspect returns the body, or the status with which the request is refused.
func (f *Firewall) inspect(w http.ResponseWriter, r *http.Request) ([]byte, int) {
	id := w.Header().Get(RequestIDHeader)
	if err := checkHead(r); err != nil {
		return nil, f.blocked(r, id, unsuitable(err))
	}
	body, err := f.read(w, r)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		f.count(func(c *Counts) { c.TooLarge++ })
		return nil, http.StatusRequestEntityTooLarge
	case err != nil:
		f.count(func(c *Counts) { c.Unreadable++ })
		return nil, http.StatusBadRequest
	}
	if err := checkBody(r, body); err != nil {
		return nil, f.blocked(r, id, unsuitable(err))
	}

	// Only now does the request take part in what is bounded: a slow client keeps nobody waiting.
	waiting, stop := context.WithTimeout(r.Context(), maxWait)
	defer stop()
	select {
	case f.room <- struct{}{}:
	case <-waiting.Done():
		f.count(func(c *Counts) { c.Overloaded++ })
		return nil, http.StatusServiceUnavailable
	}
	defer func() { <-f.room }()
	found, err := f.evaluate(r, id, body)
	switch {
	case err != nil:
		f.count(func(c *Counts) { c.Failed++ })
		f.log.Error("a request could not be inspected", "request_id", id, "error", err)
		return nil, http.StatusInternalServerError
	case found != nil:
		return nil, f.blocked(r, id, *found)
	}
	return body, 0
}

// evaluate lets the engine judge a request, and returns nil when it finds nothing that refuses it.
func (f *Firewall) evaluate(r *http.Request, id string, body []byte) (*finding, error) {
	tx := f.engine.NewTransactionWithID(id)
	defer func() {
		tx.ProcessLogging()
		if err := tx.Close(); err != nil {
			f.log.Error("a transaction of the web application firewall did not end", "request_id", id, "error", err)
		}
	}()
	if head(tx, r) != nil {
		return findingOf(tx), nil
	}
	interruption, _, err := tx.WriteRequestBody(body)
	if err == nil && interruption == nil {
		// Also without a body: most rules about the head are of this phase, and so is the decision.
		interruption, err = tx.ProcessRequestBody()
	}
	if err != nil || interruption == nil {
		return nil, err
	}
	return findingOf(tx), nil
}

// head lets the engine see everything that net/http has kept of the request's head. The target is the one on the wire, not
// net/http's parse of it, in which some evasions have disappeared.
func head(tx types.Transaction, r *http.Request) *types.Interruption {
	client, port := clientOf(r)
	tx.ProcessConnection(client, port, "", 0)
	tx.ProcessURI(r.RequestURI, r.Method, r.Proto)
	for name, values := range r.Header {
		for _, value := range values {
			tx.AddRequestHeader(name, value)
		}
	}
	// net/http keeps the host apart, and refuses HTTP/1.1 without one: what is empty there was sent empty.
	if r.Host != "" || r.ProtoAtLeast(1, 1) {
		tx.AddRequestHeader("Host", r.Host)
		tx.SetServerName(r.Host)
	}
	for _, encoding := range r.TransferEncoding {
		tx.AddRequestHeader("Transfer-Encoding", encoding)
	}
	return tx.ProcessRequestHeaders()
}

func clientOf(r *http.Request) (address string, port int) {
	host, number, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr, 0
	}
	port, _ = strconv.Atoi(number)
	return host, port
}

// read returns the whole body. A length that is announced too long is refused before a byte of it is read.
func (f *Firewall) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > f.limit {
		// Its rest would otherwise be taken for the next request, or read to the end.
		w.Header().Set("Connection", "close")
		return nil, &http.MaxBytesError{Limit: f.limit}
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	return io.ReadAll(http.MaxBytesReader(w, r.Body, f.limit))
}

// finding is why a request is refused.
type finding struct {
	reason  string
	rules   []int
	classes []string
	score   int
}

// unsuitable is the finding about a request that the engine does not get to see.
func unsuitable(err error) finding {
	return finding{reason: err.Error(), rules: []int{}, classes: []string{"protocol"}}
}

// The rules of Coraza's own recommendations that refuse a body, which are tagged with no class of attack.
const (
	unparsable   = 200002
	badMultipart = 200003
)

// findingOf lists what the engine found.
func findingOf(tx types.Transaction) *finding {
	f := finding{reason: "rules", rules: []int{}, score: score(tx)}
	classes := map[string]bool{}
	for _, match := range tx.MatchedRules() {
		found := match.Rule().ID() == unparsable || match.Rule().ID() == badMultipart
		for _, tag := range match.Rule().Tags() {
			if class, ok := strings.CutPrefix(tag, "attack-"); ok {
				classes[class] = true
				found = true
			}
		}
		// The others prepare, skip or decide.
		if found {
			f.rules = append(f.rules, match.Rule().ID())
		}
	}
	f.classes = slices.Sorted(maps.Keys(classes))
	return &f
}

// logged bounds what a line of the log repeats of a request.
const logged = 256

// blocked counts and logs a request that is refused. Nothing of its headers, query and body goes into the log: they may hold
// secrets, and belong to people.
func (f *Firewall) blocked(r *http.Request, id string, found finding) int {
	f.count(func(c *Counts) {
		c.Blocked++
		for _, class := range found.classes {
			c.Classes[class]++
		}
	})
	client, _ := clientOf(r)
	f.log.Warn("request blocked", "request_id", id, "client", client, "method", cut(r.Method), "path", cut(r.URL.Path),
		"reason", found.reason, "rules", found.rules, "classes", found.classes, "anomaly_score", found.score)
	return http.StatusForbidden
}

// score is the request's anomaly score, 0 when it was refused without one.
func score(tx types.Transaction) int {
	state, ok := tx.(plugintypes.TransactionState)
	if !ok {
		return 0
	}
	values := state.Variables().TX().Get("blocking_inbound_anomaly_score")
	if len(values) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(values[0])
	return n
}

func cut(s string) string {
	if len(s) > logged {
		return strings.ToValidUTF8(s[:logged], "") + "..."
	}
	return s
}

// Refusal is the body of an answer to a refused request. It does not say which rule refused it.
type Refusal struct {
	Error     string `json:"error"`
	RequestID string `json:"request_id,omitempty"`
}

func refuse(w http.ResponseWriter, status int) {
	message := map[int]string{
		http.StatusForbidden: "the request was refused", http.StatusRequestEntityTooLarge: "the request's body is too long",
		http.StatusBadRequest: "the request's body could not be read", http.StatusInternalServerError: "the request could not be inspected",
		http.StatusServiceUnavailable: "there are too many requests at this moment",
	}[status]
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Refusal{Error: message, RequestID: w.Header().Get(RequestIDHeader)})
}

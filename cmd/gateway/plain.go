package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"ephemos.dev/deploy/cmd/internal/calls"
)

// Stats is the body of /stats. Fields that the services have too have their names (cmd/internal/chain, Stats).
type Stats struct {
	Service  string `json:"service"`
	SPIFFEID string `json:"spiffe_id"`
	// Serial and NotAfter describe the SVID held now; both are empty while none is held.
	Serial   string     `json:"svid_serial"`
	NotAfter *time.Time `json:"svid_not_after"`
	// TTL is the lifetime the SVID was issued with, in seconds; Remaining is what is left of it.
	TTL       int64 `json:"svid_ttl_seconds"`
	Remaining int64 `json:"svid_remaining_seconds"`
	// Rotations counts the changes of the SVID since the program started.
	Rotations uint64 `json:"rotations"`
	// Calls counts calls to the upstream.
	Calls calls.Snapshot `json:"calls"`
	// LastError is the newest error of a call, and LastErrorAt its time.
	LastError   string     `json:"last_error"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
	// Latency is that of the latest thousand calls that got an answer.
	Latency Latency `json:"latency"`
	// Requests counts clients' requests.
	Requests Requests `json:"requests"`
	// Edge describes the certificate that clients are shown.
	Edge Edge `json:"edge"`
	// Started is when the program started: a smaller count than before means that it was restarted.
	Started time.Time `json:"started"`
}

// Latency is in milliseconds.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// Requests counts clients' requests by what became of them. Those that net/http refuses, because they are not HTTP or their
// head is too long, are not seen.
type Requests struct {
	// Allowed passed the firewall. Of these, Unrouted had no route, Failed got no answer from the upstream, and the clients of
	// Abandoned went away; the others were answered by the upstream.
	Allowed   uint64 `json:"allowed"`
	Unrouted  uint64 `json:"unrouted"`
	Failed    uint64 `json:"failed"`
	Abandoned uint64 `json:"abandoned"`
	// Blocked were refused by the firewall's rules, Classes by class of attack: a request may be of several.
	Blocked uint64            `json:"blocked"`
	Classes map[string]uint64 `json:"blocked_by_class"`
	// Rejected could not be inspected: the body was too long, could not be read, or the firewall failed.
	Rejected uint64 `json:"rejected"`
	// Limited were beyond their client's rate, Overloaded beyond the number of requests in flight or of inspections.
	Limited    uint64 `json:"limited"`
	Overloaded uint64 `json:"overloaded"`
	// TurnedAway counts connections beyond their number.
	TurnedAway uint64 `json:"connections_turned_away"`
}

// Edge describes the certificate that clients are shown.
type Edge struct {
	// Source is svid or files.
	Source   string     `json:"source"`
	DNSNames []string   `json:"dns_names,omitempty"`
	NotAfter *time.Time `json:"not_after,omitempty"`
}

// plain is the plaintext API for the kubelet, the status command and the metrics collector. It shows no key material.
func (g *Gateway) plain() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", g.ready)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(g.stats())
	})
	mux.HandleFunc("GET /metrics", g.metrics)
	return mux
}

// ready answers 200 while an SVID and an edge certificate that have not expired are held, and the program is not about to
// stop. That it stops is told at the health path instead, where there is one.
func (g *Gateway) ready(w http.ResponseWriter, _ *http.Request) {
	problem := g.problem()
	if problem == "" && g.leaving.Load() && g.config.HealthPath == "" {
		problem = "stopping"
	}
	if problem != "" {
		http.Error(w, problem, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// healthy answers at the edge whether more requests may be sent there. Strangers can ask, so it does not say why not.
func (g *Gateway) healthy(w http.ResponseWriter) {
	if g.leaving.Load() || g.problem() != "" {
		fail(w, http.StatusServiceUnavailable, "not now")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

// problem says what keeps the gateway from serving, or nothing.
func (g *Gateway) problem() string {
	status, now := g.holder.Status(), time.Now()
	certificate, err := g.edge.certificate()
	switch {
	case status.Serial == "":
		return "no SVID yet"
	case now.After(status.NotAfter):
		return "the SVID expired at " + status.NotAfter.Format(time.RFC3339)
	case err != nil:
		return "no edge certificate yet"
	case now.After(certificate.Leaf.NotAfter):
		return "the edge certificate expired at " + certificate.Leaf.NotAfter.Format(time.RFC3339)
	}
	return ""
}

func (g *Gateway) requests() Requests {
	firewall, made := g.firewall.Counts(), g.proxy.made.Snapshot()
	return Requests{
		Allowed: firewall.Allowed, Unrouted: g.proxy.unrouted.Load(), Failed: made.Failed + made.Denied, Abandoned: g.proxy.left.Load(),
		Blocked: firewall.Blocked, Classes: firewall.Classes, Rejected: firewall.TooLarge + firewall.Unreadable + firewall.Failed,
		Limited: g.limited.Load(), Overloaded: g.overloaded.Load() + firewall.Overloaded, TurnedAway: g.turnedAway.Load(),
	}
}

func (g *Gateway) stats() Stats {
	status, made := g.holder.Status(), g.proxy.made.Snapshot()
	stats := Stats{
		Service: g.config.Name, SPIFFEID: status.SPIFFEID, Serial: status.Serial, Rotations: status.Rotations,
		Calls: made, LastError: made.LastError, Latency: Latency{P50: milliseconds(made.P50), P99: milliseconds(made.P99)},
		Requests: g.requests(), Edge: Edge{Source: "svid"}, Started: g.started,
	}
	if g.files != nil {
		stats.Edge.Source = "files"
	}
	if status.Serial != "" {
		stats.NotAfter = &status.NotAfter
		stats.TTL = int64(status.NotAfter.Sub(status.NotBefore).Seconds())
		stats.Remaining = int64(time.Until(status.NotAfter).Seconds())
	}
	if certificate, err := g.edge.certificate(); err == nil {
		stats.Edge.DNSNames, stats.Edge.NotAfter = certificate.Leaf.DNSNames, &certificate.Leaf.NotAfter
	}
	if !made.LastErrorAt.IsZero() {
		stats.LastErrorAt = &made.LastErrorAt
	}
	return stats
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// metrics writes the Prometheus text format, version 0.0.4. What the services have too has their names.
func (g *Gateway) metrics(w http.ResponseWriter, _ *http.Request) {
	status, made, requests := g.holder.Status(), g.proxy.made.Snapshot(), g.requests()
	var b bytes.Buffer
	family := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	sample := func(name, labels string, value float64) {
		fmt.Fprintf(&b, "%s{service=%q%s} %s\n", name, g.config.Name, labels, strconv.FormatFloat(value, 'g', -1, 64))
	}

	family("gateway_requests_total", "counter", "Clients' requests by what the gateway did with them.")
	for _, r := range []struct {
		result string
		n      uint64
	}{
		{"allowed", requests.Allowed}, {"blocked", requests.Blocked}, {"rejected", requests.Rejected},
		{"limited", requests.Limited}, {"overloaded", requests.Overloaded},
	} {
		sample("gateway_requests_total", fmt.Sprintf(",result=%q", r.result), float64(r.n))
	}
	family("gateway_requests_unrouted_total", "counter", "Allowed requests for which there was no route.")
	sample("gateway_requests_unrouted_total", "", float64(requests.Unrouted))
	family("gateway_requests_abandoned_total", "counter", "Allowed requests whose client went away.")
	sample("gateway_requests_abandoned_total", "", float64(requests.Abandoned))
	family("gateway_attacks_total", "counter", "Blocked requests by class of attack, once for each class that was found.")
	for _, class := range slices.Sorted(maps.Keys(requests.Classes)) {
		sample("gateway_attacks_total", fmt.Sprintf(",class=%q", class), float64(requests.Classes[class]))
	}
	family("gateway_connections_turned_away_total", "counter", "Connections beyond their number.")
	sample("gateway_connections_turned_away_total", "", float64(requests.TurnedAway))

	family("workload_calls_total", "counter", "Calls to the next service by how they ended.")
	sample("workload_calls_total", `,result="ok"`, float64(made.OK))
	sample("workload_calls_total", `,result="failed"`, float64(made.Failed))
	sample("workload_calls_total", `,result="denied"`, float64(made.Denied))
	family("workload_call_retries_total", "counter", "Attempts beyond the first of each call.")
	sample("workload_call_retries_total", "", float64(made.Retried))
	family("workload_call_duration_seconds", "histogram", "Duration of successful calls, retries included.")
	cumulative, sum := g.proxy.made.Histogram()
	for i, bound := range calls.BucketBounds {
		sample("workload_call_duration_seconds_bucket", fmt.Sprintf(`,le="%g"`, bound), float64(cumulative[i]))
	}
	total := float64(cumulative[len(calls.BucketBounds)])
	sample("workload_call_duration_seconds_bucket", `,le="+Inf"`, total)
	sample("workload_call_duration_seconds_sum", "", sum)
	sample("workload_call_duration_seconds_count", "", total)

	family("workload_svid_rotations_total", "counter", "Changes of the service's own SVID.")
	sample("workload_svid_rotations_total", "", float64(status.Rotations))
	if status.Serial != "" {
		family("workload_svid_not_after_timestamp_seconds", "gauge", "End of the SVID held now, as Unix time.")
		sample("workload_svid_not_after_timestamp_seconds", "", float64(status.NotAfter.Unix()))
	}
	if certificate, err := g.edge.certificate(); err == nil {
		family("gateway_edge_certificate_not_after_timestamp_seconds", "gauge", "End of the certificate that clients are shown, as Unix time.")
		sample("gateway_edge_certificate_not_after_timestamp_seconds", "", float64(certificate.Leaf.NotAfter.Unix()))
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

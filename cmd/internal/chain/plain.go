package chain

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"ephemos.dev/deploy/cmd/internal/calls"
	"ephemos.dev/deploy/cmd/internal/chain/cache"
	"ephemos.dev/deploy/cmd/internal/chain/queue"
)

// Stats is the body of /stats.
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
	// Calls counts calls to the next service; Served counts requests of callers.
	Calls  calls.Snapshot `json:"calls"`
	Served Served         `json:"served"`
	// LastError is the newest error of a call, and LastErrorAt its time.
	LastError   string     `json:"last_error"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
	// Latency is that of the latest thousand successful calls, or of requests served at the end of the chain.
	Latency Latency `json:"latency"`
	// Cache is what became of reads and writes of the cache, and Queue of announcements; absent without one.
	Cache *cache.Snapshot `json:"cache,omitempty"`
	Queue *queue.Snapshot `json:"queue,omitempty"`
	// Started is when the program started: a smaller count than before means that it was restarted.
	Started time.Time `json:"started"`
}

// Served counts the requests that reached the mutual-TLS API.
type Served struct {
	OK     uint64 `json:"ok"`
	Failed uint64 `json:"failed"`
	// Refused counts connections refused in the handshake, for the peer's SPIFFE ID or an invalid certificate.
	Refused uint64 `json:"refused"`
}

// Latency is in milliseconds.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// plain is the plaintext API for the kubelet, the status command and the metrics collector. It shows no key material.
func (s *Service) plain() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.stats()) })
	mux.HandleFunc("GET /metrics", s.metrics)
	if s.place.Drives {
		call := func(w http.ResponseWriter, r *http.Request) {
			answer, err := s.answer(r.Context(), "")
			writeJSON(w, statusFor(err), answer)
		}
		mux.HandleFunc("GET /call", call)
		mux.HandleFunc("POST /call", call)
	}
	return mux
}

// ready answers 200 while an SVID that has not expired is held and the program is not about to stop.
func (s *Service) ready(w http.ResponseWriter, _ *http.Request) {
	status := s.holder.Status()
	switch {
	case s.leaving.Load():
		http.Error(w, "stopping", http.StatusServiceUnavailable)
	case status.Serial == "":
		http.Error(w, "no SVID yet", http.StatusServiceUnavailable)
	case time.Now().After(status.NotAfter):
		http.Error(w, "the SVID expired at "+status.NotAfter.Format(time.RFC3339), http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ok")
	}
}

func (s *Service) stats() Stats {
	status, made, served := s.holder.Status(), s.made.Snapshot(), s.served.Snapshot()
	latest := made
	if s.client == nil {
		latest = served
	}
	stats := Stats{
		Service: s.place.Name, SPIFFEID: status.SPIFFEID, Serial: status.Serial, Rotations: status.Rotations,
		Calls:     made,
		Served:    Served{OK: served.OK, Failed: served.Failed + served.Denied, Refused: s.server.Refused()},
		LastError: latest.LastError,
		Latency:   Latency{P50: milliseconds(latest.P50), P99: milliseconds(latest.P99)},
		Started:   s.started,
	}
	stats.Cache, stats.Queue = s.data.snapshots()
	if status.Serial != "" {
		stats.NotAfter = &status.NotAfter
		stats.TTL = int64(status.NotAfter.Sub(status.NotBefore).Seconds())
		stats.Remaining = int64(time.Until(status.NotAfter).Seconds())
	}
	if !latest.LastErrorAt.IsZero() {
		stats.LastErrorAt = &latest.LastErrorAt
	}
	return stats
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// metrics writes the Prometheus text format, version 0.0.4.
func (s *Service) metrics(w http.ResponseWriter, _ *http.Request) {
	status, made, served := s.holder.Status(), s.made.Snapshot(), s.served.Snapshot()
	var b bytes.Buffer
	family := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	sample := func(name, labels string, value float64) {
		fmt.Fprintf(&b, "%s{service=%q%s} %s\n", name, s.place.Name, labels, strconv.FormatFloat(value, 'g', -1, 64))
	}

	family("workload_calls_total", "counter", "Calls to the next service by how they ended.")
	sample("workload_calls_total", `,result="ok"`, float64(made.OK))
	sample("workload_calls_total", `,result="failed"`, float64(made.Failed))
	sample("workload_calls_total", `,result="denied"`, float64(made.Denied))
	family("workload_call_retries_total", "counter", "Attempts beyond the first of each call.")
	sample("workload_call_retries_total", "", float64(made.Retried))

	family("workload_call_duration_seconds", "histogram", "Duration of successful calls, retries included.")
	cumulative, sum := s.made.Histogram()
	for i, bound := range calls.BucketBounds {
		sample("workload_call_duration_seconds_bucket", fmt.Sprintf(`,le="%g"`, bound), float64(cumulative[i]))
	}
	total := float64(cumulative[len(calls.BucketBounds)])
	sample("workload_call_duration_seconds_bucket", `,le="+Inf"`, total)
	sample("workload_call_duration_seconds_sum", "", sum)
	sample("workload_call_duration_seconds_count", "", total)

	family("workload_served_total", "counter", "Requests on the mutual-TLS API by how they ended.")
	sample("workload_served_total", `,result="ok"`, float64(served.OK))
	sample("workload_served_total", `,result="failed"`, float64(served.Failed+served.Denied))
	family("workload_peers_refused_total", "counter",
		"Connections refused in the handshake, for the peer's SPIFFE ID or an invalid certificate.")
	sample("workload_peers_refused_total", "", float64(s.server.Refused()))

	kept, announced := s.data.snapshots()
	gauge := func(up bool) float64 {
		if up {
			return 1
		}
		return 0
	}
	if kept != nil {
		family("workload_cache_requests_total", "counter", "Requests to the cache by how they ended.")
		for _, r := range []struct {
			result string
			count  uint64
		}{{"hit", kept.Hits}, {"miss", kept.Misses}, {"kept", kept.Kept}, {"error", kept.Errors}, {"skipped", kept.Skipped}} {
			sample("workload_cache_requests_total", fmt.Sprintf(",result=%q", r.result), float64(r.count))
		}
		family("workload_cache_connected", "gauge", "1 while the cache is used, 0 while it is left out.")
		sample("workload_cache_connected", "", gauge(kept.Connected))
	}
	if announced != nil {
		family("workload_queue_messages_total", "counter", "Messages for the queue by what became of them.")
		for _, r := range []struct {
			result string
			count  uint64
		}{{"published", announced.Published}, {"dropped", announced.Dropped}, {"error", announced.Errors}} {
			sample("workload_queue_messages_total", fmt.Sprintf(",result=%q", r.result), float64(r.count))
		}
		family("workload_queue_waiting", "gauge", "Messages that wait for the queue.")
		sample("workload_queue_waiting", "", float64(announced.Waiting))
		family("workload_queue_connected", "gauge", "1 while the queue is used, 0 while there is none.")
		sample("workload_queue_connected", "", gauge(announced.Connected))
	}

	family("workload_svid_rotations_total", "counter", "Changes of the service's own SVID.")
	sample("workload_svid_rotations_total", "", float64(status.Rotations))
	if status.Serial != "" {
		family("workload_svid_not_after_timestamp_seconds", "gauge", "End of the SVID held now, as Unix time.")
		sample("workload_svid_not_after_timestamp_seconds", "", float64(status.NotAfter.Unix()))
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

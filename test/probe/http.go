package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"ephemos.dev/deploy/test/probe/window"
)

// operationTimeout bounds /verify and /cleanup, which may page through many entries.
const operationTimeout = time.Minute

// report is the body of /windows: for each kind of attempt, what happened between from and to.
type report struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Writes summary   `json:"writes"`
	SVIDs  summary   `json:"svids"`
}

// summary describes the attempts of one kind.
type summary struct {
	OK     int `json:"ok"`
	Failed int `json:"failed"`
	// Gaps are the longest stretches without a success, the longest first.
	Gaps []window.Gap `json:"gaps"`
}

// handler serves the prober's results.
//
//	GET  /events?since=            finished attempts as JSON lines; since is RFC 3339, default everything
//	GET  /windows?from=&to=&n=     the n (default 5) longest gaps; from defaults to the start, to to now
//	GET  /verify                   acknowledged entries that are missing
//	POST /cleanup                  deletes all entries of the prober; creation pauses meanwhile
//	GET  /healthz, /readyz         alive; an identity is held
//
// /verify and /cleanup answer 503 while no identity is held and 502 when the servers fail.
func (p *prober) handler(started time.Time) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := p.backend(); err != nil {
			fail(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		since, err := moment(r, "since", started)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/jsonl")
		encoder := json.NewEncoder(w)
		for _, e := range p.journal.since(since) {
			if encoder.Encode(e) != nil {
				return
			}
		}
	})
	mux.HandleFunc("GET /windows", func(w http.ResponseWriter, r *http.Request) {
		from, err := moment(r, "from", started)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		to, err := moment(r, "to", time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		n := 5
		if text := r.URL.Query().Get("n"); text != "" {
			if n, err = strconv.Atoi(text); err != nil || n < 1 {
				http.Error(w, fmt.Sprintf("n: %q is not allowed: it must be a positive number", text), http.StatusBadRequest)
				return
			}
		}
		writeJSON(w, http.StatusOK, report{
			From: from, To: to,
			Writes: summarise(p.journal.attempts(create), from, to, n),
			SVIDs:  summarise(p.journal.attempts(mint), from, to, n),
		})
	})
	mux.HandleFunc("GET /verify", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), operationTimeout)
		defer cancel()
		v, err := p.verify(ctx)
		if err != nil {
			fail(w, err)
			return
		}
		writeJSON(w, http.StatusOK, v)
	})
	mux.HandleFunc("POST /cleanup", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), operationTimeout)
		defer cancel()
		deleted, err := p.cleanup(ctx)
		if err != nil {
			fail(w, fmt.Errorf("%d deleted, then: %w", deleted, err))
			return
		}
		writeJSON(w, http.StatusOK, map[string]int{"deleted": deleted})
	})
	return mux
}

// fail answers with the error of an operation on the servers.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway
	if errors.Is(err, errNotReady) {
		status = http.StatusServiceUnavailable
	}
	http.Error(w, err.Error(), status)
}

func summarise(attempts []window.Attempt, from, to time.Time, n int) summary {
	ok, failed := window.Count(attempts, from, to)
	return summary{OK: ok, Failed: failed, Gaps: window.Longest(attempts, from, to, n)}
}

func moment(r *http.Request, key string, fallback time.Time) (time.Time, error) {
	text := r.URL.Query().Get(key)
	if text == "" {
		return fallback, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %q is not allowed: it must be a time as in RFC 3339, such as 2006-01-02T15:04:05.999Z", key, text)
	}
	return t, nil
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

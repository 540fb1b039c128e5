package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Why a packet was dropped.
const (
	droppedKernel = iota
	droppedMalformed
	droppedQueue
	droppedTable
	droppedReasons
)

var dropReasons = [droppedReasons]string{"kernel", "malformed", "queue_full", "table_full"}

// counters are the program's figures.
type counters struct {
	packets, ignored, evicted, reopened atomic.Uint64
	dropped                             [droppedReasons]atomic.Uint64
	// events by type and severity, suppressed by type.
	events     [3][5]atomic.Uint64
	suppressed [3]atomic.Uint64

	connections, sources atomic.Int64
	// open says that the netfilter log is being read.
	open atomic.Bool
}

// plain is the plaintext API for the kubelet and the metrics collector. It says nothing about addresses or pods.
func plain(d *detector, who *directory, counts *counters) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !d.alive(time.Now()) {
			http.Error(w, "the tables have not been looked at for a while", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case !counts.open.Load():
			http.Error(w, "the netfilter log is not open", http.StatusServiceUnavailable)
		case !who.synced():
			http.Error(w, "pods and nodes have not been listed yet", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ok")
		}
	})
	mux.HandleFunc("GET /metrics", counts.metrics)
	return mux
}

// metrics writes the Prometheus text format, version 0.0.4.
func (c *counters) metrics(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	family := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	sample := func(name, labels string, value float64) {
		fmt.Fprintf(&b, "%s%s %s\n", name, labels, strconv.FormatFloat(value, 'g', -1, 64))
	}

	family("flowlog_packets_total", "counter", "Packets that the netfilter log delivered.")
	sample("flowlog_packets_total", "", float64(c.packets.Load()))
	family("flowlog_packets_ignored_total", "counter", "Of those, packets of rules that do not refuse.")
	sample("flowlog_packets_ignored_total", "", float64(c.ignored.Load()))
	family("flowlog_packets_dropped_total", "counter", "Packets that were lost before they could be reported.")
	for i, reason := range dropReasons {
		sample("flowlog_packets_dropped_total", fmt.Sprintf("{reason=%q}", reason), float64(c.dropped[i].Load()))
	}
	family("flowlog_events_total", "counter", "Events that were written.")
	for i, kind := range eventTypes {
		for j, severity := range severities {
			sample("flowlog_events_total", fmt.Sprintf("{event_type=%q,severity=%q}", kind, severity), float64(c.events[i][j].Load()))
		}
	}
	family("flowlog_events_suppressed_total", "counter", "Events that were not written because there were too many.")
	for i, kind := range eventTypes {
		sample("flowlog_events_suppressed_total", fmt.Sprintf("{event_type=%q}", kind), float64(c.suppressed[i].Load()))
	}
	family("flowlog_sources_evicted_total", "counter", "Sources that were forgotten to make room for others.")
	sample("flowlog_sources_evicted_total", "", float64(c.evicted.Load()))
	family("flowlog_reopened_total", "counter", "Attempts to open the netfilter log again.")
	sample("flowlog_reopened_total", "", float64(c.reopened.Load()))
	family("flowlog_connections", "gauge", "Refused connections that are remembered.")
	sample("flowlog_connections", "", float64(c.connections.Load()))
	family("flowlog_sources", "gauge", "Sources that are remembered.")
	sample("flowlog_sources", "", float64(c.sources.Load()))
	open := 0.0
	if c.open.Load() {
		open = 1
	}
	family("flowlog_open", "gauge", "Whether the netfilter log is being read.")
	sample("flowlog_open", "", open)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

package main

import (
	"sync"
	"time"

	"ephemos.dev/deploy/test/probe/window"
)

// operation is what an attempt does.
type operation string

const (
	create operation = "create" // BatchCreateEntry: a write that the database must acknowledge
	mint   operation = "mint"   // MintX509SVID: the issuance of an SVID
)

// event is one finished attempt, as /events shows it.
type event struct {
	Sequence  int       `json:"seq"`
	Operation operation `json:"op"`
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
	OK        bool      `json:"ok"`
	// EntryID is the ID of the entry whose creation was acknowledged.
	EntryID string `json:"entry_id,omitempty"`
	// Error is the gRPC status, or why the answer was no success.
	Error string `json:"error,omitempty"`
}

// journal records events. It is safe for concurrent use and keeps everything: a day at ten attempts a second is about a
// million events, and tests last minutes.
type journal struct {
	mu        sync.Mutex
	events    []event
	forgotten int // how many of the first events created entries that have been deleted since
}

func (j *journal) add(e event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Sequence = len(j.events) + 1
	j.events = append(j.events, e)
}

// since returns the events that ended at or after t, in the order in which they ended.
func (j *journal) since(t time.Time) []event {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []event
	for _, e := range j.events {
		if !e.End.Before(t) {
			out = append(out, e)
		}
	}
	return out
}

// attempts returns the attempts of one operation.
func (j *journal) attempts(op operation) []window.Attempt {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []window.Attempt
	for _, e := range j.events {
		if e.Operation == op {
			out = append(out, window.Attempt{Start: e.Start, End: e.End, OK: e.OK})
		}
	}
	return out
}

// forget makes acknowledged leave out everything recorded so far.
func (j *journal) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.forgotten = len(j.events)
}

// acknowledged returns the IDs of the entries whose creation was acknowledged.
func (j *journal) acknowledged() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for _, e := range j.events[j.forgotten:] {
		if e.Operation == create && e.OK {
			out = append(out, e.EntryID)
		}
	}
	return out
}

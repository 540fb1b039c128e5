package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// backend is what the prober needs of the servers.
type backend interface {
	create(ctx context.Context) (string, error)
	mint(ctx context.Context) error
	list(ctx context.Context) ([]string, error)
	remove(ctx context.Context, ids []string) (int, error)
}

// errNotReady is returned while no identity is held.
var errNotReady = errors.New("no SVID yet")

// prober makes attempts at a steady rate and records them.
type prober struct {
	journal journal
	timeout time.Duration // of one attempt

	connected atomic.Pointer[backend] // nil while no identity is held
	creating  sync.RWMutex            // held for reading by each creation, for writing by cleanup
}

func (p *prober) connect(b backend) { p.connected.Store(&b) }

func (p *prober) backend() (backend, error) {
	b := p.connected.Load()
	if b == nil {
		return nil, errNotReady
	}
	return *b, nil
}

// run makes attempts of both kinds until ctx ends and waits for those in progress. connect must have been called.
func (p *prober) run(ctx context.Context, createRate, mintRate float64) error {
	b, err := p.backend()
	if err != nil {
		return err
	}
	var loops sync.WaitGroup
	loops.Go(func() {
		every(ctx, createRate, func() {
			if p.creating.TryRLock() {
				defer p.creating.RUnlock()
				p.attempt(ctx, create, b.create)
			}
		})
	})
	loops.Go(func() {
		every(ctx, mintRate, func() {
			p.attempt(ctx, mint, func(ctx context.Context) (string, error) { return "", b.mint(ctx) })
		})
	})
	loops.Wait()
	return nil
}

// attempt makes one attempt. It is not cut short when the prober is told to stop: an entry that was created but not
// recorded would be neither acknowledged nor unacknowledged.
func (p *prober) attempt(ctx context.Context, op operation, do func(context.Context) (string, error)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.timeout)
	defer cancel()
	e := event{Operation: op, Start: time.Now()}
	id, err := do(ctx)
	e.End, e.OK, e.EntryID = time.Now(), err == nil, id
	if err != nil {
		e.Error = err.Error()
	}
	p.journal.add(e)
}

// every starts f at the rate (in starts a second; 0: never) until ctx ends and waits for those that run. A slow f does
// not lower the rate, so the record has the same resolution while the servers are away.
func every(ctx context.Context, rate float64, f func()) {
	if rate <= 0 {
		return
	}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer ticker.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			running.Go(f)
		}
	}
}

// verification is the body of /verify.
type verification struct {
	// Acknowledged counts the entries whose creation was acknowledged; Found counts the entries that exist. More may exist:
	// an attempt that timed out may have been carried out.
	Acknowledged int `json:"acknowledged"`
	Found        int `json:"found"`
	// Missing lists the acknowledged entries that do not exist: lost writes.
	Missing []string `json:"missing"`
}

// verify compares what was acknowledged with what exists. Entries acknowledged before the listing began are expected.
func (p *prober) verify(ctx context.Context) (verification, error) {
	b, err := p.backend()
	if err != nil {
		return verification{}, err
	}
	acknowledged := p.journal.acknowledged()
	ids, err := b.list(ctx)
	if err != nil {
		return verification{}, err
	}
	exists := make(map[string]bool, len(ids))
	for _, id := range ids {
		exists[id] = true
	}
	v := verification{Acknowledged: len(acknowledged), Found: len(ids), Missing: []string{}}
	for _, id := range acknowledged {
		if !exists[id] {
			v.Missing = append(v.Missing, id)
		}
	}
	return v, nil
}

// cleanup deletes all entries of the prober, those of earlier runs included. No entry is created meanwhile, and those
// acknowledged before are no longer expected to exist.
func (p *prober) cleanup(ctx context.Context) (int, error) {
	b, err := p.backend()
	if err != nil {
		return 0, err
	}
	p.creating.Lock()
	defer p.creating.Unlock()
	p.journal.forget()
	ids, err := b.list(ctx)
	if err != nil {
		return 0, err
	}
	return b.remove(ctx, ids)
}

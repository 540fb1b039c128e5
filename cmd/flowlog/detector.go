package main

import (
	"container/list"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// queueLength is the number of packets that may wait to be counted.
	queueLength = 4096
	// beat is the time between two looks at the tables; a packet is reported that much later at most.
	beat = 200 * time.Millisecond
	// settling is how long a report waits for the API to tell of an address that nobody seems to have.
	settling = 3 * time.Second
	// maxTargets bounds the targets of one source that are told apart within a window.
	maxTargets = 256
	// shownTargets bounds the targets that a port scan's event lists.
	shownTargets = 10
	// share is the part of the table of connections that one source may take.
	share = 8
	// burst is the number of events that may come at once, in seconds' worth.
	burst = 10
)

// A detector turns packets into events. Its methods are called by one goroutine, except alive.
type detector struct {
	config Config
	who    attribution
	counts *counters
	out    *json.Encoder
	log    *slog.Logger

	connections map[connectionKey]*connection
	// unsettled are connections that have not been reported yet, scanning the sources whose scan has not been.
	unsettled []*connection
	scanning  []*origin
	// origins by address, and the same with those that were quiet longest at the end.
	origins map[netip.Addr]*list.Element
	quiet   *list.List

	lines, patterns bucket
	// seen is the time of the last look at the tables, in nanoseconds since 1970.
	seen atomic.Int64
}

// attribution is what a detector asks a directory.
type attribution interface {
	lookup(netip.Addr) Party
	zones() *zoneModel
}

// A connectionKey is what makes two packets repetitions of each other. The source's port differs with every attempt.
type connectionKey struct {
	from netip.Addr
	target
}

// A connection is refused packets of one window with the same key.
type connection struct {
	key         connectionKey
	origin      *origin
	fromPort    uint16
	stray       bool
	first, last time.Time
	count       uint64 // of packets
	counted     uint64 // of those, how many the lines so far have counted
	// again is when to look once more for an end that was not known.
	again time.Time
}

// An origin is an address that refused packets came from.
type origin struct {
	address     netip.Addr
	last        time.Time
	connections int // in the table
	// targets are the latest times that it was refused at each.
	targets map[target]time.Time
	pruned  time.Time
	// scanSince is when an unreported scan was found, scanned when the last one was reported.
	scanSince, scanned time.Time
	violations         map[string]*violations
}

// violations are those of one origin into one zone.
type violations struct {
	reported time.Time
	since    uint64 // connections since then
}

func newDetector(config Config, who attribution, counts *counters, events io.Writer, log *slog.Logger) *detector {
	d := &detector{
		config: config, who: who, counts: counts, out: json.NewEncoder(events), log: log,
		connections: map[connectionKey]*connection{}, origins: map[netip.Addr]*list.Element{}, quiet: list.New(),
		lines:    bucket{rate: float64(config.MaxEvents), size: burst * float64(config.MaxEvents)},
		patterns: bucket{rate: float64(config.MaxEvents), size: burst * float64(config.MaxEvents)},
	}
	d.out.SetEscapeHTML(false)
	d.seen.Store(time.Now().UnixNano())
	return d
}

// run counts the packets of the queue and reports until ctx ends, and at the end what has not been reported.
func (d *detector) run(ctx context.Context, queue <-chan packet) error {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case p := <-queue:
			d.observe(p, time.Now())
		case now := <-ticker.C:
			if err := d.tick(now, false); err != nil {
				return err
			}
		case <-ctx.Done():
			return d.tick(time.Now(), true)
		}
	}
}

// alive says whether the tables were looked at lately.
func (d *detector) alive(now time.Time) bool {
	return now.Sub(time.Unix(0, d.seen.Load())) < 30*time.Second
}

// observe counts a packet.
func (d *detector) observe(p packet, now time.Time) {
	o := d.origin(p.from, now)
	if !p.stray {
		d.scan(o, p.target, now)
	}
	key := connectionKey{p.from, p.target}
	c, known := d.connections[key]
	if !known {
		if len(d.connections) >= d.config.MaxConnections || o.connections >= max(1, d.config.MaxConnections/share) {
			d.counts.dropped[droppedTable].Add(1)
			return
		}
		c = &connection{key: key, origin: o, fromPort: p.fromPort, stray: true, first: now}
		o.connections++
		d.connections[key] = c
		d.unsettled = append(d.unsettled, c)
	}
	c.count++
	c.last = now
	c.stray = c.stray && p.stray
}

// origin returns what is known about an address. When there are too many, the one that was quiet longest is forgotten.
func (d *detector) origin(address netip.Addr, now time.Time) *origin {
	if e, known := d.origins[address]; known {
		d.quiet.MoveToFront(e)
		o := e.Value.(*origin)
		o.last = now
		return o
	}
	if len(d.origins) >= d.config.MaxSources {
		d.forget(d.quiet.Back())
		d.counts.evicted.Add(1)
	}
	o := &origin{address: address, last: now, targets: map[target]time.Time{}, violations: map[string]*violations{}}
	d.origins[address] = d.quiet.PushFront(o)
	return o
}

func (d *detector) forget(e *list.Element) {
	o := d.quiet.Remove(e).(*origin)
	delete(d.origins, o.address)
	if !o.scanSince.IsZero() {
		d.scanning = slices.DeleteFunc(d.scanning, func(other *origin) bool { return other == o })
	}
}

// scan notes a target, and that the origin is scanning when there are enough of them.
func (d *detector) scan(o *origin, t target, now time.Time) {
	if _, known := o.targets[t]; !known && len(o.targets) >= maxTargets {
		// Not at every packet of a flood.
		if now.Sub(o.pruned) > beat {
			o.expire(now, d.config.Window)
		}
		if len(o.targets) >= maxTargets {
			return
		}
	}
	o.targets[t] = now
	if len(o.targets) < d.config.ScanThreshold || !o.scanSince.IsZero() || now.Sub(o.scanned) < d.config.Window {
		return
	}
	o.expire(now, d.config.Window)
	if len(o.targets) >= d.config.ScanThreshold {
		o.scanSince = now
		d.scanning = append(d.scanning, o)
	}
}

// expire forgets targets that the origin was last refused at before the window.
func (o *origin) expire(now time.Time, window time.Duration) {
	o.pruned = now
	for t, last := range o.targets {
		if now.Sub(last) > window {
			delete(o.targets, t)
		}
	}
}

// tick reports what is due, and at the end everything. It fails when nothing can be written any more.
func (d *detector) tick(now time.Time, end bool) error {
	d.seen.Store(now.UnixNano())
	waiting := d.unsettled[:0]
	for _, c := range d.unsettled {
		done, err := d.settle(c, now, end)
		if err != nil {
			return err
		}
		if !done {
			waiting = append(waiting, c)
		}
	}
	clear(d.unsettled[len(waiting):])
	d.unsettled = waiting

	scanning := d.scanning[:0]
	for _, o := range d.scanning {
		from := d.who.lookup(o.address)
		if from.Kind == KindUnknown && now.Sub(o.scanSince) < d.wait() && !end {
			scanning = append(scanning, o)
			continue
		}
		if err := d.reportScan(o, from, now); err != nil {
			return err
		}
	}
	clear(d.scanning[len(scanning):])
	d.scanning = scanning

	for key, c := range d.connections {
		if !end && now.Sub(c.first) < d.config.Window {
			continue
		}
		if c.count > c.counted {
			from, to := d.ends(c)
			if _, err := d.report(c, from, to, now); err != nil {
				return err
			}
		}
		delete(d.connections, key)
		c.origin.connections--
	}
	for e := d.quiet.Back(); e != nil; e = d.quiet.Back() {
		if o := e.Value.(*origin); now.Sub(o.last) < 2*d.config.Window || o.connections > 0 {
			break
		}
		d.forget(e)
	}
	d.counts.connections.Store(int64(len(d.connections)))
	d.counts.sources.Store(int64(len(d.origins)))
	return nil
}

// wait is how long an unknown address is waited for.
func (d *detector) wait() time.Duration { return min(settling, d.config.Window/2) }

func (d *detector) ends(c *connection) (from, to Party) {
	from, to = d.who.lookup(c.key.from), d.who.lookup(c.key.to)
	if c.key.hasPorts() {
		from.Port, to.Port = c.fromPort, c.key.port
	}
	return from, to
}

// settle reports a connection for the first time, unless it is worth waiting for more about its ends.
func (d *detector) settle(c *connection, now time.Time, end bool) (done bool, err error) {
	if now.Before(c.again) && !end {
		return false, nil
	}
	from, to := d.ends(c)
	if (from.Kind == KindUnknown || to.Kind == KindUnknown) && now.Sub(c.first) < d.wait() && !end {
		c.again = now.Add(d.wait() / 3)
		return false, nil
	}
	violation, err := d.report(c, from, to, now)
	if err != nil || violation == "" {
		return true, err
	}
	v, known := c.origin.violations[to.Zone]
	if !known {
		v = &violations{}
		c.origin.violations[to.Zone] = v
	}
	v.since++
	if now.Sub(v.reported) < d.config.Window {
		return true, nil
	}
	written, err := d.emit(&d.patterns, ZoneViolation, severityOf(violation), from, now, Violation{
		Protocol: c.key.name(), From: from, To: to, Violation: violation, SkipsTier: violation == skipsTier, Connections: v.since,
	})
	if written {
		v.reported, v.since = now, 0
	}
	return true, err
}

// report writes a line about a connection and returns what it violates.
func (d *detector) report(c *connection, from, to Party, now time.Time) (violation string, err error) {
	model := d.who.zones()
	allows := !c.stray && model.allows(from, to, c.key.target)
	if !c.stray && !allows { // what the model allows was refused too early or too late, and breaks nothing
		violation = model.violation(from.Zone, to.Zone)
	}
	detail := Denied{
		Protocol: c.key.name(), From: from, To: to, Violation: violation, SkipsTier: violation == skipsTier,
		ModelAllows: allows, Stray: c.stray,
		Count: c.count - c.counted, Repeated: c.counted > 0, FirstSeen: c.first.UTC(), LastSeen: c.last.UTC(),
	}
	if c.key.protocol == protocolICMP || c.key.protocol == protocolICMPv6 {
		kind, code := uint8(c.key.port>>8), uint8(c.key.port)
		detail.ICMPType, detail.ICMPCode = &kind, &code
	}
	severity := Medium
	switch {
	case c.stray:
		severity = Info
	case from.Zone != "" && from.Zone == to.Zone:
		severity = Low
	}
	written, err := d.emit(&d.lines, ConnectionDenied, severity, from, now, detail)
	if written {
		c.counted = c.count
	}
	return violation, err
}

func (d *detector) reportScan(o *origin, from Party, now time.Time) error {
	o.scanSince = time.Time{}
	o.expire(now, d.config.Window)
	type entry struct {
		target
		last time.Time
	}
	found := make([]entry, 0, len(o.targets))
	addresses, ports := map[netip.Addr]bool{}, map[uint32]bool{}
	for t, last := range o.targets {
		found = append(found, entry{t, last})
		addresses[t.to] = true
		if t.hasPorts() {
			ports[uint32(t.protocol)<<16|uint32(t.port)] = true
		}
	}
	slices.SortFunc(found, func(a, b entry) int {
		if order := a.last.Compare(b.last); order != 0 {
			return order
		}
		return strings.Compare(a.String(), b.String())
	})
	detail := Scan{
		From: from, DistinctTargets: len(found), DistinctAddresses: len(addresses), DistinctPorts: len(ports),
		Threshold: d.config.ScanThreshold, WindowSeconds: int(d.config.Window.Seconds()),
	}
	for _, e := range found[:min(len(found), shownTargets)] {
		detail.Targets = append(detail.Targets, e.String())
	}
	written, err := d.emit(&d.patterns, PortScan, High, from, now, detail)
	if written {
		o.scanned = now
	}
	return err
}

// emit writes an event, unless there have been too many of them, and says whether it has.
func (d *detector) emit(budget *bucket, kind string, severity Severity, from Party, now time.Time, details any) (bool, error) {
	if !budget.take(now) {
		d.counts.suppressed[slices.Index(eventTypes, kind)].Add(1)
		return false, nil
	}
	event := Event{
		Timestamp: now.UTC(), EventType: kind, Severity: severity, Source: "intrusion-detection",
		TrustDomain: d.config.TrustDomain.Name(), Details: details, Metadata: Metadata{NodeID: d.config.Node, Group: d.config.Group},
	}
	if from.spiffePath != "" {
		event.SPIFFEID = d.config.TrustDomain.IDString() + from.spiffePath
	}
	if err := d.out.Encode(event); err != nil {
		return false, err
	}
	d.counts.events[slices.Index(eventTypes, kind)][slices.Index(severities, severity)].Add(1)
	return true, nil
}

// A bucket allows events at a rate a second, and some more at once.
type bucket struct {
	rate, size float64
	level      float64
	filled     time.Time
}

func (b *bucket) take(now time.Time) bool {
	if b.filled.IsZero() {
		b.level = b.size
	} else {
		b.level = min(b.size, b.level+b.rate*max(0, now.Sub(b.filled).Seconds()))
	}
	b.filled = now
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}

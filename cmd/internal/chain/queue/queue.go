// Package queue announces things on a NATS server that is reached over mutual TLS, and never makes anybody wait for it.
//
// In: a way to connect, a signal for each change of the identity, and messages. Out: the messages on one subject, each at
// most once, and counts of what became of them. Messages wait in a buffer while there is no server; when it is full, new
// ones are dropped. A message counts as published when the server has confirmed that it read it.
//
// With every change of the identity the connection is made anew, between two messages.
package queue

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Config says how to reach the server. The zero value of a duration or number takes its default.
type Config struct {
	// Dial makes a connection. Required.
	Dial func(context.Context) (net.Conn, error)
	// Name is what the server knows this client by, in its own reports.
	Name string
	// Subject is what messages are published on. Required.
	Subject string
	// DialTimeout bounds a connection with its handshake, and the first answer. Default 1s.
	DialTimeout time.Duration
	// Confirm is how long the server's confirmation is waited for. Default 2s.
	Confirm time.Duration
	// Retry is the pause between two attempts to connect. Default 500ms.
	Retry time.Duration
	// Buffer is how many messages can wait. Default 1024.
	Buffer int
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, fallback time.Duration) {
		if *d == 0 {
			*d = fallback
		}
	}
	set(&c.DialTimeout, time.Second)
	set(&c.Confirm, 2*time.Second)
	set(&c.Retry, 500*time.Millisecond)
	if c.Buffer == 0 {
		c.Buffer = 1024
	}
	return c
}

// batch is how many messages at most one confirmation is for.
const batch = 64

// Snapshot is what became of the messages so far. Every message is counted once when it is no longer waiting.
type Snapshot struct {
	// Published counts messages that the server has confirmed.
	Published uint64 `json:"published"`
	// Dropped counts messages that were never sent: the buffer was full, or the program stopped.
	Dropped uint64 `json:"dropped"`
	// Errors counts messages that were sent and not confirmed. The server may have read them; they are not sent again.
	Errors uint64 `json:"errors"`
	// Waiting counts messages in the buffer now.
	Waiting int `json:"waiting"`
	// Connected says that there is a server.
	Connected bool `json:"connected"`
	// LastError is the text of the newest failure, also of an attempt to connect, and LastErrorAt its time.
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
}

// Queue is a client of one server.
type Queue struct {
	config Config
	log    *slog.Logger

	waiting   chan []byte
	renewed   chan struct{}
	connected chan struct{} // sent on after each connection

	published, dropped, errors atomic.Uint64
	conn                       atomic.Pointer[nats.Conn]

	mu          sync.Mutex
	lastError   string
	lastErrorAt time.Time
}

// New returns a client that is not connected. Run connects it.
func New(config Config, log *slog.Logger) *Queue {
	config = config.withDefaults()
	return &Queue{
		config: config, log: log,
		waiting: make(chan []byte, config.Buffer), renewed: make(chan struct{}, 1), connected: make(chan struct{}, 1),
	}
}

// Renew makes Run replace the connection. It is to be called after every change of the identity, and never blocks.
func (q *Queue) Renew() { signal(q.renewed) }

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// Publish puts a message into the buffer, or drops it. It never blocks. The message must not be changed afterwards.
func (q *Queue) Publish(message []byte) {
	select {
	case q.waiting <- message:
	default:
		q.dropped.Add(1)
	}
}

// Snapshot returns the counts.
func (q *Queue) Snapshot() Snapshot {
	s := Snapshot{
		Published: q.published.Load(), Dropped: q.dropped.Load(), Errors: q.errors.Load(),
		Waiting: len(q.waiting),
	}
	if conn := q.conn.Load(); conn != nil {
		s.Connected = conn.IsConnected()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.LastError = q.lastError; s.LastError != "" {
		at := q.lastErrorAt
		s.LastErrorAt = &at
	}
	return s
}

func (q *Queue) note(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lastError, q.lastErrorAt = err.Error(), time.Now()
}

// Run connects and publishes until ctx ends. Then it publishes what is waiting if it is connected, drops the rest, and
// closes the connection.
func (q *Queue) Run(ctx context.Context) {
	conn, err := nats.Connect("nats://queue:4222", q.options(ctx)...)
	if err != nil {
		// Only options that contradict each other come here: a server that is not there is tried again.
		q.note(err)
		q.log.Error("the queue's client cannot be started", "error", err)
		return
	}
	q.conn.Store(conn)
	defer conn.Close()
	var unsent [][]byte
	for ctx.Err() == nil {
		if !conn.IsConnected() {
			select {
			case <-ctx.Done():
			case <-q.connected:
			}
			continue
		}
		if len(unsent) == 0 {
			select {
			case <-ctx.Done():
				continue
			case <-q.connected:
				continue
			case <-q.renewed:
				if err := conn.ForceReconnect(); err != nil {
					q.note(err)
				}
				continue
			case message := <-q.waiting:
				unsent = q.more(append(unsent, message))
			}
		}
		unsent = q.send(context.WithoutCancel(ctx), conn, unsent)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.config.Confirm)
	defer cancel()
	for conn.IsConnected() && last.Err() == nil {
		if unsent = q.more(unsent); len(unsent) == 0 {
			break
		}
		unsent = q.send(last, conn, unsent)
	}
	q.dropped.Add(uint64(len(unsent) + len(q.waiting)))
}

// more fills a batch with messages that wait already.
func (q *Queue) more(messages [][]byte) [][]byte {
	for len(messages) < batch {
		select {
		case message := <-q.waiting:
			messages = append(messages, message)
		default:
			return messages
		}
	}
	return messages
}

// send publishes messages and waits for the confirmation. It returns those that were not sent because the connection was
// lost before.
func (q *Queue) send(ctx context.Context, conn *nats.Conn, messages [][]byte) (unsent [][]byte) {
	sent := 0
	for i, message := range messages {
		err := conn.Publish(q.config.Subject, message)
		if err == nil {
			sent++
			continue
		}
		q.note(err)
		if !conn.IsConnected() {
			unsent = messages[i:]
			break
		}
		// It is this message that cannot be sent, for its size say.
		q.dropped.Add(1)
	}
	if sent == 0 {
		return unsent
	}
	ctx, cancel := context.WithTimeout(ctx, q.config.Confirm)
	defer cancel()
	if err := conn.FlushWithContext(ctx); err != nil {
		q.errors.Add(uint64(sent))
		q.note(err)
		q.log.Warn("the queue has not confirmed", "messages", sent, "error", err)
	} else {
		q.published.Add(uint64(sent))
	}
	return unsent
}

func (q *Queue) options(ctx context.Context) []nats.Option {
	connected := func(*nats.Conn) {
		signal(q.connected)
		q.log.Info("the queue is used")
	}
	return []nats.Option{
		nats.Name(q.config.Name), nats.SetCustomDialer(dialer{ctx, q.config}), nats.SkipHostLookup(),
		nats.Timeout(q.config.DialTimeout), nats.FlusherTimeout(q.config.Confirm),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(q.config.Retry), nats.ReconnectJitter(q.config.Retry/2, q.config.Retry/2),
		// While there is no connection, messages wait here and not in the library, where they would count as sent.
		nats.ReconnectBufSize(-1),
		// A server that is gone without a word is noticed after half a minute at the latest; each confirmation notices sooner.
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(connected), nats.ReconnectHandler(connected),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { q.note(err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				q.note(err)
				q.log.Warn("the queue is lost", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { q.note(err) }),
	}
}

// dialer makes the library's connections. TLS is part of them, so the protocol inside has none.
type dialer struct {
	ctx    context.Context
	config Config
}

func (d dialer) Dial(string, string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, d.config.DialTimeout)
	defer cancel()
	return d.config.Dial(ctx)
}

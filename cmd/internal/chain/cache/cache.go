// Package cache keeps values in a Redis that is reached over mutual TLS, and never makes anybody wait for it.
//
// In: a way to connect, a signal for each change of the identity, and values under keys. Out: values that were kept, and
// counts of what became of each request. A value that is not there, a server that is lost or slow, all look the same to the
// caller: nothing was kept. A read takes at most Config.Timeout, a write no time at all.
//
// # The circuit
//
// Requests use one pool of connections while it works. Several failures one after another, or more than one in five for a
// while, break the circuit: requests then fail at once, and the pool is closed. In the background a new pool is tried, with
// pauses that grow, until a server answers. No connection is made, and no handshake waited for, within a request while the
// circuit is broken: each failure costs a connection, and a machine that is too busy to answer in time must not be made busier
// by handshakes.
//
// # Rotation
//
// With every change of the identity a new pool takes over, and the old one is closed once no request can still be using it.
// If no server answers the new identity, the circuit is broken.
package cache

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Config says how to reach the server and how long to wait for it. The zero value of a duration or number takes its default.
type Config struct {
	// Dial makes a connection. Required. It must return within DialTimeout when its context has that deadline.
	Dial func(context.Context) (net.Conn, error)
	// Timeout bounds a read, and a write in the background. Default 25ms: a round trip through the tunnel takes about one.
	Timeout time.Duration
	// DialTimeout bounds a connection with its handshake, and the first answer. Default 1s.
	DialTimeout time.Duration
	// TTL is how long the server keeps a value. Default 5m.
	TTL time.Duration
	// Failures is how many requests have to fail one after another to break the circuit. Default 5.
	Failures int
	// Retry is the pause before a broken circuit is tried again. It doubles up to MaxRetry, until the circuit was whole for that
	// long. Default 250ms and 5s.
	Retry, MaxRetry time.Duration
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, fallback time.Duration) {
		if *d == 0 {
			*d = fallback
		}
	}
	set(&c.Timeout, 25*time.Millisecond)
	set(&c.DialTimeout, time.Second)
	set(&c.TTL, 5*time.Minute)
	set(&c.Retry, 250*time.Millisecond)
	set(&c.MaxRetry, 5*time.Second)
	if c.Failures == 0 {
		c.Failures = 5
	}
	return c
}

// Bounds of one process.
const (
	poolSize = 8
	idle     = 2
	idleTime = time.Minute // shorter than the server's own, so that it closes no connection that is about to be used
	writes   = 64          // values waiting to be written
	// MaxValue is the size in bytes of the largest value that is kept.
	MaxValue = 64 << 10
	// A failure weighs as much as this many answers.
	failureWeight = 4
)

// Snapshot is what became of the requests so far. Every read is counted once.
type Snapshot struct {
	// Hits and Misses count reads that the server answered.
	Hits   uint64 `json:"hits"`
	Misses uint64 `json:"misses"`
	// Errors counts reads and writes that failed or took too long.
	Errors uint64 `json:"errors"`
	// Skipped counts reads and writes that were not tried: the circuit was broken, too many writes were waiting, or the value is
	// larger than MaxValue.
	Skipped uint64 `json:"skipped"`
	// Kept counts values that the server has taken.
	Kept uint64 `json:"kept"`
	// Connected says that the circuit is whole.
	Connected bool `json:"connected"`
	// LastError is the text of the newest failure, also of an attempt to connect, and LastErrorAt its time.
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
}

// Cache is a client of one cache.
type Cache struct {
	config Config
	log    *slog.Logger

	client  atomic.Pointer[redis.Client] // nil while the circuit is broken
	score   atomic.Int64                 // of failures over answers, from 0
	broken  chan struct{}
	renewed chan struct{}
	waiting chan entry

	hits, misses, errors, skipped, kept atomic.Uint64
	mu                                  sync.Mutex
	lastError                           string
	lastErrorAt                         time.Time
}

type entry struct {
	key   string
	value []byte
}

// New returns a client whose circuit is broken until Run has connected it.
func New(config Config, log *slog.Logger) *Cache {
	silence()
	return &Cache{
		config: config.withDefaults(), log: log,
		broken: make(chan struct{}, 1), renewed: make(chan struct{}, 1), waiting: make(chan entry, writes),
	}
}

// silence keeps go-redis from writing to standard error in a format of its own: what fails here is counted and logged here.
var silence = sync.OnceFunc(func() { redis.SetLogger(discard{}) })

type discard struct{}

func (discard) Printf(context.Context, string, ...any) {}

// Renew makes Run replace all connections. It is to be called after every change of the identity, and never blocks.
func (c *Cache) Renew() { signal(c.renewed) }

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// Get returns the value that is kept under key, if there is one.
func (c *Cache) Get(ctx context.Context, key string) (value []byte, found bool) {
	client := c.client.Load()
	if client == nil {
		c.skipped.Add(1)
		return nil, false
	}
	bounded, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	value, err := client.Get(bounded, key).Bytes()
	switch {
	case err == nil:
		c.answered()
		c.hits.Add(1)
		return value, true
	case errors.Is(err, redis.Nil):
		c.answered()
		c.misses.Add(1)
	case ctx.Err() != nil:
		// Whoever asked has gone away, which says nothing about the server.
		c.skipped.Add(1)
	default:
		c.failed(client, err)
	}
	return nil, false
}

// Set keeps value under key for Config.TTL. It returns at once; the value is written in the background, or skipped.
func (c *Cache) Set(key string, value []byte) {
	if c.client.Load() != nil && len(value) <= MaxValue {
		select {
		case c.waiting <- entry{key, value}:
			return
		default:
		}
	}
	c.skipped.Add(1)
}

// answered makes up for a part of a failure.
func (c *Cache) answered() {
	if now := c.score.Load(); now > 0 {
		c.score.CompareAndSwap(now, now-1)
	}
}

// failed counts a failure and breaks the circuit after the last that is let pass.
func (c *Cache) failed(client *redis.Client, err error) {
	c.errors.Add(1)
	c.note(err)
	if c.score.Add(failureWeight) >= int64(c.config.Failures*failureWeight) && c.client.CompareAndSwap(client, nil) {
		c.log.Warn("the cache is left out", "error", err)
		c.retire(client)
		signal(c.broken)
	}
}

func (c *Cache) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastError, c.lastErrorAt = err.Error(), time.Now()
}

// Snapshot returns the counts.
func (c *Cache) Snapshot() Snapshot {
	s := Snapshot{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Errors: c.errors.Load(), Skipped: c.skipped.Load(), Kept: c.kept.Load(),
		Connected: c.client.Load() != nil,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.LastError = c.lastError; s.LastError != "" {
		at := c.lastErrorAt
		s.LastErrorAt = &at
	}
	return s
}

// Run connects, reconnects and writes until ctx ends, and then closes all connections.
func (c *Cache) Run(ctx context.Context) {
	var writing sync.WaitGroup
	writing.Go(func() { c.write(ctx) })
	defer writing.Wait()
	defer func() {
		if client := c.client.Swap(nil); client != nil {
			_ = client.Close()
		}
	}()
	for wait := c.config.Retry; ; {
		if !c.connect(ctx) {
			return
		}
		whole := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-c.renewed:
		case <-c.broken:
			if time.Since(whole) > c.config.MaxRetry {
				wait = c.config.Retry
			}
			if !pause(ctx, wait) {
				return
			}
			wait = min(2*wait, c.config.MaxRetry)
		}
	}
}

// connect puts a new pool in the place of the present one as soon as a server answers, and returns false when ctx ends before.
// Until the first attempt has failed, the present one goes on.
func (c *Cache) connect(ctx context.Context) bool {
	for wait := c.config.Retry; ; wait = min(2*wait, c.config.MaxRetry) {
		// What is asked for until now is done by what begins now.
		drain(c.renewed)
		drain(c.broken)
		client := c.open()
		err := client.Ping(ctx).Err()
		if err == nil {
			c.score.Store(0)
			if old := c.client.Swap(client); old != nil {
				c.retire(old)
			} else {
				c.log.Info("the cache is used")
			}
			return true
		}
		_ = client.Close()
		if ctx.Err() != nil {
			return false
		}
		c.note(err)
		if old := c.client.Swap(nil); old != nil {
			c.log.Warn("the cache is left out", "error", err)
			c.retire(old)
		}
		if !pause(ctx, wait) {
			return false
		}
	}
}

func drain(from chan struct{}) {
	select {
	case <-from:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// open returns a new pool. Its own timeouts are those of a connection; requests bring shorter ones.
func (c *Cache) open() *redis.Client {
	return redis.NewClient(&redis.Options{
		Dialer:      func(ctx context.Context, _, _ string) (net.Conn, error) { return c.config.Dial(ctx) },
		DialTimeout: c.config.DialTimeout, ReadTimeout: c.config.DialTimeout, WriteTimeout: c.config.DialTimeout,
		PoolTimeout: c.config.DialTimeout, ContextTimeoutEnabled: true,
		MaxRetries: -1, DialerRetries: 1, DialerRetryTimeout: time.Millisecond,
		PoolSize: poolSize, MaxActiveConns: poolSize, MinIdleConns: idle, ConnMaxIdleTime: idleTime,
		ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// retire closes a pool that no new request will use, when the last one that does has ended.
func (c *Cache) retire(client *redis.Client) {
	time.AfterFunc(2*c.config.Timeout, func() { _ = client.Close() })
}

func (c *Cache) write(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-c.waiting:
			client := c.client.Load()
			if client == nil {
				c.skipped.Add(1)
				continue
			}
			bounded, cancel := context.WithTimeout(ctx, c.config.Timeout)
			err := client.Set(bounded, e.key, e.value, c.config.TTL).Err()
			cancel()
			switch {
			case err == nil:
				c.answered()
				c.kept.Add(1)
			case ctx.Err() != nil:
				c.skipped.Add(1)
			default:
				c.failed(client, err)
			}
		}
	}
}

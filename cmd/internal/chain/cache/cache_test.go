package cache_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/chain/cache"
)

// fake is as much of a Redis as the client uses.
type fake struct {
	t *testing.T

	mu     sync.Mutex
	values map[string]string
	conns  map[net.Conn]bool
	made   int // connections so far

	down   atomic.Bool // refuses connections
	silent atomic.Bool // takes commands and does not answer
	hung   sync.WaitGroup
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, values: map[string]string{}, conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		f.cut()
		f.hung.Wait()
	})
	return f
}

// dial connects to the fake, as a tunnel would.
func (f *fake) dial(context.Context) (net.Conn, error) {
	if f.down.Load() {
		return nil, errors.New("nobody there")
	}
	client, server := net.Pipe()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made++
	f.conns[server] = true
	f.hung.Go(func() { f.serve(server) })
	return client, nil
}

// cut ends all connections.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		_ = conn.Close()
	}
}

func (f *fake) open() (now, made int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns), f.made
}

func (f *fake) serve(conn net.Conn) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.conns, conn)
		_ = conn.Close()
	}()
	reader := bufio.NewReader(conn)
	for {
		command, err := read(reader)
		if err != nil {
			return
		}
		if f.silent.Load() {
			continue
		}
		if _, err := io.WriteString(conn, f.answer(command)); err != nil {
			return
		}
	}
}

// read returns the words of one command.
func read(reader *bufio.Reader) ([]string, error) {
	var n int
	if _, err := fmt.Fscanf(reader, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	words := make([]string, n)
	for i := range words {
		var size int
		if _, err := fmt.Fscanf(reader, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(reader, word); err != nil {
			return nil, err
		}
		words[i] = string(word[:size])
	}
	return words, nil
}

func (f *fake) answer(command []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch strings.ToUpper(command[0]) {
	case "HELLO":
		return "%0\r\n"
	case "PING":
		return "+PONG\r\n"
	case "GET":
		value, kept := f.values[command[1]]
		if !kept {
			return "$-1\r\n"
		}
		return fmt.Sprintf("$%d\r\n%s\r\n", len(value), value)
	case "SET":
		if len(command) < 5 {
			return "-ERR a value without an end\r\n"
		}
		f.values[command[1]] = command[2]
		return "+OK\r\n"
	}
	return "-NOPERM " + command[0] + "\r\n"
}

const timeout = 100 * time.Millisecond

// start returns a client of the fake that is connected.
func start(t *testing.T, f *fake, timeout time.Duration) *cache.Cache {
	t.Helper()
	c := cache.New(cache.Config{
		Dial: f.dial, Timeout: timeout, DialTimeout: time.Second, Failures: 3, Retry: 10 * time.Millisecond, MaxRetry: 50 * time.Millisecond,
	}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		require.Eventually(t, func() bool { now, _ := f.open(); return now == 0 }, 5*time.Second, time.Millisecond, "all connections are closed")
	})
	connected(t, c, true)
	return c
}

func connected(t *testing.T, c *cache.Cache, want bool) {
	t.Helper()
	require.Eventually(t, func() bool { return c.Snapshot().Connected == want }, 5*time.Second, time.Millisecond, "connected: %t", want)
}

// keep waits until a value is kept.
func keep(t *testing.T, c *cache.Cache, key, value string) {
	t.Helper()
	before := c.Snapshot().Kept
	c.Set(key, []byte(value))
	require.Eventually(t, func() bool { return c.Snapshot().Kept == before+1 }, 5*time.Second, time.Millisecond)
}

func TestKeeps(t *testing.T) {
	c := start(t, newFake(t), timeout)
	_, found := c.Get(t.Context(), "a")
	require.False(t, found)
	keep(t, c, "a", "1")
	value, found := c.Get(t.Context(), "a")
	require.True(t, found)
	require.Equal(t, "1", string(value))

	c.Set("large", make([]byte, cache.MaxValue+1))
	require.Equal(t, cache.Snapshot{Hits: 1, Misses: 1, Kept: 1, Skipped: 1, Connected: true}, c.Snapshot())
}

func TestIsNotWaitedForBeforeItIsConnected(t *testing.T) {
	f := newFake(t)
	c := cache.New(cache.Config{Dial: f.dial}, slog.New(slog.DiscardHandler))
	_, found := c.Get(t.Context(), "a")
	require.False(t, found)
	c.Set("a", nil)
	require.Equal(t, cache.Snapshot{Skipped: 2}, c.Snapshot())
	_, made := f.open()
	require.Zero(t, made, "no connection is made within a request")
}

func TestASilentServerIsLeftOut(t *testing.T) {
	f := newFake(t)
	c := start(t, f, timeout)
	keep(t, c, "a", "1")
	f.silent.Store(true)
	for range 3 {
		begin := time.Now()
		_, found := c.Get(t.Context(), "a")
		require.False(t, found)
		require.Less(t, time.Since(begin), timeout+time.Second)
	}
	connected(t, c, false)
	require.EqualValues(t, 3, c.Snapshot().Errors)
	require.NotEmpty(t, c.Snapshot().LastError)
	require.WithinDuration(t, time.Now(), *c.Snapshot().LastErrorAt, 5*time.Second)

	begin := time.Now()
	for range 1000 {
		_, found := c.Get(t.Context(), "a")
		require.False(t, found)
	}
	require.Less(t, time.Since(begin), timeout, "a thousand take less than one did")
	require.EqualValues(t, 1000, c.Snapshot().Skipped)

	f.silent.Store(false)
	connected(t, c, true)
	_, found := c.Get(t.Context(), "a")
	require.True(t, found)
}

func TestALostServerIsLeftOutUntilItIsBack(t *testing.T) {
	f := newFake(t)
	c := start(t, f, timeout)
	keep(t, c, "a", "1")
	f.down.Store(true)
	f.cut()
	require.Eventually(t, func() bool { c.Get(t.Context(), "a"); return !c.Snapshot().Connected }, 5*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return strings.Contains(c.Snapshot().LastError, "nobody there") }, 5*time.Second, time.Millisecond)
	f.down.Store(false)
	connected(t, c, true)
	_, found := c.Get(t.Context(), "a")
	require.True(t, found)
}

// TestFailuresNowAndThenBreakNothing has one request in ten fail, and then one in two.
func TestFailuresNowAndThenBreakNothing(t *testing.T) {
	f := newFake(t)
	c := start(t, f, timeout)
	keep(t, c, "a", "1")
	fail := func(answers int) {
		f.silent.Store(true)
		_, found := c.Get(t.Context(), "a")
		require.False(t, found)
		f.silent.Store(false)
		for range answers {
			c.Get(t.Context(), "a")
		}
	}
	for range 5 {
		fail(9)
	}
	require.True(t, c.Snapshot().Connected)
	require.EqualValues(t, 5, c.Snapshot().Errors)
	require.EqualValues(t, 45, c.Snapshot().Hits)

	for range 10 {
		fail(1)
	}
	require.Less(t, c.Snapshot().Errors, uint64(5+10), "it was left out before the last one")
	require.NotZero(t, c.Snapshot().Skipped)
}

func TestACallerThatGoesAwayIsNoFailure(t *testing.T) {
	f := newFake(t)
	c := start(t, f, timeout)
	f.silent.Store(true)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		_, found := c.Get(gone, "a")
		require.False(t, found)
	}
	require.Zero(t, c.Snapshot().Errors)
	require.True(t, c.Snapshot().Connected)
}

// TestRenewReplacesEveryConnection reads without a pause while the connections are made anew.
func TestRenewReplacesEveryConnection(t *testing.T) {
	f := newFake(t)
	c := start(t, f, time.Second) // no read may fail, however busy the machine is
	keep(t, c, "a", "1")
	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	for range 4 {
		reading.Go(func() {
			ticker := time.NewTicker(time.Millisecond)
			defer ticker.Stop()
			for ctx.Err() == nil {
				<-ticker.C
				c.Get(ctx, "a")
			}
		})
	}
	for range 3 {
		f.mu.Lock()
		old := make([]net.Conn, 0, len(f.conns))
		for conn := range f.conns {
			old = append(old, conn)
		}
		f.mu.Unlock()
		require.NotEmpty(t, old)
		c.Renew()
		require.Eventually(t, func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, conn := range old {
				if f.conns[conn] {
					return false
				}
			}
			return len(f.conns) > 0
		}, 20*time.Second, time.Millisecond, "no connection that was open before is open now")
	}
	stop()
	reading.Wait()
	snapshot := c.Snapshot()
	require.Zero(t, snapshot.Errors, snapshot.LastError)
	require.Zero(t, snapshot.Misses)
	require.Greater(t, snapshot.Hits, uint64(100))
}

func TestRenewWithoutAServerBreaksTheCircuit(t *testing.T) {
	f := newFake(t)
	c := start(t, f, timeout)
	f.down.Store(true)
	c.Renew()
	connected(t, c, false)
	require.Eventually(t, func() bool { now, _ := f.open(); return now == 0 }, 5*time.Second, time.Millisecond,
		"connections of the identity before do not go on")
}

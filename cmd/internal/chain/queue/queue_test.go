package queue_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/chain/queue"
)

// fake is as much of a NATS server as a publisher uses.
type fake struct {
	mu       sync.Mutex
	messages []string
	conn     net.Conn
	made     int

	down   atomic.Bool // refuses connections
	silent atomic.Bool // reads and confirms nothing
	served sync.WaitGroup
}

func newFake(t *testing.T) *fake {
	f := &fake{}
	t.Cleanup(func() {
		f.cut()
		f.served.Wait()
	})
	return f
}

func (f *fake) dial(context.Context) (net.Conn, error) {
	if f.down.Load() {
		return nil, errors.New("nobody there")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	server, err := l.Accept()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn = server
	f.made++
	f.served.Go(func() { f.serve(server) })
	return client, nil
}

func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		_ = f.conn.Close()
	}
}

func (f *fake) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.made
}

func (f *fake) received() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.messages...)
}

func (f *fake) serve(conn net.Conn) {
	defer conn.Close()
	fmt.Fprint(conn, `INFO {"server_id":"x","version":"2.12.0","proto":1,"headers":true,"max_payload":100}`+"\r\n")
	reader := bufio.NewReader(conn)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "PING":
			if !f.silent.Load() {
				fmt.Fprint(conn, "PONG\r\n")
			}
		case words[0] == "PUB":
			size, err := strconv.Atoi(words[len(words)-1])
			if err != nil {
				return
			}
			payload := make([]byte, size+2)
			if _, err := io.ReadFull(reader, payload); err != nil {
				return
			}
			f.mu.Lock()
			f.messages = append(f.messages, words[1]+" "+string(payload[:size]))
			f.mu.Unlock()
		}
	}
}

// running is a client and its end.
type running struct {
	*queue.Queue
	stop func()
}

func start(t *testing.T, f *fake, buffer int) *running {
	t.Helper()
	q := queue.New(queue.Config{
		Dial: f.dial, Name: "test", Subject: "orders", DialTimeout: time.Second, Confirm: 200 * time.Millisecond,
		Retry: 10 * time.Millisecond, Buffer: buffer,
	}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() { q.Run(ctx) })
	stop := func() {
		cancel()
		working.Wait()
	}
	t.Cleanup(stop)
	return &running{q, stop}
}

func (r *running) eventually(t *testing.T, what string, holds func(queue.Snapshot) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return holds(r.Snapshot()) }, 5*time.Second, time.Millisecond, "%s", what)
}

func connected(s queue.Snapshot) bool { return s.Connected }

func published(n uint64) func(queue.Snapshot) bool {
	return func(s queue.Snapshot) bool { return s.Published == n }
}

func publish(q *running, from, to int) (want []string) {
	for i := from; i < to; i++ {
		q.Publish(fmt.Appendf(nil, "%d", i))
		want = append(want, fmt.Sprintf("orders %d", i))
	}
	return want
}

func TestPublishes(t *testing.T) {
	f := newFake(t)
	q := start(t, f, 1000)
	want := publish(q, 0, 500)
	q.eventually(t, "all are confirmed", published(500))
	require.Equal(t, want, f.received())
	require.Equal(t, queue.Snapshot{Published: 500, Connected: true}, q.Snapshot())
}

func TestMessagesWaitForAServer(t *testing.T) {
	f := newFake(t)
	f.down.Store(true)
	q := start(t, f, 10)
	want := publish(q, 0, 10)
	begin := time.Now()
	publish(q, 10, 15)
	require.Less(t, time.Since(begin), time.Second)
	require.EqualValues(t, 5, q.Snapshot().Dropped, "the buffer was full")
	q.eventually(t, "the failure is known", func(s queue.Snapshot) bool { return strings.Contains(s.LastError, "nobody there") })
	require.Equal(t, 10, q.Snapshot().Waiting)

	f.down.Store(false)
	q.eventually(t, "all that waited are confirmed", published(10))
	require.Equal(t, want, f.received())
}

func TestALostServerIsFoundAgain(t *testing.T) {
	f := newFake(t)
	q := start(t, f, 1000)
	want := publish(q, 0, 10)
	q.eventually(t, "confirmed", published(10))
	f.down.Store(true)
	f.cut()
	q.eventually(t, "it is lost", func(s queue.Snapshot) bool { return !s.Connected })
	want = append(want, publish(q, 10, 20)...)
	f.down.Store(false)
	q.eventually(t, "confirmed", published(20))
	require.Equal(t, want, f.received())
	require.Zero(t, q.Snapshot().Errors+q.Snapshot().Dropped, q.Snapshot().LastError)
}

func TestWithoutConfirmationNothingCountsAsPublished(t *testing.T) {
	f := newFake(t)
	q := start(t, f, 1000)
	q.eventually(t, "connected", connected)
	f.silent.Store(true)
	publish(q, 0, 3)
	q.eventually(t, "given up", func(s queue.Snapshot) bool { return s.Errors == 3 })
	require.Zero(t, q.Snapshot().Published)
	require.NotEmpty(t, q.Snapshot().LastError)
	require.WithinDuration(t, time.Now(), *q.Snapshot().LastErrorAt, 5*time.Second)
}

func TestAMessageThatIsTooLargeHoldsUpNoOther(t *testing.T) {
	f := newFake(t)
	q := start(t, f, 1000)
	q.eventually(t, "connected", connected)
	q.Publish(make([]byte, 101))
	publish(q, 0, 3)
	q.eventually(t, "confirmed", published(3))
	require.EqualValues(t, 1, q.Snapshot().Dropped)
}

// TestRenewLosesNothing connects anew again and again while messages come.
func TestRenewLosesNothing(t *testing.T) {
	f := newFake(t)
	q := start(t, f, 10000)
	q.eventually(t, "connected", connected)
	var want []string
	for i := range 20 {
		before := f.connections()
		want = append(want, publish(q, 50*i, 50*i+25)...)
		q.Renew()
		want = append(want, publish(q, 50*i+25, 50*i+50)...)
		require.Eventually(t, func() bool { return f.connections() > before }, 5*time.Second, time.Millisecond)
	}
	q.eventually(t, "all are confirmed", published(uint64(len(want))))
	require.Equal(t, want, f.received())
	require.Zero(t, q.Snapshot().Errors+q.Snapshot().Dropped, q.Snapshot().LastError)
}

func TestStopPublishesWhatIsWaiting(t *testing.T) {
	f := newFake(t)
	q := start(t, f, 1000)
	q.eventually(t, "connected", connected)
	want := publish(q, 0, 300)
	q.stop()
	require.Equal(t, want, f.received())
	require.Equal(t, queue.Snapshot{Published: 300}, q.Snapshot())
}

func TestStopWithoutAServerDropsWhatIsWaiting(t *testing.T) {
	f := newFake(t)
	f.down.Store(true)
	q := start(t, f, 1000)
	publish(q, 0, 300)
	q.stop()
	s := q.Snapshot()
	require.EqualValues(t, 300, s.Dropped)
	require.Zero(t, s.Published+s.Errors)
}

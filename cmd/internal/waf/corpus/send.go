package corpus

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// UpstreamHeader is set by the upstream on its answers, so that what reached it is told from what a gateway answered itself.
const UpstreamHeader = "X-Corpus-Upstream"

// Upstream answers every request like a server that suspects nothing.
var Upstream = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set(UpstreamHeader, "reached")
})

// Outcome is what became of a request.
type Outcome string

// The outcomes.
const (
	// Passed: the request reached the upstream.
	Passed Outcome = "passed"
	// Blocked: the firewall's rules refused it.
	Blocked Outcome = "blocked"
	// Refused: anything else stopped it, such as a server that does not take it for HTTP.
	Refused Outcome = "refused"
)

// Result is a case and what became of it.
type Result struct {
	Case
	Outcome Outcome
	// Status is that of the answer; 0 when there was none.
	Status int
}

const (
	senders       = 8
	answerTimeout = 20 * time.Second
)

// Send sends each case over a connection of its own and returns the results in the order of the cases. dial opens a
// connection over which HTTP/1 is spoken.
func Send(ctx context.Context, cases []Case, dial func(context.Context) (net.Conn, error)) ([]Result, error) {
	results := make([]Result, len(cases))
	errs := make([]error, senders)
	next := make(chan int)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	for worker := range senders {
		running.Go(func() {
			for i := range next {
				results[i], errs[worker] = send(ctx, cases[i], dial)
				if errs[worker] != nil {
					cancel()
					return
				}
			}
		})
	}
feed:
	for i := range cases {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	running.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return results, ctx.Err()
}

func send(ctx context.Context, c Case, dial func(context.Context) (net.Conn, error)) (Result, error) {
	result := Result{Case: c, Outcome: Refused}
	conn, err := dial(ctx)
	if err != nil {
		return result, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return result, err
	}
	// A server that has seen enough answers and closes before it has read everything: the answer counts.
	_, _ = conn.Write(c.Bytes)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return result, nil //nolint:nilerr // no answer is an outcome
	}
	defer response.Body.Close()
	result.Status = response.StatusCode
	switch {
	case response.Header.Get(UpstreamHeader) != "":
		result.Outcome = Passed
	case response.StatusCode == http.StatusForbidden:
		result.Outcome = Blocked
	}
	return result, nil
}

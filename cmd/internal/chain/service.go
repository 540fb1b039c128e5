package chain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"ephemos.dev/deploy/cmd/internal/calls"
	"ephemos.dev/deploy/cmd/internal/identity"
	"ephemos.dev/deploy/cmd/internal/mtls"
)

// chainPath is the one resource of the mutual-TLS API.
const chainPath = "/chain"

// Link is one service's part of an answer: who it is and who it saw calling.
type Link struct {
	Service  string `json:"service"`
	SPIFFEID string `json:"spiffe_id"`
	// Peer is the authenticated caller; empty at the head of the chain.
	Peer string `json:"peer,omitempty"`
	// NotAfter is the end of the service's own SVID.
	NotAfter time.Time `json:"svid_not_after"`
	// Kept is what the service found in the cache; nil when it found nothing, or keeps nothing.
	Kept *Kept `json:"kept,omitempty"`
	// Order is the number of the order that the service announced; empty when it announces none.
	Order string `json:"order,omitempty"`
}

// Answer is the body of /chain and /call: the links from the answering service to the end of the chain, or an error.
type Answer struct {
	Chain []Link `json:"chain,omitempty"`
	Error string `json:"error,omitempty"`
}

// Service is one service of the chain.
type Service struct {
	place  Place
	config Config
	log    *slog.Logger

	holder *identity.Holder
	server *mtls.Server
	client *mtls.Client // nil at the end of the chain
	data   *data

	made    calls.Recorder // calls to the next service
	served  calls.Recorder // requests answered on the mutual-TLS API
	leaving atomic.Bool
	started time.Time
}

// New returns the service at place. Its Holder must be given an identity (Follow); Run serves.
func New(place Place, config Config, resolver mtls.Resolver, log *slog.Logger) *Service {
	s := &Service{place: place, config: config, log: log, holder: identity.NewHolder(log), started: time.Now()}
	if place.Calls {
		s.client = newClient(s.holder, config, resolver, log)
	}
	s.data = newData(place, config, s.holder, resolver, log)
	s.server = mtls.NewServer(s.holder, config.Callers, s.api(), log)
	return s
}

func newClient(holder *identity.Holder, config Config, resolver mtls.Resolver, log *slog.Logger) *mtls.Client {
	return mtls.NewClient(holder, mtls.ClientConfig{
		Host: config.NextHost, Port: config.NextPort, ServerID: config.NextID,
		AttemptTimeout: config.AttemptTimeout, CallTimeout: config.CallTimeout,
		Cooldown: config.Cooldown, Refresh: config.Refresh, Resolver: resolver,
	}, log)
}

// Holder is where the service's identity comes in.
func (s *Service) Holder() *identity.Holder { return s.holder }

// Run serves on both listeners until ctx ends. Then it stops starting calls, goes on serving for the drain delay, waits
// for requests in progress and returns. It fails only if a listener does.
func (s *Service) Run(ctx context.Context, api, plain net.Listener) error {
	// Everything but the caller outlives ctx, so that nothing in progress is cut off.
	lasting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()

	plainServer := &http.Server{Handler: s.plain(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 2)
	var background sync.WaitGroup
	background.Go(func() {
		if err := s.server.Serve(api); err != nil {
			failed <- fmt.Errorf("mutual-TLS listener: %w", err)
		}
	})
	background.Go(func() {
		if err := plainServer.Serve(plain); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("plaintext listener: %w", err)
		}
	})
	if s.client != nil {
		background.Go(func() { s.client.Run(lasting) })
	}
	background.Go(func() { s.data.run(lasting) })
	var caller sync.WaitGroup
	if s.place.Drives && s.config.CallRate > 0 {
		caller.Go(func() { s.drive(ctx, lasting) })
	}

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}

	s.log.Info("stopping", "drain_delay", s.config.DrainDelay)
	s.leaving.Store(true)
	s.server.Drain()
	caller.Wait()
	if err == nil {
		time.Sleep(s.config.DrainDelay)
	}
	bounded, cancel := context.WithTimeout(lasting, s.config.ShutdownTimeout)
	defer cancel()
	err = errors.Join(err, s.server.Shutdown(bounded), plainServer.Shutdown(bounded))
	stop()
	background.Wait()
	s.log.Info("stopped", "calls", s.made.Snapshot(), "served", s.served.Snapshot())
	return err
}

// drive starts a call at every tick until ctx ends and returns when those in progress have ended. Calls run
// concurrently, so that a slow one does not lower the rate.
func (s *Service) drive(ctx, lasting context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-s.holder.Held():
	}
	if !s.assembled(ctx) {
		return
	}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / s.config.CallRate))
	defer ticker.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			running.Go(func() { _, _ = s.call(lasting) })
		}
	}
}

// assembleRetry is the pause between two looks for the rest of the chain.
const assembleRetry = 200 * time.Millisecond

// assembled waits until the rest of the chain answers for the first time, or refuses, and returns false when ctx ends before. The
// services of a new stack start in any order, and a call to one that is not there yet says nothing about those that are
// counted: whether a running chain ever fails.
func (s *Service) assembled(ctx context.Context) bool {
	begin := time.Now()
	for {
		response, err := s.client.Get(ctx, chainPath)
		if err == nil && response.Status != http.StatusOK {
			err = &statusError{status: response.Status, server: response.Server.String()}
		}
		if result := resultOf(err); result != calls.Failed {
			s.log.Info("the chain answers", "after", time.Since(begin), "result", result)
			return true
		}
		s.log.Info("waiting for the chain", "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(assembleRetry):
		}
	}
}

// call asks the next service for its part of the chain and counts the call.
//
// A request that ended because the caller of this service went away is not counted: nobody waited for its result.
func (s *Service) call(ctx context.Context) ([]Link, error) {
	begin := time.Now()
	response, err := s.client.Get(ctx, chainPath)
	attempts := 1
	var answer Answer
	switch {
	case err == nil:
		attempts = response.Attempts
		if jsonErr := json.Unmarshal(response.Body, &answer); jsonErr != nil {
			err = fmt.Errorf("answer of %s: %w", response.Server, jsonErr)
		} else if response.Status != http.StatusOK {
			err = &statusError{status: response.Status, server: response.Server.String(), reason: answer.Error}
		}
	case ctx.Err() != nil:
		return nil, err
	default:
		if failure, ok := errors.AsType[*mtls.CallError](err); ok {
			attempts = failure.Attempts
		}
	}
	result := resultOf(err)
	s.made.Record(result, time.Since(begin), attempts, err)
	if err != nil {
		s.log.Warn("call failed", "denied", result == calls.Denied, "attempts", attempts, "error", err)
		return nil, err
	}
	return answer.Chain, nil
}

// statusError is an answer of the next service that is not a success.
type statusError struct {
	status int
	server string
	reason string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answered %d: %s", e.server, e.status, e.reason)
}

func resultOf(err error) calls.Result {
	var denied *mtls.DeniedError
	var status *statusError
	switch {
	case err == nil:
		return calls.OK
	case errors.As(err, &denied):
		return calls.Denied
	case errors.As(err, &status) && status.status == http.StatusForbidden:
		return calls.Denied
	}
	return calls.Failed
}

// link is this service's part of the chain.
func (s *Service) link(peer string) Link {
	status := s.holder.Status()
	return Link{Service: s.place.Name, SPIFFEID: status.SPIFFEID, Peer: peer, NotAfter: status.NotAfter}
}

// answer makes this service's part of the chain and, if it has a successor, asks for the rest.
func (s *Service) answer(ctx context.Context, peer string) (Answer, error) {
	link := s.link(peer)
	if s.client == nil {
		link.Order = s.data.place(peer, link.SPIFFEID)
		return Answer{Chain: []Link{link}}, nil
	}
	key := s.place.Name + ":" + peer
	kept := s.data.recall(ctx, key)
	rest, err := s.call(ctx)
	if err != nil {
		return Answer{Error: err.Error()}, err
	}
	link.Kept = kept()
	s.data.keep(key, rest)
	return Answer{Chain: append([]Link{link}, rest...)}, nil
}

// api is the mutual-TLS API: callers have been authenticated and authorised by the handshake.
func (s *Service) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+chainPath, func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		caller, err := mtls.Caller(r)
		if err != nil {
			writeJSON(w, http.StatusInternalServerError, Answer{Error: err.Error()})
			return
		}
		answer, err := s.answer(r.Context(), caller.String())
		if r.Context().Err() == nil {
			s.served.Record(resultOf(err), time.Since(begin), 1, err)
		}
		writeJSON(w, statusFor(err), answer)
	})
	return mux
}

// statusFor maps the outcome of a call to the next service to this service's own answer. 403 is passed on, so that the
// head of the chain does not retry what was refused at its end.
func statusFor(err error) int {
	switch resultOf(err) {
	case calls.OK:
		return http.StatusOK
	case calls.Denied:
		return http.StatusForbidden
	default:
		return http.StatusBadGateway
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

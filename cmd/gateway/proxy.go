package main

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"ephemos.dev/deploy/cmd/internal/calls"
	"ephemos.dev/deploy/cmd/internal/mtls"
	"ephemos.dev/deploy/cmd/internal/waf"
)

// proxy passes requests on to the upstream over mutual TLS, and its answers back.
//
// Both are held in memory as a whole: an answer that breaks off can be asked for again while nothing of it has been passed
// on. Requests are bounded by the firewall's body limit, answers by the client's (1 MiB).
type proxy struct {
	client   *mtls.Client
	routes   Routes
	attempts int
	log      *slog.Logger

	made     calls.Recorder
	unrouted atomic.Uint64 // no route
	left     atomic.Uint64 // the client went away
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target, ok := p.routes.Target(r.URL)
	if !ok {
		p.unrouted.Add(1)
		fail(w, http.StatusNotFound, "there is nothing here")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, http.StatusBadRequest, "the request's body could not be read")
		return
	}
	begin := time.Now()
	response, err := p.client.Do(r.Context(), mtls.Request{
		Method: r.Method, Target: target, Header: outgoing(r, w.Header().Get(waf.RequestIDHeader)), Body: body, MaxAttempts: p.attempts,
	})
	if err != nil && r.Context().Err() != nil {
		// Nobody waits for the result.
		p.left.Add(1)
		return
	}
	attempts := 1
	if err != nil {
		status, result := outcome(err)
		if failure, ok := errors.AsType[*mtls.CallError](err); ok {
			attempts = failure.Attempts
		}
		p.made.Record(result, time.Since(begin), attempts, err)
		p.log.Error("the upstream gave no answer", "request_id", w.Header().Get(waf.RequestIDHeader), "denied", result == calls.Denied,
			"attempts", attempts, "error", err)
		fail(w, status, map[int]string{
			http.StatusBadGateway: "the service is not available", http.StatusGatewayTimeout: "the service did not answer in time",
		}[status])
		return
	}
	p.made.Record(calls.OK, time.Since(begin), response.Attempts, nil)
	answer(w, r.Method, response)
}

// outcome maps the error of a call to the status that the client is told, and to how it is counted.
func outcome(err error) (int, calls.Result) {
	var network net.Error
	switch {
	case isDenied(err):
		return http.StatusBadGateway, calls.Denied
	case !errors.Is(err, mtls.ErrNoEndpoints) && errors.As(err, &network) && network.Timeout():
		return http.StatusGatewayTimeout, calls.Failed
	}
	return http.StatusBadGateway, calls.Failed
}

func isDenied(err error) bool {
	_, denied := errors.AsType[*mtls.DeniedError](err)
	_, refused := errors.AsType[*mtls.RefusedError](err)
	return denied || refused
}

// hopByHop are the headers that concern one connection only (RFC 9110, section 7.6.1), besides those that Connection names.
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Expect",
}

// claims are headers, and beginnings of headers, by which proxies tell what is behind them about a request: who the client
// is, who was authenticated, what was asked for. From a client they are lies.
var (
	claims = []string{
		"Forwarded", "Via", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Cluster-Client-Ip", "X-Originating-Ip",
		waf.RequestIDHeader,
	}
	claimPrefixes = []string{
		"X-Forwarded", "X-Client-", "X-Remote-", "X-Spiffe-", "X-Ssl-", "Ssl-Client-", "X-Envoy-", "X-Original-", "X-Rewrite-",
	}
)

// outgoing returns the headers of the request to the upstream: the client's, without those that end here, and what the
// gateway itself knows.
func outgoing(r *http.Request, id string) http.Header {
	header := http.Header{}
	named := connectionNames(r.Header)
	for name, values := range r.Header {
		if slices.Contains(hopByHop, name) || slices.Contains(named, name) || claimed(name) {
			continue
		}
		header[name] = values
	}
	if _, set := header["User-Agent"]; !set {
		header["User-Agent"] = []string{""} // net/http would send its own
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	header.Set("X-Forwarded-For", host)
	header.Set("X-Forwarded-Proto", "https")
	header.Set("X-Forwarded-Host", r.Host)
	header.Set(waf.RequestIDHeader, id)
	return header
}

func claimed(name string) bool {
	// An underscore is taken for a dash by programs that make variables of headers.
	return strings.Contains(name, "_") || slices.Contains(claims, name) ||
		slices.ContainsFunc(claimPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// connectionNames returns the canonical names of the headers that Connection names.
func connectionNames(header http.Header) []string {
	var names []string
	for _, value := range header["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			names = append(names, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	return names
}

// kept are headers of the gateway's own that an answer of the upstream does not replace.
var kept = []string{"Strict-Transport-Security", "X-Content-Type-Options", waf.RequestIDHeader}

// private are headers that tell about programs behind the gateway.
var private = []string{"Server", "X-Powered-By", "Via"}

// answer passes the upstream's answer on.
func answer(w http.ResponseWriter, method string, response *mtls.Response) {
	header, named := w.Header(), connectionNames(response.Header)
	for name, values := range response.Header {
		if slices.Contains(hopByHop, name) || slices.Contains(named, name) || slices.Contains(kept, name) || slices.Contains(private, name) {
			continue
		}
		if name == "Content-Length" && method != http.MethodHead {
			continue // net/http counts
		}
		header[name] = values
	}
	if _, set := header["Content-Type"]; !set {
		header["Content-Type"] = nil // net/http would guess
	}
	w.WriteHeader(response.Status)
	_, _ = w.Write(response.Body)
}

// fail answers with an error that tells nothing about what is behind the gateway.
func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(waf.Refusal{Error: message, RequestID: w.Header().Get(waf.RequestIDHeader)})
}

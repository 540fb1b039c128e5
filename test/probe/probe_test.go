package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
)

// fakeServer is a SPIRE server whose data is a slice.
type fakeServer struct {
	entryv1.UnimplementedEntryServer
	svidv1.UnimplementedSVIDServer

	mu      sync.Mutex
	entries []*types.Entry
	refuse  bool // answers creations with a status that is not OK
	away    bool // fails every call
}

func (f *fakeServer) guard() (func(), error) {
	f.mu.Lock()
	if f.away {
		f.mu.Unlock()
		return nil, errors.New("away")
	}
	return f.mu.Unlock, nil
}

func (f *fakeServer) BatchCreateEntry(_ context.Context, r *entryv1.BatchCreateEntryRequest) (*entryv1.BatchCreateEntryResponse, error) {
	unlock, err := f.guard()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if f.refuse {
		return &entryv1.BatchCreateEntryResponse{Results: []*entryv1.BatchCreateEntryResponse_Result{
			{Status: &types.Status{Code: int32(codes.Internal), Message: "read-only transaction"}},
		}}, nil
	}
	var results []*entryv1.BatchCreateEntryResponse_Result
	for _, e := range r.Entries {
		e.Id = fmt.Sprintf("entry-%d", len(f.entries))
		f.entries = append(f.entries, e)
		results = append(results, &entryv1.BatchCreateEntryResponse_Result{Status: &types.Status{}, Entry: &types.Entry{Id: e.Id}})
	}
	return &entryv1.BatchCreateEntryResponse{Results: results}, nil
}

func (f *fakeServer) ListEntries(_ context.Context, r *entryv1.ListEntriesRequest) (*entryv1.ListEntriesResponse, error) {
	unlock, err := f.guard()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var matching []*types.Entry
	for _, e := range f.entries {
		if e.ParentId.Path == r.Filter.ByParentId.Path && e.ParentId.TrustDomain == r.Filter.ByParentId.TrustDomain {
			matching = append(matching, &types.Entry{Id: e.Id})
		}
	}
	const page = 2 // smaller than asked for: a server may do that
	start, _ := strconv.Atoi(r.PageToken)
	end := min(start+page, len(matching))
	response := &entryv1.ListEntriesResponse{Entries: matching[start:end]}
	if end < len(matching) {
		response.NextPageToken = strconv.Itoa(end)
	}
	return response, nil
}

func (f *fakeServer) BatchDeleteEntry(_ context.Context, r *entryv1.BatchDeleteEntryRequest) (*entryv1.BatchDeleteEntryResponse, error) {
	unlock, err := f.guard()
	if err != nil {
		return nil, err
	}
	defer unlock()
	response := &entryv1.BatchDeleteEntryResponse{}
	for _, id := range r.Ids {
		code := codes.NotFound
		f.entries = slices.DeleteFunc(f.entries, func(e *types.Entry) bool {
			if e.Id == id {
				code = codes.OK
			}
			return e.Id == id
		})
		response.Results = append(response.Results, &entryv1.BatchDeleteEntryResponse_Result{Id: id, Status: &types.Status{Code: int32(code)}})
	}
	return response, nil
}

func (f *fakeServer) MintX509SVID(_ context.Context, r *svidv1.MintX509SVIDRequest) (*svidv1.MintX509SVIDResponse, error) {
	unlock, err := f.guard()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if len(r.Csr) == 0 || r.Ttl != 60 {
		return nil, errors.New("no request")
	}
	return &svidv1.MintX509SVIDResponse{Svid: &types.X509SVID{CertChain: [][]byte{{1}}}}, nil
}

func start(t *testing.T) (*fakeServer, *servers) {
	t.Helper()
	fake := &fakeServer{}
	server := grpc.NewServer()
	entryv1.RegisterEntryServer(server, fake)
	svidv1.RegisterSVIDServer(server, fake)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return fake, newServers(conn, config{trustDomain: spiffeid.RequireTrustDomainFromString("example.org"), prefix: "probe"})
}

func TestVerifyReportsLostWritesOnly(t *testing.T) {
	fake, s := start(t)
	p := &prober{timeout: 5 * time.Second}
	p.connect(s)
	for range 5 {
		p.attempt(t.Context(), create, s.create)
	}
	// An entry of somebody else, and one whose acknowledgement got lost.
	fake.entries = append(fake.entries, &types.Entry{Id: "other", ParentId: &types.SPIFFEID{TrustDomain: "example.org", Path: "/x"}})
	_, err := s.create(t.Context())
	require.NoError(t, err)

	v, err := p.verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, verification{Acknowledged: 5, Found: 6, Missing: []string{}}, v)

	lost := fake.entries[2].Id
	fake.entries = slices.Delete(fake.entries, 2, 3)
	v, err = p.verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, verification{Acknowledged: 5, Found: 5, Missing: []string{lost}}, v)

	deleted, err := p.cleanup(t.Context())
	require.NoError(t, err)
	require.Equal(t, 5, deleted)
	require.Len(t, fake.entries, 1, "entries of others stay")
	v, err = p.verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, verification{Missing: []string{}}, v, "deleted entries are not missing")
}

func TestEntriesAreUniqueAndGiveNobodyAnIdentity(t *testing.T) {
	fake, s := start(t)
	for range 3 {
		_, err := s.create(t.Context())
		require.NoError(t, err)
	}
	paths, selectors := map[string]bool{}, map[string]bool{}
	for _, e := range fake.entries {
		paths[e.SpiffeId.Path], selectors[e.Selectors[0].Type+":"+e.Selectors[0].Value] = true, true
		require.True(t, strings.HasPrefix(e.SpiffeId.Path, "/probe/entry/"))
		require.Equal(t, "/probe/parent", e.ParentId.Path)
		require.False(t, e.Admin)
	}
	require.Len(t, paths, 3)
	require.Len(t, selectors, 3)
}

func TestAttemptsAreRecordedAsTheyEnd(t *testing.T) {
	fake, s := start(t)
	p := &prober{timeout: 5 * time.Second}
	mintOnce := func(ctx context.Context) (string, error) { return "", s.mint(ctx) }
	p.attempt(t.Context(), mint, mintOnce)
	p.attempt(t.Context(), create, s.create)
	fake.refuse = true
	p.attempt(t.Context(), create, s.create)
	fake.away = true
	p.attempt(t.Context(), mint, mintOnce)
	expired, cancel := context.WithCancel(t.Context())
	cancel()
	p.attempt(expired, mint, mintOnce)
	p.timeout = time.Nanosecond
	p.attempt(t.Context(), create, s.create)

	events := p.journal.since(time.Time{})
	require.Len(t, events, 6)
	require.True(t, events[0].OK, events[0].Error)
	require.Equal(t, "entry-0", events[1].EntryID)
	require.Contains(t, events[2].Error, "read-only transaction", "a status inside the answer counts")
	require.Contains(t, events[3].Error, "away")
	require.Contains(t, events[4].Error, "away", "stopping does not cut an attempt short")
	require.Contains(t, events[5].Error, "DeadlineExceeded")
	for i, e := range events {
		require.Equal(t, i+1, e.Sequence)
		require.False(t, e.End.Before(e.Start))
		require.Equal(t, e.OK, e.Error == "")
	}
	require.Equal(t, []string{"entry-0"}, p.journal.acknowledged())
}

func TestRunKeepsItsRateWhileTheServersHang(t *testing.T) {
	hanging := &hangingBackend{}
	p := &prober{timeout: 300 * time.Millisecond}
	require.ErrorIs(t, p.run(t.Context(), 1, 1), errNotReady)
	p.connect(hanging)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.run(ctx, 100, 0) }()
	require.Eventually(t, func() bool { return len(p.journal.since(time.Time{})) >= 10 }, 10*time.Second, 5*time.Millisecond)
	stop()
	<-done
	events := p.journal.since(time.Time{})
	overlapping := 0
	for _, e := range events[1:] {
		if e.Start.Before(events[0].End) {
			overlapping++
		}
	}
	require.Greater(t, overlapping, 5, "an attempt does not wait for the one before it")
}

type hangingBackend struct{ backend }

func (*hangingBackend) create(ctx context.Context) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

func TestHTTP(t *testing.T) {
	fake, s := start(t)
	started := time.Now().Add(-time.Second)
	p := &prober{timeout: 5 * time.Second}
	handler := p.handler(started)
	call := func(method, target string) (int, *bytes.Buffer) {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(method, target, http.NoBody))
		return recorder.Code, recorder.Body
	}
	for target, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/verify": 503, "/events": 200, "/windows": 200} {
		status, body := call(http.MethodGet, target)
		require.Equal(t, want, status, "%s before an identity is held: %s", target, body)
	}

	p.connect(s)
	p.attempt(t.Context(), create, s.create)
	p.attempt(t.Context(), mint, func(ctx context.Context) (string, error) { return "", s.mint(ctx) })
	status, _ := call(http.MethodGet, "/readyz")
	require.Equal(t, 200, status)

	_, body := call(http.MethodGet, "/events")
	lines := strings.Split(strings.TrimSpace(body.String()), "\n")
	require.Len(t, lines, 2)
	var e event
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &e))
	require.Equal(t, mint, e.Operation)
	_, body = call(http.MethodGet, "/events?since="+time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano))
	require.Empty(t, body.String())

	_, body = call(http.MethodGet, "/windows?n=1")
	var r report
	require.NoError(t, json.Unmarshal(body.Bytes(), &r))
	require.Equal(t, 1, r.Writes.OK)
	require.Len(t, r.Writes.Gaps, 1)
	require.Greater(t, r.Writes.Gaps[0].Seconds, 0.9)
	require.True(t, r.From.Equal(started))

	status, body = call(http.MethodPost, "/cleanup")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"deleted":1}`, body.String())
	fake.away = true
	status, _ = call(http.MethodGet, "/verify")
	require.Equal(t, 502, status)
	for _, target := range []string{"/events?since=yesterday", "/windows?from=1", "/windows?to=1", "/windows?n=0"} {
		status, body = call(http.MethodGet, target)
		require.Equal(t, 400, status, target)
		require.Contains(t, body.String(), "it must be")
	}
}

func TestParseConfig(t *testing.T) {
	good := map[string]string{
		"SPIFFE_ENDPOINT_SOCKET": "unix:///s", "TRUST_DOMAIN": "example.org", "SERVER_ADDRESS": "entry.spire-server.svc:8081",
	}
	c, err := parseConfig(func(key string) string { return good[key] })
	require.NoError(t, err)
	require.Equal(t, config{
		socket: "unix:///s", trustDomain: spiffeid.RequireTrustDomainFromString("example.org"), server: "entry.spire-server.svc:8081",
		createRate: 5, mintRate: 5, attemptTimeout: time.Second, prefix: "probe", listen: ":8080",
	}, c)

	bad := map[string]string{
		"SPIFFE_ENDPOINT_SOCKET": "/s", "TRUST_DOMAIN": "a/b", "SERVER_ADDRESS": "entry", "CREATE_RATE": "-1", "MINT_RATE": "fast",
		"ATTEMPT_TIMEOUT": "1", "ENTRY_PREFIX": "a/b", "LISTEN_ADDRESS": "8080",
	}
	_, err = parseConfig(func(key string) string { return bad[key] })
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, len(bad), "all errors at once")
	for key, value := range bad {
		require.Contains(t, err.Error(), fmt.Sprintf("%s: %q is not allowed: it must be ", key, value))
	}
}

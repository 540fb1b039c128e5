package waf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// recorder is what lies behind the firewall.
type recorder struct {
	mu     sync.Mutex
	bodies []string
}

func (b *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || int64(len(body)) != r.ContentLength {
		http.Error(w, fmt.Sprint(err, len(body), r.ContentLength), http.StatusTeapot)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bodies = append(b.bodies, string(body))
}

type fixture struct {
	*Firewall
	behind *recorder
	log    *bytes.Buffer
}

func start(t *testing.T, o Options) fixture {
	t.Helper()
	f := fixture{behind: &recorder{}, log: &bytes.Buffer{}}
	var err error
	f.Firewall, err = New(o, slog.New(slog.NewJSONHandler(f.log, nil)))
	require.NoError(t, err)
	return f
}

func (f fixture) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	w.Header().Set(RequestIDHeader, "0123456789abcdef")
	f.Handler(f.behind).ServeHTTP(w, r)
	return w
}

// request is one that a client would send.
func request(method, target string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, target, body)
	r.Header.Set("User-Agent", "client/1")
	r.Header.Set("Accept", "*/*")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func TestRequestsPassWithTheirBodies(t *testing.T) {
	f := start(t, Options{})
	require.Equal(t, http.StatusOK, f.do(request(http.MethodGet, "/chain?page=2", nil)).Code)
	require.Equal(t, http.StatusOK, f.do(request(http.MethodPost, "/chain", strings.NewReader(`{"amount":12}`))).Code)
	chunked := request(http.MethodPost, "/chain", io.MultiReader(strings.NewReader(`{"amount":`), strings.NewReader(`13}`)))
	chunked.ContentLength, chunked.TransferEncoding = -1, []string{"chunked"}
	require.Equal(t, http.StatusOK, f.do(chunked).Code)
	require.Equal(t, []string{"", `{"amount":12}`, `{"amount":13}`}, f.behind.bodies)
	require.Equal(t, Counts{Allowed: 3, Classes: map[string]uint64{}}, f.Counts())
	require.Empty(t, f.log.String(), "what passes is not logged")
}

func TestWhatIsFoundDoesNotPass(t *testing.T) {
	for _, c := range []struct {
		name    string
		request *http.Request
		class   string
	}{
		{"in the query", request(http.MethodGet, "/chain?id=1%27%20OR%20%271%27=%271", nil), "sqli"},
		{"in the path", request(http.MethodGet, "/chain/..%2f..%2fetc/passwd", nil), "lfi"},
		{"in the body", request(http.MethodPost, "/chain", strings.NewReader(`{"note":"<script>alert(1)</script>"}`)), "xss"},
		{"in a header", func() *http.Request {
			r := request(http.MethodGet, "/chain", nil)
			r.Header.Set("User-Agent", "() { :; }; /bin/bash -c 'cat /etc/passwd'")
			return r
		}(), "rce"},
		{"a method", request(http.MethodDelete, "/chain", nil), "generic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, Options{})
			w := f.do(c.request)
			require.Equal(t, http.StatusForbidden, w.Code)
			require.JSONEq(t, `{"error":"the request was refused","request_id":"0123456789abcdef"}`, w.Body.String())
			require.Empty(t, f.behind.bodies)
			require.Equal(t, uint64(1), f.Counts().Blocked)
			require.Equal(t, uint64(1), f.Counts().Classes[c.class], f.Counts().Classes)
		})
	}
}

// TestABodyThatCannotBeParsedDoesNotPass: what the firewall cannot read, something behind it might.
func TestABodyThatCannotBeParsedDoesNotPass(t *testing.T) {
	for _, c := range []struct {
		contentType, body, reason string
	}{
		{"application/json", `{"amount":`, "it is not JSON"},
		{"application/json; charset=utf-8", `{"amount":`, "it is not JSON"},
		{"application/problem+json", `{} {}`, "it is not JSON"},
		{"application/json", `{"a":"<script>alert(1)</script>","A":"x"}`, "two values have the same path"},
		{"text/xml", `<a>`, "rules"},
		{"multipart/form-data", "--b--\r\n", "rules"},
	} {
		t.Run(c.contentType, func(t *testing.T) {
			f := start(t, Options{})
			r := request(http.MethodPost, "/chain", strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.contentType)
			require.Equal(t, http.StatusForbidden, f.do(r).Code)
			require.Empty(t, f.behind.bodies)
			require.Equal(t, uint64(1), f.Counts().Blocked)
			require.Contains(t, f.log.String(), `"reason":"`+c.reason+`"`)
		})
	}
}

func TestLogLine(t *testing.T) {
	f := start(t, Options{})
	r := request(http.MethodPost, "/chain/'%20or%20'1'='1?token=secret-in-query&q="+strings.Repeat("a", 300),
		strings.NewReader(`{"password":"secret-in-body","x":"<script>alert(1)</script>"}`))
	r.Header.Set("Authorization", "Bearer secret-in-authorization")
	r.Header.Set("Cookie", "session=secret-in-cookie")
	r.RemoteAddr = "[2001:db8::7]:4711"
	require.Equal(t, http.StatusForbidden, f.do(r).Code)

	require.Equal(t, 1, strings.Count(f.log.String(), "\n"), "one line")
	require.NotContains(t, f.log.String(), "secret")
	var line struct {
		Level, Msg, Client, Method, Path string
		RequestID                        string `json:"request_id"`
		Rules                            []int
		Classes                          []string
		Score                            int `json:"anomaly_score"`
	}
	require.NoError(t, json.Unmarshal(f.log.Bytes(), &line))
	require.Equal(t, "WARN", line.Level)
	require.Equal(t, "request blocked", line.Msg)
	require.Equal(t, "0123456789abcdef", line.RequestID)
	require.Equal(t, "2001:db8::7", line.Client)
	require.Equal(t, http.MethodPost, line.Method)
	require.Equal(t, "/chain/' or '1'='1", line.Path)
	require.Contains(t, line.Rules, 941100, "cross-site scripting, found by libinjection")
	require.Contains(t, line.Classes, "xss")
	require.GreaterOrEqual(t, line.Score, 10, "more than one critical finding")
	for _, rule := range line.Rules {
		require.True(t, rule >= 911000 && rule < 949000, "%d finds something", rule)
	}
}

func TestLongPathsAreCutInTheLog(t *testing.T) {
	f := start(t, Options{})
	require.Equal(t, http.StatusForbidden, f.do(request(http.MethodGet, "/"+strings.Repeat("ü", 4000)+"/../../etc/passwd", nil)).Code)
	require.Less(t, f.log.Len(), 1500)
	require.NotContains(t, f.log.String(), "�")
}

func TestBodyLimit(t *testing.T) {
	const limit = 2048
	form := func(length int) string { return "note=" + strings.Repeat("a", length-len("note=")) }
	for _, c := range []struct {
		name     string
		body     string
		announce bool
		want     int
	}{
		{"as long as allowed", form(limit), true, http.StatusOK},
		{"as long as allowed, in chunks", form(limit), false, http.StatusOK},
		{"a byte more", form(limit + 1), true, http.StatusRequestEntityTooLarge},
		{"a byte more, in chunks", form(limit + 1), false, http.StatusRequestEntityTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, Options{BodyLimit: limit})
			r := request(http.MethodPost, "/chain", strings.NewReader(c.body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if !c.announce {
				r.ContentLength, r.TransferEncoding = -1, []string{"chunked"}
			}
			w := f.do(r)
			require.Equal(t, c.want, w.Code)
			if c.want == http.StatusOK {
				require.Equal(t, []string{c.body}, f.behind.bodies)
				return
			}
			require.Empty(t, f.behind.bodies)
			require.Equal(t, uint64(1), f.Counts().TooLarge)
		})
	}
}

// TestAnAnnouncedLengthIsBelieved: nothing is read of a body that is announced too long.
func TestAnAnnouncedLengthIsBelieved(t *testing.T) {
	f := start(t, Options{BodyLimit: 2048})
	r := request(http.MethodPost, "/chain", iotest.ErrReader(errors.New("read")))
	r.ContentLength = 1 << 40
	w := f.do(r)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	require.Equal(t, "close", w.Header().Get("Connection"))
}

func TestABodyThatBreaksOffDoesNotPass(t *testing.T) {
	f := start(t, Options{})
	r := request(http.MethodPost, "/chain", io.MultiReader(strings.NewReader(`{"amount":`), iotest.ErrReader(io.ErrUnexpectedEOF)))
	require.Equal(t, http.StatusBadRequest, f.do(r).Code)
	require.Empty(t, f.behind.bodies)
	require.Equal(t, Counts{Unreadable: 1, Classes: map[string]uint64{}}, f.Counts())
}

// TestInspectionsAreBounded: a request waits for its turn, but neither for clients that are slow to send nor for what comes
// after the inspection.
func TestInspectionsAreBounded(t *testing.T) {
	f := start(t, Options{Concurrency: 1})
	entered, release := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		f.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-release })).
			ServeHTTP(httptest.NewRecorder(), request(http.MethodGet, "/chain", nil))
	})
	<-entered
	reading, unread := io.Pipe()
	running.Go(func() { f.do(request(http.MethodPost, "/chain", reading)) })
	_, err := unread.Write([]byte("{"))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, f.do(request(http.MethodGet, "/chain", nil)).Code)
	_, err = unread.Write([]byte("}"))
	require.NoError(t, err)
	require.NoError(t, unread.Close())
	close(release)
	running.Wait()

	f.room <- struct{}{} // an inspection that does not end
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, http.StatusServiceUnavailable, f.do(request(http.MethodGet, "/chain", nil).WithContext(ctx)).Code)
	require.Equal(t, Counts{Allowed: 3, Overloaded: 1, Classes: map[string]uint64{}}, f.Counts())
}

func TestUploadsLeaveNoFilesBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	f := start(t, Options{})
	upload := func(file string) int {
		r := request(http.MethodPost, "/chain", strings.NewReader("--b\r\nContent-Disposition: form-data; name=\"a\"; filename=\""+file+"\"\r\n"+
			"Content-Type: text/plain\r\n\r\nhello\r\n--b--\r\n"))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		return f.do(r).Code
	}
	require.Equal(t, http.StatusOK, upload("a.txt"))
	require.Equal(t, http.StatusForbidden, upload("shell.php"))
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestNoTemporaryDirectory(t *testing.T) {
	t.Setenv("TMPDIR", "/nonexistent")
	_, err := New(Options{}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "/nonexistent")
}

func TestOptions(t *testing.T) {
	require.NoError(t, Options{}.Validate())
	require.NoError(t, Options{ParanoiaLevel: 4, Threshold: 10, BodyLimit: 1 << 20, Methods: []string{"GET"}}.Validate())
	err := Options{ParanoiaLevel: 5, Threshold: -1, BodyLimit: 10, Concurrency: -1, Methods: []string{"GET'\"\nSecRuleEngine Off", ""}}.Validate()
	require.Error(t, err)
	for _, want := range []string{
		`paranoiaLevel: "5" is not allowed`, `threshold: "-1"`, `bodyLimit: "10"`, `concurrency: "-1"`, "methods: \"GET'\"", `methods: ""`,
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = New(Options{ParanoiaLevel: 5}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "paranoiaLevel")
}

func TestEachRequestIsCountedOnce(t *testing.T) {
	f := start(t, Options{})
	f.log = nil
	f.Firewall.log = slog.New(slog.DiscardHandler)
	var running sync.WaitGroup
	const each = 20
	for range 4 {
		running.Go(func() {
			for range each {
				f.do(request(http.MethodGet, "/chain", nil))
				f.do(request(http.MethodGet, "/chain?id=1%27%20OR%20%271%27=%271", nil))
				f.do(request(http.MethodPost, "/chain", strings.NewReader(`{"x":"<script>alert(1)</script>"}`)))
			}
		})
	}
	running.Wait()
	counts := f.Counts()
	require.Equal(t, uint64(4*each), counts.Allowed)
	require.Equal(t, uint64(8*each), counts.Blocked)
	require.Equal(t, uint64(4*each), counts.Classes["sqli"])
	require.Equal(t, uint64(4*each), counts.Classes["xss"])
	require.Len(t, f.behind.bodies, 4*each)
}

// BenchmarkHandler is the time of a request with and without the firewall, apart from the network.
func BenchmarkHandler(b *testing.B) {
	firewall, err := New(Options{}, slog.New(slog.DiscardHandler))
	require.NoError(b, err)
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	object := func(length int) string {
		var text strings.Builder
		for i := 0; text.Len() < length; i++ {
			fmt.Fprintf(&text, `,"field%d":"a value of some words, number %d"`, i, i)
		}
		return "{" + text.String()[1:] + "}"
	}
	for _, c := range []struct {
		name, method, target, body string
		want                       int
	}{
		{"get", http.MethodGet, "/chain?page=2&sort=name", "", http.StatusOK},
		{"post 1 KiB", http.MethodPost, "/chain", object(1 << 10), http.StatusOK},
		{"post 10 KiB", http.MethodPost, "/chain", object(10 << 10), http.StatusOK},
		{"attack", http.MethodGet, "/chain?id=1%27%20OR%20%271%27=%271", "", http.StatusForbidden},
	} {
		for _, with := range []struct {
			name    string
			handler http.Handler
			want    int
		}{{"without", next, http.StatusOK}, {"with", firewall.Handler(next), c.want}} {
			b.Run(c.name+"/"+with.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					var body io.Reader
					if c.body != "" {
						body = strings.NewReader(c.body)
					}
					w := httptest.NewRecorder()
					with.handler.ServeHTTP(w, request(c.method, c.target, body))
					if w.Code != with.want {
						b.Fatalf("status %d", w.Code)
					}
				}
			})
		}
	}
}

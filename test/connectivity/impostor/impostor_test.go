package impostor

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/stretchr/testify/require"
)

// authority signs certificates for programs and clients.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	return &authority{t, cert, key}
}

func (a *authority) issue(commonName string, id spiffeid.ID, names ...string) *tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: commonName}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	if !id.IsZero() {
		template.URIs = []*url.URL{id.URL()}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(a.t, err)
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *authority) svid(id spiffeid.ID) *x509svid.SVID {
	c := a.issue("", id)
	cert, err := x509.ParseCertificate(c.Certificate[0])
	require.NoError(a.t, err)
	return &x509svid.SVID{ID: id, Certificates: []*x509.Certificate{cert}, PrivateKey: c.PrivateKey.(*ecdsa.PrivateKey)}
}

// serve handles connections until the test ends.
func serve(t *testing.T, handle func(net.Conn)) Dial {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			}()
		}
	}()
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
	}
}

var (
	domain = spiffeid.RequireTrustDomainFromString("example.org")
	server = spiffeid.RequireFromPath(domain, "/server")
	right  = spiffeid.RequireFromPath(domain, "/right")
	wrong  = spiffeid.RequireFromPath(domain, "/wrong")
)

// overTLS serves a protocol of one answer inside TLS.
func overTLS(config *tls.Config, answer func(*bufio.Reader) string) func(net.Conn) {
	return func(conn net.Conn) {
		secure := tls.Server(conn, config)
		if secure.Handshake() != nil {
			return
		}
		_, _ = io.WriteString(secure, answer(bufio.NewReader(secure)))
		_ = secure.CloseWrite()
	}
}

// line answers a line.
func line(reply string) func(*bufio.Reader) string {
	return func(r *bufio.Reader) string {
		if text, err := r.ReadString('\n'); err != nil || text == "" {
			return ""
		}
		return reply
	}
}

// TestOnlyTheRightIdentityIsAnswered tries every approach on servers that are right and on servers with one fault each, which
// the attempts must notice.
func TestOnlyTheRightIdentityIsAnswered(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	bundle := x509bundle.FromX509Authorities(domain, []*x509.Certificate{ours.cert})
	exact := tlsconfig.MTLSServerConfig(ours.svid(server), bundle, tlsconfig.AuthorizeID(right))
	member := tlsconfig.MTLSServerConfig(ours.svid(server), bundle, tlsconfig.AuthorizeMemberOf(domain))
	unverified := exact.Clone()
	unverified.ClientAuth, unverified.VerifyPeerCertificate = tls.RequireAnyClientCert, nil
	open := exact.Clone()
	open.ClientAuth, open.VerifyPeerCertificate = tls.NoClientCert, nil
	foreign := tlsconfig.MTLSServerConfig(other.svid(server), bundle, tlsconfig.AuthorizeID(right))
	old := exact.Clone()
	old.MaxVersion = tls.VersionTLS12

	base := ExpectSPIFFE(server, []*x509.Certificate{ours.cert})
	self, err := SelfSigned("", right)
	require.NoError(t, err)
	approaches := map[string]*tls.Config{
		"plaintext": nil, "none": Present(base, nil), "self-signed": Present(base, self),
		"wrong": Present(base, ours.issue("", wrong)), "other authority": Present(base, other.issue("", right)),
		"right": Present(base, ours.issue("", right)),
	}
	refused := map[string]Verdict{"plaintext": Refused, "none": Refused, "self-signed": Refused, "wrong": Refused, "other authority": Refused, "right": Answered}
	but := func(changed ...any) map[string]Verdict {
		want := maps.Clone(refused)
		for i := 0; i < len(changed); i += 2 {
			want[changed[i].(string)] = changed[i+1].(Verdict)
		}
		return want
	}
	for name, c := range map[string]struct {
		protocol Protocol
		handle   func(net.Conn)
		want     map[string]Verdict
	}{
		"HTTP":    {HTTP, overTLS(exact, line("HTTP/1.1 404 Not Found\r\n\r\n")), refused},
		"Redis":   {Redis, overTLS(exact, line("+PONG\r\n")), refused},
		"NATS":    {NATS, overTLS(exact, func(*bufio.Reader) string { return "INFO {}\r\n" }), refused},
		"TLS 1.2": {HTTP, overTLS(old, line("HTTP/1.1 404 Not Found\r\n\r\n")), refused},

		"any identity of the trust domain": {HTTP, overTLS(member, line("HTTP/1.1 200 OK\r\n\r\n")), but("wrong", Answered)},
		"any certificate": {HTTP, overTLS(unverified, line("HTTP/1.1 200 OK\r\n\r\n")),
			but("wrong", Answered, "self-signed", Answered, "other authority", Answered)},
		"no certificate wanted": {Redis, overTLS(open, line("+PONG\r\n")),
			but("wrong", Answered, "self-signed", Answered, "other authority", Answered, "none", Answered)},
		"a greeting before TLS": {NATS, func(conn net.Conn) {
			_, _ = io.WriteString(conn, "INFO {\"tls_required\":true}\r\n")
		}, map[string]Verdict{"plaintext": Answered, "none": Broken, "self-signed": Broken, "wrong": Broken, "other authority": Broken, "right": Broken}},
		"an explanation in plaintext": {HTTP, func(conn net.Conn) {
			_, _ = bufio.NewReader(conn).ReadString('\n')
			_, _ = io.WriteString(conn, "HTTP/1.0 400 Bad Request\r\n\r\n")
		}, map[string]Verdict{"plaintext": Answered, "none": Broken, "self-signed": Broken, "wrong": Broken, "other authority": Broken, "right": Broken}},
		"somebody else": {HTTP, overTLS(foreign, line("HTTP/1.1 200 OK\r\n\r\n")),
			but("none", Broken, "self-signed", Broken, "wrong", Broken, "other authority", Broken, "right", Broken)},
	} {
		t.Run(name, func(t *testing.T) {
			dial := serve(t, c.handle)
			for approach, credentials := range approaches {
				got := Try(t.Context(), dial, c.protocol, credentials)
				require.Equal(t, c.want[approach], got.Verdict, "%s: %s", approach, got.Detail)
			}
		})
	}
}

func TestSilenceIsNoRefusal(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	dial := serve(t, func(net.Conn) { <-hold })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.Equal(t, Silent, Try(ctx, dial, HTTP, nil).Verdict)
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.Equal(t, Silent, Try(ctx, dial, HTTP, ExpectName("db", x509.NewCertPool())).Verdict)

	nobody := func(context.Context) (net.Conn, error) { return nil, io.ErrClosedPipe }
	require.Equal(t, Broken, Try(t.Context(), nobody, HTTP, nil).Verdict)
}

// database is the beginning of a Postgres session: it wants TLS, and a certificate whose common name is the user's.
func database(config *tls.Config, wantTLS, wantCertificate bool) func(net.Conn) {
	message := func(kind byte, body string) string {
		return string(append(append([]byte{kind}, binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))...), body...))
	}
	failure := func(code, text string) string {
		return message('E', "SFATAL\x00VFATAL\x00C"+code+"\x00M"+text+"\x00\x00")
	}
	return func(conn net.Conn) {
		secured, name := false, ""
		for {
			var size uint32
			if binary.Read(conn, binary.BigEndian, &size) != nil || size < 8 || size > 1024 {
				return
			}
			body := make([]byte, size-4)
			if _, err := io.ReadFull(conn, body); err != nil {
				return
			}
			if binary.BigEndian.Uint32(body) == sslRequest {
				_, _ = io.WriteString(conn, "S")
				secure := tls.Server(conn, config)
				if secure.Handshake() != nil {
					return
				}
				if peers := secure.ConnectionState().PeerCertificates; len(peers) > 0 {
					name = peers[0].Subject.CommonName
				}
				conn, secured = secure, true
				continue
			}
			user := strings.Split(string(body[4:]), "\x00")[1]
			switch {
			case user == "full":
				_, _ = io.WriteString(conn, failure("53300", "too many clients"))
			case wantTLS && !secured:
				_, _ = io.WriteString(conn, failure("28000", "no pg_hba.conf entry, no encryption"))
			case wantCertificate && name != user:
				_, _ = io.WriteString(conn, failure("28000", "certificate authentication failed"))
			default:
				_, _ = io.WriteString(conn, message('R', "\x00\x00\x00\x00"))
			}
			return
		}
	}
}

func TestPostgres(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{*ours.issue("db", spiffeid.ID{}, "db")}, MinVersion: tls.VersionTLS13,
		ClientCAs: ours.pool(), ClientAuth: tls.VerifyClientCertIfGiven}
	base := ExpectName("db", ours.pool())
	self, err := SelfSigned("app", spiffeid.ID{})
	require.NoError(t, err)
	protocol := Postgres("app", "app")
	strict := serve(t, database(config, true, true))
	for name, c := range map[string]struct {
		dial        Dial
		protocol    Protocol
		credentials *tls.Config
		want        Verdict
		detail      string
	}{
		"plaintext":              {strict, protocol, nil, Refused, "28000: no pg_hba.conf entry, no encryption"},
		"no certificate":         {strict, protocol, Present(base, nil), Refused, "28000: certificate authentication failed"},
		"self-signed":            {strict, protocol, Present(base, self), Refused, "unknown certificate authority"},
		"other authority":        {strict, protocol, Present(base, other.issue("app", spiffeid.ID{})), Refused, "unknown certificate authority"},
		"another user's":         {strict, protocol, Present(base, ours.issue("other", spiffeid.ID{})), Refused, "28000: certificate authentication failed"},
		"right":                  {strict, protocol, Present(base, ours.issue("app", spiffeid.ID{})), Answered, `"R\x00\x00\x00\b\x00\x00\x00\x00"`},
		"not a refusal":          {strict, Postgres("full", "app"), nil, Answered, "53300"},
		"plaintext allowed":      {serve(t, database(config, false, false)), protocol, nil, Answered, "R"},
		"no certificate is well": {serve(t, database(config, true, false)), protocol, Present(base, nil), Answered, "R"},
		"not the database":       {strict, protocol, Present(ExpectName("other", ours.pool()), nil), Broken, "not other"},
		"no TLS there":           {serve(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "N") }), protocol, Present(base, nil), Broken, `answered "N"`},
		"not Postgres":           {serve(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n") }), protocol, nil, Answered, "HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Try(t.Context(), c.dial, c.protocol, c.credentials)
			require.Equal(t, c.want, got.Verdict, got.Detail)
			require.Contains(t, got.Detail, c.detail)
		})
	}
}

func TestParseMinted(t *testing.T) {
	ca := newAuthority(t)
	issued := ca.issue("", right)
	key, err := x509.MarshalPKCS8PrivateKey(issued.PrivateKey)
	require.NoError(t, err)
	text, err := json.Marshal(map[string]any{"x509_svid": issued.Certificate, "private_key": key, "root_cas": [][]byte{ca.cert.Raw}})
	require.NoError(t, err)
	certificate, authorities, err := ParseMinted(text)
	require.NoError(t, err)
	require.Equal(t, issued.Certificate, certificate.Certificate)
	require.Equal(t, issued.PrivateKey, certificate.PrivateKey)
	require.True(t, authorities[0].Equal(ca.cert))

	for _, broken := range []string{"", "{}", `{"x509_svid":["AA=="],"root_cas":["AA=="]}`, strings.Replace(string(text), `"root_cas":["`, `"root_cas":["AAAA`, 1)} {
		_, _, err := ParseMinted([]byte(broken))
		require.ErrorContains(t, err, "minted SVID")
		require.NotContains(t, err.Error(), "private_key")
	}
}

func TestTable(t *testing.T) {
	attempt := func(flow, approach string, want, got Verdict) Attempt {
		return Attempt{Flow: flow, Approach: approach, Where: "a to b", Want: want, Outcome: Outcome{got, "why"}}
	}
	attempts := []Attempt{
		attempt("a -> b:mtls", "plaintext", Refused, Refused), attempt("a -> b:mtls", "plaintext", Refused, Refused),
		attempt("a -> b:mtls", "right", Answered, Answered), attempt("b -> c:mtls", "plaintext", Refused, Answered),
	}
	require.Equal(t, `| flow        | plaintext: refused | right: answered |
|-------------|--------------------|-----------------|
| a -> b:mtls | 2/2                | 1/1             |
| b -> c:mtls | !0/1               |                 |
| all         | 2/3                | 1/1             |
`, Table(attempts))
	require.Equal(t, "b -> c:mtls: plaintext: must be refused, is answered (why): a to b\n", Failures(attempts))
	require.Equal(t, fmt.Sprintln(attempts[3]), Failures(attempts))
}

package deploy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ephemos.dev/deploy/components/spire/config"
	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/test/connectivity"
	"ephemos.dev/deploy/test/connectivity/impostor"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Approaches of testPlaintextRefused. Only the last one may be answered.
const (
	plaintext      = "plaintext"
	noCertificate  = "no certificate"
	selfSigned     = "self-signed, right name"
	otherAuthority = "other authority"
	otherIdentity  = "other identity"
	rightIdentity  = "right identity"
)

// approach is one way to try a flow.
type approach struct {
	name        string
	protocol    impostor.Protocol
	credentials *tls.Config // nil for none
}

func (a approach) want() impostor.Verdict {
	if a.name == rightIdentity {
		return impostor.Answered
	}
	return impostor.Refused
}

// testPlaintextRefused tries every flow that must be mutual TLS without it, and with every identity but the right one: from the
// network of a pod that the flow is for, so that no policy is what refuses. The right identity, by the same means, is answered.
func testPlaintextRefused(t *testing.T) {
	model := deployedModel(t)
	topology := discover(t, model)
	credentials := mintAll(t, model, topology)
	databaseUsers := readDatabaseUsers(t)

	var (
		mu       sync.Mutex
		attempts []impostor.Attempt
		group    errgroup.Group
	)
	group.SetLimit(8)
	for _, end := range model.Resolve() {
		if !end.Flow.MTLS {
			continue
		}
		var approaches []approach
		if end.To.Name == zones.Database {
			approaches = databaseApproaches(t, databaseUsers, credentials)
		} else {
			approaches = serviceApproaches(t, model, end, credentials)
		}
		clients, servers := topology.Playing(end.From), topology.Playing(end.To)
		require.NotEmpty(t, clients, "%s: nobody to call", end.Flow)
		require.NotEmpty(t, servers, "%s: nobody to be called", end.Flow)
		for i, server := range servers {
			client := clients[i%len(clients)]
			if client.Name == server.Name { // a role that calls itself: the next pod
				client = clients[(i+1)%len(clients)]
			}
			for _, a := range approaches {
				group.Go(func() error {
					outcome := tryApproach(t.Context(), client, netip.AddrPortFrom(server.Address, uint16(end.Port.Number)), a)
					mu.Lock()
					defer mu.Unlock()
					attempts = append(attempts, impostor.Attempt{Flow: end.Flow.String(), Approach: a.name, Want: a.want(), Outcome: outcome,
						Where: fmt.Sprintf("%s to %s, %s", client.Name, server.Name, a.protocol.Name)})
					return nil
				})
			}
		}
	}
	require.NoError(t, group.Wait())
	order := []string{plaintext, noCertificate, selfSigned, otherAuthority, otherIdentity, rightIdentity}
	slices.SortFunc(attempts, func(a, b impostor.Attempt) int {
		if a.Flow != b.Flow {
			return strings.Compare(a.Flow, b.Flow)
		}
		return slices.Index(order, a.Approach) - slices.Index(order, b.Approach)
	})
	refused := 0
	for _, a := range attempts {
		if a.Want == impostor.Refused && a.OK() {
			refused++
		}
	}
	t.Logf("%d attempts, %d refused:\n\n%s", len(attempts), refused, impostor.Table(attempts))
	require.NotEmpty(t, attempts)
	require.Empty(t, impostor.Failures(attempts))
}

// tryApproach makes an attempt, and again if it could not be made: a pod may be busy.
func tryApproach(ctx context.Context, client connectivity.Endpoint, server netip.AddrPort, a approach) impostor.Outcome {
	dial := func(ctx context.Context) (net.Conn, error) { return client.Dial(ctx, server) }
	var outcome impostor.Outcome
	for range 3 {
		if outcome = impostor.Try(ctx, dial, a.protocol, a.credentials); outcome.Verdict != impostor.Broken {
			break
		}
	}
	return outcome
}

// protocols are how the roles' mutual TLS ports are spoken to inside. The others speak HTTP.
var protocols = map[string]impostor.Protocol{zones.Cache: impostor.Redis, zones.Queue: impostor.NATS}

// serviceApproaches are those for a port that authorises SPIFFE IDs.
func serviceApproaches(t *testing.T, model zones.Model, end zones.End, issued minted) []approach {
	t.Helper()
	protocol, ok := protocols[end.To.Name]
	if !ok {
		protocol = impostor.HTTP
	}
	right := issued.identities[end.From.SPIFFEPath]
	require.NotNil(t, right, "%s: %s has no identity", end.Flow, end.From.Name)
	self, err := impostor.SelfSigned("", spiffeID(t, end.From.SPIFFEPath))
	require.NoError(t, err)
	base := impostor.ExpectSPIFFE(spiffeID(t, end.To.SPIFFEPath), issued.authorities)
	all := []approach{
		{plaintext, protocol, nil},
		{noCertificate, protocol, impostor.Present(base, nil)},
		{selfSigned, protocol, impostor.Present(base, self)},
		{rightIdentity, protocol, impostor.Present(base, right)},
	}
	callers := model.Callers(end.To.Name, end.Flow.Port)
	for path, certificate := range issued.identities {
		if !slices.Contains(callers, path) {
			all = append(all, approach{otherIdentity, protocol, impostor.Present(base, certificate)})
		}
	}
	return all
}

// databaseUser is a role of Postgres that may log in over the network, with its certificate.
type databaseUser struct {
	name, database string
	certificate    *tls.Certificate
	authorities    *x509.CertPool
}

// readDatabaseUsers reads the certificates that the operator issued.
func readDatabaseUsers(t *testing.T) []databaseUser {
	t.Helper()
	secret := func(name string) map[string][]byte {
		s, err := clientset(t).CoreV1().Secrets(zones.NamespaceServer).Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		return s.Data
	}
	authorities := x509.NewCertPool()
	require.True(t, authorities.AppendCertsFromPEM(secret("spire-db-ca")["ca.crt"]))
	users := []databaseUser{{name: "spire", database: "spire"}, {name: "streaming_replica", database: "postgres"}}
	for i, name := range []string{"spire-db-client-cert", "spire-db-replication"} {
		data := secret(name)
		certificate, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"])
		require.NoError(t, err, name)
		users[i].certificate, users[i].authorities = &certificate, authorities
	}
	return users
}

// databaseApproaches are those for Postgres, which knows its own authority and the common names of its users.
func databaseApproaches(t *testing.T, users []databaseUser, issued minted) []approach {
	t.Helper()
	var all []approach
	for i, user := range users {
		protocol := impostor.Postgres(user.name, user.database)
		base := impostor.ExpectName("spire-db-rw", user.authorities)
		self, err := impostor.SelfSigned(user.name, spiffeid.ID{})
		require.NoError(t, err)
		other := users[(i+1)%len(users)]
		all = append(all,
			approach{plaintext, protocol, nil},
			approach{noCertificate, protocol, impostor.Present(base, nil)},
			approach{selfSigned, protocol, impostor.Present(base, self)},
			approach{otherIdentity, protocol, impostor.Present(base, other.certificate)},
			approach{rightIdentity, protocol, impostor.Present(base, user.certificate)},
		)
		for _, certificate := range issued.identities {
			all = append(all, approach{otherAuthority, protocol, impostor.Present(base, certificate)})
		}
	}
	return all
}

// minted are SVIDs of the live trust domain by the paths of their SPIFFE IDs, and its authorities.
type minted struct {
	identities  map[string]*tls.Certificate
	authorities []*x509.Certificate
}

// mintAll has a SPIRE server issue an SVID for every role's identity, good for a few minutes. Keys stay in memory.
func mintAll(t *testing.T, model zones.Model, topology connectivity.Topology) minted {
	t.Helper()
	role, ok := model.Role(zones.SPIREServer)
	require.True(t, ok)
	servers := topology.Playing(role)
	require.NotEmpty(t, servers)
	_, pod, _ := strings.Cut(servers[0].Name, "/")
	out := minted{identities: map[string]*tls.Certificate{}}
	for _, r := range model.Roles {
		// SPIRE issues its own identities to nobody else.
		if r.SPIFFEPath == "" || strings.HasPrefix(r.SPIFFEPath, "/spire/") {
			continue
		}
		var stdout, stderr bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		cmd := exec.CommandContext(ctx, "kubectl", "--kubeconfig", cluster.Kubeconfig(), "exec", "--namespace", zones.NamespaceServer, pod,
			"--container", "spire-server", "--", "/opt/spire/bin/spire-server", "x509", "mint", "-spiffeID", spiffeID(t, r.SPIFFEPath).String(),
			"-ttl", "15m", "-socketPath", config.ServerSocketPath, "-output", "json")
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		cancel()
		require.NoError(t, err, stderr.String()) // never with stdout, which holds a key
		certificate, authorities, err := impostor.ParseMinted(stdout.Bytes())
		require.NoError(t, err)
		out.identities[r.SPIFFEPath], out.authorities = certificate, authorities
	}
	return out
}

func spiffeID(t *testing.T, path string) spiffeid.ID {
	t.Helper()
	id, err := spiffeid.FromString("spiffe://" + trustDomain + path)
	require.NoError(t, err)
	return id
}

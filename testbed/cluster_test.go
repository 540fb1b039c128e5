package testbed

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

func TestAddonsAreValidObjectsAndCoverEveryNode(t *testing.T) {
	nodes := initialNodes()
	text, err := renderAddons("ephemos.local/coredns@sha256:00", nodes)
	require.NoError(t, err)
	decoder := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	volumes := map[string]int{}
	var dns *appsv1.DaemonSet
	for {
		document, err := decoder.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(document, nil, nil)
		require.NoError(t, err, string(document))
		require.NoError(t, yaml.UnmarshalStrict(document, object), "an unknown field in:\n%s", document)
		switch o := object.(type) {
		case *corev1.PersistentVolume:
			volumes[o.Labels[nodeLabel]]++
		case *appsv1.DaemonSet:
			dns = o
		}
	}
	for _, n := range nodes {
		require.Equal(t, volumesPerNode, volumes[n.Name])
	}
	require.NotNil(t, dns)
	require.Equal(t, "ephemos.local/coredns@sha256:00", dns.Spec.Template.Spec.Containers[0].Image)
}

func TestNodesHaveDistinctAddressesInsideTheRanges(t *testing.T) {
	seen := map[string]bool{}
	for i := 1; i <= 9; i++ {
		n := newNode(i)
		require.True(t, mustCIDR(LinkRange).Contains(net.ParseIP(n.Address)))
		ip, pods, err := net.ParseCIDR(n.PodCIDR)
		require.NoError(t, err)
		require.True(t, mustCIDR(PodRange).Contains(ip))
		require.False(t, mustCIDR(ServiceRange).Contains(ip))
		for _, key := range []string{n.Name, n.Address, pods.String(), n.link()} {
			require.False(t, seen[key], key)
			seen[key] = true
		}
		require.LessOrEqual(t, len(n.link()), 15, "interface names are at most 15 bytes")
	}
}

func TestKubeconfigIsComplete(t *testing.T) {
	dir := t.TempDir()
	creds, err := openCredentials(dir)
	require.NoError(t, err)
	require.NoError(t, creds.cluster.issue(dir, "admin", identity{CommonName: "admin"}))
	data, err := kubeconfigData("https://127.0.0.1:1", creds.cluster.certFile(), filepath.Join(dir, "admin.crt"), filepath.Join(dir, "admin.key"))
	require.NoError(t, err)
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	require.NoError(t, err)
	require.Equal(t, "https://127.0.0.1:1", config.Host)
	require.NotEmpty(t, config.CAData)
	require.NotEmpty(t, config.KeyData)
}

func TestSecondEncryptionKeyDiffers(t *testing.T) {
	a, err := encryptionConfiguration()
	require.NoError(t, err)
	b, err := encryptionConfiguration()
	require.NoError(t, err)
	require.NotEqual(t, a, b)
	require.NoError(t, yaml.Unmarshal([]byte(a), &map[string]any{}))
}

func TestClonedStoreSharesLayersAndOwnsDatabases(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	require.NoError(t, os.MkdirAll(filepath.Join(store, "snapshots", "1", "fs"), 0o755))
	layer, db := filepath.Join(store, "snapshots", "1", "fs", "bin"), filepath.Join(store, "meta.db")
	require.NoError(t, os.WriteFile(layer, []byte("layer"), 0o755))
	require.NoError(t, os.WriteFile(db, []byte("db"), 0o644))
	target := filepath.Join(filepath.Dir(store), "node")
	require.NoError(t, cloneStore(store, target))

	same := func(a, b string) bool {
		x, err := os.Stat(a)
		require.NoError(t, err)
		y, err := os.Stat(b)
		require.NoError(t, err)
		return os.SameFile(x, y)
	}
	require.True(t, same(layer, filepath.Join(target, "snapshots", "1", "fs", "bin")))
	require.False(t, same(db, filepath.Join(target, "meta.db")))
}

func TestLockIsExclusiveAndEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	_, err = lockFile(ctx, path)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	unlock()
	unlock, err = lockFile(t.Context(), path)
	require.NoError(t, err)
	unlock()
}

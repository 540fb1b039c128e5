package toolchain

import (
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/stacks"
)

// What Push leaves in a registry and what it returns are what a stack on another cluster deploys.
func TestStackTakesPushedImages(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://") + "/team"
	result := &Result{images: map[string]Image{}}
	for _, img := range images {
		if !slices.Contains(img.groups, GroupStack) {
			continue
		}
		pushed := fakeImage(t, img.name)
		if img.debian != nil && img.debian.major {
			pushed.Tag = registryHost + "/" + img.name + ":" + img.debian.version
			pushed.Ref = pushed.Tag + "@" + pushed.Digest
		}
		result.images[img.name] = pushed
	}
	refs, err := result.Push(t.Context(), host)
	require.NoError(t, err)

	dir := t.TempDir()
	kubeconfig, imagesFile := filepath.Join(dir, "config"), filepath.Join(dir, "images.json")
	require.NoError(t, os.WriteFile(kubeconfig, []byte("{current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], "+
		"clusters: [{name: c, cluster: {server: 'https://cluster.example.com:6443'}}], users: [{name: u, user: {token: t}}]}"), 0o600))
	content, err := json.Marshal(refs)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(imagesFile, content, 0o600))
	parse := func(key, value string) stacks.Images {
		config, err := stacks.Parse("test", map[string]string{
			"ephemos:trustDomain": "prod.company.com", "ephemos:kubeconfig": kubeconfig, key: value,
		}, func(string) bool { return false }, func(string) string { return "" })
		require.NoError(t, err)
		return config.Images
	}
	digest := func(ref string) string {
		parsed, err := name.ParseReference(ref)
		require.NoError(t, err)
		head, err := remote.Head(parsed)
		require.NoError(t, err, ref)
		return head.Digest.String()
	}

	byFile := parse("ephemos:imagesFile", imagesFile)
	require.Len(t, byFile, len(refs), "the stack and the toolchain have the same images")
	for image, ref := range byFile {
		require.Equal(t, refs[image], ref)
		require.Equal(t, result.images[image].Digest, digest(ref))
	}
	require.Equal(t, host+"/postgresql:15@"+result.images["postgresql"].Digest, byFile["postgresql"])

	byRegistry := parse("ephemos:imageRegistry", host)
	var own []string
	for image, ref := range byRegistry {
		if strings.HasPrefix(ref, host) {
			own = append(own, image)
			require.Equal(t, result.images[image].Digest, digest(ref))
		}
	}
	require.ElementsMatch(t, []string{"payment", "user", "order", "rootca", "gateway", "flowlog", "ghostunnel"}, own)
}

package stacks

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
)

// Kubeconfig says how to reach the cluster. It holds no credentials: the
// Kubernetes provider reads the file itself, so that they stay out of the
// stack's state.
type Kubeconfig struct {
	// Path is the absolute path of the kubeconfig file.
	Path string
	// Context is the context to use in it.
	Context string
	// Cluster identifies the cluster: a hash of the certificate authority of its
	// API server, or of the server's address when the file has no authority. It
	// stays the same when credentials are renewed.
	Cluster string
}

// kubeconfigPath is where to look when configuration names no file.
func kubeconfigPath(configured string, getenv func(string) string) string {
	switch {
	case configured == "" && getenv("KUBECONFIG") != "":
		return getenv("KUBECONFIG")
	case configured == "":
		return filepath.Join(getenv("HOME"), ".kube", "config")
	case strings.HasPrefix(configured, "~/"):
		return filepath.Join(getenv("HOME"), configured[2:])
	}
	return configured
}

// loadKubeconfig checks that the file can be read and that the context (empty:
// the file's current one) leads to a server. show is what an error about one key
// may say of the value of another.
func loadKubeconfig(path, context string, show func(key, value string) string) (Kubeconfig, error) {
	const wanted = "the path of a kubeconfig file (by default $KUBECONFIG, else ~/.kube/config)"
	refusePath := func(err error) (Kubeconfig, error) {
		return Kubeconfig{}, refuse(keyKubeconfig, path, fmt.Sprintf("%s: %v", wanted, err))
	}
	if list := filepath.SplitList(path); len(list) > 1 {
		return refusePath(errors.New("this is a list of several files"))
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return refusePath(err)
	}
	content, err := os.ReadFile(absolute)
	if err != nil {
		return refusePath(reason(err))
	}
	if len(strings.TrimSpace(string(content))) == 0 {
		return refusePath(errors.New("this file is empty"))
	}
	parsed, err := clientcmd.Load(content)
	if err != nil {
		return refusePath(errors.New("this file cannot be parsed as one"))
	}
	if context == "" {
		context = parsed.CurrentContext
	}
	chosen, ok := parsed.Contexts[context]
	if !ok {
		if context == "" {
			return refusePath(errors.New("this file has no current context"))
		}
		names := make([]string, 0, len(parsed.Contexts))
		for name := range parsed.Contexts {
			names = append(names, name)
		}
		slices.Sort(names)
		return Kubeconfig{}, refuse(keyKubeContext, context, fmt.Sprintf("a context of %s: %s", show(keyKubeconfig, path), strings.Join(names, ", ")))
	}
	cluster, ok := parsed.Clusters[chosen.Cluster]
	if !ok || cluster.Server == "" {
		return refusePath(fmt.Errorf("its context %s names no cluster with a server", show(keyKubeContext, strconv.Quote(context))))
	}
	authority := cluster.CertificateAuthorityData
	if len(authority) == 0 && cluster.CertificateAuthority != "" {
		file := cluster.CertificateAuthority
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(absolute), file)
		}
		if authority, err = os.ReadFile(file); err != nil {
			return refusePath(fmt.Errorf("its certificate authority %s cannot be read: %w", show(keyKubeconfig, file), reason(err)))
		}
	}
	if len(authority) == 0 {
		authority = []byte(cluster.Server)
	}
	sum := sha256.Sum256(authority)
	return Kubeconfig{Path: absolute, Context: context, Cluster: hex.EncodeToString(sum[:8])}, nil
}

// Package tunneltest finds the programs that run in the Data zone, for tests that start them.
package tunneltest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"ephemos.dev/deploy/toolchain"
)

// Ghostunnel returns a command that runs ghostunnel.
func Ghostunnel(t testing.TB) []string { return []string{program(t, "ghostunnel")} }

// NATS returns a command that runs nats-server.
func NATS(t testing.TB) []string { return []string{program(t, "nats-server")} }

// program returns the path of a program: the one that an environment variable names, else the one that the toolchain has
// built. A program of that name on the path may be another version, or lack what the toolchain adds.
func program(t testing.TB, name string) string {
	t.Helper()
	if file := os.Getenv(variable(name)); file != "" {
		return file
	}
	file, err := lookup(t, name).Program(name)
	if err != nil {
		missing(t, name, err)
	}
	return file
}

// Redis returns a command that runs redis-server: the one that EPHEMOS_REDIS_SERVER names, else the one in the image that the
// toolchain has built, with the libraries of that image.
func Redis(t testing.TB) []string {
	t.Helper()
	const name = "redis-server"
	if file := os.Getenv(variable(name)); file != "" {
		return []string{file}
	}
	image, err := lookup(t, name).Image("redis")
	if err != nil {
		missing(t, name, err)
	}
	root := t.TempDir()
	if err := unpack(image.Archive, root); err != nil {
		t.Fatal(err)
	}
	loaders, err := filepath.Glob(filepath.Join(root, "usr/lib*/ld-linux-*"))
	if more, _ := filepath.Glob(filepath.Join(root, "usr/lib/*/ld-linux-*")); err == nil && len(loaders) == 0 {
		loaders = more
	}
	libraries, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	if len(loaders) == 0 || len(libraries) == 0 {
		t.Fatalf("%s has no C library", image.Archive)
	}
	return []string{loaders[0], "--library-path", strings.Join(libraries, ":"), filepath.Join(root, "usr/bin", name)}
}

func variable(name string) string {
	return "EPHEMOS_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

func lookup(t testing.TB, name string) *toolchain.Result {
	t.Helper()
	built, err := toolchain.Lookup(context.Background(), toolchain.Options{Progress: io.Discard})
	if err != nil {
		missing(t, name, err)
	}
	return built
}

// missing skips the test. Whoever runs the tests alone need not have built the programs; `make unit` has, and must not pass
// over them.
func missing(t testing.TB, name string, err error) {
	t.Helper()
	report := t.Skipf
	if os.Getenv("EPHEMOS_REQUIRE_PROGRAMS") != "" {
		report = t.Fatalf
	}
	report("%s is not set and the toolchain has not built it: %v", variable(name), err)
}

// unpack writes the files of an image's archive, as the toolchain makes it, below root.
func unpack(archive, root string) error {
	blobs := map[string][]byte{}
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := each(file, func(h *tar.Header, content io.Reader) error {
		data, err := io.ReadAll(content)
		blobs[h.Name] = data
		return err
	}); err != nil {
		return err
	}
	type descriptor struct{ Digest string }
	blob := func(d descriptor) []byte { return blobs["blobs/"+strings.ReplaceAll(d.Digest, ":", "/")] }
	var index struct{ Manifests []descriptor }
	var manifest struct{ Layers []descriptor }
	if err := json.Unmarshal(blobs["index.json"], &index); err != nil || len(index.Manifests) == 0 {
		return fmt.Errorf("%s: index: %w", archive, err)
	}
	if err := json.Unmarshal(blob(index.Manifests[0]), &manifest); err != nil {
		return fmt.Errorf("%s: manifest: %w", archive, err)
	}
	for _, layer := range manifest.Layers {
		if err := unpackLayer(blob(layer), root); err != nil {
			return fmt.Errorf("%s: layer: %w", archive, err)
		}
	}
	return nil
}

func unpackLayer(data []byte, root string) error {
	var layer io.Reader = bytes.NewReader(data)
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(layer)
		if err != nil {
			return err
		}
		layer = unzipped
	}
	below, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer below.Close()
	return each(layer, func(h *tar.Header, content io.Reader) error {
		name := path.Clean(strings.TrimPrefix(h.Name, "/"))
		if err := below.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			return below.Symlink(h.Linkname, name)
		case tar.TypeReg:
			data, err := io.ReadAll(content)
			return errors.Join(err, below.WriteFile(name, data, h.FileInfo().Mode().Perm()))
		}
		return nil
	})
}

func each(archive io.Reader, do func(*tar.Header, io.Reader) error) error {
	for reader := tar.NewReader(archive); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(header, reader); err != nil {
			return err
		}
	}
}

package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"
)

// spec has a program whose file differs between calls in everything but its content.
func spec(t *testing.T) Spec {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(program, []byte("content"), 0o700))
	require.NoError(t, os.Chtimes(program, time.Now(), time.Now().Add(-time.Duration(time.Now().Nanosecond())*time.Second)))
	return Spec{Arch: "amd64", Config: v1.Config{User: "1000:1000", Entrypoint: []string{"/opt/bin/program"}}, Files: []File{
		{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "/opt/bin/program", Mode: 0o755 | fs.ModeSetuid, Source: program},
		{Path: "/bin", Mode: fs.ModeSymlink, Link: "opt/bin"},
		{Path: "/etc/passwd", Mode: 0o644, Content: []byte("root")},
		{Path: "/home", Mode: fs.ModeDir | 0o700, UID: 26, GID: 27},
	}}
}

func TestTwoBuildsOneDigest(t *testing.T) {
	var digests []v1.Hash
	var archives [][]byte
	for range 2 {
		dir := t.TempDir()
		image, err := Build(spec(t), filepath.Join(dir, "layer"))
		require.NoError(t, err)
		digest, err := image.Digest()
		require.NoError(t, err)
		digests = append(digests, digest)
		require.NoError(t, WriteArchive(filepath.Join(dir, "image"), image, "a@"+digest.String(), "a:1"))
		archive, err := os.ReadFile(filepath.Join(dir, "image"))
		require.NoError(t, err)
		archives = append(archives, archive)
	}
	require.Equal(t, digests[0], digests[1])
	require.True(t, bytes.Equal(archives[0], archives[1]), "the archives differ")
}

func TestLayer(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, WriteTar(&out, spec(t).Files))
	type entry struct {
		Name     string
		Type     byte
		Mode     int64
		UID, GID int
		Link     string
		Content  string
	}
	var got []entry
	for reader := tar.NewReader(&out); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.EqualValues(t, Epoch, header.ModTime.Unix())
		content, err := io.ReadAll(reader)
		require.NoError(t, err)
		got = append(got, entry{header.Name, header.Typeflag, header.Mode, header.Uid, header.Gid, header.Linkname, string(content)})
	}
	require.Equal(t, []entry{
		{"bin", tar.TypeSymlink, 0o777, 0, 0, "opt/bin", ""},
		{"etc/", tar.TypeDir, 0o755, 0, 0, "", ""},
		{"etc/passwd", tar.TypeReg, 0o644, 0, 0, "", "root"},
		{"home/", tar.TypeDir, 0o700, 26, 27, "", ""},
		{"opt/", tar.TypeDir, 0o755, 0, 0, "", ""},
		{"opt/bin/", tar.TypeDir, 0o755, 0, 0, "", ""},
		{"opt/bin/program", tar.TypeReg, 0o755, 0, 0, "", "content"},
		{"tmp/", tar.TypeDir, 0o1777, 0, 0, "", ""},
	}, got)
}

func TestLayerErrors(t *testing.T) {
	for name, files := range map[string][]File{
		"two files /a":              {{Path: "/a"}, {Path: "a"}},
		"needs a path":              {{Path: "/"}},
		"cannot be in an image":     {{Path: "/a", Mode: fs.ModeSocket}},
		"no such file or directory": {{Path: "/a", Source: "/does/not/exist"}},
	} {
		require.ErrorContains(t, WriteTar(io.Discard, files), name)
	}
}

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	built, err := Build(spec(t), filepath.Join(dir, "layer"))
	require.NoError(t, err)
	archive := filepath.Join(dir, "image.tar")
	require.NoError(t, WriteArchive(archive, built, "host/a@sha256:1", "host/a:2"))
	require.NoError(t, os.Remove(filepath.Join(dir, "layer")))

	opened, err := OpenArchive(archive)
	require.NoError(t, err)
	layers, err := opened.Layers()
	require.NoError(t, err)
	require.Len(t, layers, 1)
	content, err := layers[0].Compressed()
	require.NoError(t, err)
	defer content.Close()
	digest, size, err := v1.SHA256(content)
	require.NoError(t, err)
	manifest, err := opened.Manifest()
	require.NoError(t, err)
	require.Equal(t, manifest.Layers[0].Digest, digest)
	require.Equal(t, manifest.Layers[0].Size, size)
	want, err := built.Digest()
	require.NoError(t, err)
	got, err := opened.Digest()
	require.NoError(t, err)
	require.Equal(t, want, got)
	config, err := opened.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "1000:1000", config.Config.User)
	require.Equal(t, "amd64", config.Architecture)
	require.Equal(t, []v1.Hash{digest}, config.RootFS.DiffIDs)

	var index v1.IndexManifest
	require.NoError(t, json.Unmarshal(entryOf(t, archive, "index.json"), &index))
	var names []string
	for _, manifest := range index.Manifests {
		require.Equal(t, want, manifest.Digest)
		names = append(names, manifest.Annotations["io.containerd.image.name"])
	}
	require.Equal(t, []string{"host/a@sha256:1", "host/a:2"}, names)
}

func entryOf(t *testing.T, archive, name string) []byte {
	t.Helper()
	file, err := os.Open(archive)
	require.NoError(t, err)
	defer file.Close()
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		require.NoError(t, err)
		if header.Name == name {
			content, err := io.ReadAll(reader)
			require.NoError(t, err)
			return content
		}
	}
}

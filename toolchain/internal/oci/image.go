// Package oci makes container images from files, the same bytes from the same files: every image has one uncompressed layer with
// sorted entries, one fixed time and explicit owners. Uncompressed, because the images are made on the host that runs them, and
// a container runtime imports them faster so.
package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Epoch is the time of every file and image, in seconds since 1970: an arbitrary fixed date, so that the time of a build does
// not change its result.
const Epoch = 1767225600 // 2026-01-01T00:00:00Z

// A File is an entry of an image's file system: a folder, a symbolic link or a regular file.
type File struct {
	Path     string      // absolute in the image; missing parent folders are added, owned by root, mode 0755
	Mode     fs.FileMode // type and permissions; of the special bits only the sticky bit of a folder is kept, never setuid
	UID, GID int
	Link     string // a symbolic link's target
	Content  []byte // of a regular file; if nil, Source is read
	Source   string // path of a regular file on the host
}

// A Spec describes an image.
type Spec struct {
	Files  []File
	Config v1.Config // entrypoint, user, environment, labels
	Arch   string    // GOARCH
}

// Build writes the layer to a new file layerPath, which must stay as long as the image is used, and returns the image.
func Build(spec Spec, layerPath string) (v1.Image, error) {
	layer, err := writeLayer(spec.Files, layerPath)
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	created := v1.Time{Time: time.Unix(Epoch, 0).UTC()}
	image, err = mutate.Append(image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: created, CreatedBy: "ephemos toolchain"},
	})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created, config.Config = "linux", spec.Arch, created, spec.Config
	return mutate.ConfigFile(image, config)
}

// WriteTar writes files as a tar stream, sorted by path, each path once.
func WriteTar(w io.Writer, files []File) error {
	byPath := map[string]File{}
	for _, file := range files {
		name := strings.TrimPrefix(path.Clean("/"+file.Path), "/")
		if name == "" {
			return errors.New("an image's file needs a path")
		}
		if _, ok := byPath[name]; ok {
			return fmt.Errorf("the image has two files /%s", name)
		}
		byPath[name] = file
	}
	for _, name := range slices.Collect(maps.Keys(byPath)) {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := byPath[dir]; !ok {
				byPath[dir] = File{Mode: fs.ModeDir | 0o755}
			}
		}
	}
	out := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(byPath)) {
		if err := writeEntry(out, name, byPath[name]); err != nil {
			return fmt.Errorf("image file /%s: %w", name, err)
		}
	}
	return out.Close()
}

func writeEntry(out *tar.Writer, name string, file File) error {
	header := &tar.Header{
		Name: name, Mode: int64(file.Mode.Perm()), Uid: file.UID, Gid: file.GID,
		ModTime: time.Unix(Epoch, 0).UTC(), Format: tar.FormatPAX,
	}
	switch file.Mode.Type() {
	case fs.ModeDir:
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		if file.Mode&fs.ModeSticky != 0 {
			header.Mode |= 0o1000
		}
		return out.WriteHeader(header)
	case fs.ModeSymlink:
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, file.Link, 0o777
		return out.WriteHeader(header)
	case 0:
		header.Typeflag = tar.TypeReg
	default:
		return fmt.Errorf("a %s cannot be in an image", file.Mode.Type())
	}
	content := io.Reader(bytes.NewReader(file.Content))
	header.Size = int64(len(file.Content))
	if file.Content == nil {
		source, err := os.Open(file.Source)
		if err != nil {
			return err
		}
		defer source.Close()
		info, err := source.Stat()
		if err != nil {
			return err
		}
		content, header.Size = source, info.Size()
	}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(out, content)
	return err
}

func writeLayer(files []File, layerPath string) (v1.Layer, error) {
	out, err := os.OpenFile(layerPath, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	err = WriteTar(io.MultiWriter(out, hash), files)
	if err = errors.Join(err, out.Close()); err != nil {
		return nil, err
	}
	info, err := os.Stat(layerPath)
	if err != nil {
		return nil, err
	}
	return &layer{
		digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", hash.Sum(nil))},
		size:   info.Size(),
		open:   func() (io.ReadCloser, error) { return os.Open(layerPath) },
	}, nil
}

// layer is an uncompressed layer, whose content is both its "compressed" and its uncompressed form.
type layer struct {
	digest v1.Hash
	size   int64
	open   func() (io.ReadCloser, error)
}

func (l *layer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.digest, nil }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }
func (l *layer) Compressed() (io.ReadCloser, error)   { return l.open() }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.open() }

// nameAnnotation tells containerd under which name to store an image of an archive.
const nameAnnotation = "io.containerd.image.name"

// WriteArchive writes an image as an OCI layout in a tar file, which names it by each of the references.
func WriteArchive(archivePath string, image v1.Image, references ...string) (err error) {
	out, err := os.OpenFile(archivePath, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	descriptor, err := partial.Descriptor(image)
	if err != nil {
		return err
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, reference := range references {
		named := *descriptor
		named.Annotations = map[string]string{nameAnnotation: reference}
		index.Manifests = append(index.Manifests, named)
	}
	indexJSON, err := json.Marshal(index)
	if err != nil {
		return err
	}

	archive := tar.NewWriter(out)
	add := func(name string, size int64, content io.Reader) error {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(Epoch, 0).UTC()}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err := io.Copy(archive, content)
		return err
	}
	blob := func(content []byte) error {
		name := fmt.Sprintf("blobs/sha256/%x", sha256.Sum256(content))
		return add(name, int64(len(content)), bytes.NewReader(content))
	}
	layout := []byte(`{"imageLayoutVersion":"1.0.0"}`)
	if err := errors.Join(
		add("oci-layout", int64(len(layout)), bytes.NewReader(layout)),
		add("index.json", int64(len(indexJSON)), bytes.NewReader(indexJSON)),
		blob(manifest),
		blob(config),
	); err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		if err := addLayer(l, add); err != nil {
			return err
		}
	}
	return archive.Close()
}

func addLayer(l v1.Layer, add func(name string, size int64, content io.Reader) error) error {
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	content, err := l.Compressed()
	if err != nil {
		return err
	}
	defer content.Close()
	return add("blobs/"+digest.Algorithm+"/"+digest.Hex, size, content)
}

// OpenArchive returns the image of an archive that WriteArchive wrote. The file must stay as long as the image is used.
func OpenArchive(archivePath string) (v1.Image, error) {
	file, err := os.Open(archivePath)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	a := &archive{path: archivePath, blobs: map[string]section{}}
	var index v1.IndexManifest
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", archivePath, err)
		}
		if header.Name == "index.json" {
			if err := json.NewDecoder(reader).Decode(&index); err != nil {
				return nil, fmt.Errorf("%s: index.json: %w", archivePath, err)
			}
			continue
		}
		// The tar reader reads block by block without a buffer of its own, so that the file stands at the entry's content.
		offset, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		a.blobs[path.Base(header.Name)] = section{offset, header.Size}
	}
	if len(index.Manifests) == 0 {
		return nil, fmt.Errorf("%s holds no image", archivePath)
	}
	if a.manifest, err = a.read(index.Manifests[0].Digest); err != nil {
		return nil, err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(a.manifest))
	if err != nil {
		return nil, fmt.Errorf("%s: manifest: %w", archivePath, err)
	}
	if a.config, err = a.read(manifest.Config.Digest); err != nil {
		return nil, err
	}
	return partial.CompressedToImage(a)
}

// section is a blob's place in the archive file, in bytes.
type section struct{ offset, size int64 }

// archive implements partial.CompressedImageCore.
type archive struct {
	path             string
	blobs            map[string]section // by the hex form of the digest
	manifest, config []byte
}

func (a *archive) open(digest v1.Hash) (io.ReadCloser, error) {
	at, ok := a.blobs[digest.Hex]
	if !ok {
		return nil, fmt.Errorf("%s lacks blob %s", a.path, digest)
	}
	file, err := os.Open(a.path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(file, at.offset, at.size), file}, nil
}

func (a *archive) read(digest v1.Hash) ([]byte, error) {
	content, err := a.open(digest)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	return io.ReadAll(content)
}

func (a *archive) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (a *archive) RawManifest() ([]byte, error)        { return a.manifest, nil }
func (a *archive) RawConfigFile() ([]byte, error)      { return a.config, nil }

func (a *archive) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	at, ok := a.blobs[digest.Hex]
	if !ok {
		return nil, fmt.Errorf("%s lacks layer %s", a.path, digest)
	}
	return &layer{digest: digest, size: at.size, open: func() (io.ReadCloser, error) { return a.open(digest) }}, nil
}

// FromTree returns the files of a folder on the host for which keep returns true, with their permissions, owned by root. keep is
// asked with absolute paths in the image; a folder that is not kept may still have kept files.
func FromTree(root string, keep func(name string, d fs.DirEntry) bool) ([]File, error) {
	var files []File
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		name := strings.TrimPrefix(p, root)
		if !keep(name, d) {
			return nil
		}
		file := File{Path: name, Mode: d.Type() | 0o755, Source: p}
		switch {
		case d.Type() == fs.ModeSymlink:
			file.Link, err = os.Readlink(p)
		case d.Type().IsRegular():
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				file.Mode = info.Mode().Perm()
			}
		}
		files = append(files, file)
		return err
	})
	return files, err
}

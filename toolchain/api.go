package toolchain

import (
	"context"
	"io"
	"maps"
)

// A Group names a part of the catalogue. An item may belong to several groups. The name of a program, an image or a root
// filesystem is also a group: that of the parts with this name and what they are made of.
type Group string

// The groups of the catalogue.
const (
	// GroupTestbed is what the three-node cluster itself runs: the Kubernetes programs, etcd, kube-router, the root filesystem
	// of a node, and the images coredns and pause.
	GroupTestbed Group = "testbed"
	// GroupStack is what is deployed on the cluster and what deploys it: the images of SPIRE, the database, the load balancer
	// and the workloads, the Pulumi command line with its plugins, and the Pulumi program of this repository.
	GroupStack Group = "stack"
	// GroupCheck is what the checks that need no cluster use: the linter, the SPIRE programs, which validate configuration, and
	// Suricata, which tries the firewall rules.
	GroupCheck Group = "check"
	// GroupTest is what only the deploy tests use: the image probe.
	GroupTest Group = "test"
	// GroupAWS is what is deployed beside GroupStack on AWS alone: the image dbsetup.
	GroupAWS Group = "aws"
	// GroupAll stands for every other group.
	GroupAll Group = "all"
)

// Options say where the toolchain works and where it reports. The zero value is ready to use.
type Options struct {
	// Root is the repository's root folder, the one with go.mod of module ephemos.dev/deploy.
	// Default: found from the working directory upwards.
	Root string
	// Cache is the folder of the cache. Default: $EPHEMOS_CACHE, else "ephemos" in os.UserCacheDir.
	Cache string
	// Progress receives the progress display: one line per step, updated in place when it is a terminal. Nothing is written
	// when every step is in the cache already. Default: os.Stderr. Use io.Discard for silence.
	Progress io.Writer
}

// Ensure makes sure that every program, image and root filesystem of the groups (default: GroupAll) is in the cache, building
// what is missing one step after another, and returns where everything is. It is safe to call from several processes at once:
// one builds, the others wait for it. When ctx ends, running builds are stopped and their partial output never becomes visible.
//
// All requirements on the machine (root, Debian, Go version, disk space, packages) are checked before the first step, and only
// those which a missing step really has; what is not met is reported as an error of type *PreflightError. A failed step is
// reported as a *StepError.
func Ensure(ctx context.Context, opts Options, groups ...Group) (*Result, error) {
	return ensure(ctx, opts, groups)
}

// Lookup is Ensure without building: the Result holds what is in the cache already for this checkout. Asking it for something
// that is not there gives an error which says so.
func Lookup(ctx context.Context, opts Options) (*Result, error) {
	return lookup(ctx, opts)
}

// An Image is a container image in the cache.
type Image struct {
	// Name is the catalogue's name, for example "spire-server".
	Name string `json:"name"`
	// Ref is the reference to use in a pod, by digest of the manifest: "ephemos.local/<name>@sha256:<hex>", for postgresql
	// "ephemos.local/postgresql:15@sha256:<hex>", because CloudNativePG reads the major version from the tag.
	Ref string `json:"ref"`
	// Tag is the same image by version: "ephemos.local/<name>:<version>".
	Tag string `json:"tag"`
	// Archive is the absolute path of an OCI image archive (tar) which "ctr -n k8s.io images import" accepts. It names the
	// image twice: by digest without a tag (containerd normalises Ref to that) and by Tag.
	Archive string `json:"archive"`
	// Digest is the manifest's digest, "sha256:<hex>".
	Digest string `json:"digest"`
}

// A Result says where the parts of the catalogue are in the cache. Its methods return an error that names the part when it does
// not exist or is not in the groups that were ensured.
type Result struct {
	cache    string
	programs map[string]string
	images   map[string]Image
	rootfs   map[string]string
}

// Program returns the absolute path of a program, for example "kube-apiserver", or "pulumi-resource-kubernetes".
func (r *Result) Program(name string) (path string, err error) {
	return find(r.programs, "program", name)
}

// Image returns an image, for example "spire-server".
func (r *Result) Image(name string) (Image, error) {
	return find(r.images, "image", name)
}

// RootFS returns the absolute path of a root filesystem, a folder that belongs to the cache: treat it as read-only, for example
// as the lower layer of an overlay: "node", a node of the cluster, and "suricata", the program with its libraries.
func (r *Result) RootFS(name string) (dir string, err error) {
	return find(r.rootfs, "root filesystem", name)
}

// Programs returns all programs of the result, name to absolute path. The map belongs to the caller.
func (r *Result) Programs() map[string]string { return maps.Clone(r.programs) }

// RootFilesystems returns all root filesystems of the result, name to absolute path. The map belongs to the caller.
func (r *Result) RootFilesystems() map[string]string { return maps.Clone(r.rootfs) }

// Images returns all images of the result by name. The map belongs to the caller.
func (r *Result) Images() map[string]Image { return maps.Clone(r.images) }

// ImageRefs returns name to Ref for all images of the result, the content of images.json.
func (r *Result) ImageRefs() map[string]string {
	refs := make(map[string]string, len(r.images))
	for name, image := range r.images {
		refs[name] = image.Ref
	}
	return refs
}

// ImagesFile returns the path of a JSON file in the cache that holds ImageRefs of everything this checkout has in the cache.
// Ensure rewrites it. It is shared by all checkouts on the machine: the last Ensure wins.
func (r *Result) ImagesFile() string { return imagesFile(r.cache) }

// ReleaseTag is the tag by which the stack's ephemos:imageRegistry finds the programs of this repository. It moves with each Push.
const ReleaseTag = "0.1.0"

// Push copies the images of the result to a registry, for users with a cluster of their own. registry is a host with an optional
// path, such as "registry.example.com/ephemos"; credentials come from the Docker configuration of the user. Each image gets the tag
// of Image.Tag, the programs of this repository and those changed by it also ReleaseTag. It returns name to reference by digest, Image.Ref with the registry
// for "ephemos.local": the content of a file that the stack's ephemos:imagesFile takes.
func (r *Result) Push(ctx context.Context, registry string) (map[string]string, error) {
	return push(ctx, r.images, registry)
}

// CacheDir is the absolute path of the cache that the options name, whether it exists or not.
func CacheDir(opts Options) (string, error) { return cacheDir(opts.Cache) }

// Root is the root folder of the checkout that the options name, by default the one around the working directory.
func Root(opts Options) (string, error) {
	if opts.Root != "" {
		return opts.Root, nil
	}
	return findRoot()
}

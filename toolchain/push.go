package toolchain

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"ephemos.dev/deploy/toolchain/internal/oci"
)

func push(ctx context.Context, images map[string]Image, registry string) (map[string]string, error) {
	registry = strings.TrimSuffix(registry, "/")
	refs := map[string]string{}
	for _, n := range slices.Sorted(maps.Keys(images)) {
		img := images[n]
		tag, err := name.NewTag(registry+strings.TrimPrefix(img.Tag, registryHost), name.StrictValidation)
		if err != nil {
			return nil, fmt.Errorf("registry %q: %w", registry, err)
		}
		content, err := oci.OpenArchive(img.Archive)
		if err != nil {
			return nil, err
		}
		tags := []name.Tag{tag}
		if ours(n) {
			tags = append(tags, tag.Context().Tag(ReleaseTag))
		}
		for _, tag := range tags {
			if err := remote.Write(tag, content, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
				return nil, fmt.Errorf("push of %s: %w", tag, err)
			}
		}
		refs[n] = registry + strings.TrimPrefix(img.Ref, registryHost)
	}
	return refs, nil
}

// ours tells whether nobody else publishes what an image holds: a program of this repository, or one that is changed here.
func ours(imageName string) bool {
	return slices.ContainsFunc(images, func(img image) bool {
		return img.name == imageName && slices.ContainsFunc(builds, func(b build) bool {
			return (b.version == "" || b.changed) && slices.ContainsFunc(b.programs, func(p program) bool { return p.name == img.program })
		})
	})
}

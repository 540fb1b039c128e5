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
		_, version, _ := strings.Cut(img.Tag, ":")
		tag, err := name.NewTag(registry+"/"+n+":"+version, name.StrictValidation)
		if err != nil {
			return nil, fmt.Errorf("registry %q: %w", registry, err)
		}
		content, err := oci.OpenArchive(img.Archive)
		if err != nil {
			return nil, err
		}
		if err := remote.Write(tag, content, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return nil, fmt.Errorf("push of %s: %w", n, err)
		}
		refs[n] = tag.Context().Digest(img.Digest).String()
	}
	return refs, nil
}

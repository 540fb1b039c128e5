package stacks

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Names of the images of the catalogue. The keys of an images file are the same.
const (
	imageSPIREServer     = "spire-server"
	imageSPIREAgent      = "spire-agent"
	imageSPIREController = "spire-controller-manager"
	imageCSIDriver       = "spiffe-csi-driver"
	imageCSIRegistrar    = "csi-registrar"
	imagePostgresOp      = "cloudnative-pg"
	imagePostgres        = "postgresql"
	imageHAProxy         = "haproxy"
	imagePayment         = "payment"
	imageUser            = "user"
	imageOrder           = "order"
	imageRootCA          = "rootca"
	imageGateway         = "gateway"
	imageFlowLog         = "flowlog"
	imageTunnel          = "ghostunnel"
	imageCache           = "redis"
	imageQueue           = "nats"
	// ImageDatabaseSetup prepares a database that a platform brings.
	ImageDatabaseSetup = "dbsetup"
)

// publicImages are the upstream images, by the versions that this repository is
// tested with.
var publicImages = map[string]string{
	imageSPIREServer:     "ghcr.io/spiffe/spire-server:1.15.3",
	imageSPIREAgent:      "ghcr.io/spiffe/spire-agent:1.15.3",
	imageSPIREController: "ghcr.io/spiffe/spire-controller-manager:0.7.0",
	imageCSIDriver:       "ghcr.io/spiffe/spiffe-csi-driver:0.2.6",
	imageCSIRegistrar:    "registry.k8s.io/sig-storage/csi-node-driver-registrar:v2.15.0",
	imagePostgresOp:      "ghcr.io/cloudnative-pg/cloudnative-pg:1.30.1",
	imagePostgres: "ghcr.io/cloudnative-pg/postgresql:15.17-202602261636-system-bookworm" +
		"@sha256:042fa38888baa79700e6a061318da67ed1889b406f444ee2f1921bab95cf4f2b",
	imageHAProxy: "docker.io/library/haproxy:2.6.23",
	imageCache:   "docker.io/library/redis:7.0.15",
	imageQueue:   "docker.io/library/nats:2.15.2",
}

// ownImages are the programs of this repository, and the tunnel, which is built with changes that upstream's image lacks (a
// minimum of TLS 1.3, connections that end with their certificates); nobody publishes them.
var ownImages = []string{imagePayment, imageUser, imageOrder, imageRootCA, imageGateway, imageFlowLog, imageTunnel}

// awsImages are those of this repository that only the platform aws runs.
var awsImages = []string{ImageDatabaseSetup}

// ownImageTag is the tag under which the programs of this repository are pushed;
// the toolchain's ReleaseTag.
const ownImageTag = "0.1.0"

// postgresMajor is the major version of Postgres. The operator reads it from
// the tag of the image's reference, so a digest alone is not enough.
const postgresMajor = "15"

// registryPattern is a host, which a dot, a port or the name localhost tells from
// the first part of a path, then an optional port and path.
var registryPattern = regexp.MustCompile(`^(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+|[a-z0-9.-]+:[0-9]+)(:[0-9]+)?(/[a-z0-9._-]+)*$`)

// Images maps each image of the catalogue to its full reference.
type Images map[string]string

// Ref is the full reference of the named image.
func (i Images) Ref(name string) pulumi.StringInput { return pulumi.String(i[name]) }

// resolveImages merges, weakest first: the public images, the programs of this
// repository below registry (empty: none), and the references of the images
// file (empty path: none), a JSON object from image name to reference. Names
// that the catalogue does not have are ignored, so that one file can serve
// other tools too.
func resolveImages(platform, registry, file string) (Images, []error) {
	own := ownImages
	if platform == PlatformAWS {
		own = slices.Concat(ownImages, awsImages)
	}
	images := Images(maps.Clone(publicImages))
	var errs []error
	if registry != "" {
		if !registryPattern.MatchString(registry) {
			errs = append(errs, refuse(keyImageRegistry, registry, "a registry host with an optional port and path, such as registry.example.com/ephemos"))
		}
		for _, image := range own {
			images[image] = registry + "/" + image + ":" + ownImageTag
		}
	}
	if file != "" {
		if err := images.readFile(file); err != nil {
			return images, append(errs, refuse(keyImagesFile, file, fmt.Sprintf("a JSON file from image name to reference: %v", err)))
		}
	}
	var missing []string
	for _, image := range own {
		if images[image] == "" {
			missing = append(missing, image)
		}
	}
	if len(missing) > 0 {
		errs = append(errs, refuse(keyImageRegistry, registry, fmt.Sprintf(
			"the registry that holds %s, which have no public image, as `make images-push REGISTRY=<registry>` leaves it; "+
				"or set %s:%s to a file with the output of that command",
			strings.Join(missing, ", "), Namespace, keyImagesFile)))
	}
	return images, errs
}

func (i Images) readFile(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return reason(err)
	}
	refs := map[string]string{}
	if err := json.Unmarshal(content, &refs); err != nil {
		return err
	}
	var errs []error
	for _, image := range slices.Sorted(i.catalogue()) {
		ref, ok := refs[image]
		if !ok {
			continue
		}
		if _, err := name.ParseReference(ref); err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is not an image reference", image, ref))
			continue
		}
		if image == imagePostgres && !hasTagPrefix(ref, postgresMajor) {
			errs = append(errs, fmt.Errorf("%s: %q needs a tag that begins with %s", image, ref, postgresMajor))
			continue
		}
		i[image] = ref
	}
	if len(errs) > 0 {
		return errors.New(oneLine(errors.Join(errs...)))
	}
	return nil
}

// catalogue yields the name of every image a stack needs.
func (i Images) catalogue() func(func(string) bool) {
	return func(yield func(string) bool) {
		for image := range publicImages {
			if !yield(image) {
				return
			}
		}
		for _, image := range slices.Concat(ownImages, awsImages) {
			if !yield(image) {
				return
			}
		}
	}
}

// hasTagPrefix says whether ref carries a tag, with or without a digest, that is
// the version or continues it after a dot or a dash.
func hasTagPrefix(ref, version string) bool {
	tagged, _, _ := strings.Cut(ref, "@")
	slash := strings.LastIndex(tagged, "/")
	_, tag, ok := strings.Cut(tagged[slash+1:], ":")
	return ok && (tag == version || strings.HasPrefix(tag, version+".") || strings.HasPrefix(tag, version+"-"))
}

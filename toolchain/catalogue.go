package toolchain

import (
	"encoding/json"
	"runtime"
	"time"

	"ephemos.dev/deploy/toolchain/internal/debian"
)

// A program is one executable of a build.
type program struct {
	name string // of the file
	pkg  string // what the go command is asked to build, relative to the module's folder or an import path
}

// A build makes programs from one Go module.
type build struct {
	name     string
	module   string // folder of the nested module below toolchain/, "" for this repository's module
	pins     string // "module version" as go.mod must have it; "" for this repository's module
	version  string // of the programs, for image tags and labels; "" for the build's hash
	ldflags  string // besides the common ones
	programs []program
	patches  []patch
	changed  bool // the patches make it another program than upstream publishes, not only one that compiles
	groups   []Group
	// What a build takes on 2 cores when those before it in the table are done, measured, and how much space it takes in the
	// caches of the go command and here, in megabytes.
	estimate time.Duration
	space    int
}

// A patch changes a module that a build depends on. The module is copied from the module cache, changed and used instead. Every
// file below <nested module>/overlay/<module path>/ is added to the copy; it must not exist there.
type patch struct {
	module  string // path as in go.mod's require
	edits   []edit
	derived []derived
}

// An edit replaces text that must be in the file exactly once.
type edit struct{ file, old, new string }

// A derived file is made from another one of the module. The name of the function stands for it in the key.
type derived struct {
	file, from string
	transform  string
}

// transforms are the functions of derived files. Whoever changes one gives it another name.
var transforms = map[string]func(data []byte, version string) ([]byte, error){
	"schema with version": func(data []byte, version string) ([]byte, error) {
		var schema map[string]json.RawMessage
		if err := json.Unmarshal(data, &schema); err != nil {
			return nil, err
		}
		var err error
		if schema["version"], err = json.Marshal(version); err != nil {
			return nil, err
		}
		return json.Marshal(schema)
	},
	"compact": func(data []byte, _ string) ([]byte, error) {
		return json.Marshal(json.RawMessage(data))
	},
}

const (
	kubernetesVersion  = "v1.35.4"
	kubernetesProvider = "4.25.0" // the release whose commit go.mod pins as a pseudo-version
)

// builds are all programs, in the order in which they are built.
var builds = []build{
	{
		name: "kubernetes", module: "kubernetes", pins: "k8s.io/kubernetes " + kubernetesVersion, version: kubernetesVersion,
		ldflags: "-X k8s.io/component-base/version.gitVersion=" + kubernetesVersion +
			" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=35",
		programs: []program{
			{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"},
			{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"},
			{"kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"},
			{"kubelet", "k8s.io/kubernetes/cmd/kubelet"},
			{"kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"},
			{"kubectl", "k8s.io/kubernetes/cmd/kubectl"},
		},
		groups: []Group{GroupTestbed}, estimate: 320 * time.Second, space: 3500,
	},
	{
		name: "etcd", module: "etcd", pins: "go.etcd.io/etcd/server/v3 v3.6.5", version: "v3.6.5",
		programs: []program{{"etcd", "go.etcd.io/etcd/server/v3"}},
		groups:   []Group{GroupTestbed}, estimate: 25 * time.Second, space: 600,
	},
	{
		name: "coredns", module: "coredns", pins: "github.com/coredns/coredns v1.15.0", version: "v1.15.0",
		programs: []program{{"coredns", "."}},
		groups:   []Group{GroupTestbed}, estimate: 100 * time.Second, space: 700,
	},
	{
		name: "kube-router", module: "kube-router", pins: "github.com/k3s-io/kube-router/v2 v2.6.3-k3s1", version: "v2.6.3-k3s1",
		ldflags:  "-X github.com/cloudnativelabs/kube-router/v2/pkg/version.Version=v2.6.3-k3s1",
		programs: []program{{"kube-router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"}},
		groups:   []Group{GroupTestbed}, estimate: 105 * time.Second, space: 1200,
	},
	{
		name: "pause", module: "pause", version: "1",
		programs: []program{{"pause", "."}},
		groups:   []Group{GroupTestbed}, estimate: 10 * time.Second, space: 20,
	},
	{
		name: "spire", module: "spire", pins: "github.com/spiffe/spire v1.15.3", version: "1.15.3",
		ldflags: "-X github.com/spiffe/spire/pkg/common/version.gittag=1.15.3",
		programs: []program{
			{"spire-server", "github.com/spiffe/spire/cmd/spire-server"},
			{"spire-agent", "github.com/spiffe/spire/cmd/spire-agent"},
		},
		groups: []Group{GroupStack, GroupCheck}, estimate: 265 * time.Second, space: 3500,
	},
	{
		name: "spire-controller-manager", module: "spire-controller-manager",
		pins: "github.com/spiffe/spire-controller-manager v0.7.0", version: "0.7.0",
		programs: []program{{"spire-controller-manager", "github.com/spiffe/spire-controller-manager/cmd"}},
		groups:   []Group{GroupStack}, estimate: 40 * time.Second, space: 600,
	},
	{
		name: "spiffe-csi-driver", module: "spiffe-csi", pins: "github.com/spiffe/spiffe-csi v0.2.6", version: "0.2.6",
		programs: []program{{"spiffe-csi-driver", "github.com/spiffe/spiffe-csi/cmd/spiffe-csi-driver"}},
		groups:   []Group{GroupStack}, estimate: 10 * time.Second, space: 150,
	},
	{
		name: "cloudnative-pg", module: "cloudnative-pg",
		pins: "github.com/cloudnative-pg/cloudnative-pg v1.30.1", version: "1.30.1",
		programs: []program{{"manager", "github.com/cloudnative-pg/cloudnative-pg/cmd/manager"}},
		patches: []patch{
			{
				module: "github.com/cloudnative-pg/machinery",
				edits: []edit{{
					file: "pkg/log/flags.go",
					old:  "func (l *Flags) ConfigureLogging() {",
					new:  "func (l *Flags) ConfigureLogging(_ ...ConfigureOption) {",
				}},
			},
			{module: "github.com/cloudnative-pg/barman-cloud"},
		},
		groups: []Group{GroupStack}, estimate: 90 * time.Second, space: 1200,
	},
	{
		name: "ghostunnel", module: "ghostunnel", pins: "github.com/ghostunnel/ghostunnel v1.8.4", version: "v1.8.4",
		ldflags:  "-X main.version=v1.8.4",
		programs: []program{{"ghostunnel", "github.com/ghostunnel/ghostunnel"}}, changed: true,
		patches: []patch{{
			module: "github.com/ghostunnel/ghostunnel",
			edits: []edit{
				// Without cgo upstream's 1.8.4 does not compile: its caller passes one argument more.
				{"certloader/pkcs11_disabled.go", "tokenLabel, pin string)", "tokenLabel, pin string, _ any)"},
				// Upstream has no flag for it.
				{"tls.go", "MinVersion:               tls.VersionTLS12,", "MinVersion:               tls.VersionTLS13,"},
				// A connection ends when the certificate that opened it does. Upstream verifies that once, in the handshake.
				{
					file: "proxy/proxy.go",
					old: "\t\t// Success: clear deadline\n" +
						"\t\terr = tlsConn.SetDeadline(time.Time{})\n",
					new: "\t\tvar end time.Time\n" +
						"\t\tif peer := tlsConn.ConnectionState().PeerCertificates; len(peer) > 0 {\n" +
						"\t\t\tend = peer[0].NotAfter\n" +
						"\t\t}\n" +
						"\t\terr = tlsConn.SetDeadline(end)\n",
				},
			},
		}},
		groups: []Group{GroupStack}, estimate: 50 * time.Second, space: 700,
	},
	{
		name: "nats-server", module: "nats-server", pins: "github.com/nats-io/nats-server/v2 v2.15.2", version: "v2.15.2",
		programs: []program{{"nats-server", "github.com/nats-io/nats-server/v2"}},
		groups:   []Group{GroupStack}, estimate: 25 * time.Second, space: 300,
	},
	{
		name: "pulumi", module: "pulumi", pins: "github.com/pulumi/pulumi/pkg/v3 v3.259.0", version: "v3.259.0",
		ldflags:  "-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v3.259.0",
		programs: []program{{"pulumi", "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"}},
		groups:   []Group{GroupStack}, estimate: 150 * time.Second, space: 2500,
	},
	{
		name: "pulumi-language-go", module: "pulumi-language-go", pins: "github.com/pulumi/pulumi/sdk/v3 v3.66.0", version: "v3.66.0",
		programs: []program{{"pulumi-language-go", "github.com/pulumi/pulumi/sdk/v3/go/pulumi-language-go"}},
		groups:   []Group{GroupStack}, estimate: 25 * time.Second, space: 200,
	},
	{
		name: "pulumi-kubernetes", module: "pulumi-kubernetes",
		pins:     "github.com/pulumi/pulumi-kubernetes/provider/v4 v4.0.0-20260115033456-f47bc2d6f199",
		version:  kubernetesProvider,
		ldflags:  "-X github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version.Version=" + kubernetesProvider,
		programs: []program{{"pulumi-resource-kubernetes", "github.com/pulumi/pulumi-kubernetes/provider/v4/cmd/pulumi-resource-kubernetes"}},
		// Upstream's generate.go makes these two files before a release; the module does not carry them.
		patches: []patch{{
			module: "github.com/pulumi/pulumi-kubernetes/provider/v4",
			derived: []derived{
				{"cmd/pulumi-resource-kubernetes/schema-embed.json", "cmd/pulumi-resource-kubernetes/schema.json", "schema with version"},
				{"cmd/pulumi-resource-kubernetes/terraform-mapping-embed.json", "cmd/pulumi-resource-kubernetes/terraform-mapping.json", "compact"},
			},
		}},
		groups: []Group{GroupStack}, estimate: 11 * time.Minute, space: 4000,
	},
	{
		name: "golangci-lint", module: "golangci-lint", pins: "github.com/golangci/golangci-lint/v2 v2.15.0", version: "v2.15.0",
		ldflags:  "-X main.version=2.15.0",
		programs: []program{{"golangci-lint", "github.com/golangci/golangci-lint/v2/cmd/golangci-lint"}},
		groups:   []Group{GroupCheck}, estimate: 60 * time.Second, space: 1500,
	},
	own("payment", "./cmd/payment", GroupStack, 20*time.Second, 200),
	own("user", "./cmd/user", GroupStack, 5*time.Second, 50),
	own("order", "./cmd/order", GroupStack, 5*time.Second, 50),
	own("rootca", "./cmd/rootca", GroupStack, 50*time.Second, 200),
	own("csi-registrar", "./cmd/csi-registrar", GroupStack, 5*time.Second, 50),
	own("gateway", "./cmd/gateway", GroupStack, 20*time.Second, 100),
	own("flowlog", "./cmd/flowlog", GroupStack, 10*time.Second, 100),
	own("dbsetup", "./cmd/dbsetup", GroupAWS, 60*time.Second, 300),
	own("probe", "./test/probe", GroupTest, 5*time.Second, 50),
}

// own is a program of this repository.
func own(name, pkg string, group Group, estimate time.Duration, space int) build {
	return build{name: name, programs: []program{{name, pkg}}, groups: []Group{group}, estimate: estimate, space: space}
}

// The users of images: spireUser is that of SPIRE's public images, nonRoot the one that distroless images made customary.
const (
	spireUser    = 1000
	nonRoot      = 65532
	postgresUser = 26 // CloudNativePG's default for postgresUID and postgresGID
)

// An image is made of a program, or of Debian packages.
type image struct {
	name    string
	program string   // name of a program, "" for an image of Debian packages
	paths   []string // in the image: the last one is the file, the others are links to it; the first one is the entrypoint
	cmd     []string
	user    int // also its group
	workdir string
	debian  *debianImage
	groups  []Group
}

// A debianImage has files of packages which are only unpacked, and the libraries that they need.
type debianImage struct {
	version string // the tag, and the tag within the reference
	tree    debian.Tree
	// keep are the files to take, path.Match patterns; a pattern that ends in "/" stands for all that is below. drop are
	// exceptions from them.
	keep, drop []string
	account    string // name of the user and its group
	home       string // created for the user
	dirs       []string
	env        []string
	entrypoint []string
	// major says that references carry the version as their tag.
	major    bool
	estimate time.Duration
	space    int
}

// images are all container images.
var images = []image{
	{name: "coredns", program: "coredns", paths: []string{"/bin/coredns"}, user: nonRoot, groups: []Group{GroupTestbed}},
	{name: "pause", program: "pause", paths: []string{"/pause"}, user: nonRoot, groups: []Group{GroupTestbed}},
	{
		name: "spire-server", program: "spire-server", paths: []string{"/opt/spire/bin/spire-server"},
		cmd: []string{"run"}, user: spireUser, workdir: "/opt/spire", groups: []Group{GroupStack},
	},
	{
		name: "spire-agent", program: "spire-agent", paths: []string{"/opt/spire/bin/spire-agent"},
		cmd: []string{"run"}, user: spireUser, workdir: "/opt/spire", groups: []Group{GroupStack},
	},
	{
		name: "spire-controller-manager", program: "spire-controller-manager", paths: []string{"/spire-controller-manager"},
		user: nonRoot, groups: []Group{GroupStack},
	},
	{
		name: "spiffe-csi-driver", program: "spiffe-csi-driver", paths: []string{"/spiffe-csi-driver"},
		user: nonRoot, groups: []Group{GroupStack},
	},
	{
		// The operator looks for the manager of a database pod's architecture at the second path.
		name: "cloudnative-pg", program: "manager", paths: []string{"/manager", "/operator/manager_" + runtime.GOARCH},
		user: nonRoot, groups: []Group{GroupStack},
	},
	{name: "ghostunnel", program: "ghostunnel", paths: []string{"/bin/ghostunnel"}, user: nonRoot, groups: []Group{GroupStack}},
	{name: "nats", program: "nats-server", paths: []string{"/bin/nats-server"}, user: nonRoot, groups: []Group{GroupStack}},
	{name: "csi-registrar", program: "csi-registrar", paths: []string{"/bin/csi-registrar"}, user: nonRoot, groups: []Group{GroupStack}},
	{name: "payment", program: "payment", paths: []string{"/bin/payment"}, user: nonRoot, groups: []Group{GroupStack}},
	{name: "user", program: "user", paths: []string{"/bin/user"}, user: nonRoot, groups: []Group{GroupStack}},
	{name: "order", program: "order", paths: []string{"/bin/order"}, user: nonRoot, groups: []Group{GroupStack}},
	{name: "rootca", program: "rootca", paths: []string{"/bin/rootca"}, user: nonRoot, groups: []Group{GroupStack}},
	{name: "gateway", program: "gateway", paths: []string{"/bin/gateway"}, user: nonRoot, groups: []Group{GroupStack}},
	{name: "flowlog", program: "flowlog", paths: []string{"/bin/flowlog"}, user: nonRoot, groups: []Group{GroupStack}},
	{name: "dbsetup", program: "dbsetup", paths: []string{"/bin/dbsetup"}, user: nonRoot, groups: []Group{GroupAWS}},
	{name: "probe", program: "probe", paths: []string{"/bin/probe"}, user: nonRoot, groups: []Group{GroupTest}},
	{
		name: "postgresql", user: postgresUser, groups: []Group{GroupStack},
		debian: &debianImage{
			version: "15", major: true,
			tree: debian.Tree{Packages: []string{
				"postgresql-15", "libnss-wrapper", "coreutils", "dash", "libc-bin", "tzdata",
			}},
			keep: []string{
				"/usr/lib/postgresql/15/bin/",
				"/usr/lib/postgresql/15/lib/*.so",
				"/usr/share/postgresql/15/",
				"/usr/share/zoneinfo/",
				"/usr/lib/*/libnss_wrapper.so",
				// initdb and pg_ctl run programs through a shell; archive and restore commands may want these.
				"/usr/bin/sh", "/usr/bin/dash", "/usr/bin/locale", "/usr/bin/[", "/usr/bin/cat", "/usr/bin/cp", "/usr/bin/date",
				"/usr/bin/df", "/usr/bin/du", "/usr/bin/env", "/usr/bin/false", "/usr/bin/head", "/usr/bin/id", "/usr/bin/ls",
				"/usr/bin/mkdir", "/usr/bin/mv", "/usr/bin/rm", "/usr/bin/sleep", "/usr/bin/stat", "/usr/bin/tail", "/usr/bin/test",
				"/usr/bin/touch", "/usr/bin/true",
				"/usr/lib/locale/C.utf8/",
				"/usr/lib/*/libgcc_s.so.1", // the C library opens it when a thread ends
			},
			drop: []string{
				// The compiler of queries, with a library of 110 MB. PostgreSQL runs without it as if jit were off.
				"/usr/lib/postgresql/15/lib/llvmjit.so",
				// Links to the machine's own time zone, which the image has not, and second forms of every zone.
				"/usr/share/zoneinfo/localtime", "/usr/share/zoneinfo/posix/", "/usr/share/zoneinfo/right/",
			},
			account: "postgres", home: "/var/lib/postgresql", dirs: []string{"/run/postgresql"},
			env: []string{
				"PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "TZ=Etc/UTC",
			},
			estimate: 70 * time.Second, space: 900,
		},
	},
	{
		name: "haproxy", user: nonRoot, groups: []Group{GroupStack},
		debian: &debianImage{
			version: "2.6",
			tree:    debian.Tree{Packages: []string{"haproxy", "libgcc-s1"}},
			keep:    []string{"/usr/sbin/haproxy", "/etc/haproxy/errors/", "/usr/lib/*/libgcc_s.so.1"},
			account: "haproxy", home: "/var/lib/haproxy",
			env:        []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
			entrypoint: []string{"/usr/sbin/haproxy"},
			estimate:   20 * time.Second, space: 250,
		},
	},
	{
		name: "redis", user: nonRoot, groups: []Group{GroupStack},
		debian: &debianImage{
			version: "7.0",
			tree:    debian.Tree{Packages: []string{"redis-server", "libgcc-s1"}},
			// The server is a link to a program that does different things by different names.
			keep:    []string{"/usr/bin/redis-server", "/usr/lib/*/libgcc_s.so.1"},
			account: "redis", home: "/var/lib/redis",
			env:        []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
			entrypoint: []string{"/usr/bin/redis-server"},
			estimate:   20 * time.Second, space: 250,
		},
	},
}

// A rootfs is a tree of Debian packages on its own.
type rootfs struct {
	name     string
	tree     debian.Tree
	groups   []Group
	estimate time.Duration
	space    int
}

// trees are all root filesystems.
var trees = []rootfs{{
	name: "node",
	tree: debian.Tree{Installed: true, Packages: []string{
		"bash", "ca-certificates", "conntrack", "containerd", "containernetworking-plugins", "ipset", "iproute2", "iptables",
		"kmod", "mount", "nftables", "procps", "runc", "socat", "util-linux",
	}},
	groups: []Group{GroupTestbed}, estimate: 90 * time.Second, space: 900,
}, {
	// The engine of AWS Network Firewall. Tests run the rules of components/network with it. Debian 12 itself has 6.0; the firewall
	// runs 7.0.
	name:   "suricata",
	tree:   debian.Tree{Packages: []string{"suricata/bookworm-backports", "libhtp2/bookworm-backports"}},
	groups: []Group{GroupCheck}, estimate: 30 * time.Second, space: 400,
}, {
	// The server that the tests of cmd/dbsetup prepare.
	name:   "postgres-server",
	tree:   debian.Tree{Packages: []string{"postgresql-15"}},
	groups: []Group{GroupCheck}, estimate: 40 * time.Second, space: 600,
}}

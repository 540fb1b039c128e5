package testbed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"ephemos.dev/deploy/toolchain"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// Options say where a cluster lives. The zero value is the user's one testbed.
type Options struct {
	// Dir is the state directory: keys, logs, databases and volumes of the cluster. Down removes it.
	// Default: $EPHEMOS_STATE, else "ephemos" in $XDG_STATE_HOME, else ~/.local/state/ephemos.
	// It must be on the same file system as the toolchain's cache.
	Dir string
	// Progress receives a line a step. Default: os.Stderr.
	Progress io.Writer
	// Toolchain says where programs and images come from.
	Toolchain toolchain.Options
}

// Cluster is a handle on the cluster of one state directory. Its methods lock that directory against other processes.
type Cluster struct {
	dir      string
	cache    string
	options  Options
	progress io.Writer
	mu       sync.Mutex // of progress
}

// Open returns a handle; nothing is started.
func Open(o Options) (*Cluster, error) {
	dir, err := stateDir(o.Dir)
	if err != nil {
		return nil, err
	}
	cache, err := toolchain.CacheDir(o.Toolchain)
	if err != nil {
		return nil, err
	}
	if o.Progress == nil {
		o.Progress = os.Stderr
	}
	return &Cluster{dir: dir, cache: cache, options: o, progress: o.Progress}, nil
}

func stateDir(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv("EPHEMOS_STATE")
	}
	if dir == "" {
		if base := os.Getenv("XDG_STATE_HOME"); base != "" {
			dir = filepath.Join(base, "ephemos")
		}
	}
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no state directory: set EPHEMOS_STATE: %w", err)
		}
		dir = filepath.Join(home, ".local", "state", "ephemos")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	// One directory has one name, whichever way it was reached: machines are found by it.
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real, nil
	}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		return filepath.Join(parent, filepath.Base(dir)), nil
	}
	return dir, nil
}

// Dir is the cluster's state directory.
func (c *Cluster) Dir() string { return c.dir }

// Kubeconfig is the path of the administrator's kubeconfig; its server is on the host's loopback.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.dir, "kubeconfig") }

func machinesDir(dir string) string { return filepath.Join(dir, "machines") }

func (c *Cluster) machineDir(name string) string { return filepath.Join(machinesDir(c.dir), name) }

// cgroupOf is the control group of a node; a hash of the state directory keeps two testbeds apart.
func (c *Cluster) cgroupOf(g cgroups, n node) string {
	digest := sha256.Sum256([]byte(c.dir))
	return g.path(filepath.Base(c.dir)+"-"+hex.EncodeToString(digest[:4]), n.Name)
}

// step announces a step and returns what announces its end with the time it took.
func (c *Cluster) step(format string, args ...any) func() {
	what, start := fmt.Sprintf(format, args...), time.Now()
	c.say("%s ...", what)
	return func() { c.say("%s: done in %.1fs", what, time.Since(start).Seconds()) }
}

func (c *Cluster) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Fprintf(c.progress, "  testbed: "+format+"\n", args...)
}

// lock keeps other processes from changing the cluster.
func (c *Cluster) lock(ctx context.Context) (func(), error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the testbed makes namespaces and mounts: run it as root")
	}
	if err := c.own(); err != nil {
		return nil, err
	}
	return lockFile(ctx, c.dir+".lock")
}

// marker is a file that says that a directory is a testbed's: Down removes the directory with everything in it.
const marker = "testbed.state"

// own makes the state directory, or checks that it is one.
func (c *Cluster) own() error {
	if exists(filepath.Join(c.dir, marker)) {
		return nil
	}
	if entries, err := os.ReadDir(c.dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not a testbed's state directory and not empty: it is left alone; set EPHEMOS_STATE to another", c.dir)
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	return writeFile(filepath.Join(c.dir, marker), []byte("The state of a testbed. `make down` removes this directory.\n"), 0o600)
}

// refuseStrangers checks what a run needs before the toolchain builds anything.
func (c *Cluster) refuseStrangers() error {
	if os.Geteuid() != 0 {
		return errors.New("the testbed makes namespaces and mounts: run it as root")
	}
	return c.own()
}

// OneFileSystem checks that the state directory and the cache can share files by hard links.
func (c *Cluster) OneFileSystem() error {
	device := func(path string) (uint64, error) {
		var stat unix.Stat_t
		for {
			err := unix.Stat(path, &stat)
			if !errors.Is(err, unix.ENOENT) || path == filepath.Dir(path) {
				return stat.Dev, err
			}
			path = filepath.Dir(path)
		}
	}
	state, err1 := device(c.dir)
	cache, err2 := device(c.cache)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if state != cache {
		return fmt.Errorf("the state directory %s and the cache %s must be on one file system: set EPHEMOS_STATE or EPHEMOS_CACHE", c.dir, c.cache)
	}
	return nil
}

// nodes returns the nodes of the cluster, those that Up starts.
func (c *Cluster) nodes() ([]node, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, "nodes.json"))
	if errors.Is(err, os.ErrNotExist) {
		return initialNodes(), nil
	}
	if err != nil {
		return nil, err
	}
	var nodes []node
	return nodes, json.Unmarshal(data, &nodes)
}

func (c *Cluster) saveNodes(nodes []node) error {
	data, err := json.Marshal(nodes)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(c.dir, "nodes.json"), data, 0o600)
}

// NodeNames returns the names of the nodes, running or not.
func (c *Cluster) NodeNames() ([]string, error) {
	nodes, err := c.nodes()
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	return names, err
}

// Up brings the cluster to its full shape, whatever state it is in: nothing there, everything running, or anything between that a
// crash left behind. It is Start and then Complete.
func (c *Cluster) Up(ctx context.Context) error {
	if err := c.Start(ctx); err != nil {
		return err
	}
	return c.Complete(ctx)
}

// Start builds what the toolchain lacks, starts what does not run, and returns when the API server answers.
func (c *Cluster) Start(ctx context.Context) error {
	if err := errors.Join(c.OneFileSystem(), c.refuseStrangers()); err != nil {
		return err
	}
	tools, err := c.Tools(ctx)
	if err != nil {
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	nodes, err := c.nodes()
	if err != nil {
		return err
	}
	if err := c.startMachines(ctx, tools, nodes); err != nil {
		return err
	}
	client, err := c.Client()
	if err != nil {
		return err
	}
	done := c.step("Wait for the API server")
	if err := poll(ctx, 60*time.Second, 100*time.Millisecond, "the API server", func(ctx context.Context) (bool, error) {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err == nil, err
	}); err != nil {
		return c.withLog(err, controlPlane, "kube-apiserver")
	}
	done()
	return nil
}

// Complete returns when every node of a started cluster is ready and its DNS, storage and access rules are in place.
func (c *Cluster) Complete(ctx context.Context) error {
	tools, err := c.Tools(ctx)
	if err != nil {
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	nodes, err := c.nodes()
	if err != nil {
		return err
	}
	client, err := c.Client()
	if err != nil {
		return err
	}
	done := c.step("DNS, storage and access rules of the cluster")
	if err := c.applyAddons(ctx, tools, client, nodes); err != nil {
		return err
	}
	done()
	done = c.step("Wait for %d nodes", len(nodes))
	if err := c.waitNodes(ctx, client, nodes); err != nil {
		return c.withLog(err, nodes[0].Name, "kubelet")
	}
	done()
	return nil
}

// Tools are the programs and images that the cluster runs, built if need be.
func (c *Cluster) Tools(ctx context.Context) (*toolchain.Result, error) {
	return toolchain.Ensure(ctx, c.options.Toolchain, toolchain.GroupTestbed, toolchain.GroupStack, toolchain.GroupTest)
}

// startMachines starts what is not running and mends the links of what is.
func (c *Cluster) startMachines(ctx context.Context, tools *toolchain.Result, nodes []node) error {
	creds, err := openCredentials(filepath.Join(c.dir, "pki"))
	if err != nil {
		return err
	}
	if err := c.saveNodes(nodes); err != nil {
		return err
	}
	running, err := findMachines(c.dir)
	if err != nil {
		return err
	}
	control, ok := named(running, controlPlane)
	if !ok {
		done := c.step("Start the control plane")
		if control, err = c.startControlPlane(tools, creds, nodes); err != nil {
			return err
		}
		done()
	} else if err := linkControlPlane(control, nodes); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	var store string
	for _, n := range nodes {
		if !exists(filepath.Join(c.machineDir(n.Name), "containerd")) {
			if store, err = c.imageStore(ctx, imageList(tools), rootFS(tools)); err != nil {
				return err
			}
			break
		}
	}
	for _, n := range nodes {
		group.Go(func() error {
			if m, ok := named(running, n.Name); ok {
				return errors.Join(linkNode(control, m, n, nodes), c.importMissing(ctx, m, imageList(tools)))
			}
			done := c.step("Start %s", n.Name)
			m, err := c.startNode(tools, creds, control, n, nodes, store)
			if err != nil {
				return err
			}
			if store == "" { // its images are from an earlier run
				if err := c.importMissing(ctx, m, imageList(tools)); err != nil {
					return err
				}
			}
			done()
			return nil
		})
	}
	return group.Wait()
}

func imageList(tools *toolchain.Result) []toolchain.Image {
	images := tools.Images()
	list := make([]toolchain.Image, 0, len(images))
	for _, name := range sortedKeys(images) {
		list = append(list, images[name])
	}
	return list
}

func rootFS(tools *toolchain.Result) string {
	dir, _ := tools.RootFS("node") // Ensure of the testbed's group has it, or failed
	return dir
}

// programBinds shows programs of the toolchain inside a machine. The machine has its own links to them, which last when the cache
// drops what it no longer needs.
func programBinds(dir string, tools *toolchain.Result, names ...string) ([]bind, error) {
	var binds []bind
	if err := os.MkdirAll(filepath.Join(dir, "programs"), 0o755); err != nil {
		return nil, err
	}
	for _, name := range names {
		path, err := tools.Program(name)
		if err != nil {
			return nil, err
		}
		own := filepath.Join(dir, "programs", name)
		if err := os.Remove(own); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err := os.Link(path, own); err != nil {
			return nil, err
		}
		binds = append(binds, bind{Source: own, Target: programDir + "/" + name, ReadOnly: true})
	}
	if exists("/lib/modules") {
		binds = append(binds, bind{Source: "/lib/modules", Target: "/lib/modules", ReadOnly: true})
	}
	return binds, nil
}

func (c *Cluster) startControlPlane(tools *toolchain.Result, creds *credentials, nodes []node) (machine, error) {
	dir := c.machineDir(controlPlane)
	if err := prepareControlPlane(dir, creds); err != nil {
		return machine{}, err
	}
	etcd := filepath.Join(dir, "etcd")
	if err := os.MkdirAll(etcd, 0o700); err != nil {
		return machine{}, err
	}
	binds, err := programBinds(dir, tools, "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
	if err != nil {
		return machine{}, err
	}
	listener, err := c.listen(creds)
	if err != nil {
		return machine{}, err
	}
	defer func() { _ = listener.Close() }()
	return launch(dir, machineSpec{
		Name:   controlPlane,
		RootFS: rootFS(tools),
		Binds: append(binds,
			bind{Source: filepath.Join(dir, "config"), Target: configDir},
			bind{Source: etcd, Target: "/var/lib/etcd"},
			bind{Source: logDir(dir), Target: "/var/log/testbed"}),
		Services: controlPlaneServices(),
		Forward:  fmt.Sprintf("%s:%d", controlPlaneAddress, APIServerPort),
	}, listener, func(m machine) error { return linkControlPlane(m, nodes) })
}

// preferredPort is where the API server is found on the host's loopback, unless something else has it.
const preferredPort = 16443

// listen opens the loopback listener for the API server, on the port of an earlier life of this cluster if it is free, and writes
// the kubeconfig that goes with it.
func (c *Cluster) listen(creds *credentials) (*os.File, error) {
	port := preferredPort
	if config, err := clientcmd.LoadFromFile(c.Kubeconfig()); err == nil && config.Clusters["testbed"] != nil {
		_, _ = fmt.Sscanf(config.Clusters["testbed"].Server, "https://127.0.0.1:%d", &port)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("listen on the loopback for the API server: %w", err)
		}
	}
	defer func() { _ = l.Close() }()
	if err := creds.cluster.issue(creds.dir, "admin", identity{CommonName: "testbed-admin", Organizations: []string{"system:masters"}}); err != nil {
		return nil, err
	}
	config, err := kubeconfigData("https://"+l.Addr().String(), creds.cluster.certFile(),
		filepath.Join(creds.dir, "admin.crt"), filepath.Join(creds.dir, "admin.key"))
	if err != nil {
		return nil, err
	}
	if err := writeFile(c.Kubeconfig(), config, 0o600); err != nil {
		return nil, err
	}
	return l.(*net.TCPListener).File()
}

func (c *Cluster) startNode(tools *toolchain.Result, creds *credentials, control machine, n node, nodes []node, store string) (machine, error) {
	dir := c.machineDir(n.Name)
	groups, err := hostCgroups()
	if err != nil {
		return machine{}, err
	}
	pause, err := tools.Image("pause")
	if err != nil {
		return machine{}, err
	}
	cgroup := c.cgroupOf(groups, n)
	if err := errors.Join(groups.create(cgroup), prepareNode(dir, n, creds, cgroup, pause.Tag)); err != nil {
		return machine{}, err
	}
	if store != "" {
		if err := cloneStore(store, filepath.Join(dir, "containerd")); err != nil {
			return machine{}, err
		}
	}
	binds, err := programBinds(dir, tools, "kubelet", "kube-proxy", "kube-router")
	if err != nil {
		return machine{}, err
	}
	binds = append(binds,
		bind{Source: filepath.Join(dir, "config"), Target: configDir},
		bind{Source: filepath.Join(dir, "config", "cni"), Target: "/etc/cni/net.d", ReadOnly: true},
		bind{Source: logDir(dir), Target: "/var/log/testbed"})
	for target, source := range map[string]string{
		containerdStore:       "containerd",
		"/var/lib/kubelet":    "kubelet",
		"/var/log/pods":       "pods",
		"/var/log/containers": "containers",
		volumesPath:           "volumes",
	} {
		source = filepath.Join(dir, source)
		if err := os.MkdirAll(source, 0o755); err != nil {
			return machine{}, err
		}
		binds = append(binds, bind{Source: source, Target: target})
	}
	for i := range volumesPerNode {
		if err := os.MkdirAll(filepath.Join(dir, "volumes", volumeName(i)), 0o777); err != nil {
			return machine{}, err
		}
	}
	return launch(dir, machineSpec{
		Name:     n.Name,
		RootFS:   rootFS(tools),
		Binds:    binds,
		Sysctls:  nodeSysctls(),
		Shadows:  nodeShadows(),
		Services: nodeServices(n),
	}, nil, func(m machine) error { return linkNode(control, m, n, nodes) })
}

// importMissing brings images that were built since the node got its store.
func (c *Cluster) importMissing(ctx context.Context, m machine, images []toolchain.Image) error {
	var have string
	if err := poll(ctx, 30*time.Second, 100*time.Millisecond, "containerd of "+m.Name, func(ctx context.Context) (bool, error) {
		out, err := m.run(ctx, nil, "ctr", "--namespace", "k8s.io", "images", "ls", "--quiet")
		have = "\n" + string(out)
		return err == nil, err
	}); err != nil {
		return err
	}
	for _, image := range images {
		if strings.Contains(have, "@"+image.Digest+"\n") {
			continue
		}
		archive, err := os.Open(image.Archive)
		if err != nil {
			return err
		}
		done := c.step("Import image %s on %s", image.Name, m.Name)
		_, err = m.run(ctx, archive, "ctr", "--namespace", "k8s.io", "images", "import", "-")
		_ = archive.Close()
		if err != nil {
			return err
		}
		done()
	}
	return nil
}

// Client is a client with the administrator's kubeconfig.
func (c *Cluster) Client() (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of the testbed: %w", err)
	}
	config.QPS, config.Burst = 100, 200
	return kubernetes.NewForConfig(config)
}

func (c *Cluster) waitNodes(ctx context.Context, client kubernetes.Interface, nodes []node) error {
	return poll(ctx, 120*time.Second, 200*time.Millisecond, "the nodes to be ready", func(ctx context.Context) (bool, error) {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		ready := map[string]bool{}
		for _, n := range list.Items {
			for _, condition := range n.Status.Conditions {
				if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
					ready[n.Name] = true
				}
			}
		}
		for _, n := range nodes {
			if !ready[n.Name] {
				return false, fmt.Errorf("%s is not ready", n.Name)
			}
		}
		return true, nil
	})
}

// withLog adds the last lines of a service's log to an error.
func (c *Cluster) withLog(err error, machine, service string) error {
	path := filepath.Join(logDir(c.machineDir(machine)), service+".log")
	data, readErr := os.ReadFile(path)
	if readErr != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return fmt.Errorf("%w\nlast lines of %s:\n%s", err, path, strings.Join(lines[max(0, len(lines)-10):], "\n"))
}

// Down ends every machine, removes their control groups and the state directory with everything that was stored in the cluster.
// It needs nothing but the state directory's name, so it also cleans up after a crash.
func (c *Cluster) Down(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	running, err := findMachines(c.dir)
	if err != nil {
		return err
	}
	done := c.step("Stop %d machines and remove %s", len(running), c.dir)
	group, killCtx := errgroup.WithContext(ctx)
	for _, m := range running {
		group.Go(func() error { return m.kill(killCtx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := c.EndOrphans(ctx); err != nil {
		return err
	}
	groups, err := hostCgroups()
	if err != nil {
		return err
	}
	if err := groups.remove(filepath.Dir(c.cgroupOf(groups, node{Name: "any"}))); err != nil {
		return err
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return err
	}
	done()
	return nil
}

// Environment is a variable that every process which works for this cluster on the host must carry, as "name=value".
func (c *Cluster) Environment() (name, value string) { return "EPHEMOS_TESTBED", c.dir }

// EndOrphans ends the processes on the host that a killed run left at work for this cluster.
func (c *Cluster) EndOrphans(ctx context.Context) error {
	name, value := c.Environment()
	return endProcesses(ctx, name+"="+value)
}

// LockStack keeps other processes from deploying on this cluster until unlock is called.
func (c *Cluster) LockStack(ctx context.Context) (unlock func(), err error) {
	return lockFile(ctx, c.dir+".stack.lock")
}

// find returns a node and the running machines.
func (c *Cluster) find(name string) (node, []machine, error) {
	nodes, err := c.nodes()
	if err != nil {
		return node{}, nil, err
	}
	running, err := findMachines(c.dir)
	if err != nil {
		return node{}, nil, err
	}
	for _, n := range nodes {
		if n.Name == name {
			return n, running, nil
		}
	}
	names, _ := c.NodeNames()
	return node{}, nil, fmt.Errorf("no node %q: the nodes are %s", name, strings.Join(names, ", "))
}

// StopNode ends the node at once, as a power cut does: nobody is told.
func (c *Cluster) StopNode(ctx context.Context, name string) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	n, running, err := c.find(name)
	if err != nil {
		return err
	}
	m, ok := named(running, name)
	if !ok {
		return nil
	}
	if err := m.kill(ctx); err != nil {
		return err
	}
	groups, err := hostCgroups()
	if err != nil {
		return err
	}
	return groups.remove(c.cgroupOf(groups, n))
}

// StartNode starts a stopped node with the disks it had, and waits until it is ready.
func (c *Cluster) StartNode(ctx context.Context, name string) error {
	if _, _, err := c.find(name); err != nil {
		return err
	}
	return c.Up(ctx)
}

// AddNode adds a node to the cluster, waits until it is ready, and returns its name.
func (c *Cluster) AddNode(ctx context.Context) (string, error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return "", err
	}
	nodes, err := c.nodes()
	n := newNode(len(nodes) + 1)
	if err == nil {
		err = c.saveNodes(append(nodes, n))
	}
	unlock()
	if err != nil {
		return "", err
	}
	return n.Name, c.Up(ctx)
}

// RemoveNode stops a node that AddNode added last and removes everything of it.
func (c *Cluster) RemoveNode(ctx context.Context, name string) error {
	nodes, err := c.nodes()
	if err != nil {
		return err
	}
	last := len(nodes) - 1
	if len(nodes) <= len(initialNodes()) || nodes[last].Name != name {
		return fmt.Errorf("remove node %q: only the node that was added last can be removed", name)
	}
	client, err := c.Client()
	if err != nil {
		return err
	}
	if err := c.StopNode(ctx, name); err != nil {
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.removeFromAPI(ctx, client, nodes[last]); err != nil {
		return err
	}
	if err := c.saveNodes(nodes[:last]); err != nil {
		return err
	}
	return os.RemoveAll(c.machineDir(name))
}

// Isolate cuts the node off from every other machine, or joins it again. Its pods go on running.
func (c *Cluster) Isolate(ctx context.Context, name string, cut bool) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	n, running, err := c.find(name)
	if err != nil {
		return err
	}
	control, ok := named(running, controlPlane)
	if !ok {
		return errors.New("the cluster is not running")
	}
	return setPort(control, n, !cut)
}

// Cut drops, without an answer, everything between two nodes and their pods; both still reach everyone else. Heal ends it.
func (c *Cluster) Cut(ctx context.Context, a, b string) error { return c.between(ctx, a, b, true) }

// Heal ends a Cut.
func (c *Cluster) Heal(ctx context.Context, a, b string) error { return c.between(ctx, a, b, false) }

func (c *Cluster) between(ctx context.Context, a, b string, cut bool) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	first, running, err := c.find(a)
	if err != nil {
		return err
	}
	second, _, err := c.find(b)
	if err != nil {
		return err
	}
	for _, pair := range [][2]node{{first, second}, {second, first}} {
		m, ok := named(running, pair[0].Name)
		if !ok {
			continue // it gets its routes when it starts
		}
		if err := blackhole(m, pair[1], cut); err != nil {
			return err
		}
	}
	return nil
}

// Run executes a command on a node or on the control plane, inside all of its namespaces.
func (c *Cluster) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	running, err := findMachines(c.dir)
	if err != nil {
		return nil, err
	}
	m, ok := named(running, name)
	if !ok {
		return nil, fmt.Errorf("machine %q is not running", name)
	}
	return m.run(ctx, nil, args...)
}

// MachineStatus is the state of one machine.
type MachineStatus struct {
	Name    string
	Running bool
	PID     int // of its init on the host, 0 when it does not run
}

// Status returns the control plane and the nodes in order.
func (c *Cluster) Status() ([]MachineStatus, error) {
	names, err := c.NodeNames()
	if err != nil {
		return nil, err
	}
	running, err := findMachines(c.dir)
	if err != nil {
		return nil, err
	}
	var all []MachineStatus
	for _, name := range append([]string{controlPlane}, names...) {
		m, ok := named(running, name)
		all = append(all, MachineStatus{Name: name, Running: ok, PID: m.pid})
	}
	return all, nil
}

// kubectl runs the toolchain's kubectl with the administrator's kubeconfig.
func (c *Cluster) kubectl(ctx context.Context, tools *toolchain.Result, stdin string, args ...string) error {
	program, err := tools.Program("kubectl")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"--kubeconfig", c.Kubeconfig()}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

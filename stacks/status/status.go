// Package status tells how a deployed stack is: its nodes, SPIRE servers, load balancer entries, database, agents, registration
// entries and services.
//
// What flows in: a kubeconfig that may list pods, get what keeps them (StatefulSets, Deployments, DaemonSets, Postgres Clusters), read through the API server's pod proxy and execute programs in pods. What comes
// out: a Report, its problems and warnings in words, and a table.
package status

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
)

// Namespaces and names of the parts, as the local stack deploys them.
const (
	serverNamespace   = "spire-server"
	servicesNamespace = "services"
	gatewaysNamespace = "dmz"
	serverSelector    = "app.kubernetes.io/name=spire-server,app.kubernetes.io/component=server"
	entrySelector     = "app.kubernetes.io/part-of=ephemos,app.kubernetes.io/component=load-balancer"
	databaseCluster   = "spire-db"
	databaseSelector  = "cnpg.io/cluster=" + databaseCluster
	instanceSelector  = databaseSelector + ",cnpg.io/podRole=instance"
	serverSet         = "spire-server"
	agentNamespace    = "spire-agent"
	agentSet          = "spire-agent"
	serverContainer   = "spire-server"
	serverProgram     = "/opt/spire/bin/spire-server"
	serverSocket      = "/run/spire/socket/private/api.sock"
	balancerPort      = "8404"
	servicesPort      = "8080"
	driver            = "payment" // the service that calls all the time
)

// Report is the state of a stack at one moment. A part that could not be read is empty, and Errors says why.
type Report struct {
	Nodes    []Node
	Servers  []Server
	Entries  []Entry
	Database []Instance
	Agents   int // attested agents
	Records  int // registration entries
	Services []Service
	Parts    []Part
	Errors   []error
}

// Part is what keeps the pods of one part of the stack, with how many it wants and how many of those are ready.
type Part struct {
	Kind, Name     string
	Desired, Ready int
}

// Node is one node of the cluster.
type Node struct {
	Name, Zone string
	Ready      bool
}

// Server is one SPIRE server.
type Server struct {
	Pod, Node   string
	Ready       bool
	Terminating bool // going away: what replaces it is another pod
}

// Entry is one load balancer in front of the servers.
type Entry struct {
	Pod, Node   string
	Ready       bool
	Terminating bool
	Up          []string // the servers that its health checks reach
}

// Instance is one Postgres instance. Lag is how far the standby's replay is behind the primary.
type Instance struct {
	Pod, Node   string
	Ready       bool
	Terminating bool
	Role        string // primary or standby
	State       string // of a standby's replication: streaming, or empty when it does not replicate
	Sync        string // of a standby: quorum or sync when the primary waits for it, potential, or async
	LagBytes    int64
	Lag         time.Duration
}

// Synchronous says whether the primary counts this standby towards an acknowledged commit.
func (i Instance) Synchronous() bool { return i.Sync == "quorum" || i.Sync == "sync" }

// Service is one pod of a gateway or service that holds an identity.
type Service struct {
	Pod, Node   string
	Ready       bool
	Terminating bool
	Stats       Stats
}

// Stats is what a service says of itself on /stats.
type Stats struct {
	Service   string     `json:"service"`
	SPIFFEID  string     `json:"spiffe_id"`
	Serial    string     `json:"svid_serial"`
	NotAfter  *time.Time `json:"svid_not_after"`
	TTL       int64      `json:"svid_ttl_seconds"`
	Rotations uint64     `json:"rotations"`
	Calls     struct {
		OK      uint64 `json:"ok"`
		Failed  uint64 `json:"failed"`
		Denied  uint64 `json:"denied"`
		Retried uint64 `json:"retried"`
	} `json:"calls"`
	LastError string    `json:"last_error"`
	Started   time.Time `json:"started"`
}

// Client reads reports from one cluster.
type Client struct {
	config *rest.Config
	set    kubernetes.Interface
}

// NewClient reads the kubeconfig.
func NewClient(kubeconfig string) (*Client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS, config.Burst = 100, 200
	set, err := kubernetes.NewForConfig(config)
	return &Client{config: config, set: set}, err
}

// Read collects a report. Its parts are read side by side, each within ten seconds.
func (c *Client) Read(ctx context.Context) Report {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var (
		r  Report
		mu sync.Mutex
		wg sync.WaitGroup
	)
	part := func(name string, read func() error) {
		wg.Go(func() {
			if err := read(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				r.Errors = append(r.Errors, fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	part("nodes", func() (err error) { r.Nodes, err = c.nodes(ctx); return err })
	part("servers", func() (err error) { r.Servers, r.Agents, r.Records, err = c.servers(ctx); return err })
	part("load balancer", func() (err error) { r.Entries, err = c.entries(ctx); return err })
	part("database", func() (err error) { r.Database, err = c.database(ctx); return err })
	var gateways, services []Service
	part("gateways", func() (err error) { gateways, err = c.services(ctx, gatewaysNamespace); return err })
	part("services", func() (err error) { services, err = c.services(ctx, servicesNamespace); return err })
	part("parts", func() (err error) { r.Parts, err = c.parts(ctx); return err })
	wg.Wait()
	r.Services = slices.Concat(gateways, services)
	return r
}

func (c *Client) nodes(ctx context.Context) ([]Node, error) {
	list, err := c.set.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var nodes []Node
	for _, n := range list.Items {
		ready := slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
		nodes = append(nodes, Node{Name: n.Name, Zone: n.Labels[corev1.LabelTopologyZone], Ready: ready})
	}
	return nodes, nil
}

// pods lists the pods of a part in the order of their names.
func (c *Client) pods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error) {
	list, err := c.set.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("no pod in namespace %s with %s", namespace, selector)
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return list.Items, nil
}

func terminating(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil }

func ready(pod corev1.Pod) bool {
	return !terminating(pod) && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func (c *Client) servers(ctx context.Context) (servers []Server, agents, records int, err error) {
	pods, err := c.pods(ctx, serverNamespace, serverSelector)
	if err != nil {
		return nil, 0, 0, err
	}
	for _, p := range pods {
		servers = append(servers, Server{Pod: p.Name, Node: p.Spec.NodeName, Ready: ready(p), Terminating: terminating(p)})
	}
	// Every server answers from the same database: ask the first that is ready.
	for _, s := range servers {
		if !s.Ready {
			continue
		}
		if agents, err = c.count(ctx, s.Pod, "agent"); err == nil {
			records, err = c.count(ctx, s.Pod, "entry")
		}
		return servers, agents, records, err
	}
	return servers, 0, 0, errors.New("no server is ready")
}

func (c *Client) count(ctx context.Context, pod, what string) (int, error) {
	out, err := c.Exec(ctx, serverNamespace, pod, serverContainer, serverProgram, what, "count", "-socketPath", serverSocket, "-output", "json")
	if err != nil {
		return 0, err
	}
	var answer struct {
		Count int `json:"count"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return 0, fmt.Errorf("%s count: %w: %s", what, err, out)
	}
	return answer.Count, nil
}

func (c *Client) entries(ctx context.Context) ([]Entry, error) {
	pods, err := c.pods(ctx, serverNamespace, entrySelector)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, p := range pods {
		e := Entry{Pod: p.Name, Node: p.Spec.NodeName, Ready: ready(p), Terminating: terminating(p)}
		if e.Ready {
			text, err := c.get(ctx, p, balancerPort, "stats;csv")
			if err != nil {
				return nil, err
			}
			if e.Up, err = serversUp(text); err != nil {
				return nil, err
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// serversUp reads HAProxy's statistics (CSV, section 9.1 of its management guide): the servers whose checks pass.
func serversUp(text []byte) ([]string, error) {
	reader := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("# "))))
	reader.FieldsPerRecord = -1
	rows, err := reader.ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, fmt.Errorf("load balancer statistics: %w", cmp.Or(err, errors.New("empty")))
	}
	name, status := slices.Index(rows[0], "svname"), slices.Index(rows[0], "status")
	if name < 0 || status < 0 {
		return nil, errors.New("load balancer statistics: no columns svname and status")
	}
	var up []string
	for _, row := range rows[1:] {
		if len(row) > status && row[name] != "FRONTEND" && row[name] != "BACKEND" && strings.HasPrefix(row[status], "UP") {
			up = append(up, row[name])
		}
	}
	slices.Sort(up)
	return up, nil
}

// replicationQuery lists the standbys as the primary sees them.
const replicationQuery = `SELECT application_name, state, sync_state, COALESCE(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0)::bigint, ` +
	`COALESCE(EXTRACT(EPOCH FROM replay_lag) * 1000, 0)::bigint FROM pg_stat_replication`

func (c *Client) database(ctx context.Context) ([]Instance, error) {
	pods, err := c.pods(ctx, serverNamespace, instanceSelector)
	if err != nil {
		return nil, err
	}
	var (
		instances []Instance
		primary   string
	)
	for _, p := range pods {
		i := Instance{Pod: p.Name, Node: p.Spec.NodeName, Ready: ready(p), Terminating: terminating(p), Role: "standby"}
		if p.Labels["cnpg.io/instanceRole"] == "primary" {
			i.Role = "primary"
			if i.Ready {
				primary = p.Name
			}
		}
		instances = append(instances, i)
	}
	if primary == "" {
		return instances, errors.New("no primary is ready")
	}
	out, err := c.Exec(ctx, serverNamespace, primary, "postgres", "psql", "-XAtq", "-F", "\t", "-c", replicationQuery)
	if err != nil {
		return instances, err
	}
	return instances, addReplication(instances, string(out))
}

// addReplication puts the rows of replicationQuery to the instances that they name.
func addReplication(instances []Instance, rows string) error {
	for line := range strings.Lines(rows) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 5 {
			return fmt.Errorf("replication: unexpected row %q", line)
		}
		bytes, err1 := strconv.ParseInt(f[3], 10, 64)
		millis, err2 := strconv.ParseInt(f[4], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("replication: %w", err)
		}
		for i := range instances {
			if instances[i].Pod == f[0] {
				instances[i].State, instances[i].Sync = f[1], f[2]
				instances[i].LagBytes, instances[i].Lag = bytes, time.Duration(millis)*time.Millisecond
			}
		}
	}
	return nil
}

func (c *Client) services(ctx context.Context, namespace string) ([]Service, error) {
	pods, err := c.pods(ctx, namespace, "app.kubernetes.io/part-of=ephemos")
	if err != nil {
		return nil, err
	}
	var (
		services []Service
		errs     []error
	)
	for _, p := range pods {
		s := Service{Pod: p.Name, Node: p.Spec.NodeName, Ready: ready(p), Terminating: terminating(p)}
		if p.Status.Phase != corev1.PodRunning {
			services = append(services, s)
			continue
		}
		text, err := c.get(ctx, p, servicesPort, "stats")
		if err == nil {
			err = json.Unmarshal(text, &s.Stats)
		}
		if err != nil && s.Ready {
			errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
		}
		services = append(services, s)
	}
	return services, errors.Join(errs...)
}

// get reads a path of a pod's plaintext port through the API server.
func (c *Client) get(ctx context.Context, pod corev1.Pod, port, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return c.set.CoreV1().Pods(pod.Namespace).ProxyGet("http", pod.Name, port, path, nil).DoRaw(ctx)
}

// Exec runs a program in a container and returns its standard output.
func (c *Client) Exec(ctx context.Context, namespace, pod, container string, command ...string) ([]byte, error) {
	request := c.set.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(c.config, "GET", request.URL().String())
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}); err != nil {
		return nil, fmt.Errorf("%s in %s/%s: %w: %s", command[0], namespace, pod, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// Problems says in words what keeps the stack from being whole; nil when nothing does.
func (r Report) Problems() []string {
	var p []string
	add := func(format string, args ...any) { p = append(p, fmt.Sprintf(format, args...)) }
	for _, err := range r.Errors {
		add("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	for _, n := range r.Nodes {
		if !n.Ready {
			add("node %s is not ready", n.Name)
		}
	}
	for _, part := range r.Parts {
		switch {
		case part.Desired == 0:
			add("%s %s wants no pods", part.Kind, part.Name)
		case part.Ready < part.Desired:
			add("%d of %d pods of %s %s are ready", part.Ready, part.Desired, part.Kind, part.Name)
		}
	}
	for _, s := range r.Servers {
		if !s.Ready && !s.Terminating {
			add("server %s is not ready", s.Pod)
		}
	}
	servers, agents := r.desired(statefulSet, serverSet), r.desired(daemonSet, agentSet)
	for _, e := range r.Entries {
		switch {
		case e.Terminating:
		case !e.Ready:
			add("load balancer entry %s is not ready", e.Pod)
		case len(e.Up) < servers:
			add("load balancer entry %s reaches %d of %d servers", e.Pod, len(e.Up), servers)
		}
	}
	primaries, synchronous := 0, 0
	for _, i := range r.Database {
		switch {
		case i.Terminating:
		case i.Role == "primary":
			primaries++
		case i.State != "streaming":
			add("database standby %s does not stream", i.Pod)
		case i.Synchronous():
			synchronous++
		}
	}
	if len(r.Database) > 0 && primaries != 1 {
		add("the database has %d primaries", primaries)
	}
	if len(r.Database) > 1 && synchronous == 0 {
		add("no database standby is synchronous")
	}
	if r.Agents < agents {
		add("%d of %d agents are attested", r.Agents, agents)
	}
	for _, s := range r.Services {
		switch {
		case s.Terminating:
		case !s.Ready:
			add("service pod %s is not ready", s.Pod)
		case s.Stats.Serial == "":
			add("service pod %s holds no SVID", s.Pod)
		case s.Stats.Service == driver && s.Stats.Calls.OK == 0:
			add("service pod %s has made no successful call yet", s.Pod)
		}
	}
	return p
}

func (r Report) desired(kind, name string) int {
	for _, part := range r.Parts {
		if part.Kind == kind && part.Name == name {
			return part.Desired
		}
	}
	return 0
}

// Warnings says in words what went wrong since the pods started and may be over; nil when nothing did.
func (r Report) Warnings() []string {
	var warnings []string
	for _, s := range r.Services {
		calls := s.Stats.Calls
		if failed := calls.Failed + calls.Denied; s.Stats.Service == driver && failed > 0 {
			warnings = append(warnings, fmt.Sprintf("service pod %s: %d of %d calls failed, last: %s",
				s.Pod, failed, calls.OK+failed, cmp.Or(strings.Join(strings.Fields(s.Stats.LastError), " "), "unknown")))
		}
	}
	return warnings
}

// WaitHealthy returns when a report has no problem, or after limit with the problems of the last one.
func WaitHealthy(ctx context.Context, kubeconfig string, limit time.Duration) error {
	client, err := NewClient(kubeconfig)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(limit)
	for {
		problems := client.Read(ctx).Problems()
		if len(problems) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not healthy after %s:\n  %s", limit, strings.Join(problems, "\n  "))
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// Show writes the report of the cluster as a table, followed by its warnings and problems.
func Show(ctx context.Context, kubeconfig string, out io.Writer) error {
	client, err := NewClient(kubeconfig)
	if err != nil {
		return err
	}
	return client.Read(ctx).Write(out, time.Now())
}

// Write writes the report as a table, followed by its warnings and problems. now is what expiry is counted from.
func (r Report) Write(out io.Writer, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(cells ...any) {
		text := make([]string, len(cells))
		for i, c := range cells {
			text[i] = fmt.Sprint(c)
		}
		_, _ = fmt.Fprintln(w, strings.Join(text, "\t")) // a tabwriter's error comes with Flush
	}
	mark := func(ok bool) string {
		if ok {
			return "ready"
		}
		return "NOT READY"
	}
	label := func(pod string, terminating bool) string {
		if terminating {
			return pod + " (terminating)"
		}
		return pod
	}
	row("\nNODE", "ZONE", "STATE")
	for _, n := range r.Nodes {
		row(n.Name, n.Zone, mark(n.Ready))
	}
	row("\nSPIRE SERVER", "NODE", "STATE", "REACHED BY")
	for _, s := range r.Servers {
		var by []string
		for _, e := range r.Entries {
			if slices.Contains(e.Up, s.Pod) {
				by = append(by, e.Pod)
			}
		}
		row(label(s.Pod, s.Terminating), s.Node, mark(s.Ready), cmp.Or(strings.Join(by, ", "), "-"))
	}
	row("\nDATABASE", "NODE", "ROLE", "REPLICATION", "LAG")
	for _, i := range r.Database {
		if i.Role == "primary" {
			row(label(i.Pod, i.Terminating), i.Node, i.Role, mark(i.Ready), "-")
			continue
		}
		kind := "asynchronous"
		if i.Synchronous() {
			kind = "synchronous (" + i.Sync + ")"
		}
		row(label(i.Pod, i.Terminating), i.Node, i.Role, cmp.Or(i.State, "NOT STREAMING")+", "+kind, fmt.Sprintf("%d B, %d ms", i.LagBytes, i.Lag.Milliseconds()))
	}
	row("\nAGENTS ATTESTED", r.Agents)
	row("REGISTRATION ENTRIES", r.Records)
	row("\nSERVICE POD", "SPIFFE ID", "SVID LIFETIME", "EXPIRES IN", "ROTATIONS", "CALLS OK", "FAILED", "RETRIED")
	for _, s := range r.Services {
		expires := "no SVID"
		if s.Stats.NotAfter != nil {
			expires = s.Stats.NotAfter.Sub(now).Round(time.Second).String()
		}
		ok, failed, retried := "-", "-", "-"
		if s.Stats.Calls.OK+s.Stats.Calls.Failed+s.Stats.Calls.Denied > 0 {
			ok, failed = fmt.Sprint(s.Stats.Calls.OK), fmt.Sprint(s.Stats.Calls.Failed+s.Stats.Calls.Denied)
			retried = fmt.Sprint(s.Stats.Calls.Retried)
		}
		row(label(s.Pod, s.Terminating), s.Stats.SPIFFEID, time.Duration(s.Stats.TTL)*time.Second, expires, s.Stats.Rotations, ok, failed, retried)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, warning := range r.Warnings() {
		if _, err := fmt.Fprintln(out, "WARNING:", warning); err != nil {
			return err
		}
	}
	problems := r.Problems()
	for _, p := range problems {
		if _, err := fmt.Fprintln(out, "PROBLEM:", p); err != nil {
			return err
		}
	}
	if len(problems) == 0 {
		_, err := fmt.Fprintln(out, "\nno problems")
		return err
	}
	return nil
}

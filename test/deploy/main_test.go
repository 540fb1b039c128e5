package deploy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ephemos.dev/deploy/stacks/status"
	"ephemos.dev/deploy/testbed"
	"ephemos.dev/deploy/testbed/stack"
	"ephemos.dev/deploy/toolchain"
	"github.com/gruntwork-io/terratest/modules/k8s"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What every test works on.
var (
	root    string // of the checkout
	cluster *testbed.Cluster
	tools   *toolchain.Result
	client  *status.Client
	// hostBefore is what the host had before the first machine.
	hostBefore []string
)

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "deploy tests:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if root, err = filepath.Abs("../.."); err != nil {
		return 0, err
	}
	dir := os.Getenv("EPHEMOS_TEST_STATE")
	if dir == "" {
		usual, err := testbed.Open(testbed.Options{})
		if err != nil {
			return 0, err
		}
		dir = usual.Dir() + "-test"
	}
	if err := os.Setenv("EPHEMOS_STATE", dir); err != nil { // for the command line that the tests start
		return 0, err
	}
	if cluster, err = testbed.Open(testbed.Options{Dir: dir}); err != nil {
		return 0, err
	}
	if tools, err = cluster.Tools(ctx); err != nil {
		return 0, err
	}
	kubectl, err := tools.Program("kubectl")
	if err != nil {
		return 0, err
	}
	if err := os.Setenv("PATH", filepath.Dir(kubectl)+":"+os.Getenv("PATH")); err != nil {
		return 0, err
	}
	// Another run of these tests would take this one's cluster away.
	lock, err := os.OpenFile(dir+".tests.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return 0, fmt.Errorf("other deploy tests run with the state directory %s: set EPHEMOS_TEST_STATE to another: %w", dir, err)
	}
	if err := cluster.Down(ctx); err != nil {
		return 0, err
	}
	hostBefore = hostState()
	if os.Getenv("EPHEMOS_TEST_KEEP") == "" {
		defer func() { err = errors.Join(err, cluster.Down(ctx)) }()
	}
	return m.Run(), nil
}

// TestLocalStack holds every test of the stack in the order in which a stack lives.
func TestLocalStack(t *testing.T) {
	ordered := []struct {
		name string
		run  func(*testing.T)
	}{
		{"up completes after interruptions", testInterruptedUp},
		{"status", testStatus},
		{"a second up changes nothing", testNoChanges},
		{"bad configuration changes nothing", testBadConfiguration},
		{"identities", testIdentities},
		{"no packet leaves the host", testIsolation},
		{"zones", testConnectivity},
		{"plaintext and other identities", testPlaintextRefused},
		{"gateways", testGateways},
		{"intrusions are reported", testIntrusions},
		{"nodes cut off from each other", testCut},
		{"failover", testFailover},
		{"short lifetimes and lost load balancers", testShortLifetimes},
		{"destroy leaves nothing", testDestroy},
		{"down leaves nothing", testDown},
	}
	for _, test := range ordered {
		if !t.Run(test.name, test.run) && test.name == ordered[0].name {
			t.FailNow() // nothing below has anything to work on
		}
	}
}

// testInterruptedUp brings the stack up by `testbed up`, ended by signals at different points on its way.
func testInterruptedUp(t *testing.T) {
	program := filepath.Join(t.TempDir(), "testbed")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testbed/cmd/testbed")
	build.Dir = root
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	for _, interruption := range []struct {
		at     string
		signal syscall.Signal
	}{
		{`Start the control plane \.\.\.`, syscall.SIGKILL},
		{`Start node-b`, syscall.SIGKILL},
		{`Wait for the API server: done`, syscall.SIGINT},
		{`stack: deploy: \d+ resources done`, syscall.SIGKILL},
		{`stack: deploy: \d+ resources done`, syscall.SIGINT},
	} {
		t.Logf("up until %q, then %s", interruption.at, interruption.signal)
		require.NoError(t, upUntil(t, program, regexp.MustCompile(interruption.at), interruption.signal))
	}
	start := time.Now()
	require.NoError(t, upUntil(t, program, nil, 0))
	t.Logf("the last up took %s", time.Since(start).Round(time.Second))

	client, err = status.NewClient(cluster.Kubeconfig())
	require.NoError(t, err)
}

// upUntil runs `testbed up` and sends it the signal when a line of its progress matches; without a pattern it waits for its success.
func upUntil(t *testing.T, program string, pattern *regexp.Regexp, signal syscall.Signal) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "up")
	cmd.Dir = root
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C reaches the whole group
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		_ = writer.Close()
		exited <- err
	}()
	matched := false
	var lines []string
	scanner := bufio.NewScanner(reader)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
		t.Log(scanner.Text())
		if !matched && pattern != nil && pattern.MatchString(scanner.Text()) {
			matched = true
			target := cmd.Process.Pid
			if signal == syscall.SIGINT {
				target = -target
			}
			_ = syscall.Kill(target, signal)
		}
	}
	err := <-exited
	switch {
	case pattern == nil && err != nil:
		return fmt.Errorf("%w:\n%s", err, strings.Join(lines, "\n"))
	case pattern != nil && !matched:
		return fmt.Errorf("never reached %q:\n%s", pattern, strings.Join(lines, "\n"))
	}
	return nil
}

// deploy applies the stack with overrides of its configuration. A test's clean-up calls it too, when the test's context has ended.
func deploy(t *testing.T, overrides map[string]string) *stack.Stack {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	s, err := stack.Open(ctx, cluster, root, overrides)
	require.NoError(t, err)
	changes, err := s.Up(ctx, logWriter{t})
	require.NoError(t, err)
	t.Logf("changes: %v", changes)
	return s
}

// healthy waits until the stack has no problem.
func healthy(t *testing.T, limit time.Duration) {
	t.Helper()
	require.NoError(t, status.WaitHealthy(context.WithoutCancel(t.Context()), cluster.Kubeconfig(), limit))
}

// settled waits until the stack has had no problem for a while: a failover that has begun may show only some seconds later.
func settled(t *testing.T) {
	t.Helper()
	const quiet, limit = 10 * time.Second, 4 * time.Minute
	since, last := time.Now(), ""
	eventually(t, limit, fmt.Sprintf("%s without a problem", quiet), func(ctx context.Context) error {
		if problems := client.Read(ctx).Problems(); len(problems) > 0 {
			since, last = time.Now(), strings.Join(problems, "; ")
		}
		if rest := quiet - time.Since(since); rest > 0 {
			return fmt.Errorf("%s to go, the last problem was: %s", rest.Round(time.Second), last)
		}
		return nil
	})
}

// eventually polls a condition. The condition's error is what the failure names.
func eventually(t *testing.T, limit time.Duration, what string, condition func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
	defer cancel()
	for {
		err := condition(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			require.FailNow(t, fmt.Sprintf("waited %s for %s: %v", limit, what, err))
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// in returns terratest's options for a namespace.
func in(namespace string) *k8s.KubectlOptions {
	return k8s.NewKubectlOptions("", cluster.Kubeconfig(), namespace)
}

// apply creates objects for the time of the test.
func apply(t *testing.T, manifest string) {
	t.Helper()
	t.Cleanup(func() {
		_ = k8s.KubectlDeleteFromStringContextE(t, context.WithoutCancel(t.Context()), in(""), manifest)
	})
	k8s.KubectlApplyFromStringContext(t, t.Context(), in(""), manifest)
}

// image is the reference of an image that the toolchain built.
func image(t *testing.T, name string) string {
	t.Helper()
	i, err := tools.Image(name)
	require.NoError(t, err)
	return i.Ref
}

// logWriter shows progress in the test's log.
type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

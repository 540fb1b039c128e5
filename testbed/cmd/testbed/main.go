// Command testbed runs the local cluster and the local stack on it.
//
// Exit codes: 0 done, 1 failed (one message on standard error), 2 wrong usage, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"ephemos.dev/deploy/stacks/status"
	"ephemos.dev/deploy/testbed"
	"ephemos.dev/deploy/testbed/stack"
	"ephemos.dev/deploy/toolchain"
	"golang.org/x/sync/errgroup"
)

const usage = `usage: testbed COMMAND

  up                     start the cluster and deploy the local stack on it; mends what is missing
  cluster                start the cluster only
  down                   end everything and remove what it stored
  status                 show machines, servers, database, agents and services
  preview                show what deploying the stack would change
  destroy                remove the stack, keep the cluster
  kubeconfig             print the path of the cluster's kubeconfig
  stop NODE              end a node at once, as a power cut does
  start NODE             start it again
  isolate NODE           cut a node off from all others
  rejoin NODE            end that
  cut NODE NODE          drop everything between two nodes
  heal NODE NODE         end that
  add                    add a node
  remove NODE            remove the node that was added last
  exec MACHINE CMD...    run a command on a node or on control-plane
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "interrupted: run the command again to go on from here")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	cluster, err := testbed.Open(testbed.Options{})
	if err != nil {
		return err
	}
	command, rest := args[0], args[1:]
	if want, known := map[string]int{
		"up": 0, "cluster": 0, "down": 0, "status": 0, "preview": 0, "destroy": 0, "kubeconfig": 0,
		"stop": 1, "start": 1, "isolate": 1, "rejoin": 1, "cut": 2, "heal": 2, "add": 0, "remove": 1,
	}[command]; known && len(rest) != want {
		return errUsage
	}
	switch command {
	case "up":
		return up(ctx, cluster, out)
	case "cluster":
		return cluster.Up(ctx)
	case "down":
		return cluster.Down(ctx)
	case "status":
		return show(ctx, cluster, out)
	case "preview", "destroy":
		return operate(ctx, cluster, command, out)
	case "kubeconfig":
		_, err := fmt.Fprintln(out, cluster.Kubeconfig())
		return err
	case "stop":
		return cluster.StopNode(ctx, rest[0])
	case "start":
		return cluster.StartNode(ctx, rest[0])
	case "isolate", "rejoin":
		return cluster.Isolate(ctx, rest[0], command == "isolate")
	case "cut":
		return cluster.Cut(ctx, rest[0], rest[1])
	case "heal":
		return cluster.Heal(ctx, rest[0], rest[1])
	case "add":
		name, err := cluster.AddNode(ctx)
		if err == nil {
			_, err = fmt.Fprintln(out, name)
		}
		return err
	case "remove":
		return cluster.RemoveNode(ctx, rest[0])
	case "exec":
		if len(rest) < 2 {
			return errUsage
		}
		text, err := cluster.Run(ctx, rest[0], rest[1:]...)
		_, _ = out.Write(text)
		return err
	}
	return errUsage
}

// up starts the cluster, deploys the stack while the nodes are still coming up, and waits until the three services call each
// other.
func up(ctx context.Context, cluster *testbed.Cluster, out io.Writer) error {
	start := time.Now()
	root, err := toolchain.Root(toolchain.Options{})
	if err != nil {
		return err
	}
	if err := stack.Check(root); err != nil {
		return err
	}
	if err := cluster.Start(ctx); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return cluster.Complete(groupCtx) })
	group.Go(func() error {
		s, err := stack.Open(groupCtx, cluster, root, nil)
		if err != nil {
			return err
		}
		_, err = s.Up(groupCtx, os.Stderr)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	deployed := time.Now()
	if err := status.WaitHealthy(ctx, cluster.Kubeconfig(), 3*time.Minute); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "  services: calling each other %.1fs after the deployment\n", time.Since(deployed).Seconds())
	if err := show(ctx, cluster, out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\nup in %.1fs. KUBECONFIG=%s\n", time.Since(start).Seconds(), cluster.Kubeconfig())
	return err
}

func operate(ctx context.Context, cluster *testbed.Cluster, command string, out io.Writer) error {
	root, err := toolchain.Root(toolchain.Options{})
	if err != nil {
		return err
	}
	s, err := stack.Open(ctx, cluster, root, nil)
	if err != nil {
		return err
	}
	do := s.Preview
	if command == "destroy" {
		do = s.Destroy
	}
	changes, err := do(ctx, os.Stderr)
	if err != nil {
		return err
	}
	var parts []string
	for op, n := range changes {
		parts = append(parts, fmt.Sprintf("%s %d", op, n))
	}
	slices.Sort(parts)
	_, err = fmt.Fprintf(out, "%s: %s\n", command, strings.Join(parts, ", "))
	return err
}

func show(ctx context.Context, cluster *testbed.Cluster, out io.Writer) error {
	machines, err := cluster.Status()
	if err != nil {
		return err
	}
	running := slices.ContainsFunc(machines, func(m testbed.MachineStatus) bool { return m.Running })
	if !running {
		_, err := fmt.Fprintf(out, "the testbed is down (%s); start it with: make up\n", filepath.Clean(cluster.Dir()))
		return err
	}
	for _, m := range machines {
		state := "running"
		if !m.Running {
			state = "STOPPED"
		}
		if _, err := fmt.Fprintf(out, "machine %-14s %s\n", m.Name, state); err != nil {
			return err
		}
	}
	return status.Show(ctx, cluster.Kubeconfig(), out)
}

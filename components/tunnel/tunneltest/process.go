package tunneltest

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Process is a program that a test runs.
type Process struct {
	cmd  *exec.Cmd
	end  context.CancelFunc
	gone sync.Once

	mu     sync.Mutex
	output bytes.Buffer
}

// Start runs a command until Stop or the end of the test, which shows its output if it failed.
func Start(t testing.TB, command ...string) *Process {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	p := &Process{cmd: exec.CommandContext(ctx, command[0], command[1:]...), end: end}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		end()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(command[0]), p)
		}
	})
	return p
}

// Stop kills the program and returns when it is gone.
func (p *Process) Stop() {
	p.gone.Do(func() {
		p.end()
		_ = p.cmd.Wait()
	})
}

// Write takes the program's output.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

// String returns what the program has written so far.
func (p *Process) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

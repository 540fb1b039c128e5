package toolchain

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a command may take to end after it was asked to.
const stopGrace = 10 * time.Second

// run runs a command made by exec.CommandContext with its output in log. The command leads a process group of its own; when the
// context ends, or when this process dies, the group is told to end and then killed.
func run(cmd *exec.Cmd, log *os.File) error {
	// Pdeathsig is sent when the thread that started the command ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	fmt.Fprintf(log, "$ %s\n", strings.Join(cmd.Args, " "))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // nothing is left after an orderly end
	if err != nil {
		return fmt.Errorf("%s: %w", cmd.Args[0], err)
	}
	return nil
}

// lastLines returns up to n last lines of a file's last 64 KiB that are not empty.
func lastLines(file *os.File, n int) []string {
	info, err := file.Stat()
	if err != nil {
		return nil
	}
	const limit = 64 << 10
	start := max(0, info.Size()-limit)
	data, err := io.ReadAll(io.NewSectionReader(file, start, limit))
	if err != nil {
		return nil
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}

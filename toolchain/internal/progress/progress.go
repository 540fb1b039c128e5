// Package progress shows the steps of a long build: one line a step, updated in place on a terminal; elsewhere a line when a step
// starts and ends, and a sign of life in between.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How often a running step's line is renewed on a terminal and elsewhere.
const (
	refresh   = time.Second
	heartbeat = 30 * time.Second
)

// A Display writes the progress of total steps, one at a time.
type Display struct {
	out      io.Writer
	terminal bool
	total    int
	done     int
	width    int // of the longest step name

	mu   sync.Mutex
	step *Step
	stop chan struct{}
	idle sync.WaitGroup
}

// A Step is one line.
type Step struct {
	display  *Display
	number   int
	name     string
	note     string
	start    time.Time
	estimate time.Duration
}

// New returns a display on out for steps with these names.
func New(out io.Writer, names []string) *Display {
	d := &Display{out: out, terminal: isTerminal(out), total: len(names)}
	for _, name := range names {
		d.width = max(d.width, len(name))
	}
	return d
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// Line writes a line of its own before the next step.
func (d *Display) Line(format string, args ...any) {
	fmt.Fprintf(d.out, format+"\n", args...)
}

// Start begins the next step. estimate is how long it will take, zero if unknown.
func (d *Display) Start(name string, estimate time.Duration) *Step {
	d.done++
	s := &Step{display: d, number: d.done, name: name, note: "building", start: time.Now(), estimate: estimate}
	d.mu.Lock()
	d.step, d.stop = s, make(chan struct{})
	stop := d.stop
	d.mu.Unlock()
	d.write()
	every := heartbeat
	if d.terminal {
		every = refresh
	}
	d.idle.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				d.write()
			case <-stop:
				return
			}
		}
	})
	return s
}

// Note replaces the word "building", for example while the step waits.
func (s *Step) Note(note string) {
	s.display.mu.Lock()
	changed := s.note != note
	s.note = note
	s.display.mu.Unlock()
	if changed {
		s.display.write()
	}
}

// End finishes the step with a word: "done" or "failed".
func (s *Step) End(word string) {
	d := s.display
	close(d.stop)
	d.idle.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.step = nil
	line := render(s.number, d.total, d.width, s.name, word, time.Since(s.start), 0)
	if d.terminal {
		line = "\r\x1b[K" + line
	}
	fmt.Fprintln(d.out, line)
}

// write shows the running step's line.
func (d *Display) write() {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.step
	if s == nil {
		return
	}
	line := render(s.number, d.total, d.width, s.name, s.note+" …", time.Since(s.start), s.estimate)
	if d.terminal {
		fmt.Fprint(d.out, "\r\x1b[K"+line)
		return
	}
	fmt.Fprintln(d.out, line)
}

// render composes a line such as "[ 3/12] spire-server  building … 1m12s (estimate 6m0s)". An estimate of zero is left out.
func render(number, total, width int, name, state string, elapsed, estimate time.Duration) string {
	digits := len(fmt.Sprint(total))
	line := fmt.Sprintf("[%*d/%d] %-*s  %s %s", digits, number, total, width, name, state, Short(elapsed))
	if estimate = estimate.Round(time.Second); estimate > 0 {
		line += fmt.Sprintf(" (estimate %s)", Short(estimate))
	}
	return line
}

// Short writes a duration to the second: "0s", "45s", "6m", "1m12s", "1h2m".
func Short(d time.Duration) string {
	d = d.Round(time.Second)
	h, m, s := int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60
	switch {
	case h > 0 && m == 0:
		return fmt.Sprintf("%dh", h)
	case h > 0:
		return fmt.Sprintf("%dh%dm", h, m)
	case m > 0 && s == 0:
		return fmt.Sprintf("%dm", m)
	case m > 0:
		return fmt.Sprintf("%dm%ds", m, s)
	}
	return fmt.Sprintf("%ds", s)
}

package progress

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRender(t *testing.T) {
	require.Equal(t, "[ 3/12] spire  building … 1m12s (estimate 6m)",
		render(3, 12, 5, "spire", "building …", 72*time.Second, 6*time.Minute))
	require.Equal(t, "[1/2] a    done 0s", render(1, 2, 3, "a", "done", 400*time.Millisecond, 0))
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", time.Minute: "1m", 61 * time.Second: "1m1s",
		time.Hour: "1h", 62 * time.Minute: "1h2m", 59*time.Second + 600*time.Millisecond: "1m",
	} {
		require.Equal(t, want, Short(d), d)
	}
}

func TestPlainOutput(t *testing.T) {
	var out bytes.Buffer
	d := New(&out, []string{"one", "three"})
	d.Line("2 steps")
	s := d.Start("one", time.Minute)
	s.Note("building") // as before: no second line
	s.Note("waiting for another run")
	s.End("done")
	d.Start("three", 0).End("failed")
	require.Equal(t, "2 steps\n"+
		"[1/2] one    building … 0s (estimate 1m)\n"+
		"[1/2] one    waiting for another run … 0s (estimate 1m)\n"+
		"[1/2] one    done 0s\n"+
		"[2/2] three  building … 0s\n"+
		"[2/2] three  failed 0s\n", out.String())
}

func TestTerminalOutputUpdatesInPlace(t *testing.T) {
	var out bytes.Buffer
	d := New(&out, []string{"one"})
	d.terminal = true
	d.Start("one", 0).End("done")
	require.Equal(t, "\r\x1b[K[1/1] one  building … 0s\r\x1b[K[1/1] one  done 0s\n", out.String())
}

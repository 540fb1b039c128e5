package connectivity

import (
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// No thread that is handed out is the process's first one, from wherever it is asked for.
func TestTheFirstThreadStaysHome(t *testing.T) {
	var group sync.WaitGroup
	for range 8 * runtime.GOMAXPROCS(0) {
		for range 50 {
			group.Go(func() {
				done := make(chan bool)
				onThreadOfItsOwn(func() { done <- unix.Gettid() == unix.Getpid() })
				if <-done {
					t.Error("f runs on the first thread")
				}
			})
		}
	}
	group.Wait()
}

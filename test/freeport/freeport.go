// Package freeport finds ports for the servers that tests start.
package freeport

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
)

// next makes every try another one; processes begin at different places.
var next atomic.Int64

// Take returns a TCP port that is free on all addresses and stays so for the time of the test: it is not of the range from which
// the kernel takes the ports of outgoing connections (from 32768 on, ip(7)), and no other test of this package's users gets it, in
// whatever process, for an abstract socket of its name is held.
func Take(t testing.TB) int {
	t.Helper()
	const first, count, tries = 10000, 20000, 1000
	for range tries {
		n := first + (os.Getpid()*61+int(next.Add(1)))%count
		guard, err := net.Listen("unix", fmt.Sprintf("@ephemos-test-port-%d", n))
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", n))
		if err != nil {
			_ = guard.Close()
			continue
		}
		_ = l.Close()
		t.Cleanup(func() { _ = guard.Close() })
		return n
	}
	t.Fatalf("no free port in %d tries", tries)
	return 0
}

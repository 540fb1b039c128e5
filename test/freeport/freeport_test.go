package freeport

import (
	"fmt"
	"net"
	"testing"
)

func TestTake(t *testing.T) {
	seen := map[int]bool{}
	for range 200 {
		n := Take(t)
		if seen[n] {
			t.Fatalf("%d is handed out twice", n)
		}
		seen[n] = true
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", n))
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/florianl/go-nflog/v2"
	"golang.org/x/sys/unix"
)

const (
	// copied is how much of each packet the kernel copies: an IPv6 header, some extensions and the ports.
	copied = 192
	// socketBuffer bounds what the kernel keeps for a program that is slow.
	socketBuffer = 1 << 20
	// retry is the time between two attempts to open the log, which an earlier program may still hold.
	retry = time.Second
)

// A source delivers copies of packets.
type source interface {
	// read calls each for every copy until ctx ends, which is no error, or the source fails. opened is called when nothing that
	// comes later can be missed.
	read(ctx context.Context, opened func(), each func(logged)) error
}

// A logged packet is what the kernel says of it.
type logged struct {
	// prefix is the text of the rule that has logged it.
	prefix string
	// sequence counts the packets of the group, also those that were lost on the way here. Negative: not known.
	sequence int64
	payload  []byte
}

// kernelLog is a group of the kernel's netfilter log.
type kernelLog struct {
	Group uint16
	// NetNS is a file descriptor of a network namespace. 0 is the program's own.
	NetNS int
}

func (k kernelLog) read(ctx context.Context, opened func(), each func(logged)) error {
	log, err := nflog.Open(&nflog.Config{
		NetNS: k.NetNS, Group: k.Group, Copymode: nflog.CopyPacket, Bufsize: copied, Flags: nflog.FlagSeq,
		QThresh: 32, Timeout: 10, // in hundredths of a second
	})
	if err != nil {
		return fmt.Errorf("netfilter log: %w", err)
	}
	// The library waits at Close until this one has ended.
	reading, end := context.WithCancel(ctx)
	defer func() { end(); _ = log.Close() }()
	if err := log.Con.SetReadBuffer(socketBuffer); err != nil {
		return fmt.Errorf("netfilter log: %w", err)
	}
	failed := make(chan error, 1)
	err = log.RegisterWithErrorFunc(reading, func(a nflog.Attribute) int {
		l := logged{sequence: -1}
		if a.Prefix != nil {
			l.prefix = *a.Prefix
		}
		if a.Seq != nil {
			l.sequence = int64(*a.Seq)
		}
		if a.Payload != nil {
			l.payload = *a.Payload
		}
		each(l)
		return 0
	}, func(err error) int {
		// The kernel had no room: the sequence shows how many packets are missing.
		if errors.Is(err, unix.ENOBUFS) {
			return 0
		}
		failed <- err
		return 1
	})
	if err != nil {
		return fmt.Errorf("netfilter log, group %d: %w", k.Group, err)
	}
	opened()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("netfilter log, group %d: %w", k.Group, err)
	}
}

// capture puts the packets of a source into the queue until ctx ends, and opens the source again when it fails. It never waits for
// the queue.
func capture(ctx context.Context, from source, ignored string, queue chan<- packet, counts *counters, log *slog.Logger) {
	for {
		expected := int64(-1)
		err := from.read(ctx, func() { counts.open.Store(true); log.Info("reading the netfilter log") }, func(l logged) {
			if expected >= 0 && l.sequence > expected {
				counts.dropped[droppedKernel].Add(uint64(l.sequence - expected))
			}
			if l.sequence >= 0 {
				expected = (l.sequence + 1) & 0xffffffff
			}
			enqueue(l, ignored, queue, counts)
		})
		counts.open.Store(false)
		if ctx.Err() != nil {
			return
		}
		log.Warn("the netfilter log cannot be read, trying again", "error", err, "after", retry.String())
		counts.reopened.Add(1)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry):
		}
	}
}

func enqueue(l logged, ignored string, queue chan<- packet, counts *counters) {
	counts.packets.Add(1)
	if ignored != "" && strings.HasPrefix(l.prefix, ignored) {
		counts.ignored.Add(1)
		return
	}
	p, err := decode(l.payload)
	if err != nil {
		counts.dropped[droppedMalformed].Add(1)
		return
	}
	select {
	case queue <- p:
	default:
		counts.dropped[droppedQueue].Add(1)
	}
}

// Package impostor tries to be answered by a program that accepts mutual TLS only: without TLS, without a certificate, with a
// certificate that it made itself, with somebody else's, and, to show that the same means do get through, with the right one.
//
// In: a connection, how the port is spoken to (Protocol), and credentials. Out: an Outcome, which tells a program that refuses
// from one that answers, is silent, or could not be asked. Only a program that ends the connection refuses.
package impostor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Verdict is how a program took an attempt.
type Verdict string

// The verdicts.
const (
	// Refused means that the program ended the connection, or answered in its protocol that it refuses, before anything else.
	Refused Verdict = "refused"
	// Answered means that it answered.
	Answered Verdict = "answered"
	// Silent means that it neither answered nor ended the connection in time.
	Silent Verdict = "silent"
	// Broken means that it could not be asked: it was not reached, or is not who it should be.
	Broken Verdict = "broken"
)

// Outcome is what became of an attempt.
type Outcome struct {
	Verdict Verdict
	// Detail is the error or the beginning of the answer, for readers.
	Detail string
}

// patience is how long an attempt may take. Programs give a handshake a few seconds before they end the connection.
const patience = 15 * time.Second

// Dial opens a connection to the program.
type Dial func(context.Context) (net.Conn, error)

// Try makes one attempt. Credentials are the TLS to use, which verifies the program, so that a refusal can only be the
// program's; nil is none.
func Try(ctx context.Context, dial Dial, p Protocol, credentials *tls.Config) Outcome {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return Outcome{Broken, "not reached: " + err.Error()}
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return Outcome{Broken, err.Error()}
	}
	if credentials != nil {
		if p.before != nil {
			if err := p.before(conn); err != nil {
				return Outcome{Broken, "before TLS: " + err.Error()}
			}
		}
		secure := tls.Client(conn, credentials)
		if err := secure.HandshakeContext(ctx); err != nil {
			return ended("handshake", err)
		}
		conn = secure
	}
	answer, err := p.ask(conn)
	switch {
	case len(answer) == 0 && err == nil:
		return Outcome{Broken, "the question was neither answered nor refused"}
	case len(answer) == 0:
		return ended("question", err)
	case credentials == nil && isAlert(answer):
		return Outcome{Refused, "TLS alert"}
	}
	if p.refuses != nil {
		if why, yes := p.refuses(answer); yes {
			return Outcome{Refused, why}
		}
	}
	return Outcome{Answered, fmt.Sprintf("%.60q", answer)}
}

// ended tells how a step that failed did: whether it was the program that ended the connection.
func ended(step string, err error) Outcome {
	detail := step + ": " + err.Error()
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "remote error": // an alert (crypto/tls)
		return Outcome{Refused, detail}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Outcome{Refused, detail}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return Outcome{Silent, detail}
	}
	return Outcome{Broken, detail}
}

// isAlert says whether bytes are a TLS alert (RFC 8446, section 5.1): the answer of a program that expected a handshake.
func isAlert(b []byte) bool { return len(b) >= 2 && b[0] == 21 && b[1] == 3 }

package impostor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Protocol is how a port is spoken to.
type Protocol struct {
	// Name is for readers.
	Name string
	// before does what comes before TLS.
	before func(net.Conn) error
	// ask asks something that needs no right of its own, and returns the beginning of the answer.
	ask func(net.Conn) ([]byte, error)
	// refuses says that an answer, although one of the application's, refuses the client, and how.
	refuses func([]byte) (string, bool)
}

// HTTP asks for a page.
var HTTP = Protocol{Name: "HTTP", ask: say("GET / HTTP/1.1\r\nHost: impostor\r\nConnection: close\r\n\r\n")}

// Redis asks for an answer.
var Redis = Protocol{Name: "Redis", ask: say("PING\r\n")}

// NATS introduces a client. A server speaks first, with a line that begins with INFO.
var NATS = Protocol{Name: "NATS", ask: say("CONNECT {\"verbose\":true,\"pedantic\":false}\r\nPING\r\n")}

func say(question string) func(net.Conn) ([]byte, error) {
	return func(conn net.Conn) ([]byte, error) {
		// A program may end the connection before it has read everything. What it said before that counts.
		_, writeErr := io.WriteString(conn, question)
		answer := make([]byte, 512)
		n, err := conn.Read(answer)
		if n == 0 && writeErr != nil {
			err = writeErr
		}
		return answer[:n], err
	}
}

// Codes of requests that begin a connection to Postgres (PostgreSQL 15, section 55.7).
const (
	protocolVersion = 3 << 16
	sslRequest      = 80877103
)

// Postgres logs in as a user to a database. A refusal is an error of class 28, invalid authorization.
func Postgres(user, database string) Protocol {
	return Protocol{
		Name: "Postgres as " + user,
		before: func(conn net.Conn) error {
			if _, err := conn.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, sslRequest)); err != nil {
				return err
			}
			answer := make([]byte, 1)
			if _, err := io.ReadFull(conn, answer); err != nil {
				return err
			}
			if answer[0] != 'S' {
				return fmt.Errorf("asked for TLS, the server answered %q", answer)
			}
			return nil
		},
		ask: func(conn net.Conn) ([]byte, error) {
			body := binary.BigEndian.AppendUint32(nil, protocolVersion)
			for _, text := range []string{"user", user, "database", database, ""} {
				body = append(append(body, text...), 0)
			}
			message := append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
			if _, err := conn.Write(message); err != nil {
				return nil, err
			}
			head := make([]byte, 5)
			if n, err := io.ReadFull(conn, head); err != nil {
				return head[:n], err
			}
			size := binary.BigEndian.Uint32(head[1:])
			if size < 4 || size > 1<<16 {
				return head, errors.New("not a message of Postgres")
			}
			rest := make([]byte, size-4)
			n, err := io.ReadFull(conn, rest)
			return append(head, rest[:n]...), err
		},
		refuses: func(answer []byte) (string, bool) {
			if answer[0] != 'E' || len(answer) < 5 {
				return "", false
			}
			fields := map[byte]string{}
			for field := range bytes.SplitSeq(answer[5:], []byte{0}) {
				if len(field) > 1 {
					fields[field[0]] = string(field[1:])
				}
			}
			return fmt.Sprintf("%s: %s", fields['C'], fields['M']), len(fields['C']) == 5 && fields['C'][:2] == "28"
		},
	}
}

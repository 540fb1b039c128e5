package queue

import (
	"errors"
	"fmt"
	"strings"
)

// Config is the configuration of NATS.
type Config struct {
	// Port is where it listens, and MonitorPort where it serves its figures, both on 127.0.0.1.
	Port, MonitorPort int
	// MaxPayload bounds a message, in bytes.
	MaxPayload int
	// MaxConnections bounds its clients.
	MaxConnections int
}

// Validate returns everything that is wrong with the configuration, joined into one error, or nil.
func (c Config) Validate() error {
	var errs []error
	fail := func(key string, value int, allowed string) {
		errs = append(errs, fmt.Errorf(`%s: "%d" is not allowed: it must be %s`, key, value, allowed))
	}
	if c.Port < 1024 || c.Port > 65535 {
		fail("port", c.Port, "a port from 1024 to 65535")
	}
	if c.MonitorPort < 1024 || c.MonitorPort > 65535 || c.MonitorPort == c.Port {
		fail("monitorPort", c.MonitorPort, "a port from 1024 to 65535 other than the clients'")
	}
	if c.MaxPayload < 1<<10 || c.MaxPayload > 8<<20 {
		fail("maxPayload", c.MaxPayload, "from 1024 to 8388608 bytes")
	}
	if c.MaxConnections < 16 || c.MaxConnections > 10000 {
		fail("maxConnections", c.MaxConnections, "from 16 to 10000")
	}
	return errors.Join(errs...)
}

// pending is how many bytes may wait for one slow client, as a number of the largest messages.
const pending = 64

// Render returns nats.conf, or the error of Validate.
func (c Config) Render() (string, error) {
	if err := c.Validate(); err != nil {
		return "", err
	}
	return strings.TrimPrefix(fmt.Sprintf(text, c.Port, c.MonitorPort, c.MaxConnections, c.MaxPayload, pending*c.MaxPayload), "\n"), nil
}

// The comments are part of the file, for who looks at it in a running container.
const text = `
# The tunnel in the same pod is the only way in. It knows who a caller is, NATS does not.
listen: "127.0.0.1:%d"
http: "127.0.0.1:%d"

max_connections: %d
max_payload: %d
max_control_line: 1024
max_subscriptions: 64
# A client that is slower than its messages is disconnected, so that it cannot hold up the others or fill the memory.
max_pending: %d
write_deadline: "2s"
# A client that is gone without a word is noticed within a minute.
ping_interval: "20s"
ping_max: 2

# There is no "jetstream" block: nothing is written to disk.
lame_duck_duration: "30s"
lame_duck_grace_period: "1s"
debug: false
trace: false
`

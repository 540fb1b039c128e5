package cache

import (
	"errors"
	"fmt"
	"strings"
)

// Config is the configuration of Redis.
type Config struct {
	// Port is where it listens, on 127.0.0.1.
	Port int
	// MaxMemory bounds what it keeps, in MiB. Beyond it the values that were used least lately go.
	MaxMemory int
	// MaxClients bounds its connections.
	MaxClients int
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
	if c.MaxMemory < 8 || c.MaxMemory > 1<<20 {
		fail("maxMemory", c.MaxMemory, "from 8 to 1048576 MiB")
	}
	if c.MaxClients < 16 || c.MaxClients > 10000 {
		fail("maxClients", c.MaxClients, "from 16 to 10000")
	}
	return errors.Join(errs...)
}

// Render returns redis.conf, or the error of Validate.
func (c Config) Render() (string, error) {
	if err := c.Validate(); err != nil {
		return "", err
	}
	return strings.TrimPrefix(fmt.Sprintf(text, c.Port, c.MaxClients, c.MaxMemory), "\n"), nil
}

// The comments are part of the file, for who looks at it in a running container.
const text = `
# The tunnel in the same pod is the only way in. It knows who a caller is, Redis does not.
bind 127.0.0.1
port %d
protected-mode yes
tcp-keepalive 60
# A connection that is silent for longer is closed; clients close theirs earlier.
timeout 300
maxclients %d

# A cache: nothing is written to disk, nothing outlives the process.
save ""
appendonly no
databases 1
maxmemory %dmb
maxmemory-policy allkeys-lru
maxmemory-samples 10
# All buffers of all clients together.
maxmemory-clients 25%%
lazyfree-lazy-eviction yes
lazyfree-lazy-expire yes
lazyfree-lazy-server-del yes
lazyfree-lazy-user-del yes

# What a caller may send: commands on keys, and those that keep a connection. Nothing that administers, stops, scans or
# blocks the server, no scripts, no messages between callers.
user default reset on nopass ~* -@all +@read +@write +@connection +@transaction -@admin -@dangerous -@blocking -@scripting -@pubsub -scan -randomkey -wait
enable-protected-configs no
enable-debug-command no
enable-module-command no
proto-max-bulk-len 1mb
client-query-buffer-limit 2mb
client-output-buffer-limit normal 8mb 4mb 10

daemonize no
loglevel notice
logfile ""
syslog-enabled no
always-show-logo no
set-proc-title no
`

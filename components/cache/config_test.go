package cache

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/tunnel/tunneltest"
	"ephemos.dev/deploy/test/freeport"
)

func TestGolden(t *testing.T) {
	text, err := minimal().Config().Render()
	require.NoError(t, err)
	golden(t, "redis.conf", text)
}

func TestConfigRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config){
		`port: "443"`:      func(c *Config) { c.Port = 443 },
		`maxMemory: "7"`:   func(c *Config) { c.MaxMemory = 7 },
		`maxClients: "15"`: func(c *Config) { c.MaxClients = 15 },
	} {
		config := minimal().Config()
		change(&config)
		_, err := config.Render()
		require.ErrorContains(t, err, want)
	}
}

// connection speaks Redis' inline protocol.
type connection struct {
	t *testing.T
	net.Conn
	*bufio.Reader
}

// start runs Redis with the configuration on a free port and connects to it.
func start(t *testing.T, change func(string) string) (*connection, *tunneltest.Process) {
	t.Helper()
	config := minimal().Config()
	config.Port, config.MaxMemory = freeport.Take(t), 8
	text, err := config.Render()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), configFile)
	require.NoError(t, os.WriteFile(file, []byte(change(text)), 0o600))
	out := tunneltest.Start(t, append(tunneltest.Redis(t), file)...)
	var conn net.Conn
	require.Eventually(t, func() bool {
		conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", config.Port))
		return err == nil || strings.Contains(out.String(), "FATAL CONFIG")
	}, 10*time.Second, 10*time.Millisecond, out)
	if conn == nil {
		return nil, out
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &connection{t, conn, bufio.NewReader(conn)}, out
}

// ask sends a command and returns the first line of the answer.
func (c *connection) ask(command string) string {
	c.t.Helper()
	_, err := fmt.Fprintf(c, "%s\r\n", command)
	require.NoError(c.t, err)
	line, err := c.ReadString('\n')
	require.NoError(c.t, err)
	return strings.TrimSpace(line)
}

func same(text string) string { return text }

func TestProgramRefusesAMistake(t *testing.T) {
	conn, out := start(t, func(text string) string { return strings.Replace(text, "allkeys-lru", "by-luck", 1) })
	require.Nil(t, conn, "the check notices a mistake, or it would show nothing")
	require.Contains(t, out.String(), "maxmemory-policy")
}

// TestProgramObeys asks a running Redis what it does and does not do.
func TestProgramObeys(t *testing.T) {
	conn, out := start(t, same)
	require.NotContains(t, out.String(), "WARNING: 32")
	require.Equal(t, "+PONG", conn.ask("PING"))
	require.Equal(t, "+OK", conn.ask("SET user:a 1 PX 60000"))
	require.Equal(t, "$1", conn.ask("GET user:a"))
	_, err := conn.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, ":1", conn.ask("DEL user:a"))
	for _, command := range []string{
		"CONFIG GET *", "FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "RANDOMKEY", "WAIT 1 0", "SHUTDOWN", "DEBUG SLEEP 1", "SAVE", "BGSAVE", "REPLICAOF 127.0.0.1 1",
		"MODULE LIST", "ACL LIST", "CLIENT LIST", "CLIENT KILL ID 1", "EVAL return 0", "PUBLISH a b", "SUBSCRIBE a", "MONITOR", "INFO",
		"BLPOP a 0", "SWAPDB 0 0", "MIGRATE a 1 a 0 1", "SORT a", "RESTORE a 0 x", "SCRIPT FLUSH", "FUNCTION FLUSH",
	} {
		require.Regexp(t, "^-(NOPERM|ERR [A-Z]+ command not allowed)", conn.ask(command))
	}
}

// TestProgramForgetsInsteadOfGrowing writes several times as much as it may keep.
func TestProgramForgetsInsteadOfGrowing(t *testing.T) {
	conn, _ := start(t, same)
	value := strings.Repeat("x", 60_000)
	for i := range 400 { // 24 MB into 8
		require.Equal(t, "+OK", conn.ask(fmt.Sprintf("SET key:%d %s", i, value)))
	}
	size, err := strconv.Atoi(strings.TrimPrefix(conn.ask("DBSIZE"), ":"))
	require.NoError(t, err)
	require.Greater(t, size, 50)
	require.Less(t, size, 8<<20/60_000)
}

package queue

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/components/tunnel/tunneltest"
	"ephemos.dev/deploy/test/freeport"
)

func TestGolden(t *testing.T) {
	text, err := minimal().Config().Render()
	require.NoError(t, err)
	golden(t, "nats.conf", text)
}

func TestConfigRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config){
		`port: "443"`:            func(c *Config) { c.Port = 443 },
		`monitorPort: "14222"`:   func(c *Config) { c.MonitorPort = c.Port },
		`maxPayload: "10000000"`: func(c *Config) { c.MaxPayload = 10_000_000 },
		`maxConnections: "1"`:    func(c *Config) { c.MaxConnections = 1 },
	} {
		config := minimal().Config()
		change(&config)
		_, err := config.Render()
		require.ErrorContains(t, err, want)
	}
}

// TestProgramAccepts passes the file through NATS' own check.
func TestProgramAccepts(t *testing.T) {
	program := tunneltest.NATS(t)
	check := func(text string) (string, error) {
		file := filepath.Join(t.TempDir(), configFile)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		out, err := exec.CommandContext(t.Context(), program[0], "-t", "--config", file).CombinedOutput()
		return string(out), err
	}
	for _, args := range []*Args{minimal(), full()} {
		text, err := args.Config().Render()
		require.NoError(t, err)
		out, err := check(text)
		require.NoError(t, err, out)

		// The check notices a mistake, or it would show nothing.
		for _, mistake := range []string{"write_patience", "write_deadline: soon #"} {
			out, err = check(strings.Replace(text, "write_deadline", mistake, 1))
			require.Error(t, err, out)
		}
	}
}

// TestProgramObeys asks a running NATS what it does and does not do.
func TestProgramObeys(t *testing.T) {
	config := minimal().Config()
	config.Port, config.MonitorPort, config.MaxPayload = freeport.Take(t), freeport.Take(t), 1<<10
	text, err := config.Render()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), configFile)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	tunneltest.Start(t, append(tunneltest.NATS(t), "--config", file)...)

	var conn *nats.Conn
	require.Eventually(t, func() bool {
		conn, err = nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", config.Port))
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	defer conn.Close()
	require.EqualValues(t, config.MaxPayload, conn.MaxPayload())

	orders, err := conn.SubscribeSync("orders.placed")
	require.NoError(t, err)
	require.NoError(t, conn.Publish("orders.placed", []byte("1")))
	message, err := orders.NextMsg(5 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "1", string(message.Data))

	js, err := conn.JetStream()
	require.NoError(t, err)
	_, err = js.AccountInfo()
	require.ErrorIs(t, err, nats.ErrJetStreamNotEnabled)

	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/varz", config.MonitorPort))
	require.NoError(t, err)
	defer response.Body.Close()
	var varz struct {
		Host     string `json:"host"`
		HTTPHost string `json:"http_host"`
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&varz))
	require.Equal(t, []string{"127.0.0.1", "127.0.0.1"}, []string{varz.Host, varz.HTTPHost})
}

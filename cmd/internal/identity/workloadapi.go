package identity

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// retryDelay is the pause between attempts to obtain an identity. The library's default grows to 30 s, which would keep
// a pod that started a little before its registration entry reached the agent (at most about ten seconds: the server's
// cache reload and the agent's synchronisation, five seconds each) waiting far longer than needed.
const retryDelay = time.Second

// Open connects to the Workload API at socket (a URI such as unix:///spiffe-workload-api/spire-agent.sock) and returns
// once the first identity has been received, or when ctx ends. It keeps asking while the workload is not registered.
func Open(ctx context.Context, socket string, log *slog.Logger) (*workloadapi.X509Source, error) {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(
		workloadapi.WithAddr(socket),
		workloadapi.WithLogger(apiLogger{log}),
		workloadapi.WithBackoffStrategy(constantBackoff{}),
	))
	if err != nil {
		return nil, fmt.Errorf("identity: Workload API at %s: %w", socket, err)
	}
	return source, nil
}

type constantBackoff struct{}

func (constantBackoff) NewBackoff() workloadapi.Backoff { return constantBackoff{} }
func (constantBackoff) Next() time.Duration             { return retryDelay }
func (constantBackoff) Reset()                          {}

// apiLogger passes the library's messages to slog.
type apiLogger struct{ log *slog.Logger }

func (l apiLogger) Debugf(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l apiLogger) Infof(format string, args ...any)  { l.log.Info(fmt.Sprintf(format, args...)) }
func (l apiLogger) Warnf(format string, args ...any)  { l.log.Warn(fmt.Sprintf(format, args...)) }
func (l apiLogger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }

package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/test/graph"
	"ephemos.dev/deploy/test/preview"
	"ephemos.dev/deploy/toolchain"
)

// record records what is measured: that of STACK, by default local.
func record(t testing.TB) *graph.Graph {
	t.Helper()
	stack := cmp.Or(os.Getenv("STACK"), "local")
	config, err := graph.Configuration("../..", stack)
	require.NoError(t, err)
	recorded, err := graph.RecordStack(stack, config, graph.Update)
	require.NoError(t, err)
	return recorded
}

func TestReplayRegistersTheSameResourcesForEachDomain(t *testing.T) {
	recorded := record(t)
	program, err := Replay(recorded, 3)
	require.NoError(t, err)
	replayed, err := graph.Record("replay", program, graph.Preview)
	require.NoError(t, err)
	assert.Len(t, replayed.Resources, 3*len(recorded.Resources))
	for _, r := range replayed.Resources {
		if !strings.HasPrefix(r.Name, "domain1-") {
			continue
		}
		var original *graph.Resource
		for _, o := range recorded.Resources {
			if o.Name == strings.TrimPrefix(r.Name, "domain1-") && o.Type == r.Type {
				original = o
			}
		}
		require.NotNil(t, original, r.Name)
		assert.Equal(t, original.Parent == "", r.Parent == "", r.Name)
		assert.Equal(t, original.Provider == "", r.Provider == "", r.Name)
		assert.Equal(t, original.Protect, r.Protect, r.Name)
		if original.Custom { // a component has no inputs of its own to send
			assert.Len(t, r.Inputs, len(original.Inputs), r.Name)
		}
	}
}

// BenchmarkPreview is the time of one preview, the largest process of the engine's, and the memory of the program itself.
func BenchmarkPreview(b *testing.B) {
	ctx := context.Background()
	programs, err := preview.FindPrograms(ctx, toolchain.Options{}, preview.StandIn)
	require.NoError(b, err)
	recorded := record(b)
	for _, domains := range []int{1, 5, 20} {
		b.Run(fmt.Sprintf("domains=%d", domains), func(b *testing.B) {
			program, err := Replay(recorded, domains)
			require.NoError(b, err)
			var engine int64
			for b.Loop() {
				result, err := preview.Run(ctx, preview.Options{Programs: programs, Stack: "bench", Program: program})
				if err != nil {
					b.Fatal(err, result.Errors)
				}
				if want := domains * len(recorded.Resources); len(result.Resources) != want {
					b.Fatalf("%d resources, want %d", len(result.Resources), want)
				}
				engine = result.EngineMemory
			}
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			b.ReportMetric(float64(domains*len(recorded.Resources)), "resources")
			b.ReportMetric(float64(engine>>20), "engine-MB")
			b.ReportMetric(float64(memory.Sys>>20), "program-MB")
		})
	}
}

package identity_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ephemos.dev/deploy/cmd/internal/identity"
	"ephemos.dev/deploy/cmd/internal/identity/identitytest"
)

func TestHolderCountsRotations(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	feed := ca.Feed(ca.ID("/workload/a"), time.Hour)
	holder := identity.NewHolder(slog.New(slog.DiscardHandler))

	_, err := holder.GetX509SVID()
	require.ErrorIs(t, err, identity.ErrNone)
	require.Zero(t, holder.Status())

	updates := make(chan uint64, 10)
	holder.Subscribe(func() { updates <- holder.Generation() })
	go holder.Follow(t.Context(), feed)
	require.Equal(t, uint64(1), <-updates)
	<-holder.Held()
	first := holder.Status()
	require.Equal(t, "spiffe://example.org/workload/a", first.SPIFFEID)
	require.Zero(t, first.Rotations, "the first SVID is no rotation")

	feed.Rotate()
	require.Equal(t, uint64(2), <-updates)
	second := holder.Status()
	require.Equal(t, uint64(1), second.Rotations)
	require.NotEqual(t, first.Serial, second.Serial)

	svid, err := holder.GetX509SVID()
	require.NoError(t, err)
	require.Equal(t, second.Serial, svid.Certificates[0].SerialNumber.String(), "handshakes use the newest SVID")
}

func TestUpdateWithoutNewSVIDIsNoRotation(t *testing.T) {
	ca := identitytest.NewCA(t, "example.org")
	feed := &bundleOnly{Feed: ca.Feed(ca.ID("/workload/a"), time.Hour), signal: make(chan struct{})}
	holder := identity.NewHolder(slog.New(slog.DiscardHandler))
	updates := make(chan struct{}, 10)
	holder.Subscribe(func() { updates <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go holder.Follow(ctx, feed)
	<-updates
	feed.signal <- struct{}{}
	<-updates
	require.Equal(t, uint64(2), holder.Generation(), "connections are renewed: the bundle may have lost an authority")
	require.Zero(t, holder.Status().Rotations)
}

// bundleOnly signals updates that leave the SVID as it is.
type bundleOnly struct {
	*identitytest.Feed
	signal chan struct{}
}

func (b *bundleOnly) Updated() <-chan struct{} { return b.signal }

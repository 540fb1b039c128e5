package chain

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"ephemos.dev/deploy/cmd/internal/chain/cache"
	"ephemos.dev/deploy/cmd/internal/chain/queue"
	"ephemos.dev/deploy/cmd/internal/identity"
	"ephemos.dev/deploy/cmd/internal/mtls"
)

// Subject is what orders are announced on.
const Subject = "orders.placed"

// dataTimeout bounds the connection to one endpoint of the cache or the queue, with its handshake.
const dataTimeout = time.Second

// Placed is an announcement on Subject, as JSON. There is at most one for each request that order answered; a request that was
// sent twice, because its first answer was late, is two orders.
type Placed struct {
	// Number is the order's, unique. It is in the answer too (Link.Order).
	Number string `json:"order"`
	// Caller is the SPIFFE ID of whoever placed the order, By that of the service.
	Caller string    `json:"caller"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// Kept is what a service found in the cache: when any of its replicas was last asked by the same caller, and the answer that
// it got then.
type Kept struct {
	At    time.Time `json:"at"`
	Chain []Link    `json:"chain"`
}

// data is a service's part in the Data zone. Neither the cache nor the queue can fail a call: the first is asked while the
// next service is, and given up after a few milliseconds, the second is told later.
type data struct {
	holder  *identity.Holder
	cache   *cache.Cache // nil without one
	queue   *queue.Queue // nil without one
	dialers []*mtls.Dialer
}

func newData(place Place, config Config, holder *identity.Holder, resolver mtls.Resolver, log *slog.Logger) *data {
	d := &data{holder: holder}
	dialer := func(to Server) *mtls.Dialer {
		dialer := mtls.NewDialer(holder, mtls.DialerConfig{
			Host: to.Host, Port: to.Port, ServerID: to.ID, Timeout: dataTimeout,
			Cooldown: config.Cooldown, Refresh: config.Refresh, Resolver: resolver,
		}, log)
		d.dialers = append(d.dialers, dialer)
		return dialer
	}
	if config.Cache.Host != "" {
		d.cache = cache.New(cache.Config{
			Dial: dialer(config.Cache).Dial, Timeout: config.CacheTimeout, DialTimeout: dataTimeout,
		}, log)
		holder.Subscribe(d.cache.Renew)
	}
	if config.Queue.Host != "" {
		d.queue = queue.New(queue.Config{
			Dial: dialer(config.Queue).Dial, DialTimeout: dataTimeout, Name: place.Name, Subject: Subject,
		}, log)
		holder.Subscribe(d.queue.Renew)
	}
	return d
}

// run keeps the connections until ctx ends.
func (d *data) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, dialer := range d.dialers {
		running.Go(func() { dialer.Run(ctx) })
	}
	select {
	case <-ctx.Done():
		return
	case <-d.holder.Held():
	}
	if d.cache != nil {
		running.Go(func() { d.cache.Run(ctx) })
	}
	if d.queue != nil {
		running.Go(func() { d.queue.Run(ctx) })
	}
}

// recall looks for what is kept about a caller while the next service is asked. The function it returns waits for the end of
// the look.
func (d *data) recall(ctx context.Context, key string) func() *Kept {
	if d.cache == nil {
		return func() *Kept { return nil }
	}
	found := make(chan *Kept, 1)
	go func() {
		value, ok := d.cache.Get(ctx, key)
		var kept Kept
		if !ok || json.Unmarshal(value, &kept) != nil {
			found <- nil
			return
		}
		found <- &kept
	}()
	return func() *Kept { return <-found }
}

// keep puts an answer into the cache, later.
func (d *data) keep(key string, answer []Link) {
	if d.cache == nil {
		return
	}
	if value, err := json.Marshal(Kept{At: time.Now(), Chain: answer}); err == nil {
		d.cache.Set(key, value)
	}
}

// place announces a new order, later, and returns its number; without a queue there are no orders.
func (d *data) place(caller, by string) (number string) {
	if d.queue == nil {
		return ""
	}
	order := Placed{Number: rand.Text(), Caller: caller, By: by, At: time.Now()}
	if message, err := json.Marshal(order); err == nil {
		d.queue.Publish(message)
	}
	return order.Number
}

// snapshots returns what became of the requests so far, nil where there is no cache or queue.
func (d *data) snapshots() (kept *cache.Snapshot, announced *queue.Snapshot) {
	if d.cache != nil {
		s := d.cache.Snapshot()
		kept = &s
	}
	if d.queue != nil {
		s := d.queue.Snapshot()
		announced = &s
	}
	return kept, announced
}

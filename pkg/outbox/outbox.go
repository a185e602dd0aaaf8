// Package outbox publishes events that were committed with the change they tell of, and forgets them once a stream has taken them.
//
// What it promises: an event that is in the outbox goes out at least once, under one id, whoever dies in between. The process that committed it
// publishes it at once; what it did not live to publish, another process of its role finds.
package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/postgres"
)

// leftAfter is how long an event may stand in the outbox before it counts as left behind.
const leftAfter = 5 * time.Second

// lookEvery is how often, about, a process looks for such events.
const lookEvery = 3 * time.Second

// A Publisher publishes committed events.
type Publisher struct {
	bus   *bus.Bus
	store *postgres.Outbox
	log   *slog.Logger
	now   func() time.Time
	queue *bus.Batcher[postgres.OutboxEvent]
}

// New returns a Publisher; Run makes it work.
func New(b *bus.Bus, store *postgres.Outbox, log *slog.Logger, now func() time.Time) *Publisher {
	p := &Publisher{bus: b, store: store, log: log, now: now}
	p.queue = bus.NewBatcher(1024, 1, p.publish, func(e postgres.OutboxEvent, panicked any) {
		log.Error("publishing an event panicked, a later look will try it", "event", e.ID, "panic", fmt.Sprint(panicked))
	})
	return p
}

// Run publishes until ctx ends and what was sent by then is out. From time to time it also publishes what other processes of the role left behind.
func (p *Publisher) Run(ctx context.Context) error {
	var looking sync.WaitGroup
	looking.Go(func() { p.look(ctx) })
	defer looking.Wait()
	return p.queue.Run(ctx)
}

// look publishes what was left behind, until ctx ends.
func (p *Publisher) look(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookEvery/2 + rand.N(lookEvery)):
		}
		if err := p.bus.Connected(); err != nil {
			continue
		}
		n, err := p.Left(context.WithoutCancel(ctx), p.now())
		if n > 0 {
			p.log.Warn("events left in the outbox were published", "count", n)
		}
		if err != nil {
			p.log.Warn("publishing what is left in the outbox failed, it goes on with the next round", "error", err)
		}
	}
}

// Send publishes events that are committed. It does not wait; an event that cannot be queued stays in the outbox and is found there.
func (p *Publisher) Send(events []postgres.OutboxEvent) {
	for _, e := range events {
		p.queue.Add(e)
	}
}

func (p *Publisher) publish(ctx context.Context, events []postgres.OutboxEvent) {
	var sent []string
	var failed error
	for i, err := range p.put(ctx, events) {
		if err == nil {
			sent = append(sent, events[i].ID)
		} else {
			failed = err
		}
	}
	if failed != nil {
		p.log.Warn("publishing events failed, a later look will do it", "count", len(events)-len(sent), "error", failed)
	}
	if err := p.store.Sent(ctx, sent); err != nil {
		p.log.Warn("emptying the outbox failed, a later look will do it", "count", len(sent), "error", err)
	}
}

func (p *Publisher) put(ctx context.Context, events []postgres.OutboxEvent) []error {
	out := make([]bus.Out, len(events))
	for i, e := range events {
		out[i] = bus.Out{Subject: e.Subject, ID: e.ID, Data: e.Payload}
	}
	return p.bus.PublishEach(ctx, out...)
}

// Left publishes what processes of the role left behind and returns how many events those were.
func (p *Publisher) Left(ctx context.Context, now time.Time) (int, error) {
	return p.store.Left(ctx, now, now.Add(-leftAfter), func(events []postgres.OutboxEvent) []error { return p.put(ctx, events) })
}

// Entry makes an outbox entry of an event.
func Entry(e event.Event) postgres.OutboxEvent {
	return postgres.OutboxEvent{ID: e.ID, Subject: event.EventSubject(e.App, e.Name), Payload: e.Encode()}
}

// Out makes a message to be published at once of an event that a stream would bring again.
func Out(e event.Event) bus.Out {
	return bus.Out{Subject: event.EventSubject(e.App, e.Name), ID: e.ID, Data: e.Encode()}
}

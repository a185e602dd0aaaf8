// Package outbox publishes events that were committed with the change they tell of, and forgets them once a stream has taken them.
//
// What it promises: an event that is in the outbox goes out at least once, under one id, whoever dies in between. The process that committed it
// publishes it at once; what it did not live to publish, a sweeper finds.
package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/postgres"
)

// leftAfter is how long an event may stand in the outbox before it counts as left behind.
const leftAfter = 5 * time.Second

// A Publisher publishes committed events.
type Publisher struct {
	bus   *bus.Bus
	store *postgres.Outbox
	log   *slog.Logger
	queue *bus.Batcher[postgres.OutboxEvent]
}

// New returns a Publisher; Run makes it work.
func New(b *bus.Bus, store *postgres.Outbox, log *slog.Logger) *Publisher {
	p := &Publisher{bus: b, store: store, log: log}
	p.queue = bus.NewBatcher(1024, 1, p.publish, func(e postgres.OutboxEvent, panicked any) {
		log.Error("publishing an event panicked, a sweeper will try it", "event", e.ID, "panic", fmt.Sprint(panicked))
	})
	return p
}

// Run publishes until ctx ends and what was sent by then is out.
func (p *Publisher) Run(ctx context.Context) error { return p.queue.Run(ctx) }

// Send publishes events that are committed. It does not wait; an event that cannot be queued stays in the outbox for the sweeper.
func (p *Publisher) Send(events []postgres.OutboxEvent) {
	for _, e := range events {
		p.queue.Add(e)
	}
}

func (p *Publisher) publish(ctx context.Context, events []postgres.OutboxEvent) {
	if err := p.put(ctx, events); err != nil {
		p.log.Warn("publishing events failed, a sweeper will do it", "count", len(events), "error", err)
		return
	}
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	if err := p.store.Sent(ctx, ids); err != nil {
		p.log.Warn("emptying the outbox failed, a sweeper will do it", "count", len(events), "error", err)
	}
}

func (p *Publisher) put(ctx context.Context, events []postgres.OutboxEvent) error {
	out := make([]bus.Out, len(events))
	for i, e := range events {
		out[i] = bus.Out{Subject: e.Subject, ID: e.ID, Data: e.Payload}
	}
	return p.bus.Publish(ctx, out...)
}

// Left publishes what other processes left behind and returns how many events those were.
func (p *Publisher) Left(ctx context.Context, now time.Time) (int, error) {
	return p.store.Left(ctx, now.Add(-leftAfter), func(events []postgres.OutboxEvent) error { return p.put(ctx, events) })
}

// Entry makes an outbox entry of an event.
func Entry(e event.Event) postgres.OutboxEvent {
	return postgres.OutboxEvent{ID: e.ID, Subject: event.EventSubject(e.App, e.Name), Payload: e.Encode()}
}

// Out makes a message to be published at once of an event that a stream would bring again.
func Out(e event.Event) bus.Out {
	return bus.Out{Subject: event.EventSubject(e.App, e.Name), ID: e.ID, Data: e.Encode()}
}

package webhook

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/postgres"
)

// consumer is the durable consumer of the gateway.
const consumer = bus.ConsumerGateway

// take writes events for the webhooks that they go to, until ctx ends.
func (w *Worker) take(ctx context.Context) error {
	return w.Bus.Consume(ctx, bus.Consumption{Stream: bus.StreamEvents, Consumer: consumer, Handler: w.handle})
}

// handle writes a batch of events and acknowledges them after the commit. Most go to no webhook and need no row.
func (w *Worker) handle(ctx context.Context, batch []*bus.Msg) {
	msgs, events := batch[:0:0], make([]postgres.WebhookEvent, 0, len(batch))
	for _, m := range batch {
		e, err := read(m)
		if err != nil {
			m.Settle(bus.Dead(err.Error()))
			continue
		}
		msgs, events = append(msgs, m), append(events, e)
	}
	w.write(ctx, msgs, events)
}

func (w *Worker) write(ctx context.Context, msgs []*bus.Msg, events []postgres.WebhookEvent) {
	if len(msgs) == 0 {
		return
	}
	n, err := w.store.Write(ctx, w.Now(), events)
	switch {
	case postgres.Refused(err) && len(msgs) > 1:
		for i := range msgs {
			w.write(ctx, msgs[i:i+1], events[i:i+1])
		}
		return
	case postgres.Refused(err):
		msgs[0].Settle(bus.Dead("internal: the database refused it: " + postgres.Constraint(err)))
		return
	case err != nil:
		w.Logger.Warn("writing events for webhooks failed, they will come again", "count", len(msgs), "error", err)
		for _, m := range msgs {
			m.Settle(bus.Retry(bus.Backoff(m.Tries), "database"))
		}
		return
	}
	for _, m := range msgs {
		m.Settle(bus.Done())
	}
	if n > 0 {
		w.look()
	}
}

// maxID bounds the id of an event, in bytes: it becomes a header.
const maxID = 255

// read tells what event a message is. The rest of it is the app's to read.
func read(m *bus.Msg) (postgres.WebhookEvent, error) {
	app, name, ok := event.EventOf(m.Subject)
	if !ok {
		return postgres.WebhookEvent{}, errors.New("it is on no event's subject")
	}
	var e struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(m.Data, &e); err != nil {
		return postgres.WebhookEvent{}, errors.New("it is no CloudEvent in JSON")
	}
	if e.ID == "" || len(e.ID) > maxID {
		return postgres.WebhookEvent{}, errors.New("its id has not 1 to 255 bytes")
	}
	for _, c := range []byte(e.ID) {
		if c <= ' ' || c > '~' {
			return postgres.WebhookEvent{}, errors.New("its id cannot be a header")
		}
	}
	return postgres.WebhookEvent{App: app, ID: e.ID, Name: string(name), Payload: m.Data, At: m.Received}, nil
}

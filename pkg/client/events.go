package client

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/event"
)

// An Event is something that happened to a user of the app.
type Event struct {
	Name    Name
	ID      string             // the same whenever this event comes again
	Subject string             // what it is about: a challenge, a factor, a device or a recovery, by its id
	Time    time.Time          // when it happened
	Data    any                // of the type that stands beside the Name's constant; nil for an event that this release does not know
	Raw     stdjson.RawMessage // the data as it came
	Tries   int                // how often it was delivered, this time included
}

// streamEvents holds the events of all apps; each app has a durable consumer there, of the app's name.
const streamEvents = "OTPOST_EVENTS"

// Events hands the app's events to handle, one after the other, until ctx ends; then it returns nil. An event for which handle returns nil is done. One for
// which it returns an error comes again, after a pause that grows from a second to a minute, and the others go on meanwhile.
// After the end of ctx it may take a second to return: what had been asked for is given back.
//
// No event of the last days is missed, whether or not anybody listened: otpost remembers what the app has handled. So each comes at least once and may
// come more often, also after it was handled: tell repeats by the ID. Those of different workers may come out of order: go by Time. Any number of
// processes and goroutines may call Events at once and share the work.
//
// Events of a Name that this release does not know come too, with Data nil; return nil for what does not matter. Events survives the going away of servers. It
// fails where otpost has no consumer for the app (the operator makes it with the app), and where the connection was closed.
func (c *Client) Events(ctx context.Context, handle func(context.Context, Event) error) error {
	for ctx.Err() == nil {
		cons, err := c.consumer(ctx)
		if err != nil {
			return fmt.Errorf("events of app %s: %w", c.app, err)
		}
		if cons == nil {
			break // ctx ended
		}
		if err := c.pull(ctx, cons, handle); err != nil {
			return fmt.Errorf("events of app %s: %w", c.app, err)
		}
		await(ctx, firstPause)
	}
	return nil
}

// await returns after a while, or when ctx has ended.
func await(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// consumer looks the app's consumer up, for as long as no server says that there is none. It returns nil once ctx has ended.
func (c *Client) consumer(ctx context.Context) (jetstream.Consumer, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		within, cancel := context.WithTimeout(ctx, c.timeout)
		cons, err := c.js.Consumer(within, streamEvents, c.app)
		cancel()
		switch {
		case err == nil:
			return cons, nil
		case ctx.Err() != nil:
			return nil, nil //nolint:nilerr // nil stands for the end
		case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, nats.ErrConnectionClosed):
			return nil, err
		}
		c.log.Warn("the events cannot be read now, trying again", "app", c.app, "error", err)
		await(ctx, pause)
	}
}

// pullFor is how long the server keeps one asking for an event.
const pullFor = time.Second

// pull handles events until ctx ends, or the consumer must be looked up anew. It asks for one event at a time: whatever was delivered is in hand, and only
// what is in hand can be kept from coming again. What was asked for when ctx ends is waited for and given back, or it would be nobody's for a while.
func (c *Client) pull(ctx context.Context, cons jetstream.Consumer, handle func(context.Context, Event) error) error {
	for ctx.Err() == nil {
		batch, err := cons.Fetch(1, jetstream.FetchMaxWait(pullFor))
		if err == nil {
			for m := range batch.Messages() {
				if ctx.Err() == nil {
					c.handle(ctx, cons.CachedInfo().Config.AckWait, m, handle)
				} else {
					_ = m.Nak() // a failure delays it, no more
				}
			}
			err = batch.Error()
		}
		switch {
		case errors.Is(err, nats.ErrConnectionClosed):
			return err
		case err != nil:
			c.log.Warn("reading events was disturbed", "app", c.app, "error", err)
			return nil
		}
	}
	return nil
}

// handle has one event handled, keeps it from coming again meanwhile, and settles it.
func (c *Client) handle(ctx context.Context, ackWait time.Duration, m jetstream.Msg, handle func(context.Context, Event) error) {
	e := c.event(m)
	done := keepAlive(m, ackWait)
	defer done()
	err := handle(ctx, e)
	done()
	switch {
	case err == nil:
		err = m.Ack()
	case ctx.Err() != nil:
		err = m.Nak() // at once, for another process
	default:
		wait := nakPause(e.Tries)
		c.log.Warn("an event was not handled, it will come again", "event", e.Name, "id", e.ID, "tries", e.Tries, "after", wait, "error", err)
		err = m.NakWithDelay(wait)
	}
	if err != nil {
		c.log.Warn("an event could not be settled, it will come again", "event", e.Name, "id", e.ID, "error", err)
	}
}

// keepAlive tells the server again and again that a message is in hand, until done, which may be called more than once.
func keepAlive(m jetstream.Msg, ackWait time.Duration) (done func()) {
	stop := make(chan struct{})
	var working sync.WaitGroup
	working.Go(func() {
		t := time.NewTicker(max(ackWait/3, time.Millisecond))
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.C:
				_ = m.InProgress() // a failure means that it may come again, as any may
			}
		}
	})
	return sync.OnceFunc(func() {
		close(stop)
		working.Wait()
	})
}

// Bounds of the pause before an event that was not handled comes again.
const (
	firstNak   = time.Second
	longestNak = time.Minute
)

// nakPause is how long the n-th failure puts an event off.
func nakPause(n int) time.Duration {
	return min(longestNak, firstNak<<min(max(n-1, 0), 6))
}

// event reads a message. What cannot be read comes to the app as it is: it alone can judge it.
func (c *Client) event(m jetstream.Msg) Event {
	e := Event{Name: Name(strings.TrimPrefix(m.Subject(), event.EventSubject(c.app, "")))}
	if meta, err := m.Metadata(); err == nil {
		e.Tries = int(meta.NumDelivered)
	}
	var ce struct {
		ID      string             `json:"id"`
		Subject string             `json:"subject"`
		Time    time.Time          `json:"time"`
		Data    stdjson.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(m.Data(), &ce); err != nil {
		c.log.Error("an event could not be read", "event", e.Name, "error", err)
		e.Raw = m.Data()
		return e
	}
	e.ID, e.Subject, e.Time, e.Raw = ce.ID, ce.Subject, ce.Time, ce.Data
	if reader := dataOf[e.Name]; reader != nil {
		data, err := reader(ce.Data)
		if err != nil {
			c.log.Error("an event's data could not be read", "event", e.Name, "id", e.ID, "error", err)
			return e
		}
		e.Data = data
	}
	return e
}

// read reads the data of an event. Fields of later releases are passed over.
func read[T any](text []byte) (any, error) {
	var v T
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	return v, nil
}

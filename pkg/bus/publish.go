package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// An Out is one message to be published to a stream.
type Out struct {
	Subject string
	ID      string // the same whenever the same thing is published: within the stream's window only one is kept
	Data    []byte
	Header  nats.Header
}

// At makes a message that the stream brings at a time: it is kept on one subject and published on the target, of the same stream, once the time has come.
// The stream must have timers (AllowMsgSchedules). Another on the same subject takes its place.
func At(subject, target string, at time.Time, data []byte) Out {
	return Out{Subject: subject, Data: data, Header: nats.Header{
		jetstream.ScheduleHeader:       {"@at " + at.UTC().Format(time.RFC3339Nano)},
		jetstream.ScheduleTargetHeader: {target},
	}}
}

// Publish hands all messages to their streams and returns when each is acknowledged. On an error some may have been taken: publishing all of
// them again does no harm. The error tells each different failure once, however many messages met it.
func (b *Bus) Publish(ctx context.Context, out ...Out) error {
	var failed []error
	told := map[string]bool{}
	for _, err := range b.PublishEach(ctx, out...) {
		if err != nil && !told[err.Error()] {
			told[err.Error()] = true
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// PublishEach hands all messages to their streams, as Publish does, and returns what became of each, in their order: nil where a stream has
// acknowledged it. One that fails keeps no other from being published, but after one that timed out, or once ctx has ended, no more is waited
// for. A message with an error may have been taken nevertheless: publishing it again does no harm.
func (b *Bus) PublishEach(ctx context.Context, out ...Out) []error {
	if len(out) == 0 {
		return nil
	}
	results := make([]error, len(out))
	if err := b.Connected(); err != nil {
		fill(results, err)
		return results
	}
	acks := b.send(out, results)
	var stop error // why no more is waited for
	for i, ack := range acks {
		if results[i] != nil {
			continue // it was not sent
		}
		taken, failed := ack.Ok(), ack.Err()
		if stop == nil {
			select {
			case <-taken:
				continue
			case err := <-failed:
				results[i] = fmt.Errorf("publish to %s: %w", out[i].Subject, err)
				if errors.Is(err, jetstream.ErrAsyncPublishTimeout) { // the rest will not fare better
					stop = fmt.Errorf("publish: not waited for after another: %w", err)
				}
				continue
			case <-ctx.Done():
				stop = fmt.Errorf("publish: %w", ctx.Err())
			}
		}
		select { // what has come all the same
		case <-taken:
		case err := <-failed:
			results[i] = fmt.Errorf("publish to %s: %w", out[i].Subject, err)
		default:
			results[i] = stop
		}
	}
	return results
}

// send sends the messages and returns where their acknowledgements will come. Of one that could not be sent it writes the error to results.
func (b *Bus) send(out []Out, results []error) []jetstream.PubAckFuture {
	acks, msgs := make([]jetstream.PubAckFuture, len(out)), make([]nats.Msg, len(out))
	opts := append(make([]jetstream.PublishOpt, 0, 2), jetstream.WithStallWait(publishTimeout))
	for i, o := range out {
		m := &msgs[i]
		m.Subject, m.Data, m.Header = o.Subject, o.Data, o.Header
		opts = opts[:1]
		if o.ID != "" {
			opts = append(opts, jetstream.WithMsgID(o.ID))
		}
		ack, err := b.js.PublishMsgAsync(m, opts...)
		if err == nil {
			acks[i] = ack
			continue
		}
		results[i] = fmt.Errorf("publish to %s: %w", o.Subject, err)
		if errors.Is(err, jetstream.ErrTooManyStalledMsgs) { // each of the rest would wait as long
			fill(results[i+1:], fmt.Errorf("publish: not sent after another: %w", err))
			break
		}
	}
	return acks
}

func fill(results []error, err error) {
	for i := range results {
		results[i] = err
	}
}

package bus

import (
	"context"
	"errors"
	"fmt"

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

// Publish hands all messages to their streams and returns when each is acknowledged. On an error some may have been taken: publishing all of
// them again does no harm.
func (b *Bus) Publish(ctx context.Context, out ...Out) error {
	if len(out) == 0 {
		return nil
	}
	if err := b.Connected(); err != nil {
		return err
	}
	acks := make([]jetstream.PubAckFuture, 0, len(out))
	var failed error
	for _, o := range out {
		m := &nats.Msg{Subject: o.Subject, Data: o.Data, Header: o.Header}
		opts := []jetstream.PublishOpt{jetstream.WithStallWait(publishTimeout)}
		if o.ID != "" {
			opts = append(opts, jetstream.WithMsgID(o.ID))
		}
		ack, err := b.js.PublishMsgAsync(m, opts...)
		if err != nil {
			failed = fmt.Errorf("publish to %s: %w", o.Subject, err)
			break
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			failed = errors.Join(failed, fmt.Errorf("publish to %s: %w", ack.Msg().Subject, err))
		case <-ctx.Done():
			return errors.Join(failed, fmt.Errorf("publish: %w", ctx.Err()))
		}
		if failed != nil && errors.Is(failed, jetstream.ErrAsyncPublishTimeout) {
			break // the rest will not fare better
		}
	}
	return failed
}

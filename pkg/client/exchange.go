package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// This file sends: requests, and what is published; once, or again where that is safe.

// A repeat says whether a request may be sent again after it may have been carried out.
type repeat bool

const (
	once  repeat = false // a second time would do something else
	again repeat = true  // a second time finds done what the first did
)

// ask sends a request and reads its reply.
func ask[Reply any](ctx context.Context, c *Client, verb string, r repeat, request any) (Reply, error) {
	var reply Reply
	body, err := json.Marshal(request)
	if err != nil { // a text that is no UTF-8, a time that RFC 3339 cannot write, a credential that is no JSON
		return reply, fmt.Errorf("%s: %w", verb, &Error{Code: otp.Invalid, Message: "body cannot be written as JSON", cause: err})
	}
	text, err := c.send(ctx, r, func(ctx context.Context) ([]byte, error) { return c.request(ctx, verb, body) })
	if err == nil {
		if err = json.Unmarshal(text, &reply); err != nil {
			err = fmt.Errorf("read the reply: %w", err)
		}
	}
	if err != nil {
		return reply, fmt.Errorf("%s: %w", verb, err)
	}
	return reply, nil
}

// request sends a request once.
func (c *Client) request(ctx context.Context, verb string, body []byte) ([]byte, error) {
	m, err := c.nc.RequestWithContext(ctx, event.RPCSubject(c.app, verb), body)
	if err != nil {
		return nil, untold(err)
	}
	if m.Header.Get(micro.ErrorCodeHeader) == "" {
		return m.Data, nil
	}
	var e event.ErrorReply
	if err := json.Unmarshal(m.Data, &e); err != nil || e.Error.Code == "" {
		e.Error = event.ErrorBody{Code: m.Header.Get(micro.ErrorCodeHeader), Message: m.Header.Get(micro.ErrorHeader)}
	}
	return nil, refused(e.Error)
}

// publish has a stream take a message, once or more often: what apps publish has an id, or has nothing against being said twice.
func (c *Client) publish(ctx context.Context, subject string, body []byte) error {
	_, err := c.send(ctx, again, func(ctx context.Context) ([]byte, error) {
		_, err := c.js.Publish(ctx, subject, body, jetstream.WithRetryAttempts(0))
		if refusal, ok := errors.AsType[*jetstream.APIError](err); ok {
			return nil, unavailable("the stream takes no more at the moment", refusal)
		}
		return nil, untold(err)
	})
	return err
}

// untold gives an error of NATS the word that apps branch on.
func untold(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return unavailable("nobody is there to answer", nats.ErrNoResponders)
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionReconnecting):
		return unavailable("the connection is away", errAway)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("%w: %w", ErrNoAnswer, context.DeadlineExceeded)
	}
	return err
}

var errAway = errors.New("not connected to NATS")

// Pauses between tries: doubled each time, half of each at random so that processes do not come back in step.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
)

// send carries out try until it succeeds, fails for good, the tries are used up or ctx ends. Each try gets an equal share of the time that is left, where
// there may be others after an unanswered one.
func (c *Client) send(ctx context.Context, r repeat, try func(context.Context) ([]byte, error)) ([]byte, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	pause := firstPause
	for left := c.tries; ; left-- {
		reply, err := c.attempt(ctx, r, left, try)
		if err == nil || left <= 1 || !mayRepeat(err, r) {
			return reply, err
		}
		wait := pause/2 + rand.N(pause/2) //nolint:gosec // jitter is no secret
		if e, ok := errors.AsType[*Error](err); ok && e.cause == nil {
			wait = max(wait, e.RetryAfter) // otpost's own word
		}
		if deadline, _ := ctx.Deadline(); wait > longestPause || time.Until(deadline) <= wait {
			return nil, err
		}
		if await(ctx, wait); ctx.Err() != nil {
			return nil, err
		}
		pause = min(2*pause, longestPause)
	}
}

func (c *Client) attempt(ctx context.Context, r repeat, left int, try func(context.Context) ([]byte, error)) ([]byte, error) {
	if c.nc.IsReconnecting() { // NATS would keep it, and send it when nobody waits for it any more
		return nil, unavailable("the connection is away", errAway)
	}
	if deadline, ok := ctx.Deadline(); ok && r == again {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	return try(ctx)
}

// mayRepeat tells what a second try can mend without doing harm.
func mayRepeat(err error, r repeat) bool {
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, errAway) {
		return true // nobody has got it
	}
	return r == again && (errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrUnavailable))
}

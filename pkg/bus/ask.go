package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// askTimeout bounds how long a worker waits for another's answer, where the caller's context does not end before.
const askTimeout = 5 * time.Second

// Ask sends a request to whichever process serves the internal verb (Service.Internal) and returns its reply. An error that the other answers with
// is its *otp.Problem. Where nobody answers in time, the error holds a Problem with the reason otp.Busy: the request may be sent again, but may
// have been carried out already.
func (b *Bus) Ask(ctx context.Context, verb string, body []byte) (reply []byte, err error) {
	return b.ask(ctx, event.InternalSubject(verb), verb, body)
}

// AskAs is Ask for a request of support, by an agent who is connected as their own user.
func (b *Bus) AskAs(ctx context.Context, agent, verb string, body []byte) (reply []byte, err error) {
	return b.ask(ctx, event.SupportSubject(agent, verb), verb, body)
}

// AskFor is Ask for a request of an app, by a worker who speaks for apps.
func (b *Bus) AskFor(ctx context.Context, app, verb string, body []byte) (reply []byte, err error) {
	return b.ask(ctx, event.RPCSubject(app, verb), verb, body)
}

func (b *Bus) ask(ctx context.Context, subject, verb string, body []byte) (reply []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := b.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w: %w", verb, err, &otp.Problem{
			Reason: otp.Busy, Message: "otpost cannot answer at the moment; send this again", RetryAfter: time.Second,
		})
	}
	if m.Header.Get(micro.ErrorCodeHeader) == "" {
		return m.Data, nil
	}
	var e event.ErrorReply
	if err := json.Unmarshal(m.Data, &e); err != nil || e.Error.Code == "" {
		return nil, fmt.Errorf("ask for %s: an error that cannot be read: %w", verb, otp.AsProblem(nil))
	}
	return nil, fmt.Errorf("ask for %s: %w", verb, &otp.Problem{
		Reason: otp.Reason(e.Error.Code), Field: e.Error.Field, Message: e.Error.Message, RetryAfter: time.Duration(e.Error.RetryAfter) * time.Second,
	})
}

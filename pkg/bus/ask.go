package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

const (
	internalPrefix = "otpost.internal."
	supportPrefix  = "otpost.support."
)

// askTimeout bounds how long a worker waits for another's answer, where the caller's context does not end before.
const askTimeout = 5 * time.Second

// InternalSubject is where one worker asks another. No app and no agent can send there.
func InternalSubject(verb string) string { return internalPrefix + verb }

// SupportSubject is where a support agent sends a request; "*" for agent stands for every one.
func SupportSubject(agent, verb string) string { return supportPrefix + agent + ".rpc." + verb }

// agentOf returns the agent that a subject of support belongs to; ok is false for any other subject.
func agentOf(subject string) (agent string, ok bool) {
	rest, ok := strings.CutPrefix(subject, supportPrefix)
	if !ok {
		return "", false
	}
	agent, verb, ok := strings.Cut(rest, ".rpc.")
	return agent, ok && verb != "" && otp.ValidApp(agent)
}

// Ask sends a request to whichever process serves the internal verb (Service.Internal) and returns its reply. An error that the other answers with
// is its *otp.Problem. Where nobody answers in time, the error holds a Problem with the reason otp.Busy: the request may be sent again, but may
// have been carried out already.
func (b *Bus) Ask(ctx context.Context, verb string, body []byte) (reply []byte, err error) {
	return b.ask(ctx, InternalSubject(verb), verb, body)
}

// AskAs is Ask for a request of support, by an agent who is connected as their own user.
func (b *Bus) AskAs(ctx context.Context, agent, verb string, body []byte) (reply []byte, err error) {
	return b.ask(ctx, SupportSubject(agent, verb), verb, body)
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
		Reason: otp.Reason(e.Error.Code), Message: e.Error.Message, RetryAfter: time.Duration(e.Error.RetryAfter) * time.Second,
	})
}

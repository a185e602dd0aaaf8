// Package ask sends requests to the workers over NATS, for an app, as the app itself would.
package ask

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/otp"
)

// An Asker asks as any app. Which one is the caller's to have made sure of.
type Asker struct {
	Bus *bus.Bus // connected as role gateway
}

// Raw sends a request's body as it is and returns the reply's. The error holds an *otp.Problem: the worker's own answer, or otp.Busy where nobody answers
// in time, when the request may have been carried out already.
func (a *Asker) Raw(ctx context.Context, app, verb string, body []byte) ([]byte, error) {
	if !otp.ValidApp(app) {
		return nil, otp.InvalidField("app", "must be 1 to 64 of a-z, 0-9 and -") // it would be another subject
	}
	return a.Bus.AskFor(ctx, app, verb, body)
}

// Of sends a request and decodes the reply. Errors are those of Raw.
func Of[Reply any](ctx context.Context, a *Asker, app, verb string, request any) (Reply, error) {
	var reply Reply
	body, err := json.Marshal(request)
	if err != nil {
		return reply, fmt.Errorf("encode %s: %w", verb, err)
	}
	answer, err := a.Raw(ctx, app, verb, body)
	if err != nil {
		return reply, err
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return reply, fmt.Errorf("decode the reply of %s: %w", verb, err)
	}
	return reply, nil
}

package bus

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/lifecycle"
	"github.com/otpost/otpost/pkg/otp"
)

// A Request is one request of an app, of a support agent, or of another worker. Who asks follows from the subject, which only they may use.
type Request struct {
	App   string // whose it is; empty for the other two
	Agent string // the support agent's name; empty for the other two
	Data  []byte
	At    time.Time // when this process received it
	raw   micro.Request
	bus   *Bus
}

// Reply answers the request.
func (r *Request) Reply(body []byte) {
	if err := r.raw.Respond(body); err != nil {
		r.bus.log.Warn("a reply did not go out", "app", r.App, "agent", r.Agent, "error", err)
	}
}

// Fail answers with a problem, in the body and in the micro error headers.
//
// The headers are set here: micro's own Error may be called only while the handler runs, and most answers come later, from a batch. So the service's
// statistics count these requests, but not as errors; otpost's metrics do.
func (r *Request) Fail(p *otp.Problem) {
	headers := micro.Headers{micro.ErrorHeader: {header(p.Message)}, micro.ErrorCodeHeader: {string(p.Reason)}}
	if err := r.raw.Respond(event.EncodeProblem(p), micro.WithHeaders(headers)); err != nil {
		r.bus.log.Warn("a reply did not go out", "app", r.App, "agent", r.Agent, "error", err)
	}
}

// A Service answers the requests of some verbs, as a NATS micro service: any number of processes share the work. Handlers must return quickly:
// each verb has one call at a time.
type Service struct {
	Name        string // of the service, as discovery shows it
	Version     string // semantic version
	Description string
	Verbs       map[string]func(*Request) // of apps
	Support     map[string]func(*Request) // of support agents, on event.SupportSubject
	Internal    map[string]func(*Request) // of other workers, on event.InternalSubject; see Ask
}

// quiet is how long no call must have been under way for the last request that had arrived to have been handed over. nats.go gives no sign of that.
const quiet = 50 * time.Millisecond

// calls counts the calls under way and those that ever began.
type calls struct{ under, began atomic.Int64 }

// Serve answers until ctx ends; then it takes no more and returns once what had arrived was handed to the handlers and their calls have returned. A
// handler that panics answers "internal" and takes nobody else down.
func (b *Bus) Serve(ctx context.Context, s Service) error {
	var svc micro.Service
	var count calls
	err := lifecycle.Backoff(ctx, b.log, "starting service "+s.Name, func(context.Context) (err error) {
		if err = b.Connected(); err != nil {
			return err
		}
		svc, err = micro.AddService(b.nc, micro.Config{Name: s.Name, Version: s.Version, Description: s.Description})
		if err != nil {
			return err
		}
		if err = b.endpoints(svc, s, &count); err != nil {
			_ = svc.Stop()
		}
		return err
	})
	if err != nil {
		return nil //nolint:nilerr // ctx ended before there was anything to stop
	}
	<-ctx.Done()
	if err := svc.Stop(); err != nil {
		return fmt.Errorf("stop service %s: %w", s.Name, err)
	}
	if b.Connected() == nil {
		_ = b.nc.FlushTimeout(publishTimeout) // with its answer all that the server had sent has arrived
	}
	count.settle()
	return nil
}

// settle returns when no call is under way and none has begun for a while.
func (c *calls) settle() {
	const look = quiet / 10
	began, idle := c.began.Load(), time.Duration(0)
	for ; idle < quiet; time.Sleep(look) {
		idle += look
		if now := c.began.Load(); now != began || c.under.Load() > 0 {
			began, idle = now, 0
		}
	}
}

// endpoints has the service listen on the subjects of all its verbs: of apps last, since what they ask may need the others.
func (b *Bus) endpoints(svc micro.Service, s Service, count *calls) error {
	for _, kind := range []struct {
		prefix  string // of the endpoint's name
		verbs   map[string]func(*Request)
		subject func(verb string) string
		asker   func(*Request, string) *otp.Problem
	}{
		{"internal-", s.Internal, event.InternalSubject, func(*Request, string) *otp.Problem { return nil }},
		{"support-", s.Support, func(verb string) string { return event.SupportSubject("*", verb) }, fromAgent},
		{"", s.Verbs, func(verb string) string { return event.RPCSubject("*", verb) }, fromApp},
	} {
		for verb, handle := range kind.verbs {
			name := kind.prefix + strings.ReplaceAll(verb, ".", "-") // an endpoint's name takes no dots
			if err := svc.AddEndpoint(name, b.endpoint(handle, kind.asker, count), micro.WithEndpointSubject(kind.subject(verb))); err != nil {
				return fmt.Errorf("listen for %s: %w", name, err)
			}
		}
	}
	return nil
}

// fromApp takes the app that asks out of the subject.
func fromApp(r *Request, subject string) *otp.Problem {
	var ok bool
	if r.App, ok = event.AppOf(subject); !ok {
		return otp.InvalidField("subject", "must name an app: 1 to 64 of a-z, 0-9 and -")
	}
	return nil
}

// fromAgent takes the support agent that asks out of the subject.
func fromAgent(r *Request, subject string) *otp.Problem {
	var ok bool
	if r.Agent, ok = event.AgentOf(subject); !ok {
		return otp.InvalidField("subject", "must name a support agent: 1 to 64 of a-z, 0-9 and -")
	}
	return nil
}

func (b *Bus) endpoint(handle func(*Request), asker func(*Request, string) *otp.Problem, count *calls) micro.Handler {
	return micro.HandlerFunc(func(raw micro.Request) {
		count.under.Add(1)
		count.began.Add(1)
		defer count.under.Add(-1)
		r := &Request{Data: raw.Data(), At: time.Now(), raw: raw, bus: b}
		defer func() {
			if p := recover(); p != nil {
				b.log.Error("a request's handler panicked", "app", r.App, "agent", r.Agent, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				r.Fail(otp.AsProblem(nil))
			}
		}()
		if p := asker(r, raw.Subject()); p != nil {
			r.Fail(p)
			return
		}
		handle(r)
	})
}

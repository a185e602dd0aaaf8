package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/lifecycle"
	"github.com/otpost/otpost/pkg/otp"
)

// A Request is one request of an app.
type Request struct {
	App  string
	Data []byte
	At   time.Time // when this process received it
	raw  micro.Request
	bus  *Bus
}

// Reply answers the request.
func (r *Request) Reply(body []byte) {
	if err := r.raw.Respond(body); err != nil {
		r.bus.log.Warn("a reply did not go out", "app", r.App, "error", err)
	}
}

// Fail answers with a problem, in the body and in the micro error headers.
func (r *Request) Fail(p *otp.Problem) {
	if err := r.raw.Error(string(p.Reason), header(p.Message), event.EncodeProblem(p)); err != nil {
		r.bus.log.Warn("a reply did not go out", "app", r.App, "error", err)
	}
}

// A Service answers the requests of some verbs, as a NATS micro service: any number of processes share the work.
type Service struct {
	Name        string // of the service, as discovery shows it
	Version     string // semantic version
	Description string
	Verbs       map[string]func(*Request) // must return quickly: one call at a time a verb
}

// Serve answers until ctx ends; then it takes no more and returns once the calls under way have returned.
func (b *Bus) Serve(ctx context.Context, s Service) error {
	var svc micro.Service
	err := lifecycle.Backoff(ctx, b.log, "starting service "+s.Name, func(context.Context) (err error) {
		if err = b.Connected(); err != nil {
			return err
		}
		svc, err = micro.AddService(b.nc, micro.Config{Name: s.Name, Version: s.Version, Description: s.Description})
		if err != nil {
			return err
		}
		for verb, handle := range s.Verbs {
			if err = svc.AddEndpoint(verb, b.endpoint(handle), micro.WithEndpointSubject(event.RPCSubject("*", verb))); err != nil {
				_ = svc.Stop()
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil //nolint:nilerr // ctx ended before there was anything to stop
	}
	<-ctx.Done()
	if err := svc.Stop(); err != nil {
		return fmt.Errorf("stop service %s: %w", s.Name, err)
	}
	return nil
}

func (b *Bus) endpoint(handle func(*Request)) micro.Handler {
	return micro.HandlerFunc(func(raw micro.Request) {
		r := &Request{Data: raw.Data(), At: time.Now(), raw: raw, bus: b}
		var ok bool
		if r.App, ok = event.AppOf(raw.Subject()); !ok {
			r.Fail(otp.InvalidField("subject", "must name an app: 1 to 64 of a-z, 0-9 and -"))
			return
		}
		handle(r)
	})
}

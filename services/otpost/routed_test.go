package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/route"
	"github.com/otpost/otpost/services/gateway/callback"
)

// A routed system has the SMS providers primary and backup, calls for voice and smtp for email, each with its receipts, which come in through the
// gateway's handler. Its clock goes with the machine's.
type routed struct{ *system }

// patience is how long the route waits for a receipt: the least that there may be.
const patience = route.MinTimeout

func newRouted(t *testing.T, fallback []otp.Channel, change ...func(*systemOptions)) *routed {
	t.Helper()
	r := &routed{newSystem(t, append(change, func(o *systemOptions) {
		o.app = append(o.app, func(a *postgres.App) { a.Policy.Delivery.Fallback = fallback })
	})...)}
	r.tick()
	base := r.callbacks()
	var file strings.Builder
	file.WriteString("providers:\n")
	for _, p := range []struct{ name, channel string }{{"primary", "sms"}, {"backup", "sms"}, {"calls", "voice"}} {
		fmt.Fprintf(&file, "  - {name: %s, channel: %s, kind: twilio, timeout: 3s, breaker: {failures: 0}, twilio: {account_sid: %s, auth_token: %s, "+
			"from: ['+15005550006'], base_url: '%s/at/%s/twilio', callback: '%s/callbacks/%s'}}\n",
			p.name, p.channel, r.box.AccountSID, r.box.AuthToken, r.box.URL, p.name, base, p.name)
	}
	cmd := smsCmd{
		deliveryFlags:  deliveryFlags{SendTimeout: 3 * time.Second, Lease: 15 * time.Second, Concurrency: 32},
		providersFlags: providersFlags{write(t, "providers.yaml", file.String())},
	}
	w, err := cmd.build(parts{
		db: r.db.Role("sms"), bus: r.nats.Bus(t, bus.RoleSMS), keys: otposttest.Ring(t, keyring.Role(bus.RoleSMS)), metrics: r.metrics, log: r.log.Logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.(preparer).Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	smtp := postgres.ProviderRow{Channel: otp.Email, Name: "smtp", Kind: "smtp"}
	if err := postgres.NewRoutes(r.db.Role("email")).Register(t.Context(), r.clock.Now(), []postgres.ProviderRow{smtp}); err != nil {
		t.Fatal(err)
	}
	r.route(route.Route{Channel: otp.SMS, Policy: route.Fixed, Providers: []string{"primary", "backup"}, ReceiptTimeout: patience})
	r.route(route.Route{Channel: otp.SMS, Country: "CZ", Policy: route.Weight, Providers: []string{"primary", "backup"}, Weights: []int{0, 1}})
	r.route(route.Route{Channel: otp.Voice, Policy: route.Fixed, Providers: []string{"calls"}, ReceiptTimeout: patience})

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	r.run(bus.RoleEmail, bus.RoleVerification)
	return r
}

// tick keeps the clock at the machine's: the stream's timers go by that.
func (r *routed) tick() {
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for beat := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				beat.Stop()
				return
			case <-beat.C:
				r.clock.Set(time.Now())
			}
		}
	})
	r.t.Cleanup(func() {
		stop()
		done.Wait()
	})
}

// callbacks serves what the gateway serves to providers, and returns its address.
func (r *routed) callbacks() string {
	r.t.Helper()
	server := httptest.NewUnstartedServer(nil)
	base := "http://" + server.Listener.Addr().String()
	public, err := url.Parse(base)
	if err != nil {
		r.t.Fatal(err)
	}
	var sources []callback.Source
	for _, name := range []string{"primary", "backup", "calls"} {
		sources = append(sources, callback.Source{Name: name, Kind: callback.Twilio, Secrets: []string{r.box.AuthToken}})
	}
	gateway := r.nats.Bus(r.t, bus.RoleGateway)
	publish := func(ctx context.Context, id string, report event.Report) error {
		return gateway.Publish(ctx, bus.Out{Subject: event.ReportSubject, ID: id, Data: report.Encode()})
	}
	h, err := callback.New(callback.Config{
		Sources: sources, PublicURL: public, Publish: publish, Metrics: r.metrics, Logger: r.log.Logger, Now: r.clock.Now,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(callback.Prefix, h)
	server.Config.Handler = mux
	server.Start()
	r.t.Cleanup(server.Close)
	return base
}

func (r *routed) route(set route.Route) {
	r.t.Helper()
	if err := postgres.NewRoutes(r.db.Role("operator")).Set(r.t.Context(), r.clock.Now(), postgres.Route{AppID: r.app.ID, Route: set}); err != nil {
		r.t.Fatal(err)
	}
}

// at is the routed system within a subtest.
func (r *routed) at(t *testing.T) *routed {
	t.Helper()
	s := *r.system
	s.t = t
	return &routed{&s}
}

// fault makes something go wrong with what a provider gets for an address.
func (r *routed) fault(provider, to string, f inbox.Fault) {
	r.box.AddFault(inbox.FaultRule{Provider: provider, To: to, Fault: f})
}

// got are the messages that an address got, each as "<provider>", in the order in which they came.
func (r *routed) got(to string) (providers []string) {
	for _, m := range r.box.List(inbox.Filter{To: to}) {
		providers = append(providers, m.Provider)
	}
	return providers
}

// story is what was told of a challenge's deliveries, each as "<event> <attempt> <provider>", with "late" where it was.
func (r *routed) story(challenge string) (told []string) {
	for _, e := range r.heard.Of(challenge) {
		switch e.Name {
		case event.ChallengeSent, event.ChallengeDelivered, event.ChallengeUndeliverable:
			d := otposttest.Decode[event.Delivery](r.t, e)
			line := fmt.Sprintf("%s %d %s", strings.TrimPrefix(string(e.Name), "challenge."), d.Attempt, d.Provider)
			if d.Late {
				line += " late"
			}
			told = append(told, line)
		}
	}
	return told
}

// wantStory waits until all of a challenge's story is told. A provider's receipt may overtake the worker's own, so that of one delivery the order is left
// open; what is told first of each is told in the order of the deliveries.
func (r *routed) wantStory(challenge string, want ...string) {
	r.t.Helper()
	sorted := slices.Sorted(slices.Values(want))
	var got []string
	defer func() {
		if r.t.Failed() {
			r.t.Logf("told was %q, want %q", got, want)
		}
	}()
	otposttest.Eventually(r.t, "the story of the challenge", func() bool {
		got = r.story(challenge)
		return slices.Equal(slices.Sorted(slices.Values(got)), sorted)
	})
	last := 0
	for _, line := range got {
		if n := int(strings.Fields(line)[1][0] - '0'); n > last {
			if n != last+1 {
				r.t.Errorf("%q was told before anything of delivery %d", line, last+1)
			}
			last = n
		}
	}
}

// deliveries are a challenge's in its status, each as "<cause> <provider> <state>", with "abandoned" where it was given up.
func (r *routed) deliveries(challenge string) (list []string) {
	r.t.Helper()
	for _, d := range r.status(challenge).Deliveries {
		line := fmt.Sprintf("%s %s %s", d.Cause, d.Provider, d.State)
		if d.AbandonedAt != "" {
			line += " abandoned"
		}
		list = append(list, line)
	}
	return list
}

func (r *routed) want(what string, got []string, want ...string) {
	r.t.Helper()
	if !slices.Equal(got, want) {
		r.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
)

// A provided is one provider of a worker: bounded, and with what the registry is told of it.
type provided struct {
	line     *delivery.Line
	provider delivery.Provider // what the line bounds
	row      postgres.ProviderRow
}

// A providerSet is all providers of a process, in the order in which they are tried where nothing else says so.
type providerSet []provided

// of returns the providers of a channel.
func (s providerSet) of(channel otp.Channel) (out []delivery.Provider) {
	for _, p := range s {
		if p.row.Channel == channel {
			out = append(out, p.line)
		}
	}
	return out
}

// rows returns what the registry is told.
func (s providerSet) rows() []postgres.ProviderRow {
	out := make([]postgres.ProviderRow, len(s))
	for i, p := range s {
		out[i] = p.row
	}
	return out
}

// longest is how long a channel's slowest provider may have a message.
func (s providerSet) longest(channel otp.Channel) (d time.Duration) {
	for _, p := range s {
		if p.row.Channel == channel {
			d = max(d, p.line.Longest())
		}
	}
	return d
}

// close gives connections back. Call it once nothing is sent any more.
func (s providerSet) close() error {
	var errs []error
	for _, p := range s {
		switch c := p.provider.(type) {
		case interface{ Close() error }:
			errs = append(errs, c.Close())
		case interface{ Close() }:
			c.Close()
		}
	}
	return errors.Join(errs...)
}

// providerDefaults are what the worker says of all its providers, and what these are made with.
type providerDefaults struct {
	timeout     time.Duration
	concurrency int
	metrics     *telemetry.Metrics
	log         *slog.Logger
}

// The breaker where nothing else is said. The rest is short: people wait for codes.
const (
	defaultFailures = 5
	defaultOpen     = 10 * time.Second
)

// phones are the channels of the role sms; mail is that of the role email.
var (
	phones = []otp.Channel{otp.SMS, otp.Voice, otp.WhatsApp}
	mail   = []otp.Channel{otp.Email}
)

// single is the set of the one provider that the flags describe.
func single(p delivery.Provider, kind string, channel otp.Channel, receipts bool, d providerDefaults) (providerSet, error) {
	out := provided{
		provider: p, row: postgres.ProviderRow{Name: p.Name(), Channel: channel, Kind: kind, Receipts: receipts, Costs: map[string]int64{}},
	}
	var err error
	out.line, err = delivery.NewLine(p, delivery.LineOptions{
		Timeout: d.timeout, Breaker: delivery.BreakerOptions{Failures: defaultFailures, Open: defaultOpen}, Channel: channel, Metrics: d.metrics, Logger: d.log,
	})
	return providerSet{out}, err
}

// readProviders reads the file and makes the providers in it, which all have to be of the given channels: one file serves one role, which alone can
// read its secrets. The error names the file, the provider and the key.
func readProviders(path string, channels []otp.Channel, d providerDefaults) (providerSet, error) {
	entries, err := parseProviders(path)
	if err != nil {
		return nil, err
	}
	var set providerSet
	names := map[string]bool{}
	fail := func(err error) (providerSet, error) {
		_ = set.close()
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	for i := range entries {
		e := &entries[i]
		who := fmt.Sprintf("provider %q", e.Name)
		if e.Name == "" {
			who = fmt.Sprintf("provider %d", i+1)
		}
		if names[e.Name] {
			return fail(fmt.Errorf("%s: name: is that of another provider", who))
		}
		names[e.Name] = true
		p, err := e.provide(channels, folder(filepath.Dir(path)), d)
		if err != nil {
			return fail(fmt.Errorf("%s: %w", who, err))
		}
		p.row.Position = len(set.of(p.row.Channel))
		set = append(set, p)
	}
	return set, nil
}

// provide makes the provider of an entry.
func (e *providerEntry) provide(channels []otp.Channel, f folder, d providerDefaults) (out provided, err error) {
	kind, known := providerKinds[e.Kind]
	channel := otp.Channel(e.Channel)
	switch {
	case !otp.ValidProvider(e.Name):
		return out, errors.New("name: must have 1 to 32 of a-z, 0-9 and -, and begin with a letter or digit")
	case e.Name == postgres.TestProvider:
		return out, fmt.Errorf("name: %q stands for test destinations, which no provider is given", e.Name)
	case !known:
		return out, fmt.Errorf("kind: must be one of %s, not %q", wordList(slices.Sorted(maps.Keys(providerKinds))), e.Kind)
	case !channel.Valid():
		return out, fmt.Errorf("channel: must be one of %s, not %q", wordList(otp.Channels()), e.Channel)
	case !slices.Contains(kind.channels, channel):
		return out, fmt.Errorf("channel: the kind %s carries %s, not %s", e.Kind, wordList(kind.channels), channel)
	case !slices.Contains(channels, channel):
		return out, fmt.Errorf("channel: a file serves one role, and here it has to be one of %s, not %s", wordList(channels), channel)
	}
	if err := e.ownSection(); err != nil {
		return out, err
	}
	costs, err := e.costs()
	if err != nil {
		return out, err
	}
	options := e.options(channel, d)
	made, err := kind.build(e, entryBuild{folder: f, timeout: options.Timeout, connections: options.Concurrency, log: d.log})
	if err != nil {
		return out, err
	}
	out = provided{
		provider: made.Provider, row: postgres.ProviderRow{Name: e.Name, Channel: channel, Kind: e.Kind, Receipts: made.receipts, Costs: costs},
	}
	if out.line, err = delivery.NewLine(made.Provider, options); err != nil {
		return out, flagged(err, "Rate:", "rate:", "Burst:", "burst:", "a Rate", "a rate", "Concurrency:", "concurrency:", "Timeout:", "timeout:",
			"Failures:", "breaker.failures:", "Open:", "breaker.open:", "needs Failures", "needs failures")
	}
	return out, nil
}

// options completes what the entry says of its bounds.
func (e *providerEntry) options(channel otp.Channel, d providerDefaults) delivery.LineOptions {
	o := delivery.LineOptions{
		Rate: e.Rate, Burst: e.Burst, Concurrency: e.Concurrency, Timeout: e.Timeout, Channel: channel, Metrics: d.metrics, Logger: d.log,
		Breaker: delivery.BreakerOptions{Failures: defaultFailures, Open: e.Breaker.Open},
	}
	if o.Concurrency == 0 {
		o.Concurrency = d.concurrency
	}
	if o.Timeout == 0 {
		o.Timeout = d.timeout
	}
	if e.Breaker.Failures != nil {
		o.Breaker.Failures = *e.Breaker.Failures
	}
	if o.Breaker.Open == 0 && o.Breaker.Failures > 0 {
		o.Breaker.Open = defaultOpen
	}
	return o
}

// mostCost is, in the operator's currency, more than any message costs: a number in other units is a mistake.
const mostCost = 100

// costs returns what a message costs, in millionths of the operator's currency, by country and for all others "".
func (e *providerEntry) costs() (map[string]int64, error) {
	out := map[string]int64{}
	for _, country := range slices.Sorted(maps.Keys(e.Cost)) {
		cost, key := e.Cost[country], country
		switch {
		case country == "default":
			key = ""
		case otp.Channel(e.Channel) == otp.Email:
			return nil, fmt.Errorf("cost: %q: an email has no country, give default alone", country)
		case !otp.ValidPhoneCountry(country):
			return nil, fmt.Errorf("cost: %q is neither default nor a country of ISO 3166-1 in two capitals", country)
		}
		micros := math.Round(cost * 1e6)
		if !(cost >= 0 && cost <= mostCost) || cost > 0 && micros == 0 {
			return nil, fmt.Errorf("cost: %s: must be 0, or 0.000001 to %d for a message, not %v", country, mostCost, cost)
		}
		out[key] = int64(micros)
	}
	return out, nil
}

// A sender is what a role that sends does: the workers of its channels, with their providers.
type sender struct {
	workers   []*delivery.Worker
	providers providerSet
	registry  *postgres.Routes
	words     *delivery.Words
	log       *slog.Logger
}

// registerEvery is how often the registry is told that there is a worker with these providers.
const registerEvery = time.Minute

// newSender makes a worker of each channel that has providers. construct is the service's constructor.
func newSender(p parts, cfg delivery.Config, channels []otp.Channel, set providerSet,
	construct func(delivery.Config, otp.Channel, ...delivery.Provider) (*delivery.Worker, error),
) (*sender, error) {
	s := &sender{providers: set, registry: postgres.NewRoutes(p.db), words: delivery.NewWords(postgres.NewTemplates(p.db), p.log), log: p.log}
	cfg.Words = s.words
	for _, channel := range channels {
		providers := set.of(channel)
		if len(providers) == 0 {
			continue
		}
		own := cfg
		own.Timeout = set.longest(channel)
		if most := own.Timeout * time.Duration(len(providers)); own.Lease <= most { // a message of enrolment may be tried over all of them
			own.Lease = most + 5*time.Second
		}
		w, err := construct(own, channel, providers...)
		if err != nil {
			return nil, err
		}
		s.workers = append(s.workers, w)
	}
	return s, nil
}

// Prepare enters the providers in the registry, where those who set routes and choose by them look, and reads the apps' own words.
func (s *sender) Prepare(ctx context.Context) error {
	return errors.Join(s.register(ctx), s.words.Refresh(ctx))
}

func (s *sender) register(ctx context.Context) error {
	return s.registry.Register(ctx, time.Now(), s.providers.rows())
}

// Run works until ctx ends. It says goodbye to the providers once the last message is out.
func (s *sender) Run(ctx context.Context) error {
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	var beside errgroup.Group
	beside.Go(func() error { return s.words.Run(behind) })
	beside.Go(func() error { return s.stayRegistered(behind) })
	running, ctx := errgroup.WithContext(ctx)
	for _, w := range s.workers {
		running.Go(func() error { return w.Run(ctx) })
	}
	err := running.Wait()
	stop()
	return errors.Join(err, beside.Wait(), s.providers.close())
}

// stayRegistered tells the registry again and again that there is a worker with these providers.
func (s *sender) stayRegistered(ctx context.Context) error {
	tick := time.NewTicker(registerEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.register(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the providers could not be entered in the registry, it is tried again", "error", err)
		}
	}
}

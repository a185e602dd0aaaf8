// Package routes keeps the providers, the routes over them and the apps' senders at hand for workers that ask for one with every message, as package apps
// does the apps. A change reaches every worker within Fresh while the database answers; while it does not, what is known serves on.
package routes

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/route"
)

// Fresh is how old what a worker knows may be while the database answers. How many codes came back changes slowly and is read more seldom.
const (
	Fresh      = 3 * time.Second
	ratesFresh = 15 * time.Second
)

// A Cache answers from memory.
type Cache struct {
	store *postgres.Routes
	words *postgres.Templates // for the senders
	log   *slog.Logger
	now   func() time.Time

	mu        sync.RWMutex
	providers map[otp.Channel][]postgres.ProviderRow // in the order of the workers' configuration
	routes    map[routeKey]route.Route
	rates     map[postgres.Lane]route.Stat
	senders   postgres.Senders
}

type routeKey struct {
	app     int
	channel otp.Channel
	country string
}

// New returns an empty Cache; Run keeps it fresh. The role must be one that reads routes.
func New(db *postgres.DB, log *slog.Logger, now func() time.Time) *Cache {
	return &Cache{store: postgres.NewRoutes(db), words: postgres.NewTemplates(db), log: log, now: now}
}

// Run reads providers and routes until ctx ends.
func (r *Cache) Run(ctx context.Context) error {
	tick := time.NewTicker(Fresh * 2 / 3)
	defer tick.Stop()
	var rated time.Time
	for {
		if err := r.Refresh(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("reading the routes failed, going on with what is known", "error", err)
		}
		if now := r.now(); now.Sub(rated) >= ratesFresh {
			if err := r.rate(ctx, now); err != nil && ctx.Err() == nil {
				r.log.Warn("reading conversion rates failed, going on with what is known", "error", err)
			}
			rated = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Refresh reads providers, routes and senders.
func (r *Cache) Refresh(ctx context.Context) error {
	list, err := r.store.Providers(ctx)
	if err != nil {
		return err
	}
	set, err := r.store.Routes(ctx)
	if err != nil {
		return err
	}
	senders, err := r.words.Senders(ctx)
	if err != nil {
		return err
	}
	providers := map[otp.Channel][]postgres.ProviderRow{}
	for _, p := range list {
		providers[p.Channel] = append(providers[p.Channel], p)
	}
	byKey := make(map[routeKey]route.Route, len(set))
	for _, s := range set {
		byKey[routeKey{s.AppID, s.Channel, s.Country}] = s.Route
	}
	r.mu.Lock()
	r.providers, r.routes, r.senders = providers, byKey, senders
	r.mu.Unlock()
	return nil
}

func (r *Cache) rate(ctx context.Context, now time.Time) error {
	r.mu.RLock()
	wanted := false
	for _, s := range r.routes {
		wanted = wanted || s.Policy == route.Conversion
	}
	r.mu.RUnlock()
	if !wanted {
		return nil
	}
	rates, err := r.store.Rates(ctx, now)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.rates = rates
	r.mu.Unlock()
	return nil
}

// Of returns the route that serves: the most particular one, or all providers of the channel in the order of their configuration where none is set.
func (r *Cache) Of(app int, ch otp.Channel, country string) route.Route {
	if s, set := r.serving(app, ch, country); set {
		return s
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := route.Route{Channel: ch, Policy: route.Fixed}
	for _, p := range r.providers[ch] {
		s.Providers = append(s.Providers, p.Name)
	}
	return s
}

// serving returns the most particular route that is set.
func (r *Cache) serving(app int, ch otp.Channel, country string) (s route.Route, set bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range []routeKey{{app, ch, country}, {app, ch, ""}, {0, ch, country}, {0, ch, ""}} {
		if s, set = r.routes[k]; set {
			return s, true
		}
	}
	return s, false
}

// Serves reports whether there is anybody to carry messages of a channel. Those that every version has had always are: their workers may be of one that
// enters no providers.
func (r *Cache) Serves(ch otp.Channel) bool {
	if ch == otp.SMS || ch == otp.Email {
		return true
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.providers[ch]) > 0
}

// Order returns the providers in the order in which a challenge tries them; none where no worker of the channel has ever run.
func (r *Cache) Order(app int, ch otp.Channel, country string, challenge uuid.UUID) []string {
	s := r.Of(app, ch, country)
	if len(s.Providers) < 2 {
		return s.Providers
	}
	stats := map[string]route.Stat{}
	if s.Policy == route.Conversion {
		r.mu.RLock()
		for _, name := range s.Providers {
			stat := r.rates[postgres.Lane{Channel: ch, Country: country, Provider: name}]
			stat.CostMicros = r.costLocked(ch, name, country)
			stats[name] = stat
		}
		r.mu.RUnlock()
	}
	return s.Order(route.Seed(challenge), stats)
}

// First returns the provider that a challenge is sent over first; empty where none is known.
func (r *Cache) First(app int, ch otp.Channel, country string, challenge uuid.UUID) (name string, cost int64) {
	order := r.Order(app, ch, country, challenge)
	if len(order) == 0 {
		return "", 0
	}
	return order[0], r.Cost(ch, order[0], country)
}

// Cost is what a message costs, in millionths of the operator's currency.
func (r *Cache) Cost(ch otp.Channel, provider, country string) int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.costLocked(ch, provider, country)
}

func (r *Cache) costLocked(ch otp.Channel, provider, country string) int64 {
	if p, ok := r.providerLocked(ch, provider); ok {
		return p.Cost(country)
	}
	return 0
}

func (r *Cache) providerLocked(ch otp.Channel, name string) (postgres.ProviderRow, bool) {
	list := r.providers[ch]
	i := slices.IndexFunc(list, func(p postgres.ProviderRow) bool { return p.Name == name })
	if i < 0 {
		return postgres.ProviderRow{}, false
	}
	return list[i], true
}

// Sender is whom an app wants as sender in a country; empty for the provider's own choice.
func (r *Cache) Sender(app string, ch otp.Channel, country string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.senders.Of(app, ch, country)
}

// Patience is how long a receipt of a provider is waited for; zero for ever, as of a provider that tells none. A channel without a route of its own waits as
// long as the app's short messages do: who wants a code that does not arrive to go on wants it of the call that follows too.
func (r *Cache) Patience(app int, ch otp.Channel, country, provider string) time.Duration {
	s, set := r.serving(app, ch, country)
	if !set && ch != otp.SMS {
		s, _ = r.serving(app, otp.SMS, country)
	}
	if s.ReceiptTimeout == 0 {
		return 0
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if p, ok := r.providerLocked(ch, provider); !ok || !p.Receipts {
		return 0
	}
	return s.ReceiptTimeout
}

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/route"
)

// A ProviderRow is a provider as the worker that has it says.
type ProviderRow struct {
	Channel  otp.Channel
	Name     string
	Kind     string
	Position int              // in the worker's configuration, from 0
	Receipts bool             // it tells what became of a message
	Costs    map[string]int64 // millionths of the operator's currency for a message, by country; "" for all others
	SeenAt   time.Time        // when a worker last had it
}

// Cost returns what a message to a country costs.
func (p ProviderRow) Cost(country string) int64 {
	if c, ok := p.Costs[country]; ok {
		return c
	}
	return p.Costs[""]
}

// Routes is the store of providers and routes. A channel's worker registers its providers; the operator sets routes; others read.
type Routes struct{ db *DB }

// NewRoutes returns the store.
func NewRoutes(db *DB) *Routes { return &Routes{db} }

// ErrNoRoute says that there is no such route, ErrNoProvider that there is no such provider.
var (
	ErrNoRoute    = errors.New("no such route")
	ErrNoProvider = errors.New("no such provider")
)

// Register enters the providers of a worker, or brings what is there to what it says.
func (s *Routes) Register(ctx context.Context, now time.Time, rows []ProviderRow) error {
	n := len(rows)
	channels, names, kinds, costs := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n)
	positions, receipts := make(pq.Int64Array, n), make(pq.BoolArray, n)
	for i, r := range rows {
		text, err := json.Marshal(r.Costs)
		if err != nil {
			return fmt.Errorf("register providers: costs of %s: %w", r.Name, err)
		}
		if r.Costs == nil {
			text = []byte("{}")
		}
		channels[i], names[i], kinds[i], positions[i], receipts[i], costs[i] = string(r.Channel), r.Name, r.Kind, int64(r.Position), r.Receipts, string(text)
	}
	if _, err := s.db.x.ExecContext(ctx, query("providers_register"), channels, names, kinds, positions, receipts, costs, now); err != nil {
		return fmt.Errorf("register providers: %w", err)
	}
	return nil
}

// Providers returns every provider, by channel and position.
func (s *Routes) Providers(ctx context.Context) ([]ProviderRow, error) {
	var rows []struct {
		Channel  string    `db:"channel"`
		Name     string    `db:"name"`
		Kind     string    `db:"kind"`
		Position int       `db:"position"`
		Receipts bool      `db:"receipts"`
		Costs    []byte    `db:"costs"`
		SeenAt   time.Time `db:"seen_at"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("providers_list")); err != nil {
		return nil, fmt.Errorf("list providers: %w", err)
	}
	out := make([]ProviderRow, len(rows))
	for i, r := range rows {
		out[i] = ProviderRow{Channel: otp.Channel(r.Channel), Name: r.Name, Kind: r.Kind, Position: r.Position, Receipts: r.Receipts, SeenAt: r.SeenAt}
		if err := json.Unmarshal(r.Costs, &out[i].Costs); err != nil { // a constraint holds them; a price that cannot be read is none
			out[i].Costs = nil
		}
	}
	return out, nil
}

// ForgetProvider removes a provider that no worker has any more. It returns ErrNoProvider where there is none of the name.
func (s *Routes) ForgetProvider(ctx context.Context, ch otp.Channel, name string) error {
	res, err := s.db.x.ExecContext(ctx, query("provider_forget"), string(ch), name)
	if err != nil {
		return fmt.Errorf("forget provider: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrNoProvider
	}
	return nil
}

// A Route is a route of one app, or of every app where AppID is 0.
type Route struct {
	AppID int
	route.Route
	UpdatedAt time.Time
}

// Routes returns every route, those of all apps first.
func (s *Routes) Routes(ctx context.Context) ([]Route, error) {
	var rows []struct {
		AppID          int            `db:"app_id"`
		Channel        string         `db:"channel"`
		Country        string         `db:"country"`
		Policy         string         `db:"policy"`
		Providers      pq.StringArray `db:"providers"`
		Weights        pq.Int64Array  `db:"weights"`
		ReceiptTimeout int            `db:"receipt_timeout"`
		UpdatedAt      time.Time      `db:"updated_at"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("routes_list")); err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	out := make([]Route, len(rows))
	for i, r := range rows {
		out[i] = Route{AppID: r.AppID, UpdatedAt: r.UpdatedAt, Route: route.Route{
			Channel: otp.Channel(r.Channel), Country: r.Country, Policy: route.Policy(r.Policy), Providers: r.Providers,
			ReceiptTimeout: time.Duration(r.ReceiptTimeout) * time.Second,
		}}
		for _, w := range r.Weights {
			out[i].Weights = append(out[i].Weights, int(w))
		}
	}
	return out, nil
}

// Set stores a route, in place of the one of the same app, channel and country. Its providers must be registered for the channel: the error names the
// first that is not.
func (s *Routes) Set(ctx context.Context, now time.Time, r Route) error {
	if err := r.Check(); err != nil {
		return err
	}
	known, err := s.Providers(ctx)
	if err != nil {
		return err
	}
	if err := impossible(r.Route, known); err != nil {
		return err
	}
	var weights any
	if len(r.Weights) > 0 {
		list := make(pq.Int64Array, len(r.Weights))
		for i, w := range r.Weights {
			list[i] = int64(w)
		}
		weights = list
	}
	if _, err := s.db.x.ExecContext(ctx, query("route_set"), r.AppID, string(r.Channel), r.Country, string(r.Policy), pq.StringArray(r.Providers), weights,
		int(r.ReceiptTimeout/time.Second), now); err != nil {
		return fmt.Errorf("set route: %w", err)
	}
	return nil
}

// impossible says why a route cannot work with the providers that there are.
func impossible(r route.Route, known []ProviderRow) error {
	var told int
	for _, name := range r.Providers {
		var here, elsewhere *ProviderRow
		for i, p := range known {
			switch {
			case p.Name == name && p.Channel == r.Channel:
				here = &known[i]
			case p.Name == name:
				elsewhere = &known[i]
			}
		}
		switch {
		case here == nil && elsewhere != nil:
			return fmt.Errorf("route providers: %s carries %s, not %s", name, elsewhere.Channel, r.Channel)
		case here == nil:
			return fmt.Errorf("route providers: no worker has a provider named %s for %s", name, r.Channel)
		case here.Receipts:
			told++
		}
	}
	if r.ReceiptTimeout > 0 && told == 0 {
		return errors.New("route receipt-timeout: none of the providers tells what became of a message, so every code would go out over all of them")
	}
	return nil
}

// Remove deletes a route. It returns ErrNoRoute where there is none.
func (s *Routes) Remove(ctx context.Context, appID int, ch otp.Channel, country string) error {
	res, err := s.db.x.ExecContext(ctx, query("route_remove"), appID, string(ch), country)
	if err != nil {
		return fmt.Errorf("remove route: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrNoRoute
	}
	return nil
}

// A Lane is a provider in a country.
type Lane struct {
	Channel  otp.Channel
	Country  string
	Provider string
}

// Rates returns how many codes went out over each lane of late and how many of them came back; what is older counts less.
func (s *Routes) Rates(ctx context.Context, now time.Time) (map[Lane]route.Stat, error) {
	var rows []struct {
		Channel  string  `db:"channel"`
		Country  string  `db:"country"`
		Provider string  `db:"provider"`
		Sent     float64 `db:"sent"`
		Verified float64 `db:"verified"`
	}
	if err := s.db.x.SelectContext(ctx, &rows, query("conversion_rates"), now); err != nil {
		return nil, fmt.Errorf("read conversion rates: %w", err)
	}
	out := make(map[Lane]route.Stat, len(rows))
	for _, r := range rows {
		out[Lane{otp.Channel(r.Channel), r.Country, r.Provider}] = route.Stat{Sent: r.Sent, Verified: r.Verified}
	}
	return out, nil
}

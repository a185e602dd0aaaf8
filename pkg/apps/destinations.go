package apps

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/postgres"
)

// Destinations keeps the listed addresses of all apps at hand. There are few of them. A change reaches every worker within Fresh while the database answers;
// while it does not, what is known serves on.
type Destinations struct {
	store *postgres.Destinations
	log   *slog.Logger
	known atomic.Pointer[listed]
}

type listed map[int]map[uuid.UUID]postgres.Destination

// NewDestinations returns a cache that is empty until Load or Run has read the list.
func NewDestinations(store *postgres.Destinations, log *slog.Logger) *Destinations {
	return &Destinations{store: store, log: log}
}

// Load reads the list. A worker does so before its first message: until then every test destination would pass for a real one.
func (d *Destinations) Load(ctx context.Context) error {
	rows, err := d.store.List(ctx)
	if err != nil {
		return err
	}
	known := listed{}
	for _, r := range rows {
		if known[r.AppID] == nil {
			known[r.AppID] = map[uuid.UUID]postgres.Destination{}
		}
		known[r.AppID][r.Digest] = r
	}
	d.known.Store(&known)
	return nil
}

// Run reads the list again and again until ctx ends.
func (d *Destinations) Run(ctx context.Context) error {
	tick := time.NewTicker(Fresh * 2 / 3)
	defer tick.Stop()
	for {
		if err := d.Load(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("reading the listed destinations failed, going on with what is known", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Find tells whether an address is listed by an app, and how. digests are those of the address under every key; they are asked for only where the app has
// listed any, which is seldom.
func (d *Destinations) Find(appID int, digests func() ([]uuid.UUID, error)) (found postgres.Destination, ok bool, err error) {
	known := d.known.Load()
	if known == nil || len((*known)[appID]) == 0 {
		return found, false, nil
	}
	ids, err := digests()
	for _, id := range ids {
		if found, ok = (*known)[appID][id]; ok {
			return found, true, err
		}
	}
	return found, false, err
}

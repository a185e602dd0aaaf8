// Package apps keeps the apps and their policies at hand for workers that ask for one with every message. A change reaches every worker within
// Fresh while the database answers; while it does not, what is known serves on.
package apps

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/otpost/otpost/pkg/postgres"
)

// Fresh is how old what a worker knows of an app may be while the database answers.
const Fresh = 3 * time.Second

// A Cache answers from memory. An app that it does not know it looks up once, so that one just created works at once.
type Cache struct {
	store *postgres.Apps
	log   *slog.Logger
	now   func() time.Time

	mu     sync.RWMutex
	byName map[string]postgres.App
	byID   map[int]postgres.App
	absent map[string]time.Time // names that were looked up in vain
}

// New returns an empty Cache; Run keeps it fresh.
func New(store *postgres.Apps, log *slog.Logger) *Cache {
	return &Cache{store: store, log: log, now: time.Now, byName: map[string]postgres.App{}, byID: map[int]postgres.App{}, absent: map[string]time.Time{}}
}

// Run reads all apps again and again until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	tick := time.NewTicker(Fresh * 2 / 3)
	defer tick.Stop()
	for {
		if err := c.Load(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("reading the apps failed, going on with what is known", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Load reads all apps. Who uses Known loads them before.
func (c *Cache) Load(ctx context.Context) error {
	list, err := c.store.List(ctx)
	if err != nil {
		return err
	}
	byName, byID := make(map[string]postgres.App, len(list)), make(map[int]postgres.App, len(list))
	for _, a := range list {
		byName[a.Name], byID[a.ID] = a, a
	}
	c.mu.Lock()
	c.byName, c.byID, c.absent = byName, byID, map[string]time.Time{}
	c.mu.Unlock()
	return nil
}

// Get returns an app by name, or postgres.ErrNoApp. Any other error says that the database could not be asked.
func (c *Cache) Get(ctx context.Context, name string) (postgres.App, error) {
	c.mu.RLock()
	a, ok := c.byName[name]
	missed, known := c.absent[name]
	c.mu.RUnlock()
	if ok {
		return a, nil
	}
	if known && c.now().Sub(missed) < time.Second {
		return postgres.App{}, postgres.ErrNoApp
	}
	a, err := c.store.Get(ctx, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.byName[name], c.byID[a.ID] = a, a
	case errors.Is(err, postgres.ErrNoApp):
		if len(c.absent) > 10000 { // names come from outside
			clear(c.absent)
		}
		c.absent[name] = c.now()
	}
	return a, err
}

// Known returns an app by its number, if it is known without asking the database.
func (c *Cache) Known(id int) (postgres.App, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	a, ok := c.byID[id]
	return a, ok
}

// ByID returns an app by its number, or postgres.ErrNoApp. Any other error says that the database could not be asked.
func (c *Cache) ByID(ctx context.Context, id int) (postgres.App, error) {
	c.mu.RLock()
	a, ok := c.byID[id]
	c.mu.RUnlock()
	if ok {
		return a, nil
	}
	a, err := c.store.GetByID(ctx, id)
	if err != nil {
		return a, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byName[a.Name], c.byID[id] = a, a
	return a, nil
}

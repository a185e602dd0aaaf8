package delivery

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/postgres"
)

// Fresh is how old what a worker knows of apps' own words may be while the database answers.
const Fresh = 3 * time.Second

// Words brings the apps' own words from the database to the catalogs that messages are rendered with. While the database does not answer, what is known
// serves on. A nil *Words serves nobody: messages are in otpost's own words.
type Words struct {
	store *postgres.Templates
	log   *slog.Logger

	mu       sync.Mutex
	known    []postgres.Template // as they were last read
	byApp    map[string][]message.Template
	catalogs []*message.Catalog
}

// NewWords returns Words that know none yet. Refresh reads them once, Run again and again.
func NewWords(store *postgres.Templates, log *slog.Logger) *Words {
	return &Words{store: store, log: log}
}

// Serve gives a catalog the words that are known, and those that come to be known.
func (w *Words) Serve(c *message.Catalog) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catalogs = append(w.catalogs, c)
	_ = c.SetOverrides(w.byApp) // what is not fit was told when it was read
}

// Refresh reads the words and, where they have changed, hands them to all catalogs. A template that is not fit is logged, once, and left out.
func (w *Words) Refresh(ctx context.Context) error {
	list, err := w.store.All(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	same := func(a, b postgres.Template) bool {
		at, bt := a.UpdatedAt, b.UpdatedAt
		a.UpdatedAt, b.UpdatedAt = time.Time{}, time.Time{}
		return a == b && at.Equal(bt)
	}
	if slices.EqualFunc(list, w.known, same) {
		return nil
	}
	byApp := make(map[string][]message.Template)
	for _, t := range list {
		byApp[t.App] = append(byApp[t.App], message.Template{
			Channel: t.Channel, Purpose: t.Purpose, Locale: t.Locale, Subject: t.Subject, Text: t.Text, HTML: t.HTML,
		})
	}
	w.known, w.byApp = list, byApp
	for i, c := range w.catalogs {
		if err := c.SetOverrides(byApp); err != nil && i == 0 { // they all say the same
			w.log.Warn("words of apps are not fit, otpost's own are used in their place", "error", err)
		}
	}
	return nil
}

// Run reads the words again and again until ctx ends.
func (w *Words) Run(ctx context.Context) error {
	tick := time.NewTicker(Fresh * 2 / 3)
	defer tick.Stop()
	for {
		if err := w.Refresh(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("reading the apps' own words failed, going on with what is known", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

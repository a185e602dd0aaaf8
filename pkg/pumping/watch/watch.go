// Package watch keeps a worker in touch with the guard against SMS pumping: it knows which prefixes are blocked, and writes down what the worker sends.
// What was noted is written every few seconds, beside the work and not with it. What a killed process has noted is lost; a guard that looks at an hour does
// not miss it.
package watch

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/pumping"
)

const (
	every   = 2 * time.Second // how often what was noted is written, and the blocks are read
	pending = 20_000          // messages that may wait to be written; what is beyond is not counted
	label   = "otpost/phone-range/v1"
	last    = 3 // digits that the numbers of a range differ in
)

// A Watch is what one worker knows of prefixes, and what it has yet to tell.
type Watch struct {
	store *postgres.Pumping
	keys  *keyring.Ring
	log   *slog.Logger
	now   func() time.Time

	mu     sync.RWMutex
	blocks map[postgres.Prefix]postgres.PrefixBlock

	notes sync.Mutex
	sends []postgres.PrefixSend
	back  []postgres.PrefixSend
	stops map[postgres.Prefix]postgres.PrefixStop
}

// New returns a Watch that knows no block until Load or Run has read them.
func New(db *postgres.DB, keys *keyring.Ring, log *slog.Logger, now func() time.Time) *Watch {
	return &Watch{store: postgres.NewPumping(db), keys: keys, log: log, now: now, stops: map[postgres.Prefix]postgres.PrefixStop{}}
}

// Run reads blocks and writes notes until ctx ends, and then writes what is left.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			w.Flush(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
		}
		if err := w.Load(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("reading blocked prefixes failed, going on with what is known", "error", err)
		}
		w.Flush(ctx)
	}
}

// Load reads which prefixes are blocked. A worker does so before its first message.
func (w *Watch) Load(ctx context.Context) error {
	now := w.now()
	list, err := w.store.Blocks(ctx, now)
	if err != nil {
		return err
	}
	blocks := map[postgres.Prefix]postgres.PrefixBlock{}
	for _, b := range list {
		if b.LiftedAt.IsZero() {
			blocks[b.Prefix] = b
		}
	}
	w.mu.Lock()
	w.blocks = blocks
	w.mu.Unlock()
	return nil
}

// Of returns the block of a prefix, if there is one. What it does depends on what the app's mode is now: with a change to block, what was only looked at is
// stopped at once, and the other way round. What an operator has blocked is stopped whatever the mode is.
func (w *Watch) Of(app postgres.App, prefix string, now time.Time) (b postgres.PrefixBlock, stops, ok bool) {
	w.mu.RLock()
	b, ok = w.blocks[postgres.Prefix{AppID: app.ID, Digits: prefix}]
	w.mu.RUnlock()
	mode := app.Policy.Delivery.Pumping
	if !ok || !b.Active(now) || !b.Manual && mode == otp.PumpingOff {
		return b, false, false
	}
	return b, b.Manual || mode == otp.PumpingBlock, true
}

// Blocked is what a decision about a login asks.
func (w *Watch) Blocked(app postgres.App, now time.Time) func(prefix string) (time.Time, bool) {
	return func(prefix string) (time.Time, bool) {
		b, stops, _ := w.Of(app, prefix, now)
		return b.Until, stops
	}
}

// Permits reports whether a message may be sent to a number of the prefix, and notes it where a block concerns it. An empty prefix, as of a mailbox, may be.
func (w *Watch) Permits(app postgres.App, prefix string) bool {
	_, stops, ok := w.Of(app, prefix, w.now())
	if !ok {
		return true
	}
	n := postgres.PrefixStop{Passed: 1}
	if stops {
		n = postgres.PrefixStop{Stopped: 1}
	}
	w.Stopped(app.ID, prefix, n)
	return !stops
}

// Sent notes a message to a number, unless the app has turned the guard off.
func (w *Watch) Sent(app postgres.App, number string, at time.Time) {
	if app.Policy.Delivery.Pumping == otp.PumpingOff {
		return
	}
	send, err := w.Place(app, number, at)
	if err != nil {
		w.log.Warn("a message could not be counted by its prefix", "app", app.Name, "error", err)
		return
	}
	w.notes.Lock()
	defer w.notes.Unlock()
	if len(w.sends) < pending {
		w.sends = append(w.sends, send)
	}
}

// Returned notes that a code came back from a number that it was sent to at a time. Who holds the rows of what comes back within its own transaction
// counts it there instead.
func (w *Watch) Returned(app postgres.App, number string, at time.Time) {
	if app.Policy.Delivery.Pumping == otp.PumpingOff {
		return
	}
	send, err := w.Place(app, number, at)
	if err != nil {
		return // it was not counted as sent either
	}
	w.notes.Lock()
	defer w.notes.Unlock()
	if len(w.back) < pending {
		w.back = append(w.back, send)
	}
}

// Place tells where a message to a number is counted.
func (w *Watch) Place(app postgres.App, number string, at time.Time) (s postgres.PrefixSend, err error) {
	cut := max(1, len(number)-last)
	digest, err := w.keys.Index(label, []byte(app.Name), []byte(number[:cut]))
	if err != nil {
		return s, err
	}
	end, err := strconv.Atoi(number[cut:])
	if err != nil {
		return s, errors.New("a number does not end in digits")
	}
	prefix := otp.LocatePhone(number).Prefix
	return postgres.PrefixSend{
		Prefix: postgres.Prefix{AppID: app.ID, Digits: prefix}, Behind: len(number) - len(prefix), Range: uuid.UUID(digest[:16]),
		Place: pumping.Place(digest, end), At: at,
	}, nil
}

// Stopped notes messages that a block concerned.
func (w *Watch) Stopped(appID int, prefix string, n postgres.PrefixStop) {
	p := postgres.Prefix{AppID: appID, Digits: prefix}
	w.notes.Lock()
	defer w.notes.Unlock()
	sum := w.stops[p]
	sum.Stopped, sum.Passed = sum.Stopped+n.Stopped, sum.Passed+n.Passed
	w.stops[p] = sum
}

// Flush writes what was noted. What the database does not take now it gets with the next.
func (w *Watch) Flush(ctx context.Context) {
	w.notes.Lock()
	sends, back, stops := w.sends, w.back, w.stops
	w.sends, w.back, w.stops = nil, nil, map[postgres.Prefix]postgres.PrefixStop{}
	w.notes.Unlock()
	if len(sends) == 0 && len(back) == 0 && len(stops) == 0 {
		return
	}
	err := w.store.Note(ctx, w.now(), sends, stops)
	if err == nil && len(back) > 0 { // after what was sent
		sends, stops = nil, nil
		err = w.store.NoteReturns(ctx, w.now(), back)
	}
	if err == nil {
		return
	}
	w.log.Warn("counting what was sent to prefixes failed, it goes on with the next round", "count", len(sends)+len(back), "error", err)
	if postgres.Refused(err) {
		return // it would be refused again
	}
	w.notes.Lock()
	defer w.notes.Unlock()
	w.sends = append(sends, w.sends...)
	w.sends = w.sends[:min(len(w.sends), pending)]
	w.back = append(back, w.back...)
	w.back = w.back[:min(len(w.back), pending)]
	for p, n := range stops {
		sum := w.stops[p]
		sum.Stopped, sum.Passed = sum.Stopped+n.Stopped, sum.Passed+n.Passed
		w.stops[p] = sum
	}
}

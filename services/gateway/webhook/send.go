package webhook

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/postgres"
)

// A target is what this process remembers of a webhook's target. Nothing depends on it but who goes first.
type target struct {
	posts   int       // under way
	quick   bool      // the last post was taken, and soon
	failing bool      // the last post was not taken
	until   time.Time // it asked for a pause
	due     time.Time // when it last had something due
}

const (
	// quickPart is the part of the time-out within which a target must answer to count as quick.
	quickPart = 5
	// longestPause bounds the pause that a target may ask for all its events. One event may be put off for longer.
	longestPause = time.Minute
	// remember is how long a webhook is remembered that has nothing to send. That a target is quick counts when others hang.
	remember = 24 * time.Hour
)

// look makes the sender look for events at once.
func (w *Worker) look() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// send posts what is due, until ctx ends. Posts under way then go on.
func (w *Worker) send(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.round(ctx); err != nil && ctx.Err() == nil {
			w.Logger.Warn("claiming events for webhooks failed, it goes on with the next round", "error", err)
			pause(ctx, w.Poll) // and does not wake at once for what has just been written
		}
		t := time.NewTimer(w.Poll/2 + rand.N(w.Poll))
		select {
		case <-ctx.Done():
		case <-w.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// round claims as much as there is room for and begins to post it.
func (w *Worker) round(ctx context.Context) error {
	now := w.Now()
	due, err := w.store.Targets(ctx, now)
	if err != nil {
		return err
	}
	// Not cut short by the drain: what is claimed is posted, or it would wait for its lease to end.
	ctx = context.WithoutCancel(ctx)
	claimed, err := w.store.Claim(ctx, now, w.Timeout+leaseBeyond, w.room(now, due))
	if err != nil {
		return err
	}
	hooks := make(map[uuid.UUID]postgres.Webhook, len(due))
	for _, h := range due {
		hooks[h.ID] = h
	}
	for _, e := range claimed {
		h := hooks[e.Webhook]
		w.begin(h.ID)
		w.posts.Go(func() { w.work(ctx, h, e) })
	}
	return nil
}

// room shares out the posts that may begin now: one to each webhook that has something due, then a second to each, and so on. A webhook whose last post
// failed has one at a time, to see whether its target is back, and all that are not known to be quick have no more than half of the posts together.
func (w *Worker) room(now time.Time, due []postgres.Webhook) []postgres.Room {
	w.mu.Lock()
	defer w.mu.Unlock()
	all, slow := w.Concurrency, w.Concurrency/2
	for id, t := range w.state {
		all -= t.posts
		if !t.quick {
			slow -= t.posts
		}
		if t.posts == 0 && !t.failing && now.Sub(t.due) > remember {
			delete(w.state, id)
		}
	}
	type share struct {
		of    *target
		most  int
		given int
		id    uuid.UUID
	}
	shares := make([]*share, 0, len(due))
	for _, h := range due {
		t := w.of(h.ID)
		t.due = now
		if now.Before(t.until) {
			continue
		}
		s := &share{of: t, most: w.PerWebhook, id: h.ID}
		if t.failing {
			s.most = 1
		}
		shares = append(shares, s)
	}
	rand.Shuffle(len(shares), func(i, j int) { shares[i], shares[j] = shares[j], shares[i] })
	slices.SortStableFunc(shares, func(a, b *share) int { return cmp.Compare(a.of.posts, b.of.posts) })
	for given := true; given && all > 0; {
		given = false
		for _, s := range shares {
			if s.of.posts+s.given >= s.most || all <= 0 || !s.of.quick && slow <= 0 {
				continue
			}
			s.given++
			all--
			if !s.of.quick {
				slow--
			}
			given = true
		}
	}
	var rooms []postgres.Room
	for _, s := range shares {
		if s.given > 0 {
			rooms = append(rooms, postgres.Room{Webhook: s.id, Events: s.given})
		}
	}
	return rooms
}

// of returns what is remembered of a webhook. The caller holds the lock.
func (w *Worker) of(id uuid.UUID) *target {
	t, ok := w.state[id]
	if !ok {
		t = &target{}
		w.state[id] = t
	}
	return t
}

func (w *Worker) begin(id uuid.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of(id).posts++
}

// end remembers how a post went.
func (w *Worker) end(h postgres.Webhook, a answer) {
	w.mu.Lock()
	t := w.of(h.ID)
	t.posts--
	before, now := t.failing, !a.taken()
	t.failing = now
	t.quick = a.taken() && a.took <= w.Timeout/quickPart
	if a.busy() {
		t.until = w.Now().Add(min(max(a.retryAfter, retries[0]), longestPause))
	}
	w.mu.Unlock()
	switch {
	case now && !before:
		w.Logger.Warn("a webhook does not take its events", "webhook", h.ID, "app", h.App, "reason", a.reason)
	case before && !now:
		w.Logger.Info("a webhook takes its events again", "webhook", h.ID, "app", h.App)
	}
	w.look() // for what may take this post's place
}

// work posts one event and records what came of it. Where the record fails, the event is posted again when its lease has ended.
func (w *Worker) work(ctx context.Context, h postgres.Webhook, e postgres.ClaimedEvent) {
	a := answer{reason: "internal: posting it panicked"}
	defer func() {
		if p := recover(); p != nil { // it must not take the pages with it
			w.Logger.Error("posting an event panicked", "webhook", h.ID, "event", e.ID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
		w.end(h, a)
	}()
	a = w.post(ctx, h, e)
	result, err := w.record(ctx, h, e, a)
	if err != nil {
		w.Logger.Warn("what came of an event could not be recorded, it will be posted again", "webhook", h.ID, "event", e.ID, "error", err)
		return
	}
	w.count(result, 1)
}

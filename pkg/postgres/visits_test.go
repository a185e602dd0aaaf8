package postgres_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// visitBench is the store of visits, with an app and a time.
type visitBench struct {
	*testing.T
	*postgres.Visits
	db  *otposttest.DB
	app int
	now time.Time
	n   byte // of digests
}

func newVisitBench(t *testing.T) *visitBench {
	t.Helper()
	db := otposttest.Postgres(t)
	return &visitBench{T: t, Visits: postgres.NewVisits(db.Role("gateway")), db: db, app: db.App(t, "demo").ID, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
}

// digest is one that no other call returns.
func (b *visitBench) digest() [32]byte { b.n++; return [32]byte{b.n} }

// made stores a visit with a link of two minutes.
func (b *visitBench) made(user string) (postgres.Visit, [32]byte) {
	b.Helper()
	v := postgres.Visit{
		ID: uuid.Must(uuid.NewV7()), AppID: b.app, User: user, Session: "s", Page: "settings", ReturnURL: "https://shop.example/",
		CreatedAt: b.now, ExpiresAt: b.now.Add(30 * time.Minute),
	}
	link := b.digest()
	if err := b.Create(b.Context(), v, link, b.now.Add(2*time.Minute)); err != nil {
		b.Fatal(err)
	}
	return v, link
}

// opened is a visit that a browser has opened.
func (b *visitBench) opened(user string) (postgres.Visit, [32]byte) {
	b.Helper()
	_, link := b.made(user)
	cookie := b.digest()
	v, err := b.Open(b.Context(), b.now, link, cookie)
	if err != nil {
		b.Fatal(err)
	}
	return v, cookie
}

// atOnce has six do the same at once and returns how many it was done for. The others must get the error.
func (b *visitBench) atOnce(lost error, act func(ctx context.Context, i int) error) (won int32) {
	b.Helper()
	var n atomic.Int32
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range 6 {
		all.Go(func() {
			<-start
			switch err := act(b.Context(), i); {
			case err == nil:
				n.Add(1)
			case !errors.Is(err, lost):
				b.Errorf("who lost got %v", err)
			}
		})
	}
	close(start)
	all.Wait()
	return n.Load()
}

// rounds is how often a race is run.
const rounds = 5

// TestALinkOpensOnce holds that of many who follow a link at once one gets in, and that the visit is theirs.
func TestALinkOpensOnce(t *testing.T) {
	t.Parallel()
	b := newVisitBench(t)
	for range rounds {
		_, link := b.made("alice")
		var cookies [6][32]byte
		for i := range cookies {
			cookies[i] = b.digest()
		}
		won := b.atOnce(postgres.ErrNoVisit, func(ctx context.Context, i int) error {
			_, err := b.Open(ctx, b.now, link, cookies[i])
			return err
		})
		in := 0
		for _, c := range cookies {
			if _, err := b.ByCookie(t.Context(), c); err == nil {
				in++
			}
		}
		if won != 1 || in != 1 {
			t.Errorf("%d opened the link and %d have the visit", won, in)
		}
	}
}

// TestAStateIsSavedOnce holds that of many tabs that go on from the same state one does: what it has used up no other one has.
func TestAStateIsSavedOnce(t *testing.T) {
	t.Parallel()
	b := newVisitBench(t)
	v, cookie := b.opened("alice")
	for range rounds {
		won := b.atOnce(postgres.ErrVisitChanged, func(ctx context.Context, i int) error {
			own := v
			own.State = []byte{byte(i)}
			return b.Save(ctx, b.now, own)
		})
		now, err := b.ByCookie(t.Context(), cookie)
		if err != nil {
			t.Fatal(err)
		}
		if won != 1 || now.Revision != v.Revision+1 {
			t.Errorf("%d have saved a state, and it was changed %d times", won, now.Revision-v.Revision)
		}
		v = now
	}
}

// TestAVisitEndsOnce holds that a visit comes to one result, however many ways to end it are taken at once.
func TestAVisitEndsOnce(t *testing.T) {
	t.Parallel()
	b := newVisitBench(t)
	for range rounds {
		v, _ := b.opened("alice")
		var results [6]postgres.PageResult
		for i := range results {
			results[i] = postgres.PageResult{Digest: b.digest(), Sealed: []byte("sealed"), ExpiresAt: b.now.Add(time.Minute)}
		}
		won := b.atOnce(postgres.ErrVisitChanged, func(ctx context.Context, i int) error { return b.End(ctx, b.now, v, results[i]) })
		left := 0
		for _, r := range results {
			if _, err := b.Redeem(t.Context(), b.now, b.app, r.Digest); err == nil {
				left++
			}
		}
		if won != 1 || left != 1 {
			t.Errorf("%d ended the visit, and there were %d results", won, left)
		}
	}
}

// TestAResultIsRedeemedOnce holds that of many who bring the same result at once one is told what it is.
func TestAResultIsRedeemedOnce(t *testing.T) {
	t.Parallel()
	b := newVisitBench(t)
	for range rounds {
		v, _ := b.opened("alice")
		r := postgres.PageResult{Digest: b.digest(), Sealed: []byte("sealed"), ExpiresAt: b.now.Add(time.Minute)}
		if err := b.End(t.Context(), b.now, v, r); err != nil {
			t.Fatal(err)
		}
		won := b.atOnce(postgres.ErrNoResult, func(ctx context.Context, _ int) error {
			_, err := b.Redeem(ctx, b.now, b.app, r.Digest)
			return err
		})
		if won != 1 {
			t.Errorf("%d redeemed the result", won)
		}
	}
}

// A visit serves from its opening to its end: before and after nothing that is done to it has an effect.
func TestTheLifeOfAVisit(t *testing.T) {
	t.Parallel()
	b := newVisitBench(t)
	ctx := t.Context()
	other := b.db.App(t, "other").ID

	_, link := b.made("alice")
	if _, err := b.Open(ctx, b.now.Add(2*time.Minute), link, b.digest()); !errors.Is(err, postgres.ErrNoVisit) {
		t.Errorf("a link at its end: %v", err)
	}
	if _, err := b.Open(ctx, b.now, b.digest(), b.digest()); !errors.Is(err, postgres.ErrNoVisit) {
		t.Errorf("an unknown link: %v", err)
	}
	v, cookie := b.opened("alice")
	if _, err := b.ByCookie(ctx, link); !errors.Is(err, postgres.ErrNoVisit) {
		t.Errorf("a link for a cookie: %v", err)
	}

	// Of two tabs that change a visit one is quicker, and the other is told.
	v.State = []byte("one")
	if err := b.Save(ctx, b.now, v); err != nil {
		t.Fatal(err)
	}
	v.State = []byte("two")
	if err := b.Save(ctx, b.now, v); !errors.Is(err, postgres.ErrVisitChanged) {
		t.Errorf("a state that was read before the last change: %v", err)
	}
	if v, err := b.ByCookie(ctx, cookie); err != nil || string(v.State) != "one" || v.Revision != 1 {
		t.Errorf("after that: %+v, %v", v, err)
	}

	// At its end it takes nothing any more, and what it remembered is gone.
	v.Revision = 1
	late := postgres.PageResult{Digest: b.digest(), Sealed: []byte("late"), ExpiresAt: b.now.Add(time.Hour)}
	if err := b.Save(ctx, v.ExpiresAt, v); !errors.Is(err, postgres.ErrVisitChanged) {
		t.Errorf("saved when it had expired: %v", err)
	}
	if err := b.End(ctx, v.ExpiresAt, v, late); !errors.Is(err, postgres.ErrVisitChanged) {
		t.Errorf("ended when it had expired: %v", err)
	}
	r := postgres.PageResult{Digest: b.digest(), Sealed: []byte("sealed"), ExpiresAt: b.now.Add(2 * time.Minute)}
	if err := b.End(ctx, b.now, v, r); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(ctx, b.now, v); !errors.Is(err, postgres.ErrVisitChanged) {
		t.Errorf("saved when it had ended: %v", err)
	}
	if v, err := b.ByCookie(ctx, cookie); err != nil || v.State != nil || !v.EndedAt.Equal(b.now) {
		t.Errorf("when it had ended: %+v, %v", v, err)
	}

	// A result is its app's, and another one that brings it does not use it up.
	if _, err := b.Redeem(ctx, b.now, other, r.Digest); !errors.Is(err, postgres.ErrNoResult) {
		t.Errorf("another app redeems it: %v", err)
	}
	if sealed, err := b.Redeem(ctx, b.now, b.app, r.Digest); err != nil || string(sealed) != "sealed" {
		t.Errorf("its own app redeems it: %q, %v", sealed, err)
	}
	v, _ = b.opened("alice")
	if err := b.End(ctx, b.now, v, r); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Redeem(ctx, r.ExpiresAt, b.app, r.Digest); !errors.Is(err, postgres.ErrNoResult) {
		t.Errorf("a result at its end: %v", err)
	}
}

// However much has expired, a sweep removes all of it, and nothing else.
func TestSweepOfVisits(t *testing.T) {
	t.Parallel()
	b := newVisitBench(t)
	b.db.Exec(t, `INSERT INTO page_sessions (id, app_id, user_id, session, page, return_url, link_digest, link_expires_at, created_at, expires_at)
		SELECT gen_random_uuid(), $1, 'many', 's', 'settings', 'https://shop.example/', sha256(n::text::bytea), $2, $2, $2 FROM generate_series(1, 2100) n`, b.app, b.now)
	b.db.Exec(t, `INSERT INTO page_results (digest, app_id, user_id, sealed, created_at, expires_at)
		SELECT sha256(n::text::bytea), $1, 'many', 'x', $2, $2 FROM generate_series(1, 2100) n`, b.app, b.now)
	_, link := b.made("alice")
	v, _ := b.opened("bob")
	r := postgres.PageResult{Digest: b.digest(), Sealed: []byte("sealed"), ExpiresAt: b.now.Add(time.Second)}
	if err := b.End(t.Context(), b.now, v, r); err != nil {
		t.Fatal(err)
	}
	if err := b.Sweep(t.Context(), b.now, b.now); err != nil {
		t.Fatal(err)
	}
	visits := otposttest.Get[int](t, b.db, `SELECT count(*) FROM page_sessions`)
	if results := otposttest.Get[int](t, b.db, `SELECT count(*) FROM page_results`); visits != 2 || results != 1 {
		t.Errorf("%d visits and %d results are left", visits, results)
	}
	if _, err := b.ByLink(t.Context(), link); err != nil {
		t.Errorf("a visit that has not expired: %v", err)
	}
}

// A person who is erased leaves no visit and no result; others keep theirs.
func TestErasureOfVisits(t *testing.T) {
	t.Parallel()
	b := newVisitBench(t)
	for _, user := range []string{"alice", "bob"} {
		b.opened(user)
		v, _ := b.opened(user)
		if err := b.End(t.Context(), b.now, v, postgres.PageResult{Digest: b.digest(), Sealed: []byte("sealed"), ExpiresAt: b.now.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	b.db.Exec(t, `SELECT otpost_erase_user($1, 'alice')`, b.app)
	for user, want := range map[string]int{"alice": 0, "bob": 3} {
		if n := otposttest.Get[int](t, b.db, `SELECT (SELECT count(*) FROM page_sessions WHERE user_id = $1) + (SELECT count(*) FROM page_results WHERE user_id = $1)`, user); n != want {
			t.Errorf("%s has %d rows, want %d", user, n, want)
		}
	}
}

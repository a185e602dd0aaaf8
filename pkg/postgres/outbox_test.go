package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// leave writes events to the outbox, as processes of a role do that die before they publish; one a second from a time on.
func (b *bench) leave(role, prefix string, n int, from time.Time) {
	b.Helper()
	b.db.Exec(b.T, `INSERT INTO outbox (id, subject, payload, role, created_at)
		SELECT $1 || i, 'otpost.app.demo.event.challenge.ended', '\x00ff', $2, $3::timestamptz + make_interval(secs => i) FROM generate_series(0, $4::integer - 1) AS i`,
		prefix, role, from, n)
}

// taken is what a publish that took every event returns.
func taken(events []postgres.OutboxEvent) []error { return make([]error, len(events)) }

func TestOutboxLeftAndSent(t *testing.T) {
	b := newBench(t)
	now := b.clock.Now()
	b.leave("otpost_challenge", "e", 5, now.Add(-time.Minute))
	ctx, before := t.Context(), now.Add(-time.Minute+3*time.Second)
	if err := b.outbox.Sent(ctx, []string{"e1", "none"}); err != nil {
		t.Fatal(err)
	}
	pages := 0
	n, err := b.outbox.Left(ctx, now, before, func(events []postgres.OutboxEvent) []error {
		pages++
		if len(events) != 2 || events[0].ID != "e0" || events[1].ID != "e2" || string(events[0].Payload) != "\x00\xff" ||
			events[0].Subject != "otpost.app.demo.event.challenge.ended" {
			t.Errorf("left are %+v", events)
		}
		return taken(events)
	})
	if err != nil || n != 2 || pages != 1 {
		t.Errorf("published %d in %d pages, %v", n, pages, err)
	}
	if left := otposttest.Get[int](t, b.db, "SELECT count(*) FROM outbox"); left != 2 {
		t.Errorf("%d are left in the outbox, want the two young ones", left)
	}
}

func TestLeftGoesPageByPageAndPutsBehindWhatIsNotTaken(t *testing.T) {
	b := newBench(t)
	now := b.clock.Now()
	const all = 1203 // more than two pages
	b.leave("otpost_challenge", "e", all, now.Add(-time.Hour))
	seen := map[string]int{}
	var sizes []int
	n, err := b.outbox.Left(t.Context(), now, now, func(events []postgres.OutboxEvent) []error {
		sizes = append(sizes, len(events))
		out := make([]error, len(events))
		for i, e := range events {
			seen[e.ID]++
			if e.ID == "e0" || e.ID == "e700" {
				out[i] = errors.New("no stream took it")
			}
		}
		return out
	})
	if err != nil || n != all-2 || !slices.Equal(sizes, []int{500, 500, 203}) || len(seen) != all {
		t.Errorf("published %d in pages of %v, %d seen, %v", n, sizes, len(seen), err)
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s was handed out %d times", id, times)
		}
	}
	if behind := otposttest.Get[int](t, b.db, "SELECT count(*) FROM outbox WHERE id IN ('e0', 'e700') AND created_at = $1", now); behind != 2 {
		t.Errorf("%d of 2 were put behind", behind)
	}
	if rest := otposttest.Get[int](t, b.db, "SELECT count(*) FROM outbox"); rest != 2 {
		t.Errorf("%d stand in the outbox", rest)
	}
	b.clock.Advance(time.Minute)
	if n, err := b.outbox.Left(t.Context(), b.clock.Now(), b.clock.Now(), taken); n != 2 || err != nil {
		t.Errorf("the next round published %d, %v", n, err)
	}
}

func TestOneProcessOfARolePublishesWhatIsLeft(t *testing.T) {
	b := newBench(t)
	now := b.clock.Now()
	b.leave("otpost_challenge", "c", 3, now.Add(-time.Minute))
	b.leave("otpost_verification", "v", 2, now.Add(-time.Minute))
	second, err := postgres.Open(b.db.URL("challenge"), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	verification := postgres.NewOutbox(b.db.Role("verification"))
	n, err := b.outbox.Left(t.Context(), now, now, func(events []postgres.OutboxEvent) []error {
		n, err := postgres.NewOutbox(second).Left(t.Context(), now, now, func([]postgres.OutboxEvent) []error {
			t.Error("a second process of the role publishes meanwhile")
			return nil
		})
		if n != 0 || err != nil {
			t.Errorf("the second process: %d, %v", n, err)
		}
		if n, err := verification.Left(t.Context(), now, now, taken); n != 2 || err != nil {
			t.Errorf("another role is held up: %d, %v", n, err)
		}
		return taken(events)
	})
	if n != 3 || err != nil {
		t.Errorf("published %d, %v", n, err)
	}
	b.leave("otpost_challenge", "d", 1, now.Add(-time.Minute))
	if n, err := postgres.NewOutbox(second).Left(t.Context(), now, now, taken); n != 1 || err != nil {
		t.Errorf("afterwards: %d, %v; the lock was kept", n, err)
	}
}

func TestARoleSeesItsOwnEventsOnly(t *testing.T) {
	b := newBench(t)
	now := b.clock.Now()
	b.leave("otpost_challenge", "c", 1, now.Add(-time.Minute))
	b.leave("otpost_verification", "v", 1, now.Add(-time.Minute))
	for role, own := range map[string]string{"challenge": "c0", "verification": "v0"} {
		db := b.db.SQL(role)
		var seen string
		if err := db.QueryRowContext(t.Context(), "SELECT string_agg(id, ',') FROM outbox").Scan(&seen); err != nil || seen != own {
			t.Errorf("%s sees %q, %v", role, seen, err)
		}
		for _, change := range []string{"UPDATE outbox SET created_at = now()", "DELETE FROM outbox WHERE false"} {
			res, err := db.ExecContext(t.Context(), change)
			if err != nil {
				t.Errorf("%s: %s: %v", role, change, err)
				continue
			}
			if n, _ := res.RowsAffected(); n > 1 {
				t.Errorf("%s: %s met %d rows", role, change, n)
			}
		}
		if err := postgres.NewOutbox(b.db.Role(role)).Sent(t.Context(), []string{"c0", "v0"}); err != nil {
			t.Error(err)
		}
		if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM outbox WHERE id = $1", own); n != 0 {
			t.Errorf("%s could not delete its own", role)
		}
		if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM outbox"); n != 1 {
			t.Errorf("after %s was at it %d stand in the outbox, want the other's", role, n)
		}
		b.leave("otpost_"+role, own[:1], 1, now.Add(-time.Minute))
		if _, err := db.ExecContext(t.Context(), fmt.Sprintf(`INSERT INTO outbox (id, subject, payload, created_at) VALUES ('new of %s', 'otpost.app.demo.event.login', '', now())`, role)); err != nil {
			t.Errorf("%s may not insert: %v", role, err)
		}
		if got := otposttest.Get[string](t, b.db, "SELECT role FROM outbox WHERE id = $1", "new of "+role); got != "otpost_"+role {
			t.Errorf("what %s wrote is of %s", role, got)
		}
		b.db.Exec(t, "DELETE FROM outbox WHERE id LIKE 'new%'")
	}
}

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

func TestExpireTellsEachEndOnce(t *testing.T) {
	b := newBench(t)
	const n = 60
	for i := range n {
		b.issued(fmt.Sprint("u", i), fmt.Sprint(i))
	}
	b.clock.Advance(5*time.Minute - time.Millisecond)
	if events, err := b.challenges.Expire(t.Context(), b.clock.Now(), b.since(), n, nil); err != nil || len(events) != 0 {
		t.Errorf("a millisecond early: %d events, %v", len(events), err)
	}
	young := b.issued("young", "young")
	b.clock.Advance(time.Millisecond)
	var mu sync.Mutex
	told := map[string]int{}
	atOnce(4, func(int) {
		for range n {
			events, err := b.challenges.Expire(t.Context(), b.clock.Now(), b.since(), 7, func(e postgres.Ended) postgres.OutboxEvent {
				if e.App != "demo" || e.Session != "session" || e.Login != "login" || e.User == "" {
					t.Errorf("ended is %+v", e)
				}
				return event("expired", e.ID)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if len(events) > 7 {
				t.Errorf("%d at once, the limit is 7", len(events))
			}
			if len(events) == 0 {
				return
			}
			mu.Lock()
			for _, e := range events {
				told[e.ID]++
			}
			mu.Unlock()
		}
	})
	if len(told) != n {
		t.Errorf("%d ends were told, want %d", len(told), n)
	}
	for id, times := range told {
		if times != 1 {
			t.Errorf("%s was told %d times", id, times)
		}
	}
	b.wantState(young, otp.Open)
	if got := otposttest.Get[int](t, b.db, "SELECT count(*) FROM outbox"); got != n {
		t.Errorf("%d events in the outbox", got)
	}
	if got := otposttest.Get[int](t, b.db, "SELECT count(*) FROM deliveries WHERE state = 'expired'"); got != n {
		t.Errorf("%d deliveries were withdrawn", got)
	}
}

func TestOverdueWaitsTwiceAsLongEachTime(t *testing.T) {
	b := newBench(t)
	const grace = 20 * time.Second
	id := b.issued("u", "a", func(c *postgres.NewChallenge) { c.ExpiresAt = b.clock.Now().Add(10 * time.Minute) })
	done := b.issued("v", "b")
	b.delivery(done, 1, otp.DeliveryAccepted)
	ended := b.issued("w", "c")
	b.db.Exec(t, "UPDATE challenges SET state = 'cancelled', ended_at = now() WHERE id = $1", ended)
	overdue := func() []postgres.Overdue {
		t.Helper()
		o, err := b.challenges.Overdue(t.Context(), b.clock.Now(), grace, 100)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	for swept := 1; swept <= 4; swept++ {
		b.clock.Advance(grace << (swept - 1))
		if o := overdue(); len(o) != 0 {
			t.Errorf("at the %d. limit: %+v", swept, o)
		}
		b.clock.Advance(time.Millisecond)
		want := postgres.Overdue{Challenge: id, Number: 1, Channel: otp.SMS, Swept: swept}
		if o := overdue(); len(o) != 1 || o[0] != want {
			t.Errorf("past it: %+v, want %+v", o, want)
		}
	}
	b.clock.Advance(10 * time.Minute)
	if o := overdue(); len(o) != 0 {
		t.Errorf("of an expired challenge: %+v", o)
	}
}

func TestOverdueIsFoundByOneSweeper(t *testing.T) {
	b := newBench(t)
	const n = 40
	for i := range n {
		b.issued(fmt.Sprint("u", i), fmt.Sprint(i))
	}
	b.clock.Advance(time.Minute)
	var mu sync.Mutex
	found := map[uuid.UUID]int{}
	atOnce(4, func(int) {
		for range n {
			o, err := b.challenges.Overdue(t.Context(), b.clock.Now(), 20*time.Second, 6)
			if err != nil {
				t.Error(err)
				return
			}
			if len(o) > 6 {
				t.Errorf("%d at once, the limit is 6", len(o))
			}
			mu.Lock()
			for _, d := range o {
				found[d.Challenge]++
			}
			mu.Unlock()
		}
	})
	if len(found) != n {
		t.Errorf("%d were found, want %d", len(found), n)
	}
	for id, times := range found {
		if times != 1 {
			t.Errorf("%s was found %d times", id, times)
		}
	}
}

func TestForgetDeletesOldLogins(t *testing.T) {
	b := newBench(t)
	for i := range 5 {
		b.issued(fmt.Sprint("u", i), fmt.Sprint(i))
	}
	b.clock.Advance(time.Hour)
	b.issued("u", "young")
	for _, want := range []int{3, 2, 0} {
		if n, err := b.challenges.Forget(t.Context(), b.clock.Now(), 3); err != nil || n != want {
			t.Errorf("forgot %d, %v; want %d", n, err, want)
		}
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM logins"); n != 1 {
		t.Errorf("%d logins are left", n)
	}
}

func TestAloneLetsOneSweeperRun(t *testing.T) {
	b := newBench(t)
	other := postgres.NewChallenges(b.db.Owner())
	failed := errors.New("failed")
	ran, err := b.challenges.Alone(t.Context(), func() error {
		if ran, err := other.Alone(t.Context(), func() error { t.Error("two sweepers run"); return nil }); ran || err != nil {
			t.Errorf("the second: %v, %v", ran, err)
		}
		return failed
	})
	if !ran || !errors.Is(err, failed) {
		t.Errorf("the first: %v, %v", ran, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if ran, err := b.challenges.Alone(ctx, func() error { cancel(); return nil }); !ran || err != nil {
		t.Errorf("with a context that ends: %v, %v", ran, err)
	}
	if ran, err := other.Alone(t.Context(), func() error { return nil }); !ran || err != nil {
		t.Errorf("afterwards: %v, %v; the lock was kept", ran, err)
	}
}

func TestErrorsOfTheConnectionAreToldFromThoseOfRows(t *testing.T) {
	db := otposttest.OwnPostgres(t)
	app := db.App(t, "demo")
	apps := postgres.NewApps(db.Role("operator"))
	if _, err := apps.Create(t.Context(), app); !errors.Is(err, postgres.ErrAppTaken) {
		t.Errorf("a name taken: %v", err)
	}
	if _, err := apps.Get(t.Context(), "none"); !errors.Is(err, postgres.ErrNoApp) {
		t.Errorf("no app: %v", err)
	}
	_, err := postgres.NewApps(db.Role("sms")).List(t.Context())
	if err == nil || postgres.Unreachable(err) || postgres.Refused(err) {
		t.Errorf("permission denied counts as unreachable or refused: %v", err)
	}
	operator, cut := postgres.NewApps(db.Role("operator")), 0
	db.Stop(t)
	for range 10 { // first what is left of the pool, then what does not connect
		if _, err := operator.List(t.Context()); !postgres.Unreachable(err) || postgres.Refused(err) {
			t.Errorf("with the server away: %v", err)
		} else {
			cut++
		}
	}
	db.Start(t)
	otposttest.Eventually(t, "the store to answer again", func() bool { _, err := operator.List(t.Context()); return err == nil })
	if cut != 10 {
		t.Errorf("%d of 10 failures", cut)
	}
	if _, err := postgres.Open("host=x password=secret", 1); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a malformed URL: %v", err)
	}
}

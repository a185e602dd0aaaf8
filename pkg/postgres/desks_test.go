package postgres_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// A session of the desk lives while it is used, and never longer than it may.
func TestDeskSessionsIdleAndExpire(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	desks := postgres.NewDesks(db.Role("gateway"))
	ctx := t.Context()
	began := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	const idle = 30 * time.Minute
	use := func(cookie byte, after time.Duration) (postgres.DeskSession, error) {
		return desks.Use(ctx, began.Add(after), began.Add(after-idle), [32]byte{cookie})
	}
	for cookie := range byte(3) {
		err := desks.Create(ctx, [32]byte{cookie}, postgres.DeskSession{
			Agent: "ann", Sealed: []byte("sealed"), CreatedAt: began, ExpiresAt: began.Add(time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := use(9, 0); !errors.Is(err, postgres.ErrNoDesk) {
		t.Errorf("an unknown cookie: %v", err)
	}
	d, err := use(0, 20*time.Minute)
	if err != nil || d.Agent != "ann" || string(d.Sealed) != "sealed" || d.State != nil || !d.SeenAt.Equal(began.Add(20*time.Minute)) {
		t.Fatalf("after 20 minutes: %+v, %v", d, err)
	}
	d.State, d.Locale = []byte("state"), "cs"
	if err := desks.Save(ctx, [32]byte{0}, d); err != nil {
		t.Fatal(err)
	}
	if d, err = use(0, 45*time.Minute); err != nil || !bytes.Equal(d.State, []byte("state")) || d.Locale != "cs" {
		t.Errorf("after use it goes on: %+v, %v", d, err)
	}
	if _, err := use(1, idle); !errors.Is(err, postgres.ErrNoDesk) {
		t.Errorf("unused for half an hour: %v", err)
	}
	if _, err := use(0, time.Hour); !errors.Is(err, postgres.ErrNoDesk) {
		t.Errorf("after its whole life, though in use: %v", err)
	}
	if err := desks.Sweep(ctx, began.Add(46*time.Minute), began.Add(16*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n := otposttest.Get[int](t, db, "SELECT count(*) FROM desk_sessions"); n != 1 {
		t.Errorf("after sweeping what idles %d sessions are left", n)
	}
	if err := desks.End(ctx, [32]byte{0}); err != nil {
		t.Fatal(err)
	}
	if err := desks.Save(ctx, [32]byte{0}, d); !errors.Is(err, postgres.ErrNoDesk) {
		t.Errorf("saved after its end: %v", err)
	}
	if _, err := use(0, 46*time.Minute); !errors.Is(err, postgres.ErrNoDesk) {
		t.Errorf("used after its end: %v", err)
	}
}

package apps_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/apps"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

func newCache(t *testing.T, db *otposttest.DB) *apps.Cache {
	t.Helper()
	return apps.New(postgres.NewApps(db.Role("challenge")), otposttest.Logger(t).Logger)
}

func run(t *testing.T, c *apps.Cache) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAnAppJustCreatedIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	c := newCache(t, db) // does not run: what it finds it looks up
	if a, err := c.ByID(t.Context(), 1); !errors.Is(err, postgres.ErrNoApp) {
		t.Errorf("of no app: %+v, %v", a, err)
	}
	want := db.App(t, "demo")
	if a, err := c.ByID(t.Context(), want.ID); err != nil || a.Name != "demo" {
		t.Errorf("by its number: %+v, %v", a, err)
	}
	c = newCache(t, db)
	got, err := c.Get(t.Context(), "demo")
	if err != nil || got.ID != want.ID || got.DisplayName != want.DisplayName || fmt.Sprint(got.Policy) != fmt.Sprint(want.Policy) {
		t.Errorf("found %+v, %v; want %+v", got, err, want)
	}
	if a, err := c.ByID(t.Context(), want.ID); err != nil || a.Name != "demo" {
		t.Errorf("by its number: %+v, %v", a, err)
	}
}

func TestAnUnknownNameIsNotAskedForAgainAndAgain(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	c, clock := newCache(t, db), otposttest.NewClock()
	c.SetNow(clock.Now)
	for range 2 {
		if _, err := c.Get(t.Context(), "late"); !errors.Is(err, postgres.ErrNoApp) {
			t.Errorf("an unknown name: %v", err)
		}
	}
	db.App(t, "late")
	if _, err := c.Get(t.Context(), "late"); !errors.Is(err, postgres.ErrNoApp) {
		t.Errorf("within a second it was asked for again: %v", err)
	}
	clock.Advance(time.Second)
	if _, err := c.Get(t.Context(), "late"); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

func TestAChangeIsSeen(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	app := db.App(t, "demo")
	c := newCache(t, db)
	run(t, c)
	otposttest.Eventually(t, "the first reading", func() bool { _, err := c.ByID(t.Context(), app.ID); return err == nil })
	app.DisplayName, app.Policy.Attempts = "Changed", 3
	if err := postgres.NewApps(db.Role("operator")).Update(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	otposttest.Eventually(t, "the change", func() bool {
		a, err := c.Get(t.Context(), "demo")
		return err == nil && a.DisplayName == "Changed" && a.Policy.Attempts == 3
	})
	if err := postgres.NewApps(db.Role("operator")).Update(t.Context(), postgres.App{
		Name: "none", DisplayName: "x", Locale: "en", Policy: app.Policy,
	}); !errors.Is(err, postgres.ErrNoApp) {
		t.Errorf("update of no app: %v", err)
	}
}

func TestWhatIsKnownServesWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	db := otposttest.OwnPostgres(t)
	app := db.App(t, "demo")
	c := newCache(t, db)
	run(t, c)
	otposttest.Eventually(t, "the first reading", func() bool { _, err := c.ByID(t.Context(), app.ID); return err == nil })
	db.Stop(t)
	if _, err := c.Get(t.Context(), "demo"); err != nil {
		t.Errorf("a known app: %v", err)
	}
	if _, err := c.Get(t.Context(), "unknown"); err == nil || errors.Is(err, postgres.ErrNoApp) {
		t.Errorf("of an app that cannot be looked up it says %v", err)
	}
	if a, err := c.ByID(t.Context(), app.ID); err != nil || a.Name != "demo" {
		t.Errorf("a known number: %+v, %v", a, err)
	}
	if _, err := c.ByID(t.Context(), app.ID+1); err == nil || errors.Is(err, postgres.ErrNoApp) {
		t.Errorf("of a number that cannot be looked up it says %v", err)
	}
	db.Start(t)
	otposttest.Eventually(t, "the database to be asked again", func() bool { _, err := c.Get(t.Context(), "other"); return errors.Is(err, postgres.ErrNoApp) })
}

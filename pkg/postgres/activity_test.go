package postgres_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/postgres"
)

func TestActivityIsOneUsersSinceTheyWereNew(t *testing.T) {
	b := newBench(t)
	store := postgres.NewEnrolments(b.db.Role("enrolment"))
	alice, old, bob := uuid.New(), uuid.New(), uuid.New()
	write := func(app int, user uuid.UUID, action string) {
		t.Helper()
		b.db.Exec(t, "INSERT INTO audit (at, app_id, user_key, actor, action, detail) VALUES ($1, $2, $3, 'user', $4, '{}')", b.clock.Now(), app, user, action)
	}
	read := func(before int64, limit int, users ...uuid.UUID) (got []string, last int64) {
		t.Helper()
		err := store.View(t.Context(), b.clock.Now(), postgres.Account{AppID: b.app.ID, User: "alice"}, func(a *postgres.Act) error {
			lines, err := a.Activity(users, []string{"one", "two", "three"}, before, limit)
			for _, l := range lines {
				got, last = append(got, l.Action), l.ID
				if l.IP != uuid.Nil || l.Role != "" || l.AppID != b.app.ID {
					t.Errorf("it reads %+v", l)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return got, last
	}
	want := func(what string, got []string, words ...string) {
		t.Helper()
		if !slices.Equal(got, words) {
			t.Errorf("%s: %q, want %q", what, got, words)
		}
	}
	write(b.app.ID, old, "one") // under the key before
	write(b.app.ID, alice, "two")
	write(b.app.ID, alice, "hidden")
	write(b.app.ID, bob, "three")
	write(b.app.ID+1, alice, "three")
	write(b.app.ID, alice, "three")
	got, _ := read(0, 9, alice, old)
	want("all", got, "three", "two", "one")
	got, _ = read(0, 9, alice)
	want("under one key", got, "three", "two")
	got, last := read(0, 1, alice, old)
	want("the first page", got, "three")
	got, _ = read(last, 9, alice, old)
	want("what is older", got, "two", "one")

	write(b.app.ID, bob, "user.erased") // another's
	write(b.app.ID+1, alice, "user.erased")
	write(b.app.ID, alice, "user.erasure_skipped")
	got, _ = read(0, 9, alice, old)
	want("when others were erased", got, "three", "two", "one")
	write(b.app.ID, old, "user.erased")
	got, _ = read(0, 9, alice, old)
	want("erased", got)
	write(b.app.ID, alice, "one")
	got, _ = read(0, 9, alice, old)
	want("and back", got, "one")
	got, _ = read(last, 9, alice, old)
	want("with a mark of before", got)
}

package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// Half a factor goes with its backup codes, unless there is one that they are for still.
func TestUpkeepOfHalfFactors(t *testing.T) {
	b := newBench(t)
	now := b.clock.Now()
	day := func(n int) time.Time { return now.Add(time.Duration(n) * 24 * time.Hour) }
	factor := func(user, state string, at time.Time) {
		t.Helper()
		b.db.Exec(t, `INSERT INTO factors (id, app_id, user_id, kind, state, sealed, algorithm, digits, period, created_at)
		              VALUES ($1, $2, $3, 'totp', $4, '', 'SHA1', 6, 30, $5)`, uuid.New(), b.app.ID, user, state, at)
	}
	for _, user := range []string{"late", "younger", "active", "suspended", "young"} {
		b.db.Exec(t, "INSERT INTO accounts (app_id, user_id, touched_at) VALUES ($1, $2, now())", b.app.ID, user)
		b.db.Exec(t, `INSERT INTO backup_codes (app_id, user_id, digest, position, sealed, created_at) VALUES ($1, $2, sha256($3), 1, '', now())`,
			b.app.ID, user, []byte(user))
		if user != "young" {
			factor(user, "confirmed", day(-2))
		}
	}
	factor("younger", "confirmed", now)
	factor("active", "active", day(-2))
	factor("suspended", "suspended", day(-2))
	factor("young", "confirmed", now)
	if _, err := postgres.NewEnrolments(b.db.Role("enrolment")).Upkeep(t.Context(), now, postgres.Kept{
		Ceremonies: day(-1), Confirmed: day(-1), Removed: day(-1), Recoveries: day(-1),
	}, 100); err != nil {
		t.Fatal(err)
	}
	got := otposttest.Get[string](t, b.db, "SELECT string_agg(user_id || ' ' || state, ', ' ORDER BY user_id) FROM factors")
	if want := "active active, suspended suspended, young confirmed, younger confirmed"; got != want {
		t.Errorf("factors are left of %s, want %s", got, want)
	}
	if got := otposttest.Get[string](t, b.db, "SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM backup_codes"); got != "active suspended young younger" {
		t.Errorf("backup codes are left of %s", got)
	}
}

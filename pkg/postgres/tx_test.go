package postgres_test

import (
	"errors"
	"testing"

	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// deadlocks makes the database end the first n transactions that store a login, as it does for a deadlock. A sequence counts: no rollback takes it back.
func (b *bench) deadlocks(n int) {
	b.Helper()
	b.db.Exec(b.T, "CREATE SEQUENCE runs")
	b.db.Exec(b.T, "CREATE TABLE deadlocks AS SELECT $1::integer AS n", n)
	b.db.Exec(b.T, `CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN
			IF nextval('public.runs') <= (SELECT n FROM public.deadlocks) THEN
				RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01';
			END IF;
			RETURN NULL;
		END $$`)
	b.db.Exec(b.T, "CREATE TRIGGER deadlock AFTER INSERT ON logins FOR EACH STATEMENT EXECUTE FUNCTION deadlock()")
}

func TestATransactionRunsAgainAfterADeadlock(t *testing.T) {
	for deadlocks, runs := range map[int]int{0: 1, 1: 2, 2: 3, 3: 3} {
		t.Run(string(rune('0'+deadlocks)), func(t *testing.T) {
			b := newBench(t)
			b.deadlocks(deadlocks)
			decided := 0
			out, events, err := b.challenges.Admit(t.Context(), b.clock.Now(), []postgres.Admission{b.login("u", "a"), b.login("u", "a")},
				func(i int, u postgres.UserState) postgres.Decision {
					decided++
					return b.issue(i, u)
				}, telling(func(_ int, a postgres.Admitted) []postgres.OutboxEvent {
					return []postgres.OutboxEvent{event("x", a.ID)}
				}))
			if decided != runs {
				t.Errorf("it ran %d times, want %d", decided, runs)
			}
			stored := otposttest.Get[int](t, b.db, "SELECT count(*) FROM challenges")
			if deadlocks == 3 {
				if e, ok := errors.AsType[*pq.Error](err); !ok || e.Code != "40P01" || postgres.Refused(err) || stored != 0 {
					t.Errorf("after the last run: %v, with %d challenges", err, stored)
				}
				return
			}
			if err != nil || stored != 1 || len(events) != 1 || out[0].Repeat || !out[1].Repeat {
				t.Errorf("%v, %d challenges, %d events: %+v", err, stored, len(events), out)
			}
		})
	}
}

func TestRefusedIsOfRowsOnly(t *testing.T) {
	for _, c := range []struct {
		err  pq.Error
		want bool
	}{
		{pq.Error{Code: "23514", Constraint: "challenges_nonce_length"}, true},
		{pq.Error{Code: "23502", Column: "user_id"}, true},
		{pq.Error{Code: "23514", Table: "challenges"}, false}, // no partition of relation "challenges" found for row
		{pq.Error{Code: "22021"}, true},
		{pq.Error{Code: "40P01"}, false},
		{pq.Error{Code: "42501", Constraint: "challenges_verdict_of_role"}, false},
	} {
		if got := postgres.Refused(&c.err); got != c.want {
			t.Errorf("%+v counts as refused: %t", c.err, got)
		}
	}
}

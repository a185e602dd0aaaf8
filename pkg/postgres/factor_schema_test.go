package postgres_test

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/pressly/goose/v3"

	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/schemas/migrations"
)

// A person is a user with a row in every table that knows people, made as the owner.
type person struct {
	app                                      int
	user                                     string
	factor, message, ceremony, reset, device uuid.UUID
	challenge                                uuid.UUID
}

// people fills every table for a user. The challenge is the bench's own.
func people(b *bench, user string) person {
	b.Helper()
	p := person{user: user, challenge: b.issued(user, user), app: otposttest.Get[int](b, b.db, "SELECT id FROM apps")}
	for _, id := range []*uuid.UUID{&p.factor, &p.message, &p.ceremony, &p.reset, &p.device} {
		*id = uuid.Must(uuid.NewV7())
	}
	run := func(statement string, args ...any) {
		b.Helper()
		b.db.Exec(b, statement, append([]any{p.app, user}, args...)...)
	}
	run("INSERT INTO users (app_id, user_id, activated_at, created_at) VALUES ($1, $2, now(), now()) ON CONFLICT DO NOTHING")
	run(`INSERT INTO factors (id, app_id, user_id, kind, state, sealed, algorithm, digits, period, created_at)
	     VALUES ($3, $1, $2, 'totp', 'active', '', 'SHA1', 6, 30, now())`, p.factor)
	run(`INSERT INTO ceremonies (id, app_id, user_id, session, kind, max_attempts, created_at, expires_at)
	     VALUES ($3, $1, $2, 's', 'sms', 5, now(), now() + interval '10 min')`, p.ceremony)
	run("INSERT INTO backup_codes (app_id, user_id, digest, position, sealed, created_at) VALUES ($1, $2, sha256($3), 1, '', now())", []byte(user))
	run(`INSERT INTO devices (id, app_id, user_id, session, epoch, created_at, expires_at) VALUES ($3, $1, $2, 's', 0, now(), now() + interval '30 days')`, p.device)
	b.db.Exec(b, "INSERT INTO device_tokens (digest, device_id, issued_at) VALUES (sha256($1), $2, now())", []byte("token of "+user), p.device)
	run("INSERT INTO contacts (id, app_id, user_id, kind, sealed, mask, confirmed_at) VALUES (gen_random_uuid(), $1, $2, 'email', '', '', now())")
	run(`INSERT INTO recoveries (id, app_id, user_id, session, state, max_attempts, nonce, key_id, created_at, expires_at)
	     VALUES ($3, $1, $2, 's', 'proving', 5, '', 1, now(), now() + interval '1 day')`, p.reset)
	b.db.Exec(b, "INSERT INTO recovery_codes (id, recovery_id, method, mask, next_send_at, expires_at) VALUES (gen_random_uuid(), $1, 'email', '', now(), now())", p.reset)
	run(`INSERT INTO messages (id, app_id, user_id, channel, purpose, sealed, mask, code_id, nonce, key_id, digits, created_at, expires_at)
	     VALUES ($3, $1, $2, 'letter', 'recovery', '', '', gen_random_uuid(), '', 1, 8, now(), now() + interval '21 days')`, p.message)
	b.db.Exec(b, `INSERT INTO deliveries (challenge_id, attempt, channel, purpose, mask, created_at, updated_at) VALUES ($1, 1, 'letter', 'enrolment', '', now(), now())`, p.message)
	run("INSERT INTO notices (id, app_id, user_id, notice, at) VALUES (gen_random_uuid(), $1, $2, 'factor_added', now())")
	b.db.Exec(b, "INSERT INTO webauthn_sessions (challenge_id, data, expires_at) VALUES ($1, '', now())", p.challenge)
	b.db.Exec(b, "INSERT INTO used_proofs (challenge_id, used_at) VALUES ($1, now())", p.challenge)
	return p
}

// refusedBy reports whether an error is the refusal of a role by the rule of that name.
func refusedBy(err error, rule string) bool {
	e, ok := errors.AsType[*pq.Error](err)
	return ok && e.Code == "42501" && e.Constraint == rule && !postgres.Refused(err)
}

// affected runs a statement as a role and returns how many rows it touched.
func affected(t *testing.T, db *sql.DB, statement string, args ...any) int64 {
	t.Helper()
	r, err := db.ExecContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNobodyChangesTheAudit(t *testing.T) {
	b := newBench(t)
	insert := "INSERT INTO audit (at, app_id, user_key, actor, action, detail) VALUES (now(), 1, gen_random_uuid(), 'user', 'factor.added', '{}')"
	writers := []string{"enrolment", "verification", "challenge", "operator"}
	for _, role := range writers {
		if affected(t, b.db.SQL(role), insert) != 1 {
			t.Errorf("%s cannot write", role)
		}
		if got := otposttest.Get[string](t, b.db, "SELECT role FROM audit ORDER BY id DESC LIMIT 1"); got != postgres.Roles[role] {
			t.Errorf("what %s has written says %s", role, got)
		}
	}
	for _, statement := range []string{"UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit", "UPDATE audit SET actor = 'x' WHERE false"} {
		for role := range postgres.Roles {
			if _, err := b.db.SQL(role).ExecContext(t.Context(), statement); err == nil {
				t.Errorf("%s may %s", role, statement)
			}
		}
		_, err := b.db.SQL(otposttest.Owner).ExecContext(t.Context(), statement)
		if !refusedBy(err, "audit_append_only") {
			t.Errorf("the owner may %s: %v", statement, err)
		}
	}
	var n int
	if err := b.db.SQL("operator").QueryRowContext(t.Context(), "SELECT count(*) FROM audit").Scan(&n); err != nil || n != len(writers) {
		t.Errorf("the operator reads %d lines, %v; want %d", n, err, len(writers))
	}
	if _, err := b.db.SQL(otposttest.Owner).ExecContext(t.Context(), "INSERT INTO audit (at, app_id, user_key, actor, action, detail) VALUES (now(), 1, gen_random_uuid(), 'u', 'a', '[]')"); postgres.Constraint(err) != "audit_detail_object" {
		t.Errorf("a detail that is no object: %v", err)
	}
}

// Who breaks into the verification worker can take a factor out of use, and bring none into it.
func TestTheVerificationRoleOnlySuspends(t *testing.T) {
	b := newBench(t)
	p := people(b, "u")
	verification := b.db.SQL("verification")
	states := []string{"confirmed", "active", "suspended", "removed"}
	for _, from := range states {
		for _, to := range states {
			id := uuid.New()
			b.db.Exec(t, `INSERT INTO factors (id, app_id, user_id, kind, state, sealed, created_at, removed_at)
			              VALUES ($1, $2, 'v', 'sms', $3, '', now(), CASE WHEN $3 = 'removed' THEN now() END)`, id, p.app, from)
			_, err := verification.ExecContext(t.Context(), "UPDATE factors SET state = $2 WHERE id = $1", id, to)
			refused := refusedBy(err, "factors_state_of_role") || from == "removed" && postgres.Constraint(err) == "factors_end_once"
			if may := from == "active" && to == "suspended"; may != (err == nil) || !may && !refused {
				t.Errorf("it made one that is %s %s: %v", from, to, err)
			}
		}
	}
	if affected(t, verification, "UPDATE factors SET last_step = 7, last_used_at = now(), sign_count = 3 WHERE id = $1", p.factor) != 1 {
		t.Error("it cannot note a use")
	}
}

func TestWhatHasEndedStaysEnded(t *testing.T) {
	b := newBench(t)
	p := people(b, "u")
	owner := b.db.SQL(otposttest.Owner)
	b.db.Exec(t, "UPDATE factors SET state = 'removed', removed_at = now() WHERE id = $1", p.factor)
	b.db.Exec(t, "UPDATE ceremonies SET state = 'confirmed', ended_at = now() WHERE id = $1", p.ceremony)
	b.db.Exec(t, "UPDATE recoveries SET state = 'cancelled', ended_at = now() WHERE id = $1", p.reset)
	b.db.Exec(t, "UPDATE users SET epoch = 5")
	for rule, statement := range map[string]string{
		"factors_end_once":    "UPDATE factors SET state = 'active', removed_at = NULL",
		"ceremonies_end_once": "UPDATE ceremonies SET state = 'open', ended_at = NULL",
		"recoveries_end_once": "UPDATE recoveries SET state = 'proving', ended_at = NULL",
		"users_epoch_rises":   "UPDATE users SET epoch = 4",
	} {
		if _, err := owner.ExecContext(t.Context(), statement); postgres.Constraint(err) != rule || !postgres.Refused(err) {
			t.Errorf("%s: refused by %v, want %s", statement, err, rule)
		}
	}
	b.db.Exec(t, "UPDATE users SET epoch = epoch") // the same is no fall
}

// Each row breaks one constraint of what the life of factors is kept in.
func TestConstraintsRefuseBadRowsOfFactors(t *testing.T) {
	b := newBench(t)
	people(b, "u")
	owner := b.db.SQL(otposttest.Owner)
	for _, c := range []struct{ constraint, statement string }{
		{"users_epoch_bounds", "INSERT INTO users (app_id, user_id, epoch, created_at) VALUES (1, 'x', -1, now())"},
		{"users_fallbacks_known", "UPDATE users SET fallbacks = '{fax}'"},
		{"users_country_form", "UPDATE users SET country = 'us'"},
		{"ceremonies_kind_known", "UPDATE ceremonies SET kind = 'fax'"},
		{"ceremonies_state_known", "UPDATE ceremonies SET state = 'lost', ended_at = now()"},
		{"ceremonies_attempts_bound", "UPDATE ceremonies SET attempts = max_attempts + 1"},
		{"ceremonies_life_bound", "UPDATE ceremonies SET expires_at = created_at + interval '31 min'"},
		{"ceremonies_end_has_time", "UPDATE ceremonies SET state = 'confirmed'"},
		{"hardware_tokens_kind_known", "INSERT INTO hardware_tokens (id, app_id, kind, serial, sealed, imported_at) SELECT gen_random_uuid(), id, 'sms', '1', '', now() FROM apps"},
		{"hardware_tokens_counter_bounds", "INSERT INTO hardware_tokens (id, app_id, kind, serial, sealed, counter, imported_at) SELECT gen_random_uuid(), id, 'hotp', '1', '', -2, now() FROM apps"},
		{"hardware_tokens_assigned_whole", "INSERT INTO hardware_tokens (id, app_id, kind, serial, sealed, factor_id, imported_at) SELECT gen_random_uuid(), id, 'hotp', '1', '', gen_random_uuid(), now() FROM apps"},
		{"hardware_tokens_factor_once", "INSERT INTO hardware_tokens (id, app_id, kind, serial, sealed, factor_id, assigned_at, imported_at) " +
			"SELECT gen_random_uuid(), apps.id, 'hotp', s, '', factors.id, now(), now() FROM apps, factors, unnest('{1,2}'::text[]) AS s"},
		{"backup_codes_digest_length", "UPDATE backup_codes SET digest = 'short'"},
		{"backup_codes_position", "INSERT INTO backup_codes SELECT app_id, user_id, sha256(digest), position, sealed, NULL, created_at FROM backup_codes"},
		{"devices_life_bound", "UPDATE devices SET expires_at = created_at + interval '91 days'"},
		{"devices_revoked_has_reason", "UPDATE devices SET revoked_at = now()"},
		{"device_tokens_digest_length", "UPDATE device_tokens SET digest = 'short'"},
		{"contacts_kind_known", "UPDATE contacts SET kind = 'fax'"},
		{"contacts_one_of_kind", "INSERT INTO contacts SELECT gen_random_uuid(), app_id, user_id, kind, sealed, mask, country, region, confirmed_at FROM contacts"},
		{"recoveries_one_open", "INSERT INTO recoveries (id, app_id, user_id, session, state, max_attempts, nonce, key_id, created_at, expires_at) " +
			"SELECT gen_random_uuid(), app_id, user_id, 't', 'approval', 5, '', 1, now(), now() FROM recoveries"},
		{"recoveries_state_known", "UPDATE recoveries SET state = 'lost', ended_at = now()"},
		{"recoveries_end_has_time", "UPDATE recoveries SET state = 'cancelled'"},
		{"recoveries_waiting_has_time", "UPDATE recoveries SET state = 'waiting', proofs = '{email,phone}'"},
		{"recoveries_two_proofs", "UPDATE recoveries SET state = 'waiting', effective_at = now(), proofs = '{email}'"},
		{"recoveries_two_proofs", "UPDATE recoveries SET state = 'waiting', effective_at = now(), proofs = '{email,email}'"},
		{"recoveries_two_proofs", "UPDATE recoveries SET state = 'waiting', effective_at = now(), proofs = '{passphrase,backup_code}'"},
		{"recoveries_second_agent", "UPDATE recoveries SET begun_by = 'ann', approved_by = 'ann'"},
		{"recoveries_attempts_bound", "UPDATE recoveries SET attempts = max_attempts + 1"},
		{"recoveries_proofs_known", "UPDATE recoveries SET proofs = '{totp}'"},
		{"recovery_codes_method_known", "UPDATE recovery_codes SET method = 'fax'"},
		{"recovery_codes_once", "INSERT INTO recovery_codes (id, recovery_id, method, mask, next_send_at, expires_at) SELECT gen_random_uuid(), recovery_id, method, '', now(), now() FROM recovery_codes"},
		{"messages_channel_known", "UPDATE messages SET channel = 'fax'"},
		{"messages_purpose_known", "UPDATE messages SET purpose = 'advertising'"},
		{"messages_code_whole", "UPDATE messages SET nonce = NULL"},
		{"messages_say_something", "UPDATE messages SET notice = '{}'"},
	} {
		_, err := owner.ExecContext(t.Context(), c.statement)
		if got := postgres.Constraint(err); got != c.constraint || !postgres.Refused(err) {
			t.Errorf("%s: refused by %q (%v), want %s", c.statement, got, err, c.constraint)
		}
	}
}

// The deliveries of challenges and of enrolment are apart; the channels' workers, who send both, see both, and enrolment what is queued of challenges.
func TestEachPurposeHasItsOwnDeliveries(t *testing.T) {
	b := newBench(t)
	p := people(b, "u")
	for role, want := range map[string][2]int64{ // rows of challenges, rows of enrolment
		"challenge": {1, 0}, "enrolment": {1, 1}, "sms": {1, 0}, "letter": {0, 1}, "email": {0, 0}, "verification": {1, 0},
	} {
		db := b.db.SQL(role)
		for i, id := range []uuid.UUID{p.challenge, p.message} {
			var n int64
			if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM deliveries WHERE challenge_id = $1", id).Scan(&n); err != nil || n != want[i] {
				t.Errorf("%s sees %d of delivery %d, %v; want %d", role, n, i, err, want[i])
			}
			set := "state = 'failed'"
			if role == "verification" || role == "enrolment" && i == 0 { // they withdraw what is queued, and see no more
				set = "state = 'expired'"
			}
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			r, err := tx.ExecContext(t.Context(), "UPDATE deliveries SET "+set+" WHERE challenge_id = $1", id)
			if err != nil {
				t.Fatalf("%s: %v", role, err)
			}
			if n, _ := r.RowsAffected(); n != want[i] {
				t.Errorf("%s changes %d of delivery %d, want %d", role, n, i, want[i])
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
		}
	}
	insert := "INSERT INTO deliveries (challenge_id, attempt, channel, purpose, mask, created_at, updated_at) VALUES ($1, 2, 'sms', $2, '', now(), now())"
	for role, own := range map[string]string{"challenge": "challenge", "enrolment": "enrolment"} {
		for _, purpose := range []string{"challenge", "enrolment"} {
			_, err := b.db.SQL(role).ExecContext(t.Context(), insert, uuid.Must(uuid.NewV7()), purpose)
			if (err == nil) != (purpose == own) {
				t.Errorf("%s makes a delivery of a %s: %v", role, purpose, err)
			}
		}
	}
}

func TestErasureLeavesNoRowOfAPerson(t *testing.T) {
	b := newBench(t)
	people(b, "u")
	people(b, "v")
	tables := []string{
		"accounts", "users", "factors", "ceremonies", "backup_codes", "devices", "device_tokens", "contacts", "recoveries", "recovery_codes", "messages",
		"notices", "challenges", "webauthn_sessions", "used_proofs",
	}
	count := func(table string) int { return otposttest.Get[int](t, b.db, "SELECT count(*) FROM "+table) }
	for _, table := range tables {
		if n := count(table); n != 2 {
			t.Fatalf("%s has %d rows to begin with, want one of each", table, n)
		}
	}
	app := otposttest.Get[int](t, b.db, "SELECT id FROM apps")
	if _, err := b.db.SQL("enrolment").ExecContext(t.Context(), "SELECT otpost_erase_user($1, 'u')", app); err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if n := count(table); n != 1 {
			t.Errorf("%s has %d rows left, want those of the other", table, n)
		}
	}
	if n := count("deliveries"); n != 2 {
		t.Errorf("%d deliveries are left, want the other's two", n)
	}
	if n := count("accounts WHERE user_id = 'v'"); n != 1 {
		t.Error("the wrong one is gone")
	}
}

// Down brings back what the version before knows, and nothing that it would stumble over; up again makes all of it anew.
func TestTheMigrationOfFactorsGoesDownAndUpAgain(t *testing.T) {
	b := newBench(t)
	p := people(b, "u")
	b.db.Exec(t, "INSERT INTO factors (id, app_id, user_id, kind, state, sealed, public_id, created_at) VALUES (gen_random_uuid(), $1, 'w', 'yubikey', 'active', '', 'cc', $2)",
		p.app, time.Now())
	b.db.Exec(t, "UPDATE apps SET channels = '{webauthn,sms}'")
	provider, err := goose.NewProvider(goose.DialectPostgres, b.db.SQL(otposttest.Owner), migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.DownTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := b.db.Owner().Migrated(t.Context()); err == nil {
		t.Error("the older form passes for this version's")
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM factors"); n != 1 {
		t.Errorf("%d factors are left, want the one that the version before knows", n)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM deliveries"); n != 1 {
		t.Errorf("%d deliveries are left, want the challenge's", n)
	}
	for role, may := range map[string]bool{"challenge": true, "operator": true} {
		var n int
		if err := b.db.SQL(role).QueryRowContext(t.Context(), "SELECT count(*) FROM deliveries").Scan(&n); (err == nil && n == 1) != may {
			t.Errorf("%s sees %d deliveries, %v", role, n, err)
		}
	}
	if _, err := b.db.SQL("verification").ExecContext(t.Context(), "UPDATE factors SET state = 'active'"); err == nil {
		t.Error("the verification worker may still change a factor's state")
	}
	if _, err := provider.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.db.Owner().Migrated(t.Context()); err != nil {
		t.Error(err)
	}
	// Who had a factor before this version needs no ceremony for it.
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM users WHERE user_id = 'u' AND activated_at IS NOT NULL"); n != 1 {
		t.Errorf("%d users are activated, want who has a factor", n)
	}
	people(b, "x")
}

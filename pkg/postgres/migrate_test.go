package postgres_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

func TestMigratingTwiceDoesNothing(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	steps, err := db.Owner().Migrate(t.Context())
	if err != nil || len(steps) != 0 {
		t.Errorf("the second migration took %v, %v", steps, err)
	}
	if err := db.Owner().Migrated(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMigratingAtOnceTakesEachStepOnce(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	db.Exec(t, "DROP SCHEMA public CASCADE")
	db.Exec(t, "CREATE SCHEMA public")
	wantError(t, db.Owner().Migrated(t.Context()), "run otpost migrate")
	var steps atomic.Int64
	atOnce(2, func(int) {
		done, err := db.Owner().Migrate(t.Context())
		if err != nil {
			t.Error(err)
		}
		steps.Add(int64(len(done)))
	})
	if want := otposttest.Get[int64](t, db, "SELECT count(*) FROM goose_db_version WHERE version_id > 0"); steps.Load() != want || want == 0 {
		t.Errorf("%d steps were taken, want %d", steps.Load(), want)
	}
}

func TestPasswordsAreQuoted(t *testing.T) {
	db := otposttest.OwnPostgres(t)
	if err := db.Owner().SetPassword(t.Context(), "sms", `'; DROP TABLE apps; --`); err != nil {
		t.Fatal(err)
	}
	if n := otposttest.Get[int](t, db, "SELECT count(*) FROM apps"); n != 0 {
		t.Errorf("%d apps", n)
	}
	if err := db.Role("sms").Ping(t.Context()); err == nil {
		t.Error("the old password still works")
	}
	wantError(t, db.Owner().SetPassword(t.Context(), "nobody", "x"), "no role")
	err := db.Role("challenge").SetPassword(t.Context(), "sms", "stolen password")
	wantError(t, err, "refused")
}

// Each row breaks one constraint of an otherwise good row.
func TestConstraintsRefuseBadRows(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "good")
	for _, c := range []struct{ constraint, statement string }{
		{"destinations_kind_known", "INSERT INTO destinations (app_id, digest, kind, address, mask, created_at) SELECT id, gen_random_uuid(), 'other', 'phone', '', now() FROM apps"},
		{"destinations_address_known", "INSERT INTO destinations (app_id, digest, kind, address, mask, created_at) SELECT id, gen_random_uuid(), 'safe', 'letter', '', now() FROM apps"},
		{"destinations_code_of_test", "INSERT INTO destinations (app_id, digest, kind, address, mask, created_at) SELECT id, gen_random_uuid(), 'test', 'phone', '', now() FROM apps"},
		{"destinations_digest_whole", "INSERT INTO destinations (app_id, digest, kind, address, mask, code_digest, created_at) SELECT id, gen_random_uuid(), 'test', 'phone', '', 'short', now() FROM apps"},
		{"limits_counts_whole", "INSERT INTO limits (key, day, day_n) VALUES (gen_random_uuid(), 0, -1)"},
		{"challenges_test_code_whole", "UPDATE challenges SET test = true"},
		{"challenges_test_code_whole", "UPDATE challenges SET test = true, test_code = 'short'"},
		{"challenges_android_hash_form", "UPDATE challenges SET android_hash = 'FA+9qCX9VS'"},
		{"apps_name_form", "UPDATE apps SET name = 'Shop'"},
		{"apps_name_form", "UPDATE apps SET name = repeat('a', 65)"},
		{"apps_name_taken", "INSERT INTO apps OVERRIDING SYSTEM VALUE SELECT -1, a.name, a.display_name, a.origin, a.locale, a.digits, a.life_seconds, a.attempts, a.sends, a.cooldown_seconds, a.open_challenges, a.totp_skew, a.channels, a.no_factor FROM apps a"},
		{"apps_display_name_length", "UPDATE apps SET display_name = ''"},
		{"apps_origin_form", "UPDATE apps SET origin = 'https://shop.example/path'"},
		{"apps_digits_bounds", "UPDATE apps SET digits = 3"},
		{"apps_digits_bounds", "UPDATE apps SET digits = 11"},
		{"apps_life_bounds", "UPDATE apps SET life_seconds = 601"},
		{"apps_attempts_bounds", "UPDATE apps SET attempts = 11"},
		{"apps_sends_bounds", "UPDATE apps SET sends = 0"},
		{"apps_cooldown_bounds", "UPDATE apps SET cooldown_seconds = 9"},
		{"apps_open_bounds", "UPDATE apps SET open_challenges = 0"},
		{"apps_totp_skew_bounds", "UPDATE apps SET totp_skew = 3"},
		{"apps_channels_known", "UPDATE apps SET channels = '{}'"},
		{"apps_channels_known", "UPDATE apps SET channels = '{fax}'"},
		{"apps_no_factor_known", "UPDATE apps SET no_factor = 'shrug'"},
		{"accounts_failures_bounds", "UPDATE accounts SET failures = 101"},
		{"accounts_failures_bounds", "UPDATE accounts SET failures = -1"},
		{"factors_kind_known", factorRow("kind = 'fax'")},
		{"factors_state_known", factorRow("state = 'lost'")},
		{"factors_totp_complete", factorRow("algorithm = NULL")},
		{"factors_totp_complete", factorRow("algorithm = 'MD5'")},
		{"factors_totp_complete", factorRow("digits = NULL")},
		{"factors_totp_complete", factorRow("period = NULL")},
		{"factors_totp_complete", factorRow("period = 45")},
		{"logins_outcome_known", "UPDATE logins SET outcome = 'lost'"},
		{"logins_once", "INSERT INTO logins SELECT * FROM logins"},
		{"apps_channels_known", "UPDATE apps SET channels = '{sms,backup_code}'"},
		{"apps_factor_policy_object", "UPDATE apps SET factor_policy = '[]'"},
		{"factors_removed_has_time", factorRow("state = 'removed'")},
		{"factors_hotp_complete", factorRow("kind = 'hotp'", "algorithm = 'MD5'")},
		{"factors_key_complete", factorRow("kind = 'webauthn'")},
		{"factors_yubikey_complete", factorRow("kind = 'yubikey'")},
		{"challenges_nonce_length", "UPDATE challenges SET nonce = 'short'"},
		{"challenges_factor_known", "UPDATE challenges SET factor = 'fax'"},
		{"challenges_state_known", "UPDATE challenges SET state = 'lost', ended_at = now()"},
		{"challenges_attempts_bound", "UPDATE challenges SET attempts = max_attempts + 1"},
		{"challenges_attempts_bound", "UPDATE challenges SET attempts = -1"},
		{"challenges_sends_bound", "UPDATE challenges SET sends = max_sends + 1"},
		{"challenges_life_bound", "UPDATE challenges SET expires_at = created_at"},
		{"challenges_life_bound", "UPDATE challenges SET expires_at = created_at + interval '601 s'"},
		{"challenges_end_has_time", "UPDATE challenges SET state = 'verified'"},
		{"challenges_end_has_time", "UPDATE challenges SET ended_at = now()"},
		{"challenges_transaction_whole", "UPDATE challenges SET amount = '1 EUR'"},
		{"deliveries_purpose_known", "UPDATE deliveries SET purpose = 'advertising'"},
		{"deliveries_channel_known", "UPDATE deliveries SET channel = 'fax'"},
		{"deliveries_state_known", "UPDATE deliveries SET state = 'lost'"},
		{"deliveries_attempt_bound", "UPDATE deliveries SET attempt = 0"},
		{"deliveries_attempt_bound", "UPDATE deliveries SET attempt = 61"},
		{"deliveries_cause_known", "UPDATE deliveries SET cause = 'whim'"},
		{"deliveries_class_known", "UPDATE deliveries SET class = 'bad'"},
		{"challenges_channel_known", "UPDATE challenges SET channel = 'letter'"},
		{"challenges_android_hash_form", "UPDATE challenges SET android_hash = 'short'"},
		{"challenges_test_code_whole", "UPDATE challenges SET test = true"},
		{"apps_delivery_policy_object", "UPDATE apps SET delivery_policy = '[]'"},
		{"providers_channel_known", providerRow("fax", "p", "{}")},
		{"providers_name_form", providerRow("sms", "Twilio EU", "{}")},
		{"providers_costs_prices", providerRow("sms", "p", "[]")},
		{"routes_channel_known", routeRow("channel = 'letter'")},
		{"routes_country_form", routeRow("country = 'us'")},
		{"routes_policy_known", routeRow("policy = 'best'")},
		{"routes_providers_some", routeRow("providers = '{}'")},
		{"routes_weights_whole", routeRow("weights = '{1,2}'")},
		{"routes_timeout_bounds", routeRow("receipt_timeout = 4")},
		{"routes_timeout_bounds", routeRow("receipt_timeout = 301")},
		{"stray_receipts_why_known", "INSERT INTO stray_receipts (at, why, provider, state, digest) VALUES (now(), 'odd', 'p', 'delivered', '')"},
		{"deliveries_unsure_once", "UPDATE deliveries SET unsure = 2"},
		{"deliveries_claim_has_time", "UPDATE deliveries SET state = 'sending'"},
		{"outbox_subject_of_app", outboxRow("otpost.login.demo")},
		{"outbox_subject_of_app", outboxRow("otpost.app.demo.cmd.verify")},
		{"outbox_subject_of_app", outboxRow("otpost.app.*.event.login")},
		{"outbox_subject_of_app", outboxRow("otpost.app.demo.event.login.>")},
		{"outbox_subject_of_app", outboxRow("x.otpost.app.demo.event.login")},
	} {
		_, err := b.db.SQL(otposttest.Owner).ExecContext(b.Context(), c.statement)
		if got := postgres.Constraint(err); got != c.constraint {
			b.Errorf("%s: refused by %q (%v), want %s", c.statement, got, err, c.constraint)
		}
		if err != nil && !postgres.Refused(err) {
			b.Errorf("%s: %v does not count as refused", c.statement, err)
		}
	}
	b.wantState(id, otp.Open)
}

// outboxRow inserts an event under a subject.
func outboxRow(subject string) string {
	return "INSERT INTO outbox (id, subject, payload, created_at) VALUES ('e', '" + subject + "', '', now())"
}

// providerRow inserts a provider.
func providerRow(channel, name, costs string) string {
	return "INSERT INTO providers (channel, name, kind, position, receipts, costs, seen_at) VALUES ('" + channel + "', '" + name + "', 'twilio', 0, true, '" +
		costs + "', now())"
}

// routeRow inserts a good route with one column changed.
func routeRow(change string) string {
	columns := map[string]string{"channel": "'sms'", "country": "'US'", "policy": "'order'", "providers": "'{p}'", "weights": "NULL", "receipt_timeout": "5"}
	name, value, _ := strings.Cut(change, " = ")
	columns[name] = value
	return "INSERT INTO routes (app_id, channel, country, policy, providers, weights, receipt_timeout, updated_at) VALUES (0, " + columns["channel"] + ", " +
		columns["country"] + ", " + columns["policy"] + ", " + columns["providers"] + ", " + columns["weights"] + ", " + columns["receipt_timeout"] + ", now())"
}

// factorRow inserts a good TOTP factor with some columns changed.
func factorRow(changes ...string) string {
	columns := map[string]string{"kind": "'totp'", "state": "'active'", "algorithm": "'SHA1'", "digits": "6", "period": "30"}
	for _, change := range changes {
		name, value, _ := strings.Cut(change, " = ")
		columns[name] = value
	}
	return "INSERT INTO factors (id, app_id, user_id, kind, state, sealed, algorithm, digits, period, created_at) SELECT gen_random_uuid(), id, 'u', " +
		columns["kind"] + ", " + columns["state"] + ", ''::bytea, " + columns["algorithm"] + ", " + columns["digits"] + ", " + columns["period"] + ", now() FROM apps"
}

func TestAChallengeEndsOnce(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a")
	owner := b.db.SQL(otposttest.Owner)
	b.db.Exec(t, "UPDATE challenges SET state = 'cancelled', ended_at = now() WHERE id = $1", id)
	for _, state := range []string{"verified", "open", "expired"} {
		_, err := owner.ExecContext(t.Context(), "UPDATE challenges SET state = $2, ended_at = CASE WHEN $2 = 'open' THEN NULL ELSE now() END WHERE id = $1", id, state)
		if postgres.Constraint(err) != "challenges_end_once" || !postgres.Refused(err) {
			t.Errorf("cancelled became %s: %v", state, err)
		}
	}
	b.db.Exec(t, "UPDATE challenges SET state = 'cancelled' WHERE id = $1", id) // the same end again is none
	b.wantState(id, otp.Cancelled)
}

func TestPartitionsAreMadeOnce(t *testing.T) {
	b := newBench(t)
	later := b.clock.Now().AddDate(0, 0, 100)
	const ahead = 3
	var made atomic.Int64
	atOnce(2, func(int) {
		n, err := b.challenges.EnsurePartitions(t.Context(), later, ahead)
		if err != nil {
			t.Error(err)
		}
		made.Add(int64(n))
	})
	if want := int64(2 * (ahead + 2)); made.Load() != want {
		t.Errorf("%d partitions were made, want %d: two tables from yesterday to %d days ahead", made.Load(), want, ahead)
	}
	for _, day := range []int{-1, 0, ahead} {
		name := "challenges_" + later.AddDate(0, 0, day).Format("20060102")
		if !otposttest.Get[bool](t, b.db, "SELECT to_regclass($1) IS NOT NULL", name) {
			t.Errorf("there is no partition %s", name)
		}
	}
}

func TestIDsLandInThePartitionOfTheirDay(t *testing.T) {
	b := newBench(t)
	midnight := b.clock.Now().Truncate(24*time.Hour).AddDate(0, 0, 1)
	for i, at := range []time.Time{midnight.Add(-time.Millisecond), midnight, midnight.Add(24*time.Hour - time.Millisecond)} {
		b.clock.Set(at)
		user := string(rune('a' + i))
		id := b.issued(user, user)
		for _, table := range []string{"challenges", "deliveries"} {
			column := map[string]string{"challenges": "id", "deliveries": "challenge_id"}[table]
			got := otposttest.Get[string](t, b.db, "SELECT tableoid::regclass::text FROM "+table+" WHERE "+column+" = $1", id)
			if want := table + "_" + at.Format("20060102"); got != want {
				t.Errorf("of %s the row lies in %s, want %s", at, got, want)
			}
		}
	}
	// the highest and lowest random bits of the boundary's instants
	low, high := otp.ChallengeID(midnight, [32]byte{}), otp.ChallengeID(midnight.Add(-time.Millisecond), [32]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255})
	floor := otposttest.Get[uuid.UUID](t, b.db, "SELECT otpost_uuid_floor($1)", midnight)
	if low.String() < floor.String() || high.String() >= floor.String() {
		t.Errorf("the floor %s does not part %s from %s", floor, high, low)
	}
}

func TestOnlyWholePastPartitionsAreDropped(t *testing.T) {
	b := newBench(t)
	today := b.clock.Now().Truncate(24 * time.Hour)
	if _, err := b.challenges.EnsurePartitions(t.Context(), today.AddDate(0, 0, -3), 1); err != nil { // days -4 to -2
		t.Fatal(err)
	}
	exists := func(day int) bool {
		return otposttest.Get[bool](t, b.db, "SELECT to_regclass($1) IS NOT NULL", "deliveries_"+today.AddDate(0, 0, day).Format("20060102"))
	}
	drop := func(before time.Time) (n int) { // until nothing is left to drop, one each time
		t.Helper()
		for {
			one, err := b.challenges.DropPartition(t.Context(), before)
			if err != nil || one > 1 {
				t.Fatalf("dropped %d, %v", one, err)
			}
			if one == 0 {
				return n
			}
			n++
		}
	}
	if n := drop(today.AddDate(0, 0, -2).Add(-time.Minute)); n != 2 || exists(-4) || !exists(-3) {
		t.Errorf("dropped %d; want the two of the fourth day back", n)
	}
	if n := drop(today.AddDate(0, 0, -2)); n != 2 || exists(-3) || !exists(-2) {
		t.Errorf("dropped %d; want the two of the third day back", n)
	}
	_, err := b.challenges.DropPartition(t.Context(), time.Now())
	wantError(t, err, "partitions of the last hour cannot be dropped")
	if !exists(0) {
		t.Error("today's partition is gone")
	}
}

func TestADropGivesWayToWork(t *testing.T) {
	b := newBench(t)
	before := b.clock.Now().Truncate(24*time.Hour).AddDate(0, 0, -1) // those of the day before yesterday are over, soon after midnight as well
	if _, err := b.challenges.EnsurePartitions(t.Context(), before, 1); err != nil {
		t.Fatal(err)
	}
	work, err := b.db.SQL(otposttest.Owner).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = work.Rollback() }()
	if _, err := work.ExecContext(t.Context(), "LOCK TABLE challenges IN ROW EXCLUSIVE MODE; LOCK TABLE deliveries IN ROW EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	n, err := b.challenges.DropPartition(t.Context(), before)
	if n != 0 || postgres.Refused(err) {
		t.Errorf("dropped %d from under the work, %v", n, err)
	}
	wantError(t, err, "lock timeout")
	if err := work.Rollback(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.challenges.DropPartition(t.Context(), before); n != 1 || err != nil {
		t.Errorf("afterwards dropped %d, %v", n, err)
	}
}

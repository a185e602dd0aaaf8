package postgres_test

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// What each role must be denied, by the reason why it matters, and what it needs.
func TestEachRoleMayDoItsWorkAndNoMore(t *testing.T) {
	b := newBench(t)
	b.issued("u", "a")
	b.db.Exec(t, "INSERT INTO outbox (id, subject, payload, role, created_at) VALUES ('e', 'otpost.app.demo.event.x', '', 'otpost_challenge', now())")
	partition := otposttest.Get[string](t, b.db, "SELECT tableoid::regclass::text FROM deliveries")
	for role, cases := range map[string]struct{ denied, allowed []string }{
		"challenge": {
			denied: []string{
				"INSERT INTO limits (key, day_n) VALUES (gen_random_uuid(), -1)", "DELETE FROM destinations", "UPDATE destinations SET kind = 'safe'", "UPDATE challenges SET test = true", "UPDATE challenges SET ip_key = NULL",
				"INSERT INTO routes (app_id) VALUES (0)", "UPDATE routes SET providers = '{p}'", "DELETE FROM routes", "UPDATE providers SET costs = '{}'", "DELETE FROM providers",
				"INSERT INTO conversions (challenge_id, at) VALUES (gen_random_uuid(), now())", "UPDATE stray_receipts SET why = 'late'", "SELECT * FROM app_templates", "UPDATE app_senders SET sender = ''",
				"UPDATE deliveries SET cause = 'send'", "UPDATE deliveries SET country = ''", "UPDATE challenges SET country = ''", "UPDATE challenges SET android_hash = ''", "UPDATE apps SET delivery_policy = '{}'",
				"UPDATE challenges SET attempts = 0", "UPDATE challenges SET nonce = nonce", "UPDATE challenges SET expires_at = expires_at",
				"UPDATE challenges SET max_attempts = 10", "UPDATE challenges SET last_result = 'verified'", "DELETE FROM challenges",
				"UPDATE accounts SET failures = 0", "UPDATE accounts SET locked_at = NULL", "INSERT INTO accounts (app_id, user_id, failures, touched_at) VALUES (1, 'x', 0, now())",
				"DELETE FROM accounts", "SELECT last_step FROM factors", "SELECT algorithm FROM factors", "UPDATE factors SET last_step = -1", "DELETE FROM factors",
				"UPDATE logins SET outcome = 'issued'", "UPDATE deliveries SET mask = ''", "UPDATE deliveries SET tries = 0", "DELETE FROM deliveries",
				"INSERT INTO apps (name) VALUES ('mine')", "UPDATE apps SET attempts = 10", "UPDATE outbox SET payload = ''", "UPDATE outbox SET role = 'otpost_verification'",
				"INSERT INTO outbox (id, subject, payload, role, created_at) VALUES ('f', 'otpost.app.demo.event.x', '', 'otpost_verification', now())",
				"INSERT INTO challenges (state) VALUES ('verified')", "INSERT INTO challenges (attempts) VALUES (0)", "INSERT INTO challenges (ended_at) VALUES (now())",
				"INSERT INTO challenges (last_result) VALUES ('verified')", "UPDATE factors SET state = 'active'", "INSERT INTO devices (label) VALUES ('')", "UPDATE devices SET expires_at = expires_at", "DELETE FROM devices",
				"UPDATE devices SET epoch = epoch", "DELETE FROM device_tokens", "UPDATE users SET activated_at = now()", "SELECT passphrase FROM users",
				"SELECT digest FROM backup_codes", "SELECT sealed FROM backup_codes", "UPDATE backup_codes SET used_at = NULL", "DELETE FROM backup_codes",
				"SELECT * FROM ceremonies", "SELECT * FROM recoveries", "SELECT * FROM recovery_codes", "SELECT * FROM contacts",
				"SELECT * FROM messages", "SELECT * FROM hardware_tokens", "SELECT * FROM webauthn_sessions", "SELECT * FROM used_proofs", "SELECT * FROM notices",
				"SELECT * FROM app_keys", "SELECT * FROM page_sessions", "SELECT * FROM page_results", "SELECT * FROM webhooks", "SELECT * FROM desk_sessions",
				"SELECT * FROM audit", "INSERT INTO audit (role) VALUES ('otpost_verification')", "SELECT otpost_erase_user(1, 'u')",
				"UPDATE deliveries SET purpose = 'enrolment'", "SELECT credential FROM factors",
				"SELECT * FROM goose_db_version", "DROP TABLE " + partition, "SELECT * FROM " + partition, "CREATE TABLE mine ()",
			},
			allowed: []string{
				"SELECT * FROM providers", "SELECT * FROM routes", "SELECT * FROM app_senders", "SELECT * FROM delivery_stats", "SELECT * FROM stray_receipts", "DELETE FROM stray_receipts",
				"SELECT * FROM conversions FOR UPDATE SKIP LOCKED", "DELETE FROM conversions", "UPDATE deliveries SET class = '', due_at = NULL, abandoned_at = NULL", "UPDATE challenges SET channel = 'voice'",
				"SELECT * FROM apps", "SELECT nonce, to_sms FROM challenges", "SELECT failures FROM accounts", "SELECT sealed, public_id, alone_after FROM factors",
				"SELECT epoch, activated_at, preferred, fallbacks FROM users", "UPDATE users SET epoch = epoch + 1", "SELECT * FROM devices", "SELECT * FROM device_tokens",
				"UPDATE devices SET last_used_at = now()", "UPDATE device_tokens SET replaced_at = now()", "SELECT app_id, user_id, used_at FROM backup_codes",
			},
		},
		"sms": {
			denied: []string{
				"SELECT * FROM limits", "SELECT * FROM destinations",
				"SELECT * FROM routes", "INSERT INTO routes (app_id) VALUES (0)", "SELECT * FROM stray_receipts", "SELECT * FROM conversions", "SELECT delivered FROM delivery_stats",
				"UPDATE delivery_stats SET verified = 0", "UPDATE delivery_stats SET late = 0", "INSERT INTO delivery_stats (verified) VALUES (1)", "UPDATE deliveries SET cost = 0", "UPDATE deliveries SET cause = 'send'",
				"UPDATE deliveries SET due_at = NULL", "UPDATE deliveries SET abandoned_at = NULL", "UPDATE deliveries SET delivered_at = now()", "SELECT due_at FROM deliveries",
				"DELETE FROM providers", "SELECT origin FROM apps",
				"SELECT id FROM challenges", "SELECT nonce FROM challenges", "UPDATE challenges SET state = 'verified'", "SELECT * FROM accounts",
				"SELECT * FROM factors", "SELECT * FROM logins", "SELECT * FROM outbox", "SELECT * FROM apps", "SELECT mask FROM deliveries",
				"UPDATE deliveries SET channel = 'sms'", "UPDATE deliveries SET swept = 0", "DELETE FROM deliveries", "SELECT * FROM " + partition,
				"INSERT INTO deliveries (challenge_id, attempt, channel, mask, created_at, updated_at) SELECT gen_random_uuid(), 1, 'sms', '', now(), now()",
				"SELECT otpost_ensure_partitions(now(), 2)", "SELECT otpost_drop_partitions(now() - interval '2 days')",
				"UPDATE deliveries SET purpose = 'enrolment'", "SELECT * FROM messages", "SELECT * FROM users", "SELECT * FROM contacts", "SELECT * FROM recoveries",
				"SELECT * FROM ceremonies", "SELECT * FROM devices", "SELECT * FROM backup_codes", "SELECT * FROM notices", "SELECT * FROM audit",
				"SELECT * FROM app_keys", "SELECT * FROM page_sessions", "SELECT * FROM page_results", "SELECT * FROM webhooks", "SELECT * FROM desk_sessions",
				"INSERT INTO audit (action) VALUES ('x')", "SELECT otpost_erase_user(1, 'u')",
			},
			allowed: []string{"UPDATE deliveries SET class = '', accepted_at = NULL", "SELECT challenge_id, attempt, channel, state FROM deliveries", "UPDATE deliveries SET updated_at = now()"},
		},
		"verification": {
			denied: []string{
				"SELECT * FROM limits", "SELECT * FROM destinations", "SELECT ip_key FROM challenges", "UPDATE challenges SET test_code = NULL",
				"SELECT * FROM conversions", "DELETE FROM conversions", "SELECT * FROM delivery_stats", "UPDATE delivery_stats SET verified = 1", "SELECT * FROM routes", "SELECT * FROM providers",
				"SELECT * FROM stray_receipts", "SELECT country FROM challenges",
				"SELECT to_sms FROM challenges", "SELECT to_email FROM challenges", "SELECT locale FROM challenges", "SELECT * FROM challenges",
				"UPDATE challenges SET max_attempts = 10", "UPDATE challenges SET expires_at = expires_at", "UPDATE challenges SET nonce = nonce",
				"INSERT INTO challenges (id) SELECT gen_random_uuid()", "DELETE FROM challenges", "SELECT * FROM deliveries", "SELECT * FROM logins",
				"UPDATE factors SET sealed = ''", "UPDATE factors SET removed_at = now()", "UPDATE factors SET alone_after = NULL", "DELETE FROM factors",
				"UPDATE factors SET user_id = 'v'", "UPDATE factors SET public_id = ''", "SELECT sealed FROM backup_codes", "DELETE FROM backup_codes",
				"INSERT INTO backup_codes (position) VALUES (1)", "UPDATE backup_codes SET digest = digest", "UPDATE devices SET expires_at = expires_at", "DELETE FROM devices",
				"UPDATE device_tokens SET digest = digest", "UPDATE users SET activated_at = now()", "INSERT INTO users (activated_at) VALUES (now())", "INSERT INTO users (passphrase) VALUES ('')", "SELECT passphrase FROM users",
				"SELECT * FROM ceremonies", "SELECT * FROM recoveries", "SELECT * FROM contacts", "SELECT * FROM messages", "SELECT * FROM hardware_tokens",
				"SELECT * FROM notices", "DELETE FROM notices", "SELECT * FROM audit", "INSERT INTO audit (role) VALUES ('otpost_enrolment')", "SELECT otpost_erase_user(1, 'u')", "INSERT INTO factors SELECT * FROM factors",
				"SELECT * FROM app_keys", "SELECT * FROM page_sessions", "SELECT * FROM page_results", "SELECT * FROM webhooks", "SELECT * FROM desk_sessions",
				"DELETE FROM accounts", "UPDATE apps SET attempts = 10", "UPDATE outbox SET payload = ''", "SELECT otpost_drop_partitions(now() - interval '2 days')",
				"SELECT mask FROM deliveries", "UPDATE deliveries SET reference = ''", "UPDATE deliveries SET channel = 'sms'", "DELETE FROM deliveries",
				"UPDATE outbox SET role = 'otpost_challenge'",
				"INSERT INTO outbox (id, subject, payload, role, created_at) VALUES ('f', 'otpost.app.demo.event.x', '', 'otpost_challenge', now())",
			},
			allowed: []string{
				"INSERT INTO conversions (challenge_id, at) VALUES (gen_random_uuid(), now())",
				"SELECT nonce, key_id FROM challenges", "SELECT sealed, last_step FROM factors", "UPDATE accounts SET failures = 1", "SELECT * FROM outbox",
				"UPDATE factors SET sign_count = 1, credential = NULL WHERE false", "UPDATE backup_codes SET used_at = now()", "SELECT digest, used_at FROM backup_codes",
				"DELETE FROM webauthn_sessions", "UPDATE users SET epoch = epoch + 1", "UPDATE devices SET revoked_at = now(), revoke_reason = 'stolen'",
			},
		},
		"operator": {
			denied: []string{
				"SELECT * FROM limits", "SELECT test_code FROM challenges",
				"INSERT INTO providers (name) VALUES ('mine')", "UPDATE providers SET costs = '{}'", "UPDATE delivery_stats SET verified = 0", "DELETE FROM stray_receipts", "SELECT * FROM conversions",
				"SELECT android_hash FROM challenges",
				"SELECT nonce FROM challenges", "SELECT key_id FROM challenges", "SELECT to_sms FROM challenges", "SELECT to_email FROM challenges",
				"SELECT * FROM challenges", "UPDATE challenges SET state = 'verified'", "UPDATE deliveries SET state = 'queued'", "SELECT * FROM logins",
				"SELECT * FROM outbox", "DELETE FROM apps", "DELETE FROM accounts", "INSERT INTO accounts (app_id, user_id, touched_at) VALUES (1, 'x', now())",
				"SELECT passphrase FROM users", "UPDATE users SET passphrase = ''", "SELECT nonce FROM recoveries", "SELECT key_id FROM recoveries", "UPDATE recoveries SET state = 'waiting'",
				"SELECT sealed FROM backup_codes", "SELECT digest FROM backup_codes", "DELETE FROM backup_codes", "SELECT * FROM device_tokens", "UPDATE devices SET revoked_at = now()",
				"SELECT * FROM messages", "SELECT sealed FROM messages", "SELECT nonce FROM messages", "SELECT key_id FROM messages", "SELECT notice FROM messages", "DELETE FROM messages",
				"SELECT * FROM ceremonies", "SELECT material FROM ceremonies", "SELECT session FROM ceremonies", "UPDATE ceremonies SET state = 'confirmed'", "SELECT * FROM notices", "UPDATE contacts SET sealed = ''", "SELECT otpost_erase_user(1, 'u')", "INSERT INTO audit (role) VALUES ('otpost_enrolment')",
				"SELECT otpost_drop_partitions(now() - interval '2 days')",
				"SELECT * FROM page_sessions", "SELECT * FROM page_results", "SELECT * FROM http_requests", "SELECT * FROM desk_sessions", "DELETE FROM app_keys",
				"UPDATE webhook_events SET payload = ''", "INSERT INTO webhook_events (name) VALUES ('')", "SELECT amount FROM challenges", "SELECT payee FROM challenges",
				"UPDATE app_keys SET digest = digest", "UPDATE app_keys SET app_id = 1", "UPDATE webhooks SET app_id = 1", "UPDATE webhooks SET url = ''", "UPDATE webhooks SET private = true",
			},
			allowed: []string{
				"SELECT * FROM providers", "DELETE FROM providers", "UPDATE routes SET policy = 'order'", "DELETE FROM routes", "SELECT * FROM delivery_stats", "SELECT * FROM stray_receipts",
				"SELECT channel, deliveries, country FROM challenges", "DELETE FROM app_templates", "DELETE FROM app_senders",
				"SELECT * FROM app_keys", "UPDATE app_keys SET revoked_at = now()", "SELECT * FROM app_pages", "DELETE FROM app_pages", "SELECT * FROM webhooks", "DELETE FROM webhooks",
				"SELECT * FROM webhook_events", "UPDATE webhook_events SET state = 'pending', tries = 0", "DELETE FROM webhook_events",
				"SELECT id, state, mask_sms FROM challenges", "SELECT * FROM deliveries", "SELECT * FROM factors", "SELECT * FROM accounts",
				"SELECT * FROM audit", "SELECT * FROM devices", "SELECT * FROM hardware_tokens", "SELECT id, state, begun_by, proofs FROM recoveries", "SELECT epoch, country FROM users",
				"SELECT position, used_at FROM backup_codes", "SELECT id, kind, state, mask, sends FROM ceremonies", "SELECT id, purpose, mask, code_id FROM messages",
				"SELECT * FROM recovery_codes",
			},
		},
		"enrolment": {
			denied: []string{
				"DELETE FROM limits", "SELECT test_code FROM challenges", "DELETE FROM destinations",
				"DELETE FROM prefix_counts", "DELETE FROM prefix_ranges", "UPDATE prefix_counts SET slot = now()", "UPDATE prefix_ranges SET app_id = 1",
				"DELETE FROM prefix_blocks", "UPDATE prefix_blocks SET until = now()", "INSERT INTO prefix_blocks (app_id) VALUES (1)",
				"UPDATE routes SET policy = 'order'", "DELETE FROM providers", "SELECT * FROM delivery_stats", "SELECT * FROM stray_receipts", "SELECT * FROM conversions", "UPDATE deliveries SET abandoned_at = NULL",
				"SELECT nonce FROM challenges", "SELECT key_id FROM challenges", "SELECT digits FROM challenges", "SELECT to_sms FROM challenges", "SELECT to_email FROM challenges",
				"SELECT mask_sms FROM challenges", "SELECT amount FROM challenges", "SELECT last_request FROM challenges", "SELECT attempts FROM challenges",
				"UPDATE challenges SET expires_at = expires_at", "UPDATE challenges SET last_factor = 'totp'", "DELETE FROM challenges", "INSERT INTO challenges (id) SELECT gen_random_uuid()",
				"SELECT * FROM logins", "DELETE FROM accounts", "UPDATE apps SET attempts = 10", "INSERT INTO apps (name) VALUES ('mine')",
				"INSERT INTO accounts (app_id, user_id, failures, touched_at) VALUES (1, 'x', 0, now())", "INSERT INTO hardware_tokens (serial) VALUES ('1')",
				"UPDATE hardware_tokens SET sealed = ''", "UPDATE hardware_tokens SET serial = ''", "DELETE FROM hardware_tokens", "INSERT INTO devices (label) VALUES ('')", "UPDATE devices SET expires_at = expires_at",
				"UPDATE devices SET epoch = epoch", "INSERT INTO device_tokens (issued_at) VALUES (now())", "SELECT digest FROM device_tokens", "UPDATE device_tokens SET replaced_at = NULL",
				"INSERT INTO webauthn_sessions (challenge_id) VALUES (gen_random_uuid())", "SELECT data FROM webauthn_sessions", "DELETE FROM users", "SELECT * FROM audit",
				"SELECT ip_key FROM audit", "SELECT role FROM audit", "SELECT * FROM app_keys", "SELECT * FROM app_pages", "SELECT * FROM page_sessions", "SELECT state FROM page_sessions",
				"SELECT cookie_digest FROM page_sessions", "UPDATE page_sessions SET expires_at = now()", "DELETE FROM page_sessions", "SELECT * FROM page_results",
				"SELECT * FROM http_requests", "SELECT * FROM webhooks", "SELECT * FROM webhook_events", "SELECT * FROM desk_sessions",
				"INSERT INTO audit (role) VALUES ('otpost_verification')", "UPDATE deliveries SET purpose = 'challenge'", "UPDATE deliveries SET channel = 'sms'",
				"UPDATE deliveries SET tries = 0", "UPDATE deliveries SET provider = ''", "UPDATE outbox SET payload = ''", "UPDATE outbox SET role = 'otpost_challenge'",
				"INSERT INTO outbox (id, subject, payload, role, created_at) VALUES ('f', 'otpost.app.demo.event.x', '', 'otpost_verification', now())",
				"SELECT otpost_ensure_partitions(now(), 2)", "SELECT otpost_drop_partitions(now() - interval '2 days')", "SELECT * FROM " + partition, "CREATE TABLE mine ()",
			},
			allowed: []string{
				"SELECT * FROM providers", "SELECT * FROM routes", "SELECT * FROM app_senders",
				"SELECT * FROM prefix_ranges FOR UPDATE", "UPDATE prefix_counts SET verified = verified + 1", "UPDATE prefix_blocks SET stopped = stopped",
				"SELECT id, session, login, state, expires_at, ended_at, last_factor FROM challenges", "SELECT * FROM apps", "UPDATE accounts SET failures = 1", "UPDATE factors SET state = 'suspended'",
				"SELECT * FROM users FOR UPDATE", "SELECT * FROM ceremonies FOR UPDATE", "SELECT * FROM recoveries FOR UPDATE", "SELECT * FROM recovery_codes FOR UPDATE",
				"SELECT * FROM contacts", "SELECT * FROM messages", "SELECT * FROM notices FOR UPDATE SKIP LOCKED", "DELETE FROM notices", "SELECT * FROM hardware_tokens FOR UPDATE",
				"UPDATE hardware_tokens SET assigned_at = NULL, factor_id = NULL, counter = counter",
				"UPDATE devices SET revoked_at = now(), revoke_reason = 'factors_changed'", "DELETE FROM devices", "DELETE FROM backup_codes", "DELETE FROM factors",
				"SELECT * FROM deliveries", "SELECT * FROM outbox", "DELETE FROM webauthn_sessions WHERE expires_at < now()", "SELECT otpost_erase_user(0, 'nobody')",
				"INSERT INTO used_proofs (challenge_id, used_at) VALUES (gen_random_uuid(), now()) ON CONFLICT DO NOTHING",
				"SELECT id, at, app_id, user_key, actor, action, factor, session_key, detail FROM audit",
				"UPDATE page_sessions SET ended_at = now(), state = NULL WHERE app_id = 1 AND user_id = 'u' AND session = 's' AND ended_at IS NULL AND created_at <= now()",
			},
		},
		"gateway": {
			denied: []string{
				"UPDATE deliveries SET state = 'delivered'", "SELECT * FROM providers", "SELECT * FROM routes", "SELECT * FROM stray_receipts", "INSERT INTO stray_receipts (why) VALUES ('late')",
				"SELECT * FROM delivery_stats", "SELECT * FROM conversions", "SELECT * FROM app_templates", "SELECT * FROM app_senders",
				"SELECT id FROM challenges", "UPDATE challenges SET state = 'verified'", "SELECT * FROM logins", "SELECT * FROM deliveries", "SELECT * FROM " + partition,
				"SELECT * FROM accounts", "UPDATE accounts SET failures = 0", "SELECT * FROM factors", "SELECT id FROM factors", "SELECT * FROM users", "SELECT epoch FROM users",
				"SELECT * FROM backup_codes", "SELECT * FROM devices", "SELECT * FROM device_tokens", "INSERT INTO devices (label) VALUES ('')", "SELECT * FROM ceremonies",
				"SELECT * FROM recoveries", "SELECT * FROM recovery_codes", "SELECT * FROM contacts", "SELECT * FROM messages", "SELECT * FROM notices", "SELECT * FROM hardware_tokens",
				"SELECT * FROM webauthn_sessions", "SELECT * FROM used_proofs", "SELECT * FROM outbox",
				"INSERT INTO outbox (id, subject, payload, role, created_at) VALUES ('f', 'otpost.app.demo.event.x', '', 'otpost_gateway', now())",
				"SELECT * FROM audit", "INSERT INTO audit (action) VALUES ('x')", "SELECT otpost_erase_user(1, 'u')", "SELECT otpost_ensure_partitions(now(), 2)",
				"INSERT INTO apps (name) VALUES ('mine')", "UPDATE apps SET attempts = 10", "INSERT INTO app_keys (label) VALUES ('mine')", "UPDATE app_keys SET revoked_at = NULL",
				"UPDATE app_keys SET expires_at = NULL", "UPDATE app_keys SET digest = digest", "UPDATE app_keys SET app_id = 1", "DELETE FROM app_keys",
				"UPDATE app_pages SET return_urls = '{https://evil.example}'", "INSERT INTO app_pages (accent) VALUES ('')", "DELETE FROM app_pages",
				"UPDATE webhooks SET url = 'https://evil.example'", "UPDATE webhooks SET private = true", "UPDATE webhooks SET sealed = ''", "INSERT INTO webhooks (url) VALUES ('')",
				"DELETE FROM webhooks", "SELECT * FROM goose_db_version", "CREATE TABLE mine ()",
				"UPDATE page_sessions SET user_id = 'v'", "UPDATE page_sessions SET session = ''", "UPDATE page_sessions SET page = 'settings'",
				"UPDATE page_sessions SET reauthenticated_at = now()", "UPDATE page_sessions SET expires_at = now()", "UPDATE page_results SET app_id = 1",
				"UPDATE page_results SET sealed = ''", "UPDATE http_requests SET app_id = 1", "UPDATE webhook_events SET payload = ''", "UPDATE desk_sessions SET agent = 'ann'",
				"UPDATE desk_sessions SET expires_at = now()",
			},
			allowed: []string{
				"SELECT * FROM apps", "SELECT * FROM app_keys", "UPDATE app_keys SET last_used_at = now()", "SELECT * FROM app_pages", "SELECT * FROM webhooks",
				"SELECT * FROM page_sessions FOR UPDATE", "UPDATE page_sessions SET ended_at = now()", "DELETE FROM page_sessions", "DELETE FROM page_results", "SELECT * FROM http_requests FOR UPDATE",
				"DELETE FROM http_requests", "SELECT * FROM webhook_events FOR UPDATE SKIP LOCKED", "UPDATE webhook_events SET state = 'dead'", "DELETE FROM webhook_events",
				"DELETE FROM desk_sessions",
			},
		},
	} {
		check := func(role string) {
			t.Helper()
			db := b.db.SQL(role)
			for _, s := range cases.denied {
				_, err := db.ExecContext(t.Context(), s)
				if err == nil || !strings.Contains(err.Error(), "permission denied") && !strings.Contains(err.Error(), "must be owner") {
					t.Errorf("%s may %s: %v", role, s, err)
				}
			}
			for _, s := range cases.allowed {
				if _, err := db.ExecContext(t.Context(), s); err != nil {
					t.Errorf("%s may not %s: %v", role, s, err)
				}
			}
		}
		check(role)
		if role == "sms" {
			check("email")
			check("letter")
		}
	}
}

// Verdicts are the verification worker's: who holds the challenge worker's login cannot let a user pass.
func TestTheChallengeRoleGivesNoVerdict(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a")
	for _, state := range []string{"verified", "exhausted", "locked"} {
		_, err := b.db.SQL("challenge").ExecContext(t.Context(), "UPDATE challenges SET state = $2, ended_at = now() WHERE id = $1", id, state)
		if e, ok := errors.AsType[*pq.Error](err); !ok || e.Code != "42501" || postgres.Constraint(err) != "challenges_verdict_of_role" || postgres.Refused(err) {
			t.Errorf("the challenge worker ended it as %s: %v", state, err)
		}
	}
	b.wantState(id, otp.Open)
	for _, state := range []string{"verified", "exhausted", "locked"} {
		own := b.issued("u", state)
		if _, err := b.db.SQL("verification").ExecContext(t.Context(), "UPDATE challenges SET state = $2, ended_at = now() WHERE id = $1", own, state); err != nil {
			t.Errorf("the verification worker may not: %v", err)
		}
	}
}

// The enrolment worker ends what was opened for factors that are gone, and does nothing else to a challenge or to its deliveries.
func TestTheEnrolmentRoleOnlyCancels(t *testing.T) {
	b := newBench(t)
	db := b.db.SQL("enrolment")
	id, over := b.issued("u", "a"), b.issued("u", "b")
	b.db.Exec(t, "UPDATE challenges SET state = 'verified', ended_at = now() WHERE id = $1", over)
	for _, state := range []string{"verified", "expired", "exhausted", "superseded", "locked", "undeliverable"} {
		_, err := db.ExecContext(t.Context(), "UPDATE challenges SET state = $2, ended_at = now() WHERE id = $1", id, state)
		if !refusedBy(err, "challenges_cancel_of_role") && !refusedBy(err, "challenges_verdict_of_role") {
			t.Errorf("it ended one as %s: %v", state, err)
		}
	}
	for _, statement := range []string{
		"UPDATE challenges SET ended_at = ended_at WHERE id = $1", "UPDATE challenges SET ended_at = now() + interval '1 min' WHERE id = $1",
		"UPDATE challenges SET state = 'cancelled' WHERE id = $1", "UPDATE challenges SET state = 'open', ended_at = NULL WHERE id = $1",
	} {
		if _, err := db.ExecContext(t.Context(), statement, over); err == nil {
			t.Errorf("of one that has ended it may %s", statement)
		}
	}
	b.wantState(id, otp.Open)
	if affected(t, db, "UPDATE challenges SET state = 'cancelled', ended_at = now() WHERE id = $1", id) != 1 {
		t.Error("it cannot cancel")
	}
	b.wantState(id, otp.Cancelled)
	for _, state := range []string{"sending", "accepted", "failed"} {
		if _, err := db.ExecContext(t.Context(), "UPDATE deliveries SET state = $2 WHERE challenge_id = $1", id, state); err == nil {
			t.Errorf("made a login's delivery %s", state)
		}
	}
	if affected(t, db, "UPDATE deliveries SET state = 'expired', reason = 'over', updated_at = now() WHERE challenge_id = $1", id) != 1 {
		t.Error("it cannot withdraw what is queued")
	}
	if affected(t, db, "DELETE FROM deliveries WHERE challenge_id = $1", id) != 0 {
		t.Error("it deletes a login's delivery")
	}
}

// The verification worker withdraws what is queued, and does nothing else to deliveries.
func TestTheVerificationRoleOnlyWithdraws(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a")
	db := b.db.SQL("verification")
	for _, state := range []otp.DeliveryState{"sending", "accepted", "delivered", "undelivered", "failed", "unconfirmed"} {
		if _, err := db.ExecContext(t.Context(), "UPDATE deliveries SET state = $2 WHERE challenge_id = $1", id, string(state)); err == nil {
			t.Errorf("made it %s", state)
		}
		other := b.issued("u", string(state))
		b.delivery(other, 1, state)
		if _, err := db.ExecContext(t.Context(), "UPDATE deliveries SET state = 'expired' WHERE challenge_id = $1", other); err != nil {
			t.Error(err)
		}
		if got := b.status(other).Deliveries[0].State; got != state {
			t.Errorf("what was %s is %s", state, got)
		}
	}
	if got := b.status(id).Deliveries[0].State; got != otp.DeliveryQueued {
		t.Errorf("it is %s", got)
	}
	if _, err := db.ExecContext(t.Context(), "UPDATE deliveries SET state = 'expired', reason = 'over', updated_at = now() WHERE challenge_id = ANY ($1) AND state = 'queued'",
		pq.Array([]string{id.String()})); err != nil {
		t.Error(err)
	}
	if got := b.status(id).Deliveries[0].State; got != otp.DeliveryExpired {
		t.Errorf("it is %s, want it withdrawn", got)
	}
}

func TestAChannelSeesItsOwnDeliveriesOnly(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a")
	other := b.issued("v", "b", func(c *postgres.NewChallenge) { c.Factor = otp.FactorEmail })
	now := b.clock.Now()
	both := []postgres.DeliveryKey{{Challenge: id, Number: 1}, {Challenge: other, Number: 1}}
	for _, c := range []struct {
		name  string
		store *postgres.Deliveries
		mine  int
	}{{"sms", b.sms, 0}, {"email", b.email, 1}} {
		claims, err := c.store.Claim(t.Context(), now, 1, both)
		if err != nil {
			t.Fatal(err)
		}
		for i, claim := range claims {
			if claim.Granted != (i == c.mine) || claim.Known != (i == c.mine) {
				t.Errorf("%s is granted %+v of delivery %d", c.name, claim, i)
			}
		}
		outcomes := []postgres.DeliveryOutcome{{DeliveryKey: both[0], State: "failed", Tries: 1}, {DeliveryKey: both[1], State: "failed", Tries: 1}}
		if err := c.store.Finish(t.Context(), now, outcomes[1-c.mine:2-c.mine]); err != nil { // the other's
			t.Error(err)
		}
	}
	for i, k := range both {
		if s := b.status(k.Challenge).Deliveries[0].State; s != otp.DeliverySending {
			t.Errorf("delivery %d is %s: the other channel's worker ended it", i, s)
		}
	}
}

// A channel's worker enters its own providers and changes nobody else's: by another's name it could draw that one's traffic or spoil its costs.
func TestAChannelRegistersItsOwnProvidersOnly(t *testing.T) {
	b := newBench(t)
	row := func(ch otp.Channel, kind string) []postgres.ProviderRow {
		return []postgres.ProviderRow{{Channel: ch, Name: "p", Kind: kind, Receipts: true, Costs: map[string]int64{"": 7, "US": 3}}}
	}
	for role, may := range map[string][]otp.Channel{
		"sms": {otp.SMS, otp.Voice, otp.WhatsApp}, "email": {otp.Email}, "letter": nil, "challenge": nil, "gateway": nil, "operator": nil,
	} {
		for _, ch := range []otp.Channel{otp.SMS, otp.Voice, otp.WhatsApp, otp.Email} {
			for range 2 { // the second meets what is there
				err := postgres.NewRoutes(b.db.Role(role)).Register(t.Context(), b.clock.Now(), row(ch, role))
				if (err == nil) != slices.Contains(may, ch) {
					t.Errorf("%s registers for %s: %v", role, ch, err)
				}
			}
		}
	}
	known, err := postgres.NewRoutes(b.db.Role("challenge")).Providers(t.Context())
	if err != nil || len(known) != 4 {
		t.Fatalf("registered are %+v, %v", known, err)
	}
	for _, p := range known {
		if want := map[otp.Channel]string{otp.Email: "email"}[p.Channel]; p.Kind != cmp.Or(want, "sms") || p.Cost("US") != 3 || p.Cost("CZ") != 7 || !p.Receipts {
			t.Errorf("registered is %+v", p)
		}
	}
	if affected(t, b.db.SQL("sms"), "UPDATE providers SET costs = '{}' WHERE channel = 'email'") != 0 {
		t.Error("sms changes the providers of email")
	}
}

package main

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file is trusted devices at a login, and which of a user's factors a login asks for.

// trustedBrowser gives a user a trusted device, as a right answer would, and returns its id and token.
func (s *system) trustedBrowser(user string) (id uuid.UUID, token string) {
	s.t.Helper()
	id = uuid.Must(uuid.NewV7())
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	digest, now := otp.DeviceDigest(secret), s.clock.Now()
	s.db.Exec(s.t, `INSERT INTO devices (id, app_id, user_id, session, label, epoch, created_at, expires_at) SELECT $1, $2, $3, 'first', 'laptop',
	                coalesce((SELECT epoch FROM users WHERE app_id = $2 AND user_id = $3), 0), $4, $5`, id, s.app.ID, user, now, now.Add(30*24*time.Hour))
	s.db.Exec(s.t, "INSERT INTO device_tokens (digest, device_id, issued_at) VALUES ($1, $2, $3)", digest[:], id, now)
	return id, otp.DeviceToken(id, secret)
}

// comes logs a user in by request with a device's token.
func (s *system) comes(login, user, token string, more map[string]any) event.LoginReply {
	s.t.Helper()
	body := map[string]any{"device": token}
	for k, v := range more {
		body[k] = v
	}
	return s.ask(login, user, body)
}

// skipped waits for the event of a login that was let pass.
func (s *system) skipped(login string) (event.Skipped, otposttest.Event) {
	s.t.Helper()
	var found event.Skipped
	e := s.heard.Wait(s.t, event.ChallengeSkipped, func(e otposttest.Event) bool {
		found = otposttest.Decode[event.Skipped](s.t, e)
		return found.Login == login
	})
	return found, e
}

func TestTrustedDevice(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge)
	s.addTOTP("alice")
	id, token := s.trustedBrowser("alice")
	secret := func(token string) string { return token[len(token)-40:] }

	// By request the reply brings the next token; the event tells which device it was and no token.
	r := s.comes("request", "alice", token, nil)
	if r.Outcome != event.OutcomeSkipped || r.Reason != "trusted_device" || r.Device == "" || r.Device == token || r.Challenge != "" {
		t.Fatalf("a login from it brought %+v", r)
	}
	if got, e := s.skipped("request"); got.Device != id.String() || got.Reason != "trusted_device" || strings.Contains(string(e.Raw), secret(r.Device)) {
		t.Errorf("the event is %s", e.Raw)
	}
	if again := s.comes("request", "alice", token, nil); again.Outcome != event.OutcomeSkipped || again.Device != "" {
		t.Errorf("the same login again brought %+v", again)
	}

	// By event the token stays, and device.renew replaces it.
	s.publish("event", "alice", map[string]any{"device": r.Device})
	if got, e := s.skipped("event"); got.Device != id.String() || strings.Contains(string(e.Raw), secret(r.Device)) {
		t.Errorf("the event is %s", e.Raw)
	}
	renewed := must[event.DeviceRenewReply](s, event.VerbDeviceRenew, owned("alice", map[string]any{"device": r.Device}))
	if renewed.Device == "" || renewed.Device == r.Device || event.ParseTime(renewed.ExpiresAt).IsZero() {
		t.Fatalf("renewed as %+v", renewed)
	}

	// What is no token of this user is as none at all, and asked of as such.
	_, other := s.trustedBrowser("bob")
	for name, bad := range map[string]string{
		"another's": other, "none": "not a token", "unknown": otp.DeviceToken(id, [32]byte{1}),
	} {
		if r := s.comes("login with "+name, "alice", bad, nil); r.Outcome != event.OutcomeIssued || r.Device != "" {
			t.Errorf("a login with one that is %s brought %+v", name, r)
		}
		if p := refused(s, event.VerbDeviceRenew, owned("alice", map[string]any{"device": bad})); p != "unknown_device" {
			t.Errorf("one that is %s is renewed: %s", name, p)
		}
	}
	// A transaction is agreed to each time.
	pay := map[string]any{"transaction": map[string]any{"amount": "39.99 EUR", "payee": "Shop"}}
	if r := s.comes("payment", "alice", renewed.Device, pay); r.Outcome != event.OutcomeIssued || r.Device != "" {
		t.Errorf("a payment from it brought %+v", r)
	}
	if r := s.comes("after the payment", "alice", renewed.Device, nil); r.Outcome != event.OutcomeSkipped {
		t.Errorf("the token no longer serves after a payment: %+v", r)
	}
}

func TestAStolenDeviceToken(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"login", "event", "renewal"} {
		t.Run(way, func(t *testing.T) {
			s := newSystem(t)
			s.run(bus.RoleChallenge)
			s.addTOTP("alice")
			id, token := s.trustedBrowser("alice")
			second, phone := s.trustedBrowser("alice")
			bobs, bob := s.trustedBrowser("bob")
			next := s.comes("first", "alice", token, nil).Device
			s.clock.Advance(s.app.Policy.Factors.DeviceGrace + time.Second)
			client := map[string]any{"client": map[string]any{"ip": "203.0.113.7"}}
			switch way {
			case "login":
				if r := s.comes("thief", "alice", token, client); r.Outcome != event.OutcomeIssued || r.Device != "" {
					t.Errorf("the thief's login brought %+v", r)
				}
			case "event":
				client["device"] = token
				s.publish("thief", "alice", client)
				s.issued("alice")
			case "renewal":
				if p := refused(s, event.VerbDeviceRenew, owned("alice", map[string]any{"device": token})); p != "unknown_device" {
					t.Errorf("the thief's renewal: %s", p)
				}
			}
			for _, device := range []uuid.UUID{id, second} {
				e := s.heard.Wait(t, event.DeviceRevoked, func(e otposttest.Event) bool { return e.Subject == device.String() })
				d := otposttest.Decode[event.DeviceData](t, e)
				if d.User != "alice" || d.Reason != event.RevokedStolen || d.Label != "laptop" || d.Session != "session of alice" || (d.Login == "thief") != (way != "renewal") {
					t.Errorf("the app is told %+v", d)
				}
			}
			for login, t2 := range map[string]string{"owner": next, "phone": phone} {
				if r := s.comes(login, "alice", t2, nil); r.Outcome != event.OutcomeIssued {
					t.Errorf("the %s's login brought %+v", login, r)
				}
			}
			if r := s.comes("bob's", "bob", bob, nil); r.Outcome != event.OutcomeSkipped {
				t.Errorf("another user's device %s: %+v", bobs, r)
			}
			if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM notices WHERE notice = 'devices_revoked' AND user_id = 'alice' AND detail->>'reason' = 'stolen'`); n != 1 {
				t.Errorf("%d notices, want one", n)
			}
			ring := otposttest.Ring(t, keyring.Operator)
			user, err := ring.AuditKey("user", "demo", "alice")
			if err != nil {
				t.Fatal(err)
			}
			session, err := ring.AuditKey("session", "demo", "session of alice")
			if err != nil {
				t.Fatal(err)
			}
			lines := otposttest.Get[int](t, s.db, `SELECT count(*) FROM audit WHERE user_key = $1 AND session_key = $2 AND (ip_key IS NULL) = $3 AND actor = 'system'
				AND action = 'device.revoked' AND detail->>'reason' = 'stolen' AND factor = ANY ($4)`, user, session, way == "renewal", fmt.Sprintf("{%s,%s}", id, second))
			if lines != 2 {
				t.Errorf("%d lines in the audit, want one for each device", lines)
			}
		})
	}
}

// A browser opens many pages at once: each of its logins passes, one of them replaces the token, and whichever new one the browser keeps serves.
func TestTrustedDeviceAtOnce(t *testing.T) {
	const logins = 40
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleChallenge)
	id, token := s.trustedBrowser("alice")
	for round := range 4 {
		tokens := make([]string, logins)
		counts := atOnce(logins, func(i int) string {
			r := s.comes(fmt.Sprint("login ", round, "/", i), "alice", token, nil)
			tokens[i] = r.Device
			return r.Outcome + " " + r.Reason
		})
		if counts["skipped trusted_device"] != logins {
			t.Fatalf("%d logins at once from a trusted device: %v", logins, counts)
		}
		if n := otposttest.Get[int](t, s.db, "SELECT count(*) FROM device_tokens WHERE device_id = $1 AND replaced_at IS NULL", id); n != logins {
			t.Errorf("%d of the %d new tokens live", n, logins)
		}
		s.clock.Advance(s.app.Policy.Factors.DeviceGrace / 2)
		if r := s.comes(fmt.Sprint("late ", round), "alice", token, nil); r.Outcome != event.OutcomeSkipped || r.Device == "" {
			t.Errorf("a late page brought %+v", r)
		}
		s.clock.Advance(s.app.Policy.Factors.DeviceGrace)
		token = tokens[round*7]
	}
	if n := otposttest.Get[int](t, s.db, "SELECT count(*) FROM devices WHERE revoked_at IS NULL"); n != 1 {
		t.Error("its own pages were taken for thieves")
	}
}

// What a user has enrolled and wishes decides what a login asks for, and a factor that needs no message sends none.
func TestLoginAsksForTheUsersFactor(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleSMS)
	ring := otposttest.Ring(t, keyring.Enrolment)
	now := s.clock.Now()
	for n, number := range []string{phone(1), phone(2)} {
		sealed, err := ring.SealDestination("sms", "demo", "alice", delivery.Purpose, number)
		if err != nil {
			t.Fatal(err)
		}
		s.db.Exec(t, `INSERT INTO factors (id, app_id, user_id, kind, sealed, mask, created_at) VALUES ($1, $2, 'alice', 'sms', $3, $4, $5)`,
			uuid.UUID{15: byte(n + 1)}, s.app.ID, sealed, otp.MaskPhone(number), now.Add(time.Duration(n)*time.Second))
	}
	s.db.Exec(t, `INSERT INTO factors (id, app_id, user_id, kind, sealed, public_id, credential, created_at) VALUES ($1, $2, 'alice', 'webauthn', '', 'key', '', $3)`,
		uuid.UUID{15: 9}, s.app.ID, now)
	s.db.Exec(t, `INSERT INTO users (app_id, user_id, activated_at, preferred, fallbacks, locale, created_at) VALUES ($1, 'alice', $2, $3, '{sms}', 'cs', $2)`,
		s.app.ID, now, uuid.UUID{15: 2})
	s.db.Exec(t, `INSERT INTO backup_codes (app_id, user_id, digest, position, sealed, created_at) VALUES ($1, 'alice', sha256('1'), 1, '', $2)`, s.app.ID, now)

	s.publish("preferred", "alice", nil)
	c := s.issued("alice")
	if c.Factor != "sms" || c.To != otp.MaskPhone(phone(2)) || c.Digits != 6 || strings.Join(c.Methods, " ") != "webauthn backup_code" {
		t.Errorf("issued %+v", c)
	}
	s.code(phone(2))
	if got := otposttest.Get[string](t, s.db, "SELECT locale FROM challenges WHERE id = $1", c.Challenge); got != "cs" {
		t.Errorf("its messages are in %q", got)
	}
	s.publish("key", "alice", map[string]any{"channel": "webauthn", "locale": "de"})
	k := s.issuedNot("alice", c.Challenge)
	if k.Factor != "webauthn" || k.Channel != "webauthn" || k.To != "" || k.Digits != 0 || strings.Join(k.Methods, " ") != "sms backup_code" {
		t.Errorf("issued %+v", k)
	}
	if got := otposttest.Get[string](t, s.db, "SELECT locale || digits FROM challenges WHERE id = $1", k.Challenge); got != "de6" {
		t.Errorf("locale and digits are %q", got)
	}
	// The key is not at hand: the same challenge by SMS.
	r := must[event.ResendReply](s, event.VerbResend, map[string]any{"challenge": k.Challenge, "session": "session of alice", "channel": "sms"})
	if r.To != otp.MaskPhone(phone(2)) {
		t.Errorf("sent to %s", r.To)
	}
	s.heard.Wait(t, event.ChallengeSent, func(e otposttest.Event) bool { return e.Subject == k.Challenge })
	if got := must[event.StatusReply](s, event.VerbStatus, map[string]any{"challenge": k.Challenge}); got.Channel != "sms" || len(got.Deliveries) != 1 {
		t.Errorf("it is %+v", got)
	}
	// A preferred factor that is taken out of use is not asked for, and who has nothing else is not let pass for that.
	s.db.Exec(t, "UPDATE factors SET state = 'suspended' WHERE kind = 'sms'")
	if r := s.ask("next best", "alice", nil); r.Factor != "webauthn" || strings.Join(r.Methods, " ") != "backup_code" || r.Digits != 0 {
		t.Errorf("next best is %+v", r)
	}
	s.db.Exec(t, "UPDATE factors SET state = 'suspended'")
	if r := s.ask("nothing left", "alice", nil); r.Outcome != event.OutcomeIssued || strings.Join(r.Methods, " ") != "backup_code" {
		t.Errorf("with nothing but suspended factors and backup codes: %+v", r)
	}
	s.db.Exec(t, "DELETE FROM backup_codes")
	if r := s.ask("nothing at all", "alice", nil); r.Outcome != event.OutcomeRefused || r.Reason != "no_factor" {
		t.Errorf("with nothing but suspended factors: %+v", r)
	}
}

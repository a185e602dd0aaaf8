package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file tries what must not work: bad input, foreign ceremonies, many at once; and what apps signal. Any order of requests is in factor_model_test.go.

// Every refusal says why and changes nothing.
func TestFactorRequestsRefused(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.MaxFactors = 2 }))
	s.run(factorRoles...)
	a := s.enrol("alice")
	open, _ := s.beginApp("bob", nil)
	mine := "session of alice"
	unknown := "0198a7c0-0000-7000-8000-000000000000"
	state := func() string {
		return otposttest.Get[string](t, s.db, `SELECT
			(SELECT coalesce(string_agg(concat(id, state, label, last_step, removed_at), ',' ORDER BY id), '') FROM factors) || '|' ||
			(SELECT coalesce(string_agg(concat(id, state, attempts), ',' ORDER BY id), '') FROM ceremonies) || '|' ||
			(SELECT coalesce(string_agg(concat(user_id, position, used_at), ',' ORDER BY user_id, position), '') FROM backup_codes) || '|' ||
			(SELECT coalesce(string_agg(concat(user_id, epoch, preferred, fallbacks, activated_at), ',' ORDER BY user_id), '') FROM users)`)
	}
	before := state()
	for _, tt := range []struct {
		name, verb string
		body       map[string]any
		want       string
	}{
		{"another kind", event.VerbFactorBegin, owned("alice", map[string]any{"kind": "palm"}), "invalid"},
		{"a field that is not known", event.VerbFactorBegin, owned("alice", map[string]any{"kind": "totp", "secret": "mine"}), "invalid"},
		{"no number", event.VerbFactorBegin, owned("alice", map[string]any{"kind": "sms"}), "invalid"},
		{"a number that is none", event.VerbFactorBegin, owned("alice", map[string]any{"kind": "sms", "address": "+1555", "reauthenticated_at": s.now()}), "invalid"},
		{"a number for an app", event.VerbFactorBegin, owned("alice", map[string]any{"kind": "totp", "address": "+14155550100"}), "invalid"},
		{"a token that nobody imported", event.VerbFactorBegin, owned("bob", map[string]any{"kind": "hotp", "serial": "X-1"}), "invalid"},
		{"a key without a relying party", event.VerbFactorBegin, owned("bob", map[string]any{"kind": "webauthn"}), "not_allowed"},
		{"more without the password", event.VerbFactorBegin, owned("alice", map[string]any{"kind": "totp"}), "reauthentication_required"},
		{
			"a password of the future", event.VerbFactorBegin, owned("alice", map[string]any{"kind": "totp", "reauthenticated_at": event.Time(s.clock.Now().Add(time.Hour))}),
			"reauthentication_required",
		},
		{"a password at no time", event.VerbFactorBegin, owned("alice", map[string]any{"kind": "totp", "reauthenticated_at": "now"}), "invalid"},
		{"confirm an unknown ceremony", event.VerbFactorConfirm, map[string]any{"ceremony": unknown, "session": mine, "code": "123456"}, "unknown_ceremony"},
		{"confirm another's ceremony", event.VerbFactorConfirm, map[string]any{"ceremony": open.Ceremony, "session": mine, "code": "123456"}, "unknown_ceremony"},
		{"confirm with nothing", event.VerbFactorConfirm, map[string]any{"ceremony": open.Ceremony, "session": "session of bob"}, "invalid"},
		{
			"confirm with two things", event.VerbFactorConfirm,
			map[string]any{"ceremony": open.Ceremony, "session": "session of bob", "code": "123456", "credential": map[string]any{}},
			"invalid",
		},
		{"confirm an app with a backup code", event.VerbFactorConfirm, map[string]any{"ceremony": open.Ceremony, "session": "session of bob", "code": "7K3Q-M2XH9-FTWA"}, "invalid"},
		{"confirm an app as a key", event.VerbFactorConfirm, map[string]any{"ceremony": open.Ceremony, "session": "session of bob", "credential": map[string]any{"id": "x"}}, "invalid"},
		{"resend what was never sent", event.VerbFactorResend, map[string]any{"ceremony": open.Ceremony, "session": "session of bob"}, "unknown_ceremony"},
		{"rename another's factor", event.VerbFactorRename, map[string]any{"user": "bob", "factor": a.factor, "label": "mine"}, "unknown_factor"},
		{"rename to nothing", event.VerbFactorRename, map[string]any{"user": "alice", "factor": a.factor, "label": ""}, "invalid"},
		{"rename to a trick", event.VerbFactorRename, map[string]any{"user": "alice", "factor": a.factor, "label": "a\u202eb"}, "invalid"},
		{"prefer another's factor", event.VerbFactorPrefer, map[string]any{"user": "bob", "factor": a.factor}, "unknown_factor"},
		{"prefer nothing", event.VerbFactorPrefer, map[string]any{"user": "alice"}, "invalid"},
		{"a fallback twice", event.VerbFactorPrefer, map[string]any{"user": "alice", "fallbacks": []string{"sms", "sms"}}, "invalid"},
		{"remove the last", event.VerbFactorRemove, owned("alice", map[string]any{"factor": a.factor, "reauthenticated_at": s.now(), "code": "123456"}), "last_factor"},
		{"remove another's", event.VerbFactorRemove, owned("bob", map[string]any{"factor": a.factor, "reauthenticated_at": s.now()}), "unknown_factor"},
		{"code and challenge", event.VerbFactorRemove, owned("alice", map[string]any{"factor": a.factor, "reauthenticated_at": s.now(), "code": "123456", "challenge": unknown}), "invalid"},
		{"acknowledge nothing", event.VerbBackupAcknowledge, owned("carol", map[string]any{"how": "saved"}), "no_factor"},
		{"acknowledge by hearsay", event.VerbBackupAcknowledge, owned("alice", map[string]any{"how": "heard"}), "invalid"},
		{"view nobody's codes", event.VerbBackupView, owned("carol", map[string]any{"reauthenticated_at": s.now()}), "no_factor"},
		{"renew nobody's codes", event.VerbBackupRegenerate, owned("carol", map[string]any{"reauthenticated_at": s.now()}), "no_factor"},
		{"revoke nobody's device", event.VerbDeviceRevoke, map[string]any{"user": "alice", "device": unknown}, "unknown_device"},
		{"revoke one and all", event.VerbDeviceRevoke, map[string]any{"user": "alice", "device": unknown, "all": true}, "invalid"},
		{"deactivate nothing", event.VerbDeactivateBegin, owned("carol", map[string]any{"reauthenticated_at": s.now()}), "no_factor"},
		{"confirm no intent", event.VerbDeactivateConfirm, map[string]any{"ceremony": open.Ceremony, "session": "session of bob"}, "unknown_ceremony"},
	} {
		if got := refused(s, tt.verb, tt.body); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if after := state(); after != before {
			t.Fatalf("%s changed something:\n%s\n%s", tt.name, before, after)
		}
	}
	// Who is unknown and who has nothing are answered alike.
	nobody, none := s.factors("nobody"), s.factors("carol")
	if fmt.Sprint(nobody) != fmt.Sprint(none) || len(nobody.Factors) != 0 {
		t.Errorf("an unknown user: %+v; one without factors: %+v", nobody, none)
	}
	s.clock.Advance(11 * time.Minute)
	if p := refused(s, event.VerbFactorConfirm, map[string]any{"ceremony": open.Ceremony, "session": "session of bob", "code": "123456"}); p != "unknown_ceremony" {
		t.Errorf("an expired ceremony: %s", p)
	}
	s.beginApp("alice", nil)
	b, second := s.beginApp("alice", nil)
	s.confirm("alice", b.Ceremony, second.value())
	if p := refused(s, event.VerbFactorBegin, owned("alice", map[string]any{"kind": "totp", "reauthenticated_at": s.now()})); p != "too_many" {
		t.Errorf("one more than the policy allows: %s", p)
	}
}

// However many wrong values come at once, no more are compared than the ceremony has attempts.
func TestWrongConfirmationsAtOnce(t *testing.T) {
	s := newSystem(t)
	s.run(bus.RoleVerification, bus.RoleEnrolment, bus.RoleEnrolment)
	b, a := s.beginApp("alice", nil)
	value := a.value()
	counts := atOnce(60, func(int) string {
		_, problem := request[event.FactorConfirmReply](s, event.VerbFactorConfirm, map[string]any{
			"ceremony": b.Ceremony, "session": "session of alice", "code": wrongCode(value),
		})
		return problem
	})
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM audit WHERE action = 'factor.refused'`); n != 5 || counts["wrong_code"] != 5 {
		t.Errorf("60 wrong values at once: %d were compared, %v, want 5", n, counts)
	}
	if p := refused(s, event.VerbFactorConfirm, map[string]any{"ceremony": b.Ceremony, "session": "session of alice", "code": value}); p != "unknown_ceremony" {
		t.Errorf("the right value after that: %s, want unknown_ceremony", p)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT failures FROM accounts WHERE user_id = 'alice'`); n != 5 {
		t.Errorf("%d failures are on the account, want 5", n)
	}
}

// A right value at once makes one factor, and one set of backup codes.
func TestRightConfirmationsAtOnce(t *testing.T) {
	s := newSystem(t)
	s.run(bus.RoleVerification, bus.RoleEnrolment, bus.RoleEnrolment)
	b, a := s.beginApp("alice", nil)
	value := a.value()
	counts := atOnce(30, func(int) string {
		r, problem := request[event.FactorConfirmReply](s, event.VerbFactorConfirm, map[string]any{"ceremony": b.Ceremony, "session": "session of alice", "code": value})
		return r.State + problem
	})
	if counts["confirmed"] != 1 || counts["unknown_ceremony"] != 29 { // it serves once: nobody comes as far as to store a second factor
		t.Errorf("30 right values at once: %v, want one confirmed", counts)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM factors`); n != 1 {
		t.Errorf("%d factors, want 1", n)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM backup_codes`); n != otp.BackupCodeCount {
		t.Errorf("%d backup codes, want %d", n, otp.BackupCodeCount)
	}
}

// What apps signal ends the trust in devices, and a person who is deleted leaves no row.
func TestSignals(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	a := s.enrol("alice")
	trust := func(id, session string) {
		t.Helper()
		r := must[event.LoginReply](s, event.VerbLogin, map[string]any{"user": "alice", "session": session, "id": id})
		v := must[event.VerifyReply](s, event.VerbVerify, map[string]any{
			"challenge": r.Challenge, "session": session, "code": a.next(), "trust_device": map[string]any{"label": id},
		})
		if v.Device == "" {
			t.Fatalf("verified without a device: %+v", v)
		}
	}
	devices := func() []event.DeviceInfo {
		t.Helper()
		return must[event.DeviceListReply](s, event.VerbDeviceList, map[string]any{"user": "alice"}).Devices
	}
	signal := func(name event.SignalName, more map[string]any) {
		t.Helper()
		data := map[string]any{"user": "alice"}
		for k, v := range more {
			data[k] = v
		}
		s.signal(name, data)
	}
	revoked := func(reason string) {
		t.Helper()
		s.heard.Wait(t, event.DeviceRevoked, func(e otposttest.Event) bool { return otposttest.Decode[event.DeviceData](t, e).Reason == reason })
	}
	trust("laptop", "one")
	trust("phone", "two")
	signal(event.SessionSignedOut, map[string]any{"session": "one"})
	revoked("signed_out")
	if d := devices(); len(d) != 1 || d[0].Label != "phone" {
		t.Fatalf("after a sign-out: %+v", d)
	}
	signal(event.DeviceErased, map[string]any{"device": devices()[0].Device})
	revoked("erased")
	trust("tablet", "three")
	signal(event.PasswordChanged, nil)
	revoked("password_changed")
	trust("again", "four")
	if _, problem := request[event.DeviceListReply](s, event.VerbDeviceRevoke, map[string]any{"user": "alice", "all": true}); problem != "" {
		t.Fatal(problem)
	}
	revoked("by_hand")
	if d := devices(); len(d) != 0 {
		t.Fatalf("after all of it: %+v", d)
	}

	s.enrolAddress("alice", "email", "alice@example.com")
	lines := otposttest.Get[int](t, s.db, `SELECT count(*) FROM audit`)
	signal(event.UserDeleted, nil)
	s.hears(event.UserErased, "alice")
	for _, table := range []string{
		"users", "factors", "backup_codes", "ceremonies", "contacts", "recoveries", "messages", "notices", "devices", "accounts", "challenges",
	} {
		if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM `+table+` WHERE user_id = 'alice'`); n != 0 {
			t.Errorf("%d rows of a deleted person are left in %s", n, table)
		}
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM audit`); n <= lines {
		t.Errorf("the audit has %d lines, %d before the erasure", n, lines)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM audit AS a WHERE a::text LIKE '%alice%'`); n != 0 {
		t.Errorf("%d lines of the audit name the person", n)
	}
	if _, err := s.js.Publish(t.Context(), event.SignalSubject("demo", event.UserDeleted), []byte(`{"not":"an event"}`)); err != nil {
		t.Fatal(err)
	}
	otposttest.Eventually(t, "a malformed signal is a dead letter", func() bool { return len(s.dead()) == 1 })
}

// signal publishes a signal of the app.
func (s *system) signal(name event.SignalName, data map[string]any) {
	s.t.Helper()
	s.signalAt(name, s.now(), data)
}

// signalAt publishes a signal of something that happened at a time.
func (s *system) signalAt(name event.SignalName, at string, data map[string]any) {
	s.t.Helper()
	body := fmt.Sprintf(`{"specversion":"1.0","id":"signal-%d","source":"https://shop.example","type":"otpost.%s.v1","time":%q,"data":%s}`,
		time.Now().UnixNano(), name, at, event.Encode(data))
	if _, err := s.js.Publish(s.t.Context(), event.SignalSubject("demo", name), []byte(body)); err != nil {
		s.t.Fatal(err)
	}
}

// enrolAddress gives a user who has a factor a number or address more.
func (s *system) enrolAddress(user, kind, address string) event.FactorConfirmReply {
	s.t.Helper()
	b := must[event.FactorBeginReply](s, event.VerbFactorBegin, owned(user, map[string]any{"kind": kind, "address": address, "reauthenticated_at": s.now()}))
	return s.confirm(user, b.Ceremony, s.code(address))
}

// Enrolment that was killed after its commit loses neither the message nor the notice: the next one sends them.
func TestEnrolmentKilledBeforeItPublishes(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleSMS, bus.RoleEmail, bus.RoleVerification)
	g := newGate(t, strings.TrimPrefix(s.nats.URL(), "nats://"))
	p := s.start(bus.RoleEnrolment, g.url(), "--sweep-grace", "1s", "--sweep-every", "50ms")
	g.close() // what it says from now on does not arrive
	_, err := s.conn.Request(event.RPCSubject("demo", event.VerbFactorBegin), event.Encode(owned("alice", map[string]any{
		"kind": "sms", "address": "+14155550100",
	})), 2*time.Second)
	if !errors.Is(err, nats.ErrTimeout) {
		t.Fatalf("an answer came through the closed gate: %v", err)
	}
	otposttest.Eventually(t, "the message is committed", func() bool { return otposttest.Get[int](t, s.db, `SELECT count(*) FROM messages`) == 1 })
	p.kill()
	s.start(bus.RoleEnrolment, "", "--sweep-grace", "1s", "--sweep-every", "50ms")
	if s.code("+14155550100") == "" {
		t.Error("no code came")
	}
}

// A number tells when a code that was sent to it was last answered; another number of the user does not.
func TestLastUseOfNumbers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.CoolingOff = 0 }))
	s.run(factorRoles...)
	s.enrol("alice")
	used := s.enrolAddress("alice", "sms", phone(1)).Factor
	s.clock.Advance(time.Minute) // until another code may go out
	other := s.enrolAddress("alice", "sms", phone(22)).Factor
	must[event.FactorListReply](s, event.VerbFactorPrefer, map[string]any{"user": "alice", "factor": used})
	s.clock.Advance(time.Minute)
	r := s.ask("login-1", "alice", map[string]any{"channel": "sms"})
	var code string
	otposttest.Eventually(t, "the code of the login", func() bool {
		for _, m := range s.box.List(inbox.Filter{To: phone(1)}) { // notices have no code in front
			if code = digits.FindString(m.Text); strings.HasPrefix(m.Text, code+" ") && !strings.Contains(m.Text, " to add ") {
				return true
			}
		}
		return false
	})
	if v := s.answer(r.Challenge, "alice", code, nil); v.Result != string(otp.Verified) {
		t.Fatalf("the answer: %+v", v)
	}
	for _, f := range s.factors("alice").Factors {
		if want := f.Factor == used; (f.LastUsedAt != "") != want && (want || f.Factor == other) {
			t.Errorf("%s to %s was last used %q", f.Kind, f.To, f.LastUsedAt)
		}
	}
}

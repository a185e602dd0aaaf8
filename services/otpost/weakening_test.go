package main

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file is what somebody who has a session and the password, but none of the factors, must not get: a way in by what was begun before a change, and a
// weakening act by what the password alone brings.

// loginCode derives the code of a login, whether its message has come or not.
func (s *system) loginCode(challenge string) string {
	s.t.Helper()
	in := otp.CodeInput{App: "demo", Challenge: uuid.MustParse(challenge)}
	var key uint32
	row := s.db.SQL(otposttest.Owner).QueryRowContext(s.t.Context(), `SELECT nonce, key_id, digits FROM challenges WHERE id = $1`, challenge)
	if err := row.Scan(&in.Nonce, &key, &in.Digits); err != nil {
		s.t.Fatal(err)
	}
	prf, err := otposttest.Ring(s.t, keyring.Verification).CodePRF(key)
	if err != nil {
		s.t.Fatal(err)
	}
	code, err := otp.DeriveCode(prf, in)
	if err != nil {
		s.t.Fatal(err)
	}
	return code
}

// did counts the lines of the audit that tell of something.
func (s *system) did(action string) int {
	s.t.Helper()
	return otposttest.Get[int](s.t, s.db, `SELECT count(*) FROM audit WHERE action = $1`, action)
}

// What was opened for a number lets nobody in once the number is gone.
func TestChallengesEndWithTheFactor(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.CoolingOff, p.RecoveryWait = 0, soon }))
	s.run(factorRoles...)
	over := func(what, challenge, code string) {
		t.Helper()
		if r := s.ended(challenge); r != "cancelled" {
			t.Errorf("%s: the app hears of %s", what, r)
		}
		v := must[event.VerifyReply](s, event.VerbVerify, map[string]any{
			"challenge": challenge, "session": "session of alice", "code": code, "trust_device": map[string]any{"label": "mine"},
		})
		if v.Result != "cancelled" || v.Device != "" {
			t.Errorf("%s: the right code brings %+v, want cancelled", what, v)
		}
		if p := refused(s, event.VerbResend, map[string]any{"challenge": challenge, "session": "session of alice", "channel": "sms"}); p != "challenge_ended" {
			t.Errorf("%s: sent again: %s", what, p)
		}
	}
	s.contact("alice", "email", "alice@rescue.example")
	s.prefer("alice", map[string]any{"country": "US", "passphrase": "correct horse battery"})
	a := s.enrol("alice")
	opened := func(id string) (challenge, code string) {
		t.Helper()
		r := s.ask(id, "alice", map[string]any{"channel": "sms"})
		return r.Challenge, s.loginCode(r.Challenge)
	}

	sms := s.enrolAddress("alice", "sms", phone(1))
	bob := s.enrol("bob")
	other := s.ask("of bob", "bob", nil)
	challenge, code := opened("before the removal")
	must[event.FactorListReply](s, event.VerbFactorRemove, s.lost("alice", map[string]any{"factor": sms.Factor, "code": a.next()}))
	over("removed", challenge, code)

	s.enrolAddress("alice", "sms", phone(2))
	challenge, code = opened("before the recovery")
	if v := s.verify(other.Challenge, "bob", bob.value()); v.Result != "verified" {
		t.Errorf("another user's challenge is %s", v.Result)
	}
	begun := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil))
	s.prove("alice", begun.Recovery, "passphrase", "correct horse battery")
	if r := s.prove("alice", begun.Recovery, "email", s.resetCode(begun.Recovery, "email")); r.State != "waiting" {
		t.Fatalf("proven: %+v", r)
	}
	s.clock.Advance(soon)
	s.hears(event.RecoveryCompleted, "alice")
	over("recovered", challenge, code)
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM devices`); n != 0 {
		t.Errorf("%d devices are trusted", n)
	}
}

// Backup codes can be seen with the password alone, so for a while after that they let nothing be weakened; and the user is told.
func TestShownBackupCodesWeakenNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	a := s.enrol("alice")
	s.enrolAddress("alice", "email", "alice@example.com")
	deactivate := func(more map[string]any) string {
		t.Helper()
		_, problem := request[event.DeactivateBeginReply](s, event.VerbDeactivateBegin, s.lost("alice", more))
		return problem
	}
	seen := must[event.BackupCodesReply](s, event.VerbBackupView, s.lost("alice", nil)).Codes
	if p := deactivate(map[string]any{"code": seen[0].Code}); p != "cooling_off" {
		t.Errorf("by a code that was just shown: %q", p)
	}
	s.notified("alice@example.com", "backup codes", "shown")
	if n := s.did("backup_codes.viewed"); n != 1 {
		t.Errorf("the audit tells of %d views", n)
	}
	if n := s.factors("alice").BackupCodesLeft; n != 10 {
		t.Errorf("%d codes are left: one was spent in vain", n)
	}
	// Nor by way of a login.
	r := s.ask("login", "alice", nil)
	if v := s.verify(r.Challenge, "alice", seen[1].Code); v.Result != "verified" {
		t.Fatalf("a login by backup code: %s", v.Result)
	}
	for range 2 { // what was refused was not spent
		if p := deactivate(map[string]any{"challenge": r.Challenge}); p != "cooling_off" {
			t.Errorf("by a login with a code that was just shown: %q", p)
		}
	}
	if p := deactivate(map[string]any{"code": a.next()}); p != "" {
		t.Errorf("by the app: %q", p)
	}
	renewed := must[event.BackupCodesReply](s, event.VerbBackupRegenerate, s.lost("alice", nil)).Codes
	s.clock.Advance(24*time.Hour - time.Minute)
	if p := deactivate(map[string]any{"code": renewed[0].Code}); p != "cooling_off" {
		t.Errorf("a day later but for a minute: %q", p)
	}
	s.clock.Advance(time.Minute)
	if p := deactivate(map[string]any{"code": renewed[0].Code}); p != "" {
		t.Errorf("a day later: %q", p)
	}
}

// A factor can be added with the password alone, so for a while it cannot take the older ones away.
func TestANewFactorRemovesNoOlderOne(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	a := s.enrol("alice")
	s.clock.Advance(time.Minute)
	b, mine := s.beginApp("alice", map[string]any{"label": "mine"})
	mine.factor = s.confirm("alice", b.Ceremony, mine.value()).Factor
	remove := func(factor string, more map[string]any) string {
		t.Helper()
		_, problem := request[event.FactorListReply](s, event.VerbFactorRemove, s.lost("alice", mergeWord("factor", factor, more)))
		return problem
	}
	if p := remove(a.factor, map[string]any{"code": mine.next()}); p != "cooling_off" {
		t.Errorf("the older one by the new one: %q", p)
	}
	if p := refused(s, event.VerbDeactivateBegin, s.lost("alice", map[string]any{"code": mine.next()})); p != "cooling_off" {
		t.Errorf("deactivated by the new one: %s", p)
	}
	r := s.ask("login", "alice", nil)
	if v := s.verify(r.Challenge, "alice", mine.next()); v.Result != "verified" {
		t.Fatalf("a login by the new one: %s", v.Result)
	}
	if p := remove(a.factor, map[string]any{"challenge": r.Challenge}); p != "cooling_off" {
		t.Errorf("by a login with one of two apps, of which one is new: %q", p)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM used_proofs`); n != 0 {
		t.Errorf("%d challenges were spent in vain", n)
	}
	if p := remove(mine.factor, map[string]any{"code": a.codes[0]}); p != "" { // as they came with the first factor, nobody else has them
		t.Errorf("the new one by a backup code: %q", p)
	}
	if l := s.factors("alice").Factors; len(l) != 1 || l[0].Factor != a.factor {
		t.Errorf("left: %+v", l)
	}
	b, second := s.beginApp("alice", nil)
	s.confirm("alice", b.Ceremony, second.value())
	s.clock.Advance(24 * time.Hour)
	if p := remove(a.factor, map[string]any{"code": second.next()}); p != "" {
		t.Errorf("a day later: %q", p)
	}
}

// Where the app's policy has no cooling-off, everything proves at once.
func TestWithoutCoolingOff(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.CoolingOff = 0 }))
	s.run(factorRoles...)
	a := s.enrol("alice")
	s.clock.Advance(time.Minute)
	b, second := s.beginApp("alice", nil)
	s.confirm("alice", b.Ceremony, second.value())
	must[event.FactorListReply](s, event.VerbFactorRemove, s.lost("alice", map[string]any{"factor": a.factor, "code": second.next()}))
	seen := must[event.BackupCodesReply](s, event.VerbBackupView, s.lost("alice", nil)).Codes
	must[event.DeactivateBeginReply](s, event.VerbDeactivateBegin, s.lost("alice", map[string]any{"code": seen[0].Code}))
}

// What another session has left halfway becomes no factor by the word of this one, and its backup codes never serve.
func TestHalfAFactorIsItsSessions(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	const stranger = "a stranger's session"
	confirm := func(session string) (event.FactorConfirmReply, *authenticator) {
		t.Helper()
		b, app := s.beginApp("alice", map[string]any{"session": session})
		return must[event.FactorConfirmReply](s, event.VerbFactorConfirm, map[string]any{"ceremony": b.Ceremony, "session": session, "code": app.value()}), app
	}
	as := func(session string, more map[string]any) map[string]any {
		return s.lost("alice", mergeWord("session", session, more))
	}
	first, _ := confirm("session of alice")
	theirs, _ := confirm(stranger)
	if slices.Equal(first.BackupCodes, theirs.BackupCodes) {
		t.Error("the stranger is given the user's backup codes")
	}
	if p := refused(s, event.VerbBackupAcknowledge, owned("alice", map[string]any{"how": "saved"})); p != "no_factor" {
		t.Errorf("the user's word for the stranger's factor: %s", p)
	}
	if p := refused(s, event.VerbBackupView, as("session of alice", nil)); p != "no_factor" {
		t.Errorf("the stranger's backup codes are shown: %s", p)
	}
	mine, app := confirm("session of alice")
	if l := s.factors("alice").Factors; len(l) != 1 || l[0].Factor != mine.Factor {
		t.Errorf("waiting are %+v, want the user's own", l)
	}
	for _, verb := range []string{event.VerbBackupView, event.VerbBackupRegenerate} {
		if p := refused(s, verb, as(stranger, nil)); p != "no_factor" {
			t.Errorf("%s by the stranger: %s", verb, p)
		}
	}
	again, _ := confirm("session of alice")
	if !slices.Equal(again.BackupCodes, mine.BackupCodes) {
		t.Error("a second app in the same session comes with other backup codes")
	}
	must[event.BackupAcknowledgeReply](s, event.VerbBackupAcknowledge, owned("alice", map[string]any{"how": "saved"}))
	if l := s.factors("alice"); !l.Activated || len(l.Factors) != 2 || l.BackupCodesLeft != 10 {
		t.Errorf("active are %+v", l)
	}
	r := s.ask("login", "alice", nil)
	for _, code := range []string{first.BackupCodes[0], theirs.BackupCodes[0]} {
		if v := s.verify(r.Challenge, "alice", code); v.Result != "wrong" {
			t.Errorf("a backup code of before: %s", v.Result)
		}
	}
	if v := s.verify(r.Challenge, "alice", app.next()); v.Result != "verified" {
		t.Errorf("the user's own app: %s", v.Result)
	}

	// The last one that waits takes the backup codes with it.
	b, half := s.beginApp("bob", nil)
	left := s.confirm("bob", b.Ceremony, half.value())
	must[event.FactorListReply](s, event.VerbFactorRemove, s.lost("bob", map[string]any{"factor": left.Factor}))
	if n := s.factors("bob").BackupCodesLeft; n != 0 {
		t.Errorf("%d backup codes of no factor are left", n)
	}
}

// What other sessions have begun ends with a change of factors, with the password, and with the session.
func TestCeremoniesEndWithWhatTheyWereBegunOn(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.MaxFactors = 3 }))
	s.run(factorRoles...)
	a := s.enrol("alice")
	open := func(session string) int {
		t.Helper()
		return otposttest.Get[int](t, s.db, `SELECT count(*) FROM ceremonies WHERE state = 'open' AND session = '`+session+`'`)
	}
	intend := func(session string) event.DeactivateBeginReply {
		t.Helper()
		return must[event.DeactivateBeginReply](s, event.VerbDeactivateBegin, s.lost("alice", map[string]any{"session": session, "code": a.next()}))
	}
	s.beginApp("alice", map[string]any{"session": "other"})
	intent := intend("other")
	s.enrolAddress("alice", "email", "alice@example.com")
	if n := open("other"); n != 0 {
		t.Errorf("%d ceremonies of the other session are open after a change", n)
	}
	if p := refused(s, event.VerbDeactivateConfirm, map[string]any{"ceremony": intent.Ceremony, "session": "other"}); p != "unknown_ceremony" {
		t.Errorf("deactivated all the same: %s", p)
	}
	s.beginApp("alice", map[string]any{"session": "one"})
	intend("two")
	s.signal(event.SessionSignedOut, map[string]any{"user": "alice", "session": "one"})
	otposttest.Eventually(t, "the session's ceremonies end", func() bool { return open("one") == 0 })
	if open("two") != 1 {
		t.Error("another session's ceremony has ended with it")
	}
	s.signal(event.PasswordChanged, map[string]any{"user": "alice"})
	otposttest.Eventually(t, "all ceremonies end with the password", func() bool { return open("two") == 0 })

	// What was begun while there was room is refused when there is none.
	mail := must[event.FactorBeginReply](s, event.VerbFactorBegin, s.lost("alice", map[string]any{"kind": "sms", "address": phone(1)}))
	b, third := s.beginApp("alice", nil)
	s.confirm("alice", b.Ceremony, third.value())
	full := map[string]any{"ceremony": mail.Ceremony, "session": "session of alice", "code": s.code(phone(1))}
	if p := refused(s, event.VerbFactorConfirm, full); p != "too_many" {
		t.Errorf("one more than the policy allows: %s", p)
	}
}

// A deletion that comes once more erases nobody who is new under the same id.
func TestALateDeletionSparesWhoIsNew(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	s.enrol("alice")
	body := []byte(`{"specversion":"1.0","id":"gone","source":"https://shop.example","type":"otpost.user.deleted.v1","time":"` + s.now() + `","data":{"user":"alice"}}`)
	follow := func() {
		t.Helper()
		if _, err := s.js.Publish(t.Context(), event.SignalSubject("demo", event.UserDeleted), body); err != nil {
			t.Fatal(err)
		}
	}
	follow()
	id := s.hears(event.UserErased, "alice").ID
	follow() // before there is anybody new: the same event
	otposttest.Eventually(t, "it is followed again", func() bool { return s.did("user.erased") == 2 })
	for _, e := range s.heard.All() {
		if e.Name == event.UserErased && e.ID != id {
			t.Errorf("the second time the event is %s, want %s", e.ID, id)
		}
	}
	s.clock.Advance(time.Minute)
	s.enrol("alice")
	follow()
	otposttest.Eventually(t, "it is skipped", func() bool { return s.did("user.erasure_skipped") == 1 })
	if l := s.factors("alice"); !l.Activated {
		t.Errorf("the new user has %+v", l)
	}
}

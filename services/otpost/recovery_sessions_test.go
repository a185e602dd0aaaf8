package main

import (
	"slices"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file is about who acts: what one session of a user's sets and proves, and what that is worth in another. Whoever has the password can have a session.

// in puts a request into another session.
func in(session string, body map[string]any) map[string]any {
	body["session"] = session
	return body
}

// A letter is read ten days later, when the session that began it is over: with the password another one goes on, and gives all the proofs itself.
func TestRecoveryTakenOver(t *testing.T) {
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait = 0 }))
	s.run(bus.RoleVerification, bus.RoleEnrolment) // without the challenge worker, which would drop the days that the clock leaves behind
	s.prefer("alice", map[string]any{"country": "US", "passphrase": "correct horse battery staple"})
	home := map[string]any{"name": "Alice Example", "line1": "500 Main St", "city": "Austin", "region": "TX", "postal_code": "78701", "country": "US"}
	must[event.RecoveryAddressReply](s, event.VerbRecoveryAddress, s.lost("alice", map[string]any{"method": "letter", "postal": home}))
	s.contact("alice", "phone", phone(1))
	s.enrol("alice")
	begun := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil))
	if r := s.prove("alice", begun.Recovery, "phone", s.resetCode(begun.Recovery, "phone")); r.Result != "proven" {
		t.Errorf("the first proof: %+v", r)
	}

	s.clock.Advance(10 * 24 * time.Hour)
	const later = "session of later"
	letter := s.resetCode(begun.Recovery, "letter")
	if p := refused(s, event.VerbRecoveryProve, in(later, proof("alice", begun.Recovery, "letter", letter))); p != "unknown_recovery" {
		t.Errorf("another session without the password: %s", p)
	}
	again := func(method, code string) event.RecoveryProveReply {
		t.Helper()
		return must[event.RecoveryProveReply](s, event.VerbRecoveryProve, in(later, mergeWord("reauthenticated_at", s.now(), proof("alice", begun.Recovery, method, code))))
	}
	if r := again("letter", wrongCode(letter)); r.Result != "wrong" || !slices.Equal(r.Proven, []string{"phone"}) || r.AttemptsLeft != 8 {
		t.Errorf("a wrong proof takes over: %+v", r)
	}
	if p := refused(s, event.VerbRecoveryResend, map[string]any{"recovery": begun.Recovery, "session": later, "method": "letter"}); p != "unknown_recovery" {
		t.Errorf("a session that has proven nothing has a code sent: %s", p)
	}
	if r := again("letter", letter); r.Result != "proven" || r.State != "proving" || !slices.Equal(r.Proven, []string{"letter"}) || r.Needed != 1 {
		t.Errorf("taken over: %+v, want only the proof of this session", r)
	}
	if p := refused(s, event.VerbRecoveryProve, proof("alice", begun.Recovery, "passphrase", "correct horse battery staple")); p != "unknown_recovery" {
		t.Errorf("the session that began it goes on: %s", p)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM recovery_codes WHERE proven_at IS NOT NULL`); n != 1 {
		t.Errorf("%d codes are noted as proven, want the one of this session", n)
	}
	must[event.ResendReply](s, event.VerbRecoveryResend, map[string]any{"recovery": begun.Recovery, "session": later, "method": "phone"})
	if r := must[event.RecoveryProveReply](s, event.VerbRecoveryProve, in(later, proof("alice", begun.Recovery, "phone", s.resetCode(begun.Recovery, "phone")))); r.State != "completed" {
		t.Errorf("the second proof of this session: %+v", r)
	}
	s.hears(event.RecoveryCompleted, "alice")
	proofs := 0
	for _, e := range s.heard.Of(begun.Recovery) {
		if e.Name == event.RecoveryProven {
			proofs++
		}
	}
	if got := s.actions("recovery.taken_over"); proofs != 3 || !slices.Equal(got, []string{"user recovery.taken_over"}) {
		t.Errorf("%d proofs were told, and the audit says %v", proofs, got)
	}
	if f := s.factors("alice"); len(f.Factors) != 0 {
		t.Errorf("left are %+v", f)
	}
}

// Before the first factor the password alone sets what recovers the account. What a thief of the password has set goes when the user activates a factor, and
// what the user has set stays as long as there is something to recover.
func TestSetWithoutAProof(t *testing.T) {
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait = 0 }))
	s.run(factorRoles...)
	const thief = "session of a thief"
	preferences := func() event.PreferencesReply {
		return must[event.PreferencesReply](s, event.VerbRecoveryPreferences, map[string]any{"user": "alice"})
	}
	s.prefer("alice", map[string]any{"country": "US"})
	s.contact("alice", "phone", phone(1))
	must[event.PreferencesReply](s, event.VerbRecoveryPreferences, in(thief, s.lost("alice", map[string]any{"passphrase": "wrong horse battery staple"})))
	a := must[event.RecoveryAddressReply](s, event.VerbRecoveryAddress, in(thief, s.lost("alice", map[string]any{"method": "email", "address": "thief@rescue.example"})))
	must[event.PreferencesReply](s, event.VerbRecoveryConfirm, map[string]any{"ceremony": a.Ceremony, "session": thief, "code": s.derived("m.id = $1", a.Ceremony)})
	if p := preferences(); len(p.Contacts) != 2 || !p.Passphrase {
		t.Fatalf("set: %+v", p)
	}
	s.clock.Advance(time.Minute)
	open := must[event.RecoveryAddressReply](s, event.VerbRecoveryAddress, in(thief, s.lost("alice", map[string]any{"method": "email", "address": "again@rescue.example"})))

	first := s.enrol("alice")
	if p := preferences(); len(p.Contacts) != 1 || p.Contacts[0].Method != "phone" || p.Passphrase {
		t.Errorf("after the first factor: %+v, want what this session has set", p)
	}
	late := map[string]any{"ceremony": open.Ceremony, "session": thief, "code": s.derived("m.id = $1", open.Ceremony)}
	if p := refused(s, event.VerbRecoveryConfirm, late); p != "unknown_ceremony" {
		t.Errorf("a thief's address is confirmed after it: %s", p)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM contacts WHERE unproven AND removed_at IS NULL`); n != 0 {
		t.Errorf("%d contacts are still in doubt", n)
	}
	s.notified("thief@rescue.example", "security settings") // it was confirmed when this happened

	// With a factor it takes a proof, and what had one stays over a recovery and another session's first factor.
	must[event.PreferencesReply](s, event.VerbRecoveryPreferences, in("session of later", s.lost("alice", map[string]any{
		"passphrase": "correct horse battery staple", "code": first.next(),
	})))
	begun := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil))
	s.prove("alice", begun.Recovery, "passphrase", "correct horse battery staple")
	if r := s.prove("alice", begun.Recovery, "phone", s.resetCode(begun.Recovery, "phone")); r.State != "completed" {
		t.Errorf("recovered: %+v", r)
	}
	second := s.enrol("alice")
	if p := preferences(); len(p.Contacts) != 1 || !p.Passphrase {
		t.Errorf("after the recovery: %+v", p)
	}

	// Where the operator has entered the first factor nobody has settled what was set before, and it recovers nothing.
	s.db.Exec(t, `UPDATE contacts SET unproven = true WHERE removed_at IS NULL`)
	s.db.Exec(t, `UPDATE users SET passphrase_session = 'session of a thief'`)
	if p := preferences(); len(p.Contacts) != 0 || p.Passphrase {
		t.Errorf("set before the operator's factor, without a proof: %+v", p)
	}
	if p := refused(s, event.VerbRecoveryBegin, s.lost("alice", nil)); p != "no_factor" {
		t.Errorf("it recovers the account: %s", p)
	}
	s.db.Exec(t, `UPDATE contacts SET unproven = false WHERE removed_at IS NULL`)

	d := must[event.DeactivateBeginReply](s, event.VerbDeactivateBegin, s.lost("alice", map[string]any{"code": second.next()}))
	must[event.DeactivateConfirmReply](s, event.VerbDeactivateConfirm, map[string]any{"ceremony": d.Ceremony, "session": "session of alice"})
	if p := preferences(); len(p.Contacts) != 0 || p.Passphrase {
		t.Errorf("after the deactivation: %+v", p)
	}
	s.notified(phone(1), "turned off") // the address that went hears of it
}

// Backup codes are a proof once their user has said to have them; their use is told and written down here as at a login. So is what agents look at, and that a
// reset was refused.
func TestRecoveryIsToldAndWrittenDown(t *testing.T) {
	s := newSystem(t)
	s.run(bus.RoleVerification, bus.RoleEnrolment)
	a := s.recoverable("alice", 1)
	s.db.Exec(t, `UPDATE backup_codes SET used_at = now() WHERE position > 4`)
	s.db.Exec(t, `UPDATE users SET activated_at = NULL`)
	begun := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil))
	if begun.BackupCode {
		t.Error("a backup code that nobody has saved may be a proof")
	}
	if r := s.prove("alice", begun.Recovery, "backup_code", a.codes[0]); r.Result != "wrong" {
		t.Errorf("a backup code that nobody has saved is %s", r.Result)
	}
	s.db.Exec(t, `UPDATE users SET activated_at = now()`)
	if r := s.prove("alice", begun.Recovery, "backup_code", a.codes[0]); r.Result != "proven" {
		t.Errorf("a backup code is %s", r.Result)
	}
	if got := s.actions("backup_code.used"); !slices.Equal(got, []string{"user backup_code.used"}) {
		t.Errorf("the audit says %v", got)
	}
	s.said("backup_code_used", "backup_codes_low")

	for _, verb := range []string{event.SupportFind, event.SupportStatus} {
		for _, user := range []string{"alice", "nobody"} {
			if _, p := support[map[string]any](s, "ann", verb, map[string]any{"app": "demo", "user": user}); p != "" {
				t.Errorf("%s %s: %s", verb, user, p)
			}
		}
	}
	const looked = "agent:ann support.looked"
	if got := s.actions("support."); !slices.Equal(got, []string{looked, looked, looked, looked}) {
		t.Errorf("the audit says %v", got)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM accounts WHERE user_id = 'nobody'`); n != 0 {
		t.Error("by a look an unknown user became known")
	}

	must[event.RecoveryCancelReply](s, event.VerbRecoveryCancel, owned("alice", nil))
	s.said("recovery_cancelled")
	asked, _ := support[event.RecoveryReply](s, "ann", event.SupportBegin, map[string]any{"app": "demo", "user": "alice", "reason": "asked"})
	if _, p := support[event.RecoveryReply](s, "bob", event.SupportRefuse, map[string]any{"app": "demo", "recovery": asked.Recovery}); p != "" {
		t.Errorf("refused: %s", p)
	}
	s.said("recovery_cancelled", "recovery_cancelled")
}

// said waits until messages of these notices went to one address of everybody's, once each.
func (s *system) said(notices ...string) {
	s.t.Helper()
	for _, n := range slices.Compact(slices.Clone(notices)) {
		want := 0
		for _, m := range notices {
			if m == n {
				want++
			}
		}
		otposttest.Eventually(s.t, "the notice "+n, func() bool {
			return otposttest.Get[int](s.t, s.db, `SELECT count(*) FROM messages WHERE channel = 'sms' AND notice ->> 'notice' = $1`, n) == want
		})
	}
}

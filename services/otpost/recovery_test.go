package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file follows recoveries from what is set beforehand to their end, over all workers.

// soon is a waiting time after which logins by request, which come in real time, are not stale yet.
const soon = 2 * time.Minute

// prefer changes a user's preferences, of a user who has no factor yet.
func (s *system) prefer(user string, more map[string]any) event.PreferencesReply {
	s.t.Helper()
	body := owned(user, map[string]any{"reauthenticated_at": s.now()})
	for k, v := range more {
		body[k] = v
	}
	return must[event.PreferencesReply](s, event.VerbRecoveryPreferences, body)
}

// contact sets an address for recovery, of a user who has no factor yet.
func (s *system) contact(user, method, address string) event.PreferencesReply {
	s.t.Helper()
	a := must[event.RecoveryAddressReply](s, event.VerbRecoveryAddress, owned(user, map[string]any{
		"method": method, "address": address, "reauthenticated_at": s.now(),
	}))
	return must[event.PreferencesReply](s, event.VerbRecoveryConfirm, map[string]any{
		"ceremony": a.Ceremony, "session": "session of " + user, "code": s.derived("m.id = $1", a.Ceremony),
	})
}

// lost is a request of a user who has entered the password just now.
func (s *system) lost(user string, more map[string]any) map[string]any {
	return owned(user, mergeWord("reauthenticated_at", s.now(), more))
}

func mergeWord(name, value string, more map[string]any) map[string]any {
	out := map[string]any{name: value}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// recoverable gives a user in the US an email address and a number for recovery, and then an authenticator app.
func (s *system) recoverable(user string, n int) *authenticator {
	s.t.Helper()
	s.prefer(user, map[string]any{"country": "US", "region": "CA"})
	s.contact(user, "email", user+"@rescue.example")
	s.contact(user, "phone", phone(n))
	return s.enrol(user)
}

// derived derives the code of a message, as its delivery does.
func (s *system) derived(where string, args ...any) string {
	s.t.Helper()
	var in otp.CodeInput
	var id uuid.UUID
	var key uint32
	row := s.db.SQL(otposttest.Owner).QueryRowContext(s.t.Context(), `SELECT m.code_id, m.nonce, m.key_id, m.digits FROM messages m WHERE `+where, args...)
	if err := row.Scan(&id, &in.Nonce, &key, &in.Digits); err != nil {
		s.t.Fatal(err)
	}
	in.App, in.Challenge = "demo", id
	prf, err := otposttest.Ring(s.t, keyring.Enrolment).CeremonyPRF(key)
	if err != nil {
		s.t.Fatal(err)
	}
	code, err := otp.DeriveCode(prf, in)
	if err != nil {
		s.t.Fatal(err)
	}
	return code
}

// resetCode derives the code that a method of a recovery has sent.
func (s *system) resetCode(recovery, method string) string {
	s.t.Helper()
	return s.derived(`m.id = (SELECT id FROM recovery_codes WHERE recovery_id = $1 AND method = $2)`, recovery, method)
}

// stopCode derives the code that cancels a recovery.
func (s *system) stopCode(recovery string) string {
	s.t.Helper()
	var in otp.CodeInput
	var key uint32
	row := s.db.SQL(otposttest.Owner).QueryRowContext(s.t.Context(), `SELECT nonce, key_id FROM recoveries WHERE id = $1`, recovery)
	if err := row.Scan(&in.Nonce, &key); err != nil {
		s.t.Fatal(err)
	}
	in.App, in.Challenge, in.Digits = "demo", uuid.MustParse(recovery), 8
	prf, err := otposttest.Ring(s.t, keyring.Enrolment).CeremonyPRF(key)
	if err != nil {
		s.t.Fatal(err)
	}
	code, err := otp.DeriveCode(prf, in)
	if err != nil {
		s.t.Fatal(err)
	}
	return code
}

func (s *system) prove(user, recovery, method, code string) event.RecoveryProveReply {
	s.t.Helper()
	return must[event.RecoveryProveReply](s, event.VerbRecoveryProve, proof(user, recovery, method, code))
}

func proof(user, recovery, method, code string) map[string]any {
	return map[string]any{"recovery": recovery, "session": "session of " + user, "method": method, "code": code}
}

func (s *system) standing(user string) event.RecoveryReply {
	s.t.Helper()
	return must[event.RecoveryReply](s, event.VerbRecoveryStatus, map[string]any{"user": user})
}

// actions are what the audit says of recoveries, in order.
func (s *system) actions(prefix string) []string {
	s.t.Helper()
	text := otposttest.Get[string](s.t, s.db, `SELECT coalesce(string_agg(actor || ' ' || action, ',' ORDER BY id), '') FROM audit WHERE action LIKE $1`, prefix+"%")
	return strings.Split(text, ",")
}

// A user sets two addresses, loses the phone with the authenticator app, recovers with codes by both, and enrols anew.
func TestRecoveryByTwoCodes(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait = soon }))
	s.run(factorRoles...)
	if p := s.prefer("alice", map[string]any{"country": "CZ"}); !slices.Equal(p.Allowed, []string{"email"}) {
		t.Errorf("in the Czech Republic %v are allowed, want email", p.Allowed)
	}
	if p := s.prefer("alice", map[string]any{"country": "US", "region": "CA"}); !slices.Equal(p.Allowed, []string{"email", "phone", "letter"}) || p.Region != "CA" {
		t.Errorf("in the US %+v", p)
	}
	for _, to := range []struct{ method, address string }{{"email", "alice@rescue.example"}, {"phone", phone(1)}} {
		a := must[event.RecoveryAddressReply](s, event.VerbRecoveryAddress, owned("alice", map[string]any{
			"method": to.method, "address": to.address, "reauthenticated_at": s.now(),
		}))
		if strings.Contains(a.To, to.address) || a.To == "" {
			t.Errorf("the code went to %q", a.To)
		}
		code := s.code(to.address)
		if p := refused(s, event.VerbRecoveryConfirm, map[string]any{"ceremony": a.Ceremony, "session": "another", "code": code}); p != "unknown_ceremony" {
			t.Errorf("another session confirms: %s", p)
		}
		if p := refused(s, event.VerbFactorConfirm, map[string]any{"ceremony": a.Ceremony, "session": "session of alice", "code": code}); p != "unknown_ceremony" {
			t.Errorf("a reset address became a factor: %s", p)
		}
		must[event.PreferencesReply](s, event.VerbRecoveryConfirm, map[string]any{"ceremony": a.Ceremony, "session": "session of alice", "code": code})
	}
	s.notified("alice@rescue.example", "security settings") // that the number was set
	old := s.enrol("alice")
	device := s.epoch("alice")

	begun := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", map[string]any{"client": map[string]any{"ip": "203.0.113.7"}}))
	if begun.State != "proving" || len(begun.Methods) != 2 || begun.Needed != 2 || !begun.BackupCode || begun.Passphrase {
		t.Errorf("begun: %+v", begun)
	}
	s.hears(event.RecoveryBegun, "alice")
	for _, to := range []string{"alice@rescue.example", phone(1)} { // every contact is told at once how to stop it
		if text := s.notified(to, "stop the reset"); !strings.Contains(text, s.stopCode(begun.Recovery)) {
			t.Errorf("the notice to %s does not have the code that stops it", to)
		}
	}
	if p := refused(s, event.VerbRecoveryBegin, s.lost("alice", nil)); p != "conflict" {
		t.Errorf("a second one: %s", p)
	}
	byEmail, byPhone := digits.FindString(s.notified("alice@rescue.example", "enter this code to continue")), digits.FindString(s.notified(phone(1), "is your", "recovery code"))
	if r := s.prove("alice", begun.Recovery, "email", wrongCode(byEmail)); r.Result != "wrong" || r.AttemptsLeft != 9 || r.Needed != 2 {
		t.Errorf("a wrong proof: %+v", r)
	}
	if r := s.prove("alice", begun.Recovery, "email", byEmail); r.Result != "proven" || r.State != "proving" || r.Needed != 1 || !slices.Equal(r.Proven, []string{"email"}) {
		t.Errorf("one proof: %+v", r)
	}
	if p := refused(s, event.VerbRecoveryProve, proof("alice", begun.Recovery, "email", byEmail)); p != "conflict" {
		t.Errorf("the same proof again: %s", p)
	}
	waiting := s.prove("alice", begun.Recovery, "phone", byPhone)
	if waiting.State != "waiting" || waiting.Needed != 0 || waiting.EffectiveAt != event.Time(s.clock.Now().Add(soon)) {
		t.Errorf("two proofs: %+v", waiting)
	}
	s.notified(phone(1), "it takes effect on", "stop the reset")
	if l := s.ask("while it waits", "alice", nil); l.Outcome != "issued" || l.Factor != "totp" {
		t.Errorf("while it waits a login is %+v", l)
	}

	s.clock.Advance(soon)
	done := otposttest.Decode[event.RecoveryData](t, s.hears(event.RecoveryCompleted, "alice"))
	if done.Recovery != begun.Recovery || !slices.Equal(done.Proven, []string{"email", "phone"}) {
		t.Errorf("completed: %+v", done)
	}
	if gone := otposttest.Decode[event.FactorData](t, s.hears(event.FactorRemoved, "alice")); gone.Factor != old.factor || gone.Reason != event.RemovedRecovery {
		t.Errorf("removed: %+v", gone)
	}
	s.notified("alice@rescue.example", "was reset")
	if f := s.factors("alice"); len(f.Factors) != 0 || f.Activated || f.BackupCodesLeft != 0 || s.epoch("alice") <= device {
		t.Errorf("left are %+v, epoch %d after %d", f, s.epoch("alice"), device)
	}
	if l := s.ask("after it", "alice", nil); l.Outcome == "issued" {
		t.Errorf("after it a login is %+v", l)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT failures FROM accounts WHERE user_id = 'alice'`); n != 1 {
		t.Errorf("the account has %d failures, want the one of the wrong proof: a recovery resets nothing", n)
	}
	if p := must[event.PreferencesReply](s, event.VerbRecoveryPreferences, map[string]any{"user": "alice"}); len(p.Contacts) != 2 {
		t.Errorf("contacts: %+v", p)
	}
	if again := s.enrol("alice"); again.factor == old.factor || len(again.codes) != 10 {
		t.Errorf("enrolled anew: %+v", again)
	}
	want := []string{"user recovery.begun", "user recovery.wrong", "user recovery.proven", "user recovery.proven", "user recovery.waiting", "system recovery.completed"}
	if got := s.actions("recovery."); !slices.Equal(got[len(got)-len(want):], want) {
		t.Errorf("the audit says %v, want %v at its end", got, want)
	}
}

// epoch is the user's factor epoch: trusted devices of an older one are void.
func (s *system) epoch(user string) int {
	s.t.Helper()
	return otposttest.Get[int](s.t, s.db, `SELECT epoch FROM users WHERE user_id = $1`, user)
}

// A letter with a code, read from the paper, and the passphrase: without a waiting time the reset takes effect with the second proof.
func TestRecoveryByLetterAndPassphrase(t *testing.T) {
	t.Parallel()
	pdftotext := tool(t, "pdftotext", "poppler-utils")
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait = 0 }))
	s.run(bus.RoleLetter, bus.RoleVerification, bus.RoleEnrolment) // without the challenge worker, which would drop the days that the clock leaves behind
	s.prefer("alice", map[string]any{"country": "US", "passphrase": "correct horse battery staple"})
	home := map[string]any{"name": "Alice Example", "line1": "500 Main St", "city": "Honolulu", "region": "hi", "postal_code": "96813", "country": "US"}
	a := must[event.RecoveryAddressReply](s, event.VerbRecoveryAddress, owned("alice", map[string]any{"method": "letter", "postal": home, "reauthenticated_at": s.now()}))
	if a.Ceremony != "" || strings.Contains(a.To, "Alice") || strings.Contains(a.To, "96813") {
		t.Errorf("a postal address: %+v", a)
	}
	s.enrol("alice")
	begun := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", map[string]any{"methods": []string{"letter"}}))
	month := event.Time(s.clock.Now().Add(30 * 24 * time.Hour)) // Hawaii is not of the contiguous US
	if len(begun.Methods) != 1 || begun.Methods[0].ExpiresAt != month || begun.ExpiresAt != month || begun.Methods[0].SendsLeft != 1 || !begun.Passphrase {
		t.Errorf("begun: %+v", begun)
	}
	resend := map[string]any{"recovery": begun.Recovery, "session": "session of alice", "method": "letter"}
	if p := refused(s, event.VerbRecoveryResend, resend); p != "rate_limited" {
		t.Errorf("a letter once more at once: %s", p)
	}
	code := s.letter(pdftotext, 1)
	s.clock.Advance(3 * 24 * time.Hour)
	if r := must[event.ResendReply](s, event.VerbRecoveryResend, resend); r.SendsLeft != 0 {
		t.Errorf("a letter once more: %+v", r)
	}
	if again := s.letter(pdftotext, 2); again != code || len(code) != 10 {
		t.Errorf("the letters have the codes %q and %q, want one of ten digits", code, again)
	}
	s.clock.Advance(4 * 24 * time.Hour)
	if p := refused(s, event.VerbRecoveryResend, resend); p != "rate_limited" {
		t.Errorf("a third letter: %s", p)
	}
	if r := s.prove("alice", begun.Recovery, "passphrase", "correct horse battery maple"); r.Result != "wrong" {
		t.Errorf("a wrong passphrase: %+v", r)
	}
	if r := s.prove("alice", begun.Recovery, "passphrase", "correct horse battery staple"); r.Result != "proven" || r.Needed != 1 || r.State != "proving" {
		t.Errorf("the passphrase: %+v", r)
	}
	if r := s.prove("alice", begun.Recovery, "letter", code[:4]+" "+code[4:]); r.State != "completed" || r.EffectiveAt != s.now() {
		t.Errorf("the code of the letter: %+v", r)
	}
	s.hears(event.RecoveryCompleted, "alice")
	if f := s.factors("alice"); len(f.Factors) != 0 {
		t.Errorf("left are %+v", f)
	}
	if p := must[event.PreferencesReply](s, event.VerbRecoveryPreferences, map[string]any{"user": "alice"}); !p.Passphrase || len(p.Contacts) != 1 {
		t.Errorf("preferences: %+v", p)
	}
}

var lettered = regexp.MustCompile(`\b\d{4} \d{3} \d{3}\b`)

// letter waits for so many letters and returns the code of the last.
func (s *system) letter(pdftotext string, n int) string {
	s.t.Helper()
	var files []string
	otposttest.Eventually(s.t, fmt.Sprint(n, " letters"), func() bool {
		files, _ = filepath.Glob(filepath.Join(s.spool, "[0-9a-z]*.pdf"))
		return len(files) == n
	})
	slices.SortFunc(files, func(a, b string) int { return modified(s.t, a).Compare(modified(s.t, b)) })
	out, err := exec.CommandContext(s.t.Context(), pdftotext, "-layout", files[n-1], "-").Output() //nolint:gosec // a test's own words
	if err != nil {
		s.t.Fatalf("pdftotext: %v", err)
	}
	if !strings.Contains(string(out), "500 Main St") {
		s.t.Errorf("the letter does not go where it should:\n%s", out)
	}
	return strings.ReplaceAll(lettered.FindString(string(out)), " ", "")
}

func modified(t testing.TB, file string) time.Time {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

// Whoever is told can stop it: with the code of the notice, from a session, or through support. Then nothing has changed.
func TestRecoveryStopped(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait, p.RecoveriesPerDay = soon, 4 }))
	s.run(factorRoles...)
	a := s.recoverable("alice", 1)
	for _, how := range []string{"code", "session", "another session", "support"} {
		begun := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil))
		s.prove("alice", begun.Recovery, "email", s.resetCode(begun.Recovery, "email"))
		if how != "session" { // one is stopped while proofs are given, the others while they wait
			s.prove("alice", begun.Recovery, "phone", s.resetCode(begun.Recovery, "phone"))
		}
		switch code := s.stopCode(begun.Recovery); how {
		case "code":
			if p := refused(s, event.VerbRecoveryCancel, map[string]any{"user": "alice", "code": wrongCode(code)}); p != "wrong_code" {
				t.Errorf("a wrong code: %s", p)
			}
			if n := otposttest.Get[int](t, s.db, `SELECT failures FROM accounts WHERE user_id = 'alice'`); n != 1 {
				t.Errorf("a wrong code left %d failures", n)
			}
			// Nobody's wrong answers keep the user from stopping it: not while the account waits, nor when it is locked.
			s.db.Exec(t, `UPDATE accounts SET failures = 100, locked_at = now(), wait_until = now() + interval '1 hour' WHERE user_id = 'alice'`)
			if p := refused(s, event.VerbRecoveryCancel, map[string]any{"user": "alice", "code": wrongCode(code)}); p != "wrong_code" {
				t.Errorf("a wrong code for a locked account: %s", p)
			}
			must[event.RecoveryCancelReply](s, event.VerbRecoveryCancel, map[string]any{"user": "alice", "code": code})
			s.db.Exec(t, `UPDATE accounts SET failures = 0, locked_at = NULL, wait_until = NULL WHERE user_id = 'alice'`)
		case "session":
			must[event.RecoveryCancelReply](s, event.VerbRecoveryCancel, owned("alice", nil))
		case "another session":
			other := map[string]any{"user": "alice", "session": "another session"}
			for _, at := range []string{"", event.Time(s.clock.Now().Add(-6 * time.Minute))} {
				other["reauthenticated_at"] = at
				if p := refused(s, event.VerbRecoveryCancel, other); p != "reauthentication_required" {
					t.Errorf("from another session with the password at %q: %s", at, p)
				}
			}
			other["reauthenticated_at"] = s.now()
			must[event.RecoveryCancelReply](s, event.VerbRecoveryCancel, other)
		default:
			if r, p := support[event.RecoveryReply](s, "ann", event.SupportCancel, map[string]any{"app": "demo", "recovery": begun.Recovery}); p != "" || r.State != "cancelled" {
				t.Errorf("support cancels: %+v %s", r, p)
			}
		}
		e := s.heard.Wait(t, event.RecoveryCancelled, func(e otposttest.Event) bool { return e.Subject == begun.Recovery })
		if by := otposttest.Decode[event.RecoveryData](t, e).By; by != map[bool]string{true: "support", false: "user"}[how == "support"] {
			t.Errorf("%s: cancelled by %s", how, by)
		}
		if p := refused(s, event.VerbRecoveryProve, proof("alice", begun.Recovery, "phone", s.resetCode(begun.Recovery, "phone"))); p != "unknown_recovery" {
			t.Errorf("%s: a proof after its end: %s", how, p)
		}
		if p := refused(s, event.VerbRecoveryCancel, owned("alice", nil)); p != "unknown_recovery" {
			t.Errorf("%s: cancelled twice: %s", how, p)
		}
	}
	s.notified(phone(1), "was cancelled", "nothing has changed")
	s.clock.Advance(soon)
	if f := s.factors("alice"); len(f.Factors) != 1 || f.Factors[0].Factor != a.factor {
		t.Errorf("left are %+v", f)
	}
	l := s.ask("after all", "alice", nil)
	if r := s.verify(l.Challenge, "alice", a.next()); r.Result != "verified" {
		t.Errorf("the factor's value is %s", r.Result)
	}

	// Who wants no factor any more has none to recover.
	s.clock.Advance(24 * time.Hour)
	begun := must[event.RecoveryReply](s, event.VerbRecoveryBegin, s.lost("alice", nil))
	d := must[event.DeactivateBeginReply](s, event.VerbDeactivateBegin, owned("alice", map[string]any{"reauthenticated_at": s.now(), "code": a.value()}))
	must[event.DeactivateConfirmReply](s, event.VerbDeactivateConfirm, map[string]any{"ceremony": d.Ceremony, "session": "session of alice"})
	if now := s.standing("alice"); now.Recovery != begun.Recovery || now.State != "cancelled" {
		t.Errorf("after the deactivation it is %+v", now)
	}
}

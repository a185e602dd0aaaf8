package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// activity asks what was done with a user's factors.
func (s *system) activity(user string, more map[string]any) event.ActivityListReply {
	s.t.Helper()
	return must[event.ActivityListReply](s, event.VerbActivityList, mergeWord("user", user, more))
}

// lines writes activity short: what was done, by whom, with what, and whether here.
func lines(r event.ActivityListReply) []string {
	out := []string{}
	for _, a := range r.Activity {
		words := []string{a.Action, a.By}
		for _, w := range []string{a.Kind, a.Method, a.How, a.Reason} {
			if w != "" {
				words = append(words, w)
			}
		}
		if a.Left != nil {
			words = append(words, fmt.Sprint("left=", *a.Left))
		}
		if a.Here {
			words = append(words, "here")
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

// A user sees what was done with their factors, newest first: not logins, not what is for operators, and nothing of anybody else's.
func TestActivity(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	s.enrol("bob")
	alice := s.enrol("alice")
	r := s.ask("login", "alice", nil)
	if v := s.verify(r.Challenge, "alice", alice.next()); v.Result != "verified" {
		t.Fatalf("%+v", v)
	}
	r = s.ask("with a backup code", "alice", nil)
	if v := s.verify(r.Challenge, "alice", alice.codes[0]); v.Result != "verified" {
		t.Fatalf("%+v", v)
	}
	must[event.FactorListReply](s, event.VerbFactorRename, map[string]any{"user": "alice", "factor": alice.factor, "label": "pocket", "session": "another"})
	if _, p := support[event.SupportFindReply](s, "ann", event.SupportFind, map[string]any{"app": "demo", "user": "alice"}); p != "" {
		t.Fatal(p)
	}
	s.db.Exec(t, "UPDATE accounts SET failures = 7, locked_at = $1", s.clock.Now())
	key, err := otposttest.Ring(t, keyring.Operator).AuditKey("user", "demo", "alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := postgres.NewFactors(s.db.Role("operator")).Unlock(t.Context(), s.clock.Now(), postgres.Account{AppID: s.app.ID, User: "alice"}, key); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"account.unlocked operator", "factor.renamed user", "backup_code.used user left=9 here", "factor.added user totp here", "backup_codes.acknowledged user saved here",
	}
	all := s.activity("alice", map[string]any{"session": "session of alice"})
	if got := lines(all); !slices.Equal(got, want) || all.Before != "" {
		t.Errorf("activity is\n%q, want\n%q", got, want)
	}
	for i, a := range all.Activity {
		if at := event.ParseTime(a.At); at.IsZero() || i > 0 && at.After(event.ParseTime(all.Activity[i-1].At)) {
			t.Errorf("line %d is of %s", i, a.At)
		}
	}
	if got := lines(s.activity("alice", nil)); strings.Contains(strings.Join(got, " "), "here") {
		t.Errorf("without a session it is %q", got)
	}
	whole, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	for _, private := range []string{"alice", "ann", alice.factor, "pocket", alice.codes[0], key.String()} {
		if strings.Contains(string(whole), private) {
			t.Errorf("the reply names %s: %s", private, whole)
		}
	}
	if got := lines(s.activity("bob", map[string]any{"session": "session of alice"})); len(got) != 2 || strings.Contains(strings.Join(got, " "), "here") {
		t.Errorf("another user's is %q", got)
	}
	if got := s.activity("nobody", nil); len(got.Activity) != 0 || got.Before != "" {
		t.Errorf("an unknown user's is %+v", got)
	}

	// In pages of two it is the same, and what marks a page serves for nobody else.
	var paged []string
	ask := map[string]any{"session": "session of alice", "limit": 2}
	for pages := 1; ; pages++ {
		page := s.activity("alice", ask)
		paged = append(paged, lines(page)...)
		if page.Before == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		if ask["before"] = page.Before; refused(s, event.VerbActivityList, map[string]any{"user": "bob", "before": page.Before}) != "invalid" {
			t.Error("the mark of alice's page serves for bob")
		}
	}
	if !slices.Equal(paged, want) {
		t.Errorf("page by page it is %q", paged)
	}
	for _, forged := range []string{"AAAAAAAAAAA", "x", strings.Repeat("A", 64)} {
		if p := refused(s, event.VerbActivityList, map[string]any{"user": "alice", "before": forged}); p != "invalid" {
			t.Errorf("a forged mark: %s", p)
		}
	}
}

// What support and a recovery do is told in the same general words, and an agent's own are not.
func TestActivityOfARecovery(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	s.recoverable("alice", 1)
	begun, p := support[event.RecoveryReply](s, "ann", event.SupportBegin, map[string]any{"app": "demo", "user": "alice", "reason": "ticket 4711"})
	if p != "" {
		t.Fatal(p)
	}
	if _, p := support[event.RecoveryReply](s, "ann", event.SupportCancel, map[string]any{"app": "demo", "recovery": begun.Recovery}); p != "" {
		t.Fatal(p)
	}
	s.clock.Advance(24 * time.Hour)
	own := must[event.RecoveryReply](s, event.VerbRecoveryBegin, owned("alice", map[string]any{"reauthenticated_at": s.now()}))
	s.prove("alice", own.Recovery, "email", s.resetCode(own.Recovery, "email"))
	s.prove("alice", own.Recovery, "phone", wrongCode(s.resetCode(own.Recovery, "phone")))
	want := []string{
		"recovery.wrong user phone here", "recovery.proven user email here", "recovery.begun user here", "recovery.cancelled support", "recovery.begun support",
	}
	got := s.activity("alice", map[string]any{"session": "session of alice", "limit": len(want)})
	if !slices.Equal(lines(got), want) || got.Before == "" {
		t.Errorf("activity is\n%q, want\n%q", lines(got), want)
	}
}

// However a device ends, its user is shown that it did and why.
func TestActivityOfTrust(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	a := s.enrol("alice")
	trust := func(login string) string {
		t.Helper()
		r := s.ask(login, "alice", nil)
		v := must[event.VerifyReply](s, event.VerbVerify, map[string]any{
			"challenge": r.Challenge, "session": "session of alice", "code": a.next(), "trust_device": map[string]any{"label": "laptop"},
		})
		if v.Device == "" {
			t.Fatalf("no device: %+v", v)
		}
		return must[event.DeviceListReply](s, event.VerbDeviceList, map[string]any{"user": "alice"}).Devices[0].Device
	}
	here := map[string]any{"session": "session of alice", "limit": 2}
	expect := func(want ...string) {
		t.Helper()
		if got := lines(s.activity("alice", here)); !slices.Equal(got, want) {
			t.Errorf("activity is %q, want %q", got, want)
		}
	}
	must[event.DeviceListReply](s, event.VerbDeviceRevoke, owned("alice", map[string]any{"device": trust("by hand")}))
	expect("device.revoked user by_hand here", "device.trusted user here")
	trust("a factor more")
	b, second := s.beginApp("alice", nil)
	s.confirm("alice", b.Ceremony, second.value())
	expect("factor.added user totp here", "device.revoked user factors_changed here")
	trust("a factor less")
	must[event.FactorListReply](s, event.VerbFactorRemove, owned("alice", map[string]any{"factor": b.Ceremony, "reauthenticated_at": s.now(), "code": a.next()}))
	expect("device.revoked user factors_changed here", "factor.removed user totp removed here")
	trust("signed out")
	s.signal(event.SessionSignedOut, map[string]any{"user": "alice", "session": "session of alice"})
	otposttest.Eventually(t, "the signal is followed", func() bool { return s.did("device.revoked") == 4 })
	expect("device.revoked user signed_out here", "device.trusted user here")
}

// The audit outlives a person's erasure. Who has the same id afterwards is shown nothing of it.
func TestActivityBeginsAnewAfterErasure(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	s.enrol("alice")
	body := []byte(`{"specversion":"1.0","id":"gone","source":"https://shop.example","type":"otpost.user.deleted.v1","time":"` + s.now() + `","data":{"user":"alice"}}`)
	if _, err := s.js.Publish(t.Context(), event.SignalSubject("demo", event.UserDeleted), body); err != nil {
		t.Fatal(err)
	}
	s.hears(event.UserErased, "alice")
	if got := s.activity("alice", nil); len(got.Activity) != 0 {
		t.Errorf("after the erasure it is %q", lines(got))
	}
	s.enrol("alice")
	if got := lines(s.activity("alice", nil)); !slices.Equal(got, []string{"factor.added user totp", "backup_codes.acknowledged user saved"}) {
		t.Errorf("of the new person it is %q", got)
	}
}

// A rotation of the keys by which the audit knows people hides nothing.
func TestActivityFromBeforeARotation(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleVerification)
	stop := s.run(bus.RoleEnrolment)
	s.enrol("alice")
	before := lines(s.activity("alice", map[string]any{"session": "session of alice"}))
	stop()
	rotated := filepath.Join(t.TempDir(), "keys")
	if err := os.CopyFS(rotated, os.DirFS(s.keys)); err != nil {
		t.Fatal(err)
	}
	private(t, rotated)
	if _, err := keyring.Add(rotated, keyring.Index); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Promote(rotated, keyring.Index); err != nil {
		t.Fatal(err)
	}
	s.start(bus.RoleEnrolment, "", "--keys", rotated)
	if after := lines(s.activity("alice", map[string]any{"session": "session of alice"})); len(before) != 2 || !slices.Equal(before, after) {
		t.Errorf("before it was %q, after it is %q", before, after)
	}
}

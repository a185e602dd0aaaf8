package main

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file goes through the pages of recovery with a browser that runs no scripts.

// lookAt opens a page again and again until it has led to another.
func (v *visitor) lookAt(path, until string) {
	v.e.s.t.Helper()
	otposttest.Eventually(v.e.s.t, path+" leads to "+until, func() bool {
		v.Open(path)
		return v.URL.Path == until
	})
}

var refresh = regexp.MustCompile(`<meta http-equiv="refresh" content="(\d+)">`)

// proves gives one proof on the pages.
func (v *visitor) proves(method, code string) {
	v.e.s.t.Helper()
	v.Fill("/recovery/choose", map[string]string{"method": method})
	v.At("/recovery/code")
	v.Fill("/recovery/code", map[string]string{"code": code})
}

func TestRecoveryOnPages(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait = soon }))
	s.run(factorRoles...)
	e := s.edge()
	s.recoverable("alice", 1)
	v := e.visit("alice", event.PageRecovery, nil)
	v.At("/recovery")
	v.Says("Lost your phone?", "•••@rescue.example", "10 codes left", "Then 2 minutes pass.")
	if text := v.Text(); strings.Contains(text, "alice@rescue.example") || strings.Contains(text, phone(1)) {
		t.Errorf("the page shows whole addresses:\n%s", text)
	}
	v.Open("/setup")
	v.At("/recovery") // a password alone sets up nothing
	v.Open("/recovery/done")
	v.At("/recovery") // nor has anything been recovered
	v.Post("/recovery/begin", url.Values{"csrf": {"forged"}})
	if v.Status != http.StatusForbidden || s.standing("alice").State != "none" {
		t.Fatalf("a forged form began a recovery: %d", v.Status)
	}
	v.Open("/recovery")
	v.Fill("/recovery/begin", nil)
	v.At("/recovery/prove")
	id := s.standing("alice").Recovery
	v.Says("Which one first?", "Backup code")

	v.proves("email", wrongCode(s.resetCode(id, "email")))
	if v.Status != http.StatusUnprocessableEntity {
		t.Errorf("a wrong code: %d", v.Status)
	}
	v.At("/recovery/code")
	v.Says("You have 9 tries left.")
	v.Fill("/recovery/code", map[string]string{"code": "x"})
	v.Says("not what such a code looks like")
	code := s.resetCode(id, "email")
	v.Fill("/recovery/code", map[string]string{"code": " " + code[:3] + " " + code[3:] + " "})
	v.At("/recovery/prove")
	v.Says("That was right.", "Now one more, of another kind.", "Done")
	v.Fill("/recovery/choose", map[string]string{"method": "email"})
	v.At("/recovery/prove") // once is enough
	v.Fill("/recovery/choose", map[string]string{"method": "passphrase"})
	v.At("/recovery/prove") // there is none
	if strings.Contains(string(v.Body), id) {
		t.Error("the page holds the id of the recovery")
	}

	v.Fill("/recovery/choose", map[string]string{"method": "phone"})
	v.Fill("/recovery/resend", nil)
	v.Says("too soon")
	s.clock.Advance(30 * time.Second)
	v.Fill("/recovery/resend", nil)
	v.At("/recovery/code")
	v.Says("The code is on its way.")
	v.Fill("/recovery/code", map[string]string{"code": s.resetCode(id, "phone")})
	v.At("/recovery/waiting")
	v.Says("in 2 minutes", "UTC", "You can close this page.")
	if refresh.Match(v.Body) {
		t.Error("the page asks by itself two minutes before the end")
	}
	s.clock.Advance(90 * time.Second)
	v.Open("/recovery/waiting")
	if m := refresh.FindSubmatch(v.Body); m == nil || string(m[1]) != "31" {
		t.Errorf("half a minute before the end the page asks again after %q seconds", m)
	}
	s.clock.Advance(30 * time.Second)
	v.lookAt("/recovery/waiting", "/recovery/done")
	v.Says("Your old second steps are gone")
	v.Open("/setup")
	v.At("/setup")
	v.Open("/recovery/done")
	v.Fill("/recovery/done", nil)
	if r := v.result(); r.Outcome != event.OutcomeRecovered || r.User != "alice" || r.Page != event.PageRecovery {
		t.Errorf("the result: %+v", r)
	}
	late := e.visit("alice", event.PageRecovery, map[string]any{"reauthenticated_at": nil, "session": "another"})
	late.At("/recovery/done") // and without the password too: it is said, but nothing is set up
	late.Open("/setup")
	late.At("/recovery/done")
	s.enrol("alice")
	late.Open("/recovery/done")
	late.At("/reauthenticate") // an old recovery is no outcome
}

// Who got a message that they did not ask for stops the recovery, from any session and without the password; who began it can stop it too.
func TestRecoveryStoppedOnPages(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	s.recoverable("alice", 1)
	v := e.visit("alice", event.PageRecovery, nil)
	tab := *v.Browser // the same browser, with the form of the same page
	v.Fill("/recovery/begin", nil)
	v.At("/recovery/prove")
	id := s.standing("alice").Recovery
	tab.Fill("/recovery/begin", nil)
	tab.At("/recovery")
	tab.Says("A recovery is under way")

	owner := e.visit("alice", event.PageRecovery, map[string]any{"session": "another", "reauthenticated_at": nil})
	owner.At("/recovery")
	owner.Open("/recovery/cancel")
	owner.Fill("/recovery/cancel", nil)
	owner.At("/reauthenticate")
	if now := s.standing("alice"); now.State != "proving" {
		t.Fatalf("a session alone has stopped it: %+v", now)
	}
	owner.Open("/recovery/stop")
	owner.Fill("/recovery/stop", map[string]string{"code": wrongCode(s.stopCode(id))})
	owner.Says("does not stop the recovery")
	owner.Post("/recovery/stop", url.Values{"csrf": owner.Forms("/recovery/stop")[0].Values["csrf"], "code": {" "}})
	owner.Says("not what such a code looks like")
	owner.Fill("/recovery/stop", map[string]string{"code": s.stopCode(id)})
	owner.At("/recovery/stopped")
	owner.Says("Nothing has changed", "change your password at App demo")
	owner.Open("/recovery/stop")
	owner.Fill("/recovery/stop", map[string]string{"code": s.stopCode(id)})
	owner.Says("No recovery is under way.")

	v.Open("/recovery/prove")
	v.At("/recovery")
	v.Says("The last recovery was stopped.")
	s.clock.Advance(time.Minute) // past the wait between two codes, and after the wrong one
	v.Fill("/recovery/begin", nil)
	v.At("/recovery/prove")
	v.Open("/recovery/cancel")
	v.Fill("/recovery/cancel", nil)
	v.At("/recovery/stopped")
	v.Fill("/leave", nil)
	if r := v.result(); r.Outcome != event.OutcomeCancelled {
		t.Errorf("the result: %+v", r)
	}
	stale := e.visit("alice", event.PageRecovery, map[string]any{"reauthenticated_at": event.Time(s.clock.Now().Add(-6 * time.Minute))})
	stale.At("/reauthenticate")
}

// With the password, another browser carries a recovery on, and gives every proof itself. Too many wrong ones end it.
func TestRecoveryCarriedOnOnPages(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	s.recoverable("alice", 1)
	v := e.visit("alice", event.PageRecovery, nil)
	v.Fill("/recovery/begin", nil)
	id := s.standing("alice").Recovery
	v.proves("email", s.resetCode(id, "email"))
	v.At("/recovery/prove")

	again := e.visit("alice", event.PageRecovery, nil) // the same session of the app, on another visit
	again.Open("/recovery/prove")
	again.proves("email", s.resetCode(id, "email"))
	again.At("/recovery/prove")
	again.Says("That one counts already.", "Now one more, of another kind.")

	stale := e.visit("alice", event.PageRecovery, map[string]any{"session": "another", "reauthenticated_at": nil})
	stale.Open("/recovery/prove")
	stale.Says("begun in another browser")
	stale.proves("phone", s.resetCode(id, "phone"))
	stale.At("/reauthenticate")
	other := e.visit("alice", event.PageRecovery, map[string]any{"session": "another"})
	other.Says("A recovery is under way")
	other.Open("/recovery/prove")
	other.Fill("/recovery/choose", map[string]string{"method": "phone"})
	other.Fill("/recovery/resend", nil)
	other.Says("only in the browser where the recovery was begun")
	other.Open("/recovery/prove")
	other.Fill("/recovery/choose", map[string]string{"method": "email"})
	other.Fill("/recovery/code", map[string]string{"code": s.resetCode(id, "email")})
	other.At("/recovery/prove")
	if now := s.standing("alice"); len(now.Proven) != 1 {
		t.Errorf("taken over, it stands at %+v", now)
	}

	other.Fill("/recovery/choose", map[string]string{"method": "phone"})
	wrong := wrongCode(s.resetCode(id, "phone"))
	for range 20 {
		if other.URL.Path != "/recovery/code" {
			break
		}
		other.Fill("/recovery/code", map[string]string{"code": wrong})
		s.clock.Advance(time.Minute)
	}
	now := s.standing("alice")
	if now.State == "proving" {
		other.Says("Your account is locked")
	} else {
		other.Says("ended after too many wrong answers")
	}
	if strings.Contains(other.Text(), "gone") || len(s.factors("alice").Factors) == 0 {
		t.Error("wrong codes have recovered the account")
	}
}

// Who has begun a recovery with a stolen password gains nothing when its owner carries it on: only the visit that has given the proofs sets up anew, and that
// one too only until a factor is set up elsewhere.
func TestRecoveryTakenOverOnPages(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait = 0 }))
	s.run(factorRoles...)
	e := s.edge()
	s.recoverable("alice", 1)
	thief := e.visit("alice", event.PageRecovery, map[string]any{"session": "thief"})
	thief.Fill("/recovery/begin", nil)
	id := s.standing("alice").Recovery
	v := e.visit("alice", event.PageRecovery, nil)
	v.Open("/recovery/prove")
	v.proves("email", s.resetCode(id, "email"))
	v.proves("phone", s.resetCode(id, "phone"))
	v.lookAt("/recovery/done", "/recovery/done")
	thief.Open("/recovery/done")
	thief.Open("/setup")
	thief.At("/recovery/done")
	s.enrol("alice") // in another session, while the visit lasts
	v.Open("/setup/app")
	v.At("/recovery")
	thief.Open("/setup/app")
	thief.At("/recovery")
}

// What support has begun waits for a second agent, and the page says so; who has too little on file is told that too.
func TestRecoveryPagesOfOthersDoing(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	s.recoverable("alice", 1)
	begun, problem := support[event.RecoveryReply](s, "ann", event.SupportBegin, map[string]any{"app": "demo", "user": "alice", "reason": "ticket 1"})
	if problem != "" {
		t.Fatal(problem)
	}
	v := e.visit("alice", event.PageRecovery, nil)
	v.At("/recovery")
	v.Says("a second person there has to approve it")
	v.Open("/recovery/prove")
	v.At("/recovery")
	it := map[string]any{"app": "demo", "recovery": begun.Recovery}
	if _, p := support[event.RecoveryReply](s, "bob", event.SupportApprove, it); p != "" {
		t.Fatal(p)
	}
	v.Open("/recovery/prove")
	v.At("/recovery/prove")
	v.proves("email", s.resetCode(begun.Recovery, "email"))
	v.Says("Now one more, of another kind.")

	s.enrol("bert")
	poor := e.visit("bert", event.PageRecovery, nil)
	poor.Says("That is not enough to recover by yourself")
	if len(poor.Forms("/recovery/begin")) != 0 {
		t.Error("who cannot recover may begin")
	}
	e.visit("nobody", event.PageRecovery, nil).Says("There is nothing to recover")
}

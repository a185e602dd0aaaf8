package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file is the question before an act that weakens the account, at the act that weakens it most: to have no second factor any more.

// asked is how many challenges a user was ever asked.
func (s *system) asked(user string) int {
	s.t.Helper()
	return otposttest.Get[int](s.t, s.db, `SELECT count(*) FROM challenges WHERE user_id = $1`, user)
}

// An answer serves the act that it was given for, once; until it is given, asking again sends nothing anew.
func TestPageOfAProof(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	a := s.enrol("alice")
	v := e.visit("alice", event.PageSettings, nil)
	v.Open("/prove")
	v.At("/settings")
	for range 3 { // impatience, and another tab
		v.Open("/deactivate")
		v.Fill("/deactivate", nil)
		v.At("/prove")
	}
	if n := s.asked("alice"); n != 1 {
		t.Errorf("three times the act has asked for %d challenges", n)
	}
	v.says(http.StatusOK, "Confirm that it is you", "This changes how your account is protected", "Open your authenticator app")
	v.hides("Trust this browser")
	v.Fill("/prove", map[string]string{"code": wrongCode(a.next())})
	v.says(http.StatusUnprocessableEntity, "Confirm that it is you", "4 attempts left")
	v.Open("/prove/ways")
	v.Fill("/prove/ways", map[string]string{"way": "backup_code"})
	v.At("/prove")
	v.says(http.StatusOK, "Enter one of the backup codes")
	v.Open("/prove/ways")
	v.Fill("/prove/ways", map[string]string{"way": "totp"})
	v.Fill("/prove", map[string]string{"code": a.value()})
	v.At("/deactivate")
	v.Open("/prove") // it is answered: there is nothing to ask
	v.At("/settings")

	v.Open("/deactivate")
	v.Fill("/deactivate", nil)
	v.At("/deactivate/confirm")
	v.Open("/deactivate")
	v.Fill("/deactivate", nil) // the proof is used
	v.At("/prove")
	if n := s.asked("alice"); n != 2 {
		t.Errorf("two acts have asked for %d challenges", n)
	}
}

// Who does not go on is asked nothing more; who cannot, is told why and what to do.
func TestPageOfAProofThatEnds(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	e := s.edge()
	a := s.enrol("alice")
	open := func(state otp.State) int {
		return otposttest.Get[int](t, s.db, `SELECT count(*) FROM challenges WHERE user_id = 'alice' AND state = $1`, string(state))
	}
	v := e.visit("alice", event.PageSettings, nil)
	v.Open("/deactivate")
	v.Fill("/deactivate", nil)
	v.At("/prove")
	v.Fill("/prove/cancel", nil)
	v.At("/settings")
	if open(otp.Cancelled) != 1 || open(otp.Open) != 0 {
		t.Error("the challenge of an act that is left undone is still open")
	}

	v.Open("/deactivate")
	v.Fill("/deactivate", nil)
	wrong := wrongCode(a.value())
	for i := range 5 {
		if i == 4 { // the account has to wait from now on
			s.clock.Advance(time.Minute)
			wrong = wrongCode(a.value())
		}
		v.At("/prove")
		v.Fill("/prove", map[string]string{"code": wrong})
	}
	v.says(http.StatusOK, "Too many wrong codes", "You can try once more.")
	v.Fill("/prove/again", nil)
	v.says(http.StatusOK, "Not just now", "You can go on in", "30 seconds")
	v.Open("/prove/ways")
	v.says(http.StatusOK, "Not just now")
	s.clock.Advance(31 * time.Second)
	v.Fill("/prove/again", nil)
	v.says(http.StatusOK, "Open your authenticator app")
	v.Fill("/prove", map[string]string{"code": a.value()})
	v.At("/deactivate")

	s.db.Exec(t, `UPDATE accounts SET locked_at = $1 WHERE user_id = 'alice'`, s.clock.Now())
	v.again(event.PageSettings, nil)
	v.Open("/deactivate")
	v.Fill("/deactivate", nil)
	v.says(http.StatusOK, "Your two-step sign-in is locked", "to unlock it")
	v.hides("/prove/again")
	if !strings.Contains(v.Text(), "Cancel") {
		t.Error("there is no way back")
	}
}

package main

import (
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otposttest"
)

// An event id that was used for one user's login never brings that login to another user or session.
func TestSameIDForAnotherUser(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge, bus.RoleSMS)
	s.publish("login-1", "alice", bySMS(1))
	c := s.issued("alice")

	s.publish("login-1", "mallory", bySMS(2))
	e := s.heard.Wait(t, event.ChallengeRefused, nil)
	refused := otposttest.Decode[event.Refused](t, e)
	if refused.User != "mallory" || refused.Reason != "invalid" || !strings.HasPrefix(refused.Message, "id was used before") {
		t.Errorf("refused %+v", refused)
	}
	body := bySMS(2)
	body["id"], body["user"], body["session"] = "login-1", "alice", "another session"
	reply, problem := request[event.LoginReply](s, event.VerbLogin, body)
	if problem != "invalid" || reply.Challenge != "" {
		t.Errorf("by request, of another session: %+v %s", reply, problem)
	}
	s.publish("login-2", "bob", bySMS(3))
	s.code(phone(3))
	if n := s.messages(phone(2)); n != 0 {
		t.Errorf("%d messages went to the other one", n)
	}
	for _, e := range s.heard.All() {
		if strings.Contains(string(e.Data), "mallory") && strings.Contains(string(e.Data), c.Challenge) {
			t.Errorf("an event told of alice's challenge: %s", e.Data)
		}
	}
}

// A login that was skipped for one user lets nobody else pass: not another user, not another session, in whichever way it comes.
func TestSkippedIDForAnotherUser(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(bus.RoleChallenge)
	ask := func(user, session string, data map[string]any) (event.LoginReply, string) {
		body := map[string]any{"id": "request-1", "user": user, "session": session}
		for k, v := range data {
			body[k] = v
		}
		return request[event.LoginReply](s, event.VerbLogin, body)
	}
	for range 2 {
		if r, problem := ask("mallory", "m", nil); r.Outcome != "skipped" || r.Reason != "no_factor" {
			t.Fatalf("a user without a factor: %+v %s", r, problem)
		}
	}
	for _, other := range [][2]string{{"victim", "v"}, {"victim", "m"}, {"mallory", "v"}} {
		if r, problem := ask(other[0], other[1], bySMS(1)); problem != "invalid" || r.Outcome != "" {
			t.Errorf("the same id for %v: %+v %s, want invalid", other, r, problem)
		}
	}
	body := bySMS(1)
	body["session"] = "m"
	s.publish("request-1", "victim", body)
	e := s.heard.Wait(t, event.ChallengeRefused, nil)
	if r := otposttest.Decode[event.Refused](t, e); r.User != "victim" || r.Reason != "invalid" {
		t.Errorf("the same id as an event: %+v", r)
	}
}

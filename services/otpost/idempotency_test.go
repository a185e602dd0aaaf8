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

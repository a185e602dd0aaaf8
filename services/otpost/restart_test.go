package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otposttest"
)

var workers = []bus.Role{bus.RoleChallenge, bus.RoleSMS, bus.RoleEmail, bus.RoleVerification}

// wait returns the exit status of a process and fails the test where it does not end in time.
func (s *system) wait(p *process, within time.Duration) int {
	s.t.Helper()
	select {
	case <-p.done:
		p.done <- nil // for kill
		return p.ProcessState.ExitCode()
	case <-time.After(within):
		s.t.Fatalf("the process has not ended within %s:\n%s", within, p.out)
		return -1
	}
}

func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// publishUntilTaken publishes as an app does that may not lose a login: again, under the same id, until the stream has it.
func (s *system) publishUntilTaken(n int) {
	s.t.Helper()
	body := s.login(fmt.Sprint("login-", n), fmt.Sprint("user-", n), time.Now(), bySMS(n))
	otposttest.Eventually(s.t, "the stream takes a login", func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		_, err := s.js.Publish(ctx, event.LoginSubject("demo"), body)
		return err == nil
	})
}

// issuedLater reads the app's durable consumer, which misses nothing, until every user's challenge is known.
func (s *system) issuedLater(users int) map[string]string {
	s.t.Helper()
	found := map[string]string{}
	otposttest.Eventually(s.t, "the events of all logins", func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
		defer cancel()
		events, err := s.js.Consumer(ctx, bus.StreamEvents, "demo")
		if err != nil {
			return false
		}
		batch, err := events.Fetch(users, jetstream.FetchMaxWait(500*time.Millisecond))
		if err != nil {
			return false
		}
		for m := range batch.Messages() {
			if strings.HasSuffix(m.Subject(), string(event.ChallengeIssued)) {
				var e struct{ Data event.Issued }
				if err := json.Unmarshal(m.Data(), &e); err != nil {
					s.t.Fatal(err)
				}
				if was, ok := found[e.Data.User]; ok && was != e.Data.Challenge {
					s.t.Errorf("%s has two challenges", e.Data.User)
				}
				found[e.Data.User] = e.Data.Challenge
			}
			_ = m.Ack()
		}
		return len(found) == users
	})
	return found
}

// verifyUntilAnswered asks again, under one request id, while nobody can answer.
func (s *system) verifyUntilAnswered(challenge, user, code string) (result string) {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{"challenge": challenge, "session": "session of " + user, "code": code, "request": "the one answer of " + user})
	if err != nil {
		s.t.Fatal(err)
	}
	otposttest.Eventually(s.t, "an answer to "+user, func() bool {
		m, err := s.conn.Request(event.RPCSubject("demo", event.VerbVerify), body, 2*time.Second)
		if err != nil {
			return false
		}
		var r event.VerifyReply
		if err := json.Unmarshal(m.Data, &r); err != nil {
			s.t.Fatal(err)
		}
		result = r.Result
		return result != ""
	})
	return result
}

// A server is restarted while logins come in, codes go out and answers are given. Nothing is lost and nobody gets a second message.
func TestServersRestart(t *testing.T) {
	for name, restart := range map[string]func(*system){
		"nats":     func(s *system) { s.nats.Restart(s.t) },
		"postgres": func(s *system) { s.db.Restart(s.t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const logins = 100
			s := newSystem(t, shortAckWait(2*time.Second), func(o *systemOptions) { o.ownPostgres = name == "postgres" })
			for _, role := range []bus.Role{bus.RoleChallenge, bus.RoleSMS, bus.RoleVerification} {
				s.start(role, "", leases(role)...)
			}
			restarted := make(chan struct{})
			for n := range logins {
				if n == logins/3 {
					go func() {
						defer close(restarted)
						restart(s)
					}()
				}
				s.publishUntilTaken(n)
			}
			<-restarted
			found := s.issuedLater(logins)
			for n := range logins {
				user := fmt.Sprint("user-", n)
				if r := s.verifyUntilAnswered(found[user], user, s.code(phone(n))); r != "verified" {
					t.Errorf("%s: %s", user, r)
				}
			}
			for n := range logins {
				if got := s.messages(phone(n)); got != 1 {
					t.Errorf("user-%d got %d messages, want 1", n, got)
				}
			}
			if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM challenges WHERE state = 'verified'`); n != logins {
				t.Errorf("%d challenges are verified, want %d", n, logins)
			}
			if letters := s.dead(); len(letters) > 0 {
				t.Errorf("dead letters: %+v", letters)
			}
		})
	}
}

// Workers are started before there is a NATS or a Postgres, wait, say what they wait for, and begin when both are there.
func TestWorkersStartFirst(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *systemOptions) { o.ownPostgres = true })
	s.nats.Stop(t)
	s.db.Stop(t)
	var all []*process
	for _, role := range workers {
		all = append(all, s.spawn(role, ""))
	}
	waitsFor := func(what string) {
		t.Helper()
		for i, p := range all {
			var body string
			otposttest.Eventually(t, string(workers[i])+" says that it waits for "+what, func() bool {
				var status int
				status, body = p.page("/readyz")
				return status == 503 && strings.Contains(body, fmt.Sprintf("%q", string(workers[i])+" "+what)) && !strings.Contains(body, fmt.Sprintf(`"%s %s":"ok"`, workers[i], what))
			})
			if status, _ := p.page("/healthz"); status != 200 {
				t.Errorf("%s is not alive: %d", workers[i], status)
			}
		}
	}
	waitsFor("nats")
	s.nats.Start(t)
	waitsFor("postgres")
	s.db.Start(t)
	for i, p := range all {
		otposttest.Eventually(t, string(workers[i])+" is ready", func() bool { return s.ready(p) })
	}
	s.awaitServices(workers...)
	s.publishUntilTaken(1)
	found := s.issuedLater(1)
	if r := s.verifyUntilAnswered(found["user-1"], "user-1", s.code(phone(1))); r != "verified" {
		t.Errorf("the first login is %s", r)
	}

	// Told to stop, they stop; one that still waits for its servers as well.
	idle := s.spawn(bus.RoleChallenge, "nats://127.0.0.1:1")
	otposttest.Eventually(t, "the waiting one is alive", func() bool { status, _ := idle.page("/healthz"); return status == 200 })
	for _, p := range append(all, idle) {
		status, body := p.page("/metrics")
		if status != 200 || !strings.Contains(body, "\notpost_messages_total") && !strings.Contains(body, "\notpost_verifications_total") {
			t.Errorf("metrics: %d, %d bytes", status, len(body))
		}
		p.signal(t, syscall.SIGTERM)
	}
	for i, p := range append(all, idle) {
		if status := s.wait(p, 5*time.Second); status != 0 {
			t.Errorf("process %d ended with %d:\n%s", i, status, p.out)
		}
	}
}

// SIGTERM while the provider takes its time: what is in hand is sent, recorded and told before the process ends.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var asked atomic.Int32
	s.box.SetTwilioFaults(func(inbox.TwilioRequest) *inbox.TwilioFault {
		asked.Add(1)
		return &inbox.TwilioFault{Delay: time.Second}
	})
	s.run(bus.RoleChallenge, bus.RoleVerification)
	p := s.start(bus.RoleSMS, "", leases(bus.RoleSMS)...)
	const inHand = 5
	for n := range inHand {
		s.begin(fmt.Sprint("user-", n), bySMS(n))
	}
	otposttest.Eventually(t, "the provider has been asked", func() bool { return asked.Load() == inHand })
	p.signal(t, syscall.SIGTERM)
	otposttest.Eventually(t, "it takes no more work", func() bool { return strings.Contains(p.out.String(), "draining") })
	if status := s.wait(p, 5*time.Second); status != 0 {
		t.Errorf("it ended with %d:\n%s", status, p.out)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM deliveries WHERE state = 'accepted' AND tries = 1`); n != inHand {
		t.Errorf("%d deliveries are on record, want %d", n, inHand)
	}
	for n := range inHand {
		if got := s.messages(phone(n)); got != 1 {
			t.Errorf("user-%d got %d messages", n, got)
		}
	}
	otposttest.Eventually(t, "all are told", func() bool {
		n := 0
		for _, e := range s.heard.All() {
			if e.Name == event.ChallengeSent {
				n++
			}
		}
		return n == inHand
	})
}

// A second signal ends a process that has much left to do.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var asked atomic.Int32
	s.box.SetTwilioFaults(func(inbox.TwilioRequest) *inbox.TwilioFault {
		asked.Add(1)
		return &inbox.TwilioFault{Delay: 30 * time.Second}
	})
	s.run(bus.RoleChallenge)
	p := s.start(bus.RoleSMS, "", "--send-timeout=40s", "--lease=60s")
	s.begin("alice", bySMS(1))
	otposttest.Eventually(t, "the provider has been asked", func() bool { return asked.Load() == 1 })
	p.signal(t, syscall.SIGTERM)
	otposttest.Eventually(t, "it drains", func() bool { return strings.Contains(p.out.String(), "draining") })
	p.signal(t, syscall.SIGTERM)
	if status := s.wait(p, 3*time.Second); status != 130 {
		t.Errorf("it ended with %d, want 130", status)
	}
}

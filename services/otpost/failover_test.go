package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// A provider that does not do what it should: the same code goes over the next one, once.
func TestFailover(t *testing.T) {
	t.Parallel()
	r := newRouted(t, []otp.Channel{otp.Email})
	r.run(bus.RoleChallenge)
	both := []string{"primary", "backup"}
	cases := []struct {
		name       string
		fault      inbox.Fault
		got        []string
		story      []string
		deliveries []string
	}{
		{
			"out of order",
			inbox.Fault{Status: 503, Code: "20503"},
			[]string{"backup"},
			[]string{"undeliverable 1 primary", "sent 2 backup", "delivered 2 backup"},
			[]string{"send primary failed abandoned", "failover backup delivered"},
		},
		{
			"wrong credentials",
			inbox.Fault{Status: 401, Code: "20003"},
			[]string{"backup"},
			[]string{"undeliverable 1 primary", "sent 2 backup", "delivered 2 backup"},
			[]string{"send primary failed abandoned", "failover backup delivered"},
		},
		{
			"region not enabled",
			inbox.Fault{Status: 400, Code: "21408"},
			[]string{"backup"},
			[]string{"undeliverable 1 primary", "sent 2 backup", "delivered 2 backup"},
			[]string{"send primary failed abandoned", "failover backup delivered"},
		},
		{
			"no answer, and no message",
			inbox.Fault{Delay: 3500 * time.Millisecond, Drop: true},
			[]string{"backup"},
			[]string{"sent 1 primary", "sent 2 backup", "delivered 2 backup"},
			[]string{"send primary unconfirmed abandoned", "failover backup delivered"},
		},
		{
			"no answer, and no receipt",
			inbox.Fault{AcceptThenDrop: true, Outcome: "none"},
			both,
			[]string{"sent 1 primary", "sent 2 backup", "delivered 2 backup"},
			[]string{"send primary unconfirmed abandoned", "failover backup delivered"},
		},
		{
			"accepted and never delivered",
			inbox.Fault{Lost: true},
			[]string{"backup"},
			[]string{"sent 1 primary", "sent 2 backup", "delivered 2 backup"},
			[]string{"send primary accepted abandoned", "failover backup delivered"},
		},
		{
			"delivered too late",
			inbox.Fault{ReceiptDelay: patience + 2*time.Second},
			both,
			[]string{"sent 1 primary", "sent 2 backup", "delivered 2 backup", "delivered 1 primary late"},
			[]string{"send primary delivered abandoned", "failover backup delivered"},
		},
		{
			"undelivered",
			inbox.Fault{Outcome: "undelivered", OutcomeCode: "30008"},
			both,
			[]string{"sent 1 primary", "undeliverable 1 primary", "sent 2 backup", "delivered 2 backup"},
			[]string{"send primary undelivered abandoned", "failover backup delivered"},
		},
		{
			"delivered in time",
			inbox.Fault{ReceiptDelay: time.Second, Repeat: 2, Reversed: true},
			[]string{"primary"},
			[]string{"sent 1 primary", "delivered 1 primary"},
			[]string{"send primary delivered"},
		},
	}
	for n, c := range cases { // all at once: the waits for receipts overlap
		r.fault("primary", phone(n), c.fault)
		r.publish(fmt.Sprint("login-", n), fmt.Sprint("user-", n), bySMS(n))
	}
	for n, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, user, to := r.at(t), fmt.Sprint("user-", n), phone(n)
			issued := r.issued(user)
			r.wantStory(issued.Challenge, c.story...)
			r.want("deliveries", r.deliveries(issued.Challenge), c.deliveries...)
			got := r.got(to)
			r.want("messages", slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(c.got))...)
			codes := map[string]bool{}
			for _, m := range r.box.List(inbox.Filter{To: to}) {
				codes[m.Code()] = true
			}
			if len(codes) != 1 {
				t.Fatalf("%d codes went out", len(codes))
			}
			late := otposttest.Get[int](t, r.db, "SELECT count(*) FROM stray_receipts WHERE why = 'late' AND state = 'delivered' AND challenge_id = $1", issued.Challenge)
			if strings.HasSuffix(c.story[len(c.story)-1], "late") != (late == 1) {
				t.Errorf("%d late receipts were kept", late)
			}
			for code := range codes {
				if v := r.verify(issued.Challenge, user, code); v.Result != "verified" {
					t.Errorf("the code is %s", v.Result)
				}
			}
		})
	}

	t.Run("no such number", func(t *testing.T) {
		r, to := r.at(t), phone(20)
		r.fault("primary", to, inbox.Fault{Status: 400, Code: "21211"})
		r.publish("login 20", "wrong", map[string]any{"to": map[string]any{"sms": to, "email": address(20)}})
		c := r.issued("wrong")
		r.wantStory(c.Challenge, "undeliverable 1 primary", "sent 2 smtp") // by mail, as the policy says; not over the backup
		r.want("deliveries", r.deliveries(c.Challenge), "send primary failed abandoned", "fallback smtp accepted")
		r.want("messages", r.got(to))
		if v := r.verify(c.Challenge, "wrong", r.mail(address(20)).Code()); v.Result != "verified" {
			t.Errorf("the code is %s", v.Result)
		}
	})
	t.Run("no such number, and no mailbox", func(t *testing.T) {
		r, to := r.at(t), phone(21)
		r.fault("primary", to, inbox.Fault{Outcome: "undelivered", OutcomeCode: "30005"})
		r.publish("login 21", "nowhere", bySMS(21))
		c := r.issued("nowhere")
		if reason := r.ended(c.Challenge); reason != "undeliverable" {
			t.Errorf("it ended as %s", reason)
		}
		r.wantStory(c.Challenge, "sent 1 primary", "undeliverable 1 primary")
		r.want("deliveries", r.deliveries(c.Challenge), "send primary undelivered")
	})
	t.Run("another order in another country", func(t *testing.T) {
		r, to := r.at(t), "+420601234567"
		r.fault("backup", to, inbox.Fault{Status: 503, Code: "20503"})
		r.publish("login 22", "jan", map[string]any{"to": map[string]any{"sms": to}})
		c := r.issued("jan")
		r.wantStory(c.Challenge, "undeliverable 1 backup", "sent 2 primary", "delivered 2 primary")
	})
	t.Run("asked for again", func(t *testing.T) {
		r, to := r.at(t), phone(23)
		r.fault("primary", to, inbox.Fault{Outcome: "none"})
		r.publish("login 23", "impatient", bySMS(23))
		c := r.issued("impatient")
		r.sent(event.ChallengeSent, c.Challenge, 1)
		r.db.Exec(t, "UPDATE challenges SET next_send_at = created_at WHERE id = $1", c.Challenge)
		if _, problem := request[event.ResendReply](r.system, event.VerbResend, map[string]any{"challenge": c.Challenge, "session": "session of impatient"}); problem != "" {
			t.Fatal(problem)
		}
		r.wantStory(c.Challenge, "sent 1 primary", "sent 2 backup", "delivered 2 backup")
		r.want("deliveries", r.deliveries(c.Challenge), "send primary accepted", "send backup delivered")
		r.db.Exec(t, "UPDATE challenges SET next_send_at = created_at WHERE id = $1", c.Challenge)
		if _, problem := request[event.ResendReply](r.system, event.VerbResend, map[string]any{"challenge": c.Challenge, "session": "session of impatient"}); problem != "" {
			t.Fatal(problem)
		}
		r.sent(event.ChallengeDelivered, c.Challenge, 3) // over the one that is known to deliver
		r.want("messages", slices.Sorted(slices.Values(r.got(to))), "backup", "backup", "primary")
	})
	t.Run("too late for another", func(t *testing.T) {
		r, to := r.at(t), phone(24)
		r.fault("primary", to, inbox.Fault{Delay: 700 * time.Millisecond, Status: 503, Code: "20503"})
		r.publish("login 24", "late", bySMS(24))
		c := r.issued("late")
		r.db.Exec(t, "UPDATE challenges SET expires_at = $2 WHERE id = $1", c.Challenge, time.Now().Add(4*time.Second))
		r.wantStory(c.Challenge, "undeliverable 1 primary")
		r.ended(c.Challenge)
		r.want("deliveries", r.deliveries(c.Challenge), "send primary failed")
		r.want("messages", r.got(to))
	})
	t.Run("the timer is lost", func(t *testing.T) {
		r, to := r.at(t), phone(25)
		r.fault("primary", to, inbox.Fault{Lost: true})
		r.publish("login 25", "unlucky", bySMS(25))
		c := r.issued("unlucky")
		r.sent(event.ChallengeSent, c.Challenge, 1)
		stream, err := r.operator().JetStream().Stream(t.Context(), bus.StreamTimers)
		if err != nil {
			t.Fatal(err)
		}
		timer := event.TimerSubject(event.Command{Challenge: uuid.MustParse(c.Challenge), Attempt: 1}.Reference())
		otposttest.Eventually(t, "the timer is set", func() bool { _, err := stream.GetLastMsgForSubject(t.Context(), timer); return err == nil })
		if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject(timer)); err != nil {
			t.Fatal(err)
		}
		r.db.Exec(t, "UPDATE deliveries SET due_at = now() - interval '10 s' WHERE challenge_id = $1", c.Challenge)
		r.wantStory(c.Challenge, "sent 1 primary", "sent 2 backup", "delivered 2 backup")
	})
	t.Run("a report that names nothing", func(t *testing.T) {
		r := r.at(t)
		b := r.nats.Bus(t, bus.RoleGateway)
		report := event.Report{Provider: "primary", Token: "forged", Reference: "SM404", State: otp.DeliveryDelivered, At: time.Now()}
		for i := range 2 {
			if err := b.Publish(t.Context(), bus.Out{Subject: event.ReportSubject, ID: fmt.Sprint("report-", i), Data: report.Encode()}); err != nil {
				t.Fatal(err)
			}
		}
		otposttest.Eventually(t, "it is kept", func() bool {
			return otposttest.Get[int](t, r.db, "SELECT count(*) FROM stray_receipts WHERE why = 'unknown' AND reference = 'SM404'") == 1
		})
	})
	if n := len(r.got(phone(8))); n != 1 { // long after the time-out of its receipt
		t.Errorf("what was delivered in time went out %d times", n)
	}
	if letters := r.dead(); len(letters) > 0 {
		t.Errorf("dead letters: %+v", letters)
	}
}

// Where no provider of a channel does, the code goes over the next channel that the user has, in the order of the policy.
func TestFallback(t *testing.T) {
	t.Parallel()
	r := newRouted(t, []otp.Channel{otp.Voice, otp.Email})
	r.run(bus.RoleChallenge)
	cases := []struct {
		name             string
		sms, backup      inbox.Fault
		voice            inbox.Fault
		phones, mails    int
		story, delivered []string
	}{
		{
			"by mail in the end",
			inbox.Fault{Status: 503, Code: "20503"},
			inbox.Fault{Status: 400, Code: "21408"},
			inbox.Fault{Status: 429, Code: "20429"},
			0, 1,
			[]string{"undeliverable 1 primary", "undeliverable 2 backup", "undeliverable 3 calls", "sent 4 smtp"},
			[]string{"send primary failed abandoned", "failover backup failed abandoned", "fallback calls failed abandoned", "fallback smtp accepted"},
		},
		{
			"called where a message cannot go",
			inbox.Fault{Status: 400, Code: "21614"},
			inbox.Fault{},
			inbox.Fault{},
			1, 0,
			[]string{"undeliverable 1 primary", "sent 2 calls", "delivered 2 calls"},
			[]string{"send primary failed abandoned", "fallback calls delivered"},
		},
		{
			"nobody picks up",
			inbox.Fault{Status: 400, Code: "21614"},
			inbox.Fault{},
			inbox.Fault{Outcome: "undelivered", OutcomeCode: "no-answer"},
			1, 1,
			[]string{"undeliverable 1 primary", "sent 2 calls", "undeliverable 2 calls", "sent 3 smtp"},
			[]string{"send primary failed abandoned", "fallback calls undelivered abandoned", "fallback smtp accepted"},
		},
	}
	for n, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, user, to, box := r.at(t), fmt.Sprint("user-", n), phone(n), address(n)
			for provider, f := range map[string]inbox.Fault{"primary": c.sms, "backup": c.backup, "calls": c.voice} {
				if f != (inbox.Fault{}) {
					r.fault(provider, to, f)
				}
			}
			r.publish("login of "+user, user, map[string]any{"to": map[string]any{"sms": to, "email": box}})
			issued := r.issued(user)
			r.wantStory(issued.Challenge, c.story...)
			r.want("deliveries", r.deliveries(issued.Challenge), c.delivered...)
			if p, m := r.messages(to), r.messages(box); p != c.phones || m != c.mails {
				t.Errorf("%d to the phone and %d to the mailbox, want %d and %d", p, m, c.phones, c.mails)
			}
			messages := append(r.box.List(inbox.Filter{To: to}), r.box.List(inbox.Filter{To: box})...)
			for _, m := range messages {
				if m.Code() != messages[0].Code() {
					t.Error("two codes went out")
				}
			}
			if v := r.verify(issued.Challenge, user, messages[0].Code()); v.Result != "verified" {
				t.Errorf("the code is %s", v.Result)
			}
		})
	}
}

// The challenge worker's process is killed after it has stored what follows a failure and before anybody has heard of it.
func TestKilledBetweenFailureAndFailover(t *testing.T) {
	t.Parallel()
	r := newRouted(t, nil, shortAckWait(2*time.Second))
	g := newGate(t, strings.TrimPrefix(r.nats.URL(), "nats://"))
	lost := r.start(bus.RoleChallenge, g.url())
	const users = 3
	for n := range users {
		r.fault("primary", phone(n), inbox.Fault{Delay: 900 * time.Millisecond, Status: 503, Code: "20503"})
		r.publish(fmt.Sprint("login-", n), fmt.Sprint("user-", n), bySMS(n))
	}
	otposttest.Eventually(t, "all are being sent, and it has asked for receipts", func() bool {
		c, err := r.operator().JetStream().Consumer(t.Context(), bus.StreamReceipts, "challenge")
		return err == nil && c.CachedInfo().NumWaiting > 0 && otposttest.Get[int](t, r.db, `SELECT count(*) FROM deliveries WHERE state = 'sending'`) == users
	})
	g.close()
	otposttest.Eventually(t, "one is followed", func() bool {
		return otposttest.Get[int](t, r.db, `SELECT count(*) FROM deliveries WHERE cause = 'failover'`) > 0
	})
	lost.kill()
	if n := otposttest.Get[int](t, r.db, `SELECT count(*) FROM deliveries WHERE cause = 'failover' AND state <> 'queued'`); n != 0 {
		t.Fatalf("%d were ordered: the gate leaks", n)
	}
	r.run(bus.RoleChallenge) // within its patience: the sweeper alone would take half a minute
	for n := range users {
		user := fmt.Sprint("user-", n)
		c := r.issued(user)
		r.sent(event.ChallengeSent, c.Challenge, 2)
		r.want("messages", r.got(phone(n)), "backup")
		if n := otposttest.Get[int](t, r.db, `SELECT count(*) FROM deliveries WHERE challenge_id = $1`, c.Challenge); n != 2 {
			t.Errorf("%s has %d deliveries", user, n)
		}
		if v := r.verify(c.Challenge, user, r.code(phone(n))); v.Result != "verified" {
			t.Errorf("%s: %s", user, v.Result)
		}
	}
	if letters := r.dead(); len(letters) > 0 {
		t.Errorf("dead letters: %+v", letters)
	}
}

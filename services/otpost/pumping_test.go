package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/pumping"
)

// What an operator is told of pumping, and does about it.
func TestPumpingCommands(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator")}}
	app := db.App(t, "shop")
	db.App(t, "other")
	if out := sh.ok("pumping", "report"); !strings.Contains(out, "no prefix has looked pumped within 168h") {
		t.Errorf("of nothing it reports:\n%s", out)
	}
	store, now := postgres.NewPumping(db.Role("challenge")), time.Now()
	p := postgres.Prefix{AppID: app.ID, Digits: "+371271"}
	err := store.Raise(t.Context(), postgres.PrefixBlock{
		Prefix: p, Since: now.Add(-time.Hour), Until: now.Add(3 * time.Hour), Mode: otp.PumpingShadow, Score: 0.9, Why: []string{"too many neighbours"},
		Window: pumping.Window{Sends: 200, Mature: 100, Verified: 2, Numbers: 200, Crowd: 198},
	}, postgres.OutboxEvent{ID: "x", Subject: "otpost.app.shop.event.alarm.raised", Payload: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Note(t.Context(), now, nil, map[postgres.Prefix]postgres.PrefixStop{p: {Passed: 41}}); err != nil {
		t.Fatal(err)
	}
	reports := func(part string, args ...string) {
		t.Helper()
		out := sh.ok(append([]string{"pumping", "report"}, args...)...)
		fits(t, out)
		if !strings.Contains(strings.Join(strings.Fields(out), " "), part) {
			t.Errorf("no %q in:\n%s", part, out)
		}
	}
	const second = "2006-01-02 15:04:05"
	reports("shop +371271 "+now.Add(-time.Hour).UTC().Format(second)+" "+now.Add(3*time.Hour).UTC().Format(second)+
		" shadow too many neighbours 200 messages; came back: 2 %; with neighbours: 99 % stopped: 0; let pass: 41", "--app=shop")
	if out := sh.ok("pumping", "report", "--app=other"); strings.Contains(out, "371") {
		t.Errorf("another app's report:\n%s", out)
	}
	sh.fails(1, []string{"none"}, "pumping", "report", "--app=none")
	sh.fails(1, []string{"--since"}, "pumping", "report", "--since=-1h")

	sh.ok("app", "policy", "set", "shop", "--pumping=block")
	reports(" block (then shadow) too many neighbours 200 ")
	sh.fails(1, []string{"blocked already"}, "pumping", "block", "--app=shop", "--prefix=+371271")
	if out := sh.ok("pumping", "lift", "--app=shop", "--prefix=+371271"); !strings.Contains(out, "not blocked any more") {
		t.Errorf("lifted:\n%s", out)
	}
	sh.fails(1, []string{"not blocked"}, "pumping", "lift", "--app=shop", "--prefix=+371271")
	reports(" lifted 20")
	sh.ok("pumping", "block", "--app=shop", "--prefix=+371271", "--for=24h")
	reports(" by hand an operator has blocked it stopped: 0; let pass: 0")
	for _, bad := range [][]string{
		{"--prefix", "371271"},
		{"--prefix", "+37127"},
		{"--prefix", "+3712712"},
		{"--prefix", "+1"},
		{"--prefix", "+1415555"},
		{"--prefix", "+999123"},
		{"--prefix", ""},
	} {
		sh.fails(1, []string{"--prefix"}, "pumping", "block", "--app=shop", bad[0]+"="+bad[1])
	}
	for _, long := range []string{"30s", "721h"} {
		sh.fails(1, []string{"--for"}, "pumping", "block", "--app=shop", "--prefix=+420601", "--for="+long)
	}
	sh.fails(1, []string{"none"}, "pumping", "block", "--app=none", "--prefix=+420601")
	sh.ok("pumping", "block", "--app=shop", "--prefix=+1415")
}

// Numbers that only a machine dials are found, told of once, and stopped wherever their code would be sent from; until an operator says otherwise.
func TestPumpedNumbersAreStopped(t *testing.T) {
	s := newSystem(t, withDelivery(func(p *otp.DeliveryPolicy) { p.Pumping = otp.PumpingBlock }))
	s.run(bus.RoleChallenge, bus.RoleEnrolment)
	first := s.asks("first", "", "", map[string]any{"sms": phone(0)})
	if first.Outcome != event.OutcomeIssued {
		t.Fatalf("the first login: %+v", first)
	}
	for n := range 210 {
		s.publish(fmt.Sprint("pump-", n), fmt.Sprint("stranger-", n), bySMS(1+n))
	}
	otposttest.Eventually(t, "what was sent is counted", func() bool {
		return otposttest.Get[int](t, s.db, `SELECT coalesce(sum(sends), 0) FROM prefix_counts`) == 211
	})
	s.clock.Advance(time.Minute)
	e := s.heard.Wait(t, event.AlarmRaised, func(otposttest.Event) bool { return true })
	if a := otposttest.Decode[event.Alarm](t, e); a.Alarm != event.AlarmPumping || a.Prefix != "+1415" || a.Until != event.Time(s.clock.Now().Add(4*time.Hour)) {
		t.Errorf("the alarm is %+v", a)
	}
	var r event.LoginReply
	tries := 0
	otposttest.Eventually(t, "logins are refused", func() bool {
		tries++
		r = s.asks(fmt.Sprint("late-", tries), "", "", map[string]any{"sms": phone(300)})
		return r.Outcome == event.OutcomeRefused
	})
	if r.Reason != string(otp.BlockedDestination) {
		t.Errorf("refused with %+v", r)
	}
	if r = s.asks("mailed", "", "", map[string]any{"sms": phone(301), "email": "u@example.com"}); r.Outcome != event.OutcomeIssued || r.Factor != "email" {
		t.Errorf("a user with a mailbox: %+v", r)
	}
	if p := refused(s, event.VerbResend, map[string]any{"challenge": first.Challenge, "session": "session of first"}); p != string(otp.BlockedDestination) {
		t.Errorf("a resend: %s", p)
	}
	adding := owned("new", map[string]any{"kind": "sms", "address": phone(302), "label": "phone", "reauthenticated_at": s.now()})
	otposttest.Eventually(t, "nor can a factor be added", func() bool {
		_, p := request[event.FactorBeginReply](s, event.VerbFactorBegin, adding)
		return p == string(otp.BlockedDestination)
	})
	if err := postgres.NewPumping(s.db.Role("operator")).Lift(t.Context(), s.clock.Now(), postgres.Prefix{AppID: s.app.ID, Digits: "+1415"}); err != nil {
		t.Fatal(err)
	}
	otposttest.Eventually(t, "logins are let pass again", func() bool {
		tries++
		return s.asks(fmt.Sprint("late-", tries), "", "", map[string]any{"sms": phone(300)}).Outcome == event.OutcomeIssued
	})
	otposttest.Eventually(t, "what was stopped is counted", func() bool {
		return otposttest.Get[int](t, s.db, `SELECT sum(stopped) FROM prefix_blocks`) >= 3
	})
	raised := 0
	for _, e := range s.heard.All() {
		if e.Name == event.AlarmRaised {
			raised++
		}
	}
	if raised != 1 {
		t.Errorf("%d alarms were raised", raised)
	}
}

package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// withDelivery changes what the app's policy says of sending.
func withDelivery(change func(*otp.DeliveryPolicy)) func(*systemOptions) {
	return func(o *systemOptions) {
		o.app = append(o.app, func(a *postgres.App) { change(&a.Policy.Delivery) })
	}
}

// asks logs a user in by request, from an address; channel may be empty.
func (s *system) asks(user, ip, channel string, to map[string]any) event.LoginReply {
	s.t.Helper()
	body := map[string]any{
		"id": fmt.Sprintf("%s-%d", user, time.Now().UnixNano()), "user": user, "session": "session of " + user, "channel": channel, "to": to,
		"client": map[string]any{"ip": ip},
	}
	reply, problem := request[event.LoginReply](s, event.VerbLogin, body)
	if problem != "" {
		s.t.Fatalf("the login of %s: %s", user, problem)
	}
	return reply
}

// midday moves the clock to the middle of a window, so that no test meets the turn of a day.
func (s *system) midday() {
	now := s.clock.Now()
	s.clock.Advance(now.Truncate(24 * time.Hour).Add(36*time.Hour + 30*time.Second).Sub(now))
}

// What floods an address, or comes from one network, is stopped, whoever the users are; and what each is told does not tell who has been there before.
func TestFloodsAreStopped(t *testing.T) {
	s := newSystem(t, withDelivery(func(p *otp.DeliveryPolicy) {
		p.Countries = []string{"US"}
		p.Limits.Destination, p.Limits.IP = otp.Rate{Hour: 4}, otp.Rate{Hour: 3}
	}))
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleVerification)
	victim := map[string]any{"sms": phone(1)}
	refusedAs := func(r event.LoginReply, reason otp.Reason) {
		t.Helper()
		if r.Outcome != event.OutcomeRefused || r.Reason != string(reason) || (reason == otp.RateLimited) != (r.RetryAfter > 0) {
			t.Errorf("answered %+v, want a refusal for %s", r, reason)
		}
	}

	// One number, by three users from three networks, and once more by a resend.
	var last event.LoginReply
	for n := range 3 {
		if last = s.asks(fmt.Sprint("bomber-", n), fmt.Sprintf("192.0.2.%d", n), "", victim); last.Outcome != event.OutcomeIssued {
			t.Fatalf("message %d: %+v", n, last)
		}
	}
	s.clock.Advance(time.Minute)
	ask := map[string]any{"challenge": last.Challenge, "session": "session of bomber-2"}
	if _, problem := request[event.ResendReply](s, event.VerbResend, ask); problem != "" {
		t.Fatalf("the resend: %s", problem)
	}
	s.clock.Advance(time.Minute)
	if _, problem := request[event.ResendReply](s, event.VerbResend, ask); problem != string(otp.RateLimited) {
		t.Errorf("a resend beyond the limit: %q", problem)
	}
	known, stranger := s.asks("bomber-0", "198.51.100.1", "", victim), s.asks("stranger", "198.51.100.2", "", victim)
	refusedAs(known, otp.RateLimited)
	if known.Message != stranger.Message || known.RetryAfter != stranger.RetryAfter || known.Reason != stranger.Reason || stranger.Outcome != known.Outcome {
		t.Errorf("one who was here is told %+v, a stranger %+v", known, stranger)
	}
	if r := s.asks("neighbour", "198.51.100.3", "", map[string]any{"sms": phone(2)}); r.Outcome != event.OutcomeIssued {
		t.Errorf("another number: %+v", r)
	}

	// One network, by users with numbers of their own.
	for n := range 3 {
		if r := s.asks(fmt.Sprint("host-", n), fmt.Sprintf("2001:db8:0:7::%x", n+1), "", map[string]any{"sms": phone(10 + n)}); r.Outcome != event.OutcomeIssued {
			t.Fatalf("host %d: %+v", n, r)
		}
	}
	known, stranger = s.asks("host-0", "2001:db8:0:7:ffff::1", "", map[string]any{"sms": phone(20)}), s.asks("host-9", "2001:db8:0:7::9", "", map[string]any{"sms": phone(21)})
	refusedAs(known, otp.RateLimited)
	if known.Message != stranger.Message || known.RetryAfter != stranger.RetryAfter || stranger.Outcome != known.Outcome {
		t.Errorf("one who was here is told %+v, a stranger %+v", known, stranger)
	}
	if r := s.asks("elsewhere", "2001:db8:0:8::1", "", map[string]any{"sms": phone(22)}); r.Outcome != event.OutcomeIssued {
		t.Errorf("the network beside it: %+v", r)
	}

	// Numbers that are not to be reached.
	refusedAs(s.asks("abroad", "203.0.113.1", "", map[string]any{"sms": "+420601234567"}), otp.BlockedDestination)
	refusedAs(s.asks("premium", "203.0.113.2", "", map[string]any{"sms": "+19002345678"}), otp.BlockedDestination)

	for n := range 3 { // what was let pass was sent, and nothing else
		s.code(phone(10 + n))
	}
	otposttest.Eventually(t, "the number has got what was let pass", func() bool { return s.messages(phone(1)) == 4 })
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM deliveries`); n != 4+1+3+1 {
		t.Errorf("there are %d deliveries", n)
	}
}

// A day's cap on spending turns to what costs nothing, even where the app asked for a message to the phone, and is told of once.
func TestASpendCapFallsBack(t *testing.T) {
	s := newSystem(t, withDelivery(func(p *otp.DeliveryPolicy) { p.SpendCaps = map[string]int64{"US": 1_000_000} }))
	s.midday()
	s.db.Exec(t, `INSERT INTO providers (channel, name, kind, position, receipts, costs, seen_at) VALUES ('sms', 'twilio', 'twilio', 0, false, '{"US": 400000}', now())`)
	s.run(bus.RoleChallenge)
	for n, want := range []string{"sms", "sms", "email", "email"} {
		to := map[string]any{"sms": phone(n), "email": fmt.Sprintf("u%d@example.com", n)}
		if r := s.asks(fmt.Sprint("user-", n), "", "sms", to); r.Outcome != event.OutcomeIssued || r.Factor != want {
			t.Errorf("login %d: %+v, want one over %s", n, r, want)
		}
	}
	r := s.asks("no-mail", "", "sms", map[string]any{"sms": phone(9)})
	if r.Outcome != event.OutcomeRefused || r.Reason != string(otp.RateLimited) || r.RetryAfter < 11*3600 || r.RetryAfter > 12*3600 {
		t.Errorf("without another channel: %+v", r)
	}
	for _, alarm := range []string{event.AlarmSpendWarning, event.AlarmSpendCap} {
		s.heard.Wait(t, event.AlarmRaised, func(e otposttest.Event) bool { return otposttest.Decode[event.Alarm](t, e).Alarm == alarm })
	}
	raised := 0
	for _, e := range s.heard.All() {
		if e.Name == event.AlarmRaised {
			raised++
			if a := otposttest.Decode[event.Alarm](t, e); a.Country != "US" || a.Cap != "1.00" || a.Spent != "0.80" {
				t.Errorf("the alarm is %+v", a)
			}
		}
	}
	if raised != 2 {
		t.Errorf("%d alarms were raised, want one of each", raised)
	}
	if got := otposttest.Get[int64](t, s.db, `SELECT max(day_n) FROM limits`); got != 800_000 {
		t.Errorf("%d is counted as spent", got)
	}
}

// A challenge to a test destination is answered by its fixed code, says so everywhere, and sends nothing.
func TestATestDestination(t *testing.T) {
	s := newSystem(t, withDelivery(func(p *otp.DeliveryPolicy) { p.Countries, p.Limits.User = nil, otp.Rate{Day: 1} }))
	ring := otposttest.Ring(t, keyring.Operator)
	d := postgres.Destination{AppID: s.app.ID, Kind: postgres.DestinationTest, Address: "phone", Mask: "+1•••••0006", CreatedAt: time.Now()}
	var err error
	if d.Digest, err = ring.DestinationKey("demo", otp.SMS, "+15005550006"); err != nil {
		t.Fatal(err)
	}
	if d.CodeDigest, err = ring.TestCode("demo", d.Digest, "2468"); err != nil {
		t.Fatal(err)
	}
	if err := postgres.NewDestinations(s.db.Role("operator")).Add(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	s.run(bus.RoleChallenge, bus.RoleSMS, bus.RoleVerification)
	to := map[string]any{"sms": "+15005550006", "email": "real@example.com"}
	s.publish("login-1", "alice", map[string]any{"to": to})
	if i := s.issued("alice"); !i.Test || i.Factor != "sms" || len(i.Methods) != 0 {
		t.Errorf("issued %+v", i)
	}
	r := s.asks("alice", "", "", to) // beyond the user's limit, which is none here
	if r.Outcome != event.OutcomeIssued || !r.Test {
		t.Fatalf("answered %+v", r)
	}
	s.clock.Advance(time.Minute)
	if _, problem := request[event.ResendReply](s, event.VerbResend, map[string]any{"challenge": r.Challenge, "session": "session of alice"}); problem != "" {
		t.Errorf("a resend: %s", problem)
	}
	if v := s.verify(r.Challenge, "alice", "1357"); v.Result != "wrong" {
		t.Errorf("another code is %s", v.Result)
	}
	if v := s.verify(r.Challenge, "alice", "2468"); v.Result != "verified" {
		t.Errorf("its code is %s", v.Result)
	}
	for _, name := range []event.Name{event.ChallengeIssued, event.ChallengeSent, event.ChallengeDelivered, event.ChallengeFailed, event.ChallengeVerified} {
		e := s.heard.Wait(t, name, func(e otposttest.Event) bool { return e.Subject == r.Challenge })
		if !otposttest.Decode[event.About](t, e).Test {
			t.Errorf("%s does not say that it was a test", name)
		}
	}
	status, problem := request[event.StatusReply](s, event.VerbStatus, map[string]any{"challenge": r.Challenge})
	if problem != "" || !status.Test || len(status.Deliveries) != 2 || status.Deliveries[1].Provider != postgres.TestProvider || status.Deliveries[1].State != "delivered" {
		t.Errorf("the status is %+v %s", status, problem)
	}

	// A real login afterwards is refused for its country, so that whatever was ordered before would have been ordered by now.
	if r := s.asks("bob", "", "", bySMS(1)["to"].(map[string]any)); r.Reason != string(otp.BlockedDestination) {
		t.Errorf("a real number: %+v", r)
	}
	stream, err := s.operator().JetStream().Stream(t.Context(), bus.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	if last := stream.CachedInfo().State.LastSeq; last != 0 {
		t.Errorf("%d commands were published", last)
	}
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM limits WHERE day_n > 0`); n != 0 {
		t.Errorf("%d limits have counted it", n)
	}
}

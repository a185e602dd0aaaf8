package main

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file holds what enrolment sends to the limits of what is sent.

// giveAddress gives a user a number or address as a factor, which no code was sent to.
func (s *system) giveAddress(user string, kind otp.FactorKind, address string) {
	s.t.Helper()
	s.activate(user)
	sealed, err := otposttest.Ring(s.t, keyring.Enrolment).SealDestination(string(kind), "demo", user, delivery.Purpose, address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.db.Exec(s.t, `INSERT INTO factors (id, app_id, user_id, kind, label, sealed, mask, created_at) VALUES ($1, $2, $3, $4, 'mine', $5, '•••', $6)`,
		uuid.Must(uuid.NewV7()), s.app.ID, user, string(kind), sealed, s.clock.Now().Add(-time.Hour))
}

// tells leaves n notices to a user.
func (s *system) tells(user string, notice otp.Notice, n int) {
	s.t.Helper()
	s.db.Exec(s.t, `INSERT INTO notices (id, app_id, user_id, notice, detail, at) SELECT gen_random_uuid(), $1, $2, $3, '{}', $4 FROM generate_series(1, $5)`,
		s.app.ID, user, string(notice), s.clock.Now(), n)
}

// told waits until no notice waits and none is on its way, and returns how many text messages and emails a user's addresses got.
func (s *system) told(number, address string) (texts, mails int) {
	s.t.Helper()
	otposttest.Eventually(s.t, "no notice waits", func() bool { return otposttest.Get[int](s.t, s.db, `SELECT count(*) FROM notices`) == 0 })
	otposttest.Eventually(s.t, "all notices are sent", func() bool {
		return otposttest.Get[int](s.t, s.db, `SELECT count(*) FROM deliveries WHERE state IN ('queued', 'sending')`) == 0
	})
	return s.messages(number), s.messages(address)
}

// Notices over SMS keep to what every message to a phone keeps to, the grave ones too; over email all of those are told.
func TestNoticesKeepToTheLimits(t *testing.T) {
	t.Parallel()
	countries := func(list ...string) func(*systemOptions) {
		return withDelivery(func(p *otp.DeliveryPolicy) { p.Countries = list })
	}
	const notices = 30
	for _, tt := range []struct {
		name   string
		policy func(*systemOptions)
		notice otp.Notice
		number string
		texts  int
	}{
		{"no country", countries(), otp.NoticeFactorRemoved, phone(1), 0},
		{"another country", countries("CZ"), otp.NoticeFactorRemoved, phone(1), 0},
		{"a premium number", countries("US"), otp.NoticeFactorRemoved, "+19002345678", 0},
		{"grave ones are bounded", countries("US"), otp.NoticeFactorRemoved, phone(1), 12},
		{"a cap on spending", withDelivery(func(p *otp.DeliveryPolicy) { p.SpendCaps = map[string]int64{"US": 1_000_000} }), otp.NoticeFactorRemoved, phone(1), 2},
		{"no money", withDelivery(func(p *otp.DeliveryPolicy) { p.SpendCaps = map[string]int64{"US": 0} }), otp.NoticeFactorRemoved, phone(1), 0},
		{"the app's limit", withDelivery(func(p *otp.DeliveryPolicy) { p.Limits.App = otp.Rate{Hour: 7} }), otp.NoticeFactorRemoved, phone(1), 7},
		{"a user's limit does not hold grave ones", withDelivery(func(p *otp.DeliveryPolicy) { p.Limits.User = otp.Rate{Hour: 3} }), otp.NoticeFactorRemoved, phone(1), 12},
		{"a user's limit", withDelivery(func(p *otp.DeliveryPolicy) { p.Limits.User = otp.Rate{Hour: 3} }), otp.NoticeBackupCodesRenewed, phone(1), 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, tt.policy)
			s.midday()
			s.db.Exec(t, `INSERT INTO providers (channel, name, kind, position, receipts, costs, seen_at) VALUES ('sms', 'twilio', 'twilio', 0, false, '{"US": 400000}', now())`)
			s.giveAddress("alice", otp.FactorSMS, tt.number)
			s.giveAddress("alice", otp.FactorEmail, "alice@example.com")
			s.tells("alice", tt.notice, notices)
			s.run(bus.RoleSMS, bus.RoleEmail, bus.RoleEnrolment)
			if texts, mails := s.told(tt.number, "alice@example.com"); texts != tt.texts || mails != notices {
				t.Errorf("%d text messages and %d emails for %d notices, want %d and all", texts, mails, notices, tt.texts)
			}
		})
	}
}

// A notice counts for the number and in the day's spending, and keeps no code waiting.
func TestNoticesAreCounted(t *testing.T) {
	t.Parallel()
	s := newSystem(t, withDelivery(func(p *otp.DeliveryPolicy) {
		p.Limits.Destination, p.Limits.Cooldown, p.SpendCaps = otp.Rate{Hour: 3}, time.Minute, map[string]int64{"US": 1_500_000}
	}))
	s.midday()
	s.db.Exec(t, `INSERT INTO providers (channel, name, kind, position, receipts, costs, seen_at) VALUES ('sms', 'twilio', 'twilio', 0, false, '{"US": 400000}', now())`)
	s.giveAddress("alice", otp.FactorSMS, phone(1))
	s.tells("alice", otp.NoticeBackupCodesRenewed, 2)
	s.run(bus.RoleSMS, bus.RoleEnrolment, bus.RoleChallenge)
	if texts, _ := s.told(phone(1), ""); texts != 2 {
		t.Fatalf("%d text messages", texts)
	}
	to := map[string]any{"sms": phone(1)}
	if r := s.asks("bob", "", "", to); r.Outcome != event.OutcomeIssued {
		t.Errorf("a code after a notice: %+v", r)
	}
	s.clock.Advance(2 * time.Minute)
	if r := s.asks("carol", "", "", to); r.Reason != string(otp.RateLimited) || r.RetryAfter <= 120 {
		t.Errorf("beyond the number's limit: %+v", r)
	}
	if spent := otposttest.Get[int64](t, s.db, `SELECT max(day_n) FROM limits`); spent != 1_200_000 {
		t.Errorf("%d is counted as spent", spent)
	}
	s.heard.Wait(t, event.AlarmRaised, func(e otposttest.Event) bool {
		return otposttest.Decode[event.Alarm](t, e).Alarm == event.AlarmSpendWarning
	})
}

// A blocked prefix gets no notice; the email is sent.
func TestNoticesObeyBlocks(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.giveAddress("alice", otp.FactorSMS, phone(1))
	s.giveAddress("alice", otp.FactorEmail, "alice@example.com")
	now := s.clock.Now()
	if err := postgres.NewPumping(s.db.Role("operator")).Block(t.Context(), postgres.PrefixBlock{
		Prefix: postgres.Prefix{AppID: s.app.ID, Digits: otp.LocatePhone(phone(1)).Prefix}, Since: now, Until: now.Add(time.Hour),
	}); err != nil {
		t.Fatal(err)
	}
	s.tells("alice", otp.NoticeFactorRemoved, 2)
	s.run(bus.RoleSMS, bus.RoleEmail, bus.RoleEnrolment)
	if texts, mails := s.told(phone(1), "alice@example.com"); texts != 0 || mails != 2 {
		t.Errorf("%d text messages and %d emails", texts, mails)
	}
}

// Who asks for a code again gets it over the next provider, of a ceremony and of a recovery; and the guard against pumping hears of codes that were sent and of
// those that came back.
func TestEnrolmentResendsOverTheNextProvider(t *testing.T) {
	t.Parallel()
	r := newRouted(t, nil)
	r.run(bus.RoleEnrolment)
	over := func(purpose, want string) {
		t.Helper()
		otposttest.Eventually(t, "the codes to "+purpose+" go over "+want, func() bool {
			return otposttest.Get[string](t, r.db, `SELECT coalesce(string_agg(d.provider, ' ' ORDER BY d.challenge_id, d.attempt), '')
				FROM deliveries d JOIN messages m ON m.id = d.challenge_id WHERE m.purpose = $1 AND m.channel = 'sms'`, purpose) == want
		})
	}
	begun := must[event.FactorBeginReply](r.system, event.VerbFactorBegin, owned("alice", map[string]any{"kind": "sms", "address": phone(1)}))
	over("add_factor", "primary")
	for _, want := range []string{"primary backup", "primary backup primary"} {
		r.db.Exec(t, `UPDATE ceremonies SET next_send_at = 'epoch'`)
		must[event.ResendReply](r.system, event.VerbFactorResend, map[string]any{"ceremony": begun.Ceremony, "session": "session of alice"})
		over("add_factor", want)
	}
	r.confirm("alice", begun.Ceremony, r.derived("m.id = $1", begun.Ceremony))
	otposttest.Eventually(t, "the guard has counted the number and its code", func() bool {
		return otposttest.Get[string](t, r.db, `SELECT coalesce(sum(sends) || '/' || sum(verified), '') FROM prefix_counts`) == "1/1"
	})

	r.recoverable("bob", 2)
	rec := must[event.RecoveryReply](r.system, event.VerbRecoveryBegin, r.lost("bob", map[string]any{"methods": []string{"phone", "email"}}))
	over("recovery", "primary")
	for _, want := range []string{"primary backup", "primary backup primary"} {
		r.db.Exec(t, `UPDATE recovery_codes SET next_send_at = 'epoch'`)
		must[event.ResendReply](r.system, event.VerbRecoveryResend, map[string]any{"recovery": rec.Recovery, "session": "session of bob", "method": "phone"})
		over("recovery", want)
	}
	if v := r.prove("bob", rec.Recovery, "phone", r.resetCode(rec.Recovery, "phone")); v.Result != event.ResultProven {
		t.Errorf("the code that came over all of them: %+v", v)
	}
}

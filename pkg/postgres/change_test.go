package postgres_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// What a challenge asked for before it was sent elsewhere is the best of what else the user could use.
func TestResendPutsWhatWasAskedForFirst(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a", func(c *postgres.NewChallenge) { c.Methods = []string{"totp", "email", "backup_code"} })
	b.clock.Advance(cooldown)
	if _, err := b.resend(b.detail(id), otp.Email, cooldown); err != nil {
		t.Fatal(err)
	}
	if got := b.status(id).Methods; !slices.Equal(got, []string{"sms", "totp", "backup_code"}) {
		t.Errorf("the user could now also use %v", got)
	}
}

// reason is that of a problem, "unknown" for ErrNoChallenge, "" for no error.
func reason(err error) otp.Reason {
	if p, ok := errors.AsType[*otp.Problem](err); ok {
		return p.Reason
	}
	if errors.Is(err, postgres.ErrNoChallenge) {
		return "unknown"
	}
	if err != nil {
		return otp.Reason(err.Error())
	}
	return ""
}

const cooldown = 30 * time.Second

func TestResendRules(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a")
	c := b.detail(id)
	resend := func(c postgres.Challenge, ch otp.Channel) (postgres.Resend, error) {
		return b.resend(c, ch, cooldown)
	}
	_, err := resend(c, otp.SMS)
	if p, ok := errors.AsType[*otp.Problem](err); !ok || p.Reason != otp.RateLimited || p.RetryAfter != cooldown {
		t.Errorf("at once: %#v", err)
	}
	b.clock.Advance(cooldown)
	for name, change := range map[string]func(*postgres.Challenge){
		"a wrong session": func(c *postgres.Challenge) { c.Session = "another" },
		"another app":     func(c *postgres.Challenge) { c.AppID++ },
		"an unknown id":   func(c *postgres.Challenge) { c.ID = uuid.New() },
	} {
		changed := c
		change(&changed)
		if _, err := resend(changed, otp.SMS); !errors.Is(err, postgres.ErrNoChallenge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	nowhere := c
	nowhere.ToEmail = nil
	if _, err := resend(nowhere, otp.Email); reason(err) != otp.Invalid {
		t.Errorf("a channel without an address: %v", err)
	}
	r, err := resend(c, otp.Email)
	if err != nil || r.Number != 2 || r.SendsLeft != 1 || r.Provider != "p" {
		t.Errorf("the second send: %+v, %v", r, err)
	}
	got := b.status(id)
	if len(got.Methods) != 1 || got.Methods[0] != "sms" {
		t.Errorf("the user could now also use %v, want sms", got.Methods)
	}
	if got.Factor != otp.FactorEmail || len(got.Deliveries) != 2 || got.Deliveries[1].Channel != otp.Email || got.Deliveries[1].Mask != c.MaskEmail {
		t.Errorf("after it the challenge is %+v", got)
	}
	if got := b.detail(id); string(got.Nonce) != string(c.Nonce) || got.Attempts != c.Attempts || !got.ExpiresAt.Equal(c.ExpiresAt) {
		t.Error("a resend changed nonce, attempts or expiry")
	}
	b.clock.Advance(cooldown - time.Millisecond)
	if _, err := resend(c, otp.SMS); reason(err) != otp.RateLimited {
		t.Errorf("a millisecond too soon: %v", err)
	}
	b.clock.Advance(time.Millisecond)
	if r, err := resend(c, otp.SMS); err != nil || r.Number != 3 || r.SendsLeft != 0 {
		t.Errorf("the third send: %+v, %v", r, err)
	}
	b.clock.Advance(cooldown)
	if _, err := resend(c, otp.SMS); reason(err) != otp.RateLimited {
		t.Errorf("with no sends left: %v", err)
	}
	b.clock.Set(c.ExpiresAt)
	if _, err := resend(c, otp.SMS); reason(err) != otp.ChallengeEnded {
		t.Errorf("at its expiry: %v", err)
	}
}

func TestManyResendsAtOnceGiveOne(t *testing.T) {
	b := newBench(t)
	c := b.detail(b.issued("u", "a"))
	b.clock.Advance(cooldown)
	var granted atomic.Int64
	atOnce(30, func(int) { // more than there are connections
		switch _, err := b.resend(c, otp.SMS, cooldown); reason(err) {
		case "":
			granted.Add(1)
		case otp.RateLimited:
		default:
			t.Error(err)
		}
	})
	if granted.Load() != 1 || len(b.status(c.ID).Deliveries) != 2 {
		t.Errorf("%d were granted, with %d deliveries", granted.Load(), len(b.status(c.ID).Deliveries))
	}
}

func TestCancel(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a")
	cancel := func(app int, session string) ([]postgres.OutboxEvent, error) {
		return b.challenges.Cancel(t.Context(), b.clock.Now(), app, id, session, func(user, login string) postgres.OutboxEvent {
			if user != "u" || login != "login" {
				t.Errorf("the event is of %q, %q", user, login)
			}
			return event("cancelled", id)
		})
	}
	for _, wrong := range []struct {
		app     int
		session string
	}{{b.app.ID, "another"}, {b.app.ID + 1, "session"}} {
		if _, err := cancel(wrong.app, wrong.session); !errors.Is(err, postgres.ErrNoChallenge) {
			t.Errorf("by %+v: %v", wrong, err)
		}
	}
	var told atomic.Int64
	atOnce(20, func(int) {
		events, err := cancel(b.app.ID, "session")
		if err != nil {
			t.Error(err)
		}
		told.Add(int64(len(events)))
	})
	if told.Load() != 1 {
		t.Errorf("the end was told %d times", told.Load())
	}
	got := b.status(id)
	if got.State != otp.Cancelled || !got.EndedAt.Equal(b.clock.Now()) || got.Deliveries[0].State != otp.DeliveryExpired {
		t.Errorf("it is %+v", got)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM outbox"); n != 1 {
		t.Errorf("%d events in the outbox", n)
	}
	for _, state := range []otp.State{otp.Verified, otp.Exhausted} {
		id = b.issued("u", string(state))
		b.db.Exec(t, "UPDATE challenges SET state = $2, ended_at = now() WHERE id = $1", id, string(state))
		if events, err := cancel(b.app.ID, "session"); reason(err) != otp.ChallengeEnded || len(events) != 0 {
			t.Errorf("cancel of a challenge that is %s: %v", state, err)
		}
	}
	id = b.issued("u", "late")
	b.clock.Advance(5 * time.Minute)
	if _, err := cancel(b.app.ID, "session"); reason(err) != otp.ChallengeEnded {
		t.Errorf("cancel of a challenge past its time: %v", err)
	}
	b.wantState(id, otp.Open) // its end is the sweeper's to tell
}

func TestStatusOfAnotherAppIsUnknown(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a")
	if _, err := b.challenges.Status(t.Context(), b.app.ID+1, id); !errors.Is(err, postgres.ErrNoChallenge) {
		t.Errorf("asked by another app: %v", err)
	}
	if _, err := b.challenges.Standing(t.Context(), b.app.ID+1, id); !errors.Is(err, postgres.ErrNoChallenge) {
		t.Errorf("its standing asked by another app: %v", err)
	}
	if c, err := b.challenges.Standing(t.Context(), b.app.ID, id); err != nil || c.User != "u" || len(c.Deliveries) != 1 {
		t.Errorf("its standing is %+v, %v", c, err)
	}
	operator := postgres.NewChallenges(b.db.Role("operator"))
	if c, err := operator.Status(t.Context(), b.app.ID, id); err != nil || c.User != "u" || c.Nonce != nil || c.ToSMS != nil || len(c.Deliveries) != 1 {
		t.Errorf("the operator sees %+v, %v", c, err)
	}
}

package challenge

import (
	"slices"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	totp := postgres.Factor{Kind: otp.FactorTOTP, Digits: 8}
	oldPhone := postgres.Factor{Kind: otp.FactorSMS, Mask: "+1•••••0001", Sealed: []byte("old")}
	newPhone := postgres.Factor{Kind: otp.FactorSMS, Mask: "+1•••••0002", Sealed: []byte("new")}
	tests := []struct {
		name    string
		channel string
		phone   bool // the app vouches for +1•••••0100
		mail    bool
		factors []postgres.Factor
		budget  otp.Budget
		open    int
		waited  time.Duration
		policy  func(*otp.Policy)

		outcome, reason string
		retryAfter      time.Duration
		factor          otp.FactorKind
		mask            string
		methods         []string
		supersede       int
		digits          int
	}{
		{
			name: "the policy's order, strongest first", phone: true, mail: true, factors: []postgres.Factor{totp},
			outcome: "issued", factor: otp.FactorTOTP, methods: []string{"sms", "email"}, digits: 8,
		},
		{
			name: "the channel that was asked for", channel: "email", phone: true, mail: true,
			outcome: "issued", factor: otp.FactorEmail, mask: "u•••@example.com", methods: []string{"sms"}, digits: 6,
		},
		{
			name: "the policy's own order", phone: true, mail: true, policy: func(p *otp.Policy) { p.Channels = []otp.FactorKind{otp.FactorEmail} },
			outcome: "issued", factor: otp.FactorEmail, mask: "u•••@example.com", methods: []string{"sms"}, digits: 6,
		},
		{
			name: "what the app vouches for comes before what is enrolled", phone: true, factors: []postgres.Factor{oldPhone},
			outcome: "issued", factor: otp.FactorSMS, mask: "+1•••••0100", methods: []string{}, digits: 6,
		},
		{
			name: "the first that was enrolled", factors: []postgres.Factor{oldPhone, newPhone},
			outcome: "issued", factor: otp.FactorSMS, mask: "+1•••••0001", methods: []string{}, digits: 6,
		},
		{
			name: "digits by policy", phone: true, policy: func(p *otp.Policy) { p.Digits = 9 },
			outcome: "issued", factor: otp.FactorSMS, mask: "+1•••••0100", methods: []string{}, digits: 9,
		},
		{name: "nothing to ask with", outcome: "skipped", reason: "no_factor"},
		{name: "nothing to ask with, by policy refused", policy: func(p *otp.Policy) { p.NoFactor = otp.Refuse }, outcome: "refused", reason: "no_factor"},
		{name: "a channel that the user does not have is never skipped", channel: "totp", phone: true, outcome: "refused", reason: "no_factor"},
		{name: "a channel that nobody has yet", channel: "webauthn", phone: true, outcome: "refused", reason: "no_factor"},
		{
			name: "a waiting account", phone: true, budget: otp.Budget{Failures: 5, WaitUntil: now.Add(30 * time.Second)},
			outcome: "refused", reason: "rate_limited", retryAfter: 30 * time.Second,
		},
		{
			name: "a wait that is over", phone: true, budget: otp.Budget{Failures: 5, WaitUntil: now},
			outcome: "issued", factor: otp.FactorSMS, mask: "+1•••••0100", methods: []string{}, digits: 6,
		},
		{
			name: "a locked account, whatever it has", phone: true, budget: otp.Budget{Failures: 100, Locked: true, WaitUntil: now.Add(time.Hour)},
			outcome: "refused", reason: "locked",
		},
		{
			name: "a waiting account is not let pass for want of a factor", budget: otp.Budget{WaitUntil: now.Add(time.Second)},
			outcome: "refused", reason: "rate_limited", retryAfter: time.Second,
		},
		{
			name: "it waited in the queue for as long as a code lives", phone: true, waited: 5 * time.Minute,
			outcome: "issued", factor: otp.FactorSMS, mask: "+1•••••0100", methods: []string{}, digits: 6,
		},
		{name: "it waited for longer", phone: true, waited: 5*time.Minute + time.Second, outcome: "refused", reason: "stale"},
		{name: "room for one more", phone: true, open: 2, outcome: "issued", factor: otp.FactorSMS, mask: "+1•••••0100", methods: []string{}, digits: 6},
		{
			name: "the oldest gives way", phone: true, open: 3,
			outcome: "issued", factor: otp.FactorSMS, mask: "+1•••••0100", methods: []string{}, digits: 6, supersede: 1,
		},
		{
			name: "a lower limit than before", phone: true, open: 5, policy: func(p *otp.Policy) { p.OpenChallenges = 1 },
			outcome: "issued", factor: otp.FactorSMS, mask: "+1•••••0100", methods: []string{}, digits: 6, supersede: 5,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := &login{app: postgres.App{Policy: anywhere()}, gate: openGate(), received: now.Add(-tt.waited)}
			if tt.policy != nil {
				tt.policy(&l.app.Policy)
			}
			l.Channel = tt.channel
			if tt.phone {
				l.Phone, l.sealedPhone = "+14155550100", []byte("phone")
			}
			if tt.mail {
				l.Mail, l.sealedMail = "user@example.com", []byte("mail")
			}
			d := l.decide(postgres.UserState{Budget: tt.budget, Factors: tt.factors, Open: make([]postgres.OpenChallenge, tt.open)}, 7, now)
			if d.Outcome != tt.outcome || d.Reason != tt.reason || d.RetryAfter != tt.retryAfter {
				t.Fatalf("decided %s %q, retry after %s; want %s %q, %s", d.Outcome, d.Reason, d.RetryAfter, tt.outcome, tt.reason, tt.retryAfter)
			}
			if tt.outcome != event.OutcomeIssued {
				if d.Challenge != nil {
					t.Error("there is a challenge all the same")
				}
				return
			}
			c := d.Challenge
			if c.Factor != tt.factor || c.Mask() != tt.mask || !slices.Equal(c.Methods, tt.methods) || c.Digits != tt.digits || max(d.Supersede, 0) != tt.supersede {
				t.Errorf("issued %s to %q, methods %v, %d digits, superseding %d; want %s to %q, %v, %d, %d", c.Factor, c.Mask(), c.Methods, c.Digits,
					d.Supersede, tt.factor, tt.mask, tt.methods, tt.digits, tt.supersede)
			}
			if c.KeyID != 7 || len(c.Nonce) != otp.NonceSize || slices.Max(c.Nonce) == 0 || !c.ExpiresAt.Equal(now.Add(l.app.Policy.Life)) {
				t.Errorf("key %d, nonce %x, expires %s", c.KeyID, c.Nonce, c.ExpiresAt)
			}
		})
	}
}

// Every reason that decide gives has words of its own for people.
func TestWords(t *testing.T) {
	said := map[string]string{}
	for _, r := range []otp.Reason{otp.AccountLocked, otp.RateLimited, otp.Stale, otp.NoFactorLeft, otp.BlockedDestination} {
		w := words(string(r))
		if other, ok := said[w]; ok || w == words("anything else") {
			t.Errorf("%s and %q say the same: %s", r, other, w)
		}
		said[w] = string(r)
	}
}

func TestSweepSettings(t *testing.T) {
	ok := Sweep{}
	if err := ok.complete(); err != nil || ok.Every != 2*time.Second || ok.PartitionsAhead != 3 {
		t.Errorf("the defaults: %+v, %v", ok, err)
	}
	for want, s := range map[string]Sweep{
		"sweep-every": {Every: -time.Second}, "sweep-grace": {Grace: time.Millisecond}, "keep": {Keep: time.Hour}, "partitions-ahead": {PartitionsAhead: 61},
	} {
		if err := s.complete(); err == nil || err.Error()[:len(want)] != want {
			t.Errorf("%+v: %v, want an error that names %s", s, err, want)
		}
	}
}

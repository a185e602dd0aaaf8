package challenge

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// Which factor a login asks for, by what the user has enrolled and wishes.
func TestChoiceOfFactor(t *testing.T) {
	now := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	id := func(n byte) uuid.UUID { return uuid.UUID{15: n} }
	authenticator := postgres.Factor{ID: id(1), Kind: otp.FactorTOTP, Digits: 8}
	second := postgres.Factor{ID: id(2), Kind: otp.FactorTOTP, Digits: 7}
	token := postgres.Factor{ID: id(3), Kind: otp.FactorHOTP, Digits: 7}
	key := postgres.Factor{ID: id(4), Kind: otp.FactorWebAuthn}
	yubikey := postgres.Factor{ID: id(5), Kind: otp.FactorYubikey}
	oldPhone := postgres.Factor{ID: id(6), Kind: otp.FactorSMS, Mask: "+1•••••0001", Sealed: []byte("old")}
	newPhone := postgres.Factor{ID: id(7), Kind: otp.FactorSMS, Mask: "+1•••••0002", Sealed: []byte("new")}
	mailbox := postgres.Factor{ID: id(8), Kind: otp.FactorEmail, Mask: "m•••@example.com", Sealed: []byte("mailbox")}
	all := []postgres.Factor{authenticator, token, key, yubikey, oldPhone, newPhone, mailbox}
	smsFirst := []otp.FactorKind{otp.FactorSMS, otp.FactorTOTP}
	for _, tt := range []struct {
		name    string
		user    postgres.UserState
		channel string
		phone   bool // the app vouches for +1•••••0100
		policy  []otp.FactorKind

		factor  otp.FactorKind // "" for refused
		mask    string
		methods []string
		digits  int // that are told
	}{
		{
			name: "no wish: the policy's order", user: postgres.UserState{Factors: all},
			factor: otp.FactorWebAuthn, methods: []string{"totp", "yubikey", "hotp", "sms", "email"},
		},
		{
			name: "the preferred one", user: postgres.UserState{Factors: all, Preferred: token.ID},
			factor: otp.FactorHOTP, methods: []string{"webauthn", "totp", "yubikey", "sms", "email"}, digits: 7,
		},
		{
			name: "the preferred one of several", user: postgres.UserState{Factors: all, Preferred: newPhone.ID},
			factor: otp.FactorSMS, mask: newPhone.Mask, methods: []string{"webauthn", "totp", "yubikey", "hotp", "email"}, digits: 6,
		},
		{
			name: "the preferred one of several gives its digits", user: postgres.UserState{Factors: []postgres.Factor{authenticator, second}, Preferred: second.ID},
			factor: otp.FactorTOTP, methods: []string{}, digits: 7,
		},
		{
			name: "its address serves where its channel is asked for", user: postgres.UserState{Factors: all, Preferred: newPhone.ID}, channel: "sms",
			factor: otp.FactorSMS, mask: newPhone.Mask, methods: []string{"webauthn", "totp", "yubikey", "hotp", "email"}, digits: 6,
		},
		{
			name: "one that is gone is not asked for", user: postgres.UserState{Factors: all, Preferred: id(99)},
			factor: otp.FactorWebAuthn, methods: []string{"totp", "yubikey", "hotp", "sms", "email"},
		},
		{
			name: "what is asked for comes before what is preferred", user: postgres.UserState{Factors: all, Preferred: key.ID}, channel: "yubikey",
			factor: otp.FactorYubikey, methods: []string{"webauthn", "totp", "hotp", "sms", "email"},
		},
		{
			name: "what is asked for and the user does not have", user: postgres.UserState{Factors: []postgres.Factor{key}, Preferred: key.ID}, channel: "totp",
		},
		{
			name: "the user's fallbacks, and then the policy's", user: postgres.UserState{Factors: all, Fallbacks: smsFirst},
			factor: otp.FactorSMS, mask: oldPhone.Mask, methods: []string{"totp", "webauthn", "yubikey", "hotp", "email"}, digits: 6,
		},
		{
			name: "fallbacks come after what is preferred", user: postgres.UserState{Factors: all, Preferred: mailbox.ID, Fallbacks: smsFirst},
			factor: otp.FactorEmail, mask: mailbox.Mask, methods: []string{"sms", "totp", "webauthn", "yubikey", "hotp"}, digits: 6,
		},
		{
			name: "a fallback that the user does not have", user: postgres.UserState{Factors: []postgres.Factor{mailbox}, Fallbacks: smsFirst},
			factor: otp.FactorEmail, mask: mailbox.Mask, methods: []string{}, digits: 6,
		},
		{
			name: "an address that the app vouches for", user: postgres.UserState{Factors: all, Preferred: newPhone.ID}, phone: true,
			factor: otp.FactorSMS, mask: "+1•••••0100", methods: []string{"webauthn", "totp", "yubikey", "hotp", "email"}, digits: 6,
		},
		{
			name: "what the policy does not name is asked for all the same", user: postgres.UserState{Factors: []postgres.Factor{key}},
			policy: []otp.FactorKind{otp.FactorSMS}, factor: otp.FactorWebAuthn, methods: []string{},
		},
		{
			name: "backup codes come last", user: postgres.UserState{Factors: []postgres.Factor{authenticator, mailbox}, BackupCodes: true},
			factor: otp.FactorTOTP, methods: []string{"email", "backup_code"}, digits: 8,
		},
		{
			name: "a suspended one is not asked for, and nobody is let pass for it", user: postgres.UserState{Suspended: true},
		},
		{
			name: "who has backup codes may use one in its place", user: postgres.UserState{Suspended: true, BackupCodes: true},
			factor: otp.FactorWebAuthn, methods: []string{"backup_code"},
		},
		{
			name: "another one serves in its place", user: postgres.UserState{Suspended: true, Factors: []postgres.Factor{authenticator}},
			factor: otp.FactorTOTP, methods: []string{}, digits: 8,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &login{app: postgres.App{Policy: anywhere()}, gate: openGate(), received: now}
			l.Channel = tt.channel
			if tt.policy != nil {
				l.app.Policy.Channels = tt.policy
			}
			if tt.phone {
				l.Phone, l.sealedPhone = "+14155550100", []byte("phone")
			}
			d := l.decide(tt.user, 7, now)
			if tt.factor == "" {
				if d.Outcome != "refused" || d.Reason != "no_factor" || d.Challenge != nil {
					t.Errorf("decided %+v", d)
				}
				return
			}
			if d.Outcome != "issued" {
				t.Fatalf("decided %+v", d)
			}
			c := d.Challenge
			if c.Factor != tt.factor || c.Mask() != tt.mask || !slices.Equal(c.Methods, tt.methods) || typed(c) != tt.digits {
				t.Errorf("issued %s to %q, methods %v, %d digits; want %s to %q, %v, %d", c.Factor, c.Mask(), c.Methods, typed(c), tt.factor, tt.mask,
					tt.methods, tt.digits)
			}
			if c.Digits < otp.MinDigits || c.Digits > otp.MaxDigits {
				t.Errorf("it has %d digits for a code that is sent later", c.Digits)
			}
			_, sent := c.Factor.Channel()
			if at := now.Add(l.app.Policy.Cooldown); sent != c.NextSendAt.Equal(at) || !sent && !c.NextSendAt.Equal(now) {
				t.Errorf("by %s, the next send is at %s", c.Factor, c.NextSendAt)
			}
		})
	}
}

func TestLocaleOfAChallenge(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct{ login, user, want string }{{"cs", "de", "cs"}, {"", "de", "de"}, {"", "", ""}} { // none: the app's, which the command carries
		l := &login{app: postgres.App{Policy: anywhere()}, gate: openGate(), received: now, sealedPhone: []byte("phone")}
		l.Phone, l.Locale = "+14155550100", tt.login
		if got := l.decide(postgres.UserState{Locale: tt.user}, 7, now).Challenge.Locale; got != tt.want {
			t.Errorf("a login in %q of a user who speaks %q is answered in %q", tt.login, tt.user, got)
		}
	}
}

func TestATrustedDeviceSkipsWhatItMay(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		user        postgres.UserState
		transaction *otp.Transaction
		waited      time.Duration
		outcome     string
		reason      string
	}{
		"a login":                        {outcome: "skipped", reason: "trusted_device"},
		"with whatever factors":          {user: postgres.UserState{Suspended: true, Factors: []postgres.Factor{{Kind: otp.FactorTOTP}}}, outcome: "skipped", reason: "trusted_device"},
		"not what is to be agreed to":    {transaction: &otp.Transaction{Amount: "1 EUR", Payee: "Shop"}, outcome: "issued"},
		"not a locked account":           {user: postgres.UserState{Budget: otp.Budget{Locked: true}}, outcome: "refused", reason: "locked"},
		"not an account that must wait":  {user: postgres.UserState{Budget: otp.Budget{WaitUntil: now.Add(time.Second)}}, outcome: "refused", reason: "rate_limited"},
		"not one that waited in a queue": {waited: time.Hour, outcome: "refused", reason: "stale"},
	} {
		l := &login{app: postgres.App{Policy: anywhere()}, gate: openGate(), received: now.Add(-tt.waited), sealedPhone: []byte("phone")}
		l.Phone, l.Transaction = "+14155550100", tt.transaction
		tt.user.Device = uuid.New()
		d := l.decide(tt.user, 7, now)
		if d.Outcome != tt.outcome || d.Reason != tt.reason || d.Trusted != (tt.outcome == "skipped") {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

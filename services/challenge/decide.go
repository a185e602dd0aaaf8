package challenge

import (
	"crypto/rand"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// Reasons of challenge.skipped.
const reasonNoFactor = "no_factor"

// decide says what becomes of a login, from the app's policy and the user's state. It does no I/O.
func (l *login) decide(u postgres.UserState, keyID uint32, now time.Time) postgres.Decision {
	p := l.app.Policy
	switch wait := u.Budget.Wait(now); {
	case u.Budget.Locked:
		return refuse(otp.AccountLocked, 0)
	case wait > 0:
		return refuse(otp.RateLimited, wait)
	case now.Sub(l.received) > p.Life:
		return refuse(otp.Stale, 0)
	}
	reach := l.reach(u.Factors)
	kind, ok := reach.choose(otp.FactorKind(l.Channel), p.Channels)
	if !ok {
		if l.Channel == "" && p.NoFactor == otp.Skip {
			return postgres.Decision{Outcome: event.OutcomeSkipped, Reason: reasonNoFactor}
		}
		return refuse(otp.NoFactorLeft, 0)
	}
	c := &postgres.NewChallenge{
		Session: l.Session, Login: l.ID, Factor: kind, Nonce: make([]byte, otp.NonceSize), KeyID: keyID, Digits: p.Digits,
		Transaction: l.Transaction, Locale: l.Locale, ToSMS: reach.sms.Sealed, MaskSMS: reach.sms.Mask, ToEmail: reach.email.Sealed,
		MaskEmail: reach.email.Mask, Methods: reach.others(kind), Attempts: p.Attempts, Sends: p.Sends, NextSendAt: now.Add(p.Cooldown),
		ExpiresAt: now.Add(p.Life),
	}
	if kind == otp.FactorTOTP {
		c.Digits, c.NextSendAt = reach.totp.Digits, now
	}
	_, _ = rand.Read(c.Nonce) // never fails (Go 1.24)
	return postgres.Decision{Outcome: event.OutcomeIssued, Challenge: c, Supersede: len(u.Open) - p.OpenChallenges + 1}
}

func refuse(r otp.Reason, after time.Duration) postgres.Decision {
	return postgres.Decision{Outcome: event.OutcomeRefused, Reason: string(r), RetryAfter: after}
}

// words say for people why a login was refused.
func words(reason string) string {
	switch otp.Reason(reason) {
	case otp.AccountLocked:
		return "the account is locked after too many wrong answers; an operator can unlock it"
	case otp.RateLimited:
		return "the account must wait after wrong answers"
	case otp.Stale:
		return "the login waited for longer than a code lives"
	case otp.NoFactorLeft:
		return "the user has no factor of the kind asked for and the event gives no address for it"
	default:
		return "the login was refused"
	}
}

// reach is how a user can be asked. A factor without an id and seal is not there.
type reach struct {
	sms, email, totp postgres.Factor
	has              map[otp.FactorKind]bool
}

// reach joins the addresses that the app vouches for, which come first, with what the user has enrolled.
func (l *login) reach(enrolled []postgres.Factor) reach {
	r := reach{has: map[otp.FactorKind]bool{}}
	put := func(slot *postgres.Factor, f postgres.Factor) {
		if !r.has[f.Kind] {
			*slot, r.has[f.Kind] = f, true
		}
	}
	if len(l.sealedPhone) > 0 {
		put(&r.sms, postgres.Factor{Kind: otp.FactorSMS, Sealed: l.sealedPhone, Mask: otp.MaskPhone(l.Phone)})
	}
	if len(l.sealedMail) > 0 {
		put(&r.email, postgres.Factor{Kind: otp.FactorEmail, Sealed: l.sealedMail, Mask: otp.MaskEmail(l.Mail)})
	}
	for _, f := range enrolled {
		switch f.Kind {
		case otp.FactorSMS:
			put(&r.sms, f)
		case otp.FactorEmail:
			put(&r.email, f)
		case otp.FactorTOTP:
			put(&r.totp, f)
		}
	}
	return r
}

// choose takes the factor that was asked for, else the first of the policy's that the user has.
func (r reach) choose(asked otp.FactorKind, order []otp.FactorKind) (otp.FactorKind, bool) {
	if asked != "" {
		return asked, r.has[asked]
	}
	for _, k := range order {
		if r.has[k] {
			return k, true
		}
	}
	return "", false
}

// others lists what else the user could use, strongest first.
func (r reach) others(chosen otp.FactorKind) []string {
	out := make([]string, 0, 2)
	for _, k := range []otp.FactorKind{otp.FactorTOTP, otp.FactorSMS, otp.FactorEmail} {
		if r.has[k] && k != chosen {
			out = append(out, string(k))
		}
	}
	return slices.Clip(out)
}

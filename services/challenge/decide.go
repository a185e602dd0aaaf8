package challenge

import (
	"cmp"
	"crypto/rand"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// Reasons of challenge.skipped.
const (
	reasonNoFactor      = "no_factor"
	reasonTrustedDevice = "trusted_device"
)

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
	if u.Device != uuid.Nil && l.Transaction == nil { // what a user is to agree to is asked of them, wherever they are
		return postgres.Decision{Outcome: event.OutcomeSkipped, Reason: reasonTrustedDevice, Trusted: true}
	}
	reach := l.reach(u)
	kind, ok := reach.choose(otp.FactorKind(l.Channel), p.Channels)
	if !ok && l.Channel == "" && u.Suspended && u.BackupCodes {
		kind, ok = otp.FactorWebAuthn, true // the key that is suspended, which answers nothing; a backup code does
	}
	if !ok {
		// Who has a factor that is not trusted any more has one: whoever copied it must not be let pass for that.
		if l.Channel == "" && p.NoFactor == otp.Skip && !u.Suspended {
			return postgres.Decision{Outcome: event.OutcomeSkipped, Reason: reasonNoFactor}
		}
		return refuse(otp.NoFactorLeft, 0)
	}
	c := &postgres.NewChallenge{
		Session: l.Session, Login: l.ID, Factor: kind, Nonce: make([]byte, otp.NonceSize), KeyID: keyID, Digits: p.Digits,
		Transaction: l.Transaction, Locale: cmp.Or(l.Locale, u.Locale), ToSMS: reach.has[otp.FactorSMS].Sealed, MaskSMS: reach.has[otp.FactorSMS].Mask,
		ToEmail: reach.has[otp.FactorEmail].Sealed, MaskEmail: reach.has[otp.FactorEmail].Mask, Methods: reach.others(kind, p.Channels),
		Attempts: p.Attempts, Sends: p.Sends, NextSendAt: now.Add(p.Cooldown), ExpiresAt: now.Add(p.Life),
	}
	if kind == otp.FactorTOTP || kind == otp.FactorHOTP {
		c.Digits = reach.has[kind].Digits
	}
	if _, sent := kind.Channel(); !sent {
		c.NextSendAt = now
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

// reach is how a user can be asked: for each kind the one factor or address that serves.
type reach struct {
	has      map[otp.FactorKind]postgres.Factor
	enrolled map[otp.FactorKind]bool
	wishes   []otp.FactorKind // the user's, best first
	codes    bool             // there are backup codes
}

// strongest orders the kinds where neither user nor policy does.
var strongest = otp.DefaultPolicy().Channels

// reach joins the addresses that the app vouches for, which come first, with what the user has enrolled: of several factors of a kind the preferred one,
// else the oldest.
func (l *login) reach(u postgres.UserState) reach {
	r := reach{has: map[otp.FactorKind]postgres.Factor{}, enrolled: map[otp.FactorKind]bool{}, codes: u.BackupCodes}
	put := func(f postgres.Factor) {
		if _, taken := r.has[f.Kind]; !taken {
			r.has[f.Kind] = f
		}
	}
	if len(l.sealedPhone) > 0 {
		put(postgres.Factor{Kind: otp.FactorSMS, Sealed: l.sealedPhone, Mask: otp.MaskPhone(l.Phone)})
	}
	if len(l.sealedMail) > 0 {
		put(postgres.Factor{Kind: otp.FactorEmail, Sealed: l.sealedMail, Mask: otp.MaskEmail(l.Mail)})
	}
	if i := slices.IndexFunc(u.Factors, func(f postgres.Factor) bool { return u.Preferred != uuid.Nil && f.ID == u.Preferred }); i >= 0 {
		put(u.Factors[i])
		r.wishes = append(r.wishes, u.Factors[i].Kind)
	}
	for _, f := range u.Factors {
		put(f)
		r.enrolled[f.Kind] = true
	}
	r.wishes = append(r.wishes, u.Fallbacks...)
	return r
}

// choose takes the factor that was asked for, else the first that the user wishes for and has, else the first of the policy's. A user who has enrolled
// only what the policy does not name is asked for that, and never let pass for want of a factor.
func (r reach) choose(asked otp.FactorKind, policy []otp.FactorKind) (otp.FactorKind, bool) {
	if asked != "" {
		_, ok := r.has[asked]
		return asked, ok
	}
	for _, k := range slices.Concat(r.wishes, policy) {
		if _, ok := r.has[k]; ok {
			return k, true
		}
	}
	for _, k := range strongest {
		if r.enrolled[k] {
			return k, true
		}
	}
	return "", false
}

// others lists what else the user could use, in the order in which it would be chosen; a backup code is for when all else fails.
func (r reach) others(chosen otp.FactorKind, policy []otp.FactorKind) []string {
	out := make([]string, 0, len(r.has))
	for _, k := range slices.Concat(r.wishes, policy, strongest) {
		if _, ok := r.has[k]; ok && k != chosen && !slices.Contains(out, string(k)) {
			out = append(out, string(k))
		}
	}
	if r.codes {
		out = append(out, string(otp.FactorBackupCode))
	}
	return out
}

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

// early says what becomes of a login whatever the user has: decided is false where that is the question.
func (l *login) early(u postgres.UserState, now time.Time) (d postgres.Decision, decided bool) {
	switch wait := u.Budget.Wait(now); {
	case u.Budget.Locked:
		return refuse(otp.AccountLocked, 0), true
	case wait > 0:
		return refuse(otp.RateLimited, wait), true
	case now.Sub(l.received) > l.app.Policy.Life:
		return refuse(otp.Stale, 0), true
	}
	return d, false
}

// passes reports whether a trusted device lets the login pass. What a user is to agree to is asked of them, wherever they are.
func (l *login) passes(u postgres.UserState) bool {
	return u.Device != uuid.Nil && l.Transaction == nil
}

// decide says what becomes of a login, from the app's policy, the user's state and what was sent of late. It does no I/O.
func (l *login) decide(u postgres.UserState, keyID uint32, now time.Time) postgres.Decision {
	if d, decided := l.early(u, now); decided {
		return d
	}
	if l.passes(u) {
		return postgres.Decision{Outcome: event.OutcomeSkipped, Reason: reasonTrustedDevice, Trusted: true}
	}
	reach, err := l.look(u)
	if err != nil { // the keys do not serve: the same is met by whoever sends
		return refuse(otp.Internal, 0)
	}
	kind, refused := l.choose(reach, u)
	if kind == "" {
		return refused
	}
	c := l.compose(reach, u, kind, keyID, now)
	d := postgres.Decision{Outcome: event.OutcomeIssued, Challenge: c, Supersede: len(u.Open) - l.app.Policy.OpenChallenges + 1}
	if t := l.targets[kind]; t != nil {
		d.Charge = t.Limits
	}
	return d
}

// asked is the kind of factor that the login names, by itself or by one of its channels; empty for none.
func (l *login) asked() otp.FactorKind {
	if ch := otp.Channel(l.Channel); ch.Valid() {
		return ch.Factor()
	}
	return otp.FactorKind(l.Channel)
}

// choose takes the factor to ask for. One whose code may not be sent now gives way to the next of the user's, unless the app named its channel: then it is
// for the app to decide, but for a cap on spending, which says nothing about the user.
func (l *login) choose(r reach, u postgres.UserState) (kind otp.FactorKind, refused postgres.Decision) {
	p := l.app.Policy
	asked := l.asked()
	kind, ok := r.choose(asked, p.Channels)
	if !ok {
		if l.Channel == "" && u.Suspended && u.BackupCodes {
			return otp.FactorWebAuthn, refused // the key that is suspended, which answers nothing; a backup code does
		}
		// Who has a factor that is not trusted any more has one: whoever copied it must not be let pass for that.
		if l.Channel == "" && p.NoFactor == otp.Skip && !u.Suspended {
			return "", postgres.Decision{Outcome: event.OutcomeSkipped, Reason: reasonNoFactor}
		}
		return "", refuse(otp.NoFactorLeft, 0)
	}
	b := barOf(l.targets[kind], u)
	if !b.up() {
		return kind, refused
	}
	if b.spend != nil {
		u.Ledger.Reached(*b.spend)
	}
	if asked == "" || b.spend != nil {
		if kind, ok = r.but(func(k otp.FactorKind) bool { return barOf(l.targets[k], u).up() }).choose("", p.Channels); ok {
			return kind, refused
		}
	}
	return "", refuse(b.reason, b.wait)
}

// compose makes the challenge. It has the addresses that may be sent to, and offers what may be used now: one that must only wait for a while can be asked
// for later, and is judged then.
func (l *login) compose(r reach, u postgres.UserState, kind otp.FactorKind, keyID uint32, now time.Time) *postgres.NewChallenge {
	p := l.app.Policy
	own := l.targets[kind]
	test := own != nil && own.Test != nil
	usable := r.but(func(k otp.FactorKind) bool {
		t := l.targets[k]
		return k != kind && t != nil && (test || t.Test != nil || barOf(t, u).up()) // a challenge is a test's altogether, or not at all
	})
	c := &postgres.NewChallenge{
		Session: l.Session, Login: l.ID, Factor: kind, Nonce: make([]byte, otp.NonceSize), KeyID: keyID, Digits: p.Digits,
		Transaction: l.Transaction, Locale: cmp.Or(l.Locale, u.Locale), Methods: usable.others(kind, p.Channels),
		Attempts: p.Attempts, Sends: p.Sends, NextSendAt: now.Add(p.Cooldown), ExpiresAt: now.Add(p.Life), IPKey: l.ip,
	}
	if l.Client != nil {
		c.AndroidHash = l.Client.AndroidHash
	}
	if l.sendable(otp.FactorSMS, kind, test, u) {
		c.ToSMS, c.MaskSMS = r.has[otp.FactorSMS].Sealed, r.has[otp.FactorSMS].Mask
		c.Country = l.targets[otp.FactorSMS].Phone.Country
	}
	if l.sendable(otp.FactorEmail, kind, test, u) {
		c.ToEmail, c.MaskEmail = r.has[otp.FactorEmail].Sealed, r.has[otp.FactorEmail].Mask
	}
	if own != nil {
		c.Channel, _ = kind.Channel()
		if asked := otp.Channel(l.Channel); asked.Valid() && asked.Factor() == kind {
			c.Channel = asked
		}
		c.Provider, c.Cost, c.Test, c.TestCode = own.Provider, own.Cost, test, own.Test
	}
	if kind == otp.FactorTOTP || kind == otp.FactorHOTP {
		c.Digits = r.has[kind].Digits
	}
	if _, sent := kind.Channel(); !sent {
		c.NextSendAt = now
	}
	_, _ = rand.Read(c.Nonce) // never fails (Go 1.24)
	return c
}

// sendable reports whether the challenge keeps the address of a kind.
func (l *login) sendable(k, chosen otp.FactorKind, test bool, u postgres.UserState) bool {
	t := l.targets[k]
	if t == nil {
		return false
	}
	return k == chosen || !test && t.Test == nil && barOf(t, u).reason != otp.BlockedDestination
}

func refuse(r otp.Reason, after time.Duration) postgres.Decision {
	return postgres.Decision{Outcome: event.OutcomeRefused, Reason: string(r), RetryAfter: after}
}

// words say for people why a login was refused.
func words(reason string) string {
	switch otp.Reason(reason) {
	case otp.AccountLocked:
		return "the account is locked after too many wrong answers; an operator can unlock it"
	case otp.RateLimited: // one for all causes: whoever attacks is not to learn which it was
		return "too many codes were sent or typed wrongly of late, or what may be spent on messages today is spent; try again later"
	case otp.BlockedDestination:
		return "no code may be sent to this address"
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

// but is the reach without the kinds that are barred.
func (r reach) but(barred func(otp.FactorKind) bool) reach {
	left := r
	left.has, left.enrolled = map[otp.FactorKind]postgres.Factor{}, map[otp.FactorKind]bool{}
	for k, f := range r.has {
		if !barred(k) {
			left.has[k], left.enrolled[k] = f, r.enrolled[k]
		}
	}
	return left
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

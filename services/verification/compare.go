package verification

import (
	"fmt"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// material is what an answer is compared with, made ready before the attempt is taken: a worker that lacks a key must not cost the user one.
type material struct {
	code string       // the channel code for the answer's transaction; empty where none was sent or it is not asked for
	totp []openedTOTP // the user's authenticator apps
}

type openedTOTP struct {
	postgres.TOTPFactor
	secret []byte
}

// prepare derives the code and opens the secrets that the answer may be compared with. It compares nothing. Its error says that the challenge's own factor
// cannot be judged here; a further factor that cannot be opened is left out and logged.
func (w *Worker) prepare(a *answer, c postgres.Case) (material, error) {
	var m material
	ch := c.Challenge
	if _, sent := ch.Factor.Channel(); sent && ch.Sends > 0 && channelOf(ch, a.Factor) {
		prf, err := w.Keys.CodePRF(ch.KeyID)
		if err != nil {
			return m, fmt.Errorf("code key: %w", err)
		}
		if m.code, err = otp.DeriveCode(prf, otp.CodeInput{
			App: a.App, Challenge: ch.ID, Nonce: ch.Nonce, Transaction: a.Transaction, Digits: ch.Digits,
		}); err != nil {
			return m, err
		}
	}
	if a.Factor != "" && a.Factor != otp.FactorTOTP {
		return m, nil
	}
	var failed error
	for _, f := range c.TOTP {
		secret, err := w.Keys.OpenSecret(a.App, ch.User, f.ID.String(), f.Sealed)
		if err != nil {
			failed = fmt.Errorf("factor %s: %w", f.ID, err)
			w.Logger.Error("a TOTP secret could not be opened", "factor", f.ID, "error", err)
			continue
		}
		m.totp = append(m.totp, openedTOTP{TOTPFactor: f, secret: secret})
	}
	if ch.Factor == otp.FactorTOTP && len(m.totp) == 0 {
		return m, failed
	}
	return m, nil
}

// channelOf reports whether an answer that names a factor, or none, may be the challenge's code: it has one code, over whichever of its channels it went.
func channelOf(ch postgres.Answerable, factor otp.FactorKind) bool {
	if factor == "" || factor == ch.Factor {
		return true
	}
	_, channel := factor.Channel()
	return channel && slices.Contains(ch.Methods, string(factor))
}

// compare tells by which factor an answer is right, "" for a wrong one. Every way in which it could be right is tried before it returns, so that its
// time does not tell which it was.
func (w *Worker) compare(a *answer, c postgres.Case, now time.Time) (factor otp.FactorKind, advance *postgres.Advance) {
	for _, f := range a.material.totp {
		step, ok, err := f.Setting.Match(f.secret, a.Digits, now, a.app.Policy.TOTPSkew, lastStep(f.TOTPFactor))
		if err != nil {
			w.Logger.Error("a TOTP factor could not be compared", "factor", f.ID, "error", err)
			continue
		}
		if ok && advance == nil {
			factor, advance = otp.FactorTOTP, &postgres.Advance{Factor: f.ID, Step: step}
		}
	}
	if a.material.code != "" && otp.SameCode(a.material.code, a.Digits) {
		factor, advance = c.Challenge.Factor, nil
	}
	if !sameTransaction(c.Challenge.Transaction, a.Transaction) {
		return "", nil
	}
	return factor, advance
}

// sameTransaction holds an answer to the values that its challenge was made for, whatever factor it proves.
func sameTransaction(asked, answered *otp.Transaction) bool {
	if asked == nil || answered == nil {
		return asked == answered
	}
	return *asked == *answered
}

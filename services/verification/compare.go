package verification

import (
	"fmt"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// compare tells by which factor an answer is right, "" for a wrong one. Every way in which the answer could be right is tried before it returns, so that its time does not
// tell which it was. An error is of our own keys or rows; the answer then counts as wrong.
func (w *Worker) compare(a *answer, c postgres.Case, now time.Time) (factor otp.FactorKind, advance *postgres.Advance, err error) {
	ch := c.Challenge
	if !sameTransaction(ch.Transaction, a.Transaction) {
		return "", nil, nil
	}
	if a.Factor == "" || a.Factor == otp.FactorTOTP {
		step, failed := w.totp(a, c, now)
		if err = failed; step != nil {
			factor, advance = otp.FactorTOTP, step
		}
	}
	if _, sent := ch.Factor.Channel(); sent && ch.Sends > 0 && (a.Factor == "" || a.Factor == ch.Factor) {
		prf, failed := w.Keys.CodePRF(ch.KeyID)
		if failed != nil {
			return factor, advance, fmt.Errorf("code key: %w", failed)
		}
		code, failed := otp.DeriveCode(prf, otp.CodeInput{
			App: a.App, Challenge: ch.ID, Nonce: ch.Nonce, Transaction: a.Transaction, Digits: ch.Digits,
		})
		if failed != nil {
			return factor, advance, failed
		}
		if otp.SameCode(code, a.Digits) {
			factor, advance = ch.Factor, nil
		}
	}
	return factor, advance, err
}

// sameTransaction holds an answer to the values that its challenge was made for, whatever factor it proves.
func sameTransaction(asked, answered *otp.Transaction) bool {
	if asked == nil || answered == nil {
		return asked == answered
	}
	return *asked == *answered
}

// totp tries the answer on each of the user's authenticator apps.
func (w *Worker) totp(a *answer, c postgres.Case, now time.Time) (advance *postgres.Advance, err error) {
	for _, f := range c.TOTP {
		secret, failed := w.Keys.OpenSecret(a.App, c.Challenge.User, f.ID.String(), f.Sealed)
		if failed != nil {
			err = fmt.Errorf("factor %s: %w", f.ID, failed)
			continue
		}
		step, ok, failed := f.Setting.Match(secret, a.Digits, now, a.app.Policy.TOTPSkew, lastStep(f))
		if failed != nil {
			err = fmt.Errorf("factor %s: %w", f.ID, failed)
			continue
		}
		if ok && advance == nil {
			advance = &postgres.Advance{Factor: f.ID, Step: step}
		}
	}
	return advance, err
}

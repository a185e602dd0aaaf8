package verification

import (
	"fmt"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file compares what people type with the factors that need no message: authenticator apps, hardware tokens and YubiKeys.

// An opened factor is one whose secret lies open.
type opened struct {
	postgres.OwnedFactor
	secret []byte
}

// typedKinds are the kinds of factor that give answers of a form.
var typedKinds = map[otp.AnswerForm][]otp.FactorKind{
	otp.FormDigits: {otp.FactorTOTP, otp.FactorHOTP},
	otp.FormYubico: {otp.FactorYubikey},
}

// open opens the secrets of the user's factors that give answers of the form, of one kind only where one is named. A secret that cannot be opened is left
// out and logged; failed holds an error for each kind that had one.
func (w *Worker) open(app, user string, factors []postgres.OwnedFactor, form otp.AnswerForm, only otp.FactorKind) (
	out []opened, failed map[otp.FactorKind]error,
) {
	for _, kind := range typedKinds[form] {
		if only != "" && only != kind {
			continue
		}
		for _, f := range factors {
			if f.Kind != kind {
				continue
			}
			secret, err := w.Keys.OpenSecret(app, user, f.ID.String(), f.Sealed)
			if err != nil {
				if failed == nil {
					failed = map[otp.FactorKind]error{}
				}
				failed[kind] = fmt.Errorf("factor %s: %w", f.ID, err)
				w.Logger.Error("a factor's secret could not be opened", "factor", f.ID, "kind", kind, "error", err)
				continue
			}
			out = append(out, opened{OwnedFactor: f, secret: secret})
		}
	}
	return out, failed
}

// match finds the time step or counter at which the factor gives the answer.
func (f opened) match(answer string, now time.Time, p otp.Policy) (step int64, ok bool, err error) {
	switch f.Kind {
	case otp.FactorTOTP:
		return otp.TOTP{Algorithm: f.Algorithm, Digits: f.Digits, Period: f.Period}.Match(f.secret, answer, now, p.TOTPSkew, lastStep(f.OwnedFactor))
	case otp.FactorHOTP:
		return f.hotp().Match(f.secret, answer, lastStep(f.OwnedFactor), p.Factors.HOTPLookAhead)
	default:
		return otp.MatchYubico(f.secret, f.PublicID, answer, lastStep(f.OwnedFactor))
	}
}

func (f opened) hotp() otp.HOTP { return otp.HOTP{Algorithm: f.Algorithm, Digits: f.Digits} }

// typed tells which factor gives the answer, and at which step; ok is false where none does. Each is tried before it returns, so that its time does not tell
// which it was.
func (w *Worker) typed(factors []opened, answer string, now time.Time, p otp.Policy) (from opened, step int64, ok bool) {
	for _, f := range factors {
		at, right, err := f.match(answer, now, p)
		if err != nil {
			w.Logger.Error("a factor could not be compared", "factor", f.ID, "kind", f.Kind, "error", err)
			continue
		}
		if right && !ok {
			from, step, ok = f, at, true
		}
	}
	return from, step, ok
}

// backupDigests are the digests of a backup code, one for each key that digests are made with.
func (w *Worker) backupDigests(app, user, code string) ([][]byte, error) {
	sums, err := w.Keys.Digests(otp.BackupCodeLabel, []byte(app), []byte(user), []byte(code))
	if err != nil {
		return nil, fmt.Errorf("backup code: %w", err)
	}
	out := make([][]byte, len(sums))
	for i := range sums {
		out[i] = sums[i][:]
	}
	return out, nil
}

package enrolment

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is what lets a weakening act pass: the password, entered a moment ago, and something of a factor that the user still has.

// weaken carries out an act that weakens what the user has. ready looks, without changing anything, whether it would pass but for the proof, so that no code
// is spent in vain; fn carries it out. Whether the user has a factor is decided anew in the act itself.
func (w *Worker) weaken(ctx context.Context, c caller, o event.Owner, p event.Proof, ready, fn func(*act) error) error {
	needed := false
	err := w.view(ctx, c, o.User, func(a *act) error {
		if err := a.reauthenticated(p.Reauthenticated); err != nil {
			return err
		}
		var err error
		if needed, err = a.hasFactor(); err != nil {
			return err
		}
		if needed && p.Code == "" && p.Challenge == "" {
			return errProofMissing
		}
		return ready(a)
	})
	if err != nil {
		return err
	}
	checked := false
	if needed && p.Code != "" {
		if err := w.check(ctx, c, o, p.Code); err != nil {
			return err
		}
		checked = true
	}
	return w.act(ctx, c, o.User, func(a *act) error {
		has, err := a.hasFactor()
		if err != nil {
			return err
		}
		if has && !checked {
			if p.Challenge == "" {
				return errProofMissing // a factor was added meanwhile
			}
			ok, err := a.SpendProof(uuid.MustParse(p.Challenge), o.Session, a.Now.Add(-a.policy().ReauthWithin))
			if err != nil {
				return err
			}
			if !ok {
				return &otp.Problem{
					Reason: otp.WrongCode, Field: "challenge",
					Message: "challenge must be one that the user answered rightly in this session a moment ago, and that was not used for another act",
				}
			}
		}
		return fn(a)
	})
}

var errProofMissing = &otp.Problem{
	Reason: otp.ReauthRequired, Field: "code", Message: "code must be one from a factor of the user's, or challenge must name one that was just verified",
}

// check asks the verification worker whether a code is of one of the user's factors. It takes the code: it serves once.
func (w *Worker) check(ctx context.Context, c caller, o event.Owner, code string) error {
	body, err := w.Bus.Ask(ctx, event.VerbCheck, event.Encode(event.CheckRequest{App: c.app.Name, User: o.User, Session: o.Session, Code: code}))
	if err != nil {
		return err
	}
	r, err := event.ParseCheckReply(body)
	switch {
	case err != nil:
		return err
	case r.Locked:
		return &otp.Problem{Reason: otp.AccountLocked, Message: "the account is locked after too many wrong answers; an operator can unlock it"}
	case !r.OK:
		return &otp.Problem{Reason: otp.WrongCode, Field: "code", Message: "code is not one of the user's factors' now", RetryAfter: seconds(r.RetryAfter)}
	}
	return nil
}

// hasFactor reports whether the user has a second factor. A suspended one counts: who made us suspend it must gain nothing by that.
func (a *act) hasFactor() (bool, error) {
	factors, err := a.Factors()
	return held(factors), err
}

// held reports whether one of the factors is more than half one.
func held(factors []postgres.OwnedFactor) bool {
	return slices.ContainsFunc(factors, func(f postgres.OwnedFactor) bool { return f.State != otp.FactorConfirmed })
}

// active are the factors that logins ask for.
func active(factors []postgres.OwnedFactor) []postgres.OwnedFactor {
	var out []postgres.OwnedFactor
	for _, f := range factors {
		if f.State == otp.FactorActive {
			out = append(out, f)
		}
	}
	return out
}

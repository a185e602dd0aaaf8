package enrolment

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is what lets a weakening act pass: the password, entered a moment ago, and something of a factor that the user still has.

// weaken carries out an act that weakens what the user has. ready looks, without changing anything, whether it would pass but for the proof, so that no code
// is spent in vain; fn carries it out. Whether the user has a factor is decided anew in the act itself, and so is whether the proof is of one that is old
// enough (see act.seasoned): the code of one that is not is spent all the same, and nothing else has changed.
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
		if _, form, _ := otp.ParseAnswer(p.Code); needed && form == otp.FormBackupCode {
			if err := a.seasoned("code", otp.FactorBackupCode, uuid.Nil); err != nil {
				return err
			}
		}
		return ready(a)
	})
	if err != nil {
		return err
	}
	checked, kind, factor := false, otp.FactorKind(""), uuid.Nil
	if needed && p.Code != "" {
		if kind, factor, err = w.check(ctx, c, o, p.Code); err != nil {
			return err
		}
		checked = true
	}
	return w.act(ctx, c, o.User, func(a *act) error {
		has, err := a.hasFactor()
		if err != nil {
			return err
		}
		switch {
		case !has:
		case checked:
			if err := a.seasoned("code", kind, factor); err != nil {
				return err
			}
		case p.Challenge == "":
			return errProofMissing // a factor was added meanwhile
		default:
			kind, ok, err := a.SpendProof(uuid.MustParse(p.Challenge), o.Session, a.Now.Add(-a.policy().ReauthWithin))
			if err != nil {
				return err
			}
			if !ok {
				return errProofSpent
			}
			if err := a.seasoned("challenge", kind, uuid.Nil); err != nil {
				return err
			}
		}
		return fn(a)
	})
}

var errProofMissing = &otp.Problem{
	Reason: otp.ReauthRequired, Field: "code", Message: "code must be one from a factor of the user's, or challenge must name one that was just verified",
}

var errProofSpent = &otp.Problem{
	Reason: otp.WrongCode, Field: "challenge",
	Message: "challenge must be one that the user answered rightly in this session a moment ago, and that was not used for another act",
}

// seasoned refuses a proof that may have been got with the password alone, which lets a factor be added and backup codes be shown: for the app's cooling-off a
// new factor proves nothing against an older one, and backup codes prove nothing after they were shown or renewed. Meanwhile the user has been told of it
// over every address. id is the factor that the proof is of; of a challenge only the kind is known, and it counts as of the newest factor of that kind. A
// suspended factor is an older one too: who made us suspend it must gain nothing by that.
func (a *act) seasoned(field string, kind otp.FactorKind, id uuid.UUID) error {
	wait := a.policy().CoolingOff
	if wait <= 0 {
		return nil
	}
	if kind == otp.FactorBackupCode {
		p, err := a.Profile()
		if err != nil || p.CodesShown.IsZero() {
			return err
		}
		return a.cooled(field, "the backup codes were shown or renewed too short a time ago to prove this; use another factor", p.CodesShown.Add(wait))
	}
	factors, err := a.Factors()
	if err != nil {
		return err
	}
	var from *postgres.OwnedFactor
	for i, f := range factors { // oldest first
		if f.State == otp.FactorActive && f.Kind == kind && (id == uuid.Nil || f.ID == id) {
			from = &factors[i]
		}
	}
	if from == nil {
		return &otp.Problem{Reason: otp.WrongCode, Field: field, Message: field + " is of a factor that the user does not have any more"}
	}
	if !slices.ContainsFunc(factors, func(f postgres.OwnedFactor) bool {
		return f.State != otp.FactorConfirmed && f.CreatedAt.Before(from.CreatedAt)
	}) {
		return nil
	}
	return a.cooled(field, "the factor was added too short a time ago to prove this; use an older one, or a backup code", from.CreatedAt.Add(wait))
}

// cooled refuses until a time.
func (a *act) cooled(field, words string, until time.Time) error {
	if !a.Now.Before(until) {
		return nil
	}
	return &otp.Problem{Reason: otp.CoolingOff, Field: field, Message: words, RetryAfter: until.Sub(a.Now)}
}

// check asks the verification worker whether a code is of one of the user's factors, and of which; a backup code is of none. It takes the code: it serves
// once.
func (w *Worker) check(ctx context.Context, c caller, o event.Owner, code string) (kind otp.FactorKind, factor uuid.UUID, err error) {
	body, err := w.Bus.Ask(ctx, event.VerbCheck, event.Encode(event.CheckRequest{App: c.app.Name, User: o.User, Session: o.Session, Code: code}))
	if err != nil {
		return "", uuid.Nil, err
	}
	r, err := event.ParseCheckReply(body)
	switch {
	case err != nil:
		return "", uuid.Nil, err
	case r.Locked:
		return "", uuid.Nil, &otp.Problem{Reason: otp.AccountLocked, Message: "the account is locked after too many wrong answers; an operator can unlock it"}
	case !r.OK:
		return "", uuid.Nil, &otp.Problem{
			Reason: otp.WrongCode, Field: "code", Message: "code is not one of the user's factors' now", RetryAfter: seconds(r.RetryAfter),
		}
	}
	if r.Factor != "" {
		if factor, err = uuid.Parse(r.Factor); err != nil {
			return "", uuid.Nil, fmt.Errorf("checked factor: %w", err)
		}
	}
	return otp.FactorKind(r.Kind), factor, nil
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

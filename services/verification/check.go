package verification

import (
	"context"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is answers that belong to no challenge: the code that an act of enrolment needs, and the two values that bring a hardware token back in step.
// They count against the same budget, and a right one, which proves a factor that the user has, gives it back.

// check compares a code with the user's factors and backup codes. It takes the code: the same one is wrong from then on.
func (w *Worker) check(ctx context.Context, r *bus.Request) (any, error) {
	req, p := event.Parse[event.CheckRequest](r.Data)
	if p != nil {
		return nil, p
	}
	app, err := w.desk.App(ctx, req.App)
	if err != nil {
		return nil, err
	}
	var reply event.CheckReply
	err = w.act(ctx, app, req.User, req.Session, func(a *act) error {
		reply = event.CheckReply{Locked: a.Budget().Locked, RetryAfter: otp.Seconds(a.Budget().Wait(a.Now))}
		if reply.Locked || reply.RetryAfter > 0 {
			return nil
		}
		kind, factor, err := w.proves(a, req.Code)
		if err != nil {
			return err
		}
		if kind == "" {
			wait, err := a.wrong()
			reply.RetryAfter = otp.Seconds(wait)
			return err
		}
		reply.OK, reply.Kind = true, string(kind)
		if factor != uuid.Nil {
			reply.Factor = factor.String()
		}
		return a.right()
	})
	return reply, err
}

// proves tells which of the user's factors a code is of, "" for none, and takes it. A backup code is of no factor.
func (w *Worker) proves(a *act, text string) (kind otp.FactorKind, factor uuid.UUID, err error) {
	code, form, _ := otp.ParseAnswer(text) // its form was checked
	if form == otp.FormBackupCode {
		digests, err := w.backupDigests(a.app.Name, a.Who.User, code)
		if err != nil {
			return "", uuid.Nil, err
		}
		use, err := a.UseBackupCode(digests)
		if err != nil || !use.Spent {
			return "", uuid.Nil, err
		}
		a.told.backupCodeUsed(uuid.Must(uuid.NewV7()).String()+"/backup-code-used", use.Left)
		return otp.FactorBackupCode, uuid.Nil, nil
	}
	factors, err := a.Provable()
	if err != nil {
		return "", uuid.Nil, err
	}
	candidates, failed := w.open(a.app.Name, a.Who.User, factors, form, "")
	if len(candidates) == 0 {
		for _, err := range failed { // nothing to compare with: that must not cost the user a failure
			return "", uuid.Nil, err
		}
	}
	from, step, ok := w.typed(candidates, code, a.Now, a.app.Policy)
	if !ok {
		return "", uuid.Nil, nil
	}
	fresh, err := a.Advance(postgres.Advance{Factor: from.ID, Step: step})
	if err != nil || !fresh {
		return "", uuid.Nil, err
	}
	return from.Kind, from.ID, nil
}

// factorResync brings a counter-based token that was pressed too often back in step, by two values in a row (RFC 4226, section 7.4).
func (w *Worker) factorResync(ctx context.Context, app postgres.App, r event.FactorResyncRequest) (any, error) {
	id := uuid.MustParse(r.Factor) // its form was checked
	var refused *otp.Problem
	err := w.act(ctx, app, r.User, r.Session, func(a *act) error {
		refused = nil
		factors, err := a.Provable()
		if err != nil {
			return err
		}
		var token *postgres.OwnedFactor
		for i, f := range factors {
			if f.ID == id && f.Kind == otp.FactorHOTP {
				token = &factors[i]
			}
		}
		if token == nil { // a stranger's request meets no budget
			return &otp.Problem{Reason: otp.UnknownFactor, Field: "factor", Message: "factor is no counter-based token of the user's"}
		}
		if err := a.mayAnswer(); err != nil {
			return err
		}
		ok, err := w.resynced(a, *token, r.First, r.Second)
		if err != nil {
			return err
		}
		if !ok {
			wait, err := a.wrong()
			a.told.audit("factor.resync_refused", id, nil)
			refused = &otp.Problem{Reason: otp.WrongCode, Field: "second", Message: "first and second are not two values of the token in a row", RetryAfter: wait}
			return err
		}
		a.told.audit("factor.resynced", id, nil)
		return a.right()
	})
	if err == nil && refused != nil {
		return nil, refused // committed
	}
	return event.FactorResyncReply{Factor: r.Factor}, err
}

func (w *Worker) resynced(a *act, token postgres.OwnedFactor, first, second string) (bool, error) {
	secret, err := w.Keys.OpenSecret(a.app.Name, a.Who.User, token.ID.String(), token.Sealed)
	if err != nil {
		return false, err
	}
	f := opened{OwnedFactor: token, secret: secret}
	counter, ok, err := f.hotp().Resync(secret, first, second, lastStep(token), a.app.Policy.Factors.HOTPResync)
	if err != nil || !ok {
		return false, err
	}
	return a.Advance(postgres.Advance{Factor: token.ID, Step: counter})
}

// mayAnswer refuses while the account's budget does.
func (a *act) mayAnswer() error {
	switch wait := a.Budget().Wait(a.Now); {
	case a.Budget().Locked:
		return &otp.Problem{Reason: otp.AccountLocked, Message: "the account is locked after too many wrong answers; an operator can unlock it"}
	case wait > 0:
		return &otp.Problem{Reason: otp.RateLimited, Message: "the account must wait after wrong answers", RetryAfter: wait}
	}
	return nil
}

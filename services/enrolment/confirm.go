package enrolment

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/webauthn"
)

// This file ends the adding of a factor with its proof. An attempt of the ceremony is taken before anything is compared.

// factorConfirm proves a factor. A wrong answer is committed before it is told.
func (w *Worker) factorConfirm(ctx context.Context, c caller, r event.FactorConfirmRequest) (any, error) {
	id := uuid.MustParse(r.Ceremony)
	var reply event.FactorConfirmReply
	var refused *otp.Problem
	err := w.claimed(ctx, c, id, r.Session, func(a *act, cer postgres.Ceremony) error {
		reply, refused = event.FactorConfirmReply{}, nil
		switch cer.Kind {
		case kindDeactivate, kindResetEmail, kindResetPhone: // of another kind of begin
			return errUnknownCeremony
		}
		f, err := a.prove(cer, r)
		if wrong, ok := errors.AsType[*wrongAnswer](err); ok {
			refused, err = a.refuse(cer, r.Session, r.Client, wrong)
			return err
		}
		if err != nil {
			return err
		}
		if err := a.EndCeremony(cer.ID, "confirmed"); err != nil {
			return err
		}
		reply, err = a.add(f, r.Session, r.Client)
		return err
	})
	if err == nil && refused != nil {
		err = refused
	}
	return reply, err
}

// claimed takes an attempt of a ceremony for fn.
func (w *Worker) claimed(ctx context.Context, c caller, id uuid.UUID, session string, fn func(*act, postgres.Ceremony) error) error {
	user, found, err := w.store.CeremonyOwner(ctx, c.app.ID, id)
	if err != nil {
		return err
	}
	if !found {
		return errUnknownCeremony
	}
	return w.act(ctx, c, user, func(a *act) error {
		if _, found, err := a.PeekCeremony(id, session); err != nil || !found {
			return orUnknown(err) // a stranger's request meets no budget
		}
		if err := a.mayAnswer(); err != nil {
			return err
		}
		cer, found, err := a.ClaimCeremony(id, session)
		if err != nil || !found {
			return orUnknown(err)
		}
		return fn(a, cer)
	})
}

func orUnknown(err error) error {
	if err != nil {
		return err
	}
	return errUnknownCeremony
}

// A wrongAnswer says why a proof is none.
type wrongAnswer struct{ field, words string }

func (e *wrongAnswer) Error() string { return e.field + " " + e.words }

func wrongCode() error { return &wrongAnswer{"code", "is wrong"} }

// refuse counts a wrong answer, ends the ceremony with its last attempt, and says what to tell.
func (a *act) refuse(cer postgres.Ceremony, session string, client *event.Client, why *wrongAnswer) (*otp.Problem, error) {
	b, err := a.wrong()
	if err != nil {
		return nil, err
	}
	left := cer.MaxAttempts - cer.Attempts
	words := fmt.Sprintf("%s; attempts left: %d", why, left)
	if left <= 0 {
		words = why.Error() + "; no attempts are left, begin again"
		if err := a.EndCeremony(cer.ID, "failed"); err != nil {
			return nil, err
		}
	}
	if err := a.audit("factor.refused", note{factor: cer.ID, session: session, client: client, detail: map[string]any{"kind": cer.Kind}}); err != nil {
		return nil, err
	}
	return &otp.Problem{Reason: otp.WrongCode, Field: why.field, Message: words, RetryAfter: b.Wait(a.Now)}, nil
}

// prove compares, and returns the factor that is proven, or a *wrongAnswer.
func (a *act) prove(cer postgres.Ceremony, r event.FactorConfirmRequest) (postgres.OwnedFactor, error) {
	f := postgres.OwnedFactor{ID: cer.ID, Kind: otp.FactorKind(cer.Kind), Label: cer.Label, Mask: cer.Mask, Sealed: cer.Material, Last: -1}
	code, form, _ := otp.ParseAnswer(r.Code) // its form was checked
	if p := fits(f.Kind, form, len(r.Credential) > 0); p != nil {
		return f, p
	}
	switch f.Kind {
	case otp.FactorWebAuthn:
		return a.proveKey(f, cer, r.Credential)
	case otp.FactorTOTP:
		f.Algorithm, f.Digits, f.Period = cer.Algorithm, cer.Digits, cer.Period
		secret, err := a.worker.Keys.OpenSecret(a.caller.app.Name, a.Who.User, cer.ID.String(), cer.Material)
		if err != nil {
			return f, err
		}
		step, ok, err := otp.TOTP{Algorithm: f.Algorithm, Digits: f.Digits, Period: f.Period}.Match(secret, code, a.Now, a.caller.app.Policy.TOTPSkew, -1)
		if err == nil && !ok {
			err = wrongCode()
		}
		f.Last = step // that step is used: it is worth nothing at a login
		return f, err
	case otp.FactorSMS, otp.FactorEmail:
		m, found, err := a.Message(cer.ID)
		if err != nil || !found {
			return f, orUnknown(err)
		}
		ok, err := a.answers(m, code)
		if err == nil && !ok {
			err = wrongCode()
		}
		return f, err
	default:
		return a.proveToken(f, cer, code, form)
	}
}

// fits says whether an answer can be of the kind at all. One that cannot is an app's mistake and no guess: the attempt is given back with the act.
func fits(kind otp.FactorKind, form otp.AnswerForm, credential bool) error {
	switch {
	case kind == otp.FactorWebAuthn && !credential:
		return otp.InvalidField("credential", "must be given: the ceremony is of a security key")
	case kind == otp.FactorWebAuthn:
		return nil
	case credential:
		return otp.InvalidField("credential", "is for security keys, and the ceremony is of kind "+string(kind))
	case kind == otp.FactorYubikey && form != otp.FormYubico:
		return otp.InvalidField("code", "must be what the YubiKey types: 44 characters")
	case kind != otp.FactorYubikey && form != otp.FormDigits:
		return otp.InvalidField("code", "must be digits: the ceremony is of kind "+string(kind))
	}
	return nil
}

// proveKey checks what a security key says to its registration.
func (a *act) proveKey(f postgres.OwnedFactor, cer postgres.Ceremony, credential []byte) (postgres.OwnedFactor, error) {
	party, p := relyingParty(a.caller.app)
	if p != nil {
		return f, p
	}
	key, err := webauthn.FinishRegistration(party, cer.Material, credential, a.Now)
	switch {
	case errors.Is(err, webauthn.ErrInput), errors.Is(err, webauthn.ErrRefused):
		a.worker.Logger.Info("a security key was refused", "app", a.caller.app.Name, "ceremony", cer.ID, "error", err)
		return f, &wrongAnswer{"credential", "was refused"}
	case err != nil:
		return f, err
	}
	f.Sealed, f.PublicID, f.Credential, f.SignCount = nil, webauthn.CredentialID(key.ID), key.Record, key.SignCount
	return f, nil
}

// proveToken checks a value of a hardware token. Nobody else may have taken it meanwhile.
func (a *act) proveToken(f postgres.OwnedFactor, cer postgres.Ceremony, code string, form otp.AnswerForm) (postgres.OwnedFactor, error) {
	t, found, err := a.TokenByID(cer.Token)
	if err != nil || !found {
		return f, orUnknown(err)
	}
	secret, err := a.worker.Keys.OpenSecret(a.caller.app.Name, "", t.ID.String(), t.Sealed)
	if err != nil {
		return f, err
	}
	f.Algorithm, f.Digits, f.PublicID = t.Algorithm, t.Digits, t.PublicID // the factor keeps the id of the ceremony: a token can be several in turn
	var ok bool
	if f.Kind == otp.FactorYubikey {
		f.Last, ok, err = matchYubico(secret, t.PublicID, code, form, t.Counter)
	} else {
		f.Last, ok, err = otp.HOTP{Algorithm: t.Algorithm, Digits: t.Digits}.Match(secret, code, t.Counter, a.policy().HOTPLookAhead)
	}
	if err != nil {
		return f, err
	}
	if !ok {
		return f, wrongCode()
	}
	if free, err := a.TakeToken(t.ID, f.ID, f.Last); err != nil || !free {
		return f, orUnknown(err)
	}
	f.Sealed, err = a.worker.Keys.SealSecret(a.caller.app.Name, a.Who.User, f.ID.String(), secret)
	return f, err
}

func matchYubico(secret []byte, publicID, code string, form otp.AnswerForm, last int64) (int64, bool, error) {
	if form != otp.FormYubico {
		return 0, false, nil
	}
	return otp.MatchYubico(secret, publicID, code, last)
}

// add stores a proven factor. The first one waits until the session that has proven it says that the user has the backup codes in safety; any further one is
// good at once. What another session has left waiting gives way, with its backup codes: who knows those is not known to be this user.
func (a *act) add(f postgres.OwnedFactor, session string, client *event.Client) (event.FactorConfirmReply, error) {
	var reply event.FactorConfirmReply
	factors, err := a.Factors()
	if err != nil {
		return reply, err
	}
	if err := a.room(factors, session); err != nil { // others may have been added since it was begun
		return reply, err
	}
	first, mine := !held(factors), waiting(factors, session)
	f.State, f.Session = otp.FactorActive, session
	if _, sent := f.Kind.Channel(); sent && !first && a.policy().CoolingOff > 0 {
		f.AloneAfter = a.Now.Add(a.policy().CoolingOff)
	}
	if first {
		f.State = otp.FactorConfirmed
		if err := a.abandon(factors, session, client); err != nil {
			return reply, err
		}
	}
	if err := a.AddFactor(f); errors.Is(err, postgres.ErrTaken) {
		return reply, &otp.Problem{Reason: otp.Conflict, Message: "this key or token is a factor already"}
	} else if err != nil {
		return reply, err
	}
	if err := a.audit("factor.confirmed", note{factor: f.ID, session: session, client: client, detail: map[string]any{"kind": f.Kind}}); err != nil {
		return reply, err
	}
	reply = event.FactorConfirmReply{Factor: f.ID.String(), State: string(f.State), AloneAfter: event.OptionalTime(f.AloneAfter)}
	if first {
		reply.BackupCodes, err = a.firstBackupCodes(len(mine) > 0)
		return reply, err
	}
	if err := a.changed(event.RevokedFactorsChanged, session); err != nil {
		return reply, err
	}
	return reply, a.added(f, session, client)
}

// added tells of a factor that logins may ask for from now on.
func (a *act) added(f postgres.OwnedFactor, session string, client *event.Client) error {
	a.tell(event.FactorAdded, event.FactorData{
		User: a.Who.User, Session: session, Factor: f.ID.String(), Kind: string(f.Kind), Label: f.Label, To: f.Mask,
	})
	if err := a.audit("factor.added", note{factor: f.ID, session: session, client: client, detail: map[string]any{"kind": f.Kind}}); err != nil {
		return err
	}
	return a.notify(otp.NoticeFactorAdded, event.NoticeDetail{Factor: f.Kind, Label: f.Label})
}

// kinds of ceremonies that add no factor.
const (
	kindDeactivate = "deactivate"
	kindResetEmail = "reset_email"
	kindResetPhone = "reset_phone"
)

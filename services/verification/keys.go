package verification

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/webauthn"
)

// This file is answers by security key: what a key is asked to sign, and what it has signed.

// sessionLife is how long at most a key has to sign. A challenge that ends before ends it as well.
const sessionLife = 5 * time.Minute

// webauthnBegin makes what the browser needs to ask a key of the user's. It serves one answer; whoever asks again makes the older one worthless.
func (w *Worker) webauthnBegin(ctx context.Context, app postgres.App, r event.WebAuthnBeginRequest) (any, error) {
	id := uuid.MustParse(r.Challenge) // its form was checked
	found, err := w.store.Find(ctx, []uuid.UUID{id})
	if err != nil {
		return nil, err
	}
	c, ok := found[id]
	if !ok || c.AppID != app.ID || c.Session != r.Session {
		return nil, errUnknownChallenge
	}
	var reply event.WebAuthnBeginReply
	err = w.act(ctx, app, c.User, r.Session, func(a *act) error {
		c, found, err := a.Answerable(id)
		if err != nil {
			return err
		}
		life := min(sessionLife, c.ExpiresAt.Sub(a.Now))
		switch {
		case !found:
			return errUnknownChallenge
		case c.State.Ended():
			return otp.EndedProblem(c.State)
		case life < time.Second:
			return otp.EndedProblem(otp.Expired)
		}
		party, ok := webauthn.PartyOf(app.DisplayName, app.Policy.Factors)
		if !ok {
			return &otp.Problem{Reason: otp.NotAllowed, Message: "the app has no relying-party id for security keys; an operator can set one"}
		}
		factors, err := a.Provable()
		if err != nil {
			return err
		}
		keys := w.credentials(factors)
		if len(keys) == 0 {
			return &otp.Problem{Reason: otp.NoFactorLeft, Message: "the user has no security key that could answer"}
		}
		options, session, err := webauthn.BeginAssertion(party, keys, a.Now, life)
		if err != nil {
			return err
		}
		reply = event.WebAuthnBeginReply{Options: []byte(options), ExpiresAt: event.Time(a.Now.Add(life))}
		return a.KeepSession(id, session, a.Now.Add(life))
	})
	return reply, err
}

var errUnknownChallenge = &otp.Problem{Reason: otp.UnknownChallenge, Message: "there is no such challenge for this app and session"}

// credentials are the user's security keys. One that cannot be read is left out and logged.
func (w *Worker) credentials(factors []postgres.OwnedFactor) []webauthn.Credential {
	var out []webauthn.Credential
	for _, f := range factors {
		if f.Kind != otp.FactorWebAuthn {
			continue
		}
		id, err := webauthn.ParseCredentialID(f.PublicID)
		if err != nil {
			w.Logger.Error("a security key could not be read", "factor", f.ID, "error", err)
			continue
		}
		out = append(out, webauthn.Credential{ID: id, Record: f.Credential, SignCount: f.SignCount})
	}
	return out
}

// signed judges what a security key says. What it has signed is kept whatever the answer comes to; a key that may have been copied proves nothing and is
// taken out of use.
func (w *Worker) signed(a *answer, c postgres.Case, now time.Time) (p proof) {
	if c.Session == nil { // none was asked for, or it has served
		return p
	}
	party, ok := webauthn.PartyOf(a.app.DisplayName, a.app.Policy.Factors)
	if !ok {
		return p
	}
	res, err := webauthn.FinishAssertion(party, c.Session, w.credentials(c.Factors), a.Credential, now)
	switch {
	case errors.Is(err, webauthn.ErrInput), errors.Is(err, webauthn.ErrRefused):
		w.Logger.Info("a security key was refused", "app", a.App, "challenge", c.Challenge.ID, "error", err)
		return p
	case err != nil:
		w.Logger.Error("a security key could not be judged", "app", a.App, "challenge", c.Challenge.ID, "error", err)
		return p
	}
	for _, f := range c.Factors {
		if f.Kind != otp.FactorWebAuthn || f.PublicID != webauthn.CredentialID(res.CredentialID) {
			continue
		}
		p.from = f
		if res.Cloned {
			w.Logger.Warn("a security key may have been copied, it is suspended", "app", a.App, "factor", f.ID)
			p.cloned = true
			return p
		}
		p.kind = otp.FactorWebAuthn
		p.key = &postgres.KeyUse{Factor: f.ID, Was: f.SignCount, Count: res.SignCount, Record: res.Record}
	}
	return p
}

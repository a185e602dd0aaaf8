package enrolment

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/qr"
	"github.com/otpost/otpost/pkg/webauthn"
)

// This file begins the adding of a factor: what the user gets in hand before the factor is proven.

const (
	confirmAttempts = 5
	qrPixels        = 512
)

// factorBegin begins the adding of a factor. A user who has one must have entered the password a moment ago.
func (w *Worker) factorBegin(ctx context.Context, c caller, r event.FactorBeginRequest) (any, error) {
	var reply event.FactorBeginReply
	err := w.act(ctx, c, r.User, func(a *act) error {
		a.client = r.Client
		factors, err := a.Factors()
		if err != nil {
			return err
		}
		if held(factors) {
			if err := a.reauthenticated(r.Reauthenticated); err != nil {
				return err
			}
		}
		if err := a.mayAnswer(); err != nil {
			return err
		}
		if err := a.room(factors, r.Session); err != nil {
			return err
		}
		if err := a.rememberLocale(r.Locale); err != nil {
			return err
		}
		b := beginning{act: a, request: r, factors: factors, ceremony: postgres.Ceremony{
			ID: uuid.Must(uuid.NewV7()), Session: r.Session, Kind: r.Kind, Label: r.Label, MaxAttempts: confirmAttempts, ExpiresAt: a.Now.Add(a.policy().CeremonyLife),
		}}
		b.reply = event.FactorBeginReply{Ceremony: b.ceremony.ID.String(), Kind: r.Kind, ExpiresAt: event.Time(b.ceremony.ExpiresAt)}
		if err := b.kind(); err != nil {
			return err
		}
		if err := a.BeginCeremony(b.ceremony); err != nil {
			return err
		}
		reply = b.reply
		return a.audit("factor.begin", note{factor: b.ceremony.ID, session: r.Session, client: r.Client, detail: map[string]any{"kind": r.Kind}})
	})
	if err == nil && reply.URI != "" {
		err = draw(&reply) // not while the account is held: it takes longer than all the rest
	}
	return reply, err
}

// room refuses a factor more than the app's policy allows. What other sessions have left halfway gives way, and does not count.
func (a *act) room(factors []postgres.OwnedFactor, session string) error {
	n := len(factors)
	if !held(factors) {
		n = len(waiting(factors, session))
	}
	if most := a.policy().MaxFactors; n >= most {
		return &otp.Problem{Reason: otp.TooMany, Message: fmt.Sprintf("the user has %d factors, the most that the app's policy allows", most)}
	}
	return nil
}

// draw adds the QR code of the URI.
func draw(r *event.FactorBeginReply) error {
	code, err := qr.Encode(r.URI)
	if err != nil {
		return otp.InvalidField("account", "is too long for a QR code")
	}
	r.QRSVG = string(code.SVG())
	r.QRPNG, err = code.PNG(qrPixels)
	return err
}

// rememberLocale keeps the language that the user is written to in.
func (a *act) rememberLocale(locale string) error {
	if locale == "" {
		return nil
	}
	p, err := a.Profile()
	if err != nil || p.Locale == locale {
		return err
	}
	p.Locale = locale
	return a.SetProfile(p)
}

// A beginning is a ceremony in the making.
type beginning struct {
	*act
	request  event.FactorBeginRequest
	factors  []postgres.OwnedFactor
	ceremony postgres.Ceremony
	reply    event.FactorBeginReply
}

func (b *beginning) kind() error {
	switch k := otp.FactorKind(b.request.Kind); k {
	case otp.FactorTOTP:
		return b.totp()
	case otp.FactorSMS, otp.FactorEmail:
		return b.address(k)
	case otp.FactorWebAuthn:
		return b.securityKey()
	case otp.FactorHOTP, otp.FactorYubikey:
		return b.token(k)
	default:
		return otp.InvalidField("kind", "cannot be enrolled")
	}
}

// totp makes the secret of an authenticator app. It is sealed for the factor that it will be, whose id is the ceremony's.
func (b *beginning) totp() (err error) {
	setting, secret := b.policy().TOTP, otp.NewTOTPSecret()
	if b.ceremony.Material, err = b.worker.Keys.SealSecret(b.caller.app.Name, b.Who.User, b.ceremony.ID.String(), secret); err != nil {
		return err
	}
	b.ceremony.Algorithm, b.ceremony.Digits, b.ceremony.Period = setting.Algorithm, setting.Digits, setting.Period
	name := b.shownName()
	if b.reply.URI, err = setting.URI(b.caller.app.DisplayName, name, secret); err != nil {
		return err
	}
	b.reply.Secret = otp.GroupSecret(otp.SecretText(secret))
	return nil
}

// shownName is how the authenticator names the account.
func (b *beginning) shownName() string {
	if b.request.Account != "" {
		return b.request.Account
	}
	return b.Who.User
}

// address seals a number or mailbox and sends a code there.
func (b *beginning) address(kind otp.FactorKind) error {
	channel, _ := kind.Channel()
	address, mask, p := parseAddress("address", channel, b.request.Address)
	if p != nil {
		return p
	}
	sealed, err := b.seal(channel, address)
	if err != nil {
		return err
	}
	code, err := b.worker.newCode(b.ceremony.ID, codeDigits)
	if err != nil {
		return err
	}
	b.ceremony.Material, b.ceremony.Mask, b.ceremony.Sends, b.ceremony.NextSendAt = sealed, mask, 1, b.Now.Add(codeCooldown)
	b.reply.To, b.reply.SendsLeft, b.reply.RetryAfter = mask, codeSends-1, otp.Seconds(codeCooldown)
	if err := b.orderly(kind); err != nil {
		return err
	}
	return b.send(code, channel, event.PurposeAddFactor, sealed, mask, b.request.Locale, b.ceremony.ExpiresAt)
}

// parseAddress reads an address of a channel and says what is wrong with it.
func parseAddress(field string, channel otp.Channel, text string) (address, mask string, p *otp.Problem) {
	parse, masked := otp.ParseEmail, otp.MaskEmail
	if channel == otp.SMS {
		parse, masked = func(s string) (string, error) { return otp.ParsePhone(s, "") }, otp.MaskPhone
	}
	address, err := parse(text)
	if err != nil {
		return "", "", otp.InvalidField(field, otp.AddressWords(err))
	}
	return address, masked(address), nil
}

// orderly bounds the codes that a user can have sent by beginning anew and anew: a new ceremony of the kind must wait as a resend must.
func (a *act) orderly(kind otp.FactorKind) error {
	last, n, err := a.CeremoniesSince(string(kind), a.Now.Add(-time.Hour))
	switch {
	case err != nil:
		return err
	case a.Now.Before(last.Add(codeCooldown)):
		return &otp.Problem{Reason: otp.RateLimited, Message: "a code was sent a moment ago", RetryAfter: last.Add(codeCooldown).Sub(a.Now)}
	case n >= beginsAnHour:
		return &otp.Problem{Reason: otp.RateLimited, Message: "too many codes were asked for within an hour", RetryAfter: time.Hour}
	}
	return nil
}

// beginsAnHour bounds the ceremonies of one kind and user that send a code.
const beginsAnHour = 10

// securityKey makes what the browser needs to register a key. Its session serves one try.
func (b *beginning) securityKey() error {
	party, p := relyingParty(b.caller.app)
	if p != nil {
		return p
	}
	handle, err := userHandle(b.worker, b.caller.app.Name, b.Who.User)
	if err != nil {
		return err
	}
	var exclude [][]byte
	for _, f := range b.factors {
		if f.Kind == otp.FactorWebAuthn {
			id, err := webauthn.ParseCredentialID(f.PublicID)
			if err != nil {
				return fmt.Errorf("factor %s: %w", f.ID, err)
			}
			exclude = append(exclude, id)
		}
	}
	name := b.shownName()
	user := webauthn.User{Handle: handle, Name: name, DisplayName: name}
	options, session, err := webauthn.BeginRegistration(party, user, exclude, b.Now, b.policy().CeremonyLife)
	if err != nil {
		return err
	}
	b.ceremony.Material, b.ceremony.MaxAttempts, b.reply.Options = session, 1, []byte(options)
	return nil
}

// relyingParty is the app as security keys know it.
func relyingParty(app postgres.App) (webauthn.Party, *otp.Problem) {
	party, ok := webauthn.PartyOf(app.DisplayName, app.Policy.Factors)
	if !ok {
		return party, &otp.Problem{Reason: otp.NotAllowed, Field: "kind", Message: "the app has no relying-party id for security keys; an operator can set one"}
	}
	return party, nil
}

// userHandle is how a security key knows the user: a digest, as the handle must tell nobody who it is (WebAuthn, section 14.6.1).
func userHandle(w *Worker, app, user string) ([]byte, error) {
	sum, err := w.Keys.Index("otpost/webauthn/user", []byte(app), []byte(user))
	return sum[:], err
}

// token takes up a hardware token that the operator has imported. It is the user's once a value confirms it.
func (b *beginning) token(kind otp.FactorKind) error {
	t, found, err := b.Token(kind, b.request.Serial)
	if err != nil {
		return err
	}
	if !found {
		return otp.InvalidField("serial", "is of no token that is free")
	}
	b.ceremony.Token, b.ceremony.Algorithm, b.ceremony.Digits = t.ID, t.Algorithm, t.Digits
	return nil
}

// factorResend sends the code of a ceremony once more.
func (w *Worker) factorResend(ctx context.Context, c caller, r event.FactorResendRequest) (any, error) {
	id := uuid.MustParse(r.Ceremony)
	user, found, err := w.store.CeremonyOwner(ctx, c.app.ID, id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errUnknownCeremony
	}
	var reply event.ResendReply
	err = w.act(ctx, c, user, func(a *act) error {
		now, found, err := a.PeekCeremony(id, r.Session)
		switch {
		case err != nil:
			return err
		case !found || now.Sends == 0:
			return errUnknownCeremony
		case now.Sends >= codeSends:
			return &otp.Problem{Reason: otp.RateLimited, Message: "the code was sent as often as it may be"}
		case a.Now.Before(now.NextSendAt):
			return &otp.Problem{Reason: otp.RateLimited, Message: "a code was sent a moment ago", RetryAfter: now.NextSendAt.Sub(a.Now)}
		}
		sent, ok, err := a.ResendCeremony(id, r.Session, codeSends, codeCooldown)
		if err != nil {
			return err
		}
		if !ok {
			return errUnknownCeremony
		}
		reply = event.ResendReply{SendsLeft: codeSends - sent.Sends, RetryAfter: otp.Seconds(codeCooldown), To: sent.Mask}
		if reply.SendsLeft == 0 {
			reply.RetryAfter = 0
		}
		return a.sendAgain(id, sent.Sends)
	})
	return reply, err
}

// errUnknownCeremony is the one answer to a ceremony that is unknown, another's, over or expired: nobody learns which.
var errUnknownCeremony = &otp.Problem{Reason: otp.UnknownCeremony, Message: "there is no such ceremony for this app and session, or it is over; begin again"}

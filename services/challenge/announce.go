package challenge

import (
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file turns what the database holds into what others are told: events, replies, commands.

func about(user, session, login string) event.About {
	return event.About{User: user, Session: session, Login: login}
}

// outcomeEvent is the event of a decided login. Its id is the challenge's, so that telling it again is telling the same.
func (l *login) outcomeEvent(a postgres.Admitted) event.Event {
	e := event.Event{App: l.App, ID: a.ID.String() + "/" + a.Outcome, Time: a.At}
	who := about(l.User, l.Session, l.ID)
	switch {
	case a.Outcome == event.OutcomeIssued && a.Challenge != nil:
		c := a.Challenge
		e.Name, e.Subject = event.ChallengeIssued, a.ID.String()
		who.Test = c.Test
		e.Data = event.Issued{
			About: who, Challenge: a.ID.String(), Channel: askedOver(c), Factor: string(c.Factor), To: c.Mask(),
			ExpiresAt: event.Time(c.ExpiresAt), Digits: typed(c), Methods: c.Methods,
		}
	case a.Outcome == event.OutcomeSkipped:
		e.Name, e.Data = event.ChallengeSkipped, event.Skipped{User: l.User, Session: l.Session, Login: l.ID, Reason: a.Reason, Device: l.device(a)}
	default:
		e.Name = event.ChallengeRefused
		e.Data = event.Refused{
			User: l.User, Session: l.Session, Login: l.ID, Reason: a.Reason, Message: words(a.Reason), RetryAfter: otp.Seconds(a.RetryAfter),
		}
	}
	return e
}

// reply is the answer to a login that came by request.
func (l *login) reply(a postgres.Admitted) event.LoginReply {
	switch {
	case a.Outcome == event.OutcomeIssued && a.Challenge != nil:
		c := a.Challenge
		return event.LoginReply{
			Outcome: a.Outcome, Challenge: a.ID.String(), Channel: askedOver(c), Factor: string(c.Factor), To: c.Mask(),
			ExpiresAt: event.Time(c.ExpiresAt), Digits: typed(c), Methods: c.Methods, Test: c.Test,
		}
	case a.Outcome == event.OutcomeSkipped:
		return event.LoginReply{Outcome: a.Outcome, Reason: a.Reason, Device: l.renewed(a)}
	default:
		return event.LoginReply{Outcome: event.OutcomeRefused, Reason: a.Reason, Message: words(a.Reason), RetryAfter: otp.Seconds(a.RetryAfter)}
	}
}

// askedOver is what a new challenge is asked over, as channelOf says it of a stored one.
func askedOver(c *postgres.NewChallenge) string {
	return channelOf(postgres.Challenge{Factor: c.Factor, Channel: c.Channel})
}

// typed is how many digits the user is asked to type: none where a key is touched. The challenge has its number all the same, for a code that is sent later.
func typed(c *postgres.NewChallenge) int {
	if c.Factor == otp.FactorWebAuthn || c.Factor == otp.FactorYubikey {
		return 0
	}
	return c.Digits
}

// fromStored shows a stored challenge as it was when it was new.
func fromStored(c postgres.Challenge) *postgres.NewChallenge {
	return &postgres.NewChallenge{
		Session: c.Session, Login: c.Login, Factor: c.Factor, Nonce: c.Nonce, KeyID: c.KeyID, Digits: c.Digits, Transaction: c.Transaction,
		Locale: c.Locale, ToSMS: c.ToSMS, ToEmail: c.ToEmail, MaskSMS: c.MaskSMS, MaskEmail: c.MaskEmail, Methods: c.Methods,
		Test: c.Test, Channel: c.Channel, AndroidHash: c.AndroidHash, Country: c.Country, Attempts: c.MaxAttempts,
		Sends: c.MaxSends, NextSendAt: c.NextSendAt, ExpiresAt: c.ExpiresAt,
	}
}

// firstCommand is the command of a challenge's first delivery; ok is false for a factor that needs none.
func (w *Worker) firstCommand(l *login, a *postgres.Admitted) (event.Command, bool) {
	c := a.Challenge
	if c.Test { // nothing is ever sent to it
		return event.Command{}, false
	}
	stored := postgres.Challenge{
		ID: a.ID, AppID: l.app.ID, User: l.User, Factor: c.Factor, Channel: c.Channel, Nonce: c.Nonce, KeyID: c.KeyID, Digits: c.Digits,
		Transaction: c.Transaction, Locale: c.Locale, ToSMS: c.ToSMS, ToEmail: c.ToEmail, ExpiresAt: c.ExpiresAt, AndroidHash: c.AndroidHash, Country: c.Country,
	}
	ch, ok := stored.SendChannel()
	if !ok {
		return event.Command{}, false
	}
	d := postgres.Delivery{Number: 1, Channel: ch, Provider: c.Provider, Country: country(stored, ch), Cause: postgres.CauseSend}
	stored.Deliveries = []postgres.Delivery{d}
	return w.command(l.app, stored, d)
}

// command is the command of a challenge's last delivery; ok is false where the challenge has no address for the channel. Of c all deliveries are needed, d
// among them.
func (w *Worker) command(app postgres.App, c postgres.Challenge, d postgres.Delivery) (event.Command, bool) {
	to, _, ok := c.Destination(d.Channel)
	if !ok || c.Test {
		return event.Command{}, false
	}
	style := app.Policy.Delivery.Style
	cmd := event.Command{
		Challenge: c.ID, Attempt: d.Number, Channel: d.Channel, App: app.Name, AppName: app.DisplayName, Origin: app.Origin, User: c.User, To: to,
		Nonce: c.Nonce, Key: c.KeyID, Digits: c.Digits, Locale: c.Locale, Fallback: app.Locale, Transaction: c.Transaction, ExpiresAt: c.ExpiresAt,
		Country: d.Country, Sender: w.routes.Sender(app.Name, d.Channel, d.Country), Hash: c.AndroidHash,
		Style: event.SMSStyle{NoWebOTP: style.NoWebOTP, NoKeepSecret: style.NoKeepSecret, Fold: style.Fold},
	}
	if d.Provider != "" {
		cmd.Providers = []string{d.Provider}
	}
	cmd.Next = len(w.waysOn(app, c, d, false)) > 0
	return cmd, true
}

// commandOut makes a message of a command. again tells a command that is published anew from the same one published twice.
func commandOut(cmd event.Command, again string) bus.Out {
	return bus.Out{Subject: event.WorkSubject(cmd.Channel), ID: cmd.Reference() + again, Data: cmd.Encode()}
}

// ended is the event of a challenge's end. A challenge ends once, so its id serves as the event's.
func ended(app string, id uuid.UUID, who event.About, s otp.State, at time.Time) event.Event {
	return event.Event{
		App: app, Name: event.ChallengeEnded, ID: id.String() + "/ended", Subject: id.String(), Time: at,
		Data: event.Ended{About: who, Challenge: id.String(), Reason: string(s)},
	}
}

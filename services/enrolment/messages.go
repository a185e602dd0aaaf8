package enrolment

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is how enrolment reaches people with codes; notices.go tells them what has happened.

const (
	codeSends    = 5                // of one code, the first one included
	codeCooldown = 30 * time.Second // between them
	codeDigits   = 6
	letterDigits = 10 // there is time to guess while a letter travels
)

// newCode makes what a code is derived from, for one id.
func (w *Worker) newCode(id uuid.UUID, digits int) (postgres.Code, error) {
	key, err := w.Keys.CeremonyKeyID()
	if err != nil {
		return postgres.Code{}, err
	}
	nonce := make([]byte, otp.NonceSize)
	_, _ = rand.Read(nonce) // never fails (Go 1.24)
	return postgres.Code{ID: id, Nonce: nonce, KeyID: key, Digits: digits}, nil
}

// sameCode derives the code and compares it, in constant time.
func (w *Worker) sameCode(app string, c postgres.Code, answer string) (bool, error) {
	prf, err := w.Keys.CeremonyPRF(c.KeyID)
	if err != nil {
		return false, fmt.Errorf("ceremony key: %w", err)
	}
	code, err := otp.DeriveCode(prf, otp.CodeInput{App: app, Challenge: c.ID, Nonce: c.Nonce, Digits: c.Digits})
	if err != nil {
		return false, err
	}
	return otp.SameCode(code, answer), nil
}

// send writes a message with a code to one address; it goes out once the act is committed. The message has the id that the code is derived for.
func (a *act) send(c postgres.Code, channel otp.Channel, purpose string, sealed []byte, mask, locale string, expires time.Time) error {
	m := postgres.Message{
		ID: c.ID, Channel: string(channel), Purpose: purpose, Sealed: sealed, Mask: mask, Locale: locale, ExpiresAt: expires,
	}
	m.SetCode(c)
	return a.post(postgres.Unsent{Message: m, Number: 1})
}

// post writes messages with codes, each of which may have been written with an id of its own before: one code may go out in several.
func (a *act) post(messages ...postgres.Unsent) error {
	asked := make([]sending, len(messages))
	for i, m := range messages {
		asked[i] = sending{code: listID(m.Message), earlier: m.Earlier, channel: otp.Channel(m.Channel), sealed: m.Sealed}
	}
	sent, err := a.permit(asked...)
	if err != nil {
		return err
	}
	for i, m := range messages {
		m.AppID, m.User = a.Who.AppID, a.Who.User
		if m.Locale == "" { // the language that the user is written to in
			p, err := a.Profile()
			if err != nil {
				return err
			}
			m.Locale = p.Locale
		}
		if err := a.Write(m.Message); err != nil {
			return err
		}
		if !sent[i] {
			if err := a.Withhold(m.ID, 1); err != nil {
				return err
			}
			continue
		}
		a.written = append(a.written, m)
	}
	return nil
}

// sendAgain sends what a message says once more, as its delivery of the given number.
func (a *act) sendAgain(id uuid.UUID, number int) error {
	m, err := a.WriteAgain(id, number)
	if err != nil {
		return err
	}
	switch sent, err := a.permit(sending{code: listID(m), earlier: number - 1, channel: otp.Channel(m.Channel), sealed: m.Sealed}); {
	case err != nil:
		return err
	case !sent[0]:
		return a.Withhold(id, number)
	}
	a.written = append(a.written, postgres.Unsent{Message: m, Number: number})
	return nil
}

// dispatch publishes the commands of messages that are committed. What fails here the sweeper finds.
func (w *Worker) dispatch(ctx context.Context, messages []postgres.Unsent) {
	if len(messages) == 0 {
		return
	}
	out := make([]bus.Out, 0, len(messages))
	for _, m := range messages {
		app, err := w.apps.ByID(ctx, m.AppID)
		if err == nil {
			var o bus.Out
			if o, err = w.command(app, m); err == nil {
				out = append(out, o)
				continue
			}
		}
		w.Logger.Warn("a message could not be sent now, the sweeper will try", "message", m.ID, "error", err)
	}
	if err := w.Bus.Publish(context.WithoutCancel(ctx), out...); err != nil {
		w.Logger.Warn("messages could not be published, the sweeper will do it", "count", len(out), "error", err)
	}
}

// listID is what the order of a message's route is drawn for: all that carry one code go down one list.
func listID(m postgres.Message) uuid.UUID {
	if c, ok := m.Code(); ok && m.Purpose != event.PurposeNotice { // a notice may carry the code of a recovery, which is told of many times
		return c.ID
	}
	return m.ID
}

// earlier is how many messages have carried the code before. Of one that was found in the store it is known only whether there were any.
func earlier(m postgres.Unsent) int {
	n := m.Number - 1 + m.Earlier
	if n == 0 && listID(m.Message) != m.ID {
		n = 1
	}
	return n
}

// providers are those that a message is tried over, in this order. One that says again what others have said begins with the provider after theirs: who has
// asked for the code again has not got it from those.
func (w *Worker) providers(app int, ch otp.Channel, country string, list uuid.UUID, earlier int) []string {
	order := w.routes.Order(app, ch, country, list)
	if len(order) == 0 {
		return nil
	}
	n := earlier % len(order)
	return slices.Concat(order[n:], order[:n])
}

// carrier is who carries such a message first, and at what cost.
func (w *Worker) carrier(app postgres.App, ch otp.Channel, country string, list uuid.UUID, earlier int) (provider string, cost int64) {
	order := w.providers(app.ID, ch, country, list, earlier)
	if len(order) == 0 {
		return "", 0
	}
	return order[0], w.routes.Cost(ch, order[0], country)
}

// command makes the delivery command of a message. It names the providers of the route, in their order: the channel's worker tries one after the other.
func (w *Worker) command(app postgres.App, m postgres.Unsent) (bus.Out, error) {
	c := event.Command{
		Challenge: m.ID, Attempt: m.Number, Channel: otp.Channel(m.Channel), Purpose: m.Purpose, App: app.Name, AppName: app.DisplayName, Origin: app.Origin,
		User: m.User, To: m.Sealed, Locale: m.Locale, Fallback: app.Locale, ExpiresAt: m.ExpiresAt,
	}
	if c.Channel.Phone() {
		phone, err := w.Keys.OpenDestination(string(c.Channel.Address()), app.Name, m.User, delivery.Purpose, m.Sealed)
		if err != nil {
			return bus.Out{}, fmt.Errorf("open destination: %w", err)
		}
		c.Country = otp.LocatePhone(phone).Country
		c.Sender = w.routes.Sender(app.Name, c.Channel, c.Country)
	}
	if c.Channel.Valid() {
		c.Providers = w.providers(app.ID, c.Channel, c.Country, listID(m.Message), earlier(m))
	}
	style := app.Policy.Delivery.Style
	c.Style = event.SMSStyle{NoWebOTP: style.NoWebOTP, NoKeepSecret: style.NoKeepSecret, Fold: style.Fold}
	if code, ok := m.Code(); ok {
		c.CodeID, c.Nonce, c.Key, c.Digits = code.ID, code.Nonce, code.KeyID, code.Digits
	}
	if m.Purpose == event.PurposeNotice {
		c.Notice = &event.NoticeDetail{}
		if err := json.Unmarshal(m.Message.Notice, c.Notice); err != nil {
			return bus.Out{}, fmt.Errorf("read notice: %w", err)
		}
	}
	// No id to recognise it by: the stream would drop what the sweeper publishes again. Who gets it claims the delivery first.
	return bus.Out{Subject: event.WorkSubject(c.Channel), Data: c.Encode()}, nil
}

// seal seals an address for its channel.
func (a *act) seal(channel otp.Channel, address string) ([]byte, error) {
	return a.worker.Keys.SealDestination(string(channel), a.caller.app.Name, a.Who.User, delivery.Purpose, address)
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

package enrolment

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is how enrolment reaches people: codes to an address, and notices to every one.

const (
	codeSends    = 5                // of one code, the first one included
	codeCooldown = 30 * time.Second // between them
	codeDigits   = 6
	letterDigits = 10             // there is time to guess while a letter travels
	noticeLife   = 24 * time.Hour // later than that it is no news
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
	return a.post(c.ID, c, channel, purpose, sealed, mask, locale, expires)
}

// post is send with an id of the message's own: one code may go out in several.
func (a *act) post(id uuid.UUID, c postgres.Code, channel otp.Channel, purpose string, sealed []byte, mask, locale string, expires time.Time) error {
	if locale == "" { // the language that the user is written to in
		p, err := a.Profile()
		if err != nil {
			return err
		}
		locale = p.Locale
	}
	m := postgres.Message{
		ID: id, AppID: a.Who.AppID, User: a.Who.User, Channel: string(channel), Purpose: purpose, Sealed: sealed, Mask: mask, Locale: locale, ExpiresAt: expires,
	}
	m.SetCode(c)
	if err := a.Write(m); err != nil {
		return err
	}
	a.written = append(a.written, postgres.Unsent{Message: m, Number: 1})
	return nil
}

// sendAgain sends what a message says once more, as its delivery of the given number.
func (a *act) sendAgain(id uuid.UUID, number int) error {
	m, err := a.WriteAgain(id, number)
	if err != nil {
		return err
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
			if o, err = command(app, m); err == nil {
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

// command makes the delivery command of a message.
func command(app postgres.App, m postgres.Unsent) (bus.Out, error) {
	c := event.Command{
		Challenge: m.ID, Attempt: m.Number, Channel: otp.Channel(m.Channel), Purpose: m.Purpose, App: app.Name, AppName: app.DisplayName, Origin: app.Origin,
		User: m.User, To: m.Sealed, Locale: m.Locale, Fallback: app.Locale, ExpiresAt: m.ExpiresAt,
	}
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

// A noticed is a notice as it waits: what it tells, and the code that stops it.
type noticed struct {
	event.NoticeDetail
	Cancel *cancelCode `json:"cancel,omitempty"`
}

// A cancelCode is what the code that cancels a recovery is derived from.
type cancelCode struct {
	ID    uuid.UUID `json:"id"`
	Nonce []byte    `json:"nonce"`
	Key   uint32    `json:"key"`
}

// cancelDigits: the code only stops a recovery, and whoever guesses at it spends the account's budget.
const cancelDigits = 8

// Most notices a user is sent within an hour over a channel. A message costs money, and whoever has a session could order any number.
const (
	maxSMSNotices   = 12
	maxEmailNotices = 40
)

// writeNotices writes the notices that wait, each to every address that was confirmed when it arose.
func (w *Worker) writeNotices(ctx context.Context) error {
	const limit = 100
	for {
		now := w.Now()
		messages, taken, err := w.store.WriteNotices(ctx, now, now.Add(-time.Hour), limit, compose, func(n postgres.Notice, err error) {
			w.Logger.Error("a notice could not be written", "notice", n.Notice, "app", n.Who.AppID, "id", n.ID, "error", err)
		})
		if err != nil {
			return err
		}
		unsent := make([]postgres.Unsent, len(messages))
		for i, m := range messages {
			unsent[i] = postgres.Unsent{Message: m, Number: 1}
		}
		w.dispatch(ctx, unsent)
		if taken < limit {
			return nil
		}
	}
}

// compose makes the messages of one notice, one for each address.
func compose(n postgres.Mailing) ([]postgres.Message, error) {
	var d noticed
	if err := json.Unmarshal(n.Detail, &d); err != nil {
		return nil, fmt.Errorf("read notice: %w", err)
	}
	if !n.Notice.Notice.Valid() {
		return nil, errors.New("there is no such notice")
	}
	d.NoticeDetail.Notice, d.At = n.Notice.Notice, n.At
	text, err := json.Marshal(d.NoticeDetail)
	if err != nil {
		return nil, fmt.Errorf("write notice: %w", err)
	}
	var out []postgres.Message
	for _, r := range n.To {
		if n.Lately[r.Channel] >= most(r.Channel) && !grave(n.Notice.Notice) {
			continue
		}
		n.Lately[r.Channel]++
		m := postgres.Message{
			ID: uuid.Must(uuid.NewV7()), AppID: n.Who.AppID, User: n.Who.User, Channel: r.Channel, Purpose: event.PurposeNotice, Sealed: r.Sealed, Mask: r.Mask,
			Locale: n.Locale, Notice: text, ExpiresAt: n.At.Add(noticeLife),
		}
		if d.Cancel != nil {
			m.SetCode(postgres.Code{ID: d.Cancel.ID, Nonce: d.Cancel.Nonce, KeyID: d.Cancel.Key, Digits: cancelDigits})
		}
		out = append(out, m)
	}
	return out, nil
}

// grave are the notices that no flood of others may keep back: what they tell of takes away factors or the account, and is bounded by itself.
func grave(n otp.Notice) bool {
	switch n {
	case otp.NoticeFactorRemoved, otp.NoticeFactorSuspended, otp.NoticeDeactivated, otp.NoticeAccountLocked, otp.NoticeRecoveryBegun, otp.NoticeRecoveryProven,
		otp.NoticeRecoveryWaiting, otp.NoticeRecoveryCompleted, otp.NoticeRecoveryCancelled:
		return true
	}
	return false
}

func most(channel string) int {
	if channel == string(otp.SMS) {
		return maxSMSNotices
	}
	return maxEmailNotices
}

// seal seals an address for its channel.
func (a *act) seal(channel otp.Channel, address string) ([]byte, error) {
	return a.worker.Keys.SealDestination(string(channel), a.caller.app.Name, a.Who.User, delivery.Purpose, address)
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

package enrolment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/limit"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is how people hear of what has happened to their account: a notice to every address.

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

// Most notices a user is sent within an hour over a channel. A message costs money, and whoever has a session could order any number. Over SMS grave ones are
// held to a bound of the same height that is their own; over email nothing keeps them back.
const (
	maxSMSNotices   = 12
	maxEmailNotices = 40
	scopeGrave      = "notice"       // of what counts grave ones
	noticeLife      = 24 * time.Hour // later than that it is no news
)

// writeNotices writes the notices that wait, each to every address that was confirmed when it arose.
func (w *Worker) writeNotices(ctx context.Context) error {
	const limit = 100
	for {
		now := w.Now()
		messages, taken, err := w.store.WriteNotices(ctx, now, now.Add(-time.Hour), limit, postgres.Mailer{
			Address: func(m *postgres.Mailing) error { return w.recipients(ctx, m) },
			Compose: compose,
			Alarm:   w.alarm,
			Refused: func(n postgres.Notice, r postgres.Recipient, v postgres.Verdict) {
				w.Logger.Debug("the limits have stopped a notice", "notice", n.Notice, "app", n.Who.AppID, "id", n.ID, "channel", r.Channel, "limit", v.Limit.Scope)
			},
			Failed: func(n postgres.Notice, err error) {
				w.Logger.Error("a notice could not be written", "notice", n.Notice, "app", n.Who.AppID, "id", n.ID, "error", err)
			},
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

// alarm is the event of a spending alarm that notices have raised.
func (w *Worker) alarm(r postgres.Raised) postgres.OutboxEvent {
	app, _ := w.apps.Known(r.AppID) // recipients has asked for it
	return outbox.Entry(limit.Alarm(app.Name, r))
}

// recipients leaves out those that a notice must not be sent to, and names what the others' messages count in.
func (w *Worker) recipients(ctx context.Context, m *postgres.Mailing) error {
	to := m.To
	m.To = nil
	if len(to) == 0 {
		return nil
	}
	app, err := w.apps.ByID(ctx, m.Who.AppID)
	if errors.Is(err, postgres.ErrNoApp) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, r := range to {
		r.Message = uuid.Must(uuid.NewV7())
		reason := ""
		if r.Limits, reason, err = w.noticeLimits(app, m.Notice, r); err != nil {
			return err
		}
		if reason != "" {
			w.Logger.Debug("a notice is not sent", "notice", m.Notice.Notice, "app", app.Name, "id", m.ID, "channel", r.Channel, "reason", reason)
			continue
		}
		m.To = append(m.To, r)
	}
	return nil
}

// noticeLimits are what a notice to one address counts in; reason says why it is not sent at all. A text message counts in the app's spending, as every one
// does, and in what was sent to the prefix and by the app. One that is not grave counts for the user and the number too; none of them makes a code wait that
// follows. An email is bounded by its number alone (see compose).
func (w *Worker) noticeLimits(app postgres.App, n postgres.Notice, r postgres.Recipient) (limits []postgres.Limit, reason string, err error) {
	channel := otp.Channel(r.Channel)
	address, err := w.gate.Open(app.Name, n.Who.User, channel, r.Sealed)
	if errors.Is(err, keyring.ErrOpen) {
		return nil, "its key is gone", nil // nobody could send to it
	}
	if err != nil {
		return nil, "", err
	}
	own := &app.Policy.Delivery.Limits // of this copy
	own.Cooldown = 0
	if grave(n.Notice) {
		own.User, own.Destination = otp.Rate{}, otp.Rate{}
	}
	t, err := w.gate.Target(limit.Sending{App: app, User: n.Who.User, Channel: channel, Address: address, Challenge: r.Message})
	switch {
	case err != nil:
		return nil, "", err
	case t.Test != nil:
		return nil, "a test destination", nil
	case !channel.Phone():
		return nil, "", nil
	case t.Barred:
		return nil, "a number that may not be reached", nil
	case !t.Safe && !w.watch.Permits(app, t.Phone.Prefix):
		return nil, "a blocked prefix", nil
	}
	for i := range t.Limits {
		t.Limits[i].Quiet = true
	}
	if !grave(n.Notice) {
		return t.Limits, "", nil
	}
	key, err := w.gate.Key(scopeGrave, app.Name, n.Who.User)
	return append(t.Limits, postgres.Limit{Key: key, Scope: scopeGrave, Bound: otp.Bound{Hour: maxSMSNotices}, N: 1}), "", err
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
		if !n.Permit(r) {
			continue
		}
		n.Lately[r.Channel]++
		m := postgres.Message{
			ID: r.Message, AppID: n.Who.AppID, User: n.Who.User, Channel: r.Channel, Purpose: event.PurposeNotice, Sealed: r.Sealed, Mask: r.Mask,
			Locale: n.Locale, Notice: text, ExpiresAt: n.At.Add(noticeLife),
		}
		if d.Cancel != nil {
			m.SetCode(postgres.Code{ID: d.Cancel.ID, Nonce: d.Cancel.Nonce, KeyID: d.Cancel.Key, Digits: cancelDigits})
		}
		out = append(out, m)
	}
	return out, nil
}

// grave are the notices that no flood of others may keep back: what they tell of takes away factors or the account.
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

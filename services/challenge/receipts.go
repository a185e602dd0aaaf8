package challenge

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// handleReceipts records what became of deliveries, tells the apps and orders what follows.
func (w *Worker) handleReceipts(ctx context.Context, batch []*bus.Msg) {
	var msgs []*bus.Msg
	var receipts []receipt
	for _, m := range batch {
		r, err := w.readReceipt(m)
		if err != nil {
			m.Settle(bus.Dead(err.Error()))
			continue
		}
		msgs, receipts = append(msgs, m), append(receipts, r)
	}
	// Two receipts of one delivery go into two rounds, in the order in which they came.
	for len(msgs) > 0 {
		var laterMsgs []*bus.Msg
		var later []receipt
		seen := make(map[postgres.DeliveryKey]bool, len(msgs))
		nowMsgs, now := msgs[:0:0], receipts[:0:0]
		for i, r := range receipts {
			k := postgres.DeliveryKey{Challenge: r.Challenge, Number: r.Number}
			if seen[k] {
				laterMsgs, later = append(laterMsgs, msgs[i]), append(later, r)
				continue
			}
			seen[k] = r.Challenge != uuid.Nil // those that name no delivery do not get into each other's way
			nowMsgs, now = append(nowMsgs, msgs[i]), append(now, r)
		}
		w.record(ctx, nowMsgs, now)
		msgs, receipts = laterMsgs, later
	}
}

// A receipt is one in hand, as it is stored and as it came.
type receipt struct {
	postgres.Receipt
	at time.Time
}

// readReceipt reads what a channel's worker tells of its delivery, or what the gateway passes on from a provider. A report that names no delivery, or in a
// token that nobody has made, is a receipt all the same: it is kept for people.
func (w *Worker) readReceipt(m *bus.Msg) (receipt, error) {
	if m.Subject != event.ReportSubject {
		r, err := event.ParseReceipt(m.Data)
		if err == nil && m.Subject != event.ReceiptSubject(r.Channel) { // a worker tells of its own channels only
			err = fmt.Errorf("a receipt of %s came on %s", r.Channel, m.Subject)
		}
		return receipt{postgres.Receipt{
			Challenge: r.Challenge, Number: r.Attempt, Channel: r.Channel, State: r.State, Provider: r.Provider, Reference: r.Reference,
			Reason: r.Reason, Class: r.Class,
			Report: r.Class != "" && r.State == otp.DeliveryUndelivered, // a bounce: the mailbox's word
		}, r.At}, err
	}
	r, err := event.ParseReport(m.Data)
	if err != nil {
		return receipt{}, err
	}
	out := receipt{postgres.Receipt{State: r.State, Provider: r.Provider, Reference: r.Reference, Reason: said(r), Report: true}, r.At}
	if r.State == otp.DeliveryUndelivered || r.State == otp.DeliveryFailed {
		out.Class = event.ClassRejected
		if r.Permanent {
			out.Class = event.ClassPermanent
		}
	}
	switch {
	case r.Token != "":
		if id, number, err := w.Keys.OpenReceipt(r.Token); err == nil {
			out.Challenge, out.Number = id, number
		}
	case r.Delivery != "":
		if id, number, ok := event.ParseReference(r.Delivery); ok {
			out.Challenge, out.Number = id, number
		}
	}
	return out, nil
}

// said joins a report's reason with the provider's own code.
func said(r event.Report) string {
	switch {
	case r.Code == "" || r.Reason == "":
		return r.Reason + r.Code
	default:
		return r.Reason + " (" + r.Code + ")"
	}
}

// record writes receipts of different deliveries and publishes what follows.
func (w *Worker) record(ctx context.Context, msgs []*bus.Msg, receipts []receipt) {
	again := func(why string, err error) {
		w.Logger.Warn("recording receipts failed, they will come again", "count", len(msgs), "error", err)
		for _, m := range msgs {
			m.Settle(bus.Retry(bus.Backoff(m.Tries), why))
		}
	}
	rows := make([]postgres.Receipt, len(receipts))
	for i, r := range receipts {
		rows[i] = r.Receipt
	}
	now := w.Now()
	recorded, followed, err := w.store.Record(ctx, now, rows, w.due(now), w.next(now))
	switch {
	case postgres.Refused(err) && len(msgs) > 1:
		for i := range msgs {
			w.record(ctx, msgs[i:i+1], receipts[i:i+1])
		}
		return
	case postgres.Refused(err):
		msgs[0].Settle(bus.Dead("internal: the database refused it: " + postgres.Constraint(err)))
		return
	case err != nil:
		again("database", err)
		return
	}
	out := w.ordered(followed)
	for i, r := range receipts {
		out = append(out, w.told(r, recorded[i])...)
	}
	if err := w.Bus.Publish(ctx, out...); err != nil {
		again("publishing", err)
		return
	}
	for i, m := range msgs {
		w.count(receipts[i], recorded[i])
		if !recorded[i].Known && !receipts[i].Report {
			m.Settle(bus.Dead("the database has no such delivery"))
			continue
		}
		m.Settle(bus.Done())
	}
}

// count tells the metrics of a receipt.
func (w *Worker) count(r receipt, rec postgres.Recorded) {
	if rec.Stray != "" {
		w.Metrics.StrayReceipts.WithLabelValues(r.Provider, rec.Stray).Inc()
	}
	if !rec.Changed || !r.Report {
		return
	}
	w.Metrics.Deliveries.WithLabelValues(string(rec.Channel), rec.Provider, string(r.State)).Inc()
	if !rec.AcceptedAt.IsZero() && r.State != otp.DeliveryAccepted {
		w.Metrics.ReceiptSeconds.WithLabelValues(string(rec.Channel), rec.Provider, string(r.State)).Observe(max(0, r.at.Sub(rec.AcceptedAt).Seconds()))
	}
}

// ordered are the commands of what follows.
func (w *Worker) ordered(followed []postgres.Followed) (out []bus.Out) {
	for _, f := range followed {
		if !f.Repeat {
			w.Metrics.Failovers.WithLabelValues(string(f.Left.Channel), orNone(f.Left.Provider), f.Why).Inc()
		}
		app, ok := w.apps.Known(f.Failing.Challenge.AppID)
		if !ok {
			continue // the sweeper does it
		}
		d := postgres.Delivery{Number: f.Next.Number, Channel: f.Next.Channel, Provider: f.Next.Provider, Country: f.Next.Country, Cause: f.Next.Cause}
		c := f.Failing.Challenge
		c.Deliveries = append(c.Deliveries, d)
		if cmd, ok := w.command(app, c, d); ok {
			out = append(out, commandOut(cmd, ""))
		}
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// told are the events of one receipt, and the timer of a delivery whose own receipt is waited for. The same receipt again brings the same, under the same
// ids.
func (w *Worker) told(r receipt, rec postgres.Recorded) (out []bus.Out) {
	if !rec.DueAt.IsZero() {
		out = append(out, timer(postgres.DeliveryKey{Challenge: r.Challenge, Number: r.Number}, rec.DueAt))
	}
	if !rec.Known || rec.Stray == strayOther || rec.Delivery != r.State && !overtaken(r, rec) {
		return out
	}
	who := about(rec.User, rec.Session, rec.Login)
	ref := event.Command{Challenge: r.Challenge, Attempt: r.Number}.Reference()
	tell := func(name event.Name, state otp.DeliveryState, reason string) {
		out = append(out, outbox.Out(event.Event{
			App: rec.App, Name: name, ID: ref + "/" + string(state), Subject: r.Challenge.String(), Time: r.at,
			Data: event.Delivery{
				About: who, Challenge: r.Challenge.String(), Channel: string(rec.Channel), Provider: rec.Provider, Attempt: r.Number, Reason: reason,
				Late: rec.Stray == strayLate,
			},
		}))
	}
	if !r.Report && !rec.AcceptedAt.IsZero() && (r.State == otp.DeliveryDelivered || r.State == otp.DeliveryUndelivered || r.State == otp.DeliveryFailed) {
		tell(event.ChallengeSent, otp.DeliveryAccepted, "") // the provider's word was there before its worker's, which was killed before it could tell
	}
	name := event.ChallengeSent
	reason := r.Reason
	switch r.State {
	case otp.DeliveryAccepted:
		if r.Report { // that it was taken the worker tells, which asked for it
			return out
		}
	case otp.DeliveryUnconfirmed:
		reason = "unconfirmed: " + r.Reason
	case otp.DeliveryDelivered:
		name = event.ChallengeDelivered
	case otp.DeliveryFailed, otp.DeliveryUndelivered:
		name = event.ChallengeUndeliverable
	default: // expired before it was sent: the challenge's own end tells
		return out
	}
	tell(name, r.State, reason)
	if name == event.ChallengeUndeliverable && rec.Challenge == otp.Undeliverable {
		w.Metrics.Challenges.WithLabelValues(string(otp.Undeliverable)).Inc()
		out = append(out, outbox.Out(ended(rec.App, r.Challenge, who, otp.Undeliverable, rec.EndedAt)))
	}
	return out
}

// overtaken reports whether the provider's own word came before the worker's that the provider has taken the message: that is told all the same.
func overtaken(r receipt, rec postgres.Recorded) bool {
	if r.Report || r.State != otp.DeliveryAccepted {
		return false
	}
	return rec.Delivery == otp.DeliveryDelivered || rec.Delivery == otp.DeliveryUndelivered || rec.Delivery == otp.DeliveryFailed
}

// Strays, as the store names them.
const (
	strayOther = "other_provider"
	strayLate  = "late"
)

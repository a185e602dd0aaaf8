package challenge

import (
	"context"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// handleReceipts records what became of deliveries and tells the apps.
func (w *Worker) handleReceipts(ctx context.Context, batch []*bus.Msg) {
	var msgs []*bus.Msg
	var receipts []event.Receipt
	for _, m := range batch {
		r, err := event.ParseReceipt(m.Data)
		if err != nil {
			m.Settle(bus.Dead(err.Error()))
			continue
		}
		msgs, receipts = append(msgs, m), append(receipts, r)
	}
	// Two receipts of one delivery go into two rounds, in the order in which they came.
	for len(msgs) > 0 {
		var laterMsgs []*bus.Msg
		var later []event.Receipt
		seen := make(map[string]bool, len(msgs))
		nowMsgs, now := msgs[:0:0], receipts[:0:0]
		for i, r := range receipts {
			ref := event.Command{Challenge: r.Challenge, Attempt: r.Attempt}.Reference()
			if seen[ref] {
				laterMsgs, later = append(laterMsgs, msgs[i]), append(later, r)
				continue
			}
			seen[ref] = true
			nowMsgs, now = append(nowMsgs, msgs[i]), append(now, r)
		}
		w.record(ctx, nowMsgs, now)
		msgs, receipts = laterMsgs, later
	}
}

// record writes receipts of different deliveries and publishes what follows.
func (w *Worker) record(ctx context.Context, msgs []*bus.Msg, receipts []event.Receipt) {
	again := func(why string, err error) {
		w.Logger.Warn("recording receipts failed, they will come again", "count", len(msgs), "error", err)
		for _, m := range msgs {
			m.Settle(bus.Retry(bus.Backoff(m.Tries), why))
		}
	}
	rows := make([]postgres.Receipt, len(receipts))
	for i, r := range receipts {
		rows[i] = postgres.Receipt{
			Challenge: r.Challenge, Number: r.Attempt, State: r.State, Provider: r.Provider, Reference: r.Reference, Reason: r.Reason,
		}
	}
	recorded, err := w.store.Record(ctx, w.Now(), rows)
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
	var out []bus.Out
	for i, r := range receipts {
		out = append(out, w.follow(r, recorded[i])...)
	}
	if err := w.Bus.Publish(ctx, out...); err != nil {
		again("publishing", err)
		return
	}
	for i, m := range msgs {
		if !recorded[i].Known {
			m.Settle(bus.Dead("the database has no such delivery"))
			continue
		}
		m.Settle(bus.Done())
	}
}

// follow are the events of one receipt. The same receipt again brings the same events, under the same ids.
func (w *Worker) follow(r event.Receipt, rec postgres.Recorded) []bus.Out {
	if !rec.Known || rec.Delivery != r.State {
		return nil
	}
	name := event.ChallengeSent
	reason := r.Reason
	switch r.State {
	case otp.DeliveryAccepted:
	case otp.DeliveryUnconfirmed:
		reason = "unconfirmed: " + r.Reason
	case otp.DeliveryDelivered:
		name = event.ChallengeDelivered
	case otp.DeliveryFailed, otp.DeliveryUndelivered:
		name = event.ChallengeUndeliverable
	default: // expired before it was sent: the challenge's own end tells
		return nil
	}
	who := about(rec.User, rec.Session, rec.Login)
	ref := event.Command{Challenge: r.Challenge, Attempt: r.Attempt}.Reference()
	out := []bus.Out{outbox.Out(event.Event{
		App: rec.App, Name: name, ID: ref + "/" + string(r.State), Subject: r.Challenge.String(), Time: r.At,
		Data: event.Delivery{
			About: who, Challenge: r.Challenge.String(), Channel: string(r.Channel), Provider: r.Provider, Attempt: r.Attempt, Reason: reason,
		},
	})}
	if name == event.ChallengeUndeliverable && rec.Challenge == otp.Undeliverable {
		w.Metrics.Challenges.WithLabelValues(string(otp.Undeliverable)).Inc()
		out = append(out, outbox.Out(ended(rec.App, r.Challenge, who, otp.Undeliverable, rec.EndedAt)))
	}
	return out
}

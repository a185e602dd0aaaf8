package challenge

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// admit decides a batch in one transaction, publishes what follows, and only then lets go of the logins.
func (w *Worker) admit(ctx context.Context, batch []*login) {
	batch = w.withApps(ctx, batch)
	if len(batch) == 0 {
		return
	}
	now := w.Now()
	keyID, err := w.Keys.CodeKeyID()
	if err != nil {
		w.putBack(batch, "keyring", err)
		return
	}
	ask := make([]postgres.Admission, len(batch))
	for i, l := range batch {
		ask[i] = postgres.Admission{Account: postgres.Account{AppID: l.app.ID, User: l.User}, Key: l.key, Challenge: l.id}
	}
	admitted, events, err := w.store.Admit(ctx, now, ask,
		func(i int, u postgres.UserState) postgres.Decision { return batch[i].decide(u, keyID, now) },
		func(i int, a postgres.Admitted) []postgres.OutboxEvent { return w.aftermath(batch[i], a, now) })
	switch {
	case postgres.Refused(err) && len(batch) > 1: // one of them is at fault: each alone, so that it delays no other
		for _, l := range batch {
			w.admit(ctx, []*login{l})
		}
		return
	case postgres.Refused(err):
		w.Logger.Error("the database refused a login", "app", batch[0].App, "error", err)
		batch[0].fail(bus.Dead("internal: the database refused it: "+postgres.Constraint(err)), otp.AsProblem(err))
		return
	case err != nil:
		w.putBack(batch, "database", err)
		return
	}
	w.outbox.Send(events)
	w.announce(ctx, batch, admitted, now)
}

// withApps finds the apps of logins that came by request and answers those that have none.
func (w *Worker) withApps(ctx context.Context, batch []*login) []*login {
	kept := batch[:0]
	for _, l := range batch {
		if l.app.ID == 0 {
			app, err := w.apps.Get(ctx, l.App)
			if err == nil {
				l.app = app
				err = w.identify(l)
			}
			if err != nil {
				l.request.Fail(appProblem(err))
				continue
			}
		}
		kept = append(kept, l)
	}
	return kept
}

// appProblem maps what apps.Cache returns.
func appProblem(err error) *otp.Problem {
	if errors.Is(err, postgres.ErrNoApp) {
		return &otp.Problem{Reason: otp.UnknownApp, Message: "there is no app of this name"}
	}
	return &otp.Problem{Reason: otp.Busy, Message: "the database cannot be reached; send the request again", RetryAfter: time.Second}
}

// putBack returns a batch that could not be decided now.
func (w *Worker) putBack(batch []*login, what string, err error) {
	w.Logger.Warn("deciding logins failed, they will be tried again", "count", len(batch), "error", err)
	for _, l := range batch {
		tries := 1
		if l.msg != nil {
			tries = l.msg.Tries
		}
		l.fail(bus.Retry(bus.Backoff(tries), what),
			&otp.Problem{Reason: otp.Busy, Message: "the login could not be stored now; send the request again", RetryAfter: time.Second})
	}
}

// fail settles a login that was not decided, the way it came.
func (l *login) fail(o bus.Outcome, p *otp.Problem) {
	if l.msg != nil {
		l.msg.Settle(o)
		return
	}
	l.request.Fail(p)
}

// aftermath are the events that go to the outbox with the decision: ends of superseded challenges and, for a login that came by request and that no
// stream would bring again, its own.
func (w *Worker) aftermath(l *login, a postgres.Admitted, now time.Time) []postgres.OutboxEvent {
	var out []postgres.OutboxEvent
	for _, s := range a.Superseded {
		out = append(out, outbox.Entry(ended(l.App, s.ID, about(l.User, s.Session, s.Login), otp.Superseded, now)))
	}
	if l.request != nil {
		out = append(out, outbox.Entry(l.outcomeEvent(a, now)))
	}
	return out
}

// A told is what the world hears of one decided login.
type told struct {
	out      []bus.Out
	conflict bool // its id was used before, for another user or session
}

// announce publishes what follows from decided logins, and only then lets go of them.
func (w *Worker) announce(ctx context.Context, batch []*login, admitted []postgres.Admitted, now time.Time) {
	stored, err := w.repeated(ctx, admitted)
	if err != nil {
		w.putBack(batch, "database", err)
		return
	}
	all := make([]told, len(batch))
	var out []bus.Out
	for i, l := range batch {
		all[i] = l.tell(&admitted[i], stored, now)
		out = append(out, all[i].out...)
	}
	if err := w.Bus.Publish(ctx, out...); err != nil {
		w.putBack(batch, "publishing", err)
		return
	}
	for i, l := range batch {
		w.settle(l, admitted[i], all[i].conflict)
	}
}

// tell completes a repeat from what is stored and says what is to be published.
func (l *login) tell(a *postgres.Admitted, stored map[uuid.UUID]postgres.Challenge, now time.Time) (t told) {
	if a.Deferred {
		return t
	}
	answerable := true
	if a.Repeat && a.Outcome == event.OutcomeIssued {
		c := stored[a.ID]
		if t.conflict = c.User != l.User || c.Session != l.Session; t.conflict {
			if l.msg != nil {
				t.out = append(t.out, outbox.Out(l.refusal(otp.InvalidField("id", conflictWords), now)))
			}
			return t
		}
		a.Challenge = fromStored(c)
		answerable = c.State == otp.Open && now.Before(c.ExpiresAt)
	}
	if a.Outcome == event.OutcomeIssued && answerable { // also of a repeat: its first command may have been lost, and a second is never sent
		if cmd, ok := firstCommand(l, a); ok {
			t.out = append(t.out, commandOut(cmd, ""))
		}
	}
	if l.msg != nil {
		t.out = append(t.out, outbox.Out(l.outcomeEvent(*a, now)))
	}
	return t
}

const conflictWords = "was used before, for a login of another user or session"

// repeated reads the challenges of logins that had been decided before.
func (w *Worker) repeated(ctx context.Context, admitted []postgres.Admitted) (map[uuid.UUID]postgres.Challenge, error) {
	var ids []uuid.UUID
	for _, a := range admitted {
		if a.Repeat && a.Outcome == event.OutcomeIssued {
			ids = append(ids, a.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return w.store.Details(ctx, ids)
}

func (w *Worker) settle(l *login, a postgres.Admitted, conflict bool) {
	switch {
	case a.Deferred:
		l.fail(bus.Retry(100*time.Millisecond, "the same login is being decided elsewhere"), busy())
		return
	case conflict:
		l.fail(bus.Drop("refused: id "+conflictWords), otp.InvalidField("id", conflictWords))
		return
	}
	if !a.Repeat {
		w.Metrics.Challenges.WithLabelValues(a.Outcome).Inc()
		w.Metrics.Challenges.WithLabelValues(string(otp.Superseded)).Add(float64(len(a.Superseded)))
	}
	if l.msg != nil {
		l.msg.Settle(bus.Done())
		return
	}
	l.request.Reply(event.Encode(l.reply(a)))
}

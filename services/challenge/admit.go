package challenge

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/limit"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/requests"
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
		ask[i] = postgres.Admission{Account: postgres.Account{AppID: l.app.ID, User: l.User}, Key: l.key, About: l.about, Challenge: l.id}
		ask[i].Limits = func(u postgres.UserState) []postgres.Limit { return l.limits(u, now) }
		if now.Sub(l.received) <= l.app.Policy.Life { // one that waited for longer is refused, and its token may have been replaced since by right
			ask[i].Token = l.token
		}
	}
	admitted, events, err := w.store.Admit(ctx, now, ask,
		func(i int, u postgres.UserState) postgres.Decision { return w.decide(batch[i], u, keyID, now) },
		func(i int, a postgres.Admitted) (postgres.Told, error) { return w.aftermath(batch[i], a, now) })
	switch {
	case postgres.Refused(err) && len(batch) > 1: // one of them is at fault: each alone, so that it delays no other
		for _, l := range batch {
			w.admit(ctx, []*login{l})
		}
		return
	case postgres.Refused(err):
		w.Logger.Error("the database refused a login", "app", batch[0].App, "error", err)
		w.bury(ctx, batch[0], err)
		return
	case err != nil:
		w.putBack(batch, "database", err)
		return
	}
	w.note(batch, admitted)
	w.outbox.Send(events)
	w.announce(ctx, batch, admitted, now)
}

// bury ends a login that the database refuses, which is a fault of our own: its app is told, and the message is kept.
func (w *Worker) bury(ctx context.Context, l *login, err error) {
	p := otp.AsProblem(err)
	if l.msg != nil {
		if failed := w.Bus.Publish(ctx, outbox.Out(l.refusal(p, w.Now()))); failed != nil {
			l.fail(bus.Retry(bus.Backoff(l.msg.Tries), "the refusal could not be published"), p)
			return
		}
	}
	l.fail(bus.Dead("internal: the database refused it: "+postgres.Constraint(err)), p)
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
				l.request.Fail(requests.AppProblem(err))
				continue
			}
		}
		kept = append(kept, l)
	}
	return kept
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
			requests.Busy("the login could not be stored now; send the request again"))
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

// aftermath is what is stored with the decision: events of superseded challenges, what there is to tell of a stolen device and, for a login that came by
// request and that no stream would bring again, its own event.
func (w *Worker) aftermath(l *login, a postgres.Admitted, now time.Time) (told postgres.Told, err error) {
	for _, r := range a.Raised {
		told.Events = append(told.Events, outbox.Entry(limit.Alarm(l.App, r)))
	}
	if a.Deferred { // it is decided elsewhere; what it has raised stays raised
		return told, nil
	}
	if len(a.Stolen) > 0 {
		theft, err := w.theft(l.App, event.About{User: l.User, Session: l.Session, Login: l.ID}, l.Client, a.Stolen, now)
		if err != nil {
			return told, err
		}
		told.Events, told.Notices, told.Audit = append(told.Events, theft.Events...), theft.Notices, theft.Audit
	}
	for _, s := range a.Superseded {
		who := event.About{User: l.User, Session: s.Session, Login: s.Login, Test: s.Test}
		told.Events = append(told.Events, outbox.Entry(ended(l.App, s.ID, who, otp.Superseded, now)))
	}
	if l.request != nil {
		told.Events = append(told.Events, outbox.Entry(l.outcomeEvent(a)))
		for _, e := range l.testEvents(a) {
			told.Events = append(told.Events, outbox.Entry(e))
		}
	}
	return told, nil
}

// announce publishes what follows from decided logins, and only then lets go of them.
func (w *Worker) announce(ctx context.Context, batch []*login, admitted []postgres.Admitted, now time.Time) {
	before, err := w.before(ctx, admitted)
	if err != nil {
		w.putBack(batch, "database", err)
		return
	}
	var out []bus.Out
	for i, l := range batch {
		out = append(out, w.tell(l, &admitted[i], before, now)...)
	}
	if err := w.Bus.Publish(ctx, out...); err != nil {
		w.putBack(batch, "publishing", err)
		return
	}
	for i, l := range batch {
		w.settle(l, admitted[i])
	}
}

// A past is what is stored of logins that had been decided before.
type past struct {
	challenges map[uuid.UUID]postgres.Challenge
	pending    map[uuid.UUID][]postgres.Overdue  // deliveries without an outcome
	deliveries map[uuid.UUID][]postgres.Delivery // of the challenges that have some
}

// before reads what is stored of repeated logins.
func (w *Worker) before(ctx context.Context, admitted []postgres.Admitted) (p past, err error) {
	var ids []uuid.UUID
	for _, a := range admitted {
		if a.Repeat && a.Outcome == event.OutcomeIssued {
			ids = append(ids, a.ID)
		}
	}
	if len(ids) == 0 {
		return p, nil
	}
	if p.challenges, err = w.store.Details(ctx, ids); err != nil {
		return p, err
	}
	pending, err := w.store.Pending(ctx, ids)
	if err != nil {
		return p, err
	}
	if len(pending) == 0 {
		return p, nil
	}
	if p.deliveries, err = w.store.DeliveriesOf(ctx, ids); err != nil {
		return p, err
	}
	p.pending = make(map[uuid.UUID][]postgres.Overdue, len(pending))
	for _, d := range pending {
		p.pending[d.Challenge] = append(p.pending[d.Challenge], d)
	}
	return p, nil
}

// tell says what is to be published of a decided login. Of a repeat it is told again what was told before, and what has not gone out is ordered again: the
// first telling may have been lost.
func (w *Worker) tell(l *login, a *postgres.Admitted, p past, now time.Time) (out []bus.Out) {
	switch {
	case a.Deferred:
		return nil
	case a.Conflict:
		if l.msg != nil {
			out = append(out, outbox.Out(l.refusal(otp.InvalidField("id", conflictWords), now)))
		}
		return out
	case a.Repeat && a.Outcome == event.OutcomeIssued:
		c := p.challenges[a.ID]
		a.Challenge = fromStored(c)
		for _, d := range p.pending[a.ID] {
			c.Deliveries = upTo(p.deliveries[a.ID], d.Number)
			if len(c.Deliveries) == 0 || c.State != otp.Open || !now.Before(c.ExpiresAt) {
				continue
			}
			if cmd, ok := w.command(l.app, c, c.Deliveries[len(c.Deliveries)-1]); ok {
				out = append(out, commandOut(cmd, ""))
			}
		}
	case a.Outcome == event.OutcomeIssued:
		if cmd, ok := w.firstCommand(l, a); ok {
			out = append(out, commandOut(cmd, ""))
		}
	}
	if l.msg != nil {
		out = append(out, outbox.Out(l.outcomeEvent(*a)))
		for _, e := range l.testEvents(*a) {
			out = append(out, outbox.Out(e))
		}
	}
	return out
}

const conflictWords = "was used before, for a login of another user or session"

func (w *Worker) settle(l *login, a postgres.Admitted) {
	switch {
	case a.Deferred:
		l.fail(bus.Retry(100*time.Millisecond, "the same login is being decided elsewhere"), requests.Busy(requests.TooMany))
		return
	case a.Conflict:
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

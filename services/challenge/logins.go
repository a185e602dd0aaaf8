package challenge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// A login is one login in hand. It came as a message of the stream or as a request, never both.
type login struct {
	event.Login
	app      postgres.App
	received time.Time
	msg      *bus.Msg
	request  *bus.Request

	key, id                 uuid.UUID // of the login, of its challenge
	sealedPhone, sealedMail []byte
}

// handleLogins is the stream's way in: it refuses what is not a login and admits the rest.
func (w *Worker) handleLogins(ctx context.Context, batch []*bus.Msg) {
	logins := make([]*login, 0, len(batch))
	for _, m := range batch {
		if l := w.read(ctx, m); l != nil {
			logins = append(logins, l)
		}
	}
	w.admit(ctx, logins)
}

// read makes a login of a message, or settles the message and returns nil.
func (w *Worker) read(ctx context.Context, m *bus.Msg) *login {
	name, ok := event.AppOf(m.Subject)
	if !ok || m.Subject != event.LoginSubject(name) { // an app can make the server store a message of its own under another subject
		m.Settle(bus.Dead("the subject is no app's login subject: otpost.app.<1 to 64 of a-z, 0-9 and ->.login"))
		return nil
	}
	app, err := w.apps.Get(ctx, name)
	if errors.Is(err, postgres.ErrNoApp) {
		m.Settle(bus.Dead("unknown_app: there is no app " + name))
		return nil
	}
	if err != nil {
		m.Settle(bus.Retry(bus.Backoff(m.Tries), "database"))
		return nil
	}
	parsed, p := event.ParseLogin(name, m.Data, m.Received)
	if p == nil {
		l := &login{Login: parsed, app: app, received: m.Received, msg: m}
		if err = w.identify(l); err == nil {
			return l
		}
		w.Logger.Error("a login could not be prepared", "app", name, "error", err)
		m.Settle(bus.Dead("internal: the login could not be prepared"))
		return nil
	}
	if parsed.User == "" {
		m.Settle(bus.Dead(p.Error()))
		return nil
	}
	err = w.Bus.Publish(ctx, outbox.Out(event.Event{
		App: name, Name: event.ChallengeRefused, ID: fmt.Sprintf("login/%d/%d/refused", m.Received.UnixNano(), m.Sequence), Time: w.Now(),
		Data: event.Refused{User: parsed.User, Session: parsed.Session, Login: parsed.ID, Reason: string(p.Reason), Message: p.Message},
	}))
	if err != nil {
		m.Settle(bus.Retry(bus.Backoff(m.Tries), "the refusal could not be published"))
		return nil
	}
	w.Metrics.Challenges.WithLabelValues(event.OutcomeRefused).Inc()
	m.Settle(bus.Drop("refused: " + p.Message))
	return nil
}

// login is the request's way in.
func (w *Worker) login(r *bus.Request) {
	l, p := event.ParseLoginRequest(r.App, r.Data)
	if p != nil {
		r.Fail(p)
		return
	}
	if !w.logins.Add(&login{Login: l, received: r.At, request: r}) {
		r.Fail(busy())
	}
}

// identify gives a login its key and its challenge's id and seals its addresses.
func (w *Worker) identify(l *login) error {
	digest, err := w.Keys.Index("otpost/login/v1", []byte(l.App), []byte(l.ID))
	if err != nil {
		return err
	}
	if l.Time.IsZero() {
		l.Time = l.received
	}
	copy(l.key[:], digest[:16])
	var rest [32]byte
	copy(rest[:], digest[16:])
	l.id = otp.ChallengeID(l.Time, rest)
	if l.Phone != "" {
		if l.sealedPhone, err = w.Keys.SealDestination(string(otp.SMS), l.App, l.User, delivery.Purpose, l.Phone); err != nil {
			return err
		}
	}
	if l.Mail != "" {
		if l.sealedMail, err = w.Keys.SealDestination(string(otp.Email), l.App, l.User, delivery.Purpose, l.Mail); err != nil {
			return err
		}
	}
	return nil
}

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

// announce publishes commands and events of decided logins and settles them.
func (w *Worker) announce(ctx context.Context, batch []*login, admitted []postgres.Admitted, now time.Time) {
	stored, err := w.repeated(ctx, admitted)
	if err != nil {
		w.putBack(batch, "database", err)
		return
	}
	var out []bus.Out
	for i, l := range batch {
		a := &admitted[i]
		if a.Deferred {
			continue
		}
		c, again := stored[a.ID]
		if a.Repeat && a.Outcome == event.OutcomeIssued && again {
			a.Challenge = fromStored(c)
		}
		if a.Challenge == nil && a.Outcome == event.OutcomeIssued { // its partition was dropped: long over
			continue
		}
		if a.Outcome == event.OutcomeIssued && (!a.Repeat || c.State == otp.Open && now.Before(c.ExpiresAt)) {
			if cmd, ok := firstCommand(l, a); ok {
				out = append(out, commandOut(cmd, ""))
			}
		}
		if l.msg != nil {
			out = append(out, outbox.Out(l.outcomeEvent(*a, now)))
		}
	}
	if err := w.Bus.Publish(ctx, out...); err != nil {
		w.putBack(batch, "publishing", err)
		return
	}
	for i, l := range batch {
		w.settle(l, admitted[i])
	}
}

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

func (w *Worker) settle(l *login, a postgres.Admitted) {
	if a.Deferred {
		l.fail(bus.Retry(100*time.Millisecond, "the same login is being decided elsewhere"), busy())
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

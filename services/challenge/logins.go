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
	"github.com/otpost/otpost/pkg/limit"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/requests"
)

// A login is one login in hand. It came as a message of the stream or as a request, never both.
type login struct {
	event.Login
	app      postgres.App
	received time.Time
	msg      *bus.Msg
	request  *bus.Request

	key, id                 uuid.UUID // of the login, of its challenge
	about                   uuid.UUID // of its user and session
	sealedPhone, sealedMail []byte

	gate    *limit.Gate
	ip      uuid.UUID                        // the key of the client's address; zero for none
	targets map[otp.FactorKind]*limit.Target // the addresses that it could be asked over
	stop    postgres.PrefixStop              // what the guard against pumping did to it

	token *postgres.DeviceToken // of the trusted device that it came from; nil for none
	next  [32]byte              // the secret of the token that follows it, of a login by request
}

// handleLogins is the stream's way in: it admits what is a login and then refuses the rest, so that bad ones delay no good one of their batch.
func (w *Worker) handleLogins(ctx context.Context, batch []*bus.Msg) {
	logins := make([]*login, 0, len(batch))
	var bad []unfit
	for _, m := range batch {
		l, u := w.read(ctx, m)
		if l != nil {
			logins = append(logins, l)
		} else {
			bad = append(bad, u)
		}
	}
	w.admit(ctx, logins)
	w.refuse(ctx, bad)
}

// An unfit message is no login that could be decided.
type unfit struct {
	msg     *bus.Msg
	outcome bus.Outcome
	refusal bus.Out // to be published first, where the user is known; without a subject for none
}

// read makes a login of a message, or says what is to become of it.
func (w *Worker) read(ctx context.Context, m *bus.Msg) (*login, unfit) {
	name, ok := event.AppOf(m.Subject)
	if !ok || m.Subject != event.LoginSubject(name) { // an app can make the server store a message of its own under another subject
		return nil, unfit{msg: m, outcome: bus.Dead("the subject is no app's login subject: otpost.app.<1 to 64 of a-z, 0-9 and ->.login")}
	}
	app, err := w.apps.Get(ctx, name)
	if errors.Is(err, postgres.ErrNoApp) {
		return nil, unfit{msg: m, outcome: bus.Dead("unknown_app: there is no app " + name)}
	}
	if err != nil {
		return nil, unfit{msg: m, outcome: bus.Retry(bus.Backoff(m.Tries), "database")}
	}
	parsed, p := event.ParseLogin(name, m.Data, m.Received)
	if p == nil {
		p = w.unserved(parsed, "data.channel")
	}
	if p == nil {
		l := &login{Login: parsed, app: app, received: m.Received, msg: m}
		if err = w.identify(l); err == nil {
			return l, unfit{}
		}
		w.Logger.Error("a login could not be prepared", "app", name, "error", err)
		return nil, unfit{msg: m, outcome: bus.Dead("internal: the login could not be prepared")}
	}
	if parsed.User == "" {
		return nil, unfit{msg: m, outcome: bus.Dead(p.Error())}
	}
	return nil, unfit{msg: m, outcome: bus.Drop("refused: " + p.Message), refusal: outbox.Out((&login{Login: parsed, msg: m}).refusal(p, w.Now()))}
}

// refuse tells the apps of refused logins, all in one go, and settles what is unfit.
func (w *Worker) refuse(ctx context.Context, bad []unfit) {
	var out []bus.Out
	for _, u := range bad {
		if u.refusal.Subject != "" {
			out = append(out, u.refusal)
		}
	}
	err := w.Bus.Publish(ctx, out...)
	if err != nil {
		w.Logger.Warn("publishing refusals failed, the logins will be refused again", "count", len(out), "error", err)
	}
	for _, u := range bad {
		switch {
		case u.refusal.Subject == "":
		case err != nil:
			u.outcome = bus.Retry(bus.Backoff(u.msg.Tries), "the refusal could not be published")
		default:
			w.Metrics.Challenges.WithLabelValues(event.OutcomeRefused).Inc()
		}
		u.msg.Settle(u.outcome)
	}
}

// refusal is the event of a login that came by the stream and was refused before it was decided. The message's place in the stream makes its id.
func (l *login) refusal(p *otp.Problem, now time.Time) event.Event {
	return event.Event{
		App: l.App, Name: event.ChallengeRefused, ID: fmt.Sprintf("login/%d/%d/refused", l.msg.Received.UnixNano(), l.msg.Sequence), Time: now,
		Data: event.Refused{User: l.User, Session: l.Session, Login: l.ID, Reason: string(p.Reason), Message: p.Message},
	}
}

// login is the request's way in.
func (w *Worker) login(r *bus.Request) {
	l, p := event.ParseLoginRequest(r.App, r.Data)
	if p != nil {
		r.Fail(p)
		return
	}
	if p := w.unserved(l, "channel"); p != nil {
		r.Fail(p)
		return
	}
	if !w.logins.Add(&login{Login: l, received: w.Now(), request: r}) {
		r.Fail(requests.Busy(requests.TooMany))
	}
}

// unserved is the problem of a login that asks for a channel that nobody carries; nil for any other.
func (w *Worker) unserved(l event.Login, field string) *otp.Problem {
	if ch := otp.Channel(l.Channel); ch.Valid() && !w.routes.Serves(ch) {
		return otp.InvalidField(field, unservedWords)
	}
	return nil
}

const unservedWords = "is not one that codes are sent over here: no worker has a provider for it"

// identify gives a login the keyed digests that stand for it and its challenge's id, reads its device's token and seals its addresses.
func (w *Worker) identify(l *login) error {
	digest, err := w.Keys.Index("otpost/login/v1", []byte(l.App), []byte(l.ID))
	if err != nil {
		return err
	}
	if l.Time.IsZero() {
		l.Time = l.received
	}
	who, err := w.Keys.Index("otpost/login-about/v1", []byte(l.App), []byte(l.User), []byte(l.Session))
	if err != nil {
		return err
	}
	copy(l.about[:], who[:16])
	copy(l.key[:], digest[:16])
	var rest [32]byte
	copy(rest[:], digest[16:])
	l.id = otp.ChallengeID(l.Time, rest)
	l.recognise()
	if l.gate = w.gate; l.Client != nil {
		if l.ip, err = w.gate.AddressKey(l.App, l.Client.IP); err != nil {
			return err
		}
	}
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

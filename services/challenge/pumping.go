package challenge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/limit"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/pumping"
)

// This file watches for SMS pumping: every worker notes what it sends to which prefix and keeps to the blocks that it reads, and the sweeper judges.

const (
	judgeEvery = 10 * time.Second // how often the sweeper judges
	liftedFor  = 2 * time.Hour    // a prefix that an operator has lifted is left alone, until what it was blocked for is no longer looked at
)

// decide says what becomes of a login, with what the guard has blocked.
func (w *Worker) decide(l *login, u postgres.UserState, keyID uint32, now time.Time) postgres.Decision {
	u.Blocked = w.watch.Blocked(l.app, now)
	d := l.decide(u, keyID, now)
	l.stop = w.concerns(l, u, d, now)
	return d
}

// concerns tells whether a block has stopped the login's message, or would have, were it not in the shadow.
func (w *Worker) concerns(l *login, u postgres.UserState, d postgres.Decision, now time.Time) (n postgres.PrefixStop) {
	t := l.targets[otp.FactorSMS]
	if !watched(t) {
		return n
	}
	_, stops, ok := w.watch.Of(l.app, t.Phone.Prefix, now)
	switch {
	case !ok:
	case !stops && d.Challenge != nil && d.Challenge.Factor == otp.FactorSMS:
		n.Passed = 1
	case stops && d.Outcome != event.OutcomeSkipped:
		if kind, _ := l.reach(u).choose(l.asked(), l.app.Policy.Channels); kind == otp.FactorSMS {
			n.Stopped = 1
		}
	}
	return n
}

// watched reports whether the guard looks at a target: at phones that are neither listed nor barred by what they are.
func watched(t *limit.Target) bool {
	return t != nil && t.Test == nil && !t.Safe && !t.Barred && t.Phone.Prefix != ""
}

// note notes what became of decided logins. It is called after the commit.
func (w *Worker) note(batch []*login, admitted []postgres.Admitted) {
	for i, a := range admitted {
		l := batch[i]
		if a.Repeat || a.Deferred || a.Conflict || !watched(l.targets[otp.FactorSMS]) {
			continue
		}
		if l.stop != (postgres.PrefixStop{}) {
			w.watch.Stopped(l.app.ID, l.targets[otp.FactorSMS].Phone.Prefix, l.stop)
		}
		if a.Challenge == nil || a.Challenge.Factor != otp.FactorSMS {
			continue
		}
		number := l.vouched(otp.FactorSMS)
		if number == "" {
			var err error
			if number, err = l.gate.Open(l.App, l.User, otp.SMS, a.Challenge.ToSMS); err != nil {
				continue // whoever sends it meets the same
			}
		}
		w.watch.Sent(l.app, number, a.At)
	}
}

// watchSend is what the guard says of a further message of a challenge: false where it may not be sent.
func (w *Worker) watchSend(s send, t *limit.Target) bool {
	return !watched(t) || w.watch.Permits(s.app, t.Phone.Prefix)
}

// watchSent notes further messages of challenges, but for those that were refused.
func (w *Worker) watchSent(now time.Time, sends []send, refused []*otp.Problem) {
	for i, s := range sends {
		if refused[i] != nil || !s.next.Channel.Phone() || s.challenge.Test || len(s.challenge.ToSMS) == 0 {
			continue
		}
		number, err := w.gate.Open(s.app.Name, s.challenge.User, s.next.Channel, s.challenge.ToSMS)
		if err != nil {
			continue
		}
		if _, listed, err := w.gate.Listed(s.app, s.next.Channel, number); err == nil && !listed {
			w.watch.Sent(s.app, number, now)
		}
	}
}

// returned counts codes that came back by their prefix.
func (w *Worker) returned(ctx context.Context) func(tx postgres.Tx, all []postgres.Conversion) error {
	return func(tx postgres.Tx, all []postgres.Conversion) error {
		var out []postgres.PrefixSend
		for _, c := range all {
			app, known := w.apps.Known(c.AppID)
			if !known || !c.By.Channel.Phone() || c.Test || app.Policy.Delivery.Pumping == otp.PumpingOff {
				continue
			}
			number, err := w.gate.Open(app.Name, c.User, c.By.Channel, c.ToSMS)
			if err != nil {
				continue // its key has gone: it is counted by provider all the same
			}
			if send, err := w.watch.Place(app, number, c.By.CreatedAt); err == nil {
				out = append(out, send)
			}
		}
		return w.pumping.Returned(ctx, tx, w.Now(), out)
	}
}

// judgePrefixes blocks what looks pumped. The sweeper calls it, one at a time.
func (w *Worker) judgePrefixes(ctx context.Context) error {
	now := w.Now()
	if now.Sub(w.judgedAt) < judgeEvery {
		return nil
	}
	w.judgedAt = now
	windows, before, err := w.pumping.Windows(ctx, now)
	if err != nil || len(windows) == 0 {
		return err
	}
	blocks, err := w.pumping.Blocks(ctx, postgres.RepeatsSince(now))
	if err != nil {
		return err
	}
	times, lifted := postgres.Repeats(blocks, now)
	active := map[postgres.Prefix]bool{}
	for _, b := range blocks {
		active[b.Prefix] = active[b.Prefix] || b.Active(now)
	}
	var failed error
	for len(windows) > 0 {
		n := 1
		for n < len(windows) && windows[n].AppID == windows[0].AppID {
			n++
		}
		for _, found := range judged(windows[:n], before[windows[0].AppID], active) {
			if now.Sub(lifted[found.Prefix]) >= liftedFor {
				failed = errors.Join(failed, w.raise(ctx, found, times[found.Prefix], now))
			}
		}
		windows = windows[n:]
	}
	return failed
}

// A pumpedPrefix is what the guard has found.
type pumpedPrefix struct {
	postgres.PrefixWindow
	pumping.Verdict
}

// judged says which prefixes of one app look pumped. Those that are blocked already are neither judged nor compared with.
func judged(windows []postgres.PrefixWindow, before pumping.Window, active map[postgres.Prefix]bool) (found []pumpedPrefix) {
	var free []postgres.PrefixWindow
	var all []pumping.Window
	for _, p := range windows {
		if !active[p.Prefix] {
			free, all = append(free, p), append(all, p.Window)
		}
	}
	base := pumping.Compare(all, before)
	for _, p := range free {
		if v := pumping.Judge(p.Window, base.Others(p.Window), pumping.Defaults()); v.Block {
			found = append(found, pumpedPrefix{p, v})
		}
	}
	return found
}

// raise blocks a prefix, or notes that it would be, and tells the app.
func (w *Worker) raise(ctx context.Context, p pumpedPrefix, repeats int, now time.Time) error {
	app, err := w.apps.ByID(ctx, p.AppID)
	if errors.Is(err, postgres.ErrNoApp) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the app of a pumped prefix: %w", err)
	}
	mode := app.Policy.Delivery.Pumping
	if mode == otp.PumpingOff {
		return nil
	}
	b := postgres.PrefixBlock{
		Prefix: p.Prefix, Since: now, Until: now.Add(pumping.Defaults().How(repeats)), Mode: mode, Score: p.Score, Why: p.Why, Window: p.Window,
	}
	e := outbox.Entry(pumpingAlarm(app.Name, b))
	err = w.pumping.Raise(ctx, b, e)
	if errors.Is(err, postgres.ErrBlocked) {
		return nil
	}
	if err != nil {
		return err
	}
	w.Logger.Warn("a prefix looks pumped", "app", app.Name, "prefix", b.Digits, "mode", string(mode), "until", b.Until, "why", b.Why)
	w.outbox.Send([]postgres.OutboxEvent{e})
	return nil
}

// pumpingAlarm is the event of a block: one for each, so that its id names when it began.
func pumpingAlarm(app string, b postgres.PrefixBlock) event.Event {
	words := "messages to numbers of this prefix look pumped: none is sent to them for a while"
	if b.Mode != otp.PumpingBlock {
		words = "messages to numbers of this prefix look pumped: they are still sent, since the app's policy only looks on (pumping shadow)"
	}
	return event.Event{
		App: app, Name: event.AlarmRaised, ID: fmt.Sprintf("%s/%s/%s/%d", event.AlarmPumping, app, b.Digits, b.Since.Unix()), Time: b.Since,
		Data: event.Alarm{Alarm: event.AlarmPumping, Prefix: b.Digits, Until: event.Time(b.Until), Message: words},
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/route"
)

// This file compares the fixed order with the policy conversion, while the primary loses more and more of what it takes. Users answer what reaches them.
//
// Statistics are counted by five minutes, and those of the last five are not believed yet. So that a run ends today, the logins come in rounds, and after
// each round its counts are dated back: to the workers it is as if the rounds were five minutes apart. Nothing else is changed.

// conversionRounds is how many rounds there are; in the first the primary is well.
const conversionRounds = 6

// conversionCodes is the most codes of a round.
const conversionCodes = 500

func conversionScenarios(before int) []*scenario {
	return []*scenario{
		{name: "fixed", title: "primary loses half, fixed order", patience: awaited, number: before + 1, answers: true},
		{name: "learning", title: "primary loses half, by conversion", patience: awaited, number: before + 2, answers: true, policy: route.Conversion},
	}
}

// compare runs both at the same time.
func (f *fleet) compare(t *testing.T, fixed, learning *scenario) []figures {
	both := []*scenario{fixed, learning}
	codes := make([][]*sentCode, len(both))
	for _, sc := range both {
		f.answer(t, sc)
	}
	most := min(f.pace.codes/conversionRounds, conversionCodes)
	for n := range conversionRounds {
		if n == 1 {
			for _, sc := range both {
				f.box.AddFault(inbox.FaultRule{Provider: sc.name + "-primary", Share: 0.5, Fault: inbox.Fault{Lost: true}})
			}
		}
		var done sync.WaitGroup
		for i, sc := range both {
			done.Go(func() {
				some, err := f.send(t.Context(), sc, n*most, (n+1)*most)
				codes[i] = append(codes[i], some...)
				if err == nil {
					err = f.settled(t.Context(), sc)
				}
				if err != nil {
					t.Errorf("%s: %v", sc.name, err)
				}
			})
		}
		done.Wait()
		if n < conversionRounds-1 {
			f.dateBack(t, n)
		}
	}
	r, l := f.figures(t, fixed, codes[0]), f.figures(t, learning, codes[1])
	for _, one := range []figures{r, l} {
		one.arrive(t, 0.999)
		one.never(t, "twice over one provider", one.TwiceOne)
	}
	if l.Messages >= r.Messages || l.Moved >= r.Moved {
		t.Errorf("by conversion %d messages went out and %d deliveries followed another; in fixed order %d and %d", l.Messages, l.Moved, r.Messages, r.Moved)
	}
	return []figures{r, l}
}

// dateBack waits until every answer of a round is counted, makes the counts old enough to be believed, and waits until the worker has read them.
func (f *fleet) dateBack(t *testing.T, round int) {
	t.Helper()
	otposttest.Eventually(t, "verified codes to be counted", func() bool {
		return otposttest.Get[int](t, f.db, `SELECT count(*) FROM conversions`) == 0
	})
	f.db.Exec(t, `WITH gone AS (DELETE FROM delivery_stats WHERE app IN ('fixed', 'learning') AND slot > now() - interval '1 hour' RETURNING *)
		INSERT INTO delivery_stats (slot, app, channel, country, provider, sent, accepted, delivered, failed, late, verified, delivered_ms, cost)
		SELECT date_trunc('hour', now()) - interval '3 hours' + $1 * interval '5 minutes', app, channel, country, provider, sum(sent), sum(accepted), sum(delivered),
			sum(failed), sum(late), sum(verified), sum(delivered_ms), sum(cost)
		FROM gone GROUP BY app, channel, country, provider`, round)
	select { // nothing tells when a worker has read them: it does every 15 s, at the next tick of 2 s
	case <-time.After(18 * time.Second):
	case <-t.Context().Done():
	}
}

// answer lets the users of a scenario answer the first message that reaches them.
func (f *fleet) answer(t *testing.T, sc *scenario) {
	t.Helper()
	var done sync.WaitGroup
	stop, end := context.WithCancel(t.Context())
	prefix := event.EventSubject(sc.name, "")
	sub, err := sc.conn.Subscribe(prefix+">", func(m *nats.Msg) {
		if strings.TrimPrefix(m.Subject, prefix) != string(event.ChallengeIssued) {
			return
		}
		var e struct{ Data event.Issued }
		var n int
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Errorf("%s: an event: %v", sc.name, err)
			return
		}
		if _, err := fmt.Sscanf(e.Data.User, "user-%d", &n); err != nil {
			t.Errorf("%s: the user %q: %v", sc.name, e.Data.User, err)
			return
		}
		c, ok := f.codes.Load(sc.phone(n))
		if !ok {
			t.Errorf("%s: nobody expects a code of %s", sc.name, e.Data.User)
			return
		}
		done.Go(func() { f.typed(stop, t, sc, e.Data, c.(*sentCode)) })
	})
	if err == nil {
		err = sc.conn.Flush()
	}
	if err != nil {
		t.Fatalf("%s: listen to events: %v", sc.name, err)
	}
	t.Cleanup(func() {
		_ = sub.Unsubscribe()
		end()
		done.Wait()
	})
}

// typed is a user who types in the code of the first message.
func (f *fleet) typed(ctx context.Context, t *testing.T, sc *scenario, c event.Issued, code *sentCode) {
	select {
	case <-code.first:
	case <-ctx.Done():
		return
	}
	code.mu.Lock()
	digits := code.arrivals[0].Code()
	code.mu.Unlock()
	body, err := json.Marshal(map[string]any{"challenge": c.Challenge, "session": "session of " + c.User, "code": digits})
	if err != nil {
		t.Error(err)
		return
	}
	m, err := sc.conn.Request(event.RPCSubject(sc.name, event.VerbVerify), body, 10*time.Second)
	if err != nil {
		t.Errorf("%s: verify: %v", sc.name, err)
		return
	}
	var r event.VerifyReply
	if err := json.Unmarshal(m.Data, &r); err != nil || r.Result != "verified" {
		t.Errorf("%s: the first message's code is answered with %q, %v", sc.name, r.Result, err)
	}
}

package challenge

import (
	"errors"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/route"
)

// This file decides what follows a delivery that did not do: the next provider of the route, then the next channel of the app's policy.

// worthwhile is how much of a code's life must be left for it to be sent once more: time to arrive, to be read and to be typed.
const worthwhile = 5 * time.Second

// A way is a next delivery: over which channel and provider, and why it is ordered.
type way struct {
	channel  otp.Channel
	provider string // empty where no provider of the channel is known: its worker takes its own
	cause    string
}

// waysOn returns how a challenge could go on after its last delivery, best first. gone is set where the address itself is at fault, so that no provider of
// the channel could reach it. Nothing goes twice over one provider unless the user asks for it, and no channel is fallen back to twice.
func (w *Worker) waysOn(app postgres.App, c postgres.Challenge, last postgres.Delivery, gone bool) (ways []way) {
	tried := triedSince(c.Deliveries)
	if !gone {
		for _, name := range w.routes.Order(app.ID, last.Channel, last.Country, c.ID) {
			if !slices.Contains(tried[last.Channel], name) {
				ways = append(ways, way{last.Channel, name, postgres.CauseFailover})
			}
		}
	}
	for _, ch := range app.Policy.Delivery.Fallback {
		if _, seen := tried[ch]; seen || ch == last.Channel {
			continue
		}
		if _, _, has := c.Destination(ch); !has || !w.routes.Serves(ch) {
			continue
		}
		name, _ := w.routes.First(app.ID, ch, country(c, ch), c.ID)
		ways = append(ways, way{ch, name, postgres.CauseFallback})
	}
	return ways
}

// country is that of the challenge's address for a channel; empty for a mailbox.
func country(c postgres.Challenge, ch otp.Channel) string {
	if ch.Phone() {
		return c.Country
	}
	return ""
}

// triedSince returns the providers of each channel that the code went over since the user last asked for it.
func triedSince(all []postgres.Delivery) map[otp.Channel][]string {
	tried := map[otp.Channel][]string{}
	for _, d := range slices.Backward(all) {
		tried[d.Channel] = append(tried[d.Channel], d.Provider)
		if d.Cause == postgres.CauseSend {
			break
		}
	}
	return tried
}

// next says what follows failing deliveries: of the ways on, the first that the limits let it go. It is called within the transaction that stores what it
// says, and takes the counters of all ways of all deliveries together.
func (w *Worker) next(now time.Time) postgres.Follow {
	return func(tx postgres.Tx, all []postgres.Failing) ([]postgres.NewDelivery, error) {
		ways := make([][]send, len(all))
		for i, f := range all {
			var err error
			if ways[i], err = w.follows(f, now); err != nil {
				return nil, err
			}
		}
		chosen, err := w.chargeFirst(tx, now, ways)
		if err != nil {
			return nil, err
		}
		out := make([]postgres.NewDelivery, len(all))
		for i, j := range chosen {
			if j >= 0 {
				out[i] = ways[i][j].next
			}
		}
		return out, nil
	}
}

// mostWays is over how many ways a code goes at one asking of the user's. It bounds what one asking costs where nobody tells of deliveries.
const mostWays = 5

// follows lists what could follow a failing delivery, best first.
func (w *Worker) follows(f postgres.Failing, now time.Time) (all []send, err error) {
	app, ok := w.apps.Known(f.Challenge.AppID)
	if !ok { // a moment after the start; to ask for it here would take a second connection inside the transaction
		return nil, errors.New("the app is not known yet")
	}
	gone := 0
	for _, providers := range triedSince(f.Challenge.Deliveries) {
		gone += len(providers)
	}
	if f.Challenge.ExpiresAt.Sub(now) < worthwhile || gone >= mostWays || f.Challenge.LastDelivery >= postgres.MaxDeliveries {
		return nil, nil
	}
	for _, way := range w.waysOn(app, f.Challenge, f.Left, f.Left.Class == event.ClassPermanent) {
		where := country(f.Challenge, way.channel)
		all = append(all, send{app, f.Challenge, postgres.NewDelivery{
			Channel: way.channel, Provider: way.provider, Country: where, Cost: w.routes.Cost(way.channel, way.provider, where), Cause: way.cause,
		}})
	}
	return all, nil
}

// again says by which provider a code goes that the user has asked for once more: the challenge goes on in its order, since the last one may be why it was
// asked for, unless that is known to deliver.
func (w *Worker) again(app postgres.App, c postgres.Challenge, ch otp.Channel) (provider string, cost int64) {
	where := country(c, ch)
	order := w.routes.Order(app.ID, ch, where, c.ID)
	if len(order) == 0 {
		return "", 0
	}
	var tried []string
	pick := ""
	for _, d := range c.Deliveries {
		if d.Channel != ch {
			continue
		}
		tried = append(tried, d.Provider)
		if d.State == otp.DeliveryDelivered && slices.Contains(order, d.Provider) {
			pick = d.Provider
		}
	}
	if pick == "" {
		pick, _ = route.Next(order, tried)
	}
	if pick == "" && len(tried) > 0 { // all were tried: the one after the last
		i := slices.Index(order, tried[len(tried)-1])
		pick = order[(i+1)%len(order)]
	}
	if pick == "" {
		pick = order[0]
	}
	return pick, w.routes.Cost(ch, pick, where)
}

// due says until when a delivery that a provider has taken is waited for: for ever where nothing could follow it in time.
func (w *Worker) due(now time.Time) func(postgres.Recorded) time.Time {
	return func(r postgres.Recorded) time.Time {
		patience := w.routes.Patience(r.AppID, r.Channel, r.Country, r.Provider)
		if patience == 0 {
			return time.Time{}
		}
		at := now.Add(patience)
		if r.ExpiresAt.Sub(at) < worthwhile {
			return time.Time{}
		}
		return at
	}
}

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/bus"
)

const (
	// explainPatience bounds looking for the cause of a failure.
	explainPatience = 3 * time.Second
	maxShownLetters = 5
)

// explain writes what an operator would look at after a failure: the challenge's status, what waits in the streams, and the dead letters.
// After Ctrl-C there is nothing to explain.
func (d *demo) explain(ctx context.Context, challenge string) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainPatience)
	defer cancel()
	d.status(ctx, challenge)
	var waiting []string
	for _, stream := range []string{bus.StreamLogins, bus.StreamWork, bus.StreamReceipts} {
		info, err := d.s.operator.JetStream().Stream(ctx, stream)
		if err != nil {
			waiting = append(waiting, stream+": "+oneLine(err))
			continue
		}
		waiting = append(waiting, fmt.Sprintf("%s %d", strings.TrimPrefix(stream, "OTPOST_"), info.CachedInfo().State.Msgs))
	}
	d.out.detail("waiting", strings.Join(waiting, ", "))

	letters, total, err := d.s.operator.DeadLetters(ctx, 0, maxShownLetters)
	switch {
	case err != nil:
		d.out.detail("dead letters", oneLine(err))
	case total == 0:
		d.out.detail("dead letters", "none")
	default:
		d.out.detail("dead letters", fmt.Sprintf("%d; otpost dead shows them", total))
		for _, l := range letters {
			d.out.detail("", fmt.Sprintf("#%d %s after %d tries: %s", l.ID, l.Subject, l.Tries, l.Reason))
		}
	}
}

// status writes where the challenge stands, as the app is told it.
func (d *demo) status(ctx context.Context, challenge string) {
	if challenge == "" {
		d.out.detail("status", "no challenge is known")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, explainPatience/3) // the workers may be what is missing
	defer cancel()
	text, err := d.app.request(ctx, "status", map[string]string{"challenge": challenge})
	if err != nil {
		d.out.detail("status", oneLine(err))
		return
	}
	var s struct {
		State        string `json:"state"`
		Reason       string `json:"reason"`
		AttemptsLeft int    `json:"attempts_left"`
		Deliveries   []struct {
			Attempt  int    `json:"attempt"`
			Channel  string `json:"channel"`
			Provider string `json:"provider"`
			State    string `json:"state"`
			Reason   string `json:"reason"`
		} `json:"deliveries"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		d.out.detail("status", oneLine(err))
		return
	}
	d.out.detail("challenge", challenge)
	d.out.detail("status", strings.TrimRight(fmt.Sprintf("%s, %d attempts left %s", s.State, s.AttemptsLeft, s.Reason), " "))
	for _, v := range s.Deliveries {
		d.out.detail("delivery", strings.Join(strings.Fields(fmt.Sprintf("#%d by %s: %s %s %s", v.Attempt, v.Channel, v.State, v.Provider, v.Reason)), " "))
	}
}

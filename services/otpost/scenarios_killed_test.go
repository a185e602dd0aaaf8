package main

import (
	"context"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file is the one scenario in which nothing is wrong with a provider: the worker that speaks to it is killed, and started again as a supervisor would.

// A killed scenario has a system of its own, because its worker of phones is a process of its own.
type killed struct {
	*fleet
	scenario  *scenario
	providers string

	process *process // the one that runs
}

func newKilled(t *testing.T, p pace, number int) *killed {
	t.Helper()
	// Every second number has receipts: what is told of them settles what the dead worker did not live to record. Of the others nobody ever knows.
	k := &killed{scenario: &scenario{name: "killed", title: "worker killed, half without receipts", abroad: true, number: number}}
	answer := time.Second // how long the provider takes to answer, so that some messages are in flight whenever the worker dies
	if !p.strict {
		answer = 3 * time.Second
		k.scenario.life = 5 * time.Minute
	}
	k.scenario.faults = func(n func(string) string) []inbox.FaultRule {
		return []inbox.FaultRule{
			{Provider: n("primary"), To: "+49*", Fault: inbox.Fault{Delay: answer}}, {Provider: n("primary"), Fault: inbox.Fault{Delay: answer, Outcome: "none"}},
		}
	}
	k.scenario.during = func(context.Context, *fleet, *scenario) {
		if k.inFlight(p.of(k.scenario) / 2) {
			k.process.kill()
			k.launchWorker()
		}
	}
	k.fleet = newFleet(t, []string{k.scenario.name})
	k.pace = p
	k.start([]*scenario{k.scenario}, func(file string) {
		k.providers = file
		k.launchWorker()
		otposttest.Eventually(t, "the worker of phones is ready", func() bool { return k.ready(k.process) })
	})
	return k
}

// inFlight waits until the provider is being told of a code that nobody will tell anything of, one of users from a number on.
func (k *killed) inFlight(from int) bool {
	ctx, stop := context.WithTimeout(k.t.Context(), 3*time.Minute)
	defer stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var found bool
		err := k.db.SQL(otposttest.Owner).QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM deliveries d JOIN challenges c ON c.id = d.challenge_id
			WHERE d.state = 'sending' AND substr(c.user_id, 6)::int >= $1 AND substr(c.user_id, 6)::int % 2 = 0)`, from).Scan(&found)
		if err == nil && found {
			return true
		}
		if err == nil {
			select {
			case <-tick.C:
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		k.t.Errorf("%s: wait for a message in flight: %v", k.scenario.name, err)
		return false
	}
}

// launchWorker starts the worker's process.
func (k *killed) launchWorker() {
	exe, err := os.Executable()
	if err != nil {
		k.t.Error(err)
		return
	}
	k.process = k.launch(exe, append(os.Environ(), asCommand+"=1", "OTPOST_NATS_PASSWORD="+k.nats.Password(bus.RoleSMS),
		"OTPOST_DATABASE_URL="+k.db.URL(string(bus.RoleSMS))), string(bus.RoleSMS), "--nats-url", k.nats.URL(), "--keys", k.keys, "--providers", k.providers)
}

var unsure = regexp.MustCompile(`(?m)^otpost_deliveries_unsure_total\{.*\} (\d+)`)

// play runs the scenario. Nothing may be lost; what was in flight may go out once more and no more often, and is counted.
func (k *killed) play(t *testing.T) figures {
	r := k.fleet.play(t, k.scenario)
	_, page := k.process.page("/metrics")
	for _, m := range unsure.FindAllStringSubmatch(page, -1) {
		n, _ := strconv.Atoi(m[1])
		r.Unsure += n
	}
	r.arrive(t, 1)
	if r.Unsure == 0 || r.TwiceOne > r.Unsure {
		t.Errorf("%s: %d messages went out twice, and the metric counts %d", r.Scenario, r.TwiceOne, r.Unsure)
	}
	if most := k.mostOften(); most > 2 {
		t.Errorf("%s: a code went out %d times over one provider", r.Scenario, most)
	}
	return r
}

// mostOften is how often the code that one provider brought most often came.
func (k *killed) mostOften() (most int) {
	k.codes.Range(func(_, v any) bool {
		c := v.(*sentCode)
		c.mu.Lock()
		defer c.mu.Unlock()
		times := map[string]int{}
		for _, m := range c.arrivals {
			times[m.Provider]++
			most = max(most, times[m.Provider])
		}
		return true
	})
	return most
}

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/route"
)

// A scenario is what goes wrong with providers while logins come in at a steady rate.
type scenario struct {
	name, title string
	patience    time.Duration // the routes' receipt time-out
	life        time.Duration // of codes; a minute where it is 0
	policy      route.Policy  // route.Fixed where it is empty
	steady      bool          // nothing in it rests on the receipt time-out
	long        bool          // its point is in the course of time: not in short runs
	whole       bool          // its point is in the few or in the course of time, so it takes all the codes of a long run, of which half do elsewhere
	third       bool          // Vonage is on the route as well
	told        bool          // every message has its receipt in the end
	abroad      bool          // every second number is German
	answers     bool          // users type in what they get
	deaf        string        // the kind of provider whose messages reach nobody, though the inbox shows them
	fallback    []otp.Channel

	faults func(name func(kind string) string) []inbox.FaultRule // in force from the start, the first asked first
	during func(ctx context.Context, f *fleet, sc *scenario)     // what changes while logins come in
	check  func(t *testing.T, r figures)

	number int // from 1; the addresses of its users begin with it
	app    int
	conn   *nats.Conn
	js     jetstream.JetStream
}

// A pace is how many codes a scenario has and how fast they come.
type pace struct {
	codes  int           // at most: see of
	rate   float64       // logins a second, each scenario
	flap   time.Duration // how long the flapping primary is up, and how long down
	strict bool          // one scenario after another, and nothing beside them: bounds of time hold to the second
}

// of is how many codes a scenario has.
func (p pace) of(sc *scenario) int {
	if p.strict && !sc.whole {
		return max(p.codes/2, 1)
	}
	return p.codes
}

const (
	awaited = route.MinTimeout
	grace   = 3 * time.Second // what a code may take beyond the receipt time-out in a long run, where nothing else burdens the machine
)

// scenarios are the stories; some are in long runs only. The first provider of every route is the one that something befalls.
func scenarios(long bool) []*scenario {
	all := []*scenario{
		{
			name: "well", title: "all is well", patience: awaited, steady: true, told: true,
			check: func(t *testing.T, r figures) {
				r.arrive(t, 1)
				r.once(t)
				if r.strict && (r.Messages != r.Codes || r.Told != r.Codes) {
					t.Errorf("%s: %d messages, of which %d are said to be delivered, for %d codes", r.Scenario, r.Messages, r.Told, r.Codes)
				}
			},
		},
		{
			name: "down", title: "primary answers 503", patience: awaited, steady: true, third: true,
			faults: func(n func(string) string) []inbox.FaultRule {
				return []inbox.FaultRule{{Provider: n("primary"), Fault: inbox.Fault{Status: 503}}}
			},
			check: func(t *testing.T, r figures) {
				r.arrive(t, 0.999)
				r.once(t)
			},
		},
		{
			name: "cut", title: "primary closes connections", patience: awaited,
			faults: func(n func(string) string) []inbox.FaultRule {
				return []inbox.FaultRule{{Provider: n("primary"), Fault: inbox.Fault{Drop: true}}}
			},
			check: func(t *testing.T, r figures) {
				r.arrive(t, 0.999)
				r.never(t, "twice over one provider", r.TwiceOne)
			},
		},
		{
			name: "slow", title: "primary takes it, answers after 8 s", patience: awaited, long: true,
			faults: func(n func(string) string) []inbox.FaultRule {
				return []inbox.FaultRule{{Provider: n("primary"), Fault: inbox.Fault{Delay: 8 * time.Second}}}
			},
			check: func(t *testing.T, r figures) {
				r.arrive(t, 0.999)
				r.never(t, "twice over one provider", r.TwiceOne)
			},
		},
		{
			name: "silent", title: "primary accepts, never delivers", patience: awaited, whole: true,
			faults: func(n func(string) string) []inbox.FaultRule {
				return []inbox.FaultRule{{Provider: n("primary"), Fault: inbox.Fault{Lost: true}}}
			},
			check: func(t *testing.T, r figures) {
				const within = awaited + grace
				if in := r.within(within); r.strict && float64(in) < 0.999*float64(r.Codes) {
					t.Errorf("%s: %d of %d codes arrived within %s", r.Scenario, in, r.Codes, within)
				}
				r.arrive(t, 0.999)
				r.once(t)
			},
		},
		{
			name: "flapping", title: "primary up, refusing, up, losing", patience: awaited, whole: true, long: true, during: flap,
			check: func(t *testing.T, r figures) {
				r.arrive(t, 0.999)
				r.never(t, "twice over one provider", r.TwiceOne)
			},
		},
		{
			name: "country", title: "primary rejects a country (half)", patience: awaited, steady: true, abroad: true,
			faults: func(n func(string) string) []inbox.FaultRule {
				return []inbox.FaultRule{{Provider: n("primary"), To: "+49*", Fault: inbox.Fault{Status: 400, Code: "21408"}}}
			},
			check: func(t *testing.T, r figures) {
				r.arrive(t, 0.999)
				r.once(t)
				if r.strict && r.Moved < r.Codes/2 { // the breaker must not rest for what is a country's fault
					t.Errorf("%s: %d deliveries followed another, of %d codes", r.Scenario, r.Moved, r.Codes)
				}
			},
		},
		{
			name: "dead", title: "dead numbers (all), then email", patience: awaited, steady: true, fallback: []otp.Channel{otp.Email}, deaf: "primary",
			faults: func(n func(string) string) []inbox.FaultRule {
				return []inbox.FaultRule{
					{Provider: n("primary"), Share: 0.5, Fault: inbox.Fault{Status: 400, Code: "21614"}},
					{Provider: n("primary"), Fault: inbox.Fault{Outcome: "undelivered", OutcomeCode: "30005"}},
				}
			},
			check: func(t *testing.T, r figures) {
				r.arrive(t, 0.999)
				if n := r.seen["backup"].Accepted + r.seen["backup"].Refused; r.strict && n > 0 {
					t.Errorf("%s: %d messages went to the backup, though the number itself is at fault", r.Scenario, n)
				}
				if r.strict && int(r.seen["relay"].Accepted) != r.Codes {
					t.Errorf("%s: %d mails for %d codes", r.Scenario, r.seen["relay"].Accepted, r.Codes)
				}
			},
		},
		{
			name: "both", title: "SMS down, calls half, then email", patience: awaited, fallback: []otp.Channel{otp.Voice, otp.Email},
			faults: func(n func(string) string) []inbox.FaultRule {
				return []inbox.FaultRule{
					{Provider: n("primary"), Fault: inbox.Fault{Status: 503}},
					{Provider: n("backup"), Fault: inbox.Fault{Status: 500}},
					{Provider: n("voice"), Share: 0.5, Fault: inbox.Fault{Lost: true}},
				}
			},
			check: func(t *testing.T, r figures) {
				r.arrive(t, 0.999)
				r.once(t)
				if r.seen["voice"].Accepted == 0 || r.seen["relay"].Accepted == 0 {
					t.Errorf("%s: %d calls, %d mails", r.Scenario, r.seen["voice"].Accepted, r.seen["relay"].Accepted)
				}
			},
		},
		{
			name: "receipts", title: "receipts repeated, reversed, late", patience: awaited, long: true, told: true,
			faults: func(n func(string) string) []inbox.FaultRule {
				return []inbox.FaultRule{
					{Provider: n("primary"), Share: 0.1, Fault: inbox.Fault{ReceiptDelay: awaited + 3*time.Second, Repeat: 1}},
					{Provider: n("primary"), Fault: inbox.Fault{Repeat: 2, Reversed: true}},
				}
			},
			check: func(t *testing.T, r figures) {
				r.arrive(t, 1)
				r.never(t, "twice over one provider", r.TwiceOne)
				if r.Moved == 0 || r.Late == 0 || r.Late > r.Moved*3 {
					t.Errorf("%s: %d deliveries were followed for want of a receipt, and %d late receipts are on record", r.Scenario, r.Moved, r.Late)
				}
				if r.Told != r.Messages { // each in the end, repeated and reversed or not
					t.Errorf("%s: %d of %d messages are said to be delivered", r.Scenario, r.Told, r.Messages)
				}
			},
		},
		{
			name: "outage", title: "all SMS down for 70 s, codes live 60 s", patience: awaited, long: true, during: outage,
			check: func(t *testing.T, r figures) {
				r.once(t)
				r.never(t, "sent after the code's end", r.Expired)
				if r.Arrived == 0 || r.Arrived == r.Codes {
					t.Errorf("%s: %d of %d codes arrived", r.Scenario, r.Arrived, r.Codes)
				}
			},
		},
	}
	if !long {
		all = slices.DeleteFunc(all, func(sc *scenario) bool { return sc.long })
	}
	for i, sc := range all {
		sc.number = i + 1
	}
	return all
}

// flap lets the primary work, refuse, work and lose what it takes, in turn, for as long as logins come in.
func flap(ctx context.Context, f *fleet, sc *scenario) {
	tick := time.NewTicker(f.pace.flap)
	defer tick.Stop()
	name := sc.name + "-primary"
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f.box.AddFault(inbox.FaultRule{Provider: name, Fault: []inbox.Fault{{}, {Status: 503}, {}, {Lost: true}}[i%4]})
	}
}

// outage takes both providers away for longer than a code lives. What has expired by the end of it must stay unsent.
func outage(_ context.Context, f *fleet, sc *scenario) {
	set := func(fault inbox.Fault) {
		for _, kind := range []string{"primary", "backup"} {
			f.box.AddFault(inbox.FaultRule{Provider: sc.name + "-" + kind, Fault: fault})
		}
	}
	set(inbox.Fault{Status: 503})
	select { // also when the last login has come
	case <-time.After(70 * time.Second):
	case <-f.t.Context().Done():
	}
	set(inbox.Fault{})
}

// Whatever befalls the providers, codes arrive, in time, and not twice over one of them.
//
// OTPOST_SCENARIOS names a folder that the figures of a long run are written to (make scenarios, docs/scenarios.md), in which one scenario follows the other;
// OTPOST_SCENARIOS_CODES and OTPOST_SCENARIOS_RATE are how many codes each has (see pace) and how many logins a second.
//
// Without a folder the run is a short one: few codes, all scenarios at the same time, each with an app and providers of its own, and none whose point is in the
// course of time. It asserts what holds however slow the machine is: all codes arrive, none after its end, and none twice over one provider.
func TestScenarios(t *testing.T) {
	t.Parallel()
	p := pace{codes: 20, rate: 4}
	folder := os.Getenv("OTPOST_SCENARIOS")
	if folder != "" {
		p = pace{codes: envNumber(t, "OTPOST_SCENARIOS_CODES", 10_000), rate: float64(envNumber(t, "OTPOST_SCENARIOS_RATE", 100)), strict: true}
		p.flap = 10 * time.Second
	}
	all := scenarios(folder != "")
	if folder != "" {
		all = append(all, conversionScenarios(len(all))...)
	}
	var apps []string
	for _, sc := range all {
		apps = append(apps, sc.name)
		if p.strict {
			continue
		}
		// The other tests run at the same time, on as little as two cores: slow must pass neither for expired nor for lost.
		sc.life = 5 * time.Minute
		if sc.steady {
			sc.patience *= 4
		}
	}
	f := newFleet(t, apps)
	f.pace = p
	f.start(all, nil)
	killed := newKilled(t, p, len(all)+1)

	var rows []figures
	if folder != "" {
		for _, sc := range all {
			if !sc.answers {
				rows = append(rows, f.play(t, sc))
			}
		}
		rows = append(append(rows, killed.play(t)), f.compare(t, all[len(all)-2], all[len(all)-1])...)
	} else {
		var mu sync.Mutex
		var done sync.WaitGroup
		for _, sc := range all {
			done.Go(func() {
				r := f.play(t, sc)
				mu.Lock()
				defer mu.Unlock()
				rows = append(rows, r)
			})
		}
		row := killed.play(t)
		done.Wait()
		slices.SortFunc(rows, func(a, b figures) int { return a.number - b.number })
		rows = append(rows, row)
	}
	report(t, folder, p, rows)
}

func envNumber(t *testing.T, name string, fallback int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 10_000 {
		t.Fatalf("%s: must be 1 to 10000, not %q", name, text)
	}
	return n
}

// play runs a scenario and checks its figures. It may run beside others, and fails the test without ending it.
func (f *fleet) play(t *testing.T, sc *scenario) figures {
	name := func(kind string) string { return sc.name + "-" + kind }
	if sc.faults != nil {
		for _, rule := range slices.Backward(sc.faults(name)) { // the newest is asked first
			f.box.AddFault(rule)
		}
	}
	during, over := context.WithCancel(t.Context())
	var beside sync.WaitGroup
	if sc.during != nil {
		beside.Go(func() { sc.during(during, f, sc) })
	}
	codes, err := f.send(t.Context(), sc, 0, f.pace.of(sc))
	over()
	beside.Wait()
	if err == nil {
		err = f.settled(t.Context(), sc)
	}
	if err != nil {
		t.Errorf("%s: %v", sc.name, err)
	}
	r := f.figures(t, sc, codes)
	if f.pace.strict { // the table comes last
		t.Logf("%s: %d of %d codes arrived, p99 %.2f s", sc.title, r.Arrived, r.Codes, r.P99)
	}
	if sc.check != nil && err == nil {
		sc.check(t, r)
	}
	return r
}

// phone is the number of a scenario's i-th user, up to 10,000 of them.
func (sc *scenario) phone(i int) string {
	if sc.abroad && i%2 == 1 {
		return fmt.Sprintf("+49151%02d%06d", sc.number, i)
	}
	return fmt.Sprintf("+14153%02d%04d", sc.number, i)
}

func (sc *scenario) mailbox(i int) string { return fmt.Sprintf("u%d@s%02d.example", i, sc.number) }

// send publishes logins of users from to to-1, each at its time whether or not the ones before have been dealt with, and returns their codes.
func (f *fleet) send(ctx context.Context, sc *scenario, from, to int) ([]*sentCode, error) {
	began := time.Now()
	var codes []*sentCode
	for i := from; i < to; i++ {
		c := &sentCode{due: began.Add(time.Duration(float64(i-from) / f.pace.rate * float64(time.Second))), first: make(chan struct{})}
		codes = append(codes, c)
		address := map[string]any{"sms": sc.phone(i)}
		f.codes.Store(sc.phone(i), c)
		if len(sc.fallback) > 0 {
			address["email"] = sc.mailbox(i)
			f.codes.Store(sc.mailbox(i), c)
		}
		select { // the pace of the users, who wait for nobody
		case <-time.After(time.Until(c.due)):
		case <-ctx.Done():
			return codes, ctx.Err()
		}
		body := f.login(fmt.Sprint("login-", i), fmt.Sprint("user-", i), time.Now(), map[string]any{"to": address})
		if _, err := sc.js.PublishAsync(event.LoginSubject(sc.name), body); err != nil {
			return codes, fmt.Errorf("publish a login: %w", err)
		}
	}
	select {
	case <-sc.js.PublishAsyncComplete():
		return codes, nil
	case <-time.After(time.Minute):
		return codes, fmt.Errorf("the stream has not taken all logins within a minute")
	}
}

package challenge

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/limit"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
)

// This file is the simulation of abuse: honest users and several who are not, over the real path of a decision (limits, the guard against pumping, the
// account's budget, a real Postgres) and a clock of its own. make simulate runs a whole day of it and writes docs/abuse.md's tables and chart.

// Who sends logins.
type actor int

const (
	honest     actor = iota
	sequential       // pumps numbers one after another, of one operator's range in a country that is allowed
	scattered        // pumps numbers at random, of a prefix that honest users have too
	abroad           // pumps numbers of a country that is not allowed
	bomber           // floods one honest user's phone, from everywhere
	guesser          // knows a password and guesses codes
	actors
)

var actorNames = [actors]string{"honest users", "pumper, numbers in sequence", "pumper, scattered numbers", "pumper abroad", "bomber", "guesser"}

// guards are what stops a message, as the tables name them.
var guards = []string{"geo", "user", "destination", "ip", "prefix", "app", limit.ScopeSpend, "pumping", "budget"}

// costs are millionths of a currency for a message.
var costs = map[string]int64{"CZ": 60_000, "DE": 80_000, "US": 8_000, "GB": 40_000, "LV": 70_000, "": 120_000}

// A phase is when somebody is at it, in minutes of the simulation, and how many logins a minute they send.
type phase struct{ from, to, rate int }

// A plan is what is simulated.
type plan struct {
	begin   time.Duration // into the day
	minutes int
	users   int
	phases  [actors]phase
}

var (
	// briefly is what every run of the tests simulates.
	briefly = plan{begin: 8 * time.Hour, minutes: 200, users: 10_000, phases: [actors]phase{
		sequential: {40, 200, 20}, scattered: {110, 200, 6}, abroad: {40, 60, 10}, bomber: {30, 170, 4}, guesser: {30, 130, 3},
	}}
	// wholeDay is what make simulate does.
	wholeDay = plan{minutes: 24 * 60, users: 10_000, phases: [actors]phase{
		sequential: {2 * 60, 16 * 60, 20}, scattered: {11 * 60, 17 * 60, 6}, abroad: {5 * 60, 9 * 60, 10}, bomber: {18 * 60, 22 * 60, 4},
		guesser: {13 * 60, 19 * 60, 3},
	}}
)

const (
	pumpedRange  = "+371271" // of the pumper with numbers in sequence
	pumpedAmong  = "+44745"  // of the one with scattered numbers
	binMinutes   = 15        // of the chart
	loginsPerDay = 1.5       // of an honest user
)

// A tally is what became of the logins of one actor.
type tally struct {
	attempts, passed int
	stopped          map[string]int
	spent, saved     int64 // millionths
	after            int   // attempts after the actor's prefix was first blocked
	afterStopped     int
}

// A simulation is one run.
type simulation struct {
	*testing.T
	plan
	worker        *Worker
	verifications *postgres.Verifications
	db            *otposttest.DB
	clock         *otposttest.Clock
	app           postgres.App
	luck          *rand.Rand

	people  []person
	next    int // number of the pumper
	serial  int // of events
	answers map[int][]answer
	tallies [actors]tally
	bins    [][binKinds]int
	blocked map[string]time.Time // when each prefix was first blocked
	began   time.Time
	victim  int // messages that reached the bomber's victim
	guesses int // codes of the guesser that were compared
}

func TestAbuseIsStopped(t *testing.T) {
	p, whole := briefly, os.Getenv("OTPOST_SIMULATE") != ""
	if whole {
		p = wholeDay
	} else {
		t.Parallel()
	}
	s := newSimulation(t, p)
	for minute := range p.minutes {
		s.step(minute)
	}
	t.Logf("\n%s", s.table())
	for _, a := range []actor{sequential, scattered} {
		if n := s.tallies[a]; n.after == 0 || float64(n.afterStopped) < 0.95*float64(n.after) {
			t.Errorf("%s: of %d logins after the prefix was found %d were stopped", actorNames[a], n.after, n.afterStopped)
		}
	}
	if n := s.tallies[abroad]; n.passed > 0 {
		t.Errorf("%d messages went to a country that is not allowed", n.passed)
	}
	if most := s.app.Policy.Delivery.Limits.Destination.Day; s.victim > most {
		t.Errorf("the bomber's victim got %d messages, more than %d", s.victim, most)
	}
	h := s.tallies[honest]
	if refused := h.attempts - h.passed; float64(refused) > 0.005*float64(h.attempts) {
		t.Errorf("of %d logins of honest users %d were refused: %v", h.attempts, refused, h.stopped)
	}
	for prefix := range s.blocked {
		if prefix != pumpedRange && prefix != pumpedAmong {
			t.Errorf("%s is blocked, and nobody pumps it", prefix)
		}
	}
	if s.guesses > otp.MaxFailures {
		t.Errorf("%d codes of the guesser were compared", s.guesses)
	}
	if whole {
		s.write()
	}
}

func newSimulation(t *testing.T, p plan) *simulation {
	t.Helper()
	db := otposttest.Postgres(t)
	clock := otposttest.NewClock()
	clock.Set(clock.Now().Truncate(24 * time.Hour).Add(p.begin))
	w, err := New(Config{
		DB: db.Role("challenge"), Keys: otposttest.Ring(t, keyring.Challenge), Metrics: telemetry.NewMetrics(prometheus.NewRegistry()),
		Logger: otposttest.Logger(t).Logger, Now: clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	err = postgres.NewRoutes(db.Role("sms")).Register(t.Context(), clock.Now(), []postgres.ProviderRow{
		{Channel: otp.SMS, Name: "sim", Kind: "webhook", Costs: costs},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &simulation{
		T: t, plan: p, worker: w, verifications: postgres.NewVerifications(db.Role("verification")), db: db, clock: clock, luck: rand.New(rand.NewPCG(11, 5)),
		answers: map[int][]answer{}, blocked: map[string]time.Time{}, began: clock.Now(), bins: make([][binKinds]int, (p.minutes+binMinutes-1)/binMinutes),
	}
	for i := range s.tallies {
		s.tallies[i].stopped = map[string]int{}
	}
	s.app = db.App(t, "shop", func(a *postgres.App) {
		a.Policy.Delivery.Countries = []string{"CZ", "DE", "US", "GB", "LV"}
		a.Policy.Delivery.Pumping, a.Policy.Delivery.Limits = otp.PumpingBlock, otp.DefaultLimits()
		a.Policy.Delivery.SpendCaps = map[string]int64{"": 500_000_000, "LV": 100_000_000}
	})
	if err := w.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.apps.ByID(t.Context(), s.app.ID); err != nil {
		t.Fatal(err)
	}
	s.populate()
	return s
}

// step is one minute: logins come and are decided together, codes are typed, the guard counts and judges.
func (s *simulation) step(minute int) {
	now := s.clock.Advance(time.Minute)
	var batch []*login
	var who []actor
	for a := range actors {
		for range s.logins(a, minute, now) {
			who, batch = append(who, a), append(batch, s.login(a, now))
		}
	}
	s.luck.Shuffle(len(batch), func(i, j int) { batch[i], batch[j], who[i], who[j] = batch[j], batch[i], who[j], who[i] })
	s.admit(minute, now, batch, who)
	s.typeCodes(minute, now)
	w, ctx := s.worker, s.Context()
	w.watch.Flush(ctx)
	for _, err := range []error{w.convert(ctx), w.judgePrefixes(ctx), w.watch.Load(ctx)} {
		if err != nil {
			s.Fatal(err)
		}
	}
	if minute%5 != 0 {
		return
	}
	blocks, err := w.pumping.Blocks(ctx, now)
	if err != nil {
		s.Fatal(err)
	}
	for _, b := range blocks {
		if _, known := s.blocked[b.Digits]; !known {
			s.blocked[b.Digits] = b.Since
			s.Logf("%s after %s: %s", b.Digits, b.Since.Sub(s.began), b.Why)
		}
	}
}

// admit decides logins as the worker does, and tallies what stopped which.
func (s *simulation) admit(minute int, now time.Time, batch []*login, who []actor) {
	if len(batch) == 0 {
		return
	}
	w := s.worker
	keyID, err := w.Keys.CodeKeyID()
	if err != nil {
		s.Fatal(err)
	}
	ask := make([]postgres.Admission, len(batch))
	for i, l := range batch {
		ask[i] = postgres.Admission{Account: postgres.Account{AppID: l.app.ID, User: l.User}, Key: l.key, About: l.about, Challenge: l.id}
		ask[i].Limits = func(u postgres.UserState) []postgres.Limit { return l.limits(u, now) }
	}
	stoppedBy := make([]string, len(batch))
	admitted, _, err := w.store.Admit(s.Context(), now, ask, func(i int, u postgres.UserState) postgres.Decision {
		d := w.decide(batch[i], u, keyID, now)
		stoppedBy[i] = guardOf(batch[i], u, d, now)
		return d
	}, func(i int, a postgres.Admitted) (postgres.Told, error) { return w.aftermath(batch[i], a, now) })
	if err != nil {
		s.Fatal(err)
	}
	w.note(batch, admitted)
	s.db.Exec(s.T, "UPDATE deliveries SET state = 'accepted', accepted_at = $1 WHERE state = 'queued'", now)
	for i, a := range admitted {
		s.count(minute, now, who[i], batch[i], a, stoppedBy[i])
	}
}

// guardOf names what has stopped a login; empty for one that passed.
func guardOf(l *login, u postgres.UserState, d postgres.Decision, now time.Time) string {
	if d.Challenge != nil {
		return ""
	}
	if _, early := l.early(u, now); early {
		return "budget"
	}
	switch t := l.targets[otp.FactorSMS]; {
	case t.Barred:
		return "geo"
	case l.stop.Stopped > 0:
		return "pumping"
	default:
		return u.Ledger.Judge(t.Limits).Limit.Scope
	}
}

func (s *simulation) count(minute int, now time.Time, who actor, l *login, a postgres.Admitted, guard string) {
	t, bin := &s.tallies[who], &s.bins[minute/binMinutes]
	t.attempts++
	place := otp.LocatePhone(l.Phone)
	cost, known := costs[place.Country]
	if !known {
		cost = costs[""]
	}
	found, is := s.blocked[place.Prefix]
	after := is && now.After(found)
	if after {
		t.after++
	}
	if a.Challenge == nil {
		t.stopped[guard]++
		t.saved += cost
		bin[binOf(who, true)]++
		if after {
			t.afterStopped++
		}
		return
	}
	t.passed++
	t.spent += cost
	bin[binOf(who, false)]++
	if l.Phone == s.people[0].phone {
		s.victim++
	}
	s.answer(minute, who, l)
}

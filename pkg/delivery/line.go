package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/telemetry"
)

// LineOptions bound what a provider gets. The zero value bounds the time of a hand-over only.
type LineOptions struct {
	Rate        float64        // messages a second, 0.01–10000; 0: as many as come
	Burst       int            // messages at once after a quiet time, 1–100000, with Rate only; when 0, twice the Rate and at least 1
	Concurrency int            // hand-overs at once, up to 4096; 0: as many as come
	Timeout     time.Duration  // of one hand-over, 100 ms – 1 min; 10 s when 0
	Breaker     BreakerOptions // when to let the provider rest

	Channel otp.Channel        // for the metrics
	Metrics *telemetry.Metrics // nil: nothing is counted
	Logger  *slog.Logger       // told when the provider rests and when it is back; nil discards
	Now     func() time.Time   // the clock of messages' lives and of Rate; time.Now when nil
}

// BreakerOptions say when a provider counts as failing and how long it then rests.
type BreakerOptions struct {
	Failures int           // failures in a row, up to 1000; 0: it never rests
	Open     time.Duration // 1 s – 1 h; 30 s when 0
}

// A BreakerState says whether a provider is being sent messages.
type BreakerState int

const (
	// BreakerClosed: messages go to the provider.
	BreakerClosed BreakerState = iota
	// BreakerHalfOpen: one message tries whether the provider works again; the others go elsewhere.
	BreakerHalfOpen
	// BreakerOpen: the provider rests.
	BreakerOpen
)

const (
	mostPatience = time.Second     // a code that waits for longer is late, and another provider may be free
	shortestLife = time.Second     // with less to live nobody can use a code
	probeRetry   = 2 * time.Second // when to come again while another message tries the provider
	slotRetry    = time.Second
)

// Codes of the errors that are the Line's own: the provider was not asked.
const (
	CodeRate    = "rate"
	CodeBreaker = "breaker"
)

// A Line is a Provider within bounds: so many messages a second, so many at once, for so long, and none while it fails.
//
// A message that would have to wait for its turn for more than a second, or a tenth of its life, is refused as Transient, so that another provider may take
// it. Ambiguous, Transient and Configuration errors in a row make the provider rest; after that one message alone tries it. Permanent and Rejected errors
// are answers of a provider that works. It is safe for concurrent use and starts no goroutine.
type Line struct {
	provider Provider
	options  LineOptions
	limiter  *rate.Limiter                              // nil: no rate
	slots    chan struct{}                              // nil: any number at once
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}] // nil: none
	wakes    atomic.Int64                               // when the rest ends, in nanoseconds since 1970
	withheld func(reason string)                        // counts what was not handed over
}

var _ Provider = (*Line)(nil)

// What the breaker is told of a hand-over; nil where the provider works.
var (
	errFailing  = errors.New("the provider is failing")
	errNoMatter = errors.New("it says nothing of the provider")
)

// NewLine checks the options, each within the bounds that its comment names. The error begins with the option's name.
func NewLine(p Provider, o LineOptions) (*Line, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	l := &Line{provider: p, options: o, withheld: func(string) {}}
	if o.Rate > 0 {
		l.limiter = rate.NewLimiter(rate.Limit(o.Rate), o.Burst)
	}
	if o.Concurrency > 0 {
		l.slots = make(chan struct{}, o.Concurrency)
	}
	tell := func(BreakerState) {}
	if m := o.Metrics; m != nil {
		l.withheld = func(reason string) { m.ProviderWithheld.WithLabelValues(string(o.Channel), p.Name(), reason).Inc() }
		tell = func(s BreakerState) { m.ProviderBreaker.WithLabelValues(string(o.Channel), p.Name()).Set(float64(s)) }
	}
	if o.Breaker.Failures > 0 {
		tell(BreakerClosed)
		l.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			MaxRequests: 1, Timeout: o.Breaker.Open,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return int(c.ConsecutiveFailures) >= o.Breaker.Failures },
			IsSuccessful: func(err error) bool { return err == nil },
			IsExcluded:   func(err error) bool { return errors.Is(err, errNoMatter) },
			OnStateChange: func(_ string, _, to gobreaker.State) { // one at a time, in order
				l.turned(BreakerState(to))
				tell(BreakerState(to))
			},
		})
	}
	return l, nil
}

func (o *LineOptions) complete() error {
	if o.Rate != 0 {
		orDefault(&o.Burst, max(int(math.Ceil(min(2*o.Rate, 1e5))), 1))
	}
	orDefault(&o.Timeout, 10*time.Second)
	if o.Breaker.Failures > 0 {
		orDefault(&o.Breaker.Open, 30*time.Second)
	}
	switch b := o.Breaker; {
	case o.Rate != 0 && !(o.Rate >= 0.01 && o.Rate <= 10_000):
		return fmt.Errorf("Rate: must be 0.01 to 10000 messages a second, or 0 for any number, not %v", o.Rate)
	case o.Rate == 0 && o.Burst != 0:
		return errors.New("Burst: needs a Rate")
	case o.Rate != 0 && (o.Burst < 1 || o.Burst > 100_000):
		return fmt.Errorf("Burst: must be 1 to 100000 messages, not %d", o.Burst)
	case o.Concurrency < 0 || o.Concurrency > 4096:
		return fmt.Errorf("Concurrency: must be 1 to 4096, or 0 for any number, not %d", o.Concurrency)
	case o.Timeout < 100*time.Millisecond || o.Timeout > time.Minute:
		return fmt.Errorf("Timeout: must be 100ms to 1m, not %s", o.Timeout)
	case b.Failures < 0 || b.Failures > 1000:
		return fmt.Errorf("Failures: must be 1 to 1000, or 0 for no breaker, not %d", b.Failures)
	case b.Failures == 0 && b.Open != 0:
		return errors.New("Open: needs Failures")
	case b.Failures > 0 && (b.Open < time.Second || b.Open > time.Hour):
		return fmt.Errorf("Open: must be 1s to 1h, not %s", b.Open)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Name is the provider's.
func (l *Line) Name() string { return l.provider.Name() }

// Options returns what bounds the provider, with the defaults filled in.
func (l *Line) Options() LineOptions { return l.options }

// Longest is how long a Send takes at most: its wait for a turn and the hand-over.
func (l *Line) Longest() time.Duration { return mostPatience + l.options.Timeout }

// State says whether the provider is being sent messages.
func (l *Line) State() BreakerState {
	if l.breaker == nil {
		return BreakerClosed
	}
	return BreakerState(l.breaker.State())
}

// Send hands the message to the provider when its turn comes. Beside the provider's own errors it has two, both Transient and with RetryAfter: CodeRate for
// a turn that does not come soon enough, CodeBreaker while the provider rests. What is about to expire is Rejected, unsent.
func (l *Line) Send(ctx context.Context, m *Message) (Accepted, error) {
	now, patience := l.options.Now(), mostPatience
	if !m.ExpiresAt.IsZero() {
		life := m.ExpiresAt.Sub(now)
		if life < shortestLife {
			return Accepted{}, &Error{Class: Rejected, Reason: "the code is about to expire"}
		}
		patience = min(patience, life/10)
	}
	if l.State() == BreakerOpen { // before it takes a turn from a message that can be sent
		return Accepted{}, l.resting()
	}
	left, err := l.turn(ctx, now, patience)
	if err != nil {
		return Accepted{}, err
	}
	if err := l.slot(ctx, left); err != nil {
		return Accepted{}, err
	}
	defer l.free()
	return l.hand(ctx, m)
}

// turn waits for the rate to allow one more message, and returns what is left of the patience. A message that would have to wait for longer takes no turn
// from others.
func (l *Line) turn(ctx context.Context, now time.Time, patience time.Duration) (time.Duration, error) {
	if l.limiter == nil {
		return patience, nil
	}
	r := l.limiter.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return patience, nil
	}
	if wait > patience {
		r.CancelAt(now)
		return 0, l.refuse(CodeRate, "more messages than the provider's rate", wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return patience - wait, nil
	case <-ctx.Done():
		r.CancelAt(l.options.Now())
		return 0, &Error{Class: Transient, Code: CodeRate, Reason: "stopped while it waited for the provider's rate", Err: ctx.Err()}
	}
}

// slot waits for one of the provider's slots. Turns come before slots: where slots are short there are turns to spare.
func (l *Line) slot(ctx context.Context, patience time.Duration) error {
	if l.slots == nil {
		return nil
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return l.refuse(CodeRate, "the provider has as many messages in hand as it may", slotRetry)
	case <-ctx.Done():
		return &Error{Class: Transient, Code: CodeRate, Reason: "stopped while it waited for the provider", Err: ctx.Err()}
	}
}

func (l *Line) free() {
	if l.slots != nil {
		<-l.slots
	}
}

// hand hands the message over where the breaker lets it, and tells the breaker what became of it, of a panic too.
func (l *Line) hand(ctx context.Context, m *Message) (Accepted, error) {
	tell := func(error) {}
	if l.breaker != nil {
		var err error
		tell, err = l.breaker.Allow()
		if errors.Is(err, gobreaker.ErrTooManyRequests) {
			return Accepted{}, l.refuse(CodeBreaker, "the provider has failed and is being tried", probeRetry)
		}
		if err != nil {
			return Accepted{}, l.resting()
		}
	}
	verdict := errFailing
	defer func() { tell(verdict) }()
	hurried := false // the caller leaves it too little time to be at fault
	if end, ok := ctx.Deadline(); ok {
		hurried = time.Until(end) < l.options.Timeout/2
	}
	within, cancel := context.WithTimeout(ctx, l.options.Timeout)
	defer cancel()
	a, err := l.provider.Send(within, m)
	verdict = judge(err)
	if verdict != nil && ctx.Err() != nil && (hurried || errors.Is(ctx.Err(), context.Canceled)) {
		verdict = errNoMatter
	}
	return a, err
}

// judge says what an error tells of the provider.
func judge(err error) error {
	if err == nil {
		return nil
	}
	switch AsError(err).Class {
	case Permanent, Rejected:
		return nil
	default:
		return errFailing
	}
}

// turned notes that the breaker has a new state.
func (l *Line) turned(s BreakerState) {
	switch s {
	case BreakerOpen:
		l.wakes.Store(time.Now().Add(l.options.Breaker.Open).UnixNano())
		l.options.Logger.Warn("a provider fails and rests", "channel", string(l.options.Channel), "provider", l.Name(), "for", l.options.Breaker.Open.String())
	case BreakerClosed:
		l.options.Logger.Info("a provider works again", "channel", string(l.options.Channel), "provider", l.Name())
	case BreakerHalfOpen:
	}
}

// resting is the error of a message that comes while the provider rests.
func (l *Line) resting() *Error {
	left := time.Until(time.Unix(0, l.wakes.Load()))
	return l.refuse(CodeBreaker, "the provider is failing and rests", min(max(left, time.Millisecond), l.options.Breaker.Open))
}

func (l *Line) refuse(code, reason string, after time.Duration) *Error {
	l.withheld(code)
	return &Error{Class: Transient, Code: code, Reason: reason, RetryAfter: after}
}

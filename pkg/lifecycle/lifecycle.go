// Package lifecycle starts the parts of a process, keeps them until it is told to stop, and stops them in the opposite order.
//
// A part is started after the parts that it needs, and told to stop, and waited for, before any of them is. SIGINT or SIGTERM, the end
// of the caller's context, or the failure of a part begins the drain; a second signal ends the process at once. The drain has a
// deadline, after which the process ends in spite of what hangs and says what it was. Nothing here makes stopping safe: a process may
// be killed at any instant, and what it promised must hold all the same.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// DefaultDrain is how long a drain may take: less than the 30 s that Kubernetes gives by default between SIGTERM and SIGKILL.
const DefaultDrain = 25 * time.Second

// lastChance is given to all remaining parts together once the drain's deadline has passed, so that what one hung part holds up (a child
// process, say) is still told to stop.
const lastChance = 2 * time.Second

// exitInterrupted is the exit status after a second signal: 128 + SIGINT, as shells report it.
const exitInterrupted = 130

// A Component is a part of a process. Each function may be nil.
type Component struct {
	// Name names the part in logs and errors.
	Name string

	// Start returns once the part is fit for the parts after it. Its context serves for starting only: it ends when the drain begins.
	Start func(ctx context.Context) error

	// Run does the part's work until ctx ends, then finishes what is in hand and returns nil or the context's error. A return before
	// ctx ends is a failure, with an error or without: a worker that has quietly stopped is not a working one.
	Run func(ctx context.Context) error

	// Stop gives back what Start took. It is called after Run has returned, and only if Start succeeded.
	Stop func(ctx context.Context) error
}

// A Config says how a process drains. The zero value is usable.
type Config struct {
	Drain  time.Duration // how long a drain may take; DefaultDrain if not positive
	Logger *slog.Logger  // slog.Default if nil
	Health *Health       // told when the drain begins, so that no more work is routed here; may be nil

	signals chan os.Signal // stands in for the process's signals in tests
	exit    func(code int) // stands in for os.Exit in tests
}

// A HungError names the parts that had not stopped when the drain's deadline passed. They may still be running.
type HungError struct {
	Components []string
	After      time.Duration
}

func (e *HungError) Error() string {
	return fmt.Sprintf("not stopped %s after the drain began: %s", e.After, strings.Join(e.Components, ", "))
}

// ErrStopped is the failure of a part that returned nil without having been told to stop.
var ErrStopped = errors.New("stopped without being told to")

// Run starts the components in order, waits, and drains. It returns nil after a drain that was asked for (by signal or by the end of
// ctx) and in which every part stopped without error. Otherwise it returns the first failure, joined with those of the drain, a
// [HungError] among them if the deadline passed.
func Run(ctx context.Context, cfg Config, components ...Component) error {
	p := newProcess(cfg)
	return p.run(ctx, components)
}

// A process is one Run.
type process struct {
	Config
	failed chan error // what parts return before they were told to stop

	mu       sync.Mutex
	started  []*running
	starting string // the part whose Start is under way
}

// running is a component that was started.
type running struct {
	Component
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned
	err    error         // what Run returned; readable once done is closed
}

func newProcess(cfg Config) *process {
	if cfg.Drain <= 0 {
		cfg.Drain = DefaultDrain
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.exit == nil {
		cfg.exit = os.Exit
	}
	return &process{Config: cfg, failed: make(chan error, 1)}
}

func (p *process) run(ctx context.Context, components []Component) error {
	stopSignals := p.catchSignals()
	defer stopSignals()
	starting, stopStarting := context.WithCancel(ctx)
	defer stopStarting()

	// A signal must be heard while a Start is under way, so the parts are started beside this goroutine.
	up := make(chan error, 1)
	go func() { up <- p.start(starting, components) }()

	var first error
	reason, isUp := "", false
	for reason == "" {
		select {
		case err := <-up:
			up, isUp = nil, true
			if err != nil {
				first, reason = err, "start failed"
			} else {
				p.Logger.Info("up", "components", len(components))
			}
		case s := <-p.signals:
			reason = s.String()
		case <-ctx.Done():
			reason = context.Cause(ctx).Error()
		case err := <-p.failed:
			first, reason = err, "component failed"
		}
	}
	p.Logger.Info("draining", "reason", reason, "deadline", p.Drain)
	if p.Health != nil {
		p.Health.Set("process", errors.New("draining"))
	}
	drained := make(chan error, 1)
	go func() {
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.Drain)
		defer cancel()
		stopStarting()
		if !isUp {
			select {
			case <-up: // its error, if any, is that of having been told to stop
			case <-deadline.Done():
				p.mu.Lock()
				name, below := p.starting, slices.Clone(p.started)
				p.mu.Unlock()
				drained <- p.abandon(name, up, below)
				return
			}
		}
		drained <- p.drain(deadline)
	}()
	select {
	case err := <-drained:
		err = errors.Join(first, p.lateFailure(), err)
		p.Logger.Info("drained", "clean", err == nil)
		return err
	case s := <-p.signals:
		p.Logger.Warn("second signal: ending at once", "signal", s.String())
		p.exit(exitInterrupted)
		return errors.Join(first, fmt.Errorf("ended at once by a second signal (%s)", s)) // only if exit returns, in tests
	}
}

// catchSignals directs SIGINT and SIGTERM to p.signals until the returned function is called.
func (p *process) catchSignals() (stop func()) {
	if p.signals != nil {
		return func() {}
	}
	p.signals = make(chan os.Signal, 2) // two, so that the second is not lost while the first is acted on
	signal.Notify(p.signals, os.Interrupt, syscall.SIGTERM)
	return func() { signal.Stop(p.signals) }
}

// start starts the components one after another and leaves their Run functions running.
func (p *process) start(ctx context.Context, components []Component) error {
	for _, c := range components {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		p.mu.Lock()
		p.starting = c.Name
		p.mu.Unlock()
		if c.Start != nil {
			if err := c.Start(ctx); err != nil {
				return fmt.Errorf("starting %s: %w", c.Name, err)
			}
		}
		// The part's own context outlives the caller's: it ends when it is this part's turn to stop.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := &running{Component: c, cancel: cancel, done: make(chan struct{})}
		p.mu.Lock()
		p.started = append(p.started, r)
		p.mu.Unlock()
		if c.Run == nil {
			close(r.done)
			continue
		}
		go p.watch(own, r)
	}
	return nil
}

// watch runs a part and reports its end if it was not told to stop.
func (p *process) watch(ctx context.Context, r *running) {
	defer close(r.done)
	err := r.Run(ctx)
	if ctx.Err() != nil {
		if err != nil && !errors.Is(err, context.Canceled) {
			r.err = fmt.Errorf("%s: %w", r.Name, err)
		}
		return
	}
	if err == nil {
		err = ErrStopped
	}
	select {
	case p.failed <- fmt.Errorf("%s: %w", r.Name, err):
	default: // another part failed first
		r.err = fmt.Errorf("%s: %w", r.Name, err)
	}
}

// lateFailure returns the failure of a part that ended of itself once the drain had begun and before its turn had come.
func (p *process) lateFailure() error {
	select {
	case err := <-p.failed:
		return err
	default:
		return nil
	}
}

// drain stops the started parts, the last first. Past the deadline it stops waiting for each: it tells the rest as well, gives them a
// last chance together, and names those that did not stop.
func (p *process) drain(ctx context.Context) error {
	var errs []error
	for i := len(p.started) - 1; i >= 0; i-- {
		r := p.started[i]
		stopped := make(chan error, 1)
		go func() { stopped <- r.stop(ctx) }()
		select {
		case err := <-stopped:
			p.Logger.Debug("stopped", "component", r.Name)
			errs = append(errs, err)
		case <-ctx.Done():
			errs = append(errs, p.abandon(r.Name, stopped, p.started[:i]))
			return errors.Join(errs...)
		}
	}
	return errors.Join(errs...)
}

// abandon tells the parts below a hung one to stop, waits a last moment for all of them, and names those that have not.
func (p *process) abandon(name string, stopped <-chan error, below []*running) error {
	ctx, cancel := context.WithTimeout(context.Background(), lastChance)
	defer cancel()
	type waiting struct {
		name    string
		stopped <-chan error
		over    bool
		err     error
	}
	waits := []*waiting{{name: name, stopped: stopped}}
	for i := len(below) - 1; i >= 0; i-- {
		r, done := below[i], make(chan error, 1)
		go func() { done <- r.stop(ctx) }()
		waits = append(waits, &waiting{name: r.Name, stopped: done})
	}
	for _, wait := range waits { // until all have stopped or the last chance is over
		select {
		case err := <-wait.stopped:
			wait.over, wait.err = true, err
		case <-ctx.Done():
		}
	}
	var errs []error
	hung := &HungError{After: p.Drain}
	for i, wait := range waits {
		if !wait.over {
			select { // it may have stopped while another was waited for
			case wait.err = <-wait.stopped:
				wait.over = true
			default:
			}
		}
		if i == 0 || !wait.over {
			hung.Components = append(hung.Components, wait.name)
		}
		errs = append(errs, wait.err)
	}
	return errors.Join(append(errs, hung)...)
}

// stop tells one part to stop and waits until it has.
func (r *running) stop(ctx context.Context) error {
	r.cancel()
	<-r.done
	err := r.err
	if r.Stop != nil {
		if stopErr := r.Stop(ctx); stopErr != nil {
			err = errors.Join(err, fmt.Errorf("stopping %s: %w", r.Name, stopErr))
		}
	}
	return err
}

package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A journal records what happens in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) want(t *testing.T, lines ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.lines, lines) {
		t.Errorf("happened:\n %s\nwant:\n %s", strings.Join(j.lines, "\n "), strings.Join(lines, "\n "))
	}
}

// component records its starts and stops.
func (j *journal) component(name string) Component {
	return Component{
		Name:  name,
		Start: func(context.Context) error { j.add("start " + name); return nil },
		Run: func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second) // work in hand; the bubble's clock makes it free
			j.add("end " + name)
			return ctx.Err()
		},
		Stop: func(context.Context) error { j.add("stop " + name); return nil },
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// begin runs the components in the background of a bubble.
func begin(ctx context.Context, cfg Config, components ...Component) (result chan error, signals chan os.Signal) {
	result, signals = make(chan error, 1), make(chan os.Signal, 2)
	cfg.signals = signals
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	go func() { result <- Run(ctx, cfg, components...) }()
	return result, signals
}

func TestDrainStopsInReverse(t *testing.T) {
	for name, stop := range map[string]func(cancel context.CancelFunc, signals chan os.Signal){
		"by signal":  func(_ context.CancelFunc, s chan os.Signal) { s <- syscall.SIGTERM },
		"by context": func(cancel context.CancelFunc, _ chan os.Signal) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				j, health := &journal{}, NewHealth()
				result, signals := begin(ctx, Config{Health: health}, j.component("postgres"), j.component("nats"), j.component("worker"))
				synctest.Wait()
				j.want(t, "start postgres", "start nats", "start worker")
				if !health.Ready() {
					t.Error("not ready while running")
				}
				stop(cancel, signals)
				synctest.Wait()
				if health.Ready() {
					t.Error("ready while draining")
				}
				if err := <-result; err != nil {
					t.Errorf("clean drain: %v", err)
				}
				j.want(t, "start postgres", "start nats", "start worker",
					"end worker", "stop worker", "end nats", "stop nats", "end postgres", "stop postgres")
			})
		})
	}
}

func TestRealSignal(t *testing.T) {
	up := make(chan struct{})
	c := Component{Name: "worker", Run: func(ctx context.Context) error { close(up); <-ctx.Done(); return nil }}
	result := make(chan error, 1)
	go func() { result <- Run(t.Context(), Config{Logger: quiet()}, c) }()
	<-up // signals are caught before anything is started
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-result:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("SIGTERM did not end Run")
	}
}

func TestFailureDrainsTheRest(t *testing.T) {
	boom := errors.New("boom")
	tests := map[string]struct {
		run  func(context.Context) error
		want error
	}{
		"error":        {func(context.Context) error { return boom }, boom},
		"silent":       {func(context.Context) error { return nil }, ErrStopped},
		"own cancel":   {func(context.Context) error { return context.Canceled }, context.Canceled},
		"after a time": {func(context.Context) error { time.Sleep(time.Hour); return boom }, boom},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &journal{}
				result, _ := begin(t.Context(), Config{}, j.component("nats"), Component{Name: "worker", Run: tt.run})
				err := <-result
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "worker: ") {
					t.Errorf("Run = %v, want worker: %v", err, tt.want)
				}
				j.want(t, "start nats", "end nats", "stop nats")
			})
		})
	}
}

func TestFailedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		refused := errors.New("refused")
		broken := Component{
			Name:  "postgres",
			Start: func(context.Context) error { return refused },
			Stop:  func(context.Context) error { j.add("stopped what never started"); return nil },
		}
		result, _ := begin(t.Context(), Config{}, j.component("nats"), broken, j.component("worker"))
		if err := <-result; !errors.Is(err, refused) || !strings.Contains(err.Error(), "starting postgres") {
			t.Errorf("Run = %v", err)
		}
		j.want(t, "start nats", "end nats", "stop nats")
	})
}

func TestSignalWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		waiting := Component{Name: "postgres", Start: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		result, signals := begin(t.Context(), Config{}, j.component("nats"), waiting, j.component("worker"))
		synctest.Wait()
		signals <- os.Interrupt
		if err := <-result; err != nil {
			t.Errorf("Run = %v, want a clean drain", err)
		}
		j.want(t, "start nats", "end nats", "stop nats")
	})
}

func TestFailureDuringDrainIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost, stuck := errors.New("lost"), errors.New("stuck")
		nats := Component{Name: "nats", Run: func(context.Context) error { time.Sleep(2 * time.Second); return lost }} // ends of itself
		worker := Component{
			Name: "worker",
			Run:  func(ctx context.Context) error { <-ctx.Done(); time.Sleep(3 * time.Second); return nil },
			Stop: func(context.Context) error { return stuck },
		}
		result, signals := begin(t.Context(), Config{}, nats, worker)
		synctest.Wait()
		signals <- syscall.SIGTERM
		if err := <-result; !errors.Is(err, lost) || !errors.Is(err, stuck) {
			t.Errorf("Run = %v, want both failures", err)
		}
	})
}

func TestDrainDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		j := &journal{}
		hung := Component{Name: "worker", Run: func(context.Context) error { <-release; return nil }}
		began := time.Now()
		result, signals := begin(t.Context(), Config{Drain: 10 * time.Second}, j.component("postgres"), hung, j.component("http"))
		synctest.Wait()
		signals <- syscall.SIGTERM
		err := <-result
		var he *HungError
		if !errors.As(err, &he) || !slices.Equal(he.Components, []string{"worker"}) {
			t.Errorf("Run = %v, want worker named as hung", err)
		}
		if took := time.Since(began); took != 10*time.Second+lastChance {
			t.Errorf("took %s", took)
		}
		// What the hung part stands on was told to stop all the same.
		j.want(t, "start postgres", "start http", "end http", "stop http", "end postgres", "stop postgres")
		close(release)
	})
}

func TestDrainDeadlineWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		j := &journal{}
		deaf := Component{Name: "postgres", Start: func(context.Context) error { <-release; return nil }}
		result, signals := begin(t.Context(), Config{Drain: time.Second}, j.component("nats"), deaf)
		synctest.Wait()
		signals <- syscall.SIGTERM
		var he *HungError
		if err := <-result; !errors.As(err, &he) || !slices.Equal(he.Components, []string{"postgres"}) {
			t.Errorf("Run = %v, want postgres named as hung", err)
		}
		j.want(t, "start nats", "end nats", "stop nats")
		close(release)
	})
}

func TestSecondSignalExitsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, codes := make(chan struct{}), make(chan int, 1)
		hung := Component{Name: "worker", Run: func(context.Context) error { <-release; return nil }}
		began := time.Now()
		result, signals := begin(t.Context(), Config{exit: func(code int) { codes <- code }}, hung)
		synctest.Wait()
		signals <- os.Interrupt
		synctest.Wait()
		signals <- os.Interrupt
		if code := <-codes; code != 130 {
			t.Errorf("exit %d, want 130", code)
		}
		if err := <-result; err == nil {
			t.Error("no error")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %s", took)
		}
		close(release)
	})
}

func TestBackoff(t *testing.T) {
	refused := errors.New("connection refused")
	t.Run("until success", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			began, tries := time.Now(), 0
			var last time.Time
			err := Backoff(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), "connecting to NATS", func(context.Context) error {
				if pause := time.Since(last); tries > 0 && (pause < 50*time.Millisecond || pause > 7500*time.Millisecond) {
					t.Errorf("pause of %s before try %d", pause, tries+1)
				}
				last = time.Now()
				tries++
				if time.Since(began) < 80*time.Second { // the third line comes after 60 to 75 s, a fourth not before 90
					return refused
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			// The first failure, one after each 30 s, the success.
			if len(lines) != 4 || !strings.Contains(lines[0], "tries=1") || !strings.Contains(lines[3], "connecting to NATS succeeded") {
				t.Errorf("%d tries logged as:\n%s", tries, log.String())
			}
			if tries < 15 || tries > 40 {
				t.Errorf("%d tries in 80 s", tries)
			}
		})
	})
	t.Run("first try is quiet", func(t *testing.T) {
		var log bytes.Buffer
		err := Backoff(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), "x", func(context.Context) error { return nil })
		if err != nil || log.Len() > 0 {
			t.Errorf("%v, logged %q", err, log.String())
		}
	})
	t.Run("until the context ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := Backoff(ctx, quiet(), "connecting", func(context.Context) error { return refused })
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, refused) || !strings.HasPrefix(err.Error(), "connecting: ") {
				t.Errorf("Backoff = %v", err)
			}
		})
	})
	t.Run("permanent", func(t *testing.T) {
		tries := 0
		err := Backoff(t.Context(), quiet(), "connecting", func(context.Context) error { tries++; return Permanent(refused) })
		if !errors.Is(err, refused) || tries != 1 || err.Error() != "connecting: connection refused" {
			t.Errorf("Backoff = %v after %d tries", err, tries)
		}
		if Permanent(nil) != nil {
			t.Error("Permanent(nil) is an error")
		}
	})
}

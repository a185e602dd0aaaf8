package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// The pace of retries: the first after 100 ms, each later one after twice the time up to 5 s, every pause half shorter or longer at
// random so that processes that lost the same server do not come back in step.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	repeatLog    = 30 * time.Second
)

// Backoff calls fn until it succeeds, fails for good (see [Permanent]) or ctx ends. It logs the first failure, then at most one each
// 30 s, and the success after failures; what says what is tried, for instance "connecting to NATS". The error names what, and holds
// both the reason for giving up and fn's last failure.
func Backoff(ctx context.Context, log *slog.Logger, what string, fn func(ctx context.Context) error) error {
	var last error
	var logged time.Time
	began, tries := time.Now(), 0
	attempt := func() (struct{}, error) {
		tries++
		last = fn(ctx)
		return struct{}{}, last
	}
	notify := func(err error, pause time.Duration) {
		if now := time.Now(); logged.IsZero() || now.Sub(logged) >= repeatLog {
			logged = now
			log.Warn(what+" failed, trying again", "error", err, "tries", tries, "pause", pause.Round(time.Millisecond))
		}
	}
	pace := backoff.NewExponentialBackOff()
	pace.InitialInterval, pace.Multiplier, pace.MaxInterval = firstPause, 2, longestPause
	_, err := backoff.Retry(ctx, attempt, backoff.WithBackOff(pace), backoff.WithMaxElapsedTime(0), backoff.WithNotify(notify))
	switch {
	case err == nil:
		if tries > 1 {
			log.Info(what+" succeeded", "tries", tries, "took", time.Since(began).Round(time.Millisecond))
		}
		return nil
	case errors.Is(last, err):
		return fmt.Errorf("%s: %w", what, err)
	default: // ctx ended
		return fmt.Errorf("%s: %w (last failure: %w)", what, err, last)
	}
}

// Permanent marks a failure that trying again cannot mend, such as a wrong password, so that [Backoff] returns it at once.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return backoff.Permanent(err)
}

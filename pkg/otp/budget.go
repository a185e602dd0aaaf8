package otp

import "time"

// The account budget bounds guessing over all of a user's challenges, factors and resends (NIST SP 800-63B-4, section 3.2.2: at most
// 100 consecutive failures).
const (
	FreeFailures = 4                // consecutive failures that bring no wait
	FirstWait    = 30 * time.Second // after the next one; doubled by each further one
	MaxWait      = time.Hour
	MaxFailures  = 100 // consecutive failures at which the account is locked
)

// A Budget is what an account has left.
type Budget struct {
	Failures  int       // consecutive failures, over all challenges and factors
	WaitUntil time.Time // no answer is taken before; zero for no wait
	Locked    bool      // no answer is taken until an operator unlocks the account
}

// Wait returns how long answers are refused at now: zero when one may be taken. It does not tell of a lock.
func (b Budget) Wait(now time.Time) time.Duration { return max(0, b.WaitUntil.Sub(now)) }

// Fail returns the budget after one more failure at now.
func (b Budget) Fail(now time.Time) Budget {
	b.Failures++
	if b.Failures > FreeFailures {
		b.WaitUntil = now.Add(failureWait(b.Failures))
	}
	b.Locked = b.Locked || b.Failures >= MaxFailures
	return b
}

// Succeed returns the budget after a right answer: failures no longer are consecutive.
func (b Budget) Succeed() Budget { return Budget{Locked: b.Locked} }

func failureWait(failures int) time.Duration {
	wait := FirstWait
	for range failures - FreeFailures - 1 {
		if wait *= 2; wait >= MaxWait {
			return MaxWait
		}
	}
	return wait
}

package shop

import (
	"sync"
	"time"
)

// limits slow down who guesses passwords: by account, whoever guesses, and by address, whatever account. A right password gives its try back.
type limits struct {
	account, address *limiter
}

func newLimits(now func() time.Time) limits {
	return limits{
		account: &limiter{burst: 10, refill: 30 * time.Second, now: now, all: map[string]bucket{}},
		address: &limiter{burst: 100, refill: 2 * time.Second, now: now, all: map[string]bucket{}},
	}
}

// take takes a try before the password is looked at, so that tries at once do not all find one left. wait is how long to wait where there is none.
func (l limits) take(account, address string) (wait time.Duration) {
	if wait = l.account.take(account); wait == 0 {
		if wait = l.address.take(address); wait > 0 {
			l.account.give(account)
		}
	}
	return wait
}

func (l limits) give(account, address string) {
	l.account.give(account)
	l.address.give(address)
}

// A limiter has a bucket of tries for each key, which fill up again with time.
type limiter struct {
	burst  int
	refill time.Duration // for one
	now    func() time.Time

	mu  sync.Mutex
	all map[string]bucket
}

// A bucket is how many tries were used at a time.
type bucket struct {
	used float64
	at   time.Time
}

const maxBuckets = 20_000

func (l *limiter) take(key string) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.state(key)
	if free := float64(l.burst) - b.used; free < 1 {
		return time.Duration((1-free)*float64(l.refill)).Round(time.Second).Abs() + time.Second
	}
	b.used++
	if _, known := l.all[key]; !known && len(l.all) >= maxBuckets {
		l.forget()
	}
	l.all[key] = b
	return 0
}

func (l *limiter) give(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.state(key)
	if b.used--; b.used <= 0 {
		delete(l.all, key)
		return
	}
	l.all[key] = b
}

// state is the bucket as it stands now; the caller holds mu.
func (l *limiter) state(key string) bucket {
	now := l.now()
	b := l.all[key]
	b.used = max(0, b.used-float64(now.Sub(b.at))/float64(l.refill))
	b.at = now
	return b
}

// forget drops the buckets that are full again, and where that makes no room any one; the caller holds mu.
func (l *limiter) forget() {
	some := ""
	for key := range l.all {
		some = key
		if l.state(key).used == 0 {
			delete(l.all, key)
		}
	}
	if len(l.all) >= maxBuckets {
		delete(l.all, some)
	}
}

package desk

import (
	"sync"
	"time"
)

// How many sign-ins may fail in a window: of an agent from one address, of the agent from anywhere, and from an address whoever they name. An agent is a person
// at one desk, behind whose address there may be a house full of them; and strangers elsewhere should not easily keep an agent out.
const (
	triesHere    = 5
	triesOfAgent = 50
	triesOfIP    = 25
	tryWindow    = 15 * time.Minute
	// maxWindows bounds the memory. Who comes from so many addresses, or with so many names, keeps others from signing in for a while, and guesses no more.
	maxWindows = 20_000
)

// A limiter counts sign-ins in memory. It is there to make guessing slow, beside what the passwords themselves are worth: each process of the gateway counts
// for itself, and forgets when it ends.
type limiter struct {
	mu   sync.Mutex
	seen map[string]*tries
}

type tries struct {
	n     int
	until time.Time
}

func newLimiter() *limiter { return &limiter{seen: map[string]*tries{}} }

// take counts one more try for each key and reports whether all were within their bounds. It counts before anything is compared, so that tries at once do
// not slip through together. Where one is out of bounds, none is counted: who is shut out by one cannot use up another.
func (l *limiter) take(now time.Time, bounds map[string]int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, most := range bounds {
		if t := l.seen[key]; t != nil && now.Before(t.until) && t.n >= most {
			return false
		}
	}
	if len(l.seen)+len(bounds) > maxWindows {
		if l.drop(now); len(l.seen)+len(bounds) > maxWindows {
			return false
		}
	}
	for key := range bounds {
		t := l.seen[key]
		if t == nil || !now.Before(t.until) {
			t = &tries{until: now.Add(tryWindow)}
			l.seen[key] = t
		}
		t.n++
	}
	return true
}

// giveBack takes back a try that was none: it went right, or nothing was compared.
func (l *limiter) giveBack(bounds map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range bounds {
		if t := l.seen[key]; t != nil && t.n > 0 {
			t.n--
		}
	}
}

// forget drops windows that are over.
func (l *limiter) forget(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(now)
}

func (l *limiter) drop(now time.Time) {
	for key, t := range l.seen {
		if !now.Before(t.until) {
			delete(l.seen, key)
		}
	}
}

package api

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/otpost/otpost/services/gateway/web"
)

// What requests without a good key are bounded to, for one address: so many at once, then one every two seconds.
const (
	failuresAtOnce  = 20
	failuresEvery   = 2 * time.Second
	maxFailureAddrs = 10000
)

// Buckets are token buckets, one for each key, in the memory of this process: of several processes behind one address each has its own, and lets as many
// through.
type buckets[K comparable] struct {
	rate  rate.Limit
	burst int
	most  int // buckets; 0 for no bound

	mu   sync.Mutex
	by   map[K]*rate.Limiter
	rest *rate.Limiter // shared by all who came when there were most
}

// newBuckets returns buckets that are refilled with so many tokens a second.
func newBuckets[K comparable](perSecond float64, burst, most int) *buckets[K] {
	r := rate.Limit(perSecond)
	return &buckets[K]{rate: r, burst: burst, most: most, by: map[K]*rate.Limiter{}, rest: rate.NewLimiter(r, burst)}
}

// take takes a token, or tells how long it is until there is one.
func (b *buckets[K]) take(now time.Time, key K) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of(now, key)
	if l.AllowN(now, 1) {
		return 0, true
	}
	missing := 1 - l.TokensAt(now)
	return max(time.Duration(missing/float64(b.rate)*float64(time.Second)), time.Millisecond), false
}

// empty reports whether there is no token now, without taking one.
func (b *buckets[K]) empty(now time.Time, key K) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.by[key]
	return ok && l.TokensAt(now) < 1
}

func (b *buckets[K]) of(now time.Time, key K) *rate.Limiter {
	l, ok := b.by[key]
	if ok {
		return l
	}
	if b.most > 0 && len(b.by) >= b.most {
		if b.drop(now); len(b.by) >= b.most {
			return b.rest
		}
	}
	l = rate.NewLimiter(b.rate, b.burst)
	b.by[key] = l
	return l
}

// prune drops the buckets that are full: a new one would be no different.
func (b *buckets[K]) prune(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(now)
}

func (b *buckets[K]) drop(now time.Time) {
	for key, l := range b.by {
		if l.TokensAt(now) >= float64(b.burst) {
			delete(b.by, key)
		}
	}
}

// byAddress slows down who sends requests without a good key.
type byAddress struct{ *buckets[netip.Prefix] }

func newByAddress() byAddress {
	return byAddress{newBuckets[netip.Prefix](1/failuresEvery.Seconds(), failuresAtOnce, maxFailureAddrs)}
}

func (b byAddress) take(now time.Time, from string) (time.Duration, bool) {
	return b.buckets.take(now, web.Network(from))
}

func (b byAddress) exhausted(now time.Time, from string) bool {
	return b.empty(now, web.Network(from))
}

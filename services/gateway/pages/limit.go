package pages

import (
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// What one visit may ask for: so much at once, and the same again spread over a minute. People stay far below it; what guesses, or asks for message after
// message, does not. How often a code may be tried or sent the workers bound, for the user and whatever way they come.
const (
	postsAMinute    = 60
	requestsAMinute = 300 // posts among them
)

// limits count what each visit asks for, in the memory of this process. Only visits that an app has made and a browser has opened are counted, so that
// strangers cannot fill it.
type limits struct {
	mu sync.Mutex
	by map[uuid.UUID]*limit
}

type limit struct{ posts, requests *rate.Limiter }

func newLimits() *limits { return &limits{by: map[uuid.UUID]*limit{}} }

// take takes one request of a visit, or tells how long it is until there may be one.
func (l *limits) take(now time.Time, visit uuid.UUID, method string) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.by[visit]
	if of == nil {
		of = &limit{rate.NewLimiter(postsAMinute/60.0, postsAMinute), rate.NewLimiter(requestsAMinute/60.0, requestsAMinute)}
		l.by[visit] = of
	}
	if !of.requests.AllowN(now, 1) || method == http.MethodPost && !of.posts.AllowN(now, 1) {
		return time.Second, false
	}
	return 0, true
}

// prune drops what counts nothing any more: a new one would be no different.
func (l *limits) prune(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for visit, of := range l.by {
		if of.requests.TokensAt(now) >= requestsAMinute && of.posts.TokensAt(now) >= postsAMinute {
			delete(l.by, visit)
		}
	}
}

package webhook

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/postgres"
)

func TestNext(t *testing.T) {
	total := time.Duration(0)
	for tries, want := range retries {
		for range 100 {
			d, more := next(tries+1, 0)
			if lo, hi := want*9/10, want*11/10; !more || d < lo || d > hi {
				t.Fatalf("after %d tries: %s, %v; want %s to %s", tries+1, d, more, lo, hi)
			}
		}
		total += want
	}
	if total < 72*time.Hour || total > 80*time.Hour {
		t.Errorf("the tries last for %s", total)
	}
	if _, more := next(len(retries)+1, time.Second); more {
		t.Error("there is a try after the last one")
	}
	if d, more := next(0, 0); !more || d > time.Minute {
		t.Errorf("without a try: %s, %v", d, more)
	}
	if d, _ := next(1, time.Hour); d != time.Hour {
		t.Errorf("asked for an hour: %s", d)
	}
	if d, _ := next(1, 100*24*time.Hour); d != maxRetryAfter {
		t.Errorf("asked for 100 days: %s", d)
	}
	if d, _ := next(5, time.Second); d < 4*time.Hour {
		t.Errorf("asked for less than is due: %s", d)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "0": 0, "-5": 0, "soon": 0, "1.5": 0, "99999999999999999999": 0, "9000000000000000000": maxRetryAfter,
		"Sun, 01 Mar 2026 13:00:00 GMT": time.Hour, "Sun, 01 Mar 2026 11:00:00 GMT": 0, "Sun, 01 Mar 2099 13:00:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// What a target says, and the URL that it has, stay out of reasons: those are kept, listed and logged.
func TestWhyQuotesNothing(t *testing.T) {
	w := &Worker{Config: Config{Timeout: time.Second}}
	for _, err := range []error{
		&url.Error{Op: "Post", URL: "https://t.example/path-of-a-secret", Err: errors.New(`malformed HTTP status code "of-a-secret"`)},
		&url.Error{Op: "Post", URL: "https://t.example/path-of-a-secret", Err: tls.RecordHeaderError{Msg: "of-a-secret"}},
	} {
		if got := w.why(err); got == "" || strings.Contains(got, "of-a-secret") {
			t.Errorf("%v gives %q", err, got)
		}
	}
}

func TestRoom(t *testing.T) {
	hooks := make([]postgres.Webhook, 12)
	for i := range hooks {
		hooks[i].ID = uuid.New()
	}
	now := time.Now()
	for name, tc := range map[string]struct {
		state map[int]target
		due   int
		want  map[int]int // by webhook; the others get nothing
		all   int         // where it is not said who gets it
	}{
		"a quick one has its own bound":         {state: map[int]target{0: {quick: true}}, due: 1, want: map[int]int{0: 4}},
		"less what is under way":                {state: map[int]target{0: {quick: true, posts: 3}}, due: 1, want: map[int]int{0: 1}},
		"a failing one has one":                 {state: map[int]target{0: {failing: true}}, due: 1, want: map[int]int{0: 1}},
		"and not a second":                      {state: map[int]target{0: {failing: true, posts: 1}}, due: 1, want: map[int]int{}},
		"who asked for a pause has none":        {state: map[int]target{0: {quick: true, until: now.Add(time.Second)}}, due: 1, want: map[int]int{}},
		"until it is over":                      {state: map[int]target{0: {quick: true, until: now}}, due: 1, want: map[int]int{0: 4}},
		"unknown ones have half of all":         {due: 12, all: 8},
		"and leave the other half to the quick": {state: map[int]target{11: {quick: true}}, due: 12, all: 12},
		"slow ones hold up no quick one": {
			state: map[int]target{0: {posts: 4}, 1: {posts: 4}, 2: {}, 3: {quick: true}}, due: 4, want: map[int]int{3: 4},
		},
		"what is left is shared": {
			state: map[int]target{0: {quick: true}, 1: {quick: true}, 2: {posts: 4, quick: true}, 3: {posts: 4, quick: true}, 4: {posts: 4, quick: true}}, due: 2,
			want: map[int]int{0: 2, 1: 2},
		},
		"who has least comes first": {
			state: map[int]target{0: {quick: true, posts: 3}, 1: {quick: true}, 2: {posts: 12, quick: true}}, due: 2, want: map[int]int{1: 1},
		},
		"a full house": {state: map[int]target{0: {posts: 16, quick: true}, 1: {quick: true}}, due: 2, want: map[int]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &Worker{Config: Config{Concurrency: 16, PerWebhook: 4}, state: map[uuid.UUID]*target{}}
			for i, s := range tc.state {
				s.due = now
				w.state[hooks[i].ID] = &s
			}
			all := 0
			for _, r := range w.room(now, hooks[:tc.due]) {
				all += r.Events
				for i, h := range hooks {
					if h.ID == r.Webhook && tc.want != nil && tc.want[i] != r.Events {
						t.Errorf("webhook %d gets %d, want %d", i, r.Events, tc.want[i])
					}
				}
			}
			want := tc.all
			for _, n := range tc.want {
				want += n
			}
			if all != want {
				t.Errorf("%d posts may begin, want %d", all, want)
			}
		})
	}
}

// What is remembered of a webhook that has had nothing to send for a day is forgotten, and not before.
func TestRoomForgets(t *testing.T) {
	now := time.Now()
	w := &Worker{Config: Config{Concurrency: 16, PerWebhook: 4}, state: map[uuid.UUID]*target{
		uuid.New(): {quick: true, due: now.Add(-remember)}, uuid.New(): {quick: true, due: now.Add(-remember - 1)}, uuid.New(): {posts: 1}, uuid.New(): {failing: true},
	}}
	w.room(now, nil)
	if len(w.state) != 3 {
		t.Errorf("%d are remembered, want the one that had something a day ago, the one that is being posted to and the one that fails", len(w.state))
	}
}

func TestConfig(t *testing.T) {
	for word, c := range map[string]Config{
		"webhook-concurrency": {Concurrency: 3}, "webhook-posts": {PerWebhook: 129}, "webhook-timeout": {Timeout: time.Minute}, "webhook-poll": {Poll: 1},
	} {
		if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), word+": ") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	c := Config{Timeout: maxTimeout}
	if err := c.complete(); err != nil || c.Timeout+leaseBeyond > postgres.WebhookLease {
		t.Errorf("%v; a post may outlast its lease of %s", err, postgres.WebhookLease)
	}
	if http.StatusGone != 410 || !(answer{status: 410}).gone() || (answer{status: 404}).gone() {
		t.Error("only 410 says that it wants no more")
	}
}

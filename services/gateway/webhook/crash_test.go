package webhook

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

func (b *bench) rotate(id uuid.UUID, overlap time.Duration) Secret {
	b.Helper()
	s := NewSecret()
	sealed, err := Seal(otposttest.Ring(b.T, keyring.Operator), id, s)
	if err != nil {
		b.Fatal(err)
	}
	if err := b.operator.Rotate(b.Context(), b.clock.Now(), b.clock.Now().Add(overlap), id, sealed); err != nil {
		b.Fatal(err)
	}
	return s
}

// pull takes a message as a gateway does that is killed before it acknowledges it.
func (b *bench) pull() *bus.Msg {
	b.Helper()
	c, err := b.gateway.JetStream().Consumer(b.Context(), bus.StreamEvents, consumer)
	if err != nil {
		b.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(otposttest.Patience))
	if err != nil {
		b.Fatal(err)
	}
	meta, err := m.Metadata()
	if err != nil {
		b.Fatal(err)
	}
	return &bus.Msg{Subject: m.Subject(), Data: m.Data(), Received: meta.Timestamp}
}

// A gateway is killed between the pull and the commit, between the commit and the acknowledgement, between the claim and the post, and between the post and the end
// of the row. Another one makes up for it.
func TestKilledInBetween(t *testing.T) {
	for name, tc := range map[string]struct {
		written, claimed, posted bool
		after                    time.Duration // until somebody else may go on
		posts                    int           // all in all; of the last case one more is allowed for
	}{
		"pull":   {posts: 1},
		"commit": {written: true, posts: 1},
		"claim":  {written: true, claimed: true, after: postgres.WebhookLease, posts: 1},
		"post":   {written: true, claimed: true, posted: true, after: postgres.WebhookLease, posts: 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			r := newReceiver(t, nil)
			id, _ := b.hook("demo", r.URL)
			w, err := New(b.config())
			if err != nil {
				t.Fatal(err)
			}
			out := b.publish("demo", 1, event.ChallengeEnded)
			m := b.pull()
			if tc.written {
				e, err := read(m)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := b.store.Write(t.Context(), b.clock.Now(), []postgres.WebhookEvent{e, e}); n != 1 || err != nil {
					t.Fatalf("%d rows, %v", n, err)
				}
			}
			if tc.claimed {
				hooks, err := b.store.Targets(t.Context(), b.clock.Now())
				if err != nil || len(hooks) != 1 {
					t.Fatal(hooks, err)
				}
				got, err := b.store.Claim(t.Context(), b.clock.Now(), w.Timeout+leaseBeyond, []postgres.Room{{Webhook: id, Events: 8}})
				if err != nil || len(got) != 1 {
					t.Fatal(got, err)
				}
				if tc.posted {
					if a := w.post(t.Context(), hooks[0], got[0]); !a.taken() {
						t.Fatal(a)
					}
				}
			}
			b.run()
			b.settled()
			if tc.claimed && !tc.posted && len(r.got()) != 0 {
				t.Error("it was posted although another has it in hand")
			}
			b.clock.Advance(tc.after)
			b.empty()
			posts := r.got()
			// where its row was gone before the message came again, it was written again
			if len(posts) < tc.posts || len(posts) > tc.posts+1 {
				t.Errorf("%d posts, want %d", len(posts), tc.posts)
			}
			for _, p := range posts {
				if p.id() != out[0].ID {
					t.Errorf("its id is %s, want %s each time", p.id(), out[0].ID)
				}
			}
		})
	}
}

// A gateway that is told to stop ends what it has in hand.
func TestStopEndsWhatIsInHand(t *testing.T) {
	b := newBench(t)
	begun, release := make(chan struct{}), make(chan struct{})
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-release
	})
	b.hook("demo", r.URL)
	stop := b.run()
	b.publish("demo", 1, event.ChallengeEnded)
	<-begun
	b.settled()
	go func() {
		time.Sleep(10 * time.Millisecond) // so that the stop comes first, most of the time
		close(release)
	}()
	stop()
	if n := b.rows(); n != 0 || b.counted("delivered") != 1 {
		t.Errorf("%d rows are left, %v are counted", n, b.counted("delivered"))
	}
}

// A record that comes too late changes nothing of what somebody else has in hand.
func TestALateFailureIsNotRecorded(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t, nil)
	id, _ := b.hook("demo", r.URL)
	at := b.clock.Now()
	if _, err := b.store.Write(t.Context(), at, []postgres.WebhookEvent{{App: "demo", ID: "e", Name: "challenge.ended", Payload: []byte("{}"), At: at}}); err != nil {
		t.Fatal(err)
	}
	claim := func() postgres.ClaimedEvent {
		t.Helper()
		got, err := b.store.Claim(t.Context(), b.clock.Now(), time.Minute, []postgres.Room{{Webhook: id, Events: 1}})
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		return got[0]
	}
	first := claim()
	now := b.clock.Advance(time.Minute)
	second := claim()
	if err := b.store.GiveUp(t.Context(), now, first, "late"); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Failed(t.Context(), now, now.Add(time.Hour), first, "late"); err != nil {
		t.Fatal(err)
	}
	if s := otposttest.Get[string](t, b.db, "SELECT state || ' ' || reason || ' ' || tries FROM webhook_events"); s != "pending  2" {
		t.Errorf("the row is %q", s)
	}
	if err := b.store.GiveUp(t.Context(), now, second, "in time"); err != nil {
		t.Fatal(err)
	}
	if s := otposttest.Get[string](t, b.db, "SELECT state || ' ' || reason FROM webhook_events"); s != "dead in time" {
		t.Errorf("the row is %q", s)
	}
}

func TestTwoGatewaysPostAnEventOnce(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t, nil)
	b.hook("demo", r.URL)
	const n = 400
	at := b.clock.Now()
	var events []postgres.WebhookEvent
	for i := range n {
		events = append(events, postgres.WebhookEvent{App: "demo", ID: uuid.NewString(), Name: "challenge.ended", Payload: []byte("{}"), At: at.Add(time.Duration(i))})
	}
	if got, err := b.store.Write(t.Context(), at, events); got != n || err != nil {
		t.Fatal(got, err)
	}
	for range 3 {
		b.run(func(c *Config) { c.Concurrency, c.PerWebhook = 64, 32 })
	}
	b.empty()
	seen := map[string]int{}
	for _, p := range r.got() {
		seen[p.id()]++
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s was posted %d times", id, times)
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d came", len(seen), n)
	}
}

// What is no event is a dead letter and holds nothing up.
func TestWhatIsNoEventIsDead(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t, nil)
	b.hook("demo", r.URL)
	b.run()
	subject := event.EventSubject("demo", event.ChallengeEnded)
	if err := b.nats.Bus(t, bus.RoleChallenge).Publish(t.Context(), bus.Out{Subject: subject, ID: "1", Data: []byte("not JSON")}, bus.Out{Subject: subject, ID: "2", Data: []byte(`{"id":""}`)},
		bus.Out{Subject: subject, ID: "3", Data: []byte(`{"id":"a\nwebhook-id: b"}`)},
		bus.Out{Subject: subject, ID: "4", Data: fmt.Appendf(nil, `{"id":"large","data":%q}`, strings.Repeat("x", 140<<10))}); err != nil {
		t.Fatal(err)
	}
	b.publish("demo", 1, event.ChallengeEnded)
	r.wait(t, 1)
	b.settled()
	letters, n, err := b.nats.Bus(t, bus.RoleOperator).DeadLetters(t.Context(), 0, 10)
	if err != nil || n != 4 {
		t.Fatalf("%d dead letters, %v", n, err)
	}
	for _, l := range letters {
		if l.Stream != bus.StreamEvents || l.Reason == "" {
			t.Errorf("%+v", l)
		}
	}
}

// What nobody posts is given up after days and forgotten after more, also of a webhook that is disabled.
func TestTidy(t *testing.T) {
	b := newBench(t)
	id, _ := b.hook("demo", "https://shop.example")
	at := b.clock.Now()
	if _, err := b.store.Write(t.Context(), at, []postgres.WebhookEvent{{App: "demo", ID: "e", Name: "challenge.ended", Payload: []byte("{}"), At: at}}); err != nil {
		t.Fatal(err)
	}
	if err := b.operator.Disable(t.Context(), at, id, "by the operator"); err != nil {
		t.Fatal(err)
	}
	w, err := New(b.config())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after         time.Duration
		pending, dead int
	}{{keepDue, 1, 0}, {time.Millisecond, 0, 1}, {keepDead, 0, 1}, {time.Millisecond, 0, 0}} {
		if err := w.tidy(t.Context(), b.clock.Advance(step.after)); err != nil {
			t.Fatal(err)
		}
		if p, d, err := b.store.Backlog(t.Context()); p != step.pending || d != step.dead || err != nil {
			t.Errorf("after %s more: %d wait, %d are dead, %v; want %d and %d", step.after, p, d, err, step.pending, step.dead)
		}
	}
	if n := b.counted("dead"); n != 1 {
		t.Errorf("%v are counted as dead", n)
	}
}

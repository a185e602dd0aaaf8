package webhook

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

func TestAnEventIsPostedAndSigned(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t, nil)
	_, secret := b.hook("demo", r.URL+"/hooks?key=of-the-app")
	b.run()
	out := b.publish("demo", 1, event.ChallengeEnded)
	p := r.wait(t, 1)[0]
	if p.method != http.MethodPost || p.header.Get("Content-Type") != "application/cloudevents+json" || p.id() != out[0].ID || !bytes.Equal(p.body, out[0].Data) {
		t.Errorf("posted was %s %v\n%s\nwant\n%s", p.method, p.header, p.body, out[0].Data)
	}
	if at, err := strconv.ParseInt(p.header.Get("webhook-timestamp"), 10, 64); err != nil || at != b.clock.Now().Unix() {
		t.Errorf("its timestamp is %q", p.header.Get("webhook-timestamp"))
	}
	if err := verify(p, secret.Text()); err != nil {
		t.Errorf("the library of Standard Webhooks says: %v", err)
	}
	if err := verify(p, NewSecret().Text()); err == nil {
		t.Error("it verifies with another secret")
	}
	p.body = append(p.body, ' ')
	if err := verify(p, secret.Text()); err == nil {
		t.Error("it verifies with another body")
	}
	b.empty()
	b.settled()
	if n := b.counted("delivered"); n != 1 {
		t.Errorf("%v are counted as delivered", n)
	}
	for _, inner := range []string{secret.Text(), "of-the-app"} {
		if strings.Contains(otposttest.Logger(t).Logs(), inner) {
			t.Errorf("%q is in the log", inner)
		}
	}
	if shown := fmt.Sprintf("%v %+v %#v", secret, secret, secret); strings.Count(shown, secret.String()) != 3 {
		t.Errorf("a secret is printed as %s", shown)
	}
	if dump := b.db.Dump(t); strings.Contains(dump, fmt.Sprintf("%x", []byte(secret))) {
		t.Error("the secret lies open in the database")
	}
}

// Whether an event goes to a webhook: it was published after the webhook was made and while it was enabled, it is the same app's, and the webhook wants it.
func TestWhatGoesToAWebhook(t *testing.T) {
	b := newBench(t, "other")
	b.publish("demo", 3, event.ChallengeVerified) // before any webhook
	all, some, group, foreign, later := newReceiver(t, nil), newReceiver(t, nil), newReceiver(t, nil), newReceiver(t, nil), newReceiver(t, nil)
	b.present()
	filter := func(events ...string) func(*postgres.Webhook) { return func(h *postgres.Webhook) { h.Events = events } }
	b.hook("demo", all.URL)
	pausing, _ := b.hook("demo", some.URL, filter("challenge.verified", "deactivated"))
	b.hook("demo", group.URL, filter("recovery.*", "user.*"))
	b.hook("other", foreign.URL)
	b.present()
	b.run()
	b.publish("demo", 1, event.ChallengeVerified)
	b.publish("demo", 2, event.ChallengeEnded)
	b.publish("other", 4, event.ChallengeIssued)
	b.publish("demo", 1, event.RecoveryBegun)
	b.publish("demo", 1, event.UserErased)
	b.publish("demo", 1, event.Deactivated)
	b.settled()
	b.empty()
	for name, tc := range map[string]struct {
		r    *receiver
		want int
	}{"all": {all, 6}, "some": {some, 2}, "a group": {group, 2}, "another app's": {foreign, 4}} {
		if got := tc.r.got(); len(got) != tc.want {
			t.Errorf("%s got %d events, want %d", name, len(got), tc.want)
		}
	}
	if err := b.operator.Disable(t.Context(), b.clock.Now(), pausing, "disabled by the operator"); err != nil {
		t.Fatal(err)
	}
	b.publish("demo", 2, event.ChallengeVerified)
	b.settled()
	b.present()
	if err := b.operator.Enable(t.Context(), b.clock.Now(), pausing); err != nil {
		t.Fatal(err)
	}
	b.hook("demo", later.URL)
	b.present()
	b.publish("demo", 1, event.ChallengeVerified)
	later.wait(t, 1)
	some.wait(t, 3)
	b.empty()
	if all, some, later := len(all.got()), len(some.got()), len(later.got()); all != 9 || some != 3 || later != 1 {
		t.Errorf("all got %d, want 9; the one that was disabled %d, want 3; the new one %d, want 1", all, some, later)
	}
}

func TestAnEventIsTriedAgainAndGivenUp(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "private words of the target", http.StatusInternalServerError)
	})
	id, secret := b.hook("demo", r.URL)
	b.run()
	out := b.publish("demo", 1, event.ChallengeEnded)
	for try := 1; try <= len(retries)+1; try++ {
		posts := r.wait(t, try)
		p := posts[try-1]
		if p.id() != out[0].ID || p.header.Get("webhook-timestamp") != strconv.FormatInt(b.clock.Now().Unix(), 10) || verify(p, secret.Text()) != nil {
			t.Fatalf("try %d: %v", try, p.header)
		}
		if try > len(retries) {
			break
		}
		otposttest.Eventually(t, "the failure to be recorded", func() bool { return b.counted("failed") == float64(try) })
		at := otposttest.Get[time.Time](t, b.db, "SELECT next_at FROM webhook_events WHERE state = 'pending' AND tries = $1", try)
		if wait := at.Sub(b.clock.Now()); wait < retries[try-1]*9/10-time.Millisecond || wait > retries[try-1]*11/10 {
			t.Errorf("after try %d it waits for %s, want about %s", try, wait, retries[try-1])
		}
		b.clock.Advance(at.Sub(b.clock.Now()) + time.Millisecond)
	}
	otposttest.Eventually(t, "it to be given up", func() bool { return b.counted("dead") == 1 })
	dead, err := b.operator.Dead(t.Context(), b.apps["demo"].ID, 10)
	if err != nil || len(dead) != 1 || dead[0].Webhook != id || dead[0].ID != out[0].ID || dead[0].Tries != len(retries)+1 || dead[0].Reason != "it answered 500" ||
		dead[0].Name != "challenge.ended" || dead[0].App != "demo" {
		t.Fatalf("dead are %+v, %v", dead, err)
	}
	if log := otposttest.Logger(t).Logs(); strings.Contains(log, "private words") || strings.Count(log, "does not take its events") != 1 {
		t.Errorf("the log has the target's words, or does not tell once that it fails")
	}
	if n, err := b.operator.Retry(t.Context(), b.clock.Now(), id, ""); n != 1 || err != nil {
		t.Fatalf("retried were %d, %v", n, err)
	}
	r.answers(status(http.StatusOK))
	b.empty()
	if n := len(r.got()); n != len(retries)+2 && n != len(retries)+3 { // the first may have come before the answer changed
		t.Errorf("%d posts", n)
	}
}

func TestATargetThatAsksForAPauseGetsIt(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7200")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	b.hook("demo", r.URL)
	b.run()
	b.publish("demo", 1, event.ChallengeEnded)
	otposttest.Eventually(t, "the failure to be recorded", func() bool { return b.counted("failed") == 1 })
	at := otposttest.Get[time.Time](t, b.db, "SELECT next_at FROM webhook_events")
	if wait := at.Sub(b.clock.Now()); wait != 2*time.Hour {
		t.Errorf("it is tried again after %s", wait)
	}
	r.answers(nil)
	b.clock.Advance(2 * time.Hour)
	b.empty()
}

func TestADeadTargetDelaysNobodyElse(t *testing.T) {
	b := newBench(t, "stuck")
	release := make(chan struct{})
	hang := newReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	fine := newReceiver(t, nil)
	b.hook("demo", fine.URL)
	b.run(func(c *Config) { c.Concurrency, c.PerWebhook = 8, 2 })
	b.publish("demo", 1, event.ChallengeEnded)
	fine.wait(t, 1)
	b.empty()
	for range 4 {
		b.hook("stuck", hang.URL)
	}
	b.publish("stuck", 20, event.ChallengeEnded)
	hang.wait(t, 4)
	b.publish("demo", 60, event.ChallengeEnded)
	fine.wait(t, 61)
	hang.mu.Lock()
	defer hang.mu.Unlock()
	if hang.most > 4 {
		t.Errorf("%d posts hung at once, want no more than half of 8", hang.most)
	}
}

func TestTimeOut(t *testing.T) {
	b := newBench(t)
	hang := newReceiver(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	id, _ := b.hook("demo", hang.URL)
	b.run(func(c *Config) { c.Timeout = 100 * time.Millisecond })
	b.publish("demo", 1, event.ChallengeEnded)
	otposttest.Eventually(t, "the failure to be recorded", func() bool { return b.counted("failed") == 1 })
	if why := otposttest.Get[string](t, b.db, "SELECT reason FROM webhook_events WHERE webhook_id = $1", id); why != "no answer within 100ms" {
		t.Errorf("the reason is %q", why)
	}
}

// An answer is nothing but its status: however long its body is, no more than the beginning is read.
func TestAnAnswerWithoutEnd(t *testing.T) {
	b := newBench(t)
	ended := make(chan struct{})
	r := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	b.hook("demo", r.URL)
	b.run()
	b.publish("demo", 1, event.ChallengeEnded)
	b.empty()
	select {
	case <-ended:
	case <-time.After(otposttest.Patience):
		t.Error("its answer is still being read")
	}
}

func TestGoneDisables(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t, status(http.StatusGone))
	id, _ := b.hook("demo", r.URL)
	b.run()
	b.publish("demo", 1, event.ChallengeEnded)
	otposttest.Eventually(t, "it to be disabled", func() bool { return b.counted("gone") == 1 })
	h, err := b.operator.Get(t.Context(), id)
	if err != nil || !h.DisabledAt.Equal(b.clock.Now()) || h.DisabledWhy != "its target answered 410 Gone" || h.Pending != 1 || h.Dead != 0 {
		t.Errorf("%+v, %v", h, err)
	}
	b.publish("demo", 3, event.ChallengeEnded)
	b.settled()
	b.clock.Advance(time.Hour)
	if n := b.rows(); n != 1 || len(r.got()) != 1 {
		t.Errorf("%d rows, %d posts", n, len(r.got()))
	}
	r.answers(nil)
	if err := b.operator.Enable(t.Context(), b.clock.Now(), id); err != nil {
		t.Fatal(err)
	}
	b.empty() // what it answered 410 to is kept for it
	if len(r.got()) != 2 {
		t.Errorf("%d posts, want 2", len(r.got()))
	}
}

func TestBothSecretsSignWhileOneIsReplaced(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t, nil)
	id, old := b.hook("demo", r.URL)
	b.run()
	fresh := b.rotate(id, 24*time.Hour)
	b.publish("demo", 1, event.ChallengeEnded)
	p := r.wait(t, 1)[0]
	if err := verify(p, old.Text()); err != nil {
		t.Errorf("the old one: %v", err)
	}
	if err := verify(p, fresh.Text()); err != nil {
		t.Errorf("the new one: %v", err)
	}
	if s := strings.Fields(p.header.Get("webhook-signature")); len(s) != 2 {
		t.Errorf("signatures %q", s)
	}
	b.clock.Advance(24 * time.Hour)
	b.publish("demo", 1, event.ChallengeEnded)
	p = r.wait(t, 2)[1]
	if verify(p, old.Text()) == nil || verify(p, fresh.Text()) != nil || strings.Contains(p.header.Get("webhook-signature"), " ") {
		t.Errorf("after the overlap: %q", p.header.Get("webhook-signature"))
	}
	last := b.rotate(id, 0)
	b.publish("demo", 1, event.ChallengeEnded)
	p = r.wait(t, 3)[2]
	if verify(p, fresh.Text()) == nil || verify(p, last.Text()) != nil {
		t.Errorf("without an overlap: %q", p.header.Get("webhook-signature"))
	}
}

func TestPrivateTargetsAreRefusedAtTheDial(t *testing.T) {
	b := newBench(t)
	r := &receiver{}
	r.Server = httptest.NewTLSServer(r)
	defer r.Close()
	port := r.URL[strings.LastIndex(r.URL, ":"):]
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	outside := func(h *postgres.Webhook) { h.Private = false }
	refused := map[uuid.UUID]bool{}
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1", "169.254.169.254", "[64:ff9b::7f00:1]", "127.1"} {
		id, _ := b.hook("demo", "https://"+host+port, outside)
		refused[id] = true
	}
	metadata, _ := b.hook("demo", "http://169.254.169.254/latest/meta-data") // not even inside
	refused[metadata] = true
	b.run(func(c *Config) { c.RootCAs = roots })
	b.publish("demo", 1, event.ChallengeEnded)
	otposttest.Eventually(t, "all to have failed", func() bool { return b.counted("failed") == float64(len(refused)) })
	if n := len(r.got()); n != 0 {
		t.Errorf("%d posts came", n)
	}
	for id := range refused {
		why := otposttest.Get[string](t, b.db, "SELECT reason FROM webhook_events WHERE webhook_id = $1", id)
		h, err := b.operator.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(why, "private or reserved") && (!strings.Contains(h.URL, "127.1:") || !strings.Contains(why, "host's name")) {
			t.Errorf("%s: %q", h.URL, why)
		}
	}
	b.hook("demo", r.URL) // allowed, over TLS
	b.present()
	b.publish("demo", 1, event.ChallengeEnded)
	r.wait(t, 1)
}

func TestARedirectIsAFailure(t *testing.T) {
	b := newBench(t)
	inner := newReceiver(t, nil)
	for _, code := range []int{301, 302, 303, 307, 308} {
		r := newReceiver(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inner.URL, code) })
		b.hook("demo", r.URL)
	}
	b.run()
	b.publish("demo", 1, event.ChallengeEnded)
	otposttest.Eventually(t, "all to have failed", func() bool { return b.counted("failed") == 5 })
	if n := len(inner.got()); n != 0 {
		t.Errorf("%d were followed", n)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(DISTINCT reason) FROM webhook_events WHERE reason LIKE 'it answered 30_'"); n != 5 {
		t.Errorf("%d reasons", n)
	}
}

func TestWithoutWebhooksNothingIsPulled(t *testing.T) {
	b := newBench(t)
	b.run()
	b.publish("demo", 5, event.ChallengeEnded)
	delivered := func() uint64 {
		c, err := b.gateway.JetStream().Consumer(t.Context(), bus.StreamEvents, consumer)
		if err != nil {
			t.Fatal(err)
		}
		return c.CachedInfo().Delivered.Stream
	}
	if n := delivered(); n != 0 {
		t.Errorf("%d were pulled", n)
	}
	b.present()
	r := newReceiver(t, nil)
	id, _ := b.hook("demo", r.URL)
	b.present()
	b.settled()
	b.publish("demo", 1, event.ChallengeEnded)
	r.wait(t, 1)
	b.empty()
	if err := b.operator.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	otposttest.Eventually(t, "the pulling to end", func() bool {
		c, err := b.gateway.JetStream().Consumer(t.Context(), bus.StreamEvents, consumer)
		return err == nil && c.CachedInfo().NumWaiting == 0
	})
	if n := testutil.ToFloat64(b.metrics.WebhookEventsWaiting); n != 0 {
		t.Errorf("%v are said to wait", n)
	}
	if n := len(r.got()); n != 1 {
		t.Errorf("%d posts, want that of what came after", n)
	}
}

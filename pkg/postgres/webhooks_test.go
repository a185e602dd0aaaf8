package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// A hooked is a webhook of the app demo with what the operator and the gateway do to it.
type hooked struct {
	*testing.T
	db       *otposttest.DB
	clock    *otposttest.Clock
	operator *postgres.Webhooks
	gateway  *postgres.WebhookEvents
	app      postgres.App
	id       uuid.UUID
}

func newHooked(t *testing.T) *hooked {
	t.Helper()
	t.Parallel()
	h := &hooked{T: t, db: otposttest.Postgres(t), clock: otposttest.NewClock()}
	h.operator, h.gateway = postgres.NewWebhooks(h.db.Role("operator")), postgres.NewWebhookEvents(h.db.Role("gateway"))
	h.app = h.db.App(t, "demo")
	h.id = h.create("https://shop.example/hooks")
	return h
}

func (h *hooked) create(url string) uuid.UUID {
	h.Helper()
	w := postgres.Webhook{ID: uuid.Must(uuid.NewV7()), AppID: h.app.ID, URL: url, Sealed: []byte("sealed")}
	if err := h.operator.Create(h.Context(), h.clock.Now(), w); err != nil {
		h.Fatal(err)
	}
	return w.ID
}

// write writes n events, published now.
func (h *hooked) write(prefix string, n int) {
	h.Helper()
	var events []postgres.WebhookEvent
	for i := range n {
		events = append(events, postgres.WebhookEvent{
			App: "demo", ID: fmt.Sprintf("%s%d", prefix, i), Name: "challenge.ended", Payload: []byte(`{"a":1}`), At: h.clock.Now(),
		})
	}
	if got, err := h.gateway.Write(h.Context(), h.clock.Now(), events); got != n || err != nil {
		h.Fatalf("%d rows of %d, %v", got, n, err)
	}
}

func (h *hooked) claim(n int) []postgres.ClaimedEvent {
	h.Helper()
	got, err := h.gateway.Claim(h.Context(), h.clock.Now(), 30*time.Second, []postgres.Room{{Webhook: h.id, Events: n}})
	if err != nil {
		h.Fatal(err)
	}
	return got
}

func (h *hooked) get() postgres.Webhook {
	h.Helper()
	w, err := h.operator.Get(h.Context(), h.id)
	if err != nil {
		h.Fatal(err)
	}
	return w
}

func TestAnEventIsClaimedOnce(t *testing.T) {
	h := newHooked(t)
	const events, claimers = 240, 6
	h.write("e", events)
	var mu sync.Mutex
	seen := map[string]int{}
	var all sync.WaitGroup
	begin := make(chan struct{})
	for range claimers {
		all.Go(func() {
			<-begin
			for {
				got, err := h.gateway.Claim(t.Context(), h.clock.Now(), 30*time.Second, []postgres.Room{{Webhook: h.id, Events: 20}})
				if err != nil {
					t.Error(err)
					return
				}
				if len(got) == 0 {
					return
				}
				mu.Lock()
				for _, e := range got {
					seen[e.ID]++
				}
				mu.Unlock()
			}
		})
	}
	close(begin)
	all.Wait()
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s was claimed %d times", id, times)
		}
	}
	// A row that a claimer passed over because another was at it is taken by that one.
	if len(seen) != events {
		t.Errorf("%d of %d were claimed", len(seen), events)
	}
}

func TestAClaimLastsForItsLease(t *testing.T) {
	h := newHooked(t)
	h.write("e", 3)
	other := h.create("https://other.example")
	h.db.Exec(t, "INSERT INTO webhook_events SELECT $1, event_id, name, payload, state, 0, next_at, '', created_at, updated_at FROM webhook_events", other)
	got := h.claim(2)
	if len(got) != 2 || got[0].Tries != 1 || string(got[0].Payload) != `{"a":1}` || got[0].Name != "challenge.ended" {
		t.Fatalf("claimed %+v", got)
	}
	if left := h.claim(8); len(left) != 1 {
		t.Errorf("a second claim takes %+v", left)
	}
	targets, err := h.gateway.Targets(t.Context(), h.clock.Now())
	if err != nil || len(targets) != 1 || targets[0].ID != other || targets[0].URL != "https://other.example" || string(targets[0].Sealed) != "sealed" ||
		targets[0].Previous != nil || targets[0].App != "demo" {
		t.Errorf("due are %+v, %v", targets, err)
	}
	h.clock.Advance(30 * time.Second)
	again := h.claim(8)
	if len(again) != 3 || again[0].Tries != 2 {
		t.Errorf("after the lease: %+v", again)
	}
	for _, e := range again {
		if err := h.gateway.Delivered(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if w := h.get(); w.Pending != 0 || w.Dead != 0 {
		t.Errorf("%+v", w)
	}
}

func TestTheOperatorsWebhooks(t *testing.T) {
	h := newHooked(t)
	ctx, now := t.Context(), h.clock.Now()
	list, err := h.operator.List(ctx, h.app.ID)
	if err != nil || len(list) != 1 || list[0].App != "demo" || list[0].Sealed != nil || !list[0].DisabledAt.IsZero() || !list[0].CreatedAt.Equal(now) {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := h.operator.List(ctx, h.app.ID+1); err != nil || len(list) != 0 {
		t.Errorf("of another app: %+v, %v", list, err)
	}
	if list, err := h.operator.List(ctx, 0); err != nil || len(list) != 1 {
		t.Errorf("of all: %+v, %v", list, err)
	}
	nobody := uuid.New()
	for what, err := range map[string]error{
		"rotate": h.operator.Rotate(ctx, now, now, nobody, []byte("x")), "disable": h.operator.Disable(ctx, now, nobody, "x"),
		"enable": h.operator.Enable(ctx, now, nobody), "remove": h.operator.Remove(ctx, nobody),
	} {
		if !errors.Is(err, postgres.ErrNoWebhook) {
			t.Errorf("%s of one that is not there: %v", what, err)
		}
	}
	later := h.clock.Advance(time.Minute)
	if err := errors.Join(h.operator.Disable(ctx, later, h.id, "by hand"), h.operator.Disable(ctx, later.Add(1), h.id, "again")); err != nil {
		t.Fatal(err)
	}
	if w := h.get(); !w.DisabledAt.Equal(later) || w.DisabledWhy != "by hand" {
		t.Errorf("%+v", w)
	}
	if n, err := h.gateway.Write(ctx, later, []postgres.WebhookEvent{{App: "demo", ID: "while", Name: "deactivated", Payload: []byte("{}"), At: later}}); n != 0 || err != nil {
		t.Errorf("while it is disabled: %d, %v", n, err)
	}
	last := h.clock.Advance(time.Minute)
	if err := errors.Join(h.operator.Enable(ctx, last, h.id), h.operator.Enable(ctx, last.Add(time.Hour), h.id)); err != nil {
		t.Fatal(err)
	}
	if n, err := h.gateway.Write(ctx, last, []postgres.WebhookEvent{
		{App: "demo", ID: "missed", Name: "deactivated", Payload: []byte("{}"), At: last.Add(-time.Millisecond)},
		{App: "demo", ID: "since", Name: "deactivated", Payload: []byte("{}"), At: last},
		{App: "nobody", ID: "foreign", Name: "deactivated", Payload: []byte("{}"), At: last},
	}); n != 1 || err != nil {
		t.Errorf("once it is enabled: %d, %v", n, err)
	}
	if err := h.operator.Remove(ctx, h.id); err != nil {
		t.Fatal(err)
	}
	if n := otposttest.Get[int](t, h.db, "SELECT count(*) FROM webhook_events"); n != 0 {
		t.Errorf("%d events are left of a webhook that is gone", n)
	}
	if there, err := h.gateway.Any(ctx); there || err != nil {
		t.Errorf("there are webhooks: %v, %v", there, err)
	}
}

func TestDeadEventsOfWebhooks(t *testing.T) {
	h := newHooked(t)
	ctx := t.Context()
	h.write("e", 5)
	got := h.claim(4)
	now := h.clock.Now()
	for _, e := range got[:3] {
		if err := h.gateway.GiveUp(ctx, now, e, "it answered 500"); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.gateway.Failed(ctx, now, now.Add(2*time.Hour), got[3], "it answered 503"); err != nil {
		t.Fatal(err)
	}
	claimed := h.claim(8) // the fifth, which is in somebody's hands then
	if w := h.get(); w.Dead != 3 || w.Pending != 2 || len(claimed) != 1 {
		t.Errorf("%+v, claimed %+v", w, claimed)
	}
	if p, d, err := h.gateway.Backlog(ctx); p != 2 || d != 3 || err != nil {
		t.Errorf("backlog %d, %d, %v", p, d, err)
	}
	dead, err := h.operator.Dead(ctx, 0, 2)
	if err != nil || len(dead) != 2 || dead[0].Reason != "it answered 500" || dead[0].Tries != 1 || dead[0].Webhook != h.id {
		t.Errorf("dead are %+v, %v", dead, err)
	}
	if n, err := h.operator.Drop(ctx, h.id, got[0].ID); n != 1 || err != nil {
		t.Errorf("dropped %d, %v", n, err)
	}
	if n, err := h.operator.Drop(ctx, h.id, got[3].ID); n != 0 || err != nil {
		t.Errorf("dropped one that is not dead: %d, %v", n, err)
	}
	if n, err := h.operator.Retry(ctx, now, h.id, got[1].ID); n != 1 || err != nil {
		t.Errorf("retried one: %d, %v", n, err)
	}
	if n, err := h.operator.Retry(ctx, now, h.id, ""); n != 2 || err != nil { // the third and the one that waited, not the one in hand
		t.Errorf("retried %d, %v", n, err)
	}
	if again := h.claim(8); len(again) != 3 || again[0].Tries != 1 {
		t.Errorf("claimed %+v", again)
	}
}

func TestTidyingEventsOfWebhooks(t *testing.T) {
	h := newHooked(t)
	ctx := t.Context()
	h.write("old", 3)
	h.clock.Advance(time.Hour)
	h.write("young", 2)
	now := h.clock.Now()
	if n, err := h.gateway.Overdue(ctx, now, now, "too late", 2); n != 2 || err != nil {
		t.Errorf("gave up %d, %v; want as many as the limit", n, err)
	}
	if n, err := h.gateway.Overdue(ctx, now, now, "too late", 2); n != 1 || err != nil {
		t.Errorf("gave up %d more, %v", n, err)
	}
	if n, err := h.gateway.Forget(ctx, now, 10); n != 0 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	if n, err := h.gateway.Forget(ctx, now.Add(time.Second), 2); n != 2 || err != nil {
		t.Errorf("forgot %d, %v; want as many as the limit", n, err)
	}
	if w := h.get(); w.Dead != 1 || w.Pending != 2 {
		t.Errorf("%+v", w)
	}
}

// While its webhook is removed, a batch is put off and not buried.
func TestWritingWhileAWebhookIsRemoved(t *testing.T) {
	h := newHooked(t)
	h.db.Exec(t, `CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN DELETE FROM webhooks WHERE id = NEW.webhook_id; RETURN NEW; END $$`)
	h.db.Exec(t, "CREATE TRIGGER gone BEFORE INSERT ON webhook_events FOR EACH ROW EXECUTE FUNCTION gone()")
	event := []postgres.WebhookEvent{{App: "demo", ID: "e", Name: "deactivated", Payload: []byte("{}"), At: h.clock.Now()}}
	if _, err := h.gateway.Write(t.Context(), h.clock.Now(), event); !errors.Is(err, postgres.ErrWebhookGone) || postgres.Refused(err) {
		t.Errorf("it says %v", err)
	}
	large := []postgres.WebhookEvent{{App: "demo", ID: "e", Name: "deactivated", Payload: make([]byte, 1<<17+1), At: h.clock.Now()}}
	h.db.Exec(t, "DROP TRIGGER gone ON webhook_events")
	if _, err := h.gateway.Write(t.Context(), h.clock.Now(), large); !postgres.Refused(err) || postgres.Constraint(err) != "webhook_events_payload_bounds" {
		t.Errorf("one that is too large: %v", err)
	}
}

func TestWebhookCheck(t *testing.T) {
	for _, tc := range []struct {
		url     string
		private bool
		events  []string
		wrong   string // a word of the error; "" for a right one
	}{
		{url: "https://shop.example"},
		{url: "https://shop.example:8443/a/b?c=d"},
		{url: "https://[2606:2800:220:1::1]/x"},
		{url: "http://10.0.0.1:80/x", private: true},
		{url: "https://shop.example", events: []string{"challenge.verified", "recovery.*", "deactivated"}},
		{url: "http://shop.example", wrong: "https://"},
		{url: "ftp://shop.example", wrong: "https://", private: true},
		{url: "shop.example", wrong: "https://"},
		{url: "", wrong: "https://"},
		{url: "https://", wrong: "host"},
		{url: "https:shop.example", wrong: "host"},
		{url: "https://:443/", wrong: "host"},
		{url: "https://me:secret@shop.example", wrong: "user"},
		{url: "https://me@shop.example", wrong: "user"},
		{url: "https://shop.example/#x", wrong: "fragment"},
		{url: "https://shop.example/#", wrong: "fragment"},
		{url: "https://shop.example/a b", wrong: "URL"},
		{url: "https://shop.example/\r\nx", wrong: "URL"},
		{url: "https://shop.example/%zz", wrong: "URL"},
		{url: "https://shop.example/" + strings.Repeat("x", 2000), wrong: "2000"},
		{url: "https://shop.example", events: []string{"challenge.verifed"}, wrong: `"challenge.verifed"`},
		{url: "https://shop.example", events: []string{"*"}, wrong: `"*"`},
		{url: "https://shop.example", events: []string{"chall*"}, wrong: "chall"},
		{url: "https://shop.example", events: []string{""}, wrong: "event"},
		{url: "https://shop.example", events: []string{"nothing.*"}, wrong: "nothing"},
		{url: "https://shop.example", events: make([]string, 65), wrong: "64"},
	} {
		err := postgres.Webhook{URL: tc.url, Private: tc.private, Events: tc.events}.Check()
		if (err == nil) != (tc.wrong == "") || err != nil && (!strings.Contains(err.Error(), tc.wrong) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q %v: %v, want %q", tc.url, tc.events, err, tc.wrong)
		}
	}
}

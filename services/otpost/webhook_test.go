package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/telemetry"
	"github.com/otpost/otpost/services/gateway/webhook"
)

var (
	printedHook   = regexp.MustCompile(`(?m)^webhook +(\S+)$`)
	printedSecret = regexp.MustCompile(`(?m)^secret +(whsec_\S+)$`)
)

// hookOf returns the id and the secret that otpost webhook create printed.
func hookOf(t *testing.T, printed string) (id, secret string) {
	t.Helper()
	h, s := printedHook.FindStringSubmatch(printed), printedSecret.FindStringSubmatch(printed)
	if h == nil || s == nil {
		t.Fatalf("no webhook and secret in:\n%s", printed)
	}
	return h[1], s[1]
}

func TestWebhookCommands(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator"), "OTPOST_KEYS": otposttest.Keys(t)}}
	db.App(t, "demo")
	db.App(t, "other")
	id, secret := hookOf(t, sh.ok("webhook", "create", "demo", "https://shop.example/hooks?key=1", "--events=challenge.verified, recovery.*"))
	private, _ := hookOf(t, sh.ok("webhook", "create", "other", "http://127.0.0.1:9/", "--allow-private"))
	out := sh.ok("webhook", "list")
	has(t, out, id, "demo", "https://shop.example/hooks?key=1", "challenge.verified,recovery.*", "no", "0", "0")
	has(t, out, private, "other", "http://127.0.0.1:9/", "all", "yes", "0", "0")
	if strings.Contains(out, secret) {
		t.Error("the secret is shown again")
	}
	if out := sh.ok("webhook", "list", "other"); strings.Contains(out, id) || !strings.Contains(out, private) {
		t.Errorf("of one app:\n%s", out)
	}
	rotated := printedSecret.FindStringSubmatch(sh.ok("webhook", "rotate", id, "--overlap=48h"))
	if rotated == nil || rotated[1] == secret {
		t.Error("rotate prints no new secret")
	}
	if n := otposttest.Get[int](t, db, "SELECT count(*) FROM webhooks WHERE id = $1 AND previous_until BETWEEN now() + interval '47h' AND now() + interval '48h'", id); n != 1 {
		t.Error("the old secret does not sign for 48h")
	}
	if out := sh.ok("webhook", "rotate", id, "--overlap=0s"); !strings.Contains(out, "signs no more") {
		t.Errorf("rotate says:\n%s", out)
	}
	if n := otposttest.Get[int](t, db, "SELECT count(*) FROM webhooks WHERE id = $1 AND previous IS NULL", id); n != 1 {
		t.Error("the old secret signs on")
	}
	sh.ok("webhook", "disable", id)
	if out := sh.ok("webhook", "list", "demo"); !regexp.MustCompile(`disabled 20\S+ \S+: by the operator`).MatchString(out) {
		t.Errorf("disabled:\n%s", out)
	}
	sh.ok("webhook", "enable", id)
	for _, e := range []string{"a", "b", "c"} {
		db.Exec(t, `INSERT INTO webhook_events (webhook_id, event_id, name, payload, state, tries, next_at, reason, created_at, updated_at)
			VALUES ($1, $2, 'challenge.verified', '{}', 'dead', 10, now(), 'it answered 500', now(), now())`, id, e)
	}
	out = sh.ok("webhook", "dead", "demo")
	has(t, out, id, "demo", "b", "challenge.verified", "10")
	if !strings.Contains(out, "it answered 500") || strings.Contains(sh.ok("webhook", "dead", "other"), "challenge.verified") {
		t.Errorf("dead:\n%s", out)
	}
	if out := sh.ok("webhook", "drop", id, "--event=a"); out != "1 event is gone.\n" {
		t.Errorf("drop says %q", out)
	}
	if out := sh.ok("webhook", "retry", id, "--event=b"); out != "1 event is posted now.\n" {
		t.Errorf("retry says %q", out)
	}
	sh.ok("webhook", "disable", id)
	if out := sh.ok("webhook", "retry", id); out != "1 event is posted once the webhook is enabled.\n" {
		t.Errorf("retry of a disabled one says %q", out)
	}
	has(t, sh.ok("webhook", "list", "demo"), id, "demo", "https://shop.example/hooks?key=1", "challenge.verified,recovery.*", "no", "2", "0")
	sh.ok("webhook", "remove", id)
	if n := otposttest.Get[int](t, db, "SELECT count(*) FROM webhook_events"); n != 0 {
		t.Errorf("%d events are left", n)
	}
	for _, args := range [][]string{{"rotate"}, {"disable"}, {"enable"}, {"remove"}, {"retry"}, {"drop"}} {
		sh.fails(1, []string{id, "no such webhook"}, "webhook", args[0], id)
		sh.fails(1, []string{"no webhook's id"}, "webhook", args[0], "1")
	}
	sh.fails(1, []string{"nobody"}, "webhook", "create", "nobody", "https://shop.example")
	sh.fails(1, []string{"nobody"}, "webhook", "list", "nobody")
	sh.fails(1, []string{"URL", "https://", "--allow-private"}, "webhook", "create", "demo", "http://shop.example")
	sh.fails(1, []string{"URL", "10.0.0.1", "--allow-private"}, "webhook", "create", "demo", "https://10.0.0.1/")
	sh.fails(1, []string{"URL", "169.254.169.254"}, "webhook", "create", "demo", "http://169.254.169.254/", "--allow-private")
	sh.fails(1, []string{"URL", "password"}, "webhook", "create", "demo", "https://me:mine@shop.example/")
	sh.fails(1, []string{"--events", "challenge.verifed"}, "webhook", "create", "demo", "https://shop.example/", "--events=challenge.verifed")
	sh.fails(1, []string{"--overlap"}, "webhook", "rotate", id, "--overlap=721h")
}

// What the operator's commands made, a gateway posts, with the keys of its own role.
func TestWebhookFromCommandToTarget(t *testing.T) {
	t.Parallel()
	db, nats := otposttest.Postgres(t), otposttest.NATS(t, otposttest.WithLazySync())
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator"), "OTPOST_KEYS": otposttest.Keys(t)}}
	db.App(t, "demo")
	type post struct {
		body   []byte
		header http.Header
	}
	posts := make(chan post, 8)
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		posts <- post{body, r.Header.Clone()}
	}))
	defer app.Close()
	id, secret := hookOf(t, sh.ok("webhook", "create", "demo", app.URL, "--allow-private"))
	w, err := webhook.New(webhook.Config{
		DB: db.Role("gateway"), Bus: nats.Bus(t, bus.RoleGateway), Keys: otposttest.Ring(t, keyring.Gateway), Logger: otposttest.Logger(t).Logger, Now: time.Now,
		Metrics: telemetry.NewMetrics(telemetry.NewRegistry()), Poll: 20 * time.Millisecond, Look: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	worker := nats.Bus(t, bus.RoleChallenge)
	receive := func() post {
		t.Helper()
		e := outbox.Out(event.Event{App: "demo", Name: event.ChallengeEnded, ID: uuid.NewString(), Time: time.Now(), Data: event.Ended{Reason: "expired"}})
		if err := worker.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		select {
		case p := <-posts:
			if string(p.body) != string(e.Data) || p.header.Get("webhook-id") != e.ID {
				t.Errorf("posted was %v %s", p.header, p.body)
			}
			return p
		case <-time.After(otposttest.Patience):
			t.Fatal("nothing was posted")
			return post{}
		}
	}
	verify := func(p post, secret string) error {
		t.Helper()
		library, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		return library.Verify(p.body, p.header) // with the time
	}
	if err := verify(receive(), secret); err != nil {
		t.Error(err)
	}
	fresh := printedSecret.FindStringSubmatch(sh.ok("webhook", "rotate", id))[1]
	p := receive()
	if err := verify(p, secret); err != nil {
		t.Errorf("the old secret: %v", err)
	}
	if err := verify(p, fresh); err != nil {
		t.Errorf("the new secret: %v", err)
	}
}

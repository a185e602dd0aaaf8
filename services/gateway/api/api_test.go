package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/schemas"
	"github.com/otpost/otpost/services/gateway/api"
)

// A request goes to the workers as it came, for the app of the key, and the reply comes back as it is.
func TestRequestsAreForwarded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other := b.db.App(t, "other")
	got := b.post(verifyPath, answerBody)
	if got.status != 200 || string(got.body) != verdict || got.header.Get("Cache-Control") != "no-store" || got.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %s %v", got.status, got.body, got.header)
	}
	const odd = "{ \"b\" : \"é\\u0000\" , \"b\": [[[[1e400]]]] } \n" // what this is, is for the worker to say
	if got := b.send("POST", verifyPath, odd, "Authorization", "bearer  "+b.newKey(other, time.Time{}), "Content-Type", `application/json; charset="UTF-8"`); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if d := cmp.Diff([]string{"demo " + answerBody, "other " + odd}, b.worker.called()); d != "" {
		t.Errorf("the worker was asked (-want +got):\n%s", d)
	}
}

// Every reason of a worker is the same over HTTP, with its field and its wait.
func TestReasonsAreTheSameOverHTTP(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, reason := range slices.Sorted(maps.Keys(api.Kinds())) {
		b.worker.set(func(r *bus.Request) {
			r.Fail(&otp.Problem{Reason: reason, Field: "to.sms", Message: "to.sms is not liked", RetryAfter: 1500 * time.Millisecond})
		})
		kind := api.Kinds()[reason]
		got := b.send("POST", verifyPath, answerBody)
		want := event.HTTPProblem{
			Type: api.ProblemType(reason), Title: kind.Title, Status: kind.Status, Detail: "to.sms is not liked", Code: string(reason), Field: "to.sms", RetryAfter: 2,
			RequestID: got.header.Get("X-Request-Id"),
		}
		if d := cmp.Diff(want, got.problem(t)); d != "" || got.header.Get("Retry-After") != "2" {
			t.Errorf("%s (-want +got), Retry-After %s:\n%s", reason, got.header.Get("Retry-After"), d)
		}
	}
	b.worker.set(func(r *bus.Request) {
		r.Fail(&otp.Problem{Reason: "from_the_future", Message: "what this version does not know"})
	})
	if got := b.send("POST", verifyPath, answerBody); got.status != 409 || !strings.Contains(string(got.body), "from_the_future") {
		t.Errorf("an unknown reason: %d %s", got.status, got.body)
	}
	// Nobody serves this verb here: the same request may do later.
	if p := b.fails(otp.Busy, "/v1/resend", "{}"); p.RetryAfter != 1 {
		t.Errorf("nobody answers: %+v", p)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	keys := postgres.NewAppKeys(b.db.Role("operator"))
	revoked, brief := b.newKey(b.app, time.Time{}), b.newKey(b.app, b.clock.Now().Add(time.Hour))
	digest, _ := otp.APIKeyDigest(revoked)
	k, err := keys.ByDigest(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{revoked, brief} {
		if got := b.post(verifyPath, answerBody, "Authorization", "Bearer "+key); got.status != 200 {
			t.Errorf("a good key: %d %s", got.status, got.body)
		}
	}
	otposttest.Eventually(t, "its use is noted", func() bool {
		k, err := keys.ByDigest(t.Context(), digest)
		return err == nil && k.LastUsedAt.Equal(b.clock.Now().Truncate(time.Minute))
	})

	// Revocation acts within three seconds, expiry at once.
	if err := keys.Revoke(t.Context(), b.clock.Now(), b.app.ID, k.ID); err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(3 * time.Second)
	b.fails(event.Unauthorized, verifyPath, answerBody, "Authorization", "Bearer "+revoked)
	b.clock.Advance(time.Hour - 3*time.Second - time.Millisecond)
	if got := b.post(verifyPath, answerBody, "Authorization", "Bearer "+brief); got.status != 200 {
		t.Errorf("a key's last moment: %d", got.status)
	}
	b.clock.Advance(time.Millisecond)
	asked := len(b.worker.called())

	// All that do not serve are answered alike.
	var first string
	for name, value := range map[string]string{
		"none": "-", "empty": "", "no scheme": b.key, "Basic": "Basic " + b.key, "no key": "Bearer", "a space": "Bearer ", "a key of another form": "Bearer otpost_x",
		"an unknown key": "Bearer " + otp.NewAPIKey(), "a revoked key": "Bearer " + revoked, "an expired key": "Bearer " + brief,
		"a key and more": "Bearer " + b.key + " x", "two in one": "Bearer " + b.key + ", Bearer " + b.key, "in upper case": "Bearer " + strings.ToUpper(b.key),
	} {
		b.clock.Advance(2 * time.Second)
		got := b.post(verifyPath, answerBody, "Authorization", value, "X-Request-Id", "same")
		if got.status != 401 || got.problem(t).Code != "unauthorized" || got.header.Get("WWW-Authenticate") != `Bearer realm="otpost"` {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if first == "" {
			first = string(got.body)
		}
		if string(got.body) != first {
			t.Errorf("%s is told from others: %s", name, got.body)
		}
	}
	r, _ := http.NewRequestWithContext(t.Context(), "POST", b.url+verifyPath, strings.NewReader(answerBody))
	r.Header["Authorization"] = []string{"Bearer " + b.key, "Bearer " + b.key}
	if resp, err := http.DefaultClient.Do(r); err != nil || resp.StatusCode != 401 {
		t.Errorf("two headers: %v, %v", resp.StatusCode, err)
	} else {
		_ = resp.Body.Close()
	}
	if n := len(b.worker.called()); n != asked {
		t.Errorf("%d requests of strangers reached the worker", n-asked)
	}
	if log := otposttest.Logger(t).Logs(); strings.Contains(log, revoked[7:]) || strings.Contains(log, b.key[7:]) {
		t.Error("a key stands in the log")
	}
}

// Who tries keys is slowed down; an app that is known goes on, from the same address as well.
func TestGuessersAreSlowedDown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if got := b.post(verifyPath, answerBody); got.status != 200 {
		t.Fatal(got.status)
	}
	refused := 0
	for range 30 {
		got := b.post(verifyPath, answerBody, "Authorization", "Bearer "+otp.NewAPIKey())
		if got.status == 429 {
			refused++
			if p := got.problem(t); p.Code != "rate_limited" || p.RetryAfter != 2 || got.header.Get("Retry-After") != "2" {
				t.Errorf("%+v", p)
			}
		}
	}
	if refused != 10 {
		t.Errorf("%d of 30 were slowed down", refused)
	}
	b.clock.Advance(time.Second)
	if got := b.post(verifyPath, answerBody, "Authorization", "Bearer "+b.newKey(b.app, time.Time{})); got.status != 429 {
		t.Errorf("a key that nobody has seen yet is answered %d: the guesser could try on", got.status)
	}
	b.clock.Advance(2 * time.Second) // what is known of the key is no longer fresh
	if got := b.post(verifyPath, answerBody); got.status != 200 {
		t.Errorf("an app that is known is answered %d", got.status)
	}
	if got := b.post(verifyPath, answerBody, "Authorization", "-"); got.status != 401 {
		t.Errorf("after a wait: %d", got.status)
	}
}

func TestAnAppsRateIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *api.Config) { c.Rate, c.Burst = 0.5, 3 })
	for range 3 {
		if got := b.post(verifyPath, answerBody); got.status != 200 {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	got := b.post(verifyPath, answerBody)
	if p := got.problem(t); p.Code != "rate_limited" || p.RetryAfter != 2 {
		t.Errorf("%+v", p)
	}
	if got := b.post(verifyPath, answerBody, "Authorization", "Bearer "+b.newKey(b.db.App(t, "other"), time.Time{})); got.status != 200 {
		t.Errorf("another app is answered %d", got.status)
	}
	b.clock.Advance(2 * time.Second)
	if got := b.post(verifyPath, answerBody); got.status != 200 {
		t.Errorf("after the wait: %d", got.status)
	}
	if n := len(b.worker.called()); n != 5 {
		t.Errorf("the worker was asked %d times", n)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if got := b.send("POST", verifyPath, strings.Repeat(" ", event.MaxBody)); got.status != 200 {
		t.Errorf("64 KiB: %d", got.status)
	}
	b.fails(event.TooLarge, verifyPath, strings.Repeat(" ", event.MaxBody+1))
	for name, headers := range map[string][]string{
		"none": {"Content-Type", "-"}, "a form": {"Content-Type", "application/x-www-form-urlencoded"}, "text": {"Content-Type", "text/plain"},
		"another character set": {"Content-Type", "application/json; charset=utf-16"}, "packed": {"Content-Encoding", "gzip"}, "a kin": {"Content-Type", "application/json-patch+json"},
	} {
		if p := b.fails(event.UnsupportedMediaType, verifyPath, answerBody, headers...); p.Status != 415 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if n := len(b.worker.called()); n != 1 {
		t.Errorf("the worker was asked %d times", n)
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, id := range []string{"a", "0193503c-7a80.x_Y", strings.Repeat("a", 64)} {
		if got := b.post(verifyPath, answerBody, "X-Request-Id", id).header.Get("X-Request-Id"); got != id {
			t.Errorf("%q is answered with %q", id, got)
		}
		if got := b.fails(event.NotFound, "/v1/none", answerBody, "X-Request-Id", id).RequestID; got != id {
			t.Errorf("%q is told as %q", id, got)
		}
	}
	seen := map[string]bool{}
	for _, id := range []string{"-", "a b", "a\tb", "é", strings.Repeat("a", 65), `"a"`, "a;b"} {
		got := b.post(verifyPath, answerBody, "X-Request-Id", id).header.Get("X-Request-Id")
		if got == id || got == "" || seen[got] {
			t.Errorf("%q is answered with %q", id, got)
		}
		seen[got] = true
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const device = "01a1ff0d-0bcc-7c1e-9d2a-3f1be2a45c48"
	for name, data := range map[event.SignalName]string{
		event.PasswordChanged: `{"user":"u-42"}`, event.SessionSignedOut: `{"user":"u-42","session":"s"}`, event.DeviceErased: `{"user":"u-42","device":"` + strings.ToUpper(device) + `"}`,
		event.UserDeleted: `{"user":"u-42"}`,
	} {
		for _, key := range []string{"", "event-7", strings.Repeat("k", 200)} {
			got := b.post("/v1/signals/"+string(name), data, "Idempotency-Key", map[bool]string{false: key + string(name), true: "-"}[key == ""])
			var reply event.SignalReply
			if err := json.Unmarshal(got.body, &reply); err != nil || got.status != 202 {
				t.Fatalf("%s: %d %s", name, got.status, got.body)
			}
			if short := key == "event-7"; short != (reply.ID == key+string(name)) || reply.ID == "" {
				t.Errorf("with the key %q the event's id is %q", key, reply.ID)
			}
			s := b.signals[len(b.signals)-1]
			e, p := event.ParseSignal("demo", name, s.body)
			if p != nil || s.app != "demo" || s.name != name || e.ID != reply.ID || !e.Time.Equal(b.clock.Now()) || e.User != "u-42" {
				t.Errorf("%s was published as %s: %v", name, s.body, p)
			}
			if name == event.DeviceErased && e.Device != device {
				t.Errorf("the device is %q", e.Device)
			}
			if !strings.HasPrefix(s.id, "demo/"+string(name)+"/") {
				t.Errorf("the stream tells it by %q", s.id)
			}
		}
	}
	published := len(b.signals)
	for body, field := range map[string]string{"": "body", "x": "body", "{}": "user", `{"user":"u","session":"s"}`: "session", `{"user":"` + strings.Repeat("u", 129) + `"}`: "user"} {
		if p := b.fails(otp.Invalid, "/v1/signals/password.changed", body); p.Field != field {
			t.Errorf("%s: %+v", body, p)
		}
	}
	b.mu.Lock()
	b.deaf = true
	b.mu.Unlock()
	b.fails(otp.Busy, "/v1/signals/user.deleted", `{"user":"u-42"}`, "Idempotency-Key", "later")
	b.mu.Lock()
	b.deaf = false
	b.mu.Unlock()
	if got := b.post("/v1/signals/user.deleted", `{"user":"u-42"}`, "Idempotency-Key", "later"); got.status != 202 || len(b.signals) != published+1 {
		t.Errorf("sent again: %d %s", got.status, got.body)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const sessions, results = "/v1/page-sessions", "/v1/page-results"
	const request = `{"user":"u-42","session":"s-9f3c","page":"settings","return_url":"https://shop.example/","account":"jane@shop.example","locale":"cs",` +
		`"reauthenticate_url":"https://shop.example/password","reauthenticated_at":"2026-11-21T16:58:30Z"}`
	if got := b.post(sessions, request); got.status != 200 || string(got.body) != `{"url":"https://auth.example/p/token","expires_at":"2026-11-21T17:02:00.000Z"}` {
		t.Errorf("%d %s", got.status, got.body)
	}
	want := event.PageSessionRequest{
		Owner: event.Owner{User: "u-42", Session: "s-9f3c"}, Page: event.PageSettings, Account: "jane@shop.example", Locale: "cs", ReturnURL: "https://shop.example/",
		Reauthenticate: "https://shop.example/password", Reauthenticated: "2026-11-21T16:58:30Z",
	}
	if d := cmp.Diff([]event.PageSessionRequest{want}, b.visits.asked); d != "" {
		t.Error(d)
	}
	if p := b.fails(otp.Invalid, sessions, `{"user":"u","session":"s","page":"challenge","return_url":"https://shop.example/"}`); p.Field != "challenge" {
		t.Errorf("%+v", p)
	}
	b.visits.err = otp.InvalidField("return_url", "must be one that the operator has allowed")
	if p := b.fails(otp.Invalid, sessions, request); p.Field != "return_url" || p.Status != 400 {
		t.Errorf("%+v", p)
	}
	b.visits.err = errors.New("what is nobody's business: 10.0.0.5")
	if p := b.fails(otp.Internal, sessions, request); strings.Contains(fmt.Sprint(p), "10.0.0.5") || !strings.Contains(otposttest.Logger(t).Logs(), "10.0.0.5") {
		t.Errorf("a fault is told as %+v", p)
	}
	b.visits.err = nil

	b.visits.reply = event.PageResultReply{Page: event.PageSettings, Outcome: event.OutcomeDone, User: "u-42", Session: "s-9f3c"}
	if got := b.post(results, `{"result":"good"}`); got.status != 200 || string(got.body) != `{"page":"settings","outcome":"done","user":"u-42","session":"s-9f3c"}` {
		t.Errorf("%d %s", got.status, got.body)
	}
	b.fails(event.UnknownResult, results, `{"result":"bad"}`)
	if p := b.fails(otp.Invalid, results, `{"token":"good"}`); p.Field != "token" {
		t.Errorf("%+v", p)
	}
}

func TestTheDescriptionIsServed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	got := b.send("GET", "/openapi.yaml", "", "Authorization", "-")
	if got.status != 200 || string(got.body) != string(schemas.OpenAPI) || got.header.Get("Content-Type") != "application/yaml" {
		t.Errorf("%d %v", got.status, got.header)
	}
	want, err := schemas.Events.ReadFile("events/v1/rpc.login.request.json")
	if err != nil {
		t.Fatal(err)
	}
	if got := b.send("GET", "/events/v1/rpc.login.request.json", "", "Authorization", "-"); got.status != 200 || string(got.body) != string(want) {
		t.Errorf("%d %v", got.status, got.header)
	}
}

// What was begun is brought to its end although the app has gone, so that it finds the answer when it asks again.
func TestAnAppThatHangsUpFindsTheAnswerLater(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	reached, goOn := make(chan struct{}), make(chan struct{})
	b.worker.set(func(r *bus.Request) {
		close(reached)
		<-goOn
		r.Reply([]byte(verdict))
	})
	ctx, hangUp := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "POST", b.url+verifyPath, strings.NewReader(answerBody))
	r.Header.Set("Authorization", "Bearer "+b.key)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", "k")
	gone := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		gone <- err
	}()
	<-reached
	hangUp()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("it did not hang up: %v", err)
	}
	b.fails(otp.Conflict, verifyPath, answerBody, "Idempotency-Key", "k")
	close(goOn)
	otposttest.Eventually(t, "the answer is there", func() bool {
		got := b.send("POST", verifyPath, answerBody, "Idempotency-Key", "k")
		return got.status == 200 && got.header.Get("Idempotency-Replayed") == "true"
	})
	if n := len(b.worker.called()); n != 1 {
		t.Errorf("the worker was asked %d times", n)
	}
}

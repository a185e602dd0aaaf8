package api_test

import (
	"crypto/sha256"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

func TestARepeatIsAnsweredAlike(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const secret = `{"result":"verified","attempts_left":1,"retry_after":0,"user":"u-42","factor":"totp","amr":["otp"],"verified_at":"2026-11-21T17:00:00.000Z","device":"otd1.secret"}`
	b.worker.set(func(r *bus.Request) { r.Reply([]byte(secret)) })
	key := []string{"Idempotency-Key", "k-1"}
	first := b.post(verifyPath, answerBody, key...)
	if first.status != 200 || first.header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("%d %v", first.status, first.header)
	}
	b.worker.set(func(r *bus.Request) { r.Reply([]byte(verdict)) })
	b.clock.Advance(24*time.Hour - time.Millisecond)
	for _, k := range []string{"k-1", `"k-1"`} {
		again := b.post(verifyPath, answerBody, "Idempotency-Key", k)
		if again.status != 200 || string(again.body) != secret || again.header.Get("Idempotency-Replayed") != "true" || again.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s %v", k, again.status, again.body, again.header)
		}
	}
	b.fails(event.IdempotencyMismatch, verifyPath, answerBody+" ", key...)
	b.fails(event.IdempotencyMismatch, "/v1/cancel", answerBody, key...)
	other := b.newKey(b.db.App(t, "other"), time.Time{})
	if got := b.post(verifyPath, answerBody, "Idempotency-Key", "k-1", "Authorization", "Bearer "+other); string(got.body) != verdict {
		t.Errorf("another app gets %s", got.body)
	}
	if got := b.post(verifyPath, answerBody, "Idempotency-Key", "K-1"); string(got.body) != verdict {
		t.Errorf("another key gets %s", got.body)
	}
	if dump := b.db.Dump(t); strings.Contains(dump, "otd1.secret") || strings.Contains(dump, "6f7464312e736563726574") || strings.Contains(dump, "k-1") {
		t.Error("the answer or the key lies open in the database")
	}
	b.clock.Advance(time.Millisecond)
	if got := b.post(verifyPath, answerBody, key...); string(got.body) != verdict || got.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("after a day: %s", got.body)
	}
	if n := len(b.worker.called()); n != 4 {
		t.Errorf("the worker was asked %d times", n)
	}
}

// A refusal that would come again is kept like any answer; one that passes is not, and the same key serves once more.
func TestWhatPassesIsNotKept(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	refuse := func(reason otp.Reason) func(*bus.Request) {
		return func(r *bus.Request) { r.Fail(&otp.Problem{Reason: reason, Message: "no", RetryAfter: time.Second}) }
	}
	for _, reason := range []otp.Reason{otp.Invalid, otp.UnknownChallenge, otp.CoolingOff, otp.AccountLocked} {
		b.worker.set(refuse(reason))
		key := []string{"Idempotency-Key", string(reason), "X-Request-Id", "first"}
		b.fails(reason, verifyPath, answerBody, key...)
		b.worker.set(func(r *bus.Request) { r.Reply([]byte(verdict)) })
		if p := b.fails(reason, verifyPath, answerBody, "Idempotency-Key", string(reason), "X-Request-Id", "second"); p.RequestID != "second" || p.RetryAfter != 1 {
			t.Errorf("%s again: %+v", reason, p)
		}
	}
	for _, reason := range []otp.Reason{otp.RateLimited, otp.Busy, otp.Internal} {
		b.worker.set(refuse(reason))
		key := []string{"Idempotency-Key", string(reason)}
		b.fails(reason, verifyPath, answerBody, key...)
		b.worker.set(func(r *bus.Request) { r.Reply([]byte(verdict)) })
		if got := b.post(verifyPath, answerBody, key...); got.status != 200 || got.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%s again: %d %s", reason, got.status, got.body)
		}
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM http_requests WHERE status IS NULL"); n != 0 {
		t.Errorf("%d claims were left behind", n)
	}
}

// A process that dies with a request in hand keeps others from it for seconds only.
func TestARequestWhoseProcessDied(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	request := postgres.HTTPRequest{AppID: b.app.ID, Key: sha256.Sum256([]byte("k")), Request: sha256.Sum256([]byte(verifyPath + "\n" + answerBody))}
	now := b.clock.Now()
	if _, _, err := postgres.NewHTTPRequests(b.db.Role("gateway")).Claim(t.Context(), now, request, now.Add(15*time.Second)); err != nil {
		t.Fatal(err)
	}
	if p := b.fails(otp.Conflict, verifyPath, answerBody, "Idempotency-Key", "k"); p.RetryAfter != 1 {
		t.Errorf("%+v", p)
	}
	b.clock.Advance(15 * time.Second)
	if got := b.post(verifyPath, answerBody, "Idempotency-Key", "k"); got.status != 200 || got.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := b.post(verifyPath, answerBody, "Idempotency-Key", "k"); got.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("and then %v", got.header)
	}
}

// An answer is sealed for its app and its key: put elsewhere in the database it does not open.
func TestAnAnswerOpensForItsOwnKeyOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.post(verifyPath, answerBody, "Idempotency-Key", "k-1")
	b.post(verifyPath, answerBody, "Idempotency-Key", "k-2")
	k1, k2 := sha256.Sum256([]byte("k-1")), sha256.Sum256([]byte("k-2"))
	b.db.Exec(t, "UPDATE http_requests SET sealed = (SELECT sealed FROM http_requests WHERE key_digest = $1) WHERE key_digest = $2", k1[:], k2[:])
	b.fails(otp.Internal, verifyPath, answerBody, "Idempotency-Key", "k-2")
}

func TestIdempotencyKeysAreChecked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, key := range []string{"", "a\tb", "é", strings.Repeat("k", 256)} {
		if p := b.fails(otp.Invalid, verifyPath, answerBody, "Idempotency-Key", key); p.Field != "Idempotency-Key" {
			t.Errorf("%q: %+v", key, p)
		}
	}
	if n := len(b.worker.called()); n != 0 {
		t.Errorf("the worker was asked %d times", n)
	}
	for _, key := range []string{"a b", `"`, `""`, strings.Repeat("~", 255)} {
		if got := b.post(verifyPath, answerBody, "Idempotency-Key", key); got.status != 200 {
			t.Errorf("%q: %d %s", key, got.status, got.body)
		}
	}
}

// TestTheSameRequestAtOnce holds that of the same request many times at once one reaches the worker.
func TestTheSameRequestAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const many = 8
	for range 3 {
		key := otp.NewAPIKey() // any that is new
		before := len(b.worker.called())
		goOn := make(chan struct{})
		b.worker.set(func(r *bus.Request) {
			<-goOn
			r.Reply([]byte(verdict))
		})
		answers := make(chan result, many)
		var all sync.WaitGroup
		for range many {
			all.Go(func() { answers <- b.post(verifyPath, answerBody, "Idempotency-Key", key) })
		}
		refused := 0
		for range many - 1 { // all but the one that waits
			if r := <-answers; r.status == 409 && r.problem(t).Code == string(otp.Conflict) {
				refused++
			}
			if refused == 0 {
				break // several wait, so that nobody would be refused
			}
		}
		close(goOn)
		all.Wait()
		if n := len(b.worker.called()) - before; n != 1 || refused != many-1 {
			t.Fatalf("the worker was asked %d times, and %d were told to wait", n, refused)
		}
	}
}

package email

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/otpost/otpost/pkg/delivery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider returns an SMTP on s, closed when the test ends.
func provider(t testing.TB, s *server, adjust ...func(*SMTPConfig)) *SMTP {
	t.Helper()
	cfg := SMTPConfig{
		Host: "127.0.0.1", Port: s.port, TLS: s.secure, RootCAs: s.certs, ServerName: "mx.test",
		From: "Shop <no-reply@shop.example>", Helo: "client.test",
	}
	if s.auth {
		cfg.Username, cfg.Password = "shop", "secret"
	}
	for _, f := range adjust {
		f(&cfg)
	}
	p, err := NewSMTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func note(reference string) *delivery.Message {
	return &delivery.Message{
		Reference: reference, App: "shop", To: "jane.roe@example.com", Subject: "Your code", Locale: "en",
		Text: "Your code is 123456.\n", HTML: "<p>Your code is <b>123456</b>.</p>\n",
	}
}

func mustSend(t testing.TB, p *SMTP, m *delivery.Message) delivery.Accepted {
	t.Helper()
	accepted, err := p.Send(t.Context(), m)
	if err != nil {
		t.Fatalf("Send: %v (%v)", err, errors.Unwrap(err))
	}
	return accepted
}

// mustFail checks the class and code of a failed Send, and that neither Reason nor Code tell what they must not.
func mustFail(t testing.TB, p *SMTP, ctx context.Context, m *delivery.Message, class delivery.Class, code string) *delivery.Error {
	t.Helper()
	_, err := p.Send(ctx, m)
	e, ok := errors.AsType[*delivery.Error](err)
	if !ok {
		t.Fatalf("Send: %v, not a *delivery.Error", err)
	}
	if e.Class != class || e.Code != code {
		t.Errorf("Send: %s, code %q (%v); want %s, code %q", e.Class, e.Code, e.Err, class, code)
	}
	if said := e.Error(); strings.Contains(said, "jane") || strings.Contains(said, "example.com") || strings.Contains(said, "123456") {
		t.Errorf("the error tells the address or the code: %s", said)
	}
	return e
}

// eventually polls until it holds or five seconds have passed.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not come about: %s", what)
		}
	}
}

// A clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

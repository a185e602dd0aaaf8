package email

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/otpost/otpost/pkg/delivery"
)

func TestOneConnectionCarriesManyMessages(t *testing.T) {
	s := (&server{auth: true}).start(t)
	p := provider(t, s)
	for i := range 20 {
		mustSend(t, p, note(fmt.Sprintf("c-%d", i)))
	}
	if s.count() != 20 || s.connections() != 1 {
		t.Errorf("%d messages over %d connections, want 20 over 1", s.count(), s.connections())
	}
	got := s.commands()
	want := map[string]int{"EHLO": 2, "STARTTLS": 1, "AUTH": 1, "MAIL": 20, "RCPT": 20, "DATA": 20}
	for _, verb := range []string{"EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"} {
		if got[verb] != want[verb] {
			t.Errorf("%s came %d times, want %d", verb, got[verb], want[verb])
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.commands()["QUIT"]; got != 1 {
		t.Errorf("Close said QUIT %d times, want 1", got)
	}
	if e := mustFail(t, p, t.Context(), note("c-20"), delivery.Transient, ""); !errors.Is(e, ErrClosed) {
		t.Errorf("Send after Close: %v, want ErrClosed", e.Err)
	}
}

func TestConnectionsRetire(t *testing.T) {
	for name, tc := range map[string]struct {
		adjust func(*SMTPConfig)
		pause  time.Duration // between messages
		want   int           // connections for 6 messages
	}{
		"after MaxMessages":           {func(c *SMTPConfig) { c.MaxMessages = 2 }, 0, 3},
		"after MaxAge":                {func(c *SMTPConfig) { c.MaxAge, c.MaxIdle = 100*time.Second, time.Hour }, 50 * time.Second, 3},
		"after MaxIdle":               {func(c *SMTPConfig) { c.MaxIdle = 30 * time.Second }, 30 * time.Second, 6},
		"not before any of the three": {func(c *SMTPConfig) { c.MaxIdle = 30 * time.Second }, 29 * time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := (&server{secure: NoTLS}).start(t)
			at := newClock()
			p := provider(t, s, tc.adjust, func(c *SMTPConfig) { c.Now = at.now })
			for i := range 6 {
				mustSend(t, p, note(fmt.Sprintf("c-%d", i)))
				at.advance(tc.pause)
			}
			if s.connections() != tc.want {
				t.Errorf("6 messages took %d connections, want %d", s.connections(), tc.want)
			}
			_ = p.Close()
			eventually(t, "every connection said QUIT", func() bool { return s.commands()["QUIT"] == tc.want && s.current() == 0 })
		})
	}
}

func TestQuietProviderHoldsNoConnection(t *testing.T) {
	s := (&server{secure: NoTLS}).start(t)
	p := provider(t, s, func(c *SMTPConfig) { c.MaxIdle = 20 * time.Millisecond })
	mustSend(t, p, note("c-1"))
	eventually(t, "the idle connection closed by itself", func() bool { return s.connections() == 1 && s.current() == 0 })
	if s.commands()["QUIT"] != 1 {
		t.Error("the idle connection was closed without QUIT")
	}
}

func TestStaleConnectionIsReplaced(t *testing.T) {
	for name, leave := range map[string]func(*server){
		"closed without a word": func(s *server) { s.hangUp() },
		"421 to MAIL":           func(s *server) { s.hook(&s.onMail, once(reply(421, gosmtp.EnhancedCode{4, 4, 2}))) },
		"closed on MAIL":        func(s *server) { s.hook(&s.onMail, once(hangUp)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := (&server{}).start(t)
			p := provider(t, s)
			mustSend(t, p, note("c-1"))
			leave(s)
			mustSend(t, p, note("c-2"))
			if s.count() != 2 || s.connections() != 2 {
				t.Errorf("%d messages over %d connections, want 2 over 2", s.count(), s.connections())
			}
		})
	}
	t.Run("after nothing but refusals", func(t *testing.T) {
		s := (&server{onMail: once(reply(550, gosmtp.EnhancedCode{5, 7, 1}))}).start(t)
		p := provider(t, s)
		mustFail(t, p, t.Context(), note("c-1"), delivery.Configuration, "550 5.7.1")
		s.hangUp()
		mustSend(t, p, note("c-2"))
	})
	t.Run("silent", func(t *testing.T) {
		s := &server{secure: NoTLS}
		blocked, end := make(chan struct{}), make(chan struct{})
		defer close(end)
		s.start(t)
		p := provider(t, s)
		mustSend(t, p, note("c-1"))
		s.hook(&s.onMail, once(func(*gosmtp.Conn) error { close(blocked); <-end; return nil }))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Send(ctx, note("c-2")); err != nil {
			t.Errorf("Send: %v (%v)", err, errors.Unwrap(err))
		}
		<-blocked
		if s.count() != 2 || s.connections() != 2 {
			t.Errorf("%d messages over %d connections, want 2 over 2", s.count(), s.connections())
		}
	})
}

func TestFreshConnectionIsNotReplaced(t *testing.T) {
	s := (&server{secure: NoTLS, onMail: hangUp}).start(t)
	p := provider(t, s)
	mustFail(t, p, t.Context(), note("c-1"), delivery.Transient, "")
	if s.connections() != 1 {
		t.Errorf("%d connections, want 1", s.connections())
	}
}

func TestRefusalKeepsTheConnection(t *testing.T) {
	no := reply(550, gosmtp.EnhancedCode{5, 1, 1})
	for name, tc := range map[string]struct {
		server *server
		resets int
		class  delivery.Class
	}{
		"at MAIL":          {&server{secure: NoTLS, onMail: once(no)}, 0, delivery.Configuration},
		"at RCPT":          {&server{secure: NoTLS, onRcpt: once(no)}, 1, delivery.Permanent},
		"at the final dot": {&server{secure: NoTLS, onData: once(no)}, 0, delivery.Permanent},
	} {
		t.Run(name, func(t *testing.T) {
			s := tc.server.start(t)
			p := provider(t, s)
			mustFail(t, p, t.Context(), note("c-1"), tc.class, "550 5.1.1")
			mustSend(t, p, note("c-2"))
			if s.connections() != 1 || s.commands()["RSET"] != tc.resets {
				t.Errorf("%d connections and %d RSET, want 1 and %d", s.connections(), s.commands()["RSET"], tc.resets)
			}
		})
	}
}

func TestTheLastUsedConnectionIsTakenFirst(t *testing.T) {
	var used sync.Map // remote address: bool
	var both sync.WaitGroup
	both.Add(2)
	s := (&server{secure: NoTLS, onData: func(*gosmtp.Conn) error { both.Done(); both.Wait(); return nil }}).start(t)
	p := provider(t, s)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if _, err := p.Send(t.Context(), note(fmt.Sprintf("c-%d", i))); err != nil {
				t.Errorf("Send: %v", err)
			}
		})
	}
	wg.Wait()
	s.hook(&s.onData, func(c *gosmtp.Conn) error { used.Store(c.Conn().RemoteAddr().String(), true); return nil })
	for i := range 6 {
		mustSend(t, p, note(fmt.Sprintf("d-%d", i)))
	}
	var n int
	used.Range(func(_, _ any) bool { n++; return true })
	if n != 1 || s.connections() != 2 {
		t.Errorf("6 messages one after another took %d of %d connections, want 1 of 2", n, s.connections())
	}
}

func TestFiftySendersShareFourConnections(t *testing.T) {
	s := (&server{auth: true}).start(t)
	p := provider(t, s, func(c *SMTPConfig) { c.Connections = 4 })
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for j := range 4 {
				if _, err := p.Send(t.Context(), note(fmt.Sprintf("c-%d-%d", i, j))); err != nil {
					t.Errorf("Send: %v (%v)", err, errors.Unwrap(err))
				}
			}
		})
	}
	wg.Wait()
	if s.count() != 200 {
		t.Errorf("%d messages arrived, want 200", s.count())
	}
	if peak := stats(s, func() int { return s.peak }); peak > 4 || s.connections() > 4+200/100 {
		t.Errorf("%d connections at once and %d in all, want at most 4 and 6", peak, s.connections())
	}
	seen := map[string]bool{}
	for _, r := range s.all() {
		seen[headers(t, r.text).Get("Message-Id")] = true
	}
	if len(seen) != 200 {
		t.Errorf("%d different messages arrived, want 200", len(seen))
	}
}

func TestWaitingForAConnectionHonoursTheContext(t *testing.T) {
	busy, end := make(chan struct{}), make(chan struct{})
	s := (&server{secure: NoTLS, onRcpt: once(func(*gosmtp.Conn) error { close(busy); <-end; return nil })}).start(t)
	p := provider(t, s, func(c *SMTPConfig) { c.Connections = 1 })
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := p.Send(t.Context(), note("c-1")); err != nil {
			t.Errorf("the first Send: %v", err)
		}
	})
	<-busy
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if e := mustFail(t, p, ctx, note("c-2"), delivery.Transient, ""); !errors.Is(e, context.Canceled) {
			t.Errorf("the waiting Send: %v, want its context's error", e.Err)
		}
	})
	cancel()
	late := note("c-3")
	late.ExpiresAt = time.Now().Add(-time.Second)
	close(end)
	wg.Wait()
	mustFail(t, p, t.Context(), late, delivery.Permanent, "")
	if s.count() != 1 {
		t.Errorf("%d messages arrived, want 1", s.count())
	}
}

func TestCloseWaitsForSends(t *testing.T) {
	busy, end := make(chan struct{}), make(chan struct{})
	s := (&server{secure: NoTLS, onData: once(func(*gosmtp.Conn) error { close(busy); <-end; return nil })}).start(t)
	p := provider(t, s)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := p.Send(t.Context(), note("c-1")); err != nil {
			t.Errorf("the Send under way: %v", err)
		}
	})
	<-busy
	closed := make(chan struct{})
	wg.Go(func() { defer close(closed); _ = p.Close() })
	eventually(t, "new sends are refused", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := p.Send(ctx, note("c-2"))
		return errors.Is(err, ErrClosed)
	})
	select {
	case <-closed:
		t.Error("Close returned while a Send was under way")
	default:
	}
	close(end)
	wg.Wait()
	if s.count() != 1 || s.commands()["QUIT"] != 1 {
		t.Errorf("%d messages and %d QUIT, want 1 and 1", s.count(), s.commands()["QUIT"])
	}
}

// BenchmarkSMTPSend compares messages over kept connections with a connection for each message, over STARTTLS and AUTH on loopback,
// where a round trip costs next to nothing; what remains is TLS.
func BenchmarkSMTPSend(b *testing.B) {
	for name, messages := range map[string]int{"kept": 1 << 30, "dial-each": 1} {
		b.Run(name, func(b *testing.B) {
			s := (&server{auth: true}).start(b)
			p := provider(b, s, func(c *SMTPConfig) { c.MaxMessages = messages })
			m := note("c-1")
			b.ReportAllocs()
			for b.Loop() {
				mustSend(b, p, m)
			}
		})
	}
}

package email

import (
	"context"
	"errors"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/otpost/otpost/pkg/delivery"
)

func TestRefusalsAreSorted(t *testing.T) {
	type code = gosmtp.EnhancedCode
	for _, tc := range []struct {
		at       string
		code     int
		enhanced code
		class    delivery.Class
		want     string
	}{
		{"MAIL", 550, code{5, 7, 1}, delivery.Configuration, "550 5.7.1"},
		{"MAIL", 553, code{5, 1, 8}, delivery.Configuration, "553 5.1.8"},
		{"MAIL", 530, code{5, 7, 0}, delivery.Configuration, "530 5.7.0"},
		{"MAIL", 451, code{4, 3, 0}, delivery.Transient, "451 4.3.0"},
		{"MAIL", 421, code{4, 7, 0}, delivery.Transient, "421 4.7.0"},
		{"RCPT", 550, code{5, 1, 1}, delivery.Permanent, "550 5.1.1"},
		{"RCPT", 550, code{5, 2, 1}, delivery.Permanent, "550 5.2.1"},
		{"RCPT", 556, code{5, 1, 10}, delivery.Permanent, "556 5.1.10"},
		{"RCPT", 550, code{5, 5, 0}, delivery.Permanent, "550 5.5.0"},
		{"RCPT", 550, gosmtp.NoEnhancedCode, delivery.Permanent, "550"},
		{"RCPT", 554, code{5, 7, 1}, delivery.Rejected, "554 5.7.1"},
		{"RCPT", 550, code{5, 1, 8}, delivery.Configuration, "550 5.1.8"},
		{"RCPT", 530, code{5, 5, 1}, delivery.Configuration, "530 5.5.1"},
		{"RCPT", 503, code{5, 5, 1}, delivery.Configuration, "503 5.5.1"},
		{"RCPT", 450, code{4, 2, 0}, delivery.Transient, "450 4.2.0"},
		{"RCPT", 452, code{4, 2, 2}, delivery.Transient, "452 4.2.2"},
		{"RCPT", 421, code{4, 3, 2}, delivery.Transient, "421 4.3.2"},
		{"dot", 554, code{5, 6, 0}, delivery.Rejected, "554 5.6.0"},
		{"RCPT", 552, code{5, 2, 2}, delivery.Rejected, "552 5.2.2"},
		{"dot", 550, code{5, 7, 26}, delivery.Configuration, "550 5.7.26"},
		{"dot", 535, code{5, 7, 8}, delivery.Configuration, "535 5.7.8"},
		{"dot", 451, code{4, 7, 1}, delivery.Transient, "451 4.7.1"},
		{"dot", 421, code{4, 3, 2}, delivery.Transient, "421 4.3.2"},
		{"dot", 354, gosmtp.NoEnhancedCode, delivery.Ambiguous, "354"},
	} {
		t.Run(tc.at+" "+tc.want, func(t *testing.T) {
			s := &server{secure: NoTLS}
			hook := once(reply(tc.code, tc.enhanced))
			switch tc.at {
			case "MAIL":
				s.onMail = hook
			case "RCPT":
				s.onRcpt = hook
			case "dot":
				s.onData = hook
			}
			p := provider(t, s.start(t))
			mustFail(t, p, t.Context(), note("c-1"), tc.class, tc.want)
			mustSend(t, p, note("c-1"))
			want := 1
			if tc.code == 421 || tc.code < 400 {
				want = 2 // the connection is not used again
			}
			if s.connections() != want {
				t.Errorf("%d connections, want %d", s.connections(), want)
			}
		})
	}
}

func TestRelayingDeniedWithoutEnhancedCode(t *testing.T) {
	s := (&server{secure: NoTLS, onRcpt: func(*gosmtp.Conn) error {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.NoEnhancedCode, Message: "Relaying denied"}
	}}).start(t)
	mustFail(t, provider(t, s), t.Context(), note("c-1"), delivery.Configuration, "550")
}

func TestLostConnections(t *testing.T) {
	for name, tc := range map[string]struct {
		server *server
		class  delivery.Class
	}{
		"at MAIL":             {&server{onMail: hangUp}, delivery.Transient},
		"at RCPT":             {&server{onRcpt: hangUp}, delivery.Transient},
		"after the final dot": {&server{onData: hangUp}, delivery.Ambiguous},
	} {
		t.Run(name, func(t *testing.T) {
			p := provider(t, tc.server.start(t))
			e := mustFail(t, p, t.Context(), note("c-1"), tc.class, "")
			if !strings.HasSuffix(e.Reason, "the connection was lost") {
				t.Errorf("reason %q", e.Reason)
			}
		})
	}
}

func TestTextThatWasNotWrittenInFullIsTransient(t *testing.T) {
	long := strings.Repeat("a", 10_000) // longer than the client's buffer, so that a part is written before the dot
	for name, tc := range map[string]struct{ text, last string }{
		"in the text":      {long, "aaaa"},
		"at the final dot": {"Your code is 123456.\r\n", ".\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := (&server{secure: NoTLS}).start(t)
			p := provider(t, s)
			raw, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
			if err != nil {
				t.Fatal(err)
			}
			cut := &cutBefore{Conn: raw, last: tc.last}
			client, _, err := p.greet(t.Context(), cut)
			if err != nil {
				t.Fatal(err)
			}
			l := &letter{from: "<no-reply@shop.example>", to: "<jane.roe@example.com>", text: []byte(tc.text)}
			r := p.transact(t.Context(), &conn{client: client, raw: cut}, l)
			if r.err == nil || r.err.Class != delivery.Transient || r.keep {
				t.Errorf("result %+v, want Transient and the connection gone", r)
			}
			if s.count() != 0 {
				t.Error("the message arrived")
			}
		})
	}
}

// cutBefore is a connection that breaks instead of writing what ends in last.
type cutBefore struct {
	net.Conn
	last string
}

func (c *cutBefore) Write(b []byte) (int, error) {
	if strings.HasSuffix(string(b), c.last) {
		_ = c.Close()
		return 0, &net.OpError{Op: "write", Err: net.ErrClosed}
	}
	return c.Conn.Write(b)
}

func TestTimeoutsAndCancellation(t *testing.T) {
	for name, tc := range map[string]struct {
		hook  func(*server, func(*gosmtp.Conn) error)
		class delivery.Class
	}{
		"before the text":             {func(s *server, h func(*gosmtp.Conn) error) { s.onRcpt = h }, delivery.Transient},
		"waiting for the final reply": {func(s *server, h func(*gosmtp.Conn) error) { s.onData = h }, delivery.Ambiguous},
	} {
		t.Run(name, func(t *testing.T) {
			reached, end := make(chan struct{}, 2), make(chan struct{})
			defer close(end)
			s := &server{}
			tc.hook(s, func(*gosmtp.Conn) error { reached <- struct{}{}; <-end; return nil })
			s.start(t)

			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-reached; cancel() }()
			if e := mustFail(t, provider(t, s), ctx, note("c-1"), tc.class, ""); !errors.Is(e, context.Canceled) {
				t.Errorf("cause %v, want the context's", e.Err)
			}
			p := provider(t, s, func(c *SMTPConfig) { c.SendTimeout = 100 * time.Millisecond })
			if e := mustFail(t, p, t.Context(), note("c-1"), tc.class, ""); !strings.HasSuffix(e.Reason, "timed out") {
				t.Errorf("reason %q, want a time-out", e.Reason)
			}
		})
	}
}

func TestAcceptedStaysAccepted(t *testing.T) {
	// The server takes the message and is gone before QUIT; so is the context.
	port := scripted(t, func(c *textproto.Conn) {
		_ = c.PrintfLine("220 mx.test")
		for {
			line, err := c.ReadLine()
			if err != nil {
				return
			}
			switch verb, _, _ := strings.Cut(line, " "); verb {
			case "DATA":
				_ = c.PrintfLine("354 go on")
				if _, err := c.ReadDotBytes(); err != nil {
					return
				}
				_ = c.PrintfLine("251 2.6.0 taken [InternalId=77311, Hostname=mx.test]")
				return
			default:
				_ = c.PrintfLine("250 ok")
			}
		}
	})
	p := provider(t, &server{secure: NoTLS, port: port}, func(c *SMTPConfig) { c.MaxMessages = 1 })
	if got := mustSend(t, p, note("c-1")); got.Reference != "77311" {
		t.Errorf("reference %q, want 77311", got.Reference)
	}
}

func TestConnectingFails(t *testing.T) {
	greeting := func(line string) func(*textproto.Conn) {
		return func(c *textproto.Conn) {
			_ = c.PrintfLine("%s", line)
			_, _ = c.ReadLine()
		}
	}
	silent := func(c *textproto.Conn) { _, _ = c.ReadLine() }
	for name, tc := range map[string]struct {
		talk  func(*textproto.Conn)
		tls   TLSMode
		class delivery.Class
		code  string
	}{
		"greeted with 421":            {greeting("421 4.3.2 too busy"), StartTLS, delivery.Transient, "421 4.3.2"},
		"greeted with 554":            {greeting("554 5.7.1 blocked"), StartTLS, delivery.Configuration, "554 5.7.1"},
		"greeted with nonsense":       {greeting("SSH-2.0-OpenSSH"), StartTLS, delivery.Transient, ""},
		"no greeting":                 {silent, StartTLS, delivery.Transient, ""},
		"hangs up":                    {func(*textproto.Conn) {}, StartTLS, delivery.Transient, ""},
		"clear text where TLS is due": {greeting("220 mx.test"), Implicit, delivery.Configuration, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := provider(t, &server{secure: tc.tls, port: scripted(t, tc.talk)}, func(c *SMTPConfig) { c.DialTimeout = 200 * time.Millisecond })
			mustFail(t, p, t.Context(), note("c-1"), tc.class, tc.code)
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		s := (&server{secure: NoTLS}).start(t)
		p := provider(t, s, func(c *SMTPConfig) { c.Port = closedPort(t) })
		mustFail(t, p, t.Context(), note("c-1"), delivery.Transient, "")
	})
}

func TestQueueID(t *testing.T) {
	for reply, want := range map[string]string{
		"2.0.0 Ok: queued as 4XyZ12AbCd": "4XyZ12AbCd",
		"OK id=1tAbcD-00000000abc-1xYz":  "1tAbcD-00000000abc-1xYz",
		"Ok 0102018f5c1e-ab12-4c":        "0102018f5c1e-ab12-4c",
		"2.6.0 <c-1@shop.example> [InternalId=77311, Hostname=x] Queued mail for delivery": "77311",
		"2.0.0 Ok: queued as jane@example.com":                                             "",
		"Message accepted":                                                                 "",
		"":                                                                                 "",
	} {
		if got := queueID(reply); got != want {
			t.Errorf("queueID(%q) = %q, want %q", reply, got, want)
		}
	}
}

package email

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/otpost/otpost/pkg/delivery"
)

func TestEncryption(t *testing.T) {
	for name, tc := range map[string]struct {
		server *server
		mode   TLSMode
		adjust func(*SMTPConfig)
		class  delivery.Class // when it fails
		reason string         // empty: it is sent
		tls    bool
	}{
		"STARTTLS":                         {server: &server{secure: StartTLS, auth: true}, mode: StartTLS, tls: true},
		"STARTTLS not offered":             {server: &server{secure: NoTLS}, mode: StartTLS, class: delivery.Configuration, reason: "STARTTLS"},
		"opportunistic, offered":           {server: &server{secure: StartTLS, auth: true}, mode: Opportunistic, tls: true},
		"opportunistic, not offered":       {server: &server{secure: NoTLS, auth: true}, mode: Opportunistic},
		"implicit":                         {server: &server{secure: Implicit, auth: true}, mode: Implicit, tls: true},
		"none on loopback with a password": {server: &server{secure: NoTLS, auth: true}, mode: NoTLS},
		"unknown authority": {
			server: &server{secure: StartTLS}, mode: StartTLS, adjust: func(c *SMTPConfig) { c.RootCAs = nil },
			class: delivery.Configuration, reason: "certificate",
		},
		"wrong name, implicit": {
			server: &server{secure: Implicit}, mode: Implicit, adjust: func(c *SMTPConfig) { c.ServerName = "other.test" },
			class: delivery.Configuration, reason: "certificate",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var encrypted bool
			tc.server.onMail = func(c *gosmtp.Conn) error { _, encrypted = c.TLSConnectionState(); return nil }
			s := tc.server.start(t)
			p := provider(t, s, func(c *SMTPConfig) {
				c.TLS = tc.mode
				if tc.adjust != nil {
					tc.adjust(c)
				}
			})
			if tc.reason != "" {
				if e := mustFail(t, p, t.Context(), note("c-1"), tc.class, ""); !strings.Contains(e.Reason, tc.reason) {
					t.Errorf("reason %q does not mention %q", e.Reason, tc.reason)
				}
				return
			}
			mustSend(t, p, note("c-1"))
			if encrypted != tc.tls {
				t.Errorf("encrypted: %t, want %t", encrypted, tc.tls)
			}
			if logins := stats(s, func() int { return s.logins }); (logins == 1) != s.auth {
				t.Errorf("logged in %d times, AUTH offered: %t", logins, s.auth)
			}
		})
	}
}

func TestAuthentication(t *testing.T) {
	wrong := func(c *SMTPConfig) { c.Password = "guess" }
	with := func(auth string) func(*SMTPConfig) {
		return func(c *SMTPConfig) { c.Username, c.Password, c.Auth = "shop", "secret", auth }
	}
	for name, tc := range map[string]struct {
		server *server
		adjust func(*SMTPConfig)
		class  delivery.Class
		code   string
		sent   bool
	}{
		"plain":                 {server: &server{auth: true}, adjust: with("plain"), sent: true},
		"login":                 {server: &server{auth: true}, adjust: with("login"), sent: true},
		"auto":                  {server: &server{auth: true}, adjust: with(""), sent: true},
		"not offered":           {server: &server{}, adjust: with("auto"), class: delivery.Configuration},
		"mechanism not offered": {server: &server{auth: true}, adjust: with("cram-md5"), class: delivery.Configuration},
		"wrong password":        {server: &server{auth: true}, adjust: wrong, class: delivery.Configuration, code: "535 5.7.8"},
		"temporarily impossible": {server: &server{auth: true, onLogin: func() error {
			return &gosmtp.SMTPError{Code: 454, EnhancedCode: gosmtp.EnhancedCode{4, 7, 0}, Message: "later"}
		}}, adjust: with("plain"), class: delivery.Transient, code: "454 4.7.0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := tc.server.start(t)
			p := provider(t, s, tc.adjust)
			if !tc.sent {
				mustFail(t, p, t.Context(), note("c-1"), tc.class, tc.code)
				eventually(t, "no connection stays behind", func() bool { return s.current() == 0 })
				return
			}
			mustSend(t, p, note("c-1"))
		})
	}
}

func TestNoPasswordInClearText(t *testing.T) {
	s := (&server{secure: NoTLS, auth: true}).start(t)
	p := provider(t, s, func(c *SMTPConfig) { c.TLS = Opportunistic })
	p.cfg.Host = "localhost.test" // what authenticate judges by; the connection itself is made below
	raw, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, _, err := p.greet(t.Context(), raw); !errors.Is(err, errClearAuth) {
		t.Errorf("greet: %v, want %v", err, errClearAuth)
	}
	if n := s.commands()["AUTH"]; n != 0 {
		t.Errorf("AUTH was said %d times", n)
	}
}

func TestTheMessageOnTheWire(t *testing.T) {
	s := (&server{}).start(t)
	at := newClock()
	p := provider(t, s, func(c *SMTPConfig) { c.From, c.Now = "Obchůdek <no-reply@shop.example>", at.now })
	m := note("0199-7")
	m.Subject, m.Locale = "Váš přihlašovací kód", "cs"
	m.Text, m.HTML = "Kód: 123456\n.\nPlatí 5 minut = krátce.\n", "<p>Kód: <b>123456</b></p>\n"
	if got := mustSend(t, p, m); got.Reference != "4XyZ12AbCd" {
		t.Errorf("reference %q", got.Reference)
	}
	at.advance(time.Minute)
	mustSend(t, p, m)

	r := s.last()
	if r.from != "no-reply@shop.example" || r.to != "jane.roe@example.com" {
		t.Errorf("envelope from %q to %q", r.from, r.to)
	}
	h := headers(t, r.text)
	for field, want := range map[string]string{
		"Message-Id": "<0199-7@shop.example>", "Date": "Sat, 21 Nov 2026 17:01:00 +0000", "To": "<jane.roe@example.com>",
		"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All", "Content-Language": "cs", "Mime-Version": "1.0",
		"List-Unsubscribe": "", "X-Mailer": "", "User-Agent": "",
	} {
		if got := h.Get(field); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	if first := headers(t, s.all()[0].text).Get("Message-Id"); first != h.Get("Message-Id") {
		t.Errorf("sent again with another Message-ID: %s and %s", first, h.Get("Message-Id"))
	}
	var decoder mime.WordDecoder
	for field, want := range map[string]string{"Subject": m.Subject, "From": "Obchůdek <no-reply@shop.example>"} {
		if got, err := decoder.DecodeHeader(h.Get(field)); err != nil || got != want {
			t.Errorf("%s: %q (%v), want %q", field, got, err, want)
		}
	}
	for line := range bytes.Lines(r.text) {
		if len(line) > 80 || !bytes.HasSuffix(line, []byte("\r\n")) || !isASCII(string(line)) {
			t.Errorf("not a short CRLF line of ASCII: %q", line)
		}
	}

	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("Content-Type %q: %v", h.Get("Content-Type"), err)
	}
	_, body, _ := bytes.Cut(r.text, []byte("\r\n\r\n"))
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for _, want := range []struct{ kind, text string }{{"text/plain", m.Text}, {"text/html", m.HTML}} {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		kind, params, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if kind != want.kind || params["charset"] != "UTF-8" || part.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
			t.Errorf("part headers %v", part.Header)
		}
		text, err := io.ReadAll(quotedprintable.NewReader(part))
		if got := strings.ReplaceAll(string(text), "\r\n", "\n"); err != nil || got != want.text {
			t.Errorf("%s is %q (%v), want %q", want.kind, got, err, want.text)
		}
	}
	if _, err := parts.NextRawPart(); !errors.Is(err, io.EOF) {
		t.Errorf("a third part: %v", err)
	}
}

func TestTextAloneIsOnePart(t *testing.T) {
	s := (&server{secure: NoTLS}).start(t)
	m := note("c-1")
	m.HTML, m.Locale = "", "not a tag\r\nX: y"
	mustSend(t, provider(t, s), m)
	h := headers(t, s.last().text)
	if got := h.Get("Content-Type"); got != "text/plain; charset=UTF-8" {
		t.Errorf("Content-Type %q", got)
	}
	if h.Get("Content-Language") != "" || h.Get("X") != "" {
		t.Errorf("a bad locale reached the header: %v", h)
	}
}

func TestNoHeaderIsInjected(t *testing.T) {
	s := (&server{secure: NoTLS}).start(t)
	p := provider(t, s)
	m := note("c-1")
	m.Subject = "Your code\r\nBcc: eve@evil.example\r\n\r\nHello\u2028there \x00"
	mustSend(t, p, m)
	h := headers(t, s.last().text)
	var decoder mime.WordDecoder
	subject, err := decoder.DecodeHeader(h.Get("Subject"))
	if want := "Your code Bcc: eve@evil.example Hello there"; err != nil || subject != want || h.Get("Bcc") != "" {
		t.Errorf("Subject %q (%v), Bcc %q", subject, err, h.Get("Bcc"))
	}
	for name, spoil := range map[string]func(*delivery.Message){
		"recipient with a line break": func(m *delivery.Message) { m.To = "jane.roe@example.com\r\nBcc: eve@evil.example" },
		"quoted line break":           func(m *delivery.Message) { m.To = "\"jane\r\n roe\"@example.com" },
		"two recipients":              func(m *delivery.Message) { m.To = "jane.roe@example.com, eve@evil.example" },
		"recipient with a name":       func(m *delivery.Message) { m.To = "Jane <jane.roe@example.com>" },
		"no recipient":                func(m *delivery.Message) { m.To = "" },
		"reference with a line break": func(m *delivery.Message) { m.Reference = "c-1\r\nBcc: eve@evil.example" },
		"reference with an angle":     func(m *delivery.Message) { m.Reference = "c>1" },
		"no reference":                func(m *delivery.Message) { m.Reference = "" },
		"no text":                     func(m *delivery.Message) { m.Text = "" },
	} {
		m := note("c-1")
		spoil(m)
		if e := mustFail(t, p, t.Context(), m, delivery.Permanent, ""); e.Reason == "" {
			t.Errorf("%s: no reason", name)
		}
	}
	if s.count() != 1 {
		t.Errorf("%d messages arrived, want 1", s.count())
	}
}

func TestInternationalAddresses(t *testing.T) {
	m := note("c-1")
	m.To = "žofie@example.com"
	s := (&server{secure: NoTLS, utf8: true}).start(t)
	p := provider(t, s)
	mustSend(t, p, m)
	if got := s.last().to; got != m.To {
		t.Errorf("sent to %q", got)
	}
	mustSend(t, p, note("c-2"))
	if n := strings.Count(s.script(), "BODY=8BITMIME SMTPUTF8"); n != 1 {
		t.Errorf("SMTPUTF8 was asked for %d times, want once", n)
	}

	without := (&server{secure: NoTLS}).start(t)
	mustFail(t, provider(t, without), t.Context(), m, delivery.Permanent, "")
}

func TestNothingSecretIsLogged(t *testing.T) {
	var b bytes.Buffer
	s := (&server{auth: true, onRcpt: once(reply(550, gosmtp.EnhancedCode{5, 1, 1}))}).start(t)
	p := provider(t, s, func(c *SMTPConfig) {
		c.Logger = slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	mustFail(t, p, t.Context(), note("c-1"), delivery.Permanent, "550 5.1.1")
	mustSend(t, p, note("c-1"))
	s.hangUp()
	mustSend(t, p, note("c-2"))
	_ = p.Close()
	for _, secret := range []string{"123456", "jane", "example.com", "secret"} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, b.String())
		}
	}
	if !strings.Contains(b.String(), "replacing a kept SMTP connection") {
		t.Errorf("the log tells nothing:\n%s", b.String())
	}
}

func TestConfigurationErrorsNameTheField(t *testing.T) {
	good := SMTPConfig{Host: "smtp.example.com", From: "Shop <no-reply@shop.example>"}
	if p, err := NewSMTP(good); err != nil {
		t.Fatal(err)
	} else if p.Name() != "smtp" || p.cfg.Port != 587 || p.cfg.TLS != StartTLS || p.cfg.Connections != 8 || p.Close() != nil {
		t.Errorf("defaults: %+v", p.cfg)
	}
	for _, tc := range []struct {
		field string
		spoil func(*SMTPConfig)
	}{
		{"Name", func(c *SMTPConfig) { c.Name = "My SMTP" }},
		{"Host", func(c *SMTPConfig) { c.Host = "" }},
		{"Host", func(c *SMTPConfig) { c.Host = "smtp.example.com:587" }},
		{"Port", func(c *SMTPConfig) { c.Port = 70000 }},
		{"TLS", func(c *SMTPConfig) { c.TLS = "ssl" }},
		{"TLS", func(c *SMTPConfig) { c.TLS, c.Username, c.Password = NoTLS, "shop", "secret" }},
		{"ServerName", func(c *SMTPConfig) { c.ServerName = "a b" }},
		{"Username", func(c *SMTPConfig) { c.Password = "secret" }},
		{"Username", func(c *SMTPConfig) { c.Username, c.Password = "a\r\nb", "secret" }},
		{"Password", func(c *SMTPConfig) { c.Username = "shop" }},
		{"Auth", func(c *SMTPConfig) { c.Username, c.Password, c.Auth = "shop", "secret", "ntlm" }},
		{"From", func(c *SMTPConfig) { c.From = "" }},
		{"From", func(c *SMTPConfig) { c.From = "Shop" }},
		{"From", func(c *SMTPConfig) { c.From = "Shop <š@shop.example>" }},
		{"From", func(c *SMTPConfig) { c.From = "=?utf-8?q?Shop=0D=0ABcc:_eve?= <no-reply@shop.example>" }},
		{"From", func(c *SMTPConfig) { c.From = "Shop <no-reply@[192.0.2.1]>" }},
		{"Helo", func(c *SMTPConfig) { c.Helo = "a\r\nMAIL" }},
		{"Connections", func(c *SMTPConfig) { c.Connections = -1 }},
		{"MaxMessages", func(c *SMTPConfig) { c.MaxMessages = -1 }},
		{"MaxAge", func(c *SMTPConfig) { c.MaxAge = -1 }},
		{"MaxIdle", func(c *SMTPConfig) { c.MaxIdle = -1 }},
		{"DialTimeout", func(c *SMTPConfig) { c.DialTimeout = -1 }},
		{"SendTimeout", func(c *SMTPConfig) { c.SendTimeout = -1 }},
		{"DKIM", func(c *SMTPConfig) { c.DKIM = &DKIMConfig{} }},
	} {
		cfg := good
		tc.spoil(&cfg)
		_, err := NewSMTP(cfg)
		if err == nil || !strings.Contains("\n"+strings.TrimPrefix(err.Error(), "smtp configuration: "), "\n"+tc.field+": ") {
			t.Errorf("%s: %v", tc.field, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func headers(t testing.TB, text []byte) textproto.MIMEHeader {
	t.Helper()
	h, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(text))).ReadMIMEHeader()
	if err != nil {
		t.Fatalf("reading the header: %v\n%s", err, text)
	}
	return h
}

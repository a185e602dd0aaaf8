package inbox_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/wneessen/go-mail"

	"github.com/otpost/otpost/pkg/inbox"
)

// certificate borrows the key pair that httptest makes for 127.0.0.1.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates, MinVersion: tls.VersionTLS12},
		&tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}

// serveMail starts the mail server of in and returns its port; stop ends it and may be left to the test's end.
func serveMail(t *testing.T, in *inbox.Inbox) (port int, stop func()) {
	t.Helper()
	return serveMailAs(t, in, inbox.ProviderSMTP)
}

func serveMailAs(t *testing.T, in *inbox.Inbox, name string) (port int, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		if name == inbox.ProviderSMTP {
			served <- in.ServeSMTP(ctx, l)
			return
		}
		served <- in.ServeSMTPAs(ctx, name, l)
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("ServeSMTP: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("ServeSMTP does not end")
		}
		in.Close()
	}
	t.Cleanup(stop)
	return l.Addr().(*net.TCPAddr).Port, stop
}

func mailer(t *testing.T, port int, options ...mail.Option) *mail.Client {
	t.Helper()
	c, err := mail.NewClient("127.0.0.1", append([]mail.Option{
		mail.WithPort(port), mail.WithTLSPolicy(mail.NoTLS), mail.WithTimeout(10 * time.Second), mail.WithHELO("localhost"),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func codeMail(t *testing.T, to ...string) *mail.Msg {
	t.Helper()
	m := mail.NewMsg()
	if err := errors.Join(m.FromFormat("Obchod Žluťák", "no-reply@shop.example"), m.To(to...)); err != nil {
		t.Fatal(err)
	}
	m.Subject("Váš kód: 123456")
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetMessageIDWithValue("c-1@shop.example")
	m.SetBodyString(mail.TypeTextPlain, "Váš kód je\n\n123456\n\n.tečka na začátku řádku\n")
	m.AddAlternativeString(mail.TypeTextHTML, "<p>Váš kód je <b style=\"color:#111\">123456</b></p>")
	return m
}

func TestMailOverTLSWithAuth(t *testing.T) {
	serverTLS, clientTLS := certificate(t)
	in := inbox.New(inbox.Config{SMTPUser: "otpost", SMTPPassword: "s3cret", SMTPTLS: serverTLS})
	port, _ := serveMail(t, in)
	secure := []mail.Option{mail.WithTLSPolicy(mail.TLSMandatory), mail.WithTLSConfig(clientTLS), mail.WithSMTPAuth(mail.SMTPAuthPlain)}

	c := mailer(t, port, append(secure, mail.WithUsername("otpost"), mail.WithPassword("s3cret"))...)
	if err := c.DialAndSendWithContext(t.Context(), codeMail(t, "ann@example.com", "bob@example.com")); err != nil {
		t.Fatal(err)
	}
	got := in.List(inbox.Filter{})
	if len(got) != 2 || got[0].To != "bob@example.com" || got[1].To != "ann@example.com" {
		t.Fatalf("inbox: %+v", got)
	}
	m := got[1]
	want := inbox.Message{
		ID: m.ID, At: m.At, Header: m.Header, Channel: inbox.Email, Provider: "smtp", From: "no-reply@shop.example", To: "ann@example.com",
		Subject: "Váš kód: 123456",
		Text:    "Váš kód je\n\n123456\n\n.tečka na začátku řádku\n",
		HTML:    "<p>Váš kód je <b style=\"color:#111\">123456</b></p>",
	}
	m.Text, m.HTML = strings.TrimRight(m.Text, "\n")+"\n", strings.TrimRight(m.HTML, "\n")
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	if m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("Message-Id") != "<c-1@shop.example>" || m.Code() != "123456" {
		t.Errorf("header %v, code %q", m.Header, m.Code())
	}
	if c := in.Counts(); c.SMTPConnections != 1 || c.SMTPMessages != 1 || c.SMTPRcpt != 2 {
		t.Errorf("counts: %+v", c)
	}

	wrong := mailer(t, port, append(secure, mail.WithUsername("otpost"), mail.WithPassword("wrong"))...)
	if err := wrong.DialAndSendWithContext(t.Context(), codeMail(t, "ann@example.com")); err == nil || !strings.Contains(err.Error(), "535") {
		t.Errorf("wrong password: %v", err)
	}
	silent := mailer(t, port, mail.WithTLSPolicy(mail.TLSMandatory), mail.WithTLSConfig(clientTLS))
	if err := silent.DialAndSendWithContext(t.Context(), codeMail(t, "ann@example.com")); err == nil || !strings.Contains(err.Error(), "530") {
		t.Errorf("no credentials: %v", err)
	}
}

func TestMailFaults(t *testing.T) {
	in := inbox.New(inbox.Config{})
	port, _ := serveMail(t, in)
	c := mailer(t, port)
	send := func(to string) error { return c.DialAndSendWithContext(t.Context(), codeMail(t, to)) }

	for _, want := range []struct {
		to, enhanced string
		code         int
		temporary    bool
	}{
		{"bounce@example.com", "5.1.1", 550, false},
		{"Busy@example.com", "4.3.2", 451, true},
	} {
		var refusal *mail.SendError
		if err := send(want.to); !errors.As(err, &refusal) || refusal.ErrorCode() != want.code || refusal.EnhancedStatusCode() != want.enhanced ||
			refusal.IsTemp() != want.temporary {
			t.Errorf("%s: %v", want.to, err)
		}
	}
	for _, stage := range []inbox.Stage{inbox.StageMail, inbox.StageRcpt, inbox.StageData} {
		at := func(f inbox.SMTPFault) {
			in.SetSMTPFaults(func(r inbox.SMTPRequest) *inbox.SMTPFault {
				if r.Stage != stage {
					return nil
				}
				return &f
			})
		}
		at(inbox.SMTPFault{Code: 452, EnhancedCode: [3]int{4, 2, 2}})
		var refusal *mail.SendError
		if err := send("ann@example.com"); !errors.As(err, &refusal) || refusal.ErrorCode() != 452 || !refusal.IsTemp() {
			t.Errorf("%s refused: %v", stage, err)
		}
		at(inbox.SMTPFault{DropConnection: true})
		if err := send("ann@example.com"); err == nil {
			t.Errorf("%s dropped: no error", stage)
		}
	}
	if n := len(in.List(inbox.Filter{})); n != 0 {
		t.Fatalf("%d refused messages are in the inbox", n)
	}

	in.SetSMTPFaults(func(r inbox.SMTPRequest) *inbox.SMTPFault {
		return &inbox.SMTPFault{AcceptThenDrop: r.Stage == inbox.StageData && r.Message.Subject != "" && r.From == "no-reply@shop.example"}
	})
	if err := send("ann@example.com"); err == nil {
		t.Error("accepted, then dropped: no error")
	}
	if n := len(in.List(inbox.Filter{To: "ann@example.com"})); n != 1 {
		t.Errorf("accepted, then dropped: %d messages in the inbox", n)
	}
	in.SetSMTPFaults(nil)
	if err := send("ann@example.com"); err != nil {
		t.Errorf("without a fault: %v", err)
	}
}

// A conversation is SMTP spoken by hand.
type conversation struct {
	t      *testing.T
	conn   net.Conn
	reader *textproto.Reader
}

// converse connects and reads the greeting.
func converse(t *testing.T, port int) *conversation {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := &conversation{t, conn, textproto.NewReader(bufio.NewReader(conn))}
	c.expect("", "220")
	return c
}

// say sends a line, if it is not empty, and returns the last line of the reply.
func (c *conversation) say(line string) string {
	c.t.Helper()
	if line != "" {
		fmt.Fprintf(c.conn, "%s\r\n", line)
	}
	for {
		reply, err := c.reader.ReadLine()
		if err != nil {
			c.t.Fatalf("%.40q: %v", line, err)
		}
		if len(reply) <= 3 || reply[3] != '-' {
			return reply
		}
	}
}

func (c *conversation) expect(line, want string) {
	c.t.Helper()
	if reply := c.say(line); !strings.HasPrefix(reply, want) {
		c.t.Fatalf("%.40q: got %q, want %q", line, reply, want)
	}
}

// dialogue connects and goes through steps, each a line to send and the start of the reply to expect.
func dialogue(t *testing.T, port int, steps ...[2]string) net.Conn {
	t.Helper()
	c := converse(t, port)
	for _, step := range steps {
		c.expect(step[0], step[1])
	}
	return c.conn
}

var envelope = [][2]string{{"EHLO localhost", "250"}, {"MAIL FROM:<a@example.com>", "250"}, {"RCPT TO:<b@example.com>", "250"}, {"DATA", "354"}}

func TestMailContent(t *testing.T) {
	in := inbox.New(inbox.Config{})
	port, _ := serveMail(t, in)
	const nested = "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n" +
		"--i\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nxb5sdcWl\r\n--i\r\nContent-Type: text/html\r\n\r\n<p>h\r\n--i--\r\n" +
		"--o\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nattached\r\n--o--"
	for name, c := range map[string]struct{ content, reply, text, html, subject string }{
		"no header but one": {"Subject: s\r\n\r\nplain\r\n.", "250", "plain\n", "", "s"},
		"nested":            {nested + "\r\n.", "250", "žluť", "<p>h", ""},
		"encoded subject":   {"Subject: =?utf-8?q?k=C3=B3d?= =?utf-8?b?IDE=?=\r\n\r\nx\r\n.", "250", "x\n", "", "kód 1"},
		"html only":         {"Content-Type: text/html\r\n\r\n<b>1\r\n.", "250", "", "<b>1\n", ""},
		"broken base64":     {"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n***\r\n.", "554 5.6.0", "", "", ""},
		"no last boundary":  {"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\r\nx\r\n.", "554 5.6.0", "", "", ""},
		"broken header":     {"no header at all\r\n\r\nx\r\n.", "554 5.6.0", "", "", ""},
		"too large":         {"Subject: s\r\n\r\n" + strings.Repeat(strings.Repeat("x", 998)+"\r\n", 1100) + ".", "552", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			in.Clear()
			dialogue(t, port, append(envelope, [2]string{c.content, c.reply})...)
			got := in.List(inbox.Filter{})
			if c.reply != "250" {
				if len(got) != 0 {
					t.Errorf("refused, but in the inbox: %+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Text != c.text || got[0].HTML != c.html || got[0].Subject != c.subject || got[0].From != "a@example.com" {
				t.Errorf("inbox: %+v", got)
			}
		})
	}
}

func TestMailServerEndsWithOpenConnections(t *testing.T) {
	in := inbox.New(inbox.Config{})
	in.SetSMTPFaults(func(r inbox.SMTPRequest) *inbox.SMTPFault {
		return &inbox.SMTPFault{Delay: map[bool]time.Duration{true: time.Hour}[r.From == "slow@example.com"]}
	})
	port, stop := serveMail(t, in)
	dialogue(t, port)
	dialogue(t, port, envelope...)
	slow := dialogue(t, port, envelope[0])
	fmt.Fprintf(slow, "MAIL FROM:<slow@example.com>\r\n")
	stop() // TestMain finds what is left running
}

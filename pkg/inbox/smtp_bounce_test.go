package inbox_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	gomail "github.com/wneessen/go-mail"

	"github.com/otpost/otpost/pkg/inbox"
)

// A bounce is what a program needs to find in a delivery status notification.
type bounce struct {
	to                                        string
	message, recipient                        textproto.MIMEHeader // the report's two groups of fields
	originalKind, originalID, originalSubject string
	originalBody                              string
}

func readBounce(t *testing.T, raw []byte) bounce {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v in\n%s", err, raw)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type %s", m.Header.Get("Content-Type"))
	}
	if m.Header.Get("Auto-Submitted") != "auto-replied" || m.Header.Get("Return-Path") != "<>" || m.Header.Get("Message-Id") == "" {
		t.Errorf("header: %v", m.Header)
	}
	if _, err := m.Header.Date(); err != nil {
		t.Error(err)
	}
	b := bounce{to: m.Header.Get("To")}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for i := range 3 {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatalf("part %d: %v in\n%s", i, err, raw)
		}
		switch kind := part.Header.Get("Content-Type"); i {
		case 0:
			if kind != "text/plain; charset=utf-8" {
				t.Errorf("the first part is %s", kind)
			}
		case 1:
			if kind != "message/delivery-status" {
				t.Errorf("the second part is %s", kind)
			}
			fields := textproto.NewReader(bufio.NewReader(part))
			if b.message, err = fields.ReadMIMEHeader(); err != nil {
				t.Fatalf("the message's fields: %v in\n%s", err, raw)
			}
			if b.recipient, err = fields.ReadMIMEHeader(); err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("the recipient's fields: %v in\n%s", err, raw)
			}
		case 2:
			original, err := mail.ReadMessage(part)
			if err != nil {
				t.Fatalf("the original: %v in\n%s", err, raw)
			}
			body, err := io.ReadAll(original.Body)
			if err != nil {
				t.Fatal(err)
			}
			b.originalKind, b.originalID, b.originalSubject = kind, original.Header.Get("Message-Id"), original.Header.Get("Subject")
			b.originalBody = string(body)
		}
	}
	if _, err := parts.NextRawPart(); !errors.Is(err, io.EOF) {
		t.Errorf("after the third part: %v", err)
	}
	return b
}

// bounceBox is an inbox with two relays, and the bounces that it hands over.
func bounceBox(t *testing.T) (in *inbox.Inbox, port int, bounces chan []byte) {
	t.Helper()
	bounces = make(chan []byte, 10)
	in = inbox.New(inbox.Config{BounceTo: func(raw []byte) { bounces <- raw }})
	port, _ = serveMailAs(t, in, "relay-a")
	return in, port, bounces
}

func next(t *testing.T, bounces chan []byte) []byte {
	t.Helper()
	select {
	case raw := <-bounces:
		return raw
	case <-time.After(10 * time.Second):
		t.Fatal("no bounce")
		return nil
	}
}

func TestBounces(t *testing.T) {
	in, port, bounces := bounceBox(t)
	c := mailer(t, port)
	const ann = "ann@example.com"
	for name, want := range map[string]struct {
		to                 string
		fault              inbox.Fault
		status, diagnostic string
	}{
		"by default":     {ann, inbox.Fault{Outcome: "undelivered"}, "5.1.1", "550 5.1.1 No such mailbox"},
		"failed":         {ann, inbox.Fault{Outcome: "failed"}, "5.4.4", "550 5.4.4 No route to the host"},
		"with a code":    {ann, inbox.Fault{Outcome: "undelivered", OutcomeCode: "4.2.2"}, "4.2.2", "450 4.2.2 Undeliverable by a simulated fault"},
		"another's code": {ann, inbox.Fault{Outcome: "undelivered", OutcomeCode: "30003"}, "5.1.1", "550 5.1.1 30003"},
		"late":           {ann, inbox.Fault{Outcome: "undelivered", ReceiptDelay: 20 * time.Millisecond}, "5.1.1", "550 5.1.1 No such mailbox"},
		"a magic mailbox": {
			"Bounce-Later@example.com", inbox.Fault{}, "5.1.1", "550 5.1.1 Undeliverable by a simulated fault",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in.ClearFaults()
			if !want.fault.None() {
				in.SetFaults(inbox.FaultRule{Fault: want.fault})
			}
			started := time.Now()
			if err := c.DialAndSendWithContext(t.Context(), codeMail(t, want.to)); err != nil {
				t.Fatal(err)
			}
			raw := next(t, bounces)
			if early := want.fault.ReceiptDelay - time.Since(started); early > 0 {
				t.Errorf("it comes %v early", early)
			}
			b := readBounce(t, raw)
			if b.to != "<no-reply@shop.example>" || b.message.Get("Reporting-Mta") != "dns; inbox.localhost" || b.message.Get("Arrival-Date") == "" {
				t.Errorf("to %s: %v", b.to, b.message)
			}
			got := []string{b.recipient.Get("Final-Recipient"), b.recipient.Get("Action"), b.recipient.Get("Status"), b.recipient.Get("Diagnostic-Code")}
			if diff := cmp.Diff([]string{"rfc822; " + want.to, "failed", want.status, "smtp; " + want.diagnostic}, got); diff != "" {
				t.Errorf("recipient (-want +got):\n%s", diff)
			}
			if b.originalKind != "text/rfc822-headers" || b.originalID != "<c-1@shop.example>" || b.originalSubject == "" || b.originalBody != "" {
				t.Errorf("the original: %+v", b)
			}
			if kept := in.Bounces(); !slices.ContainsFunc(kept, func(k []byte) bool { return bytes.Equal(k, raw) }) {
				t.Error("Bounces does not have it")
			}
		})
	}
	if got := in.Tallies()["relay-a"]; got.Callbacks != 6 || got.Accepted != 6 || got.Refused != 0 || len(in.Bounces()) != 6 {
		t.Errorf("counts: %+v, %d bounces", got, len(in.Bounces()))
	}
	for _, m := range in.List(inbox.Filter{}) {
		if m.Provider != "relay-a" {
			t.Errorf("a message of %s", m.Provider)
		}
	}
}

func TestBouncesAsAskedFor(t *testing.T) {
	in, port, bounces := bounceBox(t)
	failing := []inbox.FaultRule{{Fault: inbox.Fault{Outcome: "undelivered", Repeat: 1}}}
	for name, c := range map[string]struct {
		from, rcpt string
		rules      []inbox.FaultRule
		told       int
		action     string
	}{
		"twice":              {"a@example.com> RET=HDRS ENVID=e-1", "b@example.com> ORCPT=rfc822;old@example.com NOTIFY=FAILURE,DELAY", failing, 2, "failed"},
		"the whole message":  {"a@example.com> RET=FULL", "b@example.com>", failing, 2, "failed"},
		"never":              {"a@example.com>", "b@example.com> NOTIFY=NEVER", failing, 0, ""},
		"success only":       {"a@example.com>", "b@example.com> NOTIFY=SUCCESS", failing, 0, ""},
		"a success":          {"a@example.com>", "b@example.com> NOTIFY=SUCCESS,FAILURE", nil, 1, "delivered"},
		"nobody to tell":     {">", "b@example.com>", failing, 0, ""},
		"no receipt":         {"a@example.com>", "b@example.com> NOTIFY=SUCCESS", []inbox.FaultRule{{Fault: inbox.Fault{Outcome: "none"}}}, 0, ""},
		"lost":               {"a@example.com>", "b@example.com> NOTIFY=SUCCESS", []inbox.FaultRule{{Fault: inbox.Fault{Lost: true}}}, 0, ""},
		"beyond ASCII":       {"a@example.com> SMTPUTF8", "žofie@example.com>", failing, 2, "failed"},
		"nothing went wrong": {"a@example.com>", "b@example.com>", nil, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			// A message behind it has a late bounce for certain, so that what has none need not be waited for.
			in.SetFaults(append([]inbox.FaultRule{
				{To: "late@example.com", Fault: inbox.Fault{Outcome: "undelivered", ReceiptDelay: 20 * time.Millisecond}},
			}, c.rules...)...)
			before := len(in.Bounces())
			dialogue(t, port, [][2]string{
				{"EHLO localhost", "250"},
				{"MAIL FROM:<" + c.from, "250"},
				{"RCPT TO:<" + c.rcpt, "250"},
				{"DATA", "354"},
				{"Message-ID: <m-1@example.com>\r\nSubject: s\r\n\r\n123456\r\n.", "250"},
				{"MAIL FROM:<a@example.com>", "250"},
				{"RCPT TO:<late@example.com>", "250"},
				{"DATA", "354"},
				{"Subject: late\r\n\r\nx\r\n.", "250"},
			}...)
			var got [][]byte
			for range c.told {
				got = append(got, next(t, bounces))
			}
			if last := readBounce(t, next(t, bounces)); last.originalSubject != "late" || len(in.Bounces()) != before+c.told+1 {
				t.Errorf("%d bounces, want %d, and then one of %q", len(in.Bounces())-before-1, c.told, last.originalSubject)
			}
			if c.told == 0 {
				return
			}
			if c.told == 2 && !bytes.Equal(got[0], got[1]) {
				t.Error("what is told again differs")
			}
			b := readBounce(t, got[0])
			if b.recipient.Get("Action") != c.action || b.originalID != "<m-1@example.com>" {
				t.Errorf("%+v", b)
			}
			switch name {
			case "twice":
				if b.message.Get("Original-Envelope-Id") != "e-1" || b.recipient.Get("Original-Recipient") != "rfc822; old@example.com" {
					t.Errorf("the sender's own marks: %v, %v", b.message, b.recipient)
				}
			case "the whole message":
				if b.originalKind != "message/rfc822" || strings.TrimSpace(b.originalBody) != "123456" {
					t.Errorf("the original: %+v", b)
				}
			case "a success":
				if b.recipient.Get("Status") != "2.0.0" {
					t.Errorf("the recipient: %v", b.recipient)
				}
			case "beyond ASCII":
				if got := b.recipient.Get("Final-Recipient"); got != `utf-8; \x{17E}ofie@example.com` {
					t.Errorf("the recipient: %s", got)
				}
			}
		})
	}
}

func TestMailMeetsFaultRules(t *testing.T) {
	in, port, _ := bounceBox(t)
	c := mailer(t, port)
	send := func(to ...string) error { return c.DialAndSendWithContext(t.Context(), codeMail(t, to...)) }

	for name, want := range map[string]struct {
		fault     inbox.Fault
		code      int
		enhanced  string
		temporary bool
	}{
		"reply code":             {inbox.Fault{Status: 452}, 452, "4.0.0", true},
		"enhanced code":          {inbox.Fault{Code: "5.7.1", Message: "Not from you"}, 550, "5.7.1", false},
		"temporary code":         {inbox.Fault{Code: "4.2.2"}, 451, "4.2.2", true},
		"both":                   {inbox.Fault{Status: 554, Code: "5.7.606"}, 554, "5.7.606", false},
		"another's code":         {inbox.Fault{Code: "21211"}, 550, "5.0.0", false},
		"a status for HTTP only": {inbox.Fault{Status: 307}, 451, "4.0.0", true},
	} {
		in.SetFaults(inbox.FaultRule{Provider: "relay-a", Fault: want.fault})
		var refusal *gomail.SendError
		if err := send("ann@example.com"); !errors.As(err, &refusal) || refusal.ErrorCode() != want.code || refusal.EnhancedStatusCode() != want.enhanced ||
			refusal.IsTemp() != want.temporary || !strings.Contains(err.Error(), want.fault.Message) {
			t.Errorf("%s: %v", name, err)
		}
	}
	in.SetFaults(inbox.FaultRule{Fault: inbox.Fault{Drop: true}})
	if err := send("ann@example.com"); err == nil {
		t.Error("dropped: no error")
	}
	if got := in.Tallies()["relay-a"]; got.Refused != 7 || got.Accepted != 0 || len(in.List(inbox.Filter{})) != 0 {
		t.Fatalf("after refusals only: %+v", got)
	}

	in.SetFaults(inbox.FaultRule{To: "ann@*", Fault: inbox.Fault{AcceptThenDrop: true}})
	if err := send("ann@example.com"); err == nil || len(in.List(inbox.Filter{To: "ann@example.com"})) != 1 {
		t.Errorf("accepted, then dropped: %v", err)
	}
	in.SetFaults(inbox.FaultRule{To: "ann@*", Fault: inbox.Fault{Lost: true}}, inbox.FaultRule{To: "bob@*", Fault: inbox.Fault{Delay: 30 * time.Millisecond}})
	started := time.Now()
	if err := send("ann@example.com", "bob@example.com", "never-arrives@example.com"); err != nil || time.Since(started) < 30*time.Millisecond {
		t.Errorf("delayed: %v after %v", err, time.Since(started))
	}
	if got := in.List(inbox.Filter{}); len(got) != 2 || got[0].To != "bob@example.com" {
		t.Errorf("with two lost of three: %v", got)
	}
	if got := in.Tallies()["relay-a"]; got.Accepted != 4 || got.Duplicates != 1 { // ann was told the same before
		t.Errorf("counts: %+v", got)
	}
}

package inbox

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
)

// mailDomain is the name of the simulated mail server.
const mailDomain = "inbox.localhost"

// maxBounces is how many bounces Bounces remembers.
const maxBounces = 1000

// An outgoing mail is what a bounce has to tell of: one message to one recipient.
type outgoing struct {
	provider string
	from     string // the reverse-path, which bounces go to; empty says that nobody wants to hear (RFC 5321, section 4.5.5)
	options  smtp.MailOptions
	to       recipient
	raw      []byte
	arrived  time.Time
}

type recipient struct {
	address string
	options smtp.RcptOptions
	fault   Fault
}

// wants reports whether the sender asked to hear of the event (RFC 3461, section 4.1); one that asked for nothing hears of failures.
func (r recipient) wants(event smtp.DSNNotify) bool {
	if len(r.options.Notify) == 0 {
		return event == smtp.DSNNotifyFailure
	}
	return slices.Contains(r.options.Notify, event)
}

// bounceLater reports on a message that was taken, when its fault or its sender asks for that.
func (in *Inbox) bounceLater(m outgoing) {
	f, event := m.to.fault, smtp.DSNNotifySuccess
	if f.Outcome == statusUndelivered || f.Outcome == statusFailed {
		event = smtp.DSNNotifyFailure
	}
	if f.Lost || f.Outcome == outcomeNone || m.from == "" || !m.to.wants(event) {
		return
	}
	if in.pending.Add(1) > int64(in.cfg.Max) {
		in.pending.Add(-1)
		in.log.Warn("bounce dropped: too many are waiting", "provider", m.provider)
		return
	}
	in.spawn(func() {
		defer in.pending.Add(-1)
		in.pause(f.ReceiptDelay, nil)
		if in.ctx.Err() != nil {
			return
		}
		raw, err := m.report(event, in.cfg.Now())
		if err != nil {
			in.log.Error("writing a bounce", "provider", m.provider, "error", err)
			return
		}
		for range 1 + f.Repeat {
			in.bounces.add(raw)
			if in.cfg.BounceTo != nil {
				in.cfg.BounceTo(slices.Clone(raw))
			}
			in.calledBack(m.provider)
		}
	})
}

var enhancedCode = regexp.MustCompile(`^([245])\.([0-9]{1,3})\.([0-9]{1,3})$`) // RFC 3463, section 2

// result is the enhanced code, the reply line that the next mail server would have given, and the words for people.
func (m outgoing) result(event smtp.DSNNotify) (status, diagnostic, words string) {
	f := m.to.fault
	switch {
	case event == smtp.DSNNotifySuccess:
		return "2.0.0", "250 2.0.0 Delivered", "was delivered to"
	case f.Outcome == statusFailed:
		status, diagnostic = "5.4.4", "550 5.4.4 No route to the host"
	default:
		status, diagnostic = "5.1.1", "550 5.1.1 No such mailbox"
	}
	if enhancedCode.MatchString(f.OutcomeCode) && f.OutcomeCode[0] != '2' {
		status = f.OutcomeCode
		diagnostic = fmt.Sprintf("%c50 %s Undeliverable by a simulated fault", status[0], status)
	} else if f.OutcomeCode != "" {
		diagnostic = fmt.Sprintf("%c50 %s %s", status[0], status, oneLine(f.OutcomeCode))
	}
	return status, diagnostic, "could not be delivered to"
}

// report writes a delivery status notification (RFC 3464) in a multipart/report (RFC 6522), as a mail server sends it to the reverse-path.
func (m outgoing) report(event smtp.DSNNotify, now time.Time) ([]byte, error) {
	status, diagnostic, words := m.result(event)
	action, subject := "failed", "Undelivered Mail Returned to Sender"
	if event == smtp.DSNNotifySuccess {
		action, subject = "delivered", "Successful Mail Delivery Report"
	}
	var body bytes.Buffer
	parts := multipart.NewWriter(&body)
	part := func(kind, content string) error {
		w, err := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {kind}})
		if err == nil {
			_, err = w.Write([]byte(content))
		}
		return err
	}
	var fields strings.Builder
	line := func(name, value string) { fmt.Fprintf(&fields, "%s: %s\r\n", name, value) }
	line("Reporting-MTA", "dns; "+mailDomain)
	if id := m.options.EnvelopeID; id != "" {
		line("Original-Envelope-Id", oneLine(id))
	}
	line("Arrival-Date", rfc2822(m.arrived))
	fields.WriteString("\r\n")
	if o := m.to.options; o.OriginalRecipient != "" {
		line("Original-Recipient", strings.ToLower(string(o.OriginalRecipientType))+"; "+oneLine(o.OriginalRecipient))
	}
	line("Final-Recipient", typedAddress(m.to.address))
	line("Action", action)
	line("Status", status)
	line("Diagnostic-Code", "smtp; "+diagnostic)
	line("Last-Attempt-Date", rfc2822(now))

	original, kind := headerOf(m.raw), "text/rfc822-headers"
	if m.options.Return == smtp.DSNReturnFull {
		original, kind = m.raw, "message/rfc822"
	}
	text := fmt.Sprintf("This is the mail system at %s.\r\n\r\nYour message %s\r\n\r\n    <%s>\r\n\r\n%s\r\n", mailDomain, words, m.to.address, diagnostic)
	for _, p := range []struct{ kind, content string }{
		{"text/plain; charset=utf-8", text}, {"message/delivery-status", fields.String()}, {kind, string(original)},
	} {
		if err := part(p.kind, p.content); err != nil {
			return nil, fmt.Errorf("writing the part %s: %w", p.kind, err)
		}
	}
	if err := parts.Close(); err != nil {
		return nil, fmt.Errorf("ending the report: %w", err)
	}

	var report bytes.Buffer
	for _, h := range [][2]string{
		{"Return-Path", "<>"},
		{"From", "Mail Delivery System <MAILER-DAEMON@" + mailDomain + ">"},
		{"To", "<" + oneLine(m.from) + ">"},
		{"Subject", subject},
		{"Date", rfc2822(now)},
		{"Message-ID", "<" + uuid.NewString() + "@" + mailDomain + ">"},
		{"Auto-Submitted", "auto-replied"}, // RFC 3834, section 5
		{"MIME-Version", "1.0"},
		{"Content-Type", `multipart/report; report-type=delivery-status; boundary="` + parts.Boundary() + `"`},
	} {
		fmt.Fprintf(&report, "%s: %s\r\n", h[0], h[1])
	}
	report.WriteString("\r\n")
	report.Write(body.Bytes())
	return report.Bytes(), nil
}

// typedAddress writes an address as a report's field has it: as it is, or, where it has characters beyond ASCII, in the 7-bit form of RFC 6533, section 3.
func typedAddress(address string) string {
	var b strings.Builder
	kind := "rfc822; "
	for _, c := range oneLine(address) {
		if c < utf8.RuneSelf {
			b.WriteRune(c)
			continue
		}
		kind = "utf-8; "
		fmt.Fprintf(&b, `\x{%X}`, c)
	}
	return kind + b.String()
}

// headerOf is a message's header with the empty line that ends it.
func headerOf(raw []byte) []byte {
	for _, end := range []string{"\r\n\r\n", "\n\n"} {
		if i := bytes.Index(raw, []byte(end)); i >= 0 {
			return raw[:i+len(end)]
		}
	}
	return raw
}

// bounces are the newest maxBounces of them, oldest first. The zero value is ready.
type bounces struct {
	mu   sync.Mutex
	list [][]byte
}

func (b *bounces) add(raw []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, raw)
	if over := len(b.list) - maxBounces; over > 0 {
		b.list = slices.Delete(b.list, 0, over)
	}
}

// Bounces returns what the simulated mail servers reported to the senders' reverse-paths (RFC 3464), whole messages, oldest first; the newest 1,000 are kept.
func (in *Inbox) Bounces() [][]byte {
	in.bounces.mu.Lock()
	defer in.bounces.mu.Unlock()
	list := make([][]byte, len(in.bounces.list))
	for i, raw := range in.bounces.list {
		list[i] = slices.Clone(raw)
	}
	return list
}

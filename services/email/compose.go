package email

import (
	"bytes"
	"net/mail"
	"regexp"
	"strings"
	"unicode"

	gomail "github.com/wneessen/go-mail"

	"github.com/otpost/otpost/pkg/delivery"
)

// A letter is a message as it goes over the wire: the envelope (RFC 5321, section 2.3.1) and the text with its header (RFC 5322).
type letter struct {
	from, to string // in angle brackets
	utf8     bool   // to needs SMTPUTF8 (RFC 6531)
	text     []byte // lines end in CRLF
}

var (
	dotAtom     = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$")
	languageTag = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$`)
)

// compose writes m as a letter. What is wrong with m itself is a Permanent *delivery.Error, since sending it again changes nothing.
//
// The Message-ID is made of the delivery's reference, so that the copy of a repeated delivery can be told from a second message.
// Auto-Submitted (RFC 3834, section 5) and X-Auto-Response-Suppress, which Exchange heeds, keep out-of-office replies away.
// Nothing in the message tracks its reader.
func (s *SMTP) compose(m *delivery.Message) (*letter, error) {
	to, err := mail.ParseAddress(m.To)
	if err != nil || to.Name != "" || hasControl(m.To) {
		return nil, &delivery.Error{Class: delivery.Permanent, Reason: "the recipient is not an addr-spec", Err: err}
	}
	if !dotAtom.MatchString(m.Reference) {
		return nil, &delivery.Error{Class: delivery.Permanent, Reason: "the delivery's reference does not make a Message-ID"}
	}
	if m.Text == "" {
		return nil, &delivery.Error{Class: delivery.Permanent, Reason: "the message has no text"}
	}

	msg := gomail.NewMsg(gomail.WithCharset(gomail.CharsetUTF8), gomail.WithEncoding(gomail.EncodingQP), gomail.WithNoDefaultUserAgent())
	from := s.from
	msg.FromMailAddress(&from)
	msg.ToMailAddress(to)
	msg.Subject(oneLine(m.Subject))
	msg.SetDateWithValue(s.cfg.Now().UTC())
	msg.SetMessageIDWithValue(m.Reference + "@" + s.domain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")
	if languageTag.MatchString(m.Locale) {
		msg.SetGenHeader(gomail.HeaderContentLang, m.Locale)
	}
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return nil, &delivery.Error{Class: delivery.Permanent, Reason: "the message could not be written", Err: err}
	}

	l := &letter{from: envelope(&s.from), to: envelope(to), utf8: !isASCII(to.Address), text: b.Bytes()}
	if s.signer != nil {
		if l.text, err = s.signer.sign(l.text); err != nil {
			return nil, &delivery.Error{Class: delivery.Configuration, Reason: "the message could not be signed", Err: err}
		}
	}
	return l, nil
}

// envelope returns the address as MAIL and RCPT take it, its local part quoted where it must be.
func envelope(a *mail.Address) string { return (&mail.Address{Address: a.Address}).String() }

// oneLine makes a header value of s: line breaks and other control characters become spaces, runs of spaces become one. A template
// that ends in a line break must not cost its reader the code, nor may a value that reached it start a header field of its own.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == ' ' || r == '\u2028' || r == '\u2029' }), " ")
}

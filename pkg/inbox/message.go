package inbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/mail"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The channels of a Message.
const (
	SMS      = "sms"
	Voice    = "voice"
	WhatsApp = "whatsapp"
	Email    = "email"
)

var channels = []string{SMS, Voice, WhatsApp, Email}

// Kinds of simulated providers. One that is addressed by no name of its own goes by its kind.
const (
	ProviderTwilio = "twilio"
	ProviderSMTP   = "smtp"
)

// A Message is one SMS, call or WhatsApp message, or one email as one recipient got it.
type Message struct {
	ID       string    // UUIDv7 (RFC 9562, section 5.7); later messages have greater ids, compared as text
	At       time.Time // when it was accepted: UTC, whole milliseconds, never before the sender's own reading of the same clock
	Channel  string    // SMS, Voice, WhatsApp or Email
	Provider string    // the simulated provider's name: its kind, such as ProviderTwilio, or the name that it was addressed by (/at/<name>, ServeSMTPAs)
	From     string    // a number, a sender id, a messaging service SID, or the addr-spec of the From header
	To       string    // E.164, or the envelope recipient
	Subject  string    // email only, decoded (RFC 2047)
	Text     string    // the SMS or WhatsApp message, what a call says, or the text/plain part
	HTML     string    // the text/html part; email only

	Header    mail.Header `json:"-"` // the email's header as it came, for tests; nil for what goes to a phone
	Reference string      `json:"-"` // the provider's own id, such as the Twilio message SID; empty for email
}

// timeLayout is RFC 3339 with exactly three decimals, as the wire has it.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// MarshalJSON writes the message as the inbox's API has it; every member is always present.
func (m Message) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // mail is full of < and >; the API answers as application/json, never as a page
	err := enc.Encode(struct {
		ID       string `json:"id"`
		At       string `json:"at"`
		Channel  string `json:"channel"`
		Provider string `json:"provider"`
		From     string `json:"from"`
		To       string `json:"to"`
		Subject  string `json:"subject"`
		Text     string `json:"text"`
		HTML     string `json:"html"`
	}{m.ID, m.At.UTC().Format(timeLayout), m.Channel, m.Provider, m.From, m.To, m.Subject, m.Text, m.HTML})
	return b.Bytes(), err
}

// size is what the message counts against Config.MaxBytes, in bytes.
func (m Message) size() int {
	n := 512 + len(m.From) + len(m.To) + len(m.Subject) + len(m.Text) + len(m.HTML)
	for k, vs := range m.Header {
		for _, v := range vs {
			n += len(k) + len(v)
		}
	}
	return n
}

var (
	webOTPLine = regexp.MustCompile(`(?m)^@\S+ #(\w{4,10})\b`)
	codeOnLine = regexp.MustCompile(`(?m)^[ \t]*([0-9]{4,10})[ \t\r]*$`)
	codeInText = regexp.MustCompile(`(?:^|[^\w+.,#/-])([0-9]{4,10})(?:$|[.,](?:$|[^0-9])|[^\w.,-])`)
	codeSaid   = regexp.MustCompile(`(?:^|[^0-9])((?:[0-9][^0-9\pL\n]{1,3}){3,9}[0-9])(?:$|[^0-9])`)
	notDigits  = regexp.MustCompile(`[^0-9]+`)
	link       = regexp.MustCompile(`[a-z]+://\S+`)
	markup     = regexp.MustCompile(`(?s)<style.*?</style>|<[^>]*>`)
	moment     = regexp.MustCompile(`[0-9]{4}(?:年[0-9]+月[0-9]+日)?[^0-9\n]{1,4}[0-9]{1,2}:[0-9]{2}`) // "2026, 14:05", the end of a date and its time
)

// Code returns the one-time code that the message carries, or "" when it shows none. It looks, in this order, for the WebOTP line
// ("@host #123456"), for a line of 4–10 digits alone, and for the first group of 4–10 digits that is no part of a link, a number with
// decimals, a phone number, a moment or a word of Latin letters. It reads the text, else the HTML, else the subject. Of a call it is the
// first 4–10 digits that are said one by one, as in "4. 9. 2. 0.".
func (m Message) Code() string {
	if m.Channel == Voice {
		if said := codeSaid.FindStringSubmatch(m.Text); said != nil {
			return notDigits.ReplaceAllString(said[1], "")
		}
	}
	for _, s := range []string{m.Text, markup.ReplaceAllString(m.HTML, "\n"), m.Subject} {
		s = moment.ReplaceAllString(link.ReplaceAllString(s, ""), "")
		for _, re := range []*regexp.Regexp{webOTPLine, codeOnLine, codeInText} {
			if found := re.FindStringSubmatch(s); found != nil {
				return found[1]
			}
		}
	}
	return ""
}

// A Filter selects messages. Its zero value selects all.
type Filter struct {
	To       string // the exact recipient; case does not matter
	Channel  string // SMS, Voice, WhatsApp or Email
	Provider string // the simulated provider's name
	After    After  // only what came later
	Limit    int    // at most so many, the newest; 0 means all
}

// An After is a point in the inbox: a message or a time. Its zero value is before everything.
type After struct {
	id string
	at time.Time
}

// AfterMessage is the point of the message with the id, whether or not the inbox still holds it.
func AfterMessage(id string) After { return After{id: id} }

// AfterTime is the point t. Messages of the same millisecond as t, when t has no finer part, count as earlier; where each message counts
// once, page by id.
func AfterTime(t time.Time) After { return After{at: t} }

// ParseAfter reads a message id or an RFC 3339 time; the empty string is the zero After.
func ParseAfter(s string) (After, error) {
	if s == "" {
		return After{}, nil
	}
	if id, err := uuid.Parse(s); err == nil && id.Version() == 7 && len(s) == 36 {
		return AfterMessage(id.String()), nil
	}
	// A "+" of a zone offset arrives as a space when the caller did not escape it.
	if t, err := time.Parse(time.RFC3339, strings.Replace(s, " ", "+", 1)); err == nil {
		return AfterTime(t), nil
	}
	return After{}, fmt.Errorf("%q is neither a message id nor an RFC 3339 time", s)
}

func (f Filter) matches(m *Message) bool {
	return (f.Channel == "" || f.Channel == m.Channel) &&
		(f.Provider == "" || f.Provider == m.Provider) &&
		(f.To == "" || strings.EqualFold(f.To, m.To)) &&
		m.ID > f.After.id &&
		m.At.After(f.After.at)
}

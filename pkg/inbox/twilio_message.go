package inbox

import (
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
)

// The states of a Twilio message that occur here, and the receipt that never comes.
const (
	statusAccepted    = "accepted" // a messaging service has it and has not picked a sender yet
	statusQueued      = "queued"
	statusSent        = "sent"
	statusDelivered   = "delivered"
	statusUndelivered = "undelivered"
	statusFailed      = "failed"
	outcomeNone       = "none"
)

// What SIDs begin with.
const (
	messagePrefix = "SM"
	callPrefix    = "CA"
)

// A twilioResource is a message or a call on Twilio's side.
type twilioResource interface {
	sid() string
	resource() map[string]any                 // as the API shows it
	advance(status string, code int)          // moves it to a later state
	callbackForm(n int, told step) url.Values // tells of its step n, from 0
}

// twilioMessage is a message on Twilio's side. Its exported fields never change; the rest is guarded by mu.
type twilioMessage struct {
	SID, AccountSID, To, From, MessagingServiceSID, Body string
	Created                                              time.Time

	now       func() time.Time
	mu        sync.Mutex
	status    string
	errorCode int
	sender    string // From, or what the messaging service picked; empty before that
	updated   time.Time
	sent      time.Time
}

func (in *Inbox) newTwilioMessage(form url.Values) *twilioMessage {
	now := in.cfg.Now()
	m := &twilioMessage{
		SID: newSID(messagePrefix), AccountSID: in.cfg.TwilioAccountSID,
		To: form.Get("To"), From: form.Get("From"), MessagingServiceSID: form.Get("MessagingServiceSid"), Body: form.Get("Body"),
		Created: now, now: in.cfg.Now,
		status: statusQueued, sender: form.Get("From"), updated: now,
	}
	if m.MessagingServiceSID != "" {
		m.status = statusAccepted
	}
	return m
}

func (m *twilioMessage) sid() string { return m.SID }

func (m *twilioMessage) advance(status string, errorCode int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status, m.errorCode, m.updated = status, errorCode, m.now()
	if m.sender == "" {
		m.sender = poolNumber
		if strings.HasPrefix(m.To, whatsAppPrefix) {
			m.sender = whatsAppPrefix + poolNumber
		}
	}
	if status == statusSent {
		m.sent = m.updated
	}
}

// resource is the message as the API shows it, in the fields of twilio-go's ApiV2010Message.
func (m *twilioMessage) resource() map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	uri := "/2010-04-01/Accounts/" + m.AccountSID + "/Messages/" + m.SID
	r := map[string]any{
		"account_sid":           m.AccountSID,
		"api_version":           twilioAPIVersion,
		"body":                  m.Body,
		"date_created":          rfc2822(m.Created),
		"date_sent":             nil,
		"date_updated":          rfc2822(m.updated),
		"direction":             "outbound-api",
		"error_code":            nil,
		"error_message":         nil,
		"from":                  nil,
		"messaging_service_sid": nil,
		"num_media":             "0",
		"num_segments":          segments(m.Body),
		"price":                 nil,
		"price_unit":            "USD",
		"sid":                   m.SID,
		"status":                m.status,
		"subresource_uris":      map[string]string{"media": uri + "/Media.json"},
		"to":                    m.To,
		"uri":                   uri + ".json",
	}
	if m.sender != "" {
		r["from"] = m.sender
	}
	if m.MessagingServiceSID != "" {
		r["messaging_service_sid"] = m.MessagingServiceSID
	}
	if m.status == statusAccepted {
		r["num_segments"] = "0" // unknown until the service has picked a sender
	}
	if !m.sent.IsZero() {
		r["date_sent"] = rfc2822(m.sent)
	}
	if m.errorCode != 0 {
		r["error_code"], r["error_message"] = m.errorCode, deliveryErrors[m.errorCode]
	}
	return r
}

const twilioAPIVersion = "2010-04-01"

// deliveryErrors names the receipts' error codes that magic numbers bring.
var deliveryErrors = map[int]string{
	30003: "Unreachable destination handset",
	30008: "Unknown error",
	63024: "Invalid message recipient",
}

// rfc2822 writes a time as this API version does (RFC 2822, section 3.3, always in UTC).
func rfc2822(t time.Time) string { return t.UTC().Format(time.RFC1123Z) }

// gsm7 is the GSM 7-bit default alphabet and gsm7Extension what takes an escape more (3GPP TS 23.038, section 6.2.1).
const (
	gsm7 = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
		"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsm7Extension = "^{}\\[~]|€\f"
)

// segments counts the SMS that text takes, as the decimal text that the API shows: 160 septets in one or 153 in each of several, and 70
// or 67 UTF-16 units where a character is outside the GSM alphabet.
func segments(text string) string {
	units, single, each := 0, 160, 153
	for _, c := range text {
		if strings.ContainsRune(gsm7, c) {
			units++
		} else if strings.ContainsRune(gsm7Extension, c) {
			units += 2
		} else {
			units, single, each = len(utf16.Encode([]rune(text))), 70, 67
			break
		}
	}
	if units <= single {
		return "1"
	}
	return strconv.Itoa((units + each - 1) / each)
}

// ledger remembers the messages and calls of the simulated Twilio by SID, the newest max of them.
type ledger struct {
	max   int
	mu    sync.Mutex
	bySID map[string]twilioResource
	order []string // a ring once full
	next  int
}

func newLedger(max int) *ledger { return &ledger{max: max, bySID: make(map[string]twilioResource)} }

func (l *ledger) add(r twilioResource) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bySID[r.sid()] = r
	if len(l.order) < l.max {
		l.order = append(l.order, r.sid())
		return
	}
	delete(l.bySID, l.order[l.next])
	l.order[l.next] = r.sid()
	l.next = (l.next + 1) % l.max
}

func (l *ledger) get(sid string) (twilioResource, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.bySID[sid]
	return r, ok
}

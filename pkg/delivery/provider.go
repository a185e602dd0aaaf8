package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Provider hands one message to whoever carries it: an SMS gateway, a mail relay, a printer of letters.
//
// Send returns once the provider has accepted or refused the message, or when ctx ends. Its error is an *Error, whose Class says
// what to do next; an error of any other type counts as Ambiguous, because nothing is known about it. Send must be safe for
// concurrent use, must not retry by itself, and must not log the message's text or its whole address.
type Provider interface {
	// Name is the provider's short, stable name in events, rows and metrics, such as "twilio".
	Name() string
	Send(ctx context.Context, m *Message) (Accepted, error)
}

// A Message is one rendered code or notice on its way to a provider. It lives in memory only.
type Message struct {
	Reference string    // stable and unique for the delivery, "<id of the challenge or message>-<number>"; the same when it is sent again
	Token     string    // opaque and URL-safe, at most 100 characters: what a provider's receipt is to bring back; empty where none is waited for
	App       string    // the app's name, for metrics
	Sender    string    // whom the app wants as sender in the country (a number or a name); empty for the provider's own choice
	Country   string    // of the number, ISO 3166-1 alpha-2; empty where it is not known, and for other addresses
	To        string    // E.164 for phones (ITU-T E.164, with "+"), an addr-spec for email (RFC 5322, section 3.4.1), an otp.Address as JSON for letters
	Code      string    // the digits by themselves, for providers whose template they are filled into; empty in a notice without one
	Subject   string    // email only
	Text      string    // the message; for email its text/plain part
	HTML      string    // email only
	Document  []byte    // letter only: the PDF
	Locale    string    // BCP 47
	ExpiresAt time.Time // after this the message is worth nothing; a provider that can drop late messages is told so
}

// Accepted is what a provider said when it took a message.
type Accepted struct {
	Reference string // the provider's own id of the message, empty where it gives none
}

// A Class sorts provider errors by what may be done about them.
type Class int

const (
	// Ambiguous: the provider may have taken the message (a time-out after the request was written, a broken answer).
	Ambiguous Class = iota
	// Transient: the provider did not take it and may take it later (unreachable, overloaded, throttled).
	Transient
	// Permanent: the address itself is at fault (no such number, a landline, mailbox unknown): no provider of the channel will reach it.
	Permanent
	// Configuration: the provider will take no message until an operator acts (bad credentials, sender not allowed, out of credit).
	Configuration
	// Rejected: this provider will not take this message, another may (country not enabled, filtered, opted out of this sender).
	Rejected
)

// String returns the class in lower case, as metrics and logs carry it.
func (c Class) String() string {
	switch c {
	case Transient:
		return "transient"
	case Permanent:
		return "permanent"
	case Configuration:
		return "configuration"
	case Rejected:
		return "rejected"
	default:
		return "ambiguous"
	}
}

// An Error is a provider's refusal or failure.
type Error struct {
	Class      Class
	Code       string        // the provider's own code, such as "21211" or "550 5.1.1"; never holds an address
	Reason     string        // short, for operators and events; never holds an address or a code
	RetryAfter time.Duration // when the provider asked to wait; zero otherwise
	Err        error         // the cause, for logs at debug level
}

// Error describes the failure without its cause, which may quote an address.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("%s: %s", e.Class, e.Reason)
	}
	return fmt.Sprintf("%s: %s (%s)", e.Class, e.Reason, e.Code)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// AsError returns err as an *Error; one of unknown type becomes Ambiguous.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Class: Ambiguous, Reason: "unknown failure", Err: err}
}

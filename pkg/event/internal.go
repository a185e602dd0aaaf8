package event

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
)

// What the code of a command is for. PurposeChallenge is that of every command of the versions that knew no other.
const (
	PurposeChallenge    = ""              // a login or a transaction; the key is of keyset "code"
	PurposeAddFactor    = "add_factor"    // to enrol the number or address; this and the others below are of keyset "ceremony"
	PurposeResetAddress = "reset_address" // to set the address for recoveries
	PurposeRecovery     = "recovery"      // a proof of a recovery
	PurposeNotice       = "notice"        // tells of something; the code, where there is one, stops what is told of
)

// A Command tells a channel worker to send a code or a notice. It holds no code and no readable address.
type Command struct {
	Challenge   uuid.UUID        `json:"challenge"` // or the message, where Purpose is not PurposeChallenge; the delivery's row has this id
	Attempt     int              `json:"attempt"`   // the number of the delivery within its challenge or message, from 1
	Channel     otp.Channel      `json:"channel"`
	Purpose     string           `json:"purpose,omitzero"`
	App         string           `json:"app"`
	AppName     string           `json:"app_name"` // as people know it
	Origin      string           `json:"origin,omitzero"`
	User        string           `json:"user"`
	To          []byte           `json:"to"`               // sealed for this channel, app and user
	CodeID      uuid.UUID        `json:"code_id,omitzero"` // what the code is derived for; of a challenge that is Challenge, and this is not given
	Nonce       []byte           `json:"nonce,omitzero"`   // none in a notice without a code
	Key         uint32           `json:"key"`              // of keyset "code" or "ceremony"; 0 in a notice without a code
	Digits      int              `json:"digits,omitzero"`
	Locale      string           `json:"locale,omitzero"`
	Fallback    string           `json:"fallback_locale,omitzero"`
	Transaction *otp.Transaction `json:"transaction,omitzero"` // of a challenge only
	Notice      *NoticeDetail    `json:"notice,omitzero"`      // of a notice only
	ExpiresAt   time.Time        `json:"expires_at"`           // minutes away for a login, a month for a letter

	Providers []string `json:"providers,omitzero"` // to be tried in this order; empty for all that the worker has. A challenge's delivery has one
	Next      bool     `json:"next,omitzero"`      // there is another way to go: trouble that may pass is told at once and not waited out
	Country   string   `json:"country,omitzero"`   // of a phone number, ISO 3166-1 alpha-2; empty where it is not known
	Sender    string   `json:"sender,omitzero"`    // whom the app wants as sender there; empty for the provider's own choice
	Hash      string   `json:"hash,omitzero"`      // of the Android app that is to find the code in the message
	Style     SMSStyle `json:"style,omitzero"`     // what the app wants of a short message
}

// SMSStyle is what an app's policy says of short messages. The zero value is the default.
type SMSStyle struct {
	NoWebOTP     bool `json:"no_web_otp,omitzero"`     // without the line that browsers fill the code in from
	NoKeepSecret bool `json:"no_keep_secret,omitzero"` // without the words not to share the code
	Fold         bool `json:"fold,omitzero"`           // look-alikes of Latin letters may be written plainly where that saves a segment
}

// A NoticeDetail is what a notice tells. Which of the fields say something depends on the notice.
type NoticeDetail struct {
	Notice    otp.Notice     `json:"notice"`
	At        time.Time      `json:"at"`                 // when it happened
	Factor    otp.FactorKind `json:"factor,omitzero"`    // the kind that it is about
	Label     string         `json:"label,omitzero"`     // the user's name for the factor or device
	Left      int            `json:"left,omitzero"`      // backup codes that are left
	Effective time.Time      `json:"effective,omitzero"` // when a waiting recovery takes effect
	Reason    string         `json:"reason,omitzero"`    // why devices were revoked
}

// Reference names the delivery, the same each time.
func (c Command) Reference() string { return fmt.Sprintf("%s-%d", c.Challenge, c.Attempt) }

// ParseReference returns what Reference names; ok is false for anything else.
func ParseReference(s string) (id uuid.UUID, number int, ok bool) {
	const size = 36 // of a UUID in text
	if len(s) < size+2 || s[size] != '-' {
		return uuid.Nil, 0, false
	}
	id, err := uuid.Parse(s[:size])
	if err != nil {
		return uuid.Nil, 0, false
	}
	number, err = strconv.Atoi(s[size+1:])
	return id, number, err == nil && number >= 1 && number <= 255
}

// OfChallenge reports whether the command is about a challenge. Only then are there receipts: what became of the others is read from their rows.
func (c Command) OfChallenge() bool { return c.Purpose == PurposeChallenge }

// CodeOf returns the id that the command's code is derived for; ok is false for a notice without a code.
func (c Command) CodeOf() (id uuid.UUID, ok bool) {
	if c.OfChallenge() {
		return c.Challenge, true
	}
	return c.CodeID, c.CodeID != uuid.Nil
}

// Encode returns the command as JSON.
func (c Command) Encode() []byte { return encode(c) }

// ParseCommand reads a command.
func ParseCommand(b []byte) (Command, error) {
	var c Command
	if err := json.Unmarshal(b, &c, strict); err != nil {
		return c, fmt.Errorf("parse command: %w", err)
	}
	if c.Challenge == uuid.Nil || c.Attempt < 1 || !c.Channel.Sendable() || !otp.ValidApp(c.App) || c.User == "" || len(c.To) == 0 || c.ExpiresAt.IsZero() {
		return c, errors.New("parse command: a required field is missing or out of bounds")
	}
	if err := c.checkPurpose(); err != nil {
		return c, fmt.Errorf("parse command: %w", err)
	}
	if _, hasCode := c.CodeOf(); hasCode {
		if len(c.Nonce) != otp.NonceSize || c.Digits < otp.MinDigits || c.Digits > otp.MaxDigits {
			return c, errors.New("parse command: what its code is derived from is missing or out of bounds")
		}
	} else if len(c.Nonce) != 0 || c.Key != 0 || c.Digits != 0 {
		return c, errors.New("parse command: it has a part of a code that it does not name")
	}
	return c, nil
}

// checkPurpose holds the fields that only some purposes have to the purpose.
func (c Command) checkPurpose() error {
	switch c.Purpose {
	case PurposeChallenge:
		if !c.Channel.Valid() {
			return fmt.Errorf("no challenge goes by %s", c.Channel)
		}
		if c.CodeID != uuid.Nil {
			return errors.New("the code of a challenge is derived for the challenge and no other id")
		}
	case PurposeAddFactor, PurposeResetAddress, PurposeRecovery:
		if c.CodeID == uuid.Nil {
			return errors.New("it does not say what its code is derived for")
		}
	case PurposeNotice:
		n := c.Notice
		if n == nil {
			return errors.New("a notice tells nothing")
		}
		if !n.Notice.Valid() || n.At.IsZero() || n.Left < 0 {
			return errors.New("what the notice tells is missing or out of bounds")
		}
	default:
		return fmt.Errorf("purpose %q is not known", c.Purpose)
	}
	if !c.OfChallenge() && c.Transaction != nil {
		return errors.New("only a challenge has a transaction")
	}
	if c.Purpose != PurposeNotice && c.Notice != nil {
		return errors.New("only a notice tells of something")
	}
	for _, name := range c.Providers {
		if !otp.ValidProvider(name) {
			return errors.New("a provider's name is none")
		}
	}
	return nil
}

// A Receipt tells what became of a delivery.
type Receipt struct {
	Challenge uuid.UUID         `json:"challenge"`
	Attempt   int               `json:"attempt"`
	Channel   otp.Channel       `json:"channel"`
	Provider  string            `json:"provider"`
	State     otp.DeliveryState `json:"state"`
	Reference string            `json:"reference,omitzero"` // the provider's id of the message
	Reason    string            `json:"reason,omitzero"`
	Class     string            `json:"class,omitzero"`  // of a failure, as package delivery names it: what may be done about it
	Unsure    bool              `json:"unsure,omitzero"` // it was sent twice over the provider, because nobody knew of the first time
	At        time.Time         `json:"at"`
}

// Classes of failures, as package delivery has them.
const (
	ClassAmbiguous     = "ambiguous"
	ClassTransient     = "transient"
	ClassPermanent     = "permanent" // the address itself is at fault
	ClassConfiguration = "configuration"
	ClassRejected      = "rejected"
)

// Encode returns the receipt as JSON.
func (r Receipt) Encode() []byte { return encode(r) }

// ParseReceipt reads a receipt.
func ParseReceipt(b []byte) (Receipt, error) {
	var r Receipt
	if err := json.Unmarshal(b, &r, strict); err != nil {
		return r, fmt.Errorf("parse receipt: %w", err)
	}
	switch r.State {
	case otp.DeliveryAccepted, otp.DeliveryDelivered, otp.DeliveryUndelivered, otp.DeliveryFailed, otp.DeliveryUnconfirmed, otp.DeliveryExpired:
	default:
		return r, fmt.Errorf("parse receipt: state %q is no outcome", string(r.State))
	}
	if r.Challenge == uuid.Nil || r.Attempt < 1 || !r.Channel.Valid() {
		return r, fmt.Errorf("parse receipt: a required field is missing")
	}
	switch r.Class {
	case "", ClassAmbiguous, ClassTransient, ClassPermanent, ClassConfiguration, ClassRejected:
	default:
		return r, fmt.Errorf("parse receipt: class %q is not known", r.Class)
	}
	return r, nil
}

// A Report is what a provider says of a delivery afterwards, as the gateway passes it on: whose signature was checked, and not yet whether there is such a
// delivery.
type Report struct {
	Provider  string            `json:"provider"`           // its name, as it is configured
	Token     string            `json:"token,omitzero"`     // names the delivery; what was given to the provider with the message
	Delivery  string            `json:"delivery,omitzero"`  // in its place, of an email: Command.Reference, out of the Message-ID
	Reference string            `json:"reference,omitzero"` // the provider's own id of the message
	State     otp.DeliveryState `json:"state"`              // accepted, delivered, undelivered or failed
	Code      string            `json:"code,omitzero"`      // the provider's own, of a failure
	Reason    string            `json:"reason,omitzero"`    // short, for operators and events; holds no address
	Permanent bool              `json:"permanent,omitzero"` // the address itself is at fault
	At        time.Time         `json:"at"`                 // when it came in
}

// Bounds of a report's fields, in characters.
const (
	maxReportToken = 200
	maxReportText  = 200
)

// Encode returns the report as JSON.
func (r Report) Encode() []byte { return encode(r) }

// ParseReport reads a report.
func ParseReport(b []byte) (Report, error) {
	var r Report
	if err := json.Unmarshal(b, &r, strict); err != nil {
		return r, fmt.Errorf("parse report: %w", err)
	}
	switch r.State {
	case otp.DeliveryAccepted, otp.DeliveryDelivered, otp.DeliveryUndelivered, otp.DeliveryFailed:
	default:
		return r, fmt.Errorf("parse report: state %q is none that a provider tells", string(r.State))
	}
	switch {
	case !otp.ValidProvider(r.Provider) || r.At.IsZero():
		return r, errors.New("parse report: a required field is missing or out of bounds")
	case len(r.Token) > maxReportToken || len(r.Delivery) > maxReportText || len(r.Reference) > maxReportText || len(r.Code) > maxReportText ||
		len(r.Reason) > 4*maxReportText:
		return r, errors.New("parse report: a field is too long")
	}
	return r, nil
}

// Due names a delivery whose receipt should have come.
type Due struct {
	Challenge uuid.UUID `json:"challenge"`
	Attempt   int       `json:"attempt"`
}

// Encode returns it as JSON.
func (d Due) Encode() []byte { return encode(d) }

// ParseDue reads what a timer brings.
func ParseDue(b []byte) (Due, error) {
	var d Due
	if err := json.Unmarshal(b, &d, strict); err != nil {
		return d, fmt.Errorf("parse timer: %w", err)
	}
	if d.Challenge == uuid.Nil || d.Attempt < 1 {
		return d, errors.New("parse timer: a required field is missing")
	}
	return d, nil
}

package event

import (
	"errors"
	"fmt"
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
	At        time.Time         `json:"at"`
}

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
	return r, nil
}

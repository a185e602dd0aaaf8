package event

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
)

// A Command tells a channel worker to send the code of a challenge. It holds no code and no readable address.
type Command struct {
	Challenge   uuid.UUID        `json:"challenge"`
	Attempt     int              `json:"attempt"` // the number of the delivery within its challenge, from 1
	Channel     otp.Channel      `json:"channel"`
	App         string           `json:"app"`
	AppName     string           `json:"app_name"` // as people know it
	Origin      string           `json:"origin,omitzero"`
	User        string           `json:"user"`
	To          []byte           `json:"to"` // sealed for this channel, app and user
	Nonce       []byte           `json:"nonce"`
	Key         uint32           `json:"key"` // of keyset "code"
	Digits      int              `json:"digits"`
	Locale      string           `json:"locale,omitzero"`
	Fallback    string           `json:"fallback_locale,omitzero"`
	Transaction *otp.Transaction `json:"transaction,omitzero"`
	ExpiresAt   time.Time        `json:"expires_at"`
}

// Reference names the delivery, the same each time.
func (c Command) Reference() string { return fmt.Sprintf("%s-%d", c.Challenge, c.Attempt) }

// Encode returns the command as JSON.
func (c Command) Encode() []byte { return encode(c) }

// ParseCommand reads a command.
func ParseCommand(b []byte) (Command, error) {
	var c Command
	if err := json.Unmarshal(b, &c, strict); err != nil {
		return c, fmt.Errorf("parse command: %w", err)
	}
	if c.Challenge == uuid.Nil || c.Attempt < 1 || !c.Channel.Valid() || !otp.ValidApp(c.App) || c.User == "" || len(c.To) == 0 ||
		len(c.Nonce) != otp.NonceSize || c.Digits < otp.MinDigits || c.Digits > otp.MaxDigits || c.ExpiresAt.IsZero() {
		return c, fmt.Errorf("parse command: a required field is missing or out of bounds")
	}
	return c, nil
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

// Package otp is the domain of otpost: its words, states, bounds and the arithmetic of codes.
//
// The package is pure. It does no I/O, reads no clock and holds no key: time and keyed functions come in as arguments, so that every
// rule in it can be tested by calling it. It imports nothing else of otpost; everything else may import it.
package otp

// A Channel is a way by which a code reaches a person.
type Channel string

// The channels of this version. Three of them reach a phone number. A letter takes days: it carries codes of recoveries, never those of challenges.
const (
	SMS      Channel = "sms"
	Voice    Channel = "voice"
	WhatsApp Channel = "whatsapp"
	Email    Channel = "email"
	Letter   Channel = "letter"
)

// Channels returns the channels that carry codes of challenges, in the order in which they are listed to people.
func Channels() []Channel { return []Channel{SMS, Voice, WhatsApp, Email} }

// Valid reports whether c can carry the code of a challenge.
func (c Channel) Valid() bool { return c.Phone() || c == Email }

// Phone reports whether c reaches a phone number.
func (c Channel) Phone() bool { return c == SMS || c == Voice || c == WhatsApp }

// Sendable reports whether c is a channel that otpost can send over, whatever the code is for.
func (c Channel) Sendable() bool { return c.Valid() || c == Letter }

// Address returns the channel that an address is sealed for: a phone number is one number, however it is reached.
func (c Channel) Address() Channel {
	if c.Phone() {
		return SMS
	}
	return c
}

// Factor returns the kind of factor whose address the channel reaches; empty for a letter.
func (c Channel) Factor() FactorKind {
	switch c.Address() {
	case SMS:
		return FactorSMS
	case Email:
		return FactorEmail
	default:
		return ""
	}
}

// A FactorKind is something a user proves with. The values are those of the wire.
type FactorKind string

// The kinds of factor. NIST SP 800-63B calls BackupCode a look-up secret.
const (
	FactorSMS        FactorKind = "sms"
	FactorEmail      FactorKind = "email"
	FactorTOTP       FactorKind = "totp"
	FactorHOTP       FactorKind = "hotp"
	FactorYubikey    FactorKind = "yubikey" // a YubiKey that types a Yubico OTP; one used over WebAuthn is FactorWebAuthn
	FactorWebAuthn   FactorKind = "webauthn"
	FactorBackupCode FactorKind = "backup_code"
)

// FactorKinds returns the kinds that can be enrolled. Backup codes are none of them: they come with a user's first factor.
func FactorKinds() []FactorKind {
	return []FactorKind{FactorTOTP, FactorSMS, FactorEmail, FactorWebAuthn, FactorHOTP, FactorYubikey}
}

// A FactorState is where an enrolled factor stands. What is being enrolled is a ceremony and no factor yet.
type FactorState string

// The states of a factor. Only an active one answers a challenge.
const (
	FactorConfirmed FactorState = "confirmed" // proven, and waiting until the user has saved the backup codes
	FactorActive    FactorState = "active"
	FactorSuspended FactorState = "suspended" // no longer trusted: it may have been copied
	FactorRemoved   FactorState = "removed"   // final
)

// Channel returns the channel that carries the factor's codes; ok is false for a factor that needs none (TOTP, keys).
func (k FactorKind) Channel() (c Channel, ok bool) {
	c = Channel(k)
	return c, c.Valid()
}

// AMR returns the authentication method references of a proof by this factor (RFC 8176, section 2).
func (k FactorKind) AMR() []string {
	switch k {
	case FactorSMS:
		return []string{"otp", "sms"}
	case FactorEmail:
		return []string{"otp", "email"} // "email" is not registered by RFC 8176; apps need to tell it from the stronger ones
	case FactorWebAuthn:
		return []string{"pop", "user"} // a key was proven and somebody was there; "hwk" would be untrue of a passkey that is synced
	default:
		return []string{"otp"}
	}
}

// A State is where a challenge stands. A challenge is open once and ends once: every other state is an end and is final.
type State string

// The states of a challenge. Every state but Open is the reason of its end, as the wire names it.
const (
	Open          State = "open"
	Verified      State = "verified"
	Expired       State = "expired"
	Exhausted     State = "exhausted"
	Superseded    State = "superseded"
	Cancelled     State = "cancelled"
	Locked        State = "locked"
	Undeliverable State = "undeliverable"
)

// Ended reports whether the state is final.
func (s State) Ended() bool { return s != Open }

// A DeliveryState is where the hand-over of a code to one provider stands.
type DeliveryState string

// The states of a delivery. Queued and Sending are under way; the others are outcomes.
const (
	DeliveryQueued      DeliveryState = "queued"      // a command is or will be on the bus
	DeliverySending     DeliveryState = "sending"     // a worker has claimed it
	DeliveryAccepted    DeliveryState = "accepted"    // the provider took it
	DeliveryDelivered   DeliveryState = "delivered"   // the provider says that it reached the device or mailbox
	DeliveryUndelivered DeliveryState = "undelivered" // the provider took it and could not deliver it
	DeliveryFailed      DeliveryState = "failed"      // the provider refused it, or none could be reached in time
	DeliveryUnconfirmed DeliveryState = "unconfirmed" // it may or may not have been taken; it was tried once more and will not be again
	DeliveryExpired     DeliveryState = "expired"     // its challenge had ended or expired before it was sent
)

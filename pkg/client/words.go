package client

import (
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

// This file holds the words that many requests and replies have in common.

// A Kind is something that a user proves with.
type Kind = otp.FactorKind

// The kinds of factor. Backup codes answer challenges but are enrolled by nobody: they come with a user's first factor.
const (
	KindSMS        = otp.FactorSMS
	KindEmail      = otp.FactorEmail
	KindTOTP       = otp.FactorTOTP     // an authenticator app
	KindHOTP       = otp.FactorHOTP     // a token that the operator has imported
	KindYubikey    = otp.FactorYubikey  // one that types a Yubico OTP, imported too
	KindWebAuthn   = otp.FactorWebAuthn // a security key or passkey
	KindBackupCode = otp.FactorBackupCode
)

// A Channel is a way by which the code of a challenge reaches a person. Three of them reach the phone number of a KindSMS factor.
type Channel = otp.Channel

// The channels.
const (
	ChannelSMS      = otp.SMS
	ChannelVoice    = otp.Voice // a call that says the code
	ChannelWhatsApp = otp.WhatsApp
	ChannelEmail    = otp.Email
)

// How the code of a KindSMS factor is asked for over the other channels that reach a phone: in Login, and where replies and events say how a challenge asks.
// No factor is of these kinds, so nothing else takes them.
const (
	KindVoice    = Kind(otp.Voice)
	KindWhatsApp = Kind(otp.WhatsApp)
)

// A Method is something that a user recovers with.
type Method = otp.ProofKind

// The methods of recovery. Codes go over the first three; the passphrase and backup codes are proofs beside one such code.
const (
	MethodEmail      = otp.ProofEmail
	MethodPhone      = otp.ProofPhone
	MethodLetter     = otp.ProofLetter
	MethodPassphrase = otp.ProofPassphrase
	MethodBackupCode = otp.ProofBackupCode
)

// A Transaction is what a user agrees to by a code: it is shown in the message and bound to the code.
type Transaction = otp.Transaction

// A PostalAddress is where a letter goes to.
type PostalAddress = otp.Address

// States of a challenge, as [ChallengeStatus] and [ChallengeEnded] name them.
const (
	StateOpen          = otp.Open
	StateVerified      = otp.Verified
	StateExpired       = otp.Expired
	StateExhausted     = otp.Exhausted
	StateSuperseded    = otp.Superseded
	StateCancelled     = otp.Cancelled
	StateLocked        = otp.Locked
	StateUndeliverable = otp.Undeliverable
)

// States of a delivery, as [Delivery] names them.
const (
	DeliveryQueued      = otp.DeliveryQueued
	DeliverySending     = otp.DeliverySending
	DeliveryAccepted    = otp.DeliveryAccepted    // the provider has it
	DeliveryDelivered   = otp.DeliveryDelivered   // it has arrived, says the provider
	DeliveryUndelivered = otp.DeliveryUndelivered // the provider took it, and could not deliver it
	DeliveryFailed      = otp.DeliveryFailed      // the provider did not take it
	DeliveryUnconfirmed = otp.DeliveryUnconfirmed // the provider may or may not have taken it
	DeliveryExpired     = otp.DeliveryExpired     // the challenge had ended before it was sent
)

// A Cause is why a delivery was ordered.
type Cause string

// The causes.
const (
	CauseSend     Cause = "send"     // by the login, or the user asked for the code again
	CauseFailover Cause = "failover" // the provider before it failed, or did not say in time that it had delivered
	CauseFallback Cause = "fallback" // so did the channel before it
)

// States of a factor.
const (
	FactorConfirmed = otp.FactorConfirmed // waits until the backup codes are acknowledged
	FactorActive    = otp.FactorActive
	FactorSuspended = otp.FactorSuspended // may have been copied; it answers nothing any more
)

// States of a recovery, beside RecoveryNone.
const (
	RecoveryApproval  = otp.RecoveryApproval // begun by support, and waiting for a second agent
	RecoveryProving   = otp.RecoveryProving
	RecoveryWaiting   = otp.RecoveryWaiting // proven; takes effect after the waiting time, in which the user can cancel it
	RecoveryCompleted = otp.RecoveryCompleted
	RecoveryCancelled = otp.RecoveryCancelled
	RecoveryExpired   = otp.RecoveryExpired
	RecoveryRefused   = otp.RecoveryRefused

	RecoveryNone otp.RecoveryState = "none" // the user has none
)

// Seconds is a wait as the wire has it.
type Seconds int

// Duration returns the wait.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// An Origin is where a user's request came from: for the audit, for what notices tell, and for limits that hold for an address.
type Origin struct {
	IP        string `json:"ip,omitzero"`
	UserAgent string `json:"user_agent,omitzero"`

	// AndroidHash, of a Login, is that of the Android app that is to find the code in the short message (SMS Retriever): 11 characters, which follow from the
	// app's name and signature.
	AndroidHash string `json:"android_hash,omitzero"`
}

// A Proof is what lets an act pass that weakens an account. Where the user has an active factor it needs both halves: ReauthenticatedAt within the
// policy's time (five minutes at the most), and a Code or a Challenge. Neither may come of what the password alone brings: within the policy's cooling-off a
// new factor proves nothing while there is an older one, nor do backup codes that were shown again or renewed. That is ErrCoolingOff; the code is used up by
// it.
type Proof struct {
	ReauthenticatedAt time.Time `json:"reauthenticated_at,omitzero"` // when the app last saw the password
	Code              string    `json:"code,omitzero"`               // of a factor that the user has, or a backup code
	Challenge         string    `json:"challenge,omitzero"`          // in place of a code: one that was just verified in the same session; it proves one act
}

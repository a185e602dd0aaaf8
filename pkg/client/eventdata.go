package client

import (
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// A Name is the name of an event.
type Name = event.Name

// The events, and what their Data is. [Event.Data] holds a value of that type, not a pointer.
const (
	EventChallengeIssued        = event.ChallengeIssued        // ChallengeIssued
	EventChallengeSkipped       = event.ChallengeSkipped       // ChallengeSkipped
	EventChallengeRefused       = event.ChallengeRefused       // ChallengeRefused
	EventChallengeSent          = event.ChallengeSent          // ChallengeDelivery
	EventChallengeDelivered     = event.ChallengeDelivered     // ChallengeDelivery
	EventChallengeUndeliverable = event.ChallengeUndeliverable // ChallengeDelivery
	EventChallengeVerified      = event.ChallengeVerified      // ChallengeVerified
	EventChallengeFailed        = event.ChallengeFailed        // ChallengeFailed
	EventChallengeEnded         = event.ChallengeEnded         // ChallengeEnded
	EventAccountLocked          = event.AccountLocked          // AccountLocked

	EventFactorAdded            = event.FactorAdded            // FactorChange
	EventFactorRemoved          = event.FactorRemoved          // FactorChange
	EventFactorSuspended        = event.FactorSuspended        // FactorChange
	EventBackupCodeUsed         = event.BackupCodeUsed         // BackupCodesChange
	EventBackupCodesRegenerated = event.BackupCodesRegenerated // BackupCodesChange
	EventDeviceTrusted          = event.DeviceTrusted          // DeviceChange
	EventDeviceRevoked          = event.DeviceRevoked          // DeviceChange
	EventDeactivated            = event.Deactivated            // UserChange
	EventUserErased             = event.UserErased             // UserChange

	EventRecoveryBegun     = event.RecoveryBegun     // RecoveryChange, as all that follow
	EventRecoveryApproved  = event.RecoveryApproved  //
	EventRecoveryProven    = event.RecoveryProven    // one proof was given
	EventRecoveryWaiting   = event.RecoveryWaiting   // all were given; it takes effect later
	EventRecoveryCompleted = event.RecoveryCompleted // factors, devices and backup codes are void
	EventRecoveryCancelled = event.RecoveryCancelled //
	EventRecoveryExpired   = event.RecoveryExpired   //
	EventRecoveryRefused   = event.RecoveryRefused   // by the second support agent

	EventAlarmRaised = event.AlarmRaised // Alarm, of the app and no user
)

// About names the login that an event is about.
type About struct {
	User    string `json:"user"`
	Session string `json:"session"`
	Login   string `json:"login"`         // the id of the Login
	Test    bool   `json:"test,omitzero"` // of a challenge to a test destination: nothing is sent, and a fixed code answers it
}

// ChallengeIssued tells that a user is to answer a challenge.
type ChallengeIssued struct {
	About
	Challenge string    `json:"challenge"`
	Channel   Kind      `json:"channel"`
	Factor    Kind      `json:"factor"`
	To        string    `json:"to,omitzero"` // masked; none for a factor that needs no delivery
	ExpiresAt time.Time `json:"expires_at"`
	Digits    int       `json:"digits"`
	Methods   []Kind    `json:"methods"` // what else the user could use
}

// ChallengeSkipped tells that a login needs no second factor.
type ChallengeSkipped struct {
	About
	Reason Code   `json:"reason"`          // ReasonTrustedDevice or ReasonNoFactor
	Device string `json:"device,omitzero"` // of ReasonTrustedDevice: its id. The token in the cookie is to be replaced: see RenewDevice
}

// ChallengeRefused tells that a login must not go on. Session and Login are empty where the login event had no valid ones.
type ChallengeRefused struct {
	User       string  `json:"user"`
	Session    string  `json:"session,omitzero"`
	Login      string  `json:"login,omitzero"`
	Reason     Code    `json:"reason"`
	Message    string  `json:"message"` // for people
	RetryAfter Seconds `json:"retry_after,omitzero"`
}

// ChallengeDelivery tells what became of one sending of a code.
type ChallengeDelivery struct {
	About
	Challenge string  `json:"challenge"`
	Channel   Channel `json:"channel"`
	Provider  string  `json:"provider"`
	Attempt   int     `json:"attempt"` // its number within the challenge, from 1
	Reason    string  `json:"reason,omitzero"`
	Late      bool    `json:"late,omitzero"` // another delivery had taken its place before the provider said so
}

// ChallengeVerified tells of a right answer.
type ChallengeVerified struct {
	About
	Challenge  string    `json:"challenge"`
	Factor     Kind      `json:"factor"`
	AMR        []string  `json:"amr"` // RFC 8176
	VerifiedAt time.Time `json:"verified_at"`
}

// ChallengeFailed tells of a wrong answer.
type ChallengeFailed struct {
	About
	Challenge    string `json:"challenge"`
	Factor       Kind   `json:"factor"`
	AttemptsLeft int    `json:"attempts_left"`
}

// ChallengeEnded tells of a challenge that ended otherwise than by a right answer.
type ChallengeEnded struct {
	About
	Challenge string    `json:"challenge"`
	Reason    otp.State `json:"reason"`
}

// AccountLocked tells of too many wrong answers in a row. An operator can unlock the account.
type AccountLocked struct {
	About
	Challenge string `json:"challenge"`
	Failures  int    `json:"failures"`
}

// FactorChange tells of a factor that was added, removed or suspended. Session and Login are empty where it happened in none.
type FactorChange struct {
	User    string `json:"user"`
	Session string `json:"session,omitzero"`
	Login   string `json:"login,omitzero"`
	Factor  string `json:"factor"` // its id
	Kind    Kind   `json:"kind"`
	Label   string `json:"label,omitzero"`
	To      string `json:"to,omitzero"`     // masked
	Reason  string `json:"reason,omitzero"` // of removed: removed, deactivated, recovery or erased; of suspended: cloned
}

// BackupCodesChange tells of a backup code that was used, or of new ones.
type BackupCodesChange struct {
	User    string `json:"user"`
	Session string `json:"session,omitzero"`
	Login   string `json:"login,omitzero"` // of used: where it answered a challenge
	Left    int    `json:"left"`
}

// DeviceChange tells of a browser that is trusted now, or no more.
type DeviceChange struct {
	User      string    `json:"user"`
	Session   string    `json:"session,omitzero"`
	Login     string    `json:"login,omitzero"`
	Device    string    `json:"device"` // its id
	Label     string    `json:"label,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // of trusted
	Reason    string    `json:"reason,omitzero"`     // of revoked: stolen, signed_out, password_changed, erased, factors_changed, recovery, by_hand or replaced
}

// UserChange tells of a user who has no second factor any more, or who was erased.
type UserChange struct {
	User    string `json:"user"`
	Session string `json:"session,omitzero"`
}

// RecoveryChange tells of a step of a recovery.
type RecoveryChange struct {
	User        string    `json:"user"`
	Session     string    `json:"session,omitzero"`
	Recovery    string    `json:"recovery"`              // its id
	By          string    `json:"by,omitzero"`           // of begun, approved, cancelled and refused: user, app, support or system
	Proof       Method    `json:"proof,omitzero"`        // of proven: the one that was given
	Proven      []Method  `json:"proven,omitzero"`       // of proven, waiting and completed: all so far
	EffectiveAt time.Time `json:"effective_at,omitzero"` // of waiting and completed
	ExpiresAt   time.Time `json:"expires_at,omitzero"`   // of begun, approved and proven
}

// An Alarm is something that the app's operator ought to look at: money, or somebody who abuses the sending of codes.
type Alarm struct {
	Alarm   string    `json:"alarm"`            // one of the constants below
	Channel Channel   `json:"channel,omitzero"` // that it concerns; empty for all that reach phones
	Country string    `json:"country,omitzero"` // ISO 3166-1 alpha-2
	Prefix  string    `json:"prefix,omitzero"`  // of AlarmPumping: the first digits of the numbers, in E.164
	Spent   string    `json:"spent,omitzero"`   // of a cap: decimal, in the operator's currency
	Cap     string    `json:"cap,omitzero"`     // decimal, too
	Until   time.Time `json:"until,omitzero"`   // when it ends by itself; zero where it does not
	Message string    `json:"message"`          // for people
}

// The alarms.
const (
	AlarmSpendCap     = event.AlarmSpendCap     // a day's cap is reached: phones in the country get no messages until the day is over
	AlarmSpendWarning = event.AlarmSpendWarning // four fifths of it are spent
	AlarmPumping      = event.AlarmPumping      // numbers of a prefix are sent codes for the sake of the messages' price; Message says whether it is blocked
)

// dataOf says how the data of each event is read.
var dataOf = map[Name]func([]byte) (any, error){
	EventChallengeIssued:        read[ChallengeIssued],
	EventChallengeSkipped:       read[ChallengeSkipped],
	EventChallengeRefused:       read[ChallengeRefused],
	EventChallengeSent:          read[ChallengeDelivery],
	EventChallengeDelivered:     read[ChallengeDelivery],
	EventChallengeUndeliverable: read[ChallengeDelivery],
	EventChallengeVerified:      read[ChallengeVerified],
	EventChallengeFailed:        read[ChallengeFailed],
	EventChallengeEnded:         read[ChallengeEnded],
	EventAccountLocked:          read[AccountLocked],
	EventFactorAdded:            read[FactorChange],
	EventFactorRemoved:          read[FactorChange],
	EventFactorSuspended:        read[FactorChange],
	EventBackupCodeUsed:         read[BackupCodesChange],
	EventBackupCodesRegenerated: read[BackupCodesChange],
	EventDeviceTrusted:          read[DeviceChange],
	EventDeviceRevoked:          read[DeviceChange],
	EventDeactivated:            read[UserChange],
	EventUserErased:             read[UserChange],
	EventRecoveryBegun:          read[RecoveryChange],
	EventRecoveryApproved:       read[RecoveryChange],
	EventRecoveryProven:         read[RecoveryChange],
	EventRecoveryWaiting:        read[RecoveryChange],
	EventRecoveryCompleted:      read[RecoveryChange],
	EventRecoveryCancelled:      read[RecoveryChange],
	EventRecoveryExpired:        read[RecoveryChange],
	EventRecoveryRefused:        read[RecoveryChange],
	EventAlarmRaised:            read[Alarm],
}

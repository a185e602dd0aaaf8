package event

import (
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

// Name is the name of an event to an app: the tail of its subject, and of its type between "otpost." and ".v1".
type Name string

// The events of this version.
const (
	ChallengeIssued        Name = "challenge.issued"
	ChallengeSkipped       Name = "challenge.skipped"
	ChallengeRefused       Name = "challenge.refused"
	ChallengeSent          Name = "challenge.sent"
	ChallengeDelivered     Name = "challenge.delivered"
	ChallengeUndeliverable Name = "challenge.undeliverable"
	ChallengeVerified      Name = "challenge.verified"
	ChallengeFailed        Name = "challenge.failed"
	ChallengeEnded         Name = "challenge.ended"
	AccountLocked          Name = "account.locked"
	AlarmRaised            Name = "alarm.raised"
)

// An Event is one CloudEvent on its way to an app.
type Event struct {
	App     string
	Name    Name
	ID      string    // unique, and the same whenever this event is published again; also its Nats-Msg-Id
	Subject string    // the challenge, where there is one
	Time    time.Time // when it happened
	Data    any       // one of the data types of this file
}

type cloudEvent struct {
	SpecVersion string `json:"specversion"`
	ID          string `json:"id"`
	Source      string `json:"source"`
	Type        string `json:"type"`
	Time        string `json:"time"`
	Subject     string `json:"subject,omitzero"`
	ContentType string `json:"datacontenttype"`
	Data        any    `json:"data"`
}

// Encode returns the event as CloudEvents 1.0 structured JSON.
func (e Event) Encode() []byte {
	return encode(cloudEvent{
		SpecVersion: "1.0", ID: e.ID, Source: "/otpost/apps/" + e.App, Type: "otpost." + string(e.Name) + ".v1",
		Time: Time(e.Time), Subject: e.Subject, ContentType: "application/json", Data: e.Data,
	})
}

// Time writes a time as every message of otpost does: RFC 3339 in UTC with milliseconds.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// About names the login that an event is about. Login is the id of the app's login event.
type About struct {
	User    string `json:"user"`
	Session string `json:"session"`
	Login   string `json:"login"`
	Test    bool   `json:"test,omitzero"` // of a challenge to a test destination: nothing is sent, and a fixed code answers it
}

// Issued is the data of challenge.issued.
type Issued struct {
	About
	Challenge string   `json:"challenge"`
	Channel   string   `json:"channel"`
	Factor    string   `json:"factor"`
	To        string   `json:"to,omitzero"` // masked; none for a factor that needs no delivery
	ExpiresAt string   `json:"expires_at"`
	Digits    int      `json:"digits"`
	Methods   []string `json:"methods"` // what else the user could use
}

// Skipped is the data of challenge.skipped.
type Skipped struct {
	User    string `json:"user"`
	Session string `json:"session"`
	Login   string `json:"login"`
	Reason  string `json:"reason"`          // trusted_device or no_factor
	Device  string `json:"device,omitzero"` // of trusted_device: its id, not its token, for which the app asks with device.renew
}

// Refused is the data of challenge.refused. Session and Login are empty where the event did not hold a valid one.
type Refused struct {
	User       string `json:"user"`
	Session    string `json:"session,omitzero"`
	Login      string `json:"login,omitzero"`
	Reason     string `json:"reason"`
	Message    string `json:"message"`
	RetryAfter int    `json:"retry_after,omitzero"` // seconds
}

// Alarm is the data of alarm.raised: of the app and no user.
type Alarm struct {
	Alarm   string `json:"alarm"`            // spend_cap, spend_warning, or pumping
	Channel string `json:"channel,omitzero"` // that it concerns; none for all that reach phones
	Country string `json:"country,omitzero"` // ISO 3166-1 alpha-2
	Prefix  string `json:"prefix,omitzero"`  // of pumping: the first digits of the numbers, in E.164
	Spent   string `json:"spent,omitzero"`   // of a cap, in the operator's currency, decimal
	Cap     string `json:"cap,omitzero"`
	Until   string `json:"until,omitzero"` // when it ends by itself
	Message string `json:"message"`        // for people
}

// The alarms.
const (
	AlarmSpendCap     = "spend_cap"     // a day's cap is reached: phones in the country are not reached any more
	AlarmSpendWarning = "spend_warning" // four fifths of it are
	AlarmPumping      = "pumping"       // a prefix looks pumped; Message says whether it is blocked
)

// Delivery is the data of challenge.sent, challenge.delivered and challenge.undeliverable.
type Delivery struct {
	About
	Challenge string `json:"challenge"`
	Channel   string `json:"channel"`
	Provider  string `json:"provider"`
	Attempt   int    `json:"attempt"` // the number of the delivery within its challenge, from 1
	Reason    string `json:"reason,omitzero"`
	Late      bool   `json:"late,omitzero"` // another delivery had taken its place
}

// VerifiedData is the data of challenge.verified.
type VerifiedData struct {
	About
	Challenge  string   `json:"challenge"`
	Factor     string   `json:"factor"`
	AMR        []string `json:"amr"`
	VerifiedAt string   `json:"verified_at"`
}

// Failed is the data of challenge.failed.
type Failed struct {
	About
	Challenge    string `json:"challenge"`
	Factor       string `json:"factor"`
	AttemptsLeft int    `json:"attempts_left"`
}

// Ended is the data of challenge.ended.
type Ended struct {
	About
	Challenge string `json:"challenge"`
	Reason    string `json:"reason"`
}

// AccountLockedData is the data of account.locked.
type AccountLockedData struct {
	User      string `json:"user"`
	Session   string `json:"session,omitzero"`
	Login     string `json:"login,omitzero"`
	Challenge string `json:"challenge,omitzero"` // none where the answers were to a ceremony or a recovery
	Failures  int    `json:"failures"`
}

// EndReason returns what challenge.ended says of a state, and false for a state of which challenge.verified tells instead.
func EndReason(s otp.State) (string, bool) {
	return string(s), s.Ended() && s != otp.Verified
}

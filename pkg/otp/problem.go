package otp

import (
	"errors"
	"fmt"
	"time"
)

// A Reason is a word of the closed set that leaves otpost: in replies, in challenge.refused and in dead letters. Apps may branch on it;
// Problem.Message is for people.
type Reason string

// The reasons. Whatever has none of its own is Internal and says no more.
const (
	Invalid            Reason = "invalid"                   // a field is missing or wrong; the message names it
	UnknownApp         Reason = "unknown_app"               // no such app
	UnknownChallenge   Reason = "unknown_challenge"         // no such challenge for this app and session
	ChallengeEnded     Reason = "challenge_ended"           // it has ended; its own reason is in the message
	RateLimited        Reason = "rate_limited"              // too soon; see retry_after
	AccountLocked      Reason = "locked"                    // until an operator unlocks the account
	BlockedDestination Reason = "blocked_destination"       // the address may not be sent to
	NoFactorLeft       Reason = "no_factor"                 // nothing to prove with
	Stale              Reason = "stale"                     // the login waited in the queue for longer than a code lives
	ReauthRequired     Reason = "reauthentication_required" // the password, or a code of a factor, must be given anew
	UnknownFactor      Reason = "unknown_factor"            // no such factor of this user
	UnknownCeremony    Reason = "unknown_ceremony"          // unknown, another's, expired or used: all answered alike
	UnknownRecovery    Reason = "unknown_recovery"          // no such recovery under way: unknown, another's or ended, all answered alike
	UnknownDevice      Reason = "unknown_device"            // no such trusted device of this user
	WrongCode          Reason = "wrong_code"                // the code does not fit; it has counted against the account
	NotAllowed         Reason = "not_allowed"               // the app's policy does not allow it
	LastFactor         Reason = "last_factor"               // the user's last one: to remove it is to deactivate, a request of its own
	CoolingOff         Reason = "cooling_off"               // too new to be the only factor, or to prove a weakening act; see retry_after
	ApprovalRequired   Reason = "approval_required"         // a second support agent must approve first
	Conflict           Reason = "conflict"                  // something else was quicker, or is there already; look again, then ask again
	TooMany            Reason = "too_many"                  // the user has as many as the policy allows
	Busy               Reason = "unavailable"               // otpost cannot answer now; the same request may be sent again
	Internal           Reason = "internal"
)

// A Problem is an error whose words may leave otpost.
type Problem struct {
	Reason     Reason
	Field      string        // the field at fault, dotted ("data.to.sms"); empty where none is
	Message    string        // a sentence for people; never holds a code, a secret or a whole address
	RetryAfter time.Duration // zero for none
}

func (p *Problem) Error() string { return string(p.Reason) + ": " + p.Message }

// InvalidField returns the problem of one wrong field; the words follow the field's name.
func InvalidField(field, words string) *Problem {
	return &Problem{Reason: Invalid, Field: field, Message: field + " " + words}
}

// AsProblem maps any error to what may be told of it. It is the only such map: an error that is no Problem becomes Internal.
func AsProblem(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	return &Problem{Reason: Internal, Message: "something went wrong inside otpost"}
}

// Seconds returns a wait in whole seconds, rounded up, as retry_after carries it.
func Seconds(d time.Duration) int { return int((max(d, 0) + time.Second - 1) / time.Second) }

// EndedProblem is the problem of acting on a challenge that is over.
func EndedProblem(s State) *Problem {
	return &Problem{Reason: ChallengeEnded, Message: fmt.Sprintf("the challenge has ended: %s", s)}
}

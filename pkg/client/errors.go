package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// A Code tells programs why a request was refused. The set is closed within a version of the contract.
type Code = otp.Reason

// An Error is otpost's refusal of a request. Branch on the Code, or by errors.Is on one of the sentinels of this file.
type Error struct {
	Code       Code
	Message    string        // for people, names the field at fault; holds no code, no secret and no whole address
	RetryAfter time.Duration // how long to wait before another try; zero where that is not the matter
	cause      error         // of one that was made here
}

func (e *Error) Error() string {
	switch {
	case e.Message == "":
		return string(e.Code)
	case e.cause != nil:
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.cause)
	}
	return string(e.Code) + ": " + e.Message
}

// Is reports whether target is an Error of the same Code that says no more, as the sentinels are.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error) //nolint:errorlint // errors.Is does the unwrapping
	return ok && t.Code == e.Code && t.Message == ""
}

// Unwrap returns what lay behind a refusal that was made here.
func (e *Error) Unwrap() error { return e.cause }

// The refusals, for errors.Is. What they mean is said where otpost defines them: [otp.Reason].
var (
	ErrInvalid                  error = &Error{Code: otp.Invalid}
	ErrUnknownApp               error = &Error{Code: otp.UnknownApp}
	ErrUnknownChallenge         error = &Error{Code: otp.UnknownChallenge}
	ErrChallengeEnded           error = &Error{Code: otp.ChallengeEnded}
	ErrRateLimited              error = &Error{Code: otp.RateLimited}
	ErrLocked                   error = &Error{Code: otp.AccountLocked}
	ErrBlockedDestination       error = &Error{Code: otp.BlockedDestination}
	ErrNoFactor                 error = &Error{Code: otp.NoFactorLeft}
	ErrStale                    error = &Error{Code: otp.Stale}
	ErrReauthenticationRequired error = &Error{Code: otp.ReauthRequired}
	ErrUnknownFactor            error = &Error{Code: otp.UnknownFactor}
	ErrUnknownCeremony          error = &Error{Code: otp.UnknownCeremony}
	ErrUnknownRecovery          error = &Error{Code: otp.UnknownRecovery}
	ErrUnknownDevice            error = &Error{Code: otp.UnknownDevice}
	ErrWrongCode                error = &Error{Code: otp.WrongCode}
	ErrNotAllowed               error = &Error{Code: otp.NotAllowed}
	ErrLastFactor               error = &Error{Code: otp.LastFactor}
	ErrCoolingOff               error = &Error{Code: otp.CoolingOff}
	ErrApprovalRequired         error = &Error{Code: otp.ApprovalRequired}
	ErrConflict                 error = &Error{Code: otp.Conflict}
	ErrTooMany                  error = &Error{Code: otp.TooMany}
	ErrUnavailable              error = &Error{Code: otp.Busy} // also where nobody was there to take the request: it was not carried out
	ErrInternal                 error = &Error{Code: otp.Internal}
)

// ErrNoAnswer says that a request was sent and nobody answered in time. It may have been carried out, or may be later. It also comes where the app's NATS
// user may not use the app's subjects.
var ErrNoAnswer = errors.New("no answer from otpost")

// refused makes an Error of an error reply.
func refused(e event.ErrorBody) *Error {
	return &Error{Code: Code(e.Code), Message: e.Message, RetryAfter: time.Duration(e.RetryAfter) * time.Second}
}

// unavailable is the error of what did not reach otpost.
func unavailable(message string, cause error) *Error {
	return &Error{Code: otp.Busy, Message: message, RetryAfter: time.Second, cause: cause}
}

// invalid is the error of what otpost would refuse, or could not read.
func invalid(p *otp.Problem) *Error { return &Error{Code: p.Reason, Message: p.Message} }

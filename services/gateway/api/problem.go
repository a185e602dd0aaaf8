package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// A Kind is what a reason is over HTTP.
type Kind struct {
	Status int
	Title  string // in words; always the same for a reason
}

// problemBase begins the type of each problem (RFC 9457, section 3.1.1); the reason follows. It names the problem and leads nowhere.
const problemBase = "https://github.com/otpost/otpost/problems/"

// kinds is the one table of what reasons are over HTTP: 400 and its kin where another request would do better, 403 where the app or its user may not, 409 where
// things do not stand so, 429 where the same request will do later. A verdict such as "wrong" is no problem: it is a reply, as over NATS.
var kinds = map[otp.Reason]Kind{
	otp.Invalid:            {http.StatusBadRequest, "The request is not valid"},
	otp.UnknownApp:         {http.StatusNotFound, "No such app"},
	otp.UnknownChallenge:   {http.StatusNotFound, "No such challenge"},
	otp.UnknownFactor:      {http.StatusNotFound, "No such factor"},
	otp.UnknownCeremony:    {http.StatusNotFound, "No such ceremony"},
	otp.UnknownRecovery:    {http.StatusNotFound, "No such recovery"},
	otp.UnknownDevice:      {http.StatusNotFound, "No such trusted device"},
	event.UnknownResult:    {http.StatusNotFound, "No such result"},
	otp.ReauthRequired:     {http.StatusForbidden, "The password or a code must be given anew"},
	otp.NotAllowed:         {http.StatusForbidden, "The app's policy does not allow it"},
	otp.ApprovalRequired:   {http.StatusForbidden, "A second support agent must approve first"},
	otp.BlockedDestination: {http.StatusForbidden, "The address may not be sent to"},
	otp.ChallengeEnded:     {http.StatusConflict, "The challenge has ended"},
	otp.NoFactorLeft:       {http.StatusConflict, "Nothing to prove with"},
	otp.Stale:              {http.StatusConflict, "The login has waited for too long"},
	otp.LastFactor:         {http.StatusConflict, "It is the last factor"},
	otp.CoolingOff:         {http.StatusConflict, "The factor is too new"},
	otp.Conflict:           {http.StatusConflict, "Something else was quicker"},
	otp.TooMany:            {http.StatusConflict, "There are as many as there may be"},
	otp.WrongCode:          {http.StatusUnprocessableEntity, "The code does not fit"},
	otp.AccountLocked:      {http.StatusLocked, "The account is locked"},
	otp.RateLimited:        {http.StatusTooManyRequests, "Too soon"},
	otp.Busy:               {http.StatusServiceUnavailable, "Not available at the moment"},
	otp.Internal:           {http.StatusInternalServerError, "A fault inside otpost"},

	event.Unauthorized:         {http.StatusUnauthorized, "No valid key"},
	event.NotFound:             {http.StatusNotFound, "No such path"},
	event.MethodNotAllowed:     {http.StatusMethodNotAllowed, "No such method"},
	event.TooLarge:             {http.StatusRequestEntityTooLarge, "The body is too large"},
	event.UnsupportedMediaType: {http.StatusUnsupportedMediaType, "The body must be JSON"},
	event.IdempotencyMismatch:  {http.StatusUnprocessableEntity, "The Idempotency-Key came with another request"},
}

// Kinds returns what each reason is over HTTP.
func Kinds() map[otp.Reason]Kind {
	out := make(map[otp.Reason]Kind, len(kinds))
	for reason, k := range kinds {
		out[reason] = k
	}
	return out
}

// ProblemType is the type of the problems of one reason.
func ProblemType(reason otp.Reason) string { return problemBase + string(reason) }

// describe writes a problem for HTTP. A reason that the table lacks, which only a newer worker can have, goes out as a conflict with what was asked.
func describe(p *otp.Problem) *event.HTTPProblem {
	k, ok := kinds[p.Reason]
	if !ok {
		k = Kind{http.StatusConflict, "It cannot be done"}
	}
	return &event.HTTPProblem{
		Type: ProblemType(p.Reason), Title: k.Title, Status: k.Status, Detail: p.Message, Code: string(p.Reason), Field: p.Field,
		RetryAfter: otp.Seconds(p.RetryAfter),
	}
}

// unavailable is the problem of what failed for the moment.
func unavailable(cause error) error {
	return fmt.Errorf("%w: %w", cause, &otp.Problem{
		Reason: otp.Busy, Message: "otpost cannot answer at the moment; send this again", RetryAfter: time.Second,
	})
}

// asProblem maps any error to what may be told of it.
func asProblem(err error) *otp.Problem {
	if _, known := errors.AsType[*otp.Problem](err); !known {
		switch {
		case errors.Is(err, postgres.ErrNoResult):
			return &otp.Problem{Reason: event.UnknownResult, Message: "there is no such result: it is unknown, expired or was redeemed already"}
		case errors.Is(err, postgres.ErrNoApp):
			return &otp.Problem{Reason: otp.UnknownApp, Message: "there is no such app"}
		case postgres.Unreachable(err), errors.Is(err, context.DeadlineExceeded):
			return otp.AsProblem(unavailable(err))
		}
	}
	return otp.AsProblem(err)
}

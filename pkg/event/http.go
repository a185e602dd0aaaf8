package event

import (
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

// This file is what the JSON API says that NATS does not: requests and replies are the same, and have the same types.

// MaxIdempotencyKey is the most characters of an Idempotency-Key, which are printable ASCII.
const MaxIdempotencyKey = 255

// The reasons that are known over HTTP only. All others are those of package otp.
const (
	Unauthorized         otp.Reason = "unauthorized"           // no key, or one that is unknown, expired or revoked: all answered alike
	NotFound             otp.Reason = "not_found"              // no such path
	MethodNotAllowed     otp.Reason = "method_not_allowed"     // the path has another method; see Allow
	TooLarge             otp.Reason = "too_large"              // the body is longer than MaxBody
	UnsupportedMediaType otp.Reason = "unsupported_media_type" // the body must be application/json, neither packed nor in another character set
	IdempotencyMismatch  otp.Reason = "idempotency_mismatch"   // the Idempotency-Key came with another request before
	UnknownResult        otp.Reason = "unknown_result"         // of a visit to the pages: unknown, another app's, expired or redeemed, all answered alike
)

// HTTPProblem is the body of every answer that is no success (RFC 9457). Programs branch on Code.
type HTTPProblem struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail"`
	Code       string `json:"code"`
	Field      string `json:"field,omitzero"`       // of invalid: the field at fault, dotted
	RetryAfter int    `json:"retry_after,omitzero"` // seconds; the header Retry-After says the same
	RequestID  string `json:"request_id"`           // as in the header X-Request-Id
}

// SignalFromData makes the event of a signal out of its data, as an app posts it. A problem names the field without "data." before it.
func SignalFromData(app string, name SignalName, id string, at time.Time, data []byte) ([]byte, *otp.Problem) {
	d, p := parseSignalData(name, data, "")
	if p != nil {
		return nil, p
	}
	body := encode(cloudEvent{
		SpecVersion: "1.0", ID: id, Source: "/otpost/apps/" + app, Type: "otpost." + string(name) + ".v1", Time: Time(at), ContentType: "application/json", Data: d,
	})
	if _, p := ParseSignal(app, name, body); p != nil { // as it will be read
		return nil, p
	}
	return body, nil
}

// SignalReply confirms that a signal was taken. What it brings about follows soon after.
type SignalReply struct {
	ID string `json:"id"` // of the event that otpost made of it
}

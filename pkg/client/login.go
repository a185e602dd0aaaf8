package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// A Login is a user whose password was right and who needs a second factor. Only User and Session are required.
type Login struct {
	ID          string      `json:"id"`               // makes it idempotent: the same id is one challenge, for a day; made where it is empty
	User        string      `json:"user"`             // the app's own id of the user
	Session     string      `json:"session"`          // of the login, for the app's eyes only: whoever answers must name it
	Channel     Kind        `json:"channel,omitzero"` // the kind of factor to ask for, KindVoice or KindWhatsApp; the user's preferred one where it is empty
	To          To          `json:"to,omitzero"`      // addresses that the app vouches for; the user's enrolled factors where there are none
	Locale      string      `json:"locale,omitzero"`  // BCP 47, of the message
	Origin      Origin      `json:"client,omitzero"`
	Device      string      `json:"device,omitzero"` // the token of a trusted device, from the browser's cookie
	Transaction Transaction `json:"transaction,omitzero"`
}

// To holds addresses that the app vouches for.
type To struct {
	SMS   string `json:"sms,omitzero"`
	Email string `json:"email,omitzero"`
}

// An Outcome is what became of a login.
type Outcome string

// The outcomes.
const (
	Issued  Outcome = "issued"  // there is a challenge to answer
	Skipped Outcome = "skipped" // none is needed: a trusted device, or a user without factors where the policy lets them in
	Refused Outcome = "refused" // the login must not go on
)

// Reasons of a login that was skipped.
const (
	ReasonTrustedDevice Code = "trusted_device"
	ReasonNoFactor           = otp.NoFactorLeft
)

// A LoginResult is what became of a login. Which fields are set depends on Outcome.
type LoginResult struct {
	Outcome    Outcome   `json:"outcome"`
	Challenge  string    `json:"challenge,omitzero"`
	Channel    Kind      `json:"channel,omitzero"` // how it is asked for: Factor, KindVoice or KindWhatsApp
	Factor     Kind      `json:"factor,omitzero"`
	To         string    `json:"to,omitzero"` // masked; none for a factor that needs no delivery
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	Digits     int       `json:"digits,omitzero"`
	Methods    []Kind    `json:"methods,omitzero"` // what else the user could use
	Reason     Code      `json:"reason,omitzero"`  // of Skipped and Refused
	Message    string    `json:"message,omitzero"` // of Refused, for people
	RetryAfter Seconds   `json:"retry_after,omitzero"`
	// Device is the browser's token from now on, of Skipped for a trusted device: put it into the cookie. Where it is empty then, the same login had been
	// asked for before and that reply was lost: clear the cookie, because the token in it is spent and its next use would count as theft.
	Device string `json:"device,omitzero"`
	Test   bool   `json:"test,omitzero"` // of Issued to a test destination: nothing is sent, and a fixed code answers it
}

// Login asks for a second factor and returns once it is decided and stored. A code, where one is needed, is on its way. The same Login may be sent again.
func (c *Client) Login(ctx context.Context, l Login) (LoginResult, error) {
	if l.ID == "" {
		l.ID = newID()
	}
	return ask[LoginResult](ctx, c, event.VerbLogin, again, l)
}

// PublishLogin publishes a login event, for an app that goes by events, and returns its id when the stream has it. What becomes of it comes as
// challenge.issued, challenge.skipped or challenge.refused. What otpost would refuse for its form is refused here, with ErrInvalid.
func (c *Client) PublishLogin(ctx context.Context, l Login) (id string, err error) {
	if l.ID == "" {
		l.ID = newID()
	}
	id, l.ID = l.ID, ""
	now := time.Now()
	body, err := c.envelope(id, event.LoginType, now, loginData(l))
	if err != nil {
		return "", fmt.Errorf("publish login: %w", err)
	}
	if _, p := event.ParseLogin(c.app, body, now); p != nil {
		return "", fmt.Errorf("publish login: %w", invalid(p))
	}
	if err := c.publish(ctx, event.LoginSubject(c.app), body); err != nil {
		return "", fmt.Errorf("publish login: %w", err)
	}
	return id, nil
}

// loginData is a Login as the data of an event, whose id stands beside it.
type loginData struct {
	ID          string      `json:"id,omitzero"`
	User        string      `json:"user"`
	Session     string      `json:"session"`
	Channel     Kind        `json:"channel,omitzero"`
	To          To          `json:"to,omitzero"`
	Locale      string      `json:"locale,omitzero"`
	Origin      Origin      `json:"client,omitzero"`
	Device      string      `json:"device,omitzero"`
	Transaction Transaction `json:"transaction,omitzero"`
}

// A cloudEvent is what apps publish: CloudEvents 1.0 in structured JSON.
type cloudEvent struct {
	SpecVersion string `json:"specversion"`
	ID          string `json:"id"`
	Source      string `json:"source"`
	Type        string `json:"type"`
	Time        string `json:"time"`
	ContentType string `json:"datacontenttype"`
	Data        any    `json:"data"`
}

func (c *Client) envelope(id, typ string, at time.Time, data any) ([]byte, error) {
	body, err := jsonv2.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: id, Source: c.source, Type: typ, Time: event.Time(at), ContentType: "application/json", Data: data,
	})
	if err != nil {
		return nil, &Error{Code: otp.Invalid, Message: "data cannot be written as JSON", cause: err}
	}
	return body, nil
}

// newID returns an id that nothing else has, in the order of time (UUIDv7, RFC 9562, section 5.7).
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// A Verify is a user's answer to a challenge: a Code, or the Credential of a security key.
type Verify struct {
	Challenge   string          `json:"challenge"`
	Session     string          `json:"session"`               // the one that the login named
	Code        string          `json:"code,omitzero"`         // as it was typed: of any of the user's factors, or a backup code
	Credential  json.RawMessage `json:"credential,omitzero"`   // what navigator.credentials.get returned, as JSON; see BeginWebAuthn
	Factor      Kind            `json:"factor,omitzero"`       // compare with this kind only
	Transaction Transaction     `json:"transaction,omitzero"`  // as the login named it, where it named one
	TrustDevice TrustDevice     `json:"trust_device,omitzero"` // remember this browser
	Request     string          `json:"request,omitzero"`      // makes it idempotent: the same id has one verdict and takes one attempt; made where it is empty
}

// TrustDevice asks to remember a browser, where the user wishes it.
type TrustDevice struct {
	Label string `json:"label"` // for the user, to tell several apart: "Firefox on Linux"
}

// A Result is the verdict on an answer. Only Verified lets the login go on.
type Result string

// The results. After Wrong the user may try again; after all others the challenge is over.
const (
	Verified   Result = "verified"
	Wrong      Result = "wrong"
	Expired    Result = "expired"
	Exhausted  Result = "exhausted"
	Superseded Result = "superseded"
	Cancelled  Result = "cancelled"
	Locked     Result = "locked"
	Unknown    Result = "unknown" // no such challenge of this session, or one that was verified before
)

// A Verdict is the verdict on an answer.
type Verdict struct {
	Result       Result    `json:"result"`
	AttemptsLeft int       `json:"attempts_left"`
	RetryAfter   Seconds   `json:"retry_after"` // until the next answer may be given
	User         string    `json:"user,omitzero"`
	Factor       Kind      `json:"factor,omitzero"`
	AMR          []string  `json:"amr,omitzero"` // RFC 8176
	VerifiedAt   time.Time `json:"verified_at,omitzero"`
	Device       string    `json:"device,omitzero"` // the token of the browser that is trusted from now on: for a cookie that scripts cannot read
}

// Verify asks whether an answer is right. A wrong one is a Verdict and no error.
func (c *Client) Verify(ctx context.Context, v Verify) (Verdict, error) {
	if v.Request == "" {
		v.Request = newID()
	}
	return ask[Verdict](ctx, c, event.VerbVerify, again, v)
}

// A Resend asks for the code of a challenge once more. It is the same code.
type Resend struct {
	Challenge string  `json:"challenge"`
	Session   string  `json:"session"`
	Channel   Channel `json:"channel,omitzero"` // another than the last, of ChallengeStatus.Channels; needed where the challenge was over none
}

// A Resent tells of a code that was sent again.
type Resent struct {
	SendsLeft  int     `json:"sends_left"`
	RetryAfter Seconds `json:"retry_after"` // until the next resend
	To         string  `json:"to"`          // masked
}

// Resend sends the code of a challenge once more. Errors: ErrUnknownChallenge, ErrChallengeEnded, ErrRateLimited, ErrBlockedDestination, and ErrInvalid for
// a channel that no code can be sent over: see ChallengeStatus.Channels.
func (c *Client) Resend(ctx context.Context, r Resend) (Resent, error) {
	return ask[Resent](ctx, c, event.VerbResend, once, r)
}

// CancelChallenge ends a challenge. Errors: ErrUnknownChallenge, ErrChallengeEnded.
func (c *Client) CancelChallenge(ctx context.Context, challenge, session string) error {
	_, err := ask[event.CancelReply](ctx, c, event.VerbCancel, once, event.CancelRequest{Challenge: challenge, Session: session})
	return err
}

// A ChallengeStatus is where a challenge stands.
type ChallengeStatus struct {
	Challenge    string      `json:"challenge"`
	State        otp.State   `json:"state"`
	Reason       string      `json:"reason,omitzero"` // why it ended
	User         string      `json:"user"`
	Session      string      `json:"session,omitzero"`
	Channel      Kind        `json:"channel"`           // how it asks now: over the channel of the last delivery, or by its kind of factor
	To           string      `json:"to,omitzero"`       // masked; where nothing is delivered it is empty
	Digits       int         `json:"digits,omitzero"`   // of the code that the user types; 0 where a key is touched
	Methods      []Kind      `json:"methods,omitzero"`  // what else the user could use, best first
	Channels     []Channel   `json:"channels,omitzero"` // over which the code may be sent now, or once ResendAfter is over; none where no sends are left
	Transaction  Transaction `json:"transaction,omitzero"`
	CreatedAt    time.Time   `json:"created_at"`
	ExpiresAt    time.Time   `json:"expires_at"`
	EndedAt      time.Time   `json:"ended_at,omitzero"`
	AttemptsLeft int         `json:"attempts_left"`
	SendsLeft    int         `json:"sends_left"`
	ResendAfter  Seconds     `json:"resend_after,omitzero"` // until the code may be sent again
	Deliveries   []Delivery  `json:"deliveries"`
	Test         bool        `json:"test,omitzero"` // to a test destination
}

// A Delivery is where one sending of a code stands: one hand-over to one provider. Where it fails, or is not said to have arrived in time, the next one
// follows by itself: over another provider, then over another channel.
type Delivery struct {
	Attempt   int               `json:"attempt"` // its number within the challenge, from 1
	Channel   Channel           `json:"channel"`
	Provider  string            `json:"provider,omitzero"`
	Reference string            `json:"reference,omitzero"` // the provider's own id
	State     otp.DeliveryState `json:"state"`
	Reason    string            `json:"reason,omitzero"`
	To        string            `json:"to"` // masked
	CreatedAt time.Time         `json:"created_at"`
	UpdatedAt time.Time         `json:"updated_at"`

	Cause       Cause     `json:"cause,omitzero"`
	AcceptedAt  time.Time `json:"accepted_at,omitzero"`  // when the provider took it; zero where it did not
	DeliveredAt time.Time `json:"delivered_at,omitzero"` // when it had arrived, as the provider says; zero where it has not
	AbandonedAt time.Time `json:"abandoned_at,omitzero"` // when another delivery took its place; zero where none has. It may arrive all the same
}

// ChallengeStatus returns where a challenge stands, with its deliveries. Errors: ErrUnknownChallenge.
func (c *Client) ChallengeStatus(ctx context.Context, challenge string) (ChallengeStatus, error) {
	return ask[ChallengeStatus](ctx, c, event.VerbStatus, again, event.StatusRequest{Challenge: challenge})
}

// WebAuthnOptions are what a browser needs to answer a challenge with a security key.
type WebAuthnOptions struct {
	Options   json.RawMessage `json:"options"` // its publicKey, by parseRequestOptionsFromJSON, is for navigator.credentials.get
	ExpiresAt time.Time       `json:"expires_at"`
}

// BeginWebAuthn returns what a security key needs to answer a challenge. It serves one answer, which goes into [Verify] as its Credential. Errors:
// ErrUnknownChallenge, ErrChallengeEnded, ErrNoFactor for a user without a key.
func (c *Client) BeginWebAuthn(ctx context.Context, challenge, session string) (WebAuthnOptions, error) {
	return ask[WebAuthnOptions](ctx, c, event.VerbWebAuthnBegin, once, event.WebAuthnBeginRequest{Challenge: challenge, Session: session})
}

package event

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
)

// VerifyRequest asks whether an answer is right.
type VerifyRequest struct {
	Challenge   string           `json:"challenge"`
	Session     string           `json:"session"`
	Code        string           `json:"code,omitzero"`       // of any of the user's factors, or a backup code
	Credential  jsontext.Value   `json:"credential,omitzero"` // in place of a code: what a security key says, the PublicKeyCredential as JSON
	Factor      string           `json:"factor,omitzero"`     // compare with this kind of factor only
	Transaction *otp.Transaction `json:"transaction,omitzero"`
	TrustDevice *TrustDevice     `json:"trust_device,omitzero"`
	Request     string           `json:"request,omitzero"` // idempotency id: the same request again gets the same verdict and takes no attempt
}

// TrustDevice asks to remember the browser.
type TrustDevice struct {
	Label string `json:"label"`
}

// Answer is a valid VerifyRequest.
type Answer struct {
	App         string
	Challenge   uuid.UUID
	Session     string
	Code        string         // in the only form of its Form; empty for a credential
	Form        otp.AnswerForm // what the code looks like
	Credential  []byte
	TrustDevice *TrustDevice
	Factor      otp.FactorKind
	Transaction *otp.Transaction
	Request     string
}

// VerifyReply is the verdict. AttemptsLeft and RetryAfter are always given.
type VerifyReply struct {
	Result       string   `json:"result"` // verified, wrong, unknown, or how the challenge had ended; one that was verified is unknown to a second answer
	AttemptsLeft int      `json:"attempts_left"`
	RetryAfter   int      `json:"retry_after"` // seconds until the next answer may be given
	User         string   `json:"user,omitzero"`
	Factor       string   `json:"factor,omitzero"`
	AMR          []string `json:"amr,omitzero"`
	VerifiedAt   string   `json:"verified_at,omitzero"`
	Device       string   `json:"device,omitzero"` // the token of the browser that is trusted from now on; told once, and not to a repeat of the request
}

// Results of a verification that are no state of a challenge.
const (
	ResultWrong   = "wrong"
	ResultUnknown = "unknown"
)

// LoginReply is what a login event would have brought. Which fields are set depends on Outcome.
type LoginReply struct {
	Outcome    string   `json:"outcome"` // issued, skipped or refused
	Challenge  string   `json:"challenge,omitzero"`
	Channel    string   `json:"channel,omitzero"`
	Factor     string   `json:"factor,omitzero"`
	To         string   `json:"to,omitzero"`
	ExpiresAt  string   `json:"expires_at,omitzero"`
	Digits     int      `json:"digits,omitzero"`
	Methods    []string `json:"methods,omitzero"`
	Reason     string   `json:"reason,omitzero"`
	Message    string   `json:"message,omitzero"`
	RetryAfter int      `json:"retry_after,omitzero"`
	Device     string   `json:"device,omitzero"` // of skipped for a trusted device: its token from now on
	Test       bool     `json:"test,omitzero"`   // of issued to a test destination: nothing is sent, and a fixed code answers it
}

// Outcomes of a login.
const (
	OutcomeIssued  = "issued"
	OutcomeSkipped = "skipped"
	OutcomeRefused = "refused"
)

// ResendRequest asks for the same code once more, over another channel where one is named.
type ResendRequest struct {
	Challenge string `json:"challenge"`
	Session   string `json:"session"`
	Channel   string `json:"channel,omitzero"`
}

// ResendReply tells of the send that was ordered.
type ResendReply struct {
	SendsLeft  int    `json:"sends_left"`
	RetryAfter int    `json:"retry_after"` // seconds until the next resend
	To         string `json:"to"`          // masked
}

// CancelRequest ends a challenge.
type CancelRequest struct {
	Challenge string `json:"challenge"`
	Session   string `json:"session"`
}

// CancelReply confirms it.
type CancelReply struct {
	Result string `json:"result"` // cancelled
}

// StatusRequest asks where a challenge stands.
type StatusRequest struct {
	Challenge string `json:"challenge"`
}

// StatusReply is where a challenge stands.
type StatusReply struct {
	Challenge    string           `json:"challenge"`
	State        string           `json:"state"`
	Reason       string           `json:"reason,omitzero"` // why it ended
	User         string           `json:"user"`
	Session      string           `json:"session,omitzero"`
	Channel      string           `json:"channel"`
	To           string           `json:"to,omitzero"`     // masked
	Digits       int              `json:"digits,omitzero"` // that the user types now; 0 where a key is touched
	Methods      []string         `json:"methods,omitzero"`
	Channels     []string         `json:"channels,omitzero"` // that the code may be sent over now, or once resend_after is over; none where no sends are left
	Transaction  *otp.Transaction `json:"transaction,omitzero"`
	CreatedAt    string           `json:"created_at"`
	ExpiresAt    string           `json:"expires_at"`
	EndedAt      string           `json:"ended_at,omitzero"`
	AttemptsLeft int              `json:"attempts_left"`
	SendsLeft    int              `json:"sends_left"`
	ResendAfter  int              `json:"resend_after,omitzero"` // seconds until the next resend, while there are sends left
	Deliveries   []StatusDelivery `json:"deliveries"`
	Test         bool             `json:"test,omitzero"` // to a test destination
}

// StatusDelivery is where one delivery stands.
type StatusDelivery struct {
	Attempt   int    `json:"attempt"`
	Channel   string `json:"channel"`
	Provider  string `json:"provider,omitzero"`
	Reference string `json:"reference,omitzero"` // the provider's own id
	State     string `json:"state"`
	Reason    string `json:"reason,omitzero"`
	To        string `json:"to"` // masked
	CreatedAt string `json:"created_at"`
	UpdatedAt string `json:"updated_at"`

	Cause       string `json:"cause,omitzero"`        // send, failover (the next provider took over) or fallback (the next channel did)
	AcceptedAt  string `json:"accepted_at,omitzero"`  // when the provider took it
	DeliveredAt string `json:"delivered_at,omitzero"` // when the provider said that it had arrived
	AbandonedAt string `json:"abandoned_at,omitzero"` // when another delivery took its place
}

// ErrorReply is the answer to a request that could not be carried out.
type ErrorReply struct {
	Error ErrorBody `json:"error"`
}

// ErrorBody tells programs by Code, people by Message.
type ErrorBody struct {
	Code       string `json:"code"`
	Message    string `json:"message"`
	Field      string `json:"field,omitzero"` // of invalid: the field at fault, dotted ("to.sms")
	RetryAfter int    `json:"retry_after,omitzero"`
}

// Encode returns any reply of this file as JSON.
func Encode(reply any) []byte { return encode(reply) }

// EncodeProblem returns the error reply of a problem.
func EncodeProblem(p *otp.Problem) []byte {
	return encode(ErrorReply{Error: ErrorBody{Code: string(p.Reason), Message: p.Message, Field: p.Field, RetryAfter: otp.Seconds(p.RetryAfter)}})
}

// ParseVerify reads a request of the verb verify.
func ParseVerify(app string, body []byte) (Answer, *otp.Problem) {
	var r VerifyRequest
	if p := decode(body, &r, "", strict); p != nil {
		return Answer{}, p
	}
	id, p := parseChallenge(r.Challenge, r.Session)
	if p != nil {
		return Answer{}, p
	}
	a := Answer{App: app, Challenge: id, Session: r.Session, Factor: otp.FactorKind(r.Factor), Transaction: r.Transaction, Request: r.Request}
	if r.Factor != "" {
		if p := oneOf("factor", r.Factor, answerKinds...); p != nil {
			return Answer{}, p
		}
	}
	if p := codeOrCredential(&r.Code, r.Credential); p != nil {
		return Answer{}, p
	}
	a.Credential, a.TrustDevice = r.Credential, r.TrustDevice
	a.Code, a.Form, _ = otp.ParseAnswer(r.Code)
	if r.Transaction != nil {
		if f, w := r.Transaction.Check(); w != "" {
			return Answer{}, otp.InvalidField("transaction."+f, w)
		}
	}
	if r.Request != "" {
		if w := otp.CheckID(r.Request); w != "" {
			return Answer{}, otp.InvalidField("request", w)
		}
	}
	if r.TrustDevice != nil {
		if p := needID("trust_device.label", r.TrustDevice.Label); p != nil { // longer than MaxLabel, as it has been from the start
			return Answer{}, p
		}
	}
	return a, nil
}

// A Reference names a challenge as a request does: by its id and the session that it belongs to.
type Reference struct {
	App       string
	Challenge uuid.UUID
	Session   string
	Channel   otp.Channel // resend only; empty for the channel of the last send
}

// ParseResend reads a request of the verb resend.
func ParseResend(app string, body []byte) (Reference, *otp.Problem) {
	var r ResendRequest
	if p := decode(body, &r, "", strict); p != nil {
		return Reference{}, p
	}
	id, p := parseChallenge(r.Challenge, r.Session)
	if p != nil {
		return Reference{}, p
	}
	if c := otp.Channel(r.Channel); c != "" && !c.Valid() {
		return Reference{}, otp.InvalidField("channel", "must be one of sms, voice, whatsapp, email")
	}
	return Reference{App: app, Challenge: id, Session: r.Session, Channel: otp.Channel(r.Channel)}, nil
}

// ParseCancel reads a request of the verb cancel.
func ParseCancel(app string, body []byte) (Reference, *otp.Problem) {
	var r CancelRequest
	if p := decode(body, &r, "", strict); p != nil {
		return Reference{}, p
	}
	id, p := parseChallenge(r.Challenge, r.Session)
	return Reference{App: app, Challenge: id, Session: r.Session}, p
}

// ParseStatus reads a request of the verb status.
func ParseStatus(app string, body []byte) (Reference, *otp.Problem) {
	var r StatusRequest
	if p := decode(body, &r, "", strict); p != nil {
		return Reference{}, p
	}
	id, p := parseChallengeID(r.Challenge)
	return Reference{App: app, Challenge: id}, p
}

func parseChallenge(challenge, session string) (uuid.UUID, *otp.Problem) {
	id, p := parseChallengeID(challenge)
	if p != nil {
		return uuid.Nil, p
	}
	if w := otp.CheckID(session); w != "" {
		return uuid.Nil, otp.InvalidField("session", w)
	}
	return id, nil
}

// parseChallengeID takes the one form in which otpost writes ids: 36 characters, lower or upper case (RFC 9562, section 4).
func parseChallengeID(s string) (uuid.UUID, *otp.Problem) {
	if s == "" {
		return uuid.Nil, otp.InvalidField("challenge", "must not be empty")
	}
	if len(s) == 36 {
		if id, err := uuid.Parse(s); err == nil {
			return id, nil
		}
	}
	return uuid.Nil, otp.InvalidField("challenge", "must be a UUID as challenge.issued gave it")
}

// OptionalTime writes a time, or nothing for the zero time.
func OptionalTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return Time(t)
}

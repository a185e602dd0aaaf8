package event

import "github.com/otpost/otpost/pkg/otp"

// The verbs of recovery.
const (
	VerbRecoveryPreferences = "recovery.preferences"
	VerbRecoveryAddress     = "recovery.address"
	VerbRecoveryConfirm     = "recovery.confirm"
	VerbRecoveryBegin       = "recovery.begin"
	VerbRecoveryResend      = "recovery.resend"
	VerbRecoveryProve       = "recovery.prove"
	VerbRecoveryStatus      = "recovery.status"
	VerbRecoveryCancel      = "recovery.cancel"
)

// PreferencesRequest reads what a user has set for recovery and, where Country, Region, Passphrase or Remove is given, changes it first. A change needs a
// session and the proof. It is answered by PreferencesReply.
type PreferencesRequest struct {
	User       string   `json:"user"`
	Session    string   `json:"session,omitzero"`
	Country    string   `json:"country,omitzero"`    // ISO 3166-1 alpha-2, capitals; decides which methods are allowed
	Region     string   `json:"region,omitzero"`     // of the US: the state
	Passphrase string   `json:"passphrase,omitzero"` // a new one, as it was typed
	Remove     []string `json:"remove,omitzero"`     // of email, phone, letter, passphrase, none twice
	Client     *Client  `json:"client,omitzero"`
	Proof
}

// PreferencesReply is what is set. It answers recovery.preferences and recovery.confirm.
type PreferencesReply struct {
	Allowed    []string      `json:"allowed"` // methods, by the policy for the user's country
	Contacts   []ContactInfo `json:"contacts"`
	Passphrase bool          `json:"passphrase"` // there is one
	Country    string        `json:"country,omitzero"`
	Region     string        `json:"region,omitzero"`
}

// ContactInfo is an address for recovery as people may see it.
type ContactInfo struct {
	Method      string `json:"method"`
	To          string `json:"to"` // masked
	ConfirmedAt string `json:"confirmed_at"`
}

// RecoveryAddressRequest begins the setting of an address for recovery. A code goes to an email address or phone; a postal address is the
// app's word. It is answered by RecoveryAddressReply.
type RecoveryAddressRequest struct {
	Owner
	Method  string       `json:"method"`           // email, phone or letter
	Address string       `json:"address,omitzero"` // of email and phone
	Postal  *otp.Address `json:"postal,omitzero"`  // of letter
	Locale  string       `json:"locale,omitzero"`
	Client  *Client      `json:"client,omitzero"`
	Proof
}

// RecoveryAddressReply names what is to be confirmed; of a letter nothing is.
type RecoveryAddressReply struct {
	Ceremony  string `json:"ceremony,omitzero"`
	ExpiresAt string `json:"expires_at,omitzero"`
	To        string `json:"to"` // masked
}

// RecoveryConfirmRequest ends it with the code. It is answered by PreferencesReply.
type RecoveryConfirmRequest struct {
	Ceremony string `json:"ceremony"`
	Session  string `json:"session"`
	Code     string `json:"code"`
}

// RecoveryBeginRequest begins a reset for a user who has lost their factors, and has entered the password a moment ago. It is answered by RecoveryReply.
type RecoveryBeginRequest struct {
	Owner
	Methods         []string `json:"methods,omitzero"` // of email, phone, letter, none twice; all that the user has where none is named
	Locale          string   `json:"locale,omitzero"`
	Client          *Client  `json:"client,omitzero"`
	Reauthenticated string   `json:"reauthenticated_at,omitzero"`
}

// RecoveryReply is where a recovery stands. State is none where the user has none. It answers recovery.begin and .status, and support.
type RecoveryReply struct {
	Recovery    string               `json:"recovery,omitzero"`
	State       string               `json:"state"` // approval, proving, waiting, completed, cancelled, expired, refused; or none
	Methods     []RecoveryMethodInfo `json:"methods,omitzero"`
	Passphrase  bool                 `json:"passphrase,omitzero"`  // the passphrase may be a proof
	BackupCode  bool                 `json:"backup_code,omitzero"` // a backup code may be a proof
	Proven      []string             `json:"proven,omitzero"`
	Needed      int                  `json:"needed"`                // proofs that are still missing, at least
	ExpiresAt   string               `json:"expires_at,omitzero"`   // proofs are taken until then
	EffectiveAt string               `json:"effective_at,omitzero"` // when it takes effect
}

// RecoveryMethodInfo is a way by which a code of a recovery goes.
type RecoveryMethodInfo struct {
	Method     string `json:"method"`
	To         string `json:"to"`         // masked
	State      string `json:"state"`      // of the delivery
	ExpiresAt  string `json:"expires_at"` // of the code
	SendsLeft  int    `json:"sends_left"`
	RetryAfter int    `json:"retry_after,omitzero"` // seconds until the next resend
}

// RecoveryResendRequest asks for the code of one method once more. It is answered by ResendReply.
type RecoveryResendRequest struct {
	Recovery string `json:"recovery"`
	Session  string `json:"session"`
	Method   string `json:"method"`
}

// RecoveryProveRequest gives one proof. In another session than the recovery's it takes Reauthenticated, and with a right proof that session takes the
// recovery over: it is the first proof of that one. It is answered by RecoveryProveReply.
type RecoveryProveRequest struct {
	Recovery        string  `json:"recovery"`
	Session         string  `json:"session"`
	Method          string  `json:"method"` // email, phone, letter, passphrase or backup_code
	Code            string  `json:"code"`   // or the passphrase
	Client          *Client `json:"client,omitzero"`
	Reauthenticated string  `json:"reauthenticated_at,omitzero"`
}

// RecoveryProveReply is the verdict on a proof, and where the recovery stands after it.
type RecoveryProveReply struct {
	Result       string `json:"result"` // proven or wrong
	AttemptsLeft int    `json:"attempts_left"`
	RetryAfter   int    `json:"retry_after"` // seconds until the next proof may be given
	RecoveryReply
}

// ResultProven is the result of a right proof; a wrong one is ResultWrong.
const ResultProven = "proven"

// RecoveryStatusRequest asks where a user's recovery stands, the latest where none is named. It is answered by RecoveryReply.
type RecoveryStatusRequest struct {
	User     string `json:"user"`
	Recovery string `json:"recovery,omitzero"`
}

// RecoveryCancelRequest stops a recovery: from its own session, from another one of the user with Reauthenticated, or with the code that every notice of it
// carries. It is answered by RecoveryCancelReply.
type RecoveryCancelRequest struct {
	User            string  `json:"user"`
	Session         string  `json:"session,omitzero"`
	Code            string  `json:"code,omitzero"`
	Client          *Client `json:"client,omitzero"`
	Reauthenticated string  `json:"reauthenticated_at,omitzero"`
}

// RecoveryCancelReply confirms it.
type RecoveryCancelReply struct {
	Cancelled bool `json:"cancelled"` // always true
}

package event

import "github.com/go-json-experiment/json/jsontext"

// The verbs of factors.
const (
	VerbFactorBegin       = "factor.begin"
	VerbFactorResend      = "factor.resend"
	VerbFactorConfirm     = "factor.confirm"
	VerbFactorList        = "factor.list"
	VerbFactorRename      = "factor.rename"
	VerbFactorPrefer      = "factor.prefer"
	VerbFactorRemove      = "factor.remove"
	VerbFactorResync      = "factor.resync"
	VerbDeactivateBegin   = "deactivate.begin"
	VerbDeactivateConfirm = "deactivate.confirm"
	VerbWebAuthnBegin     = "webauthn.begin"
)

// Owner names the user and the session that an act belongs to.
type Owner struct {
	User    string `json:"user"`
	Session string `json:"session"`
}

// Proof is what lets a weakening act pass. Reauthenticated says when the app last saw the password. Code is one from a factor that the user has, or a
// backup code; Challenge names, in place of a code, a challenge that the same user has answered rightly in the same session. A challenge proves one act.
// Neither may come of what the password alone brings: within the app's cooling-off a new factor proves nothing while there is an older one, of a challenge the
// newest factor of its kind counts, and backup codes prove nothing after they were shown again or renewed. That is cooling_off; the code is used up by it.
type Proof struct {
	Reauthenticated string `json:"reauthenticated_at,omitzero"`
	Code            string `json:"code,omitzero"`
	Challenge       string `json:"challenge,omitzero"`
}

// FactorBeginRequest begins the adding of a factor. It is answered by FactorBeginReply.
type FactorBeginRequest struct {
	Owner
	Kind            string  `json:"kind"`                        // totp, sms, email, webauthn, hotp or yubikey
	Label           string  `json:"label,omitzero"`              // for the user, to tell several apart; at most MaxLabel characters
	Address         string  `json:"address,omitzero"`            // of sms and email, and of no other kind
	Serial          string  `json:"serial,omitzero"`             // of hotp and yubikey, and of no other kind: of the token, as imported
	Account         string  `json:"account,omitzero"`            // of totp and webauthn: the name that the authenticator shows; the user where it is not given
	Locale          string  `json:"locale,omitzero"`             // BCP 47; of messages to the user from now on
	Client          *Client `json:"client,omitzero"`             // for the audit
	Reauthenticated string  `json:"reauthenticated_at,omitzero"` // needed where the user has an active factor
}

// FactorBeginReply is what the user needs to confirm the factor.
type FactorBeginReply struct {
	Ceremony   string         `json:"ceremony"`
	Kind       string         `json:"kind"`
	ExpiresAt  string         `json:"expires_at"`
	URI        string         `json:"uri,omitzero"`         // of totp: the otpauth URI
	Secret     string         `json:"secret,omitzero"`      // of totp: base32 in groups of four
	QRSVG      string         `json:"qr_svg,omitzero"`      // of totp
	QRPNG      []byte         `json:"qr_png,omitzero"`      // of totp, base64
	To         string         `json:"to,omitzero"`          // of sms and email, masked
	SendsLeft  int            `json:"sends_left,omitzero"`  // of sms and email
	RetryAfter int            `json:"retry_after,omitzero"` // of sms and email: seconds until the next resend
	Options    jsontext.Value `json:"options,omitzero"`     // of webauthn: for navigator.credentials.create
}

// FactorResendRequest asks for the code of a ceremony once more. It is answered by ResendReply.
type FactorResendRequest struct {
	Ceremony string `json:"ceremony"`
	Session  string `json:"session"`
}

// FactorConfirmRequest ends a ceremony with what proves the factor: a code, or a credential. It is answered by FactorConfirmReply.
type FactorConfirmRequest struct {
	Ceremony   string         `json:"ceremony"`
	Session    string         `json:"session"`
	Code       string         `json:"code,omitzero"`
	Credential jsontext.Value `json:"credential,omitzero"` // of webauthn: the PublicKeyCredential as JSON, at most MaxCredential bytes
	Client     *Client        `json:"client,omitzero"`
}

// FactorConfirmReply tells of the new factor.
type FactorConfirmReply struct {
	Factor      string   `json:"factor"`
	State       string   `json:"state"`                 // active; or confirmed, until the backup codes are acknowledged
	BackupCodes []string `json:"backup_codes,omitzero"` // grouped; with the first factor, and again until they are acknowledged
	AloneAfter  string   `json:"alone_after,omitzero"`  // before this it cannot be the only factor
}

// FactorListRequest asks for a user's factors. It is answered by FactorListReply.
type FactorListRequest struct {
	User string `json:"user"`
}

// FactorListReply lists a user's factors without their secrets, oldest first. An unknown user has none. It answers factor.list, .rename, .prefer and
// .remove.
type FactorListReply struct {
	Factors         []FactorInfo `json:"factors"`
	Activated       bool         `json:"activated"` // the backup codes are saved, and logins ask for a factor
	BackupCodesLeft int          `json:"backup_codes_left"`
	Fallbacks       []string     `json:"fallbacks,omitzero"` // kinds, best first, where the user has chosen
}

// FactorInfo is a factor as people may see it.
type FactorInfo struct {
	Factor     string `json:"factor"`
	Kind       string `json:"kind"`
	Label      string `json:"label,omitzero"`
	State      string `json:"state"`       // confirmed, active or suspended
	To         string `json:"to,omitzero"` // masked
	Preferred  bool   `json:"preferred,omitzero"`
	CreatedAt  string `json:"created_at"`
	LastUsedAt string `json:"last_used_at,omitzero"`
	AloneAfter string `json:"alone_after,omitzero"` // before this it cannot be the only factor
}

// FactorRenameRequest gives a factor another label. It is answered by FactorListReply.
type FactorRenameRequest struct {
	User    string `json:"user"`
	Factor  string `json:"factor"`
	Label   string `json:"label"`
	Session string `json:"session,omitzero"`
}

// FactorPreferRequest sets what logins ask for first, and what comes after it. It names a factor, fallbacks, or both, and is answered by
// FactorListReply.
type FactorPreferRequest struct {
	User      string   `json:"user"`
	Factor    string   `json:"factor,omitzero"`    // none leaves the preferred one as it is
	Fallbacks []string `json:"fallbacks,omitzero"` // kinds, best first, none twice; nil leaves them as they are, an empty list gives the order back to the policy
	Session   string   `json:"session,omitzero"`
}

// FactorRemoveRequest removes a factor that is not the last. It is answered by FactorListReply.
type FactorRemoveRequest struct {
	Owner
	Factor string  `json:"factor"`
	Client *Client `json:"client,omitzero"`
	Proof
}

// FactorResyncRequest brings a HOTP token that has run ahead back in step (RFC 4226, section 7.4). It is answered by FactorResyncReply.
type FactorResyncRequest struct {
	Owner
	Factor string `json:"factor"`
	First  string `json:"first"`  // a value of the token
	Second string `json:"second"` // the next one
}

// FactorResyncReply confirms it.
type FactorResyncReply struct {
	Factor string `json:"factor"`
}

// DeactivateBeginRequest is the intent to have no second factor any more. It is answered by DeactivateBeginReply.
type DeactivateBeginRequest struct {
	Owner
	Client *Client `json:"client,omitzero"`
	Proof
}

// DeactivateBeginReply names what is to be confirmed.
type DeactivateBeginReply struct {
	Ceremony  string `json:"ceremony"`
	ExpiresAt string `json:"expires_at"`
}

// DeactivateConfirmRequest confirms it. It is answered by DeactivateConfirmReply.
type DeactivateConfirmRequest struct {
	Ceremony string `json:"ceremony"`
	Session  string `json:"session"`
}

// DeactivateConfirmReply tells that it is done.
type DeactivateConfirmReply struct {
	Deactivated bool `json:"deactivated"` // always true
}

// WebAuthnBeginRequest asks for what a security key needs to answer a challenge. It is answered by WebAuthnBeginReply.
type WebAuthnBeginRequest struct {
	Challenge string `json:"challenge"`
	Session   string `json:"session"`
}

// WebAuthnBeginReply holds it. It serves one answer, right or wrong.
type WebAuthnBeginReply struct {
	Options   jsontext.Value `json:"options"` // for navigator.credentials.get
	ExpiresAt string         `json:"expires_at"`
}

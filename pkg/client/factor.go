package client

import (
	"context"
	"encoding/json"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// BeginFactor begins the adding of a factor.
type BeginFactor struct {
	User              string    `json:"user"`
	Session           string    `json:"session"` // who confirms it must name the same
	Kind              Kind      `json:"kind"`
	Label             string    `json:"label,omitzero"`   // for the user, to tell several apart
	Address           string    `json:"address,omitzero"` // of KindSMS and KindEmail only
	Serial            string    `json:"serial,omitzero"`  // of KindHOTP and KindYubikey only: of the token, as the operator imported it
	Account           string    `json:"account,omitzero"` // of KindTOTP and KindWebAuthn: the name that the authenticator shows; User where it is empty
	Locale            string    `json:"locale,omitzero"`  // BCP 47; of messages to the user from now on
	Origin            Origin    `json:"client,omitzero"`
	ReauthenticatedAt time.Time `json:"reauthenticated_at,omitzero"` // when the app last saw the password; needed where the user has an active factor
}

// A FactorCeremony is a factor that waits to be confirmed, with what the user needs for that.
type FactorCeremony struct {
	Ceremony   string          `json:"ceremony"`
	Kind       Kind            `json:"kind"`
	ExpiresAt  time.Time       `json:"expires_at"`
	URI        string          `json:"uri,omitzero"`    // of KindTOTP: the otpauth URI
	Secret     string          `json:"secret,omitzero"` // of KindTOTP: to be typed, in groups of four
	QRSVG      string          `json:"qr_svg,omitzero"` // of KindTOTP: the URI as a QR code
	QRPNG      []byte          `json:"qr_png,omitzero"`
	To         string          `json:"to,omitzero"`          // of KindSMS and KindEmail, masked
	SendsLeft  int             `json:"sends_left,omitzero"`  // of KindSMS and KindEmail
	RetryAfter Seconds         `json:"retry_after,omitzero"` // of KindSMS and KindEmail: until the next resend
	Options    json.RawMessage `json:"options,omitzero"`     // of KindWebAuthn: its publicKey, by parseCreationOptionsFromJSON, is for the browser
}

// BeginFactor begins the adding of a factor. It is none before it is confirmed. Errors: ErrReauthenticationRequired, ErrTooMany, ErrNotAllowed
// for keys where the app has no relying party, ErrRateLimited for codes, ErrInvalid for a serial number of no token that is free.
func (c *Client) BeginFactor(ctx context.Context, f BeginFactor) (FactorCeremony, error) {
	return ask[FactorCeremony](ctx, c, event.VerbFactorBegin, once, f)
}

// ResendFactor sends the code of a ceremony of KindSMS or KindEmail once more. Errors: ErrUnknownCeremony, ErrRateLimited.
func (c *Client) ResendFactor(ctx context.Context, ceremony, session string) (Resent, error) {
	return ask[Resent](ctx, c, event.VerbFactorResend, once, event.FactorResendRequest{Ceremony: ceremony, Session: session})
}

// ConfirmFactor ends a ceremony with what proves the factor: a Code, or the Credential of a security key.
type ConfirmFactor struct {
	Ceremony   string          `json:"ceremony"`
	Session    string          `json:"session"`
	Code       string          `json:"code,omitzero"`
	Credential json.RawMessage `json:"credential,omitzero"` // what navigator.credentials.create returned, as JSON
	Origin     Origin          `json:"client,omitzero"`
}

// A ConfirmedFactor is a new factor.
type ConfirmedFactor struct {
	Factor      string          `json:"factor"` // its id
	State       otp.FactorState `json:"state"`  // FactorConfirmed for a user's first, until the backup codes are acknowledged; else FactorActive
	BackupCodes []string        `json:"backup_codes,omitzero"`
	AloneAfter  time.Time       `json:"alone_after,omitzero"` // before this it cannot be the only factor
}

// ConfirmFactor adds the factor of a ceremony. With a user's first come BackupCodes: show them, let the user save them, and call AcknowledgeBackupCodes.
// Errors: ErrWrongCode (which counts against the account), ErrUnknownCeremony, ErrConflict for a key that is a factor already, ErrRateLimited, ErrLocked.
func (c *Client) ConfirmFactor(ctx context.Context, f ConfirmFactor) (ConfirmedFactor, error) {
	return ask[ConfirmedFactor](ctx, c, event.VerbFactorConfirm, once, f)
}

// Factors are what a user has, without any secret.
type Factors struct {
	Factors         []Factor `json:"factors"`   // oldest first
	Activated       bool     `json:"activated"` // the backup codes are saved, and logins ask for a factor
	BackupCodesLeft int      `json:"backup_codes_left"`
	Fallbacks       []Kind   `json:"fallbacks,omitzero"` // best first, where the user has chosen
}

// A Factor is something that a user proves with, as people may see it.
type Factor struct {
	Factor     string          `json:"factor"` // its id
	Kind       Kind            `json:"kind"`
	Label      string          `json:"label,omitzero"`
	State      otp.FactorState `json:"state"`
	To         string          `json:"to,omitzero"` // masked
	Preferred  bool            `json:"preferred,omitzero"`
	CreatedAt  time.Time       `json:"created_at"`
	LastUsedAt time.Time       `json:"last_used_at,omitzero"`
	AloneAfter time.Time       `json:"alone_after,omitzero"` // before this it cannot be the only factor
}

// Factors lists what a user has. An unknown user has nothing.
func (c *Client) Factors(ctx context.Context, user string) (Factors, error) {
	return ask[Factors](ctx, c, event.VerbFactorList, again, event.FactorListRequest{User: user})
}

// RenameFactor gives a factor another label.
type RenameFactor struct {
	User    string `json:"user"`
	Factor  string `json:"factor"`
	Label   string `json:"label"`
	Session string `json:"session,omitzero"` // for the audit
}

// RenameFactor gives a factor another label, and returns what the user has. Errors: ErrUnknownFactor.
func (c *Client) RenameFactor(ctx context.Context, f RenameFactor) (Factors, error) {
	return ask[Factors](ctx, c, event.VerbFactorRename, again, f)
}

// PreferFactor says what logins ask for first, and what comes after it. At least one of the two must be given.
type PreferFactor struct {
	User      string `json:"user"`
	Factor    string `json:"factor,omitzero"`    // its id; none leaves the preferred one as it is
	Fallbacks []Kind `json:"fallbacks,omitzero"` // best first; nil leaves them as they are, an empty list gives the order back to the policy
	Session   string `json:"session,omitzero"`   // for the audit
}

// PreferFactor sets what logins ask for first, and returns what the user has. Errors: ErrUnknownFactor.
func (c *Client) PreferFactor(ctx context.Context, f PreferFactor) (Factors, error) {
	return ask[Factors](ctx, c, event.VerbFactorPrefer, again, f)
}

// RemoveFactor removes a factor that is not the last.
type RemoveFactor struct {
	User    string `json:"user"`
	Session string `json:"session"`
	Factor  string `json:"factor"`
	Origin  Origin `json:"client,omitzero"`
	Proof
}

// RemoveFactor removes a factor and returns what is left; all trusted devices end with it. Errors: ErrReauthenticationRequired, ErrWrongCode,
// ErrUnknownFactor, ErrLastFactor (see BeginDeactivation), ErrCoolingOff where the one that is left, or what proves, is too new.
func (c *Client) RemoveFactor(ctx context.Context, f RemoveFactor) (Factors, error) {
	return ask[Factors](ctx, c, event.VerbFactorRemove, once, f)
}

// ResyncFactor names two values that a token of KindHOTP has shown, one after the other.
type ResyncFactor struct {
	User    string `json:"user"`
	Session string `json:"session"`
	Factor  string `json:"factor"`
	First   string `json:"first"`
	Second  string `json:"second"`
}

// ResyncFactor brings a token that has run ahead back in step (RFC 4226, section 7.4). Errors: ErrUnknownFactor, ErrWrongCode, ErrRateLimited, ErrLocked.
func (c *Client) ResyncFactor(ctx context.Context, f ResyncFactor) error {
	_, err := ask[event.FactorResyncReply](ctx, c, event.VerbFactorResync, once, f)
	return err
}

// BeginDeactivation is a user's wish to have no second factor any more.
type BeginDeactivation struct {
	User    string `json:"user"`
	Session string `json:"session"`
	Origin  Origin `json:"client,omitzero"`
	Proof
}

// A Deactivation waits to be confirmed.
type Deactivation struct {
	Ceremony  string    `json:"ceremony"`
	ExpiresAt time.Time `json:"expires_at"`
}

// BeginDeactivation takes a user's wish to have no second factor any more. Nothing changes before ConfirmDeactivation: ask the user once more.
// Errors: ErrReauthenticationRequired, ErrWrongCode, ErrNoFactor.
func (c *Client) BeginDeactivation(ctx context.Context, d BeginDeactivation) (Deactivation, error) {
	return ask[Deactivation](ctx, c, event.VerbDeactivateBegin, once, d)
}

// ConfirmDeactivation removes all factors, backup codes and trusted devices of the user. Errors: ErrUnknownCeremony.
func (c *Client) ConfirmDeactivation(ctx context.Context, ceremony, session string) error {
	_, err := ask[event.DeactivateConfirmReply](ctx, c, event.VerbDeactivateConfirm, once, event.DeactivateConfirmRequest{Ceremony: ceremony, Session: session})
	return err
}

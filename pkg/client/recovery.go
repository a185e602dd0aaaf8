package client

import (
	"context"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// RecoveryPreferences are what a user has set in case all factors are lost.
type RecoveryPreferences struct {
	Allowed    []Method          `json:"allowed"` // of codes, by the policy for the user's country
	Contacts   []RecoveryContact `json:"contacts"`
	Passphrase bool              `json:"passphrase"` // there is one
	Country    string            `json:"country,omitzero"`
	Region     string            `json:"region,omitzero"`
}

// A RecoveryContact is an address for recovery, as people may see it.
type RecoveryContact struct {
	Method      Method    `json:"method"`
	To          string    `json:"to"` // masked
	ConfirmedAt time.Time `json:"confirmed_at"`
}

// RecoveryPreferences returns what a user has set.
func (c *Client) RecoveryPreferences(ctx context.Context, user string) (RecoveryPreferences, error) {
	return ask[RecoveryPreferences](ctx, c, event.VerbRecoveryPreferences, again, event.PreferencesRequest{User: user})
}

// SetRecoveryPreferences changes what a user has set. What is empty stays as it is.
type SetRecoveryPreferences struct {
	User       string   `json:"user"`
	Session    string   `json:"session"`
	Country    string   `json:"country,omitzero"`    // ISO 3166-1 alpha-2, capitals; decides which methods are allowed
	Region     string   `json:"region,omitzero"`     // of the US: the state
	Passphrase string   `json:"passphrase,omitzero"` // a new one, as it was typed
	Remove     []Method `json:"remove,omitzero"`     // contacts, or the passphrase
	Origin     Origin   `json:"client,omitzero"`
	Proof
}

// SetRecoveryPreferences changes what a user has set, and returns it. Addresses are set by SetRecoveryAddress. Errors: ErrReauthenticationRequired,
// ErrWrongCode, ErrInvalid for a passphrase that is too short or too common.
func (c *Client) SetRecoveryPreferences(ctx context.Context, p SetRecoveryPreferences) (RecoveryPreferences, error) {
	return ask[RecoveryPreferences](ctx, c, event.VerbRecoveryPreferences, once, p)
}

// SetRecoveryAddress names an address for recovery: it is of its own kind and no factor.
type SetRecoveryAddress struct {
	User    string         `json:"user"`
	Session string         `json:"session"`
	Method  Method         `json:"method"`           // MethodEmail, MethodPhone or MethodLetter
	Address string         `json:"address,omitzero"` // of MethodEmail and MethodPhone
	Postal  *PostalAddress `json:"postal,omitzero"`  // of MethodLetter, and the app's word that it is the user's
	Locale  string         `json:"locale,omitzero"`
	Origin  Origin         `json:"client,omitzero"`
	Proof
}

// A PendingAddress waits to be confirmed. One of MethodLetter does not: it has no Ceremony.
type PendingAddress struct {
	Ceremony  string    `json:"ceremony,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	To        string    `json:"to"` // masked
}

// SetRecoveryAddress begins the setting of an address for recovery; a code goes to it. Errors: ErrReauthenticationRequired, ErrWrongCode, ErrNotAllowed in
// the user's country, ErrRateLimited.
func (c *Client) SetRecoveryAddress(ctx context.Context, a SetRecoveryAddress) (PendingAddress, error) {
	return ask[PendingAddress](ctx, c, event.VerbRecoveryAddress, once, a)
}

// ConfirmRecoveryAddress ends it with the code.
type ConfirmRecoveryAddress struct {
	Ceremony string `json:"ceremony"`
	Session  string `json:"session"`
	Code     string `json:"code"`
}

// ConfirmRecoveryAddress sets the address, and returns what the user has set. Errors: ErrWrongCode, ErrUnknownCeremony, ErrRateLimited, ErrLocked.
func (c *Client) ConfirmRecoveryAddress(ctx context.Context, a ConfirmRecoveryAddress) (RecoveryPreferences, error) {
	return ask[RecoveryPreferences](ctx, c, event.VerbRecoveryConfirm, once, a)
}

// BeginRecovery begins a reset for a user who has lost the factors, and has entered the password within the policy's time.
type BeginRecovery struct {
	User              string    `json:"user"`
	Session           string    `json:"session"`
	Methods           []Method  `json:"methods,omitzero"` // over which codes go; all that the user has set where none is named
	Locale            string    `json:"locale,omitzero"`
	Origin            Origin    `json:"client,omitzero"`
	ReauthenticatedAt time.Time `json:"reauthenticated_at,omitzero"` // when the app last saw the password
}

// A Recovery is where a reset stands. With State RecoveryNone there is none.
type Recovery struct {
	Recovery    string            `json:"recovery,omitzero"` // its id
	State       otp.RecoveryState `json:"state"`
	Methods     []RecoveryMethod  `json:"methods,omitzero"`
	Passphrase  bool              `json:"passphrase,omitzero"`  // the passphrase may be a proof
	BackupCode  bool              `json:"backup_code,omitzero"` // a backup code may be a proof
	Proven      []Method          `json:"proven,omitzero"`
	Needed      int               `json:"needed"`                // proofs that are still missing, at least
	ExpiresAt   time.Time         `json:"expires_at,omitzero"`   // proofs are taken until then
	EffectiveAt time.Time         `json:"effective_at,omitzero"` // of RecoveryWaiting and RecoveryCompleted
}

// A RecoveryMethod is a way by which a code of a recovery goes.
type RecoveryMethod struct {
	Method     Method            `json:"method"`
	To         string            `json:"to"` // masked
	State      otp.DeliveryState `json:"state"`
	ExpiresAt  time.Time         `json:"expires_at"` // of the code
	SendsLeft  int               `json:"sends_left"`
	RetryAfter Seconds           `json:"retry_after,omitzero"` // until the next resend
}

// BeginRecovery begins a reset, sends its codes, and tells every email address and number of the user how to cancel it; a postal address is not told, as a
// letter would come too late. Two different proofs are needed: codes over two methods, or one code and the passphrase or a backup code. Errors:
// ErrReauthenticationRequired, ErrRateLimited, ErrConflict while there is one,
// ErrNoFactor for a user with nothing to recover or no address to recover with, ErrNotAllowed for methods that cannot give two proofs.
func (c *Client) BeginRecovery(ctx context.Context, r BeginRecovery) (Recovery, error) {
	return ask[Recovery](ctx, c, event.VerbRecoveryBegin, once, r)
}

// ResendRecovery asks for the code of one method once more.
type ResendRecovery struct {
	Recovery string `json:"recovery"`
	Session  string `json:"session"`
	Method   Method `json:"method"`
}

// ResendRecovery sends the code of one method once more. Errors: ErrUnknownRecovery, ErrRateLimited.
func (c *Client) ResendRecovery(ctx context.Context, r ResendRecovery) (Resent, error) {
	return ask[Resent](ctx, c, event.VerbRecoveryResend, once, r)
}

// ProveRecovery gives one proof.
type ProveRecovery struct {
	Recovery          string    `json:"recovery"`
	Session           string    `json:"session"`
	Method            Method    `json:"method"`
	Code              string    `json:"code"` // or the passphrase, as it was typed
	Origin            Origin    `json:"client,omitzero"`
	ReauthenticatedAt time.Time `json:"reauthenticated_at,omitzero"` // when the app last saw the password; needed in another session than the recovery's
}

// Proven is the result of a proof that was right; a wrong one is Wrong.
const Proven Result = event.ResultProven

// A RecoveryVerdict is the verdict on a proof, and where the recovery stands after it.
type RecoveryVerdict struct {
	Result       Result  `json:"result"` // Proven or Wrong
	AttemptsLeft int     `json:"attempts_left"`
	RetryAfter   Seconds `json:"retry_after"` // until the next proof may be given
	Recovery
}

// ProveRecovery gives one proof of a recovery. A wrong one is a RecoveryVerdict and no error; it counts against the account. Once the proofs suffice the
// recovery waits, by the app's policy, and then completes: factors, devices and backup codes are void, and the user enrols anew.
//
// A letter takes days, and the session in which the recovery was begun may be over by then. In another one, in which the user has just entered the password,
// a right proof takes the recovery over: it is the first proof in that session, and those given before have to be given again. Errors:
// ErrUnknownRecovery, ErrConflict for a proof that was given before, ErrNotAllowed, ErrApprovalRequired, ErrRateLimited, ErrLocked.
func (c *Client) ProveRecovery(ctx context.Context, p ProveRecovery) (RecoveryVerdict, error) {
	return ask[RecoveryVerdict](ctx, c, event.VerbRecoveryProve, once, p)
}

// RecoveryStatus returns where a user's recovery stands: the latest, where recovery is empty.
func (c *Client) RecoveryStatus(ctx context.Context, user, recovery string) (Recovery, error) {
	return ask[Recovery](ctx, c, event.VerbRecoveryStatus, again, event.RecoveryStatusRequest{User: user, Recovery: recovery})
}

// CancelRecovery stops a user's recovery: from its own Session, from another one in which the user has just entered the password, or with the Code that
// every notice of it carries.
type CancelRecovery struct {
	User              string    `json:"user"`
	Session           string    `json:"session,omitzero"`
	Code              string    `json:"code,omitzero"`
	Origin            Origin    `json:"client,omitzero"`
	ReauthenticatedAt time.Time `json:"reauthenticated_at,omitzero"` // when the app last saw the password; needed in another session, without a code
}

// CancelRecovery stops a user's recovery. Errors: ErrUnknownRecovery, ErrReauthenticationRequired, ErrWrongCode, ErrRateLimited, ErrLocked.
func (c *Client) CancelRecovery(ctx context.Context, r CancelRecovery) error {
	_, err := ask[event.RecoveryCancelReply](ctx, c, event.VerbRecoveryCancel, once, r)
	return err
}

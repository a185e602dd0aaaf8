package client

import (
	"context"
	"time"

	"github.com/otpost/otpost/pkg/event"
)

// This file is backup codes and trusted devices.

// How a user put the backup codes in safety.
const (
	Saved   = "saved"
	Printed = "printed"
	Copied  = "copied"
)

// AcknowledgeBackupCodes says that a user has the backup codes in safety.
type AcknowledgeBackupCodes struct {
	User    string `json:"user"`
	Session string `json:"session"`
	How     string `json:"how"` // Saved, Printed or Copied
}

// AcknowledgeBackupCodes makes a user's first factors active, once the user has the backup codes in safety: logins ask for a factor from now on. It
// returns how many codes are left. Errors: ErrNoFactor for a user who has none to activate.
func (c *Client) AcknowledgeBackupCodes(ctx context.Context, a AcknowledgeBackupCodes) (left int, err error) {
	r, err := ask[event.BackupAcknowledgeReply](ctx, c, event.VerbBackupAcknowledge, again, a)
	return r.Left, err
}

// ViewBackupCodes asks to see the backup codes, or for new ones.
type ViewBackupCodes struct {
	User              string    `json:"user"`
	Session           string    `json:"session"`
	Origin            Origin    `json:"client,omitzero"`
	ReauthenticatedAt time.Time `json:"reauthenticated_at,omitzero"` // when the app last saw the password
}

// BackupCodes are a user's backup codes.
type BackupCodes struct {
	Codes []BackupCode `json:"codes"`
	Left  int          `json:"left"`
}

// A BackupCode answers one challenge.
type BackupCode struct {
	Code   string    `json:"code"` // grouped for reading
	UsedAt time.Time `json:"used_at,omitzero"`
}

// BackupCodes returns a user's backup codes, the used ones too. Errors: ErrReauthenticationRequired, ErrNoFactor.
func (c *Client) BackupCodes(ctx context.Context, v ViewBackupCodes) (BackupCodes, error) {
	return ask[BackupCodes](ctx, c, event.VerbBackupView, again, v)
}

// RegenerateBackupCodes returns new backup codes; the old ones are void. Errors: ErrReauthenticationRequired, ErrNoFactor.
func (c *Client) RegenerateBackupCodes(ctx context.Context, v ViewBackupCodes) (BackupCodes, error) {
	return ask[BackupCodes](ctx, c, event.VerbBackupRegenerate, once, v)
}

// A Device is a browser that is trusted now.
type Device struct {
	Device     string    `json:"device"` // its id, which is not its token and no secret
	Label      string    `json:"label,omitzero"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
	ExpiresAt  time.Time `json:"expires_at"`
}

type devices struct {
	Devices []Device `json:"devices"`
}

// Devices lists the browsers that a user trusts, oldest first.
func (c *Client) Devices(ctx context.Context, user string) ([]Device, error) {
	r, err := ask[devices](ctx, c, event.VerbDeviceList, again, event.DeviceListRequest{User: user})
	return r.Devices, err
}

// RevokeDevice ends the trust in one browser, by its id, and returns those that are left. The session, for the audit, may be empty. Errors:
// ErrUnknownDevice.
func (c *Client) RevokeDevice(ctx context.Context, user, device, session string) ([]Device, error) {
	r, err := ask[devices](ctx, c, event.VerbDeviceRevoke, once, event.DeviceRevokeRequest{User: user, Device: device, Session: session})
	return r.Devices, err
}

// RevokeDevices ends the trust in all browsers of a user. The session, for the audit, may be empty.
func (c *Client) RevokeDevices(ctx context.Context, user, session string) error {
	_, err := ask[devices](ctx, c, event.VerbDeviceRevoke, again, event.DeviceRevokeRequest{User: user, All: true, Session: session})
	return err
}

// RenewDevice is the token of a trusted device that skipped a login.
type RenewDevice struct {
	User    string `json:"user"`
	Session string `json:"session"`
	Device  string `json:"device"` // the token
}

// A RenewedDevice is a trusted device's next token.
type RenewedDevice struct {
	Device    string    `json:"device"` // the token: put it into the cookie
	ExpiresAt time.Time `json:"expires_at"`
}

// RenewDevice replaces the token of a trusted device, for an app that goes by events: after each challenge.skipped for a trusted device. (The reply to
// Login brings the next token itself.) The old one is worth nothing after a short grace, and its use then counts as theft. So after ErrNoAnswer clear
// the cookie. Errors: ErrUnknownDevice.
func (c *Client) RenewDevice(ctx context.Context, d RenewDevice) (RenewedDevice, error) {
	return ask[RenewedDevice](ctx, c, event.VerbDeviceRenew, once, d)
}

package postgres

import (
	"database/sql"
	"time"

	"github.com/google/uuid"
)

// A Device is a trusted browser.
type Device struct {
	ID         uuid.UUID
	Label      string
	Session    string // of its last use
	CreatedAt  time.Time
	LastUsedAt time.Time
	ExpiresAt  time.Time
}

type deviceRow struct {
	ID         uuid.UUID    `db:"id"`
	Label      string       `db:"label"`
	Session    string       `db:"session"`
	CreatedAt  time.Time    `db:"created_at"`
	LastUsedAt sql.NullTime `db:"last_used_at"`
	ExpiresAt  time.Time    `db:"expires_at"`
}

func devices(rows []deviceRow) []Device {
	out := make([]Device, len(rows))
	for i, r := range rows {
		out[i] = Device{ID: r.ID, Label: r.Label, Session: r.Session, CreatedAt: r.CreatedAt, LastUsedAt: nullTime(r.LastUsedAt), ExpiresAt: r.ExpiresAt}
	}
	return out
}

// Devices returns the user's devices that are trusted now, oldest first.
func (a *Act) Devices() ([]Device, error) {
	var rows []deviceRow
	if err := a.list(&rows, "devices_of", a.Who.AppID, a.Who.User, a.Now); err != nil {
		return nil, err
	}
	return devices(rows), nil
}

// RevokeDevices ends the trust in the user's devices, or in the one named, or in those last used in a session, for a reason, and returns them.
func (a *Act) RevokeDevices(reason string, only uuid.UUID, session string) ([]Device, error) {
	var rows []deviceRow
	one := uuid.NullUUID{UUID: only, Valid: only != uuid.Nil}
	if err := a.list(&rows, "devices_revoke", a.Who.AppID, a.Who.User, a.Now, reason, one, nullText(session)); err != nil {
		return nil, err
	}
	return devices(rows), nil
}

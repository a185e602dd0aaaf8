package postgres

import (
	"database/sql"
	"time"
)

// A BackupCode is one of a user's look-up secrets.
type BackupCode struct {
	Digest   []byte // keyed, 32 bytes
	Position int    // from 1
	Sealed   []byte
	UsedAt   time.Time
}

// BackupCodes returns the user's backup codes, used ones included, in order.
func (a *Act) BackupCodes() ([]BackupCode, error) {
	var rows []struct {
		Digest   []byte       `db:"digest"`
		Position int          `db:"position"`
		Sealed   []byte       `db:"sealed"`
		UsedAt   sql.NullTime `db:"used_at"`
	}
	if err := a.list(&rows, "backup_codes_of", a.Who.AppID, a.Who.User); err != nil {
		return nil, err
	}
	out := make([]BackupCode, len(rows))
	for i, r := range rows {
		out[i] = BackupCode{Digest: r.Digest, Position: r.Position, Sealed: r.Sealed, UsedAt: nullTime(r.UsedAt)}
	}
	return out, nil
}

// ReplaceBackupCodes voids the user's backup codes and stores others, or none.
func (a *Act) ReplaceBackupCodes(codes []BackupCode) error {
	if _, err := a.exec("backup_codes_void", a.Who.AppID, a.Who.User); err != nil {
		return err
	}
	for _, c := range codes {
		if _, err := a.exec("backup_code_add", a.Who.AppID, a.Who.User, c.Digest, c.Position, c.Sealed, a.Now); err != nil {
			return err
		}
	}
	return nil
}

// UseBackupCode spends the code with one of the digests, the same code's under each key that digests are made with, where nobody has used it and the user has
// said to have the codes in safety.
func (a *Act) UseBackupCode(digests [][]byte) (BackupUse, error) {
	var codes backupCodes
	codes.add(a.Who, digests)
	used, err := codes.use(a.ctx, a.tx, a.Now)
	return used[a.Who], err
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/otpost/otpost/pkg/otp"
)

// Errors of keys.
var (
	ErrNoKey    = errors.New("no such key")
	ErrKeyTaken = errors.New("the key exists already")
)

// maxKeyLabel is the most characters of a key's label.
const maxKeyLabel = 64

// An AppKey is a bearer key of an app for the JSON API, of which the database has the digest only (otp.APIKeyDigest).
type AppKey struct {
	ID         uuid.UUID
	AppID      int
	Label      string // for the operator; may be empty
	Digest     [32]byte
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero for never
	RevokedAt  time.Time // zero for not
	LastUsedAt time.Time // to the minute; zero for never
}

// Good reports whether the key lets its app in.
func (k AppKey) Good(now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

type appKeyRow struct {
	ID         uuid.UUID  `db:"id"`
	AppID      int        `db:"app_id"`
	Label      string     `db:"label"`
	Digest     []byte     `db:"digest"`
	CreatedAt  time.Time  `db:"created_at"`
	ExpiresAt  *time.Time `db:"expires_at"`
	RevokedAt  *time.Time `db:"revoked_at"`
	LastUsedAt *time.Time `db:"last_used_at"`
}

func (r appKeyRow) key() AppKey {
	at := func(t *time.Time) time.Time {
		if t == nil {
			return time.Time{}
		}
		return *t
	}
	return AppKey{
		ID: r.ID, AppID: r.AppID, Label: r.Label, Digest: [32]byte(r.Digest), CreatedAt: r.CreatedAt, ExpiresAt: at(r.ExpiresAt), RevokedAt: at(r.RevokedAt),
		LastUsedAt: at(r.LastUsedAt),
	}
}

// AppKeys is the store of keys. The gateway may read them and say when they were used; the operator's role may write.
type AppKeys struct{ db *DB }

// NewAppKeys returns the store.
func NewAppKeys(db *DB) *AppKeys { return &AppKeys{db} }

// Create adds a key to an app, good until expires (zero: until it is revoked), and returns its id. It returns ErrKeyTaken where there is a key of this digest,
// whosever it is and whether it is good or not.
func (s *AppKeys) Create(ctx context.Context, now time.Time, app int, label string, digest [32]byte, expires time.Time) (uuid.UUID, error) {
	return s.add(ctx, s.db.x, now, app, label, digest, expires)
}

// Rotate adds a key to an app as Create does, and has every other key of the app that would be good for longer expire at end.
func (s *AppKeys) Rotate(ctx context.Context, now time.Time, app int, label string, digest [32]byte, end time.Time) (id uuid.UUID, ended int, err error) {
	err = s.db.tx(ctx, "rotate key", func(tx *sqlx.Tx) error {
		var err error
		if id, err = s.add(ctx, tx, now, app, label, digest, time.Time{}); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, query("app_keys_end"), app, id, end)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		ended = int(n)
		return err
	})
	return id, ended, err
}

func (s *AppKeys) add(ctx context.Context, q sqlx.ExecerContext, now time.Time, app int, label string, digest [32]byte, expires time.Time) (uuid.UUID, error) {
	if label != "" {
		if w := otp.CheckText(label, maxKeyLabel); w != "" {
			return uuid.Nil, fmt.Errorf("label: %s", w)
		}
	}
	var end *time.Time
	if !expires.IsZero() {
		if !expires.After(now) {
			return uuid.Nil, errors.New("expires: must lie in the future")
		}
		end = &expires
	}
	id := uuid.Must(uuid.NewV7())
	if _, err := q.ExecContext(ctx, query("app_key_add"), id, app, label, digest[:], now, end); err != nil {
		if Constraint(err) == "app_keys_digest_once" {
			return uuid.Nil, ErrKeyTaken
		}
		return uuid.Nil, fmt.Errorf("create key: %w", err)
	}
	return id, nil
}

// List returns an app's keys, those that are good no more included, oldest first.
func (s *AppKeys) List(ctx context.Context, app int) ([]AppKey, error) {
	var rows []appKeyRow
	if err := s.db.x.SelectContext(ctx, &rows, query("app_key_list"), app); err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	keys := make([]AppKey, len(rows))
	for i, r := range rows {
		keys[i] = r.key()
	}
	return keys, nil
}

// ByDigest returns the key of a digest, good or not, or ErrNoKey.
func (s *AppKeys) ByDigest(ctx context.Context, digest [32]byte) (AppKey, error) {
	var row appKeyRow
	if err := s.db.x.GetContext(ctx, &row, query("app_key_by_digest"), digest[:]); err != nil {
		if missing(err) {
			return AppKey{}, ErrNoKey
		}
		return AppKey{}, fmt.Errorf("get key: %w", err)
	}
	return row.key(), nil
}

// Revoke ends a key of an app at once, or returns ErrNoKey. To revoke it again changes nothing.
func (s *AppKeys) Revoke(ctx context.Context, now time.Time, app int, id uuid.UUID) error {
	res, err := s.db.x.ExecContext(ctx, query("app_key_revoke"), app, id, now)
	if err != nil {
		return fmt.Errorf("revoke key: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrNoKey
	}
	return nil
}

// Used remembers to the minute that a key was used.
func (s *AppKeys) Used(ctx context.Context, now time.Time, id uuid.UUID) error {
	if _, err := s.db.x.ExecContext(ctx, query("app_key_used"), id, now); err != nil {
		return fmt.Errorf("note the use of a key: %w", err)
	}
	return nil
}

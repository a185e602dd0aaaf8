package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
)

// Kinds of listed destinations.
const (
	DestinationTest = "test" // nothing is ever sent to it, its code is fixed, and no limit holds for it
	DestinationSafe = "safe" // neither the guard against pumping nor the limits of its prefix and of the app hold for it
)

// A Destination is an address that an app's operator has listed.
type Destination struct {
	AppID      int       `db:"app_id"`
	App        string    `db:"app"` // its name; read only
	Digest     uuid.UUID `db:"digest"`
	Kind       string    `db:"kind"`
	Address    string    `db:"address"` // phone or email
	Mask       string    `db:"mask"`
	CodeDigest []byte    `db:"code_digest"` // of a test destination
	Note       string    `db:"note"`
	CreatedAt  time.Time `db:"created_at"`
}

// ErrNoDestination says that the address is not listed.
var ErrNoDestination = errors.New("the address is not listed")

// Destinations is the store of listed addresses. Workers may read it; the operator's role may write.
type Destinations struct{ db *DB }

// NewDestinations returns the store.
func NewDestinations(db *DB) *Destinations { return &Destinations{db} }

// List returns every listed address, by app.
func (s *Destinations) List(ctx context.Context) (out []Destination, err error) {
	if err := s.db.x.SelectContext(ctx, &out, query("destinations_all")); err != nil {
		return nil, fmt.Errorf("list destinations: %w", err)
	}
	return out, nil
}

// Add lists an address, or changes how it is listed.
func (s *Destinations) Add(ctx context.Context, d Destination) error {
	if _, err := s.db.x.ExecContext(ctx, query("destination_add"), d.AppID, d.Digest, d.Kind, d.Address, d.Mask, notNil(d.CodeDigest), d.Note,
		d.CreatedAt); err != nil {
		return fmt.Errorf("add destination: %w", err)
	}
	return nil
}

// Remove takes an address off the list: the digests are those of it under every key. It returns ErrNoDestination where it was not there.
func (s *Destinations) Remove(ctx context.Context, appID int, digests []uuid.UUID) error {
	res, err := s.db.x.ExecContext(ctx, query("destination_remove"), appID, pq.Array(digests))
	if err != nil {
		return fmt.Errorf("remove destination: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrNoDestination
	}
	return nil
}

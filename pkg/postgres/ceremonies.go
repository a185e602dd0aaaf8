package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// A Ceremony is a begin that waits for its confirmation.
type Ceremony struct {
	ID          uuid.UUID
	Session     string
	Kind        string // of the factor; or deactivate, reset_email, reset_phone
	Label       string
	Material    []byte // sealed secret or address; of a security key the session
	Mask        string
	Algorithm   string
	Digits      int
	Period      int
	Token       uuid.UUID // of a hardware token
	Attempts    int
	MaxAttempts int
	Sends       int
	NextSendAt  time.Time
	ExpiresAt   time.Time
}

// CeremonyOwner tells whose ceremony an id names. It is not a claim on it: the answer says only which account to hold.
func (s *Enrolments) CeremonyOwner(ctx context.Context, app int, id uuid.UUID) (user string, found bool, err error) {
	err = s.db.x.GetContext(ctx, &user, query("ceremony_owner"), app, id)
	switch {
	case missing(err):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("find ceremony: %w", err)
	}
	return user, true, nil
}

// BeginCeremony stores a ceremony. Older open ones of the same kind and user end, so that there is one at a time.
func (a *Act) BeginCeremony(c Ceremony) error {
	if _, err := a.exec("ceremonies_replace", a.Who.AppID, a.Who.User, c.Kind, a.Now); err != nil {
		return err
	}
	_, err := a.exec("ceremony_begin", c.ID, a.Who.AppID, a.Who.User, c.Session, c.Kind, c.Label, c.Material, c.Mask, nullText(c.Algorithm),
		nullNumber(c.Digits), nullNumber(c.Period), uuid.NullUUID{UUID: c.Token, Valid: c.Token != uuid.Nil}, c.MaxAttempts, c.Sends,
		nullable(c.NextSendAt), a.Now, c.ExpiresAt)
	return err
}

// CeremoniesSince tells when the user last began a ceremony of a kind since a time, and how many those were.
func (a *Act) CeremoniesSince(kind string, since time.Time) (last time.Time, n int, err error) {
	var r struct {
		Last time.Time `db:"last"`
		N    int       `db:"n"`
	}
	_, err = a.find(&r, "ceremonies_since", a.Who.AppID, a.Who.User, kind, since)
	return r.Last, r.N, err
}

// ClaimCeremony takes one attempt of an open ceremony of the user and session. Claim before compare: where found is false, because it is unknown,
// another's, over or used up, nothing may be compared.
func (a *Act) ClaimCeremony(id uuid.UUID, session string) (c Ceremony, found bool, err error) {
	return a.ceremony(guarded("ceremony_claim"), id, session)
}

// ResendCeremony takes one send of an open ceremony, whose cooldown is over, and sets the next cooldown.
func (a *Act) ResendCeremony(id uuid.UUID, session string, most int, cooldown time.Duration) (c Ceremony, found bool, err error) {
	return a.ceremony("ceremony_resend", id, session, most, cooldown.Seconds())
}

// PeekCeremony reads an open ceremony of the user and session.
func (a *Act) PeekCeremony(id uuid.UUID, session string) (c Ceremony, found bool, err error) {
	return a.ceremony("ceremony_peek", id, session)
}

func (a *Act) ceremony(statement string, id uuid.UUID, session string, more ...any) (c Ceremony, found bool, err error) {
	var r struct {
		ID          uuid.UUID      `db:"id"`
		Session     string         `db:"session"`
		Kind        string         `db:"kind"`
		Label       string         `db:"label"`
		Material    []byte         `db:"material"`
		Mask        string         `db:"mask"`
		Algorithm   sql.NullString `db:"algorithm"`
		Digits      sql.NullInt64  `db:"digits"`
		Period      sql.NullInt64  `db:"period"`
		Token       uuid.NullUUID  `db:"token_id"`
		Attempts    int            `db:"attempts"`
		MaxAttempts int            `db:"max_attempts"`
		Sends       int            `db:"sends"`
		NextSendAt  sql.NullTime   `db:"next_send_at"`
		ExpiresAt   time.Time      `db:"expires_at"`
	}
	found, err = a.find(&r, statement, append([]any{id, a.Who.AppID, a.Who.User, session, a.Now}, more...)...)
	return Ceremony{
		ID: r.ID, Session: r.Session, Kind: r.Kind, Label: r.Label, Material: r.Material, Mask: r.Mask, Algorithm: r.Algorithm.String,
		Digits: int(r.Digits.Int64), Period: int(r.Period.Int64), Token: r.Token.UUID, Attempts: r.Attempts, MaxAttempts: r.MaxAttempts, Sends: r.Sends,
		NextSendAt: nullTime(r.NextSendAt), ExpiresAt: r.ExpiresAt,
	}, found, err
}

// EndCeremony ends an open ceremony: confirmed, failed or cancelled.
func (a *Act) EndCeremony(id uuid.UUID, state string) error {
	_, err := a.exec("ceremony_end", id, a.Who.AppID, state, a.Now)
	return err
}

// CancelCeremonies ends every open ceremony of the user.
func (a *Act) CancelCeremonies() error { return a.cancelCeremonies("", "") }

// CancelCeremoniesOf ends those of one session.
func (a *Act) CancelCeremoniesOf(session string) error { return a.cancelCeremonies(session, "") }

// CancelCeremoniesBut ends those of all other sessions.
func (a *Act) CancelCeremoniesBut(session string) error { return a.cancelCeremonies("", session) }

func (a *Act) cancelCeremonies(only, but string) error {
	_, err := a.exec("ceremonies_cancel", a.Who.AppID, a.Who.User, a.Now, nullText(only), nullText(but))
	return err
}

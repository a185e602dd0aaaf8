package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// This file is the factors of one user within an act, and what is known of the user beside.

// A Profile is what is known of a user beside budget and factors.
type Profile struct {
	Epoch       int       // raised by every change of factors: trusted devices of an older one are void
	ActivatedAt time.Time // when the backup codes of the first factor were saved; zero before that
	Preferred   uuid.UUID // factor
	Fallbacks   []otp.FactorKind
	Locale      string
	Country     string
	Region      string
	Passphrase  string    // in PHC form; empty for none
	CodesShown  time.Time // when the backup codes were last shown again or renewed; zero for never, or for codes that are new
	CreatedAt   time.Time // zero where nothing is known of the user
}

// Profile returns what is known of the user; the zero Profile where nothing is.
func (a *Act) Profile() (Profile, error) {
	var r struct {
		Epoch       int            `db:"epoch"`
		ActivatedAt sql.NullTime   `db:"activated_at"`
		Preferred   uuid.NullUUID  `db:"preferred"`
		Fallbacks   pq.StringArray `db:"fallbacks"`
		Locale      string         `db:"locale"`
		Country     string         `db:"country"`
		Region      string         `db:"region"`
		Passphrase  sql.NullString `db:"passphrase"`
		CodesShown  sql.NullTime   `db:"codes_shown_at"`
		CreatedAt   time.Time      `db:"created_at"`
	}
	if _, err := a.find(&r, "profile_read", a.Who.AppID, a.Who.User); err != nil {
		return Profile{}, err
	}
	p := Profile{
		Epoch: r.Epoch, ActivatedAt: nullTime(r.ActivatedAt), Preferred: r.Preferred.UUID, Locale: r.Locale, Country: r.Country, Region: r.Region,
		Passphrase: r.Passphrase.String, CodesShown: nullTime(r.CodesShown), CreatedAt: r.CreatedAt,
	}
	for _, k := range r.Fallbacks {
		p.Fallbacks = append(p.Fallbacks, otp.FactorKind(k))
	}
	return p, nil
}

// CodesShown notes when the backup codes were shown again or renewed; the zero time stands for codes that nobody was shown but with their first factor.
func (a *Act) CodesShown(at time.Time) error {
	_, err := a.exec("codes_shown", a.Who.AppID, a.Who.User, nullable(at), a.Now)
	return err
}

// SetProfile stores all of it but the epoch, which only RaiseEpoch changes, when codes were shown, and when the user was new.
func (a *Act) SetProfile(p Profile) error {
	_, err := a.exec("profile_write", a.Who.AppID, a.Who.User, nullable(p.ActivatedAt), uuid.NullUUID{UUID: p.Preferred, Valid: p.Preferred != uuid.Nil},
		texts(p.Fallbacks), p.Locale, p.Country, p.Region, nullText(p.Passphrase), a.Now)
	return err
}

// RaiseEpoch makes every trusted device of the user void.
func (a *Act) RaiseEpoch() error {
	_, err := a.exec("epoch_raise", a.Who.AppID, a.Who.User, a.Now)
	return err
}

// An OwnedFactor is a factor with all that its life needs.
type OwnedFactor struct {
	ID         uuid.UUID
	Kind       otp.FactorKind
	State      otp.FactorState
	Label      string
	Sealed     []byte // the secret or the address; of a security key empty
	Mask       string
	Algorithm  string // of TOTP and HOTP
	Digits     int
	Period     int    // seconds, of TOTP
	Last       int64  // the last TOTP step, HOTP counter or Yubico counter accepted; -1 for none
	PublicID   string // of a Yubico OTP, modhex; of a security key, its credential id in base64url
	Credential []byte // of a security key
	SignCount  uint32
	AloneAfter time.Time // before this it cannot be the only factor; zero for no such time
	CreatedAt  time.Time
	LastUsedAt time.Time
	RemovedAt  time.Time
	Session    string // that proved it; empty for one that the operator has entered
}

type ownedRow struct {
	ID         uuid.UUID      `db:"id"`
	Kind       string         `db:"kind"`
	State      string         `db:"state"`
	Label      string         `db:"label"`
	Sealed     []byte         `db:"sealed"`
	Mask       string         `db:"mask"`
	Algorithm  sql.NullString `db:"algorithm"`
	Digits     sql.NullInt64  `db:"digits"`
	Period     sql.NullInt64  `db:"period"`
	LastStep   int64          `db:"last_step"`
	PublicID   sql.NullString `db:"public_id"`
	Credential []byte         `db:"credential"`
	SignCount  int64          `db:"sign_count"`
	AloneAfter sql.NullTime   `db:"alone_after"`
	CreatedAt  time.Time      `db:"created_at"`
	LastUsedAt sql.NullTime   `db:"last_used_at"`
	RemovedAt  sql.NullTime   `db:"removed_at"`
	Session    string         `db:"session"`
}

func (r ownedRow) factor() OwnedFactor {
	return OwnedFactor{
		ID: r.ID, Kind: otp.FactorKind(r.Kind), State: otp.FactorState(r.State), Label: r.Label, Sealed: r.Sealed, Mask: r.Mask,
		Algorithm: r.Algorithm.String, Digits: int(r.Digits.Int64), Period: int(r.Period.Int64), Last: r.LastStep, PublicID: r.PublicID.String,
		Credential: r.Credential, SignCount: uint32(r.SignCount), AloneAfter: nullTime(r.AloneAfter), //nolint:gosec // written as one
		CreatedAt: r.CreatedAt, LastUsedAt: nullTime(r.LastUsedAt), RemovedAt: nullTime(r.RemovedAt), Session: r.Session,
	}
}

// Factors returns the user's factors that are not removed, oldest first.
func (a *Act) Factors() ([]OwnedFactor, error) {
	var rows []ownedRow
	if err := a.list(&rows, "factors_owned", a.Who.AppID, a.Who.User); err != nil {
		return nil, err
	}
	out := make([]OwnedFactor, len(rows))
	for i, r := range rows {
		out[i] = r.factor()
	}
	return out, nil
}

// ErrTaken says that somebody has this very key or token as a factor.
var ErrTaken = errors.New("the key or token is a factor already")

// AddFactor stores a factor. It returns ErrTaken for a key or token that is one already, of this or another user.
func (a *Act) AddFactor(f OwnedFactor) error {
	sealed := f.Sealed
	if sealed == nil {
		sealed = []byte{}
	}
	_, err := a.exec("factor_add", f.ID, a.Who.AppID, a.Who.User, string(f.Kind), string(f.State), f.Label, sealed, f.Mask, nullText(f.Algorithm),
		nullNumber(f.Digits), nullNumber(f.Period), f.Last, nullText(f.PublicID), f.Credential, int64(f.SignCount), nullable(f.AloneAfter), a.Now, f.Session)
	switch Constraint(err) {
	case "factors_public_id_once", "factors_pkey":
		return ErrTaken
	}
	return err
}

// SetFactorState moves a factor from one of the states in from to another and tells whether it was in one of them.
func (a *Act) SetFactorState(id uuid.UUID, to otp.FactorState, from ...otp.FactorState) (bool, error) {
	n, err := a.exec("factor_state", a.Who.AppID, a.Who.User, id, string(to), texts(from), a.Now)
	return n == 1, err
}

// RenameFactor gives a factor another label and tells whether the user has it.
func (a *Act) RenameFactor(id uuid.UUID, label string) (bool, error) {
	n, err := a.exec("factor_rename", a.Who.AppID, a.Who.User, id, label)
	return n == 1, err
}

// SpendProof spends a challenge that was verified by the user in the session since a time, on an act, and returns what kind of factor it was verified with.
// It serves once.
func (a *Act) SpendProof(challenge uuid.UUID, session string, since time.Time) (kind otp.FactorKind, ok bool, err error) {
	var r struct {
		Kind string `db:"kind"`
	}
	ok, err = a.find(&r, "proof_spend", challenge, a.Who.AppID, a.Who.User, session, since, a.Now)
	return otp.FactorKind(r.Kind), ok, err
}

// VoidChallenges ends the user's open challenges as cancelled, takes back their codes that have not gone out, and returns what the app must hear of.
func (a *Act) VoidChallenges() ([]OpenChallenge, error) {
	ended, err := voidChallenges(a.ctx, a.tx, a.Now, []Account{a.Who}, nil)
	return ended[a.Who], err
}

// voidChallenges ends the open challenges of users but those to be kept. The users' accounts must be held: no further one can be opened meanwhile.
func voidChallenges(ctx context.Context, tx *sqlx.Tx, now time.Time, users []Account, keep []uuid.UUID) (map[Account][]OpenChallenge, error) {
	apps, names := accountArrays(users)
	kept := make(pq.StringArray, len(keep)) // not nil: an array that is NULL excludes everything
	for i, id := range keep {
		kept[i] = id.String()
	}
	var rows []struct {
		AppID   int       `db:"app_id"`
		User    string    `db:"user_id"`
		ID      uuid.UUID `db:"id"`
		Session string    `db:"session"`
		Login   string    `db:"login"`
		Test    bool      `db:"test"`
	}
	if err := tx.SelectContext(ctx, &rows, query("challenges_void"), apps, names, now, oldestOpen(now), newestOpen(now), kept); err != nil {
		return nil, fmt.Errorf("void challenges: %w", err)
	}
	out := make(map[Account][]OpenChallenge, len(users))
	ids := make([]uuid.UUID, len(rows))
	for i, r := range rows {
		k := Account{r.AppID, r.User}
		ids[i], out[k] = r.ID, append(out[k], OpenChallenge{ID: r.ID, Session: r.Session, Login: r.Login, Test: r.Test})
	}
	return out, withdraw(ctx, tx, now, ids, string(otp.Cancelled))
}

// A HardwareToken is one that the operator has imported.
type HardwareToken struct {
	ID        uuid.UUID
	Kind      otp.FactorKind
	Serial    string
	Sealed    []byte
	PublicID  string
	Algorithm string
	Digits    int
	Period    int
	Counter   int64 // the last that counts as used
}

// Token returns a token of the app's that nobody has yet; found is false for one that somebody has, as for one that is not there.
func (a *Act) Token(kind otp.FactorKind, serial string) (t HardwareToken, found bool, err error) {
	return a.token("token_free", string(kind), serial)
}

// TokenByID is Token for one whose id is known.
func (a *Act) TokenByID(id uuid.UUID) (t HardwareToken, found bool, err error) {
	return a.token("token_free_by_id", id)
}

func (a *Act) token(statement string, key ...any) (t HardwareToken, found bool, err error) {
	var r struct {
		ID        uuid.UUID      `db:"id"`
		Kind      string         `db:"kind"`
		Serial    string         `db:"serial"`
		Sealed    []byte         `db:"sealed"`
		PublicID  sql.NullString `db:"public_id"`
		Algorithm sql.NullString `db:"algorithm"`
		Digits    sql.NullInt64  `db:"digits"`
		Period    sql.NullInt64  `db:"period"`
		Counter   int64          `db:"counter"`
	}
	found, err = a.find(&r, statement, append([]any{a.Who.AppID}, key...)...)
	return HardwareToken{
		ID: r.ID, Kind: otp.FactorKind(r.Kind), Serial: r.Serial, Sealed: r.Sealed, PublicID: r.PublicID.String, Algorithm: r.Algorithm.String,
		Digits: int(r.Digits.Int64), Period: int(r.Period.Int64), Counter: r.Counter,
	}, found, err
}

// TakeToken marks a token as the given factor, which has proven it with the value of a counter, and tells whether it was free and the value good still.
func (a *Act) TakeToken(id, factor uuid.UUID, counter int64) (bool, error) {
	n, err := a.exec("token_take", id, a.Who.AppID, a.Now, factor, counter)
	return n == 1, err
}

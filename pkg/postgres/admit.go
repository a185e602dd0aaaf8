package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// Challenges is the store of the challenge worker.
type Challenges struct{ db *DB }

// NewChallenges returns the store.
func NewChallenges(db *DB) *Challenges { return &Challenges{db} }

// An Account names a user of an app.
type Account struct {
	AppID int
	User  string
}

// A Factor is what a user has enrolled, as far as a challenge is concerned.
type Factor struct {
	ID     uuid.UUID
	Kind   otp.FactorKind
	Mask   string
	Digits int    // of TOTP and HOTP
	Sealed []byte // the address; nil for a factor that has none
}

// An OpenChallenge is one that a user could still answer.
type OpenChallenge struct {
	ID             uuid.UUID
	Session, Login string
	Test           bool // to a test destination
}

// UserState is what a decision about a login rests on.
type UserState struct {
	Budget      otp.Budget
	Factors     []Factor // active ones, oldest first
	Suspended   bool     // there is a factor that is no longer trusted
	BackupCodes bool     // there are unused ones
	Preferred   uuid.UUID
	Fallbacks   []otp.FactorKind // best first
	Locale      string
	Open        []OpenChallenge // oldest first
	Device      uuid.UUID       // the trusted device whose token came with the login; zero for none

	Ledger  *Ledger                                             // of what Admission.Limits named
	Blocked func(prefix string) (until time.Time, blocked bool) // by the guard against pumping; nil for nothing
}

// An Admission asks for one login to be decided.
type Admission struct {
	Account
	Key       uuid.UUID // keyed digest of the app's event id
	About     uuid.UUID // keyed digest of user and session
	Challenge uuid.UUID // the id that a challenge of this login would have
	Token     *DeviceToken

	// Limits names all that a decision about the login may count in; nil for nothing. It is called after the user was read and before any login of the batch
	// is decided.
	Limits func(u UserState) []Limit
}

// A NewChallenge is a challenge to be stored.
type NewChallenge struct {
	Session, Login  string
	Factor          otp.FactorKind
	Nonce           []byte
	KeyID           uint32
	Digits          int
	Transaction     *otp.Transaction
	Locale          string
	ToSMS, ToEmail  []byte // sealed; nil for none
	MaskSMS         string
	MaskEmail       string
	Methods         []string
	Attempts, Sends int // the most of each
	NextSendAt      time.Time
	ExpiresAt       time.Time

	Channel     otp.Channel // that the first message goes over; empty where none does
	Country     string      // of the phone number, ISO 3166-1 alpha-2
	Provider    string      // of the first message; empty for whichever the channel's worker has
	Cost        int64       // of the first message, in millionths of the operator's currency
	AndroidHash string      // of the Android app that is to find the code in a short message
	IPKey       uuid.UUID   // what further sends are counted by, of the login's address; zero for none
	Test        bool        // to a test destination: nothing is sent
	TestCode    []byte      // of a test: what the fixed code is compared with
}

// A Decision is what becomes of a login.
type Decision struct {
	Outcome    string // issued, skipped or refused, as pkg/event names them
	Reason     string
	RetryAfter time.Duration
	Challenge  *NewChallenge // of issued
	Supersede  int           // how many of the user's oldest open challenges give way
	Trusted    bool          // it is UserState.Device that lets the login pass
	Charge     []Limit       // what the first message counts in
}

// Admitted is a login as the database now holds it.
type Admitted struct {
	Decision
	Repeat     bool            // the login had been decided before; Decision tells how, without Challenge
	Conflict   bool            // its event id was used before for another user or session: nothing of that login is told
	ID         uuid.UUID       // of its challenge
	At         time.Time       // when it was decided
	Superseded []OpenChallenge // ended by it
	Deferred   bool            // another process was deciding a login with the same id: ask again
	Renewed    bool            // Admission.Token.Next serves from now on; never of a repeat
	Stolen     []Device        // all of the user's, revoked because the login's token had been replaced long before
	Raised     []Raised        // alarms that the decision has raised
}

// Admit decides a batch of logins in one transaction. decide is called once for each login that was not decided before, in the order of the batch; of two
// with the same key the second is a repeat of the first. tell says what is written with a login's decision.
// Afterwards every result is committed. An error means that nothing was.
func (s *Challenges) Admit(ctx context.Context, now time.Time, batch []Admission, decide func(i int, u UserState) Decision,
	tell func(i int, a Admitted) (Told, error),
) ([]Admitted, []OutboxEvent, error) {
	out := make([]Admitted, len(batch))
	batch = guardedLogins(batch)
	var events []OutboxEvent
	err := s.db.tx(ctx, "admit logins", func(tx *sqlx.Tx) error {
		accounts, err := lockAccounts(ctx, tx, now, accountsOf(batch))
		if err != nil {
			return err
		}
		known, err := knownLogins(ctx, tx, batch)
		if err != nil {
			return err
		}
		fresh := make([]int, 0, len(batch))
		first := make(map[loginKey]int, len(batch))
		for i, a := range batch {
			k := loginKey{a.AppID, a.Key}
			if was, ok := known[k]; ok {
				if out[i] = was.Admitted; was.about != a.About {
					out[i] = Admitted{Conflict: true}
				}
				continue
			}
			if _, twice := first[k]; !twice {
				first[k] = i
				fresh = append(fresh, i)
			}
		}
		if err := decideFresh(ctx, tx, now, batch, fresh, accounts, decide, out); err != nil {
			return err
		}
		for i, a := range batch { // repeats inside the batch
			if j, ok := first[loginKey{a.AppID, a.Key}]; ok && j != i {
				out[i] = out[j]
				out[i].Repeat, out[i].Superseded, out[i].Renewed, out[i].Stolen, out[i].Raised = true, nil, false, nil, nil
				if a.About != batch[j].About {
					out[i] = Admitted{Conflict: true}
				}
			}
		}
		events = events[:0]
		for _, i := range fresh {
			if out[i].Deferred && len(out[i].Raised) == 0 {
				continue
			}
			told, err := tell(i, out[i])
			if err != nil {
				return err
			}
			if err := told.write(ctx, tx, now, batch[i].Account); err != nil {
				return err
			}
			events = append(events, told.Events...)
		}
		return insertOutbox(ctx, tx, now, events)
	})
	if err != nil {
		return nil, nil, err
	}
	return out, events, nil
}

type loginKey struct {
	app int
	key uuid.UUID
}

// decideFresh decides the logins of the given indexes and stores what became of them.
func decideFresh(ctx context.Context, tx *sqlx.Tx, now time.Time, batch []Admission, fresh []int, accounts map[Account]otp.Budget,
	decide func(int, UserState) Decision, out []Admitted,
) error {
	if len(fresh) == 0 {
		return nil
	}
	users := make([]Account, 0, len(fresh))
	for _, i := range fresh {
		users = append(users, batch[i].Account)
	}
	states, err := usersAtLogin(ctx, tx, users)
	if err != nil {
		return err
	}
	open, err := openChallenges(ctx, tx, now, users)
	if err != nil {
		return err
	}
	desk, err := openDesk(ctx, tx, now, batch, fresh)
	if err != nil {
		return err
	}
	devices := make(map[int]uuid.UUID, len(fresh))
	for _, i := range fresh {
		devices[i] = desk.look(i, batch[i].Account, batch[i].Token)
	}
	state := func(i int) UserState {
		a := batch[i]
		u := states[a.Account]
		u.Budget, u.Open, u.Device = accounts[a.Account], open[a.Account], devices[i]
		return u
	}
	ledger, err := ledgerFor(ctx, tx, now, batch, fresh, open, state)
	if err != nil {
		return err
	}
	for _, i := range fresh {
		a := batch[i]
		u := state(i)
		u.Ledger = ledger
		d := decide(i, u)
		if d.Challenge != nil {
			ledger.Count(d.Charge)
		}
		out[i] = Admitted{Decision: d, ID: a.Challenge, At: now, Raised: ledger.takeRaised()}
		if d.Trusted {
			out[i].Renewed = desk.use(i, a.Token)
		}
		if d.Challenge == nil {
			continue
		}
		mine := open[a.Account]
		n := min(max(d.Supersede, 0), len(mine))
		out[i].Superseded = mine[:n:n]
		open[a.Account] = append(mine[n:len(mine):len(mine)], OpenChallenge{
			ID: a.Challenge, Session: d.Challenge.Session, Login: d.Challenge.Login, Test: d.Challenge.Test,
		})
	}
	won, err := insertLogins(ctx, tx, now, batch, fresh, out)
	if err != nil {
		return err
	}
	kept := fresh[:0:0]
	for _, i := range fresh {
		if won[loginKey{batch[i].AppID, batch[i].Key}] {
			kept = append(kept, i)
			continue
		}
		// The same event id, for another user, is being decided elsewhere. Its challenge is not ours to make.
		if out[i].Challenge != nil {
			ledger.uncount(out[i].Charge)
		}
		out[i] = Admitted{Deferred: true, Raised: out[i].Raised}
	}
	if err := ledger.close(ctx, tx); err != nil {
		return err
	}
	if err := storeChallenges(ctx, tx, now, batch, kept, out); err != nil {
		return err
	}
	return desk.close(ctx, tx, kept, func(i int, stolen []Device) { out[i].Stolen = stolen })
}

// ledgerFor takes the counters that the fresh logins may count in. Who sends a code again holds the challenge before it counts; so challenges that may be
// ended here are taken before the counters are.
func ledgerFor(ctx context.Context, tx *sqlx.Tx, now time.Time, batch []Admission, fresh []int, open map[Account][]OpenChallenge,
	state func(i int) UserState,
) (*Ledger, error) {
	var limits []Limit
	var mayEnd []uuid.UUID
	for _, i := range fresh {
		if batch[i].Limits == nil {
			continue
		}
		limits = append(limits, batch[i].Limits(state(i))...)
		for _, o := range open[batch[i].Account] {
			mayEnd = append(mayEnd, o.ID)
		}
	}
	if unbounded(limits) {
		return nil, nil
	}
	if len(mayEnd) > 0 {
		if _, err := tx.ExecContext(ctx, query("challenges_lock"), pq.Array(mayEnd)); err != nil {
			return nil, fmt.Errorf("lock challenges: %w", err)
		}
	}
	return openLedger(ctx, tx, now, limits)
}

// A knownLogin was decided before.
type knownLogin struct {
	Admitted
	about uuid.UUID
}

func knownLogins(ctx context.Context, tx *sqlx.Tx, batch []Admission) (map[loginKey]knownLogin, error) {
	apps, keys := make(pq.Int64Array, len(batch)), make(pq.StringArray, len(batch))
	for i, a := range batch {
		apps[i], keys[i] = int64(a.AppID), a.Key.String()
	}
	var rows []struct {
		AppID      int       `db:"app_id"`
		Key        uuid.UUID `db:"key"`
		Challenge  uuid.UUID `db:"challenge_id"`
		Outcome    string    `db:"outcome"`
		Reason     string    `db:"reason"`
		RetryAfter int       `db:"retry_after"`
		About      uuid.UUID `db:"about"`
		CreatedAt  time.Time `db:"created_at"`
	}
	if err := tx.SelectContext(ctx, &rows, query("logins_known"), apps, keys); err != nil {
		return nil, fmt.Errorf("look for known logins: %w", err)
	}
	out := make(map[loginKey]knownLogin, len(rows))
	for _, r := range rows {
		out[loginKey{r.AppID, r.Key}] = knownLogin{about: r.About, Admitted: Admitted{
			Decision: Decision{Outcome: r.Outcome, Reason: r.Reason, RetryAfter: time.Duration(r.RetryAfter) * time.Second},
			Repeat:   true, ID: r.Challenge, At: r.CreatedAt,
		}}
	}
	return out, nil
}

func insertLogins(ctx context.Context, tx *sqlx.Tx, now time.Time, batch []Admission, fresh []int, out []Admitted) (map[loginKey]bool, error) {
	n := len(fresh)
	apps, keys, ids, abouts := make(pq.Int64Array, n), make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n)
	outcomes, reasons, waits := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.Int64Array, n)
	for j, i := range fresh {
		apps[j], keys[j], ids[j] = int64(batch[i].AppID), batch[i].Key.String(), batch[i].Challenge.String()
		abouts[j] = batch[i].About.String()
		outcomes[j], reasons[j], waits[j] = out[i].Outcome, out[i].Reason, int64(otp.Seconds(out[i].RetryAfter))
	}
	var rows []struct {
		AppID int       `db:"app_id"`
		Key   uuid.UUID `db:"key"`
	}
	if err := tx.SelectContext(ctx, &rows, query("logins_insert"), apps, keys, ids, outcomes, reasons, waits, now, abouts); err != nil {
		return nil, fmt.Errorf("store logins: %w", err)
	}
	won := make(map[loginKey]bool, len(rows))
	for _, r := range rows {
		won[loginKey{r.AppID, r.Key}] = true
	}
	return won, nil
}

// storeChallenges writes the challenges and first deliveries of the given indexes and ends what they supersede.
func storeChallenges(ctx context.Context, tx *sqlx.Tx, now time.Time, batch []Admission, kept []int, out []Admitted) error {
	var rows challengeRows
	var superseded []uuid.UUID
	for _, i := range kept {
		if c := out[i].Challenge; c != nil {
			rows.add(batch[i], c)
		}
		for _, o := range out[i].Superseded {
			superseded = append(superseded, o.ID)
		}
	}
	if err := rows.insert(ctx, tx, now); err != nil {
		return err
	}
	if len(superseded) == 0 {
		return nil
	}
	var ended, locked []uuid.UUID
	if err := tx.SelectContext(ctx, &locked, query("challenges_lock"), pq.Array(superseded)); err != nil {
		return fmt.Errorf("lock challenges: %w", err)
	}
	if err := tx.SelectContext(ctx, &ended, query("challenges_supersede"), pq.Array(superseded), now); err != nil {
		return fmt.Errorf("supersede challenges: %w", err)
	}
	done := make(map[uuid.UUID]bool, len(ended))
	for _, id := range ended {
		done[id] = true
	}
	for _, i := range kept { // one that was verified or cancelled meanwhile has its own end
		var really []OpenChallenge
		for _, o := range out[i].Superseded {
			if done[o.ID] {
				really = append(really, o)
			}
		}
		out[i].Superseded = really
	}
	return withdraw(ctx, tx, now, ended, string(otp.Superseded))
}

// withdraw takes back what has not been handed to a provider yet.
func withdraw(ctx context.Context, tx *sqlx.Tx, now time.Time, ended []uuid.UUID, reason string) error {
	if len(ended) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, query("deliveries_withdraw"), pq.Array(ended), reason, now); err != nil {
		return fmt.Errorf("withdraw deliveries: %w", err)
	}
	return nil
}

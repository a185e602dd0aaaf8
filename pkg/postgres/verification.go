package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/otp"
)

// Verifications is the store of the verification worker.
type Verifications struct{ db *DB }

// NewVerifications returns the store.
func NewVerifications(db *DB) *Verifications { return &Verifications{db} }

// An Answerable is a challenge as an answer meets it.
type Answerable struct {
	Challenge             // without addresses, sends and deliveries
	LastRequest uuid.UUID // digest of the idempotency id of the last request that was judged; zero for none
	LastResult  string
	LastFactor  string
	TestCode    []byte // of a challenge to a test destination: what its fixed code is compared with
}

// A Case is all that an answer is judged on. The account and the challenge are locked while it is.
type Case struct {
	Challenge Answerable
	Budget    otp.Budget
	Factors   []OwnedFactor // the user's active ones that prove without a message, oldest first
	Claimed   bool          // an attempt was taken; without it nothing may be compared
	Left      int           // attempts left after this one
	Session   []byte        // of a security key's answer, taken for this answer alone; nil where there is none, or it is over
	Backup    BackupUse
}

// A Taking is what an answer needs beside an attempt. It is taken for this answer only, before anything is compared, and not given back.
type Taking struct {
	Session bool     // what a security key was asked to sign for this challenge
	Backup  [][]byte // the digests of a backup code, one for each key that digests are made with
}

// A Judgement is what an answer comes to.
type Judgement struct {
	State   otp.State // the challenge's from now on
	Result  string    // for LastResult
	Factor  string    // that was proven, for LastFactor
	Request uuid.UUID // digest of the idempotency id; zero for none
	Budget  otp.Budget
	Advance *Advance   // what must not have been accepted before
	Key     *KeyUse    // of a security key that has signed, whatever the answer came to
	Suspend uuid.UUID  // a factor that may have been copied; zero for none
	Trust   *NewDevice // a browser that is trusted from now on
}

// An Advance moves a factor's last step: of TOTP the time step, of HOTP and Yubico OTP the counter.
type Advance struct {
	Factor uuid.UUID
	Step   int64
}

// A Panel judges the answers of one batch. The indexes are those of the batch.
type Panel interface {
	// Wants is asked first: whether the answer may take an attempt of the challenge, and what else it needs. It must compare nothing.
	Wants(i int, c Case) (Taking, bool)
	// Judge is asked of every answer that has an attempt. It returns false to leave all as it is.
	Judge(i int, c Case) (Judgement, bool)
	// Refuse is told of every answer that has none: unknown challenge (found is false), ended, expired, waiting account.
	Refuse(i int, c Case, found bool)
	// Replayed is asked for the judgement of an answer whose step or counter had been accepted already.
	Replayed(i int, c Case) Judgement
	// Tell is asked last, of every judged answer: what there is to tell. gone is what ended because of it.
	Tell(i int, c Case, j Judgement, gone Gone) (Told, error)
}

// Told is what is told of an answer. Whose it is and when it was follow from the answer.
type Told struct {
	Events  []OutboxEvent
	Notices []Notice     // Notice and Detail
	Audit   []AuditEntry // all but At and AppID
}

// Judge judges one answer each of different accounts in one transaction: it locks the accounts, takes the attempts, lets the panel compare,
// and stores what came of it. Failed attempts are committed like all others. ids and the batch of the panel have the same indexes; no
// account may be in a batch twice (Find tells whose a challenge is). An error means that nothing happened and no answer may be told
// anything.
func (s *Verifications) Judge(ctx context.Context, now time.Time, ids []uuid.UUID, owners []Account, p Panel) (events []OutboxEvent, err error) {
	err = s.db.tx(ctx, "judge answers", func(tx *sqlx.Tx) error {
		budgets, err := lockAccounts(ctx, tx, now, distinct(owners))
		if err != nil {
			return err
		}
		found, err := answerables(ctx, tx, query(guarded("challenges_for_verdicts")), ids)
		if err != nil {
			return err
		}
		factors, err := factorsForAnswers(ctx, tx, distinct(owners))
		if err != nil {
			return err
		}
		cases, want, take := make([]Case, len(ids)), []uuid.UUID(nil), make([]Taking, len(ids))
		for i, id := range ids {
			a, ok := found[id]
			cases[i] = Case{Challenge: a, Budget: budgets[owners[i]], Factors: factors[owners[i]]}
			if ok {
				if take[i], ok = p.Wants(i, cases[i]); ok {
					want = append(want, id)
				}
			}
		}
		claimed, err := claimAttempts(ctx, tx, now, want)
		if err != nil {
			return err
		}
		for i, id := range ids {
			left, ok := claimed[id]
			if cases[i].Left, cases[i].Claimed = left, ok; !ok {
				take[i] = Taking{}
			}
		}
		if err := takeFor(ctx, tx, now, take, cases, owners); err != nil {
			return err
		}
		v := verdicts{}
		for i := range ids {
			if !cases[i].Claimed {
				p.Refuse(i, cases[i], cases[i].Challenge.ID != uuid.Nil)
			} else if j, ok := p.Judge(i, cases[i]); ok {
				v.add(i, j)
			}
		}
		if err := v.advance(ctx, tx, now, func(i int) Judgement { return p.Replayed(i, cases[i]) }); err != nil {
			return err
		}
		if err := v.store(ctx, tx, now, ids, owners); err != nil {
			return err
		}
		gone, err := v.devices(ctx, tx, now, ids, owners)
		if err != nil {
			return err
		}
		events, err = v.tell(ctx, tx, now, p, cases, owners, gone)
		return err
	})
	return events, err
}

// Find returns the challenges of the ids that exist, unlocked: whose they are never changes, all else may.
func (s *Verifications) Find(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]Answerable, error) {
	return answerables(ctx, s.db.x, query("challenges_for_answers"), ids)
}

type answerableRow struct {
	challengeRow
	LastRequest uuid.NullUUID  `db:"last_request"`
	LastResult  sql.NullString `db:"last_result"`
	LastFactor  sql.NullString `db:"last_factor"`
}

func answerables(ctx context.Context, q sqlx.QueryerContext, statement string, ids []uuid.UUID) (map[uuid.UUID]Answerable, error) {
	var rows []answerableRow
	if err := sqlx.SelectContext(ctx, q, &rows, statement, pq.Array(ids)); err != nil {
		return nil, fmt.Errorf("read challenges: %w", err)
	}
	out := make(map[uuid.UUID]Answerable, len(rows))
	for _, r := range rows {
		out[r.ID] = Answerable{
			Challenge: r.challenge(), LastRequest: r.LastRequest.UUID, LastResult: r.LastResult.String, LastFactor: r.LastFactor.String, TestCode: r.TestCode,
		}
	}
	return out, nil
}

func distinct(users []Account) []Account {
	seen := make(map[Account]bool, len(users))
	out := make([]Account, 0, len(users))
	for _, u := range users {
		if !seen[u] {
			seen[u] = true
			out = append(out, u)
		}
	}
	return out
}

// claimAttempts takes one attempt of each challenge that has one to give, and returns what it has left.
func claimAttempts(ctx context.Context, tx *sqlx.Tx, now time.Time, ids []uuid.UUID) (map[uuid.UUID]int, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []struct {
		ID          uuid.UUID `db:"id"`
		Attempts    int       `db:"attempts"`
		MaxAttempts int       `db:"max_attempts"`
	}
	if err := tx.SelectContext(ctx, &rows, query(guarded("attempts_claim")), pq.Array(ids), now); err != nil {
		return nil, fmt.Errorf("claim attempts: %w", err)
	}
	left := make(map[uuid.UUID]int, len(rows))
	for _, r := range rows {
		left[r.ID] = max(0, r.MaxAttempts-r.Attempts)
	}
	return left, nil
}

// verdicts gathers the judgements of a batch for its statements.
type verdicts struct {
	index  []int
	judged []Judgement
}

func (v *verdicts) add(i int, j Judgement) {
	v.index, v.judged = append(v.index, i), append(v.judged, j)
}

func (v *verdicts) store(ctx context.Context, tx *sqlx.Tx, now time.Time, ids []uuid.UUID, owners []Account) error {
	n := len(v.judged)
	if n == 0 {
		return nil
	}
	challenge, states := make(pq.StringArray, n), make(pq.StringArray, n)
	results, factors := make(pq.StringArray, n), make(pq.StringArray, n)
	requests, waits := make([]sql.NullString, n), make([]sql.NullString, n)
	apps, failures, users := make(pq.Int64Array, n), make(pq.Int64Array, n), make(pq.StringArray, n)
	locked := make(pq.BoolArray, n)
	for k, j := range v.judged {
		i := v.index[k]
		challenge[k], states[k], results[k], factors[k] = ids[i].String(), string(j.State), j.Result, j.Factor
		if j.Request != uuid.Nil {
			requests[k] = sql.NullString{String: j.Request.String(), Valid: true}
		}
		apps[k], users[k] = int64(owners[i].AppID), owners[i].User
		failures[k], locked[k] = int64(j.Budget.Failures), j.Budget.Locked
		if !j.Budget.WaitUntil.IsZero() {
			waits[k] = sql.NullString{String: stamp(j.Budget.WaitUntil), Valid: true}
		}
	}
	var changed []uuid.UUID
	if err := tx.SelectContext(ctx, &changed, query("challenges_judge"), challenge, states, pq.Array(requests), results, now, factors); err != nil {
		return fmt.Errorf("store verdicts: %w", err)
	}
	if len(changed) != n && !unguardedBuild { // the accounts are locked and the attempts taken: nobody else can have ended one
		return fmt.Errorf("store verdicts: %d of %d challenges were open", len(changed), n)
	}
	if _, err := tx.ExecContext(ctx, query("accounts_judge"), apps, users, failures, pq.Array(waits), locked, now); err != nil {
		return fmt.Errorf("store budgets: %w", err)
	}
	var over []uuid.UUID
	var sent pq.StringArray
	for k, j := range v.judged {
		if j.State.Ended() {
			over = append(over, ids[v.index[k]])
		}
		if _, ok := otp.FactorKind(j.Factor).Channel(); ok && j.State == otp.Verified {
			sent = append(sent, challenge[k])
		}
	}
	if len(sent) > 0 {
		if _, err := tx.ExecContext(ctx, query("addresses_used"), sent, now); err != nil {
			return fmt.Errorf("note the use of addresses: %w", err)
		}
	}
	return withdraw(ctx, tx, now, over, "the challenge has ended") // nobody needs the code any more
}

package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Act runs fn in one transaction that holds the account, as Enrolments.Act does: it is what the verification worker does of a user outside a challenge's
// verdict.
func (s *Verifications) Act(ctx context.Context, now time.Time, a Account, fn func(*Act) error) (events []OutboxEvent, err error) {
	return s.db.act(ctx, now, a, fn)
}

// Provable returns the user's active factors that prove without a message, oldest first.
func (a *Act) Provable() ([]OwnedFactor, error) {
	found, err := factorsForAnswers(a.ctx, a.tx, []Account{a.Who})
	return found[a.Who], err
}

// Advance moves a factor's last step and tells whether that step, or a later one, had not been accepted before.
func (a *Act) Advance(to Advance) (bool, error) {
	v := verdicts{judged: []Judgement{{Advance: &to}}, index: []int{0}}
	fresh := true
	err := v.advance(a.ctx, a.tx, a.Now, func(int) Judgement { fresh = false; return Judgement{} })
	return fresh && err == nil, err
}

// Answerable returns a challenge of the user.
func (a *Act) Answerable(id uuid.UUID) (c Answerable, found bool, err error) {
	all, err := answerables(a.ctx, a.tx, query("challenges_for_answers"), []uuid.UUID{id})
	c = all[id]
	return c, c.ID == id && c.AppID == a.Who.AppID && c.User == a.Who.User, err
}

// KeepSession keeps what a security key is asked to sign for a challenge, in place of what it was asked before.
func (a *Act) KeepSession(challenge uuid.UUID, data []byte, expires time.Time) error {
	_, err := a.exec("session_keep", challenge, data, expires)
	return err
}

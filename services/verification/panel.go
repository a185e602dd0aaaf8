package verification

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/requests"
)

// A panel judges one transaction's answers. The account and challenge of each are locked while it does.
type panel struct {
	worker  *Worker
	answers []*answer
	now     time.Time
}

var _ postgres.Panel = (*panel)(nil)

// Wants lets an answer take an attempt where the challenge and the account may still be answered.
func (p *panel) Wants(i int, c postgres.Case) (take postgres.Taking, ok bool) {
	a := p.answers[i]
	a.problem = nil
	if c.Challenge.State != otp.Open || !p.now.Before(c.Challenge.ExpiresAt) || p.repeats(i, c) || c.Budget.Locked || c.Budget.Wait(p.now) > 0 {
		return take, false
	}
	var err error
	if a.material, take, err = p.worker.prepare(a, c); err != nil {
		p.worker.Logger.Error("an answer cannot be checked by this worker", "challenge", c.Challenge.ID, "error", err)
		a.problem = requests.Busy("the answer could not be checked now; send it again")
		return postgres.Taking{}, false
	}
	return take, true
}

// repeats reports whether this very request was judged before.
func (p *panel) repeats(i int, c postgres.Case) bool {
	d := p.digest(i, c)
	return d != uuid.Nil && c.Challenge.LastRequest == d
}

// digest tells one request from any other: its idempotency id with all that it asks. It is keyed, like the code itself, because an answer of a few digits
// could be guessed from a digest without. The zero UUID stands for a request that has no id, or that this worker has no key for.
func (p *panel) digest(i int, c postgres.Case) uuid.UUID {
	a := p.answers[i]
	if a.Request == "" {
		return uuid.Nil
	}
	prf, err := p.worker.Keys.CodePRF(c.Challenge.KeyID)
	if err != nil {
		return uuid.Nil
	}
	fields := [][]byte{[]byte("otpost/request/v1"), c.Challenge.ID[:], []byte(a.Request), []byte(a.Code), []byte(a.Factor), a.Transaction.Digest()}
	if len(a.Credential) > 0 {
		fields = append(fields, []byte("credential"), a.Credential)
	}
	if a.TrustDevice != nil {
		fields = append(fields, []byte("trust_device"), []byte(a.TrustDevice.Label))
	}
	var b []byte
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f))) //nolint:gosec // bounded by the size of a request
		b = append(b, f...)
	}
	sum, err := prf(b)
	if err != nil {
		return uuid.Nil
	}
	return uuid.UUID(sum[:16])
}

// Refuse says why nothing was compared.
func (p *panel) Refuse(i int, c postgres.Case, found bool) {
	a, ch := p.answers[i], c.Challenge
	r := event.VerifyReply{AttemptsLeft: ch.MaxAttempts - ch.Attempts, RetryAfter: otp.Seconds(c.Budget.Wait(p.now))}
	switch {
	case !found:
		r = event.VerifyReply{Result: event.ResultUnknown}
	case p.repeats(i, c):
		r.Result = ch.LastResult
		if ch.State == otp.Verified {
			p.verified(&r, ch.User, otp.FactorKind(ch.LastFactor), ch.EndedAt)
		}
	case ch.State == otp.Verified: // used up: whoever has it now did not get it from the user
		r = event.VerifyReply{Result: event.ResultUnknown}
	case ch.State.Ended():
		r.Result, r.AttemptsLeft = endResult(ch.State), 0
	case !p.now.Before(ch.ExpiresAt):
		r.Result, r.AttemptsLeft = string(otp.Expired), 0
	case c.Budget.Locked, c.Budget.Wait(p.now) > 0:
		r.Result = string(otp.Locked)
		if c.Budget.Locked { // for good: no wait ends it
			r.RetryAfter = 0
		}
	default: // it has no attempts left; one that takes the last ends as exhausted, so this does not come up
		r.Result, r.AttemptsLeft = string(otp.Exhausted), 0
	}
	a.reply = r
}

// endResult is how an answer to a challenge that has ended is told of it. The verdicts that apps know have no word of their own for an
// undeliverable one, of which challenge.ended has told: to the user it is as good as cancelled.
func endResult(s otp.State) string {
	if s == otp.Undeliverable {
		return string(otp.Cancelled)
	}
	return string(s)
}

// Judge compares. It is called only for an answer that has an attempt.
func (p *panel) Judge(i int, c postgres.Case) (postgres.Judgement, bool) {
	a := p.answers[i]
	found := p.worker.compare(a, c, p.now)
	if found.kind == "" {
		j := p.wrong(i, c)
		if j.Key = found.key; found.cloned {
			j.Suspend = found.from.ID
		}
		return j, true
	}
	a.reply = event.VerifyReply{AttemptsLeft: c.Left}
	p.verified(&a.reply, c.Challenge.User, found.kind, p.now)
	j := postgres.Judgement{
		State: otp.Verified, Result: a.reply.Result, Factor: string(found.kind), Request: p.digest(i, c), Budget: c.Budget.Succeed(),
		Advance: found.advance, Key: found.key,
	}
	if a.TrustDevice != nil {
		j.Trust, a.reply.Device = a.trust(p.now)
	}
	return j, true
}

// trust makes the device that the user asked to have remembered, and the token by which it will be known: of that only the digest is kept, so whoever
// repeats the request is not told it again. Where the app's policy knows no trusted devices there is none.
func (a *answer) trust(now time.Time) (*postgres.NewDevice, string) {
	life := a.app.Policy.Factors.DeviceLife
	if life <= 0 {
		return nil, ""
	}
	id := uuid.Must(uuid.NewV7())
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (Go 1.24)
	return &postgres.NewDevice{
		ID: id, Digest: otp.DeviceDigest(secret), Session: a.Session, Label: a.TrustDevice.Label, ExpiresAt: now.Add(life),
	}, otp.DeviceToken(id, secret)
}

// Replayed judges an answer whose step or counter had been accepted before: it is as wrong as any other.
func (p *panel) Replayed(i int, c postgres.Case) postgres.Judgement { return p.wrong(i, c) }

func (p *panel) verified(r *event.VerifyReply, user string, factor otp.FactorKind, at time.Time) {
	r.Result, r.User, r.Factor, r.AMR, r.VerifiedAt = string(otp.Verified), user, string(factor), factor.AMR(), event.Time(at)
}

func (p *panel) wrong(i int, c postgres.Case) postgres.Judgement {
	j := postgres.Judgement{State: otp.Open, Result: event.ResultWrong, Request: p.digest(i, c), Budget: c.Budget.Fail(p.now)}
	switch {
	case j.Budget.Locked:
		j.State = otp.Locked
	case c.Left == 0:
		j.State = otp.Exhausted
	}
	left := c.Left
	if j.State != otp.Open {
		left = 0
	}
	p.answers[i].reply = event.VerifyReply{Result: event.ResultWrong, AttemptsLeft: left, RetryAfter: otp.Seconds(j.Budget.Wait(p.now))}
	return j
}

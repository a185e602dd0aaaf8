package pages

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// proveState is what the pages of this part remember: that the user is asked for a factor before an act that weakens the account, and has given it.
type proveState struct {
	Back      string     `json:"back"`               // the page that the act is on
	Challenge string     `json:"challenge,omitzero"` // that the user is asked; empty where none is needed, or none was to be had
	Expires   time.Time  `json:"expires,omitzero"`   // of the challenge
	Way       string     `json:"way,omitzero"`       // how the user wants to answer; empty for how the challenge asks
	Proven    time.Time  `json:"proven,omitzero"`    // zero until it was answered
	Refused   otp.Reason `json:"refused,omitzero"`   // why there is no challenge
	Until     time.Time  `json:"until,omitzero"`     // when to ask again, where that is known
}

func (p *Pages) proveRoutes() {
	p.questionRoutes("/prove", (*visit).proving)
	p.post("/prove/again", p.proveAgain)
	p.get("/prove/again", func(_ context.Context, v *visit) error { return v.toProve() })
	p.post("/prove/cancel", p.proveCancel)
}

// proof returns the proof of a factor for an act that weakens the account. ok is false where the user has to give it first: they have been led to /prove then,
// and come back to the page back. It serves one act.
func (v *visit) proof(ctx context.Context, back string) (proof event.Proof, ok bool, err error) {
	proof.Reauthenticated = v.reauthenticated()
	if v.proved(back) {
		proof.Challenge, v.state.Prove = v.state.Prove.Challenge, nil
		err := v.save(ctx) // of two tabs one gets it
		return proof, err == nil, err
	}
	needed, err := v.needProof(ctx, back)
	switch {
	case err != nil:
		return proof, false, err
	case !needed:
		return proof, true, nil
	}
	return proof, false, v.goTo(ctx, "/prove")
}

// proved reports whether proof would return one at once.
func (v *visit) proved(back string) bool {
	s := v.state.Prove
	return s != nil && s.Back == back && !s.Proven.IsZero() && v.p.Now().Sub(s.Proven) < v.app.Policy.Factors.ReauthWithin-reauthMargin
}

// keepProof puts a proof back that was not used, because the act was refused for another reason: the user need not give it again.
func (v *visit) keepProof(ctx context.Context, back string, proof event.Proof) error {
	if proof.Challenge == "" { // none was needed
		return nil
	}
	id, err := uuid.Parse(proof.Challenge)
	if err != nil {
		return fmt.Errorf("read the id of a challenge: %w", err)
	}
	// When it was answered is not known any more. It was made before that, so this is the safe side.
	v.state.Prove = &proveState{Back: back, Challenge: proof.Challenge, Proven: otp.IDTime(id)}
	return v.save(ctx)
}

// needProof asks the workers for a challenge, unless one is open already: whoever goes back and forth does not have a message sent each time. needed is false
// where the user has no factor to prove anything with.
func (v *visit) needProof(ctx context.Context, back string) (needed bool, err error) {
	if s := v.state.Prove; s != nil && s.Challenge != "" && s.Proven.IsZero() && v.p.Now().Before(s.Expires) {
		s.Back = back
		return true, nil
	}
	r, err := call[event.LoginReply](ctx, v, event.VerbLogin, event.LoginRequest{ID: uuid.NewString(), LoginData: event.LoginData{
		User: v.row.User, Session: v.row.Session, Locale: v.locale.Tag, Client: v.client(),
	}})
	if err != nil {
		return false, err
	}
	v.state.Prove = nil
	switch r.Outcome {
	case event.OutcomeIssued:
		v.state.Prove = &proveState{Back: back, Challenge: r.Challenge, Expires: event.ParseTime(r.ExpiresAt)}
		return true, nil
	case event.OutcomeSkipped:
		return false, nil
	}
	if otp.Reason(r.Reason) == otp.NoFactorLeft { // of an app that lets nobody pass without a factor; or what there is may not be used
		none, err := v.factorless(ctx)
		if none || err != nil {
			return false, err
		}
	}
	v.state.Prove = &proveState{Back: back, Refused: otp.Reason(r.Reason)}
	if r.RetryAfter > 0 {
		v.state.Prove.Until = v.p.Now().Add(time.Duration(r.RetryAfter) * time.Second)
	}
	return true, nil
}

// factorless reports whether the user has no factor at all: one that is suspended is one.
func (v *visit) factorless(ctx context.Context) (bool, error) {
	r, err := call[event.FactorListReply](ctx, v, event.VerbFactorList, event.FactorListRequest{User: v.row.User})
	if err != nil {
		return false, err
	}
	for _, f := range r.Factors {
		if otp.FactorState(f.State) != otp.FactorConfirmed {
			return false, nil
		}
	}
	return true, nil
}

// proving is the question before an act; nil where none is asked.
func (v *visit) proving() *question {
	s := v.state.Prove
	if s == nil || !s.Proven.IsZero() {
		return nil
	}
	return &question{
		visit: v, path: "/prove", id: s.Challenge, way: &s.Way, proves: true, refused: s.Refused, until: s.Until,
		answered: func(ctx context.Context, _ event.VerifyReply) error {
			s.Proven = v.p.Now()
			return v.goTo(ctx, s.Back)
		},
	}
}

func (v *visit) toProve() error {
	http.Redirect(v.w, v.r, "/prove", http.StatusSeeOther)
	return nil
}

// proveAgain asks for another challenge where the last one has ended or there was none.
func (p *Pages) proveAgain(ctx context.Context, v *visit) error {
	s, q := v.state.Prove, v.proving()
	if q == nil {
		return v.toProve()
	}
	if s.Challenge != "" {
		_, over, err := q.standing(ctx)
		if err != nil {
			return err
		}
		if over == "" {
			return v.toProve()
		}
		s.Challenge = ""
	}
	needed, err := v.needProof(ctx, s.Back)
	if err != nil {
		return err
	}
	if !needed { // the factors are gone: the act says so
		return v.goTo(ctx, s.Back)
	}
	return v.goTo(ctx, "/prove")
}

// proveCancel leaves the act undone.
func (p *Pages) proveCancel(ctx context.Context, v *visit) error {
	if s := v.state.Prove; s != nil && s.Challenge != "" && s.Proven.IsZero() {
		_, err := call[event.CancelReply](ctx, v, event.VerbCancel, event.CancelRequest{Challenge: s.Challenge, Session: v.row.Session})
		if err != nil && reason(err) == "" {
			return err
		}
	}
	v.state.Prove = nil
	return v.goTo(ctx, first[v.row.Page])
}

// refusal says why there is no challenge to answer.
func (q *question) refusal(ctx context.Context) error {
	d := endedData{Path: q.path, Proves: true, Icon: "alert", Title: "challenge.ended_locked_title", Text: "challenge.ended_locked", Next: "challenge.next_locked"}
	switch {
	case q.refused == otp.NoFactorLeft:
		d.Title, d.Text, d.Next, d.Recover = "challenge.nothing_title", "challenge.nothing", "", q.recoverable()
	case q.refused != otp.AccountLocked:
		d.Title, d.Text, d.Next, d.Icon, d.Again = "challenge.refused_title", "challenge.refused", "", "wait", true
		if wait := q.until.Sub(q.p.Now()); wait > 0 {
			c := q.countdown("challenge.wait", wait)
			d.Wait = &c
		}
	}
	return q.show(ctx, "challenge/ended", d, nil, func(p *web.Page) { p.Path, p.Back = q.path, "" })
}

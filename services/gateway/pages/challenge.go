package pages

import (
	"context"
	"net/http"
	"strings"

	"github.com/otpost/otpost/pkg/event"
)

// challengeState is what the page of a login's challenge remembers.
type challengeState struct {
	Way string `json:"way,omitzero"` // how the user wants to answer; empty for how the challenge asks
}

func (p *Pages) challengeRoutes() {
	p.questionRoutes("/challenge", (*visit).challenge)
	p.post("/challenge/end", p.endChallenge)
}

// challenge is the question of a login: the challenge for which the app has made the visit. It is nil in a visit for anything else.
func (v *visit) challenge() *question {
	if v.row.Page != event.PageChallenge {
		return nil
	}
	if v.state.Challenge == nil {
		v.state.Challenge = &challengeState{}
	}
	return &question{
		visit: v, path: "/challenge", id: v.row.Challenge.String(), way: &v.state.Challenge.Way, trusts: true,
		answered: func(ctx context.Context, r event.VerifyReply) error {
			return v.finish(ctx, outcome{
				Outcome: event.OutcomeVerified, Challenge: v.row.Challenge, Factor: r.Factor, AMR: r.AMR, VerifiedAt: r.VerifiedAt, Device: r.Device,
			})
		},
	}
}

// endChallenge leads back to the app from a challenge that has ended.
func (p *Pages) endChallenge(ctx context.Context, v *visit) error {
	if v.row.Page != event.PageChallenge {
		http.Redirect(v.w, v.r, first[v.row.Page], http.StatusSeeOther)
		return nil
	}
	return v.finish(ctx, outcome{Outcome: event.OutcomeFailed, Challenge: v.row.Challenge})
}

// within reports whether the visit may open a page. Who answers a challenge, or has lost the factors, has shown a password at most: for them the pages that
// look after factors stay closed, lest somebody who stole a password adds a factor of their own, and answers the challenge with that. Once a recovery of
// the visit has taken effect there is no factor left that this would go round, and new ones may be set up.
func (v *visit) within(path string) bool {
	area, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch area {
	case "setup":
		return !v.halfway() || v.state.Recovered
	case "settings", "deactivate", "prove":
		return !v.halfway()
	}
	return true
}

// halfway reports whether the visit is one of somebody who has not shown a second factor.
func (v *visit) halfway() bool {
	return v.row.Page == event.PageChallenge || v.row.Page == event.PageRecovery
}

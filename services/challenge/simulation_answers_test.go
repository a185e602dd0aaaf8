package challenge

import (
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is who types which code, and asks for it again.

// An answer is a code that is typed, some minutes after it was sent.
type answer struct {
	login  *login
	right  bool
	resend bool // the user asks for the code again instead
}

// answer says when and how the code of a challenge is answered, if at all.
func (s *simulation) answer(minute int, who actor, l *login) {
	at := minute + 1 + s.luck.IntN(2)
	switch chance := s.luck.Float64(); {
	case who == guesser:
		for i := range 5 {
			s.answers[minute+1+i/3] = append(s.answers[minute+1+i/3], answer{login: l})
		}
	case who == honest && chance < 0.86:
		switch how := s.luck.Float64(); {
		case how < 0.06:
			s.answers[at] = append(s.answers[at], answer{login: l})
		case how < 0.14:
			s.answers[at] = append(s.answers[at], answer{login: l, resend: true})
		}
		s.answers[at+1] = append(s.answers[at+1], answer{login: l, right: true})
	case (who == sequential || who == scattered) && chance < 0.01:
		s.answers[at] = append(s.answers[at], answer{login: l, right: true})
	}
}

// typeCodes types the codes of a minute, those of one account one after another.
func (s *simulation) typeCodes(minute int, now time.Time) {
	left := s.answers[minute]
	delete(s.answers, minute)
	for len(left) > 0 {
		var later []answer
		var ids []uuid.UUID
		var owners []postgres.Account
		sheet := &answerSheet{now: now}
		seen := map[string]bool{}
		for _, a := range left {
			switch {
			case a.resend:
				s.resend(a.login, now)
			case seen[a.login.User]:
				later = append(later, a)
			default:
				seen[a.login.User] = true
				ids, owners = append(ids, a.login.id), append(owners, postgres.Account{AppID: s.app.ID, User: a.login.User})
				sheet.right = append(sheet.right, a.right)
			}
		}
		if len(ids) > 0 {
			if _, err := s.verifications.Judge(s.Context(), now, ids, owners, sheet); err != nil {
				s.Fatal(err)
			}
		}
		for i, o := range owners {
			if o.User == s.people[1].name && !sheet.right[i] && sheet.compared[i] {
				s.guesses++
			}
		}
		left = later
	}
}

// resend asks for the code once more, as the verb does. Whether the limits let it go is theirs to say.
func (s *simulation) resend(l *login, now time.Time) {
	w := s.worker
	c, err := w.store.Status(s.Context(), s.app.ID, l.id)
	if err != nil {
		s.Fatal(err)
	}
	_, err = w.store.Resend(s.Context(), now, c, otp.SMS, s.app.Policy.Cooldown, func(tx postgres.Tx, c postgres.Challenge) (postgres.NewDelivery, error) {
		n := postgres.NewDelivery{Channel: otp.SMS, Country: c.Country, Provider: "sim", Cost: costs[c.Country]}
		return n, w.mayResend(tx, now, s.app, c, n)
	})
	if err == nil {
		s.tallies[honest].spent += costs[c.Country]
	} else if otp.AsProblem(err).Reason == otp.Internal {
		s.Fatal(err)
	}
}

// An answerSheet is the panel that knows which answers are right.
type answerSheet struct {
	now      time.Time
	right    []bool
	compared map[int]bool
}

func (a *answerSheet) Wants(_ int, c postgres.Case) (postgres.Taking, bool) {
	return postgres.Taking{}, c.Budget.Wait(a.now) == 0 && !c.Budget.Locked
}

func (a *answerSheet) Judge(i int, c postgres.Case) (postgres.Judgement, bool) {
	if a.compared == nil {
		a.compared = map[int]bool{}
	}
	a.compared[i] = true
	if a.right[i] {
		return postgres.Judgement{State: otp.Verified, Result: "verified", Factor: "sms", Budget: c.Budget.Succeed()}, true
	}
	j := postgres.Judgement{State: otp.Open, Result: "wrong", Budget: c.Budget.Fail(a.now)}
	if c.Left == 0 {
		j.State = otp.Exhausted
	}
	return j, true
}

func (*answerSheet) Refuse(int, postgres.Case, bool) {}

func (*answerSheet) Replayed(int, postgres.Case) postgres.Judgement { return postgres.Judgement{} }

func (*answerSheet) Tell(int, postgres.Case, postgres.Judgement, postgres.Gone) (postgres.Told, error) {
	return postgres.Told{}, nil
}

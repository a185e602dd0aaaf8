package challenge

import (
	"errors"
	"fmt"
	"time"

	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/limit"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file judges the addresses that a login could be asked over.

// A bar is what keeps a code from being sent over a channel; its zero value keeps nothing.
type bar struct {
	reason otp.Reason
	wait   time.Duration
	spend  *postgres.Limit // the cap that is reached
}

func (b bar) up() bool { return b.reason != "" }

// barOf judges a target. It counts nothing.
func barOf(t *limit.Target, u postgres.UserState) bar {
	switch {
	case t == nil || t.Test != nil:
		return bar{}
	case t.Barred || !t.Safe && pumped(t, u):
		return bar{reason: otp.BlockedDestination}
	}
	v := u.Ledger.Judge(t.Limits)
	if !v.Refused() {
		return bar{}
	}
	b := bar{reason: otp.RateLimited, wait: v.Wait}
	if v.Limit.Scope == limit.ScopeSpend {
		b.spend = &v.Limit
	}
	return b
}

func pumped(t *limit.Target, u postgres.UserState) bool {
	if u.Blocked == nil || t.Phone.Prefix == "" {
		return false
	}
	_, blocked := u.Blocked(t.Phone.Prefix)
	return blocked
}

// look finds the addresses that a login could be asked over, and what is known of each. One that cannot be opened here could not be sent to either.
func (l *login) look(u postgres.UserState) (reach, error) {
	r := l.reach(u)
	l.targets = map[otp.FactorKind]*limit.Target{}
	for _, kind := range [...]otp.FactorKind{otp.FactorSMS, otp.FactorEmail} {
		f, ok := r.has[kind]
		if !ok {
			continue
		}
		ch, _ := kind.Channel()
		if asked := otp.Channel(l.Channel); asked.Valid() && asked.Factor() == kind {
			ch = asked
		}
		address := l.vouched(kind)
		if address == "" {
			var err error
			if address, err = l.gate.Open(l.App, l.User, ch, f.Sealed); err != nil {
				if !errors.Is(err, keyring.ErrOpen) {
					return r, fmt.Errorf("open an address: %w", err)
				}
				l.targets[kind] = &limit.Target{Barred: true}
				continue
			}
		}
		t, err := l.gate.Target(limit.Sending{App: l.app, User: l.User, Channel: ch, Address: address, IP: l.ip, Challenge: l.id})
		if err != nil {
			return r, fmt.Errorf("judge an address: %w", err)
		}
		l.targets[kind] = t
	}
	return r, nil
}

func (l *login) vouched(kind otp.FactorKind) string {
	switch {
	case kind == otp.FactorSMS && len(l.sealedPhone) > 0:
		return l.Phone
	case kind == otp.FactorEmail && len(l.sealedMail) > 0:
		return l.Mail
	default:
		return ""
	}
}

// limits names all that a decision about the login may count in.
func (l *login) limits(u postgres.UserState, now time.Time) (out []postgres.Limit) {
	if _, refused := l.early(u, now); refused || l.passes(u) {
		return nil
	}
	if _, err := l.look(u); err != nil {
		return nil // decide meets it again, and refuses
	}
	for _, t := range l.targets {
		out = append(out, t.Limits...)
	}
	return out
}

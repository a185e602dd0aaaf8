package verification

import (
	"fmt"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// material is what an answer is compared with, made ready before the attempt is taken: a worker that lacks a key must not cost the user one.
type material struct {
	test    []byte   // of a challenge to a test destination: what its fixed code is compared with, in place of one that was sent
	code    string   // the channel code for the answer's transaction; empty where none was sent or it is not asked for
	factors []opened // the user's, of the kinds that give such an answer
}

// A proof is what an answer comes to when all that it could be was compared.
type proof struct {
	kind    otp.FactorKind // by which it is right; empty for a wrong one
	from    postgres.OwnedFactor
	advance *postgres.Advance
	key     *postgres.KeyUse
	cloned  bool // from may have been copied
}

// prepare derives the code, opens the secrets and digests what the answer may be compared with, and says what it has to take for that. It compares nothing.
// Its error says that the challenge's own factor cannot be judged here; a further factor that cannot be opened is left out and logged.
func (w *Worker) prepare(a *answer, c postgres.Case) (m material, take postgres.Taking, err error) {
	ch := c.Challenge
	if len(a.Credential) > 0 {
		take.Session = a.may(otp.FactorWebAuthn)
		return m, take, nil
	}
	switch a.Form {
	case otp.FormBackupCode:
		if a.may(otp.FactorBackupCode) && sameTransaction(ch.Transaction, a.Transaction) { // a code is not spent on what it cannot prove
			take.Backup, err = w.backupDigests(a.App, ch.User, a.Code)
		}
		return m, take, err
	case otp.FormDigits:
		if m.code, err = w.channelCode(a, ch); err != nil {
			return m, take, err
		}
		if ch.Test && sent(a, ch) {
			m.test = ch.TestCode
		}
	}
	var failed map[otp.FactorKind]error
	m.factors, failed = w.open(a.App, ch.User, c.Factors, a.Form, a.Factor)
	if err := failed[ch.Factor]; err != nil && !slices.ContainsFunc(m.factors, func(f opened) bool { return f.Kind == ch.Factor }) {
		return m, take, err
	}
	return m, take, nil
}

// may reports whether the answer may be one of this kind of factor: where it names a kind, of that one only.
func (a *answer) may(kind otp.FactorKind) bool { return a.Factor == "" || a.Factor == kind }

// channelCode is the code that was sent for the challenge, as it is for the answer's transaction; empty where none was, or another factor is named.
func (w *Worker) channelCode(a *answer, ch postgres.Answerable) (string, error) {
	if ch.Test || !sent(a, ch) {
		return "", nil
	}
	prf, err := w.Keys.CodePRF(ch.KeyID)
	if err != nil {
		return "", fmt.Errorf("code key: %w", err)
	}
	return otp.DeriveCode(prf, otp.CodeInput{App: a.App, Challenge: ch.ID, Nonce: ch.Nonce, Transaction: a.Transaction, Digits: ch.Digits})
}

// sent reports whether an answer may be a code that went out for the challenge.
func sent(a *answer, ch postgres.Answerable) bool {
	_, channel := ch.Factor.Channel()
	return channel && ch.Sends > 0 && channelOf(ch, a.Factor)
}

// channelOf reports whether an answer that names a factor, or none, may be the challenge's code: it has one code, over whichever of its channels it went.
func channelOf(ch postgres.Answerable, factor otp.FactorKind) bool {
	if factor == "" || factor == ch.Factor {
		return true
	}
	_, channel := factor.Channel()
	return channel && slices.Contains(ch.Methods, string(factor))
}

// compare tells by which factor an answer is right. Every way in which it could be right is tried before it returns, so that its time does not tell which it
// was.
func (w *Worker) compare(a *answer, c postgres.Case, now time.Time) (p proof) {
	switch {
	case len(a.Credential) > 0:
		p = w.signed(a, c, now)
	case c.Backup.Spent:
		p.kind = otp.FactorBackupCode
	default:
		if from, step, ok := w.typed(a.material.factors, a.Code, now, a.app.Policy); ok {
			p.kind, p.from, p.advance = from.Kind, from.OwnedFactor, &postgres.Advance{Factor: from.ID, Step: step}
		}
		if a.material.code != "" && otp.SameCode(a.material.code, a.Code) {
			p = proof{kind: c.Challenge.Factor}
		}
		if a.material.test != nil {
			fits, err := w.Keys.FitsTest(a.App, a.material.test, a.Code)
			if err != nil {
				w.Logger.Error("the code of a test destination could not be compared", "app", a.App, "challenge", c.Challenge.ID, "error", err)
			}
			if fits {
				p = proof{kind: c.Challenge.Factor}
			}
		}
	}
	if !sameTransaction(c.Challenge.Transaction, a.Transaction) {
		p.kind, p.advance = "", nil
	}
	return p
}

// sameTransaction holds an answer to the values that its challenge was made for, whatever factor it proves.
func sameTransaction(asked, answered *otp.Transaction) bool {
	if asked == nil || answered == nil {
		return asked == answered
	}
	return *asked == *answered
}

package enrolment

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file begins a recovery and sends its codes. A recovery lets its user enrol anew without a factor, so it takes two proofs (prove.go), every contact
// that can be reached at once hears of it and can stop it (due.go), and there is one at a time.

const (
	recoveryAttempts = 10             // proofs, right and wrong, of one recovery
	approveWithin    = 24 * time.Hour // in which the second agent has to approve
	recoveriesWithin = 24 * time.Hour // in which the policy bounds how many may be begun

	letterSends    = 2
	letterCooldown = 3 * 24 * time.Hour // the first one may still come
)

// errUnknownRecovery is the one answer to a recovery that is unknown, another's or over: nobody learns which.
var errUnknownRecovery = &otp.Problem{Reason: otp.UnknownRecovery, Message: "there is no such recovery under way for this app and session"}

var errUnderWay = &otp.Problem{Reason: otp.Conflict, Message: "a recovery of the user is under way; it must end first, or be cancelled"}

// errNoRecovery is the answer where there is nothing to recover or no way to, as where there is no such user.
var errNoRecovery = &otp.Problem{Reason: otp.NoFactorLeft, Message: "the user has no factor to recover, or has set no address to recover with"}

// A reset is a recovery as it is asked for.
type reset struct {
	session string   // empty for support's
	methods []string // all that the user has where none is named
	locale  string
	reason  string // of support, for the audit
	client  *event.Client
	seen    string // when the app last saw the password; support does without
}

// recoveryBegin begins a recovery for a user who has lost their factors, and has the password: who has neither must not even have codes sent.
func (w *Worker) recoveryBegin(ctx context.Context, c caller, r event.RecoveryBeginRequest) (any, error) {
	return w.beginRecovery(ctx, c, r.User, reset{session: r.Session, methods: r.Methods, locale: r.Locale, client: r.Client, seen: r.Reauthenticated})
}

func (w *Worker) beginRecovery(ctx context.Context, c caller, user string, r reset) (any, error) {
	var reply event.RecoveryReply
	err := w.act(ctx, c, user, func(a *act) (err error) {
		reply, err = a.beginRecovery(r)
		return err
	})
	return reply, err
}

func (a *act) beginRecovery(r reset) (event.RecoveryReply, error) {
	none := event.RecoveryReply{}
	a.client = r.client
	if a.caller.agent == "" {
		if err := a.reauthenticated(r.seen); err != nil {
			return none, err
		}
	}
	ways, err := a.ways(r.methods)
	if err != nil {
		return none, err
	}
	if err := a.mayBegin(ways); err != nil {
		return none, err
	}
	code, err := a.worker.newCode(uuid.Must(uuid.NewV7()), cancelDigits)
	if err != nil {
		return none, err
	}
	rec := postgres.Recovery{
		ID: code.ID, Session: r.session, State: otp.BeginRecovery(a.caller.agent != "", a.policy().SupportApproval), BegunBy: a.caller.agent, Reason: r.reason,
		Locale: r.locale, MaxAttempts: recoveryAttempts, Nonce: code.Nonce, KeyID: code.KeyID, CreatedAt: a.Now, ExpiresAt: a.longest(ways.contacts),
	}
	if rec.State == otp.RecoveryApproval {
		rec.ExpiresAt = a.Now.Add(approveWithin)
	}
	if err := a.BeginRecovery(rec); errors.Is(err, postgres.ErrUnderWay) {
		return none, errUnderWay
	} else if err != nil {
		return none, err
	}
	a.tellRecovery(event.RecoveryBegun, rec, event.RecoveryData{By: a.by(), ExpiresAt: event.Time(rec.ExpiresAt)})
	if err := a.audit("recovery.begun", note{factor: rec.ID, session: r.session, client: r.client, detail: begunDetail(ways.contacts, r.reason)}); err != nil {
		return none, err
	}
	if rec.State == otp.RecoveryApproval { // its user hears of it at once all the same, with the code that stops it
		if err = a.planCodes(rec, ways.contacts); err == nil {
			err = a.notifyRecovery(otp.NoticeRecoveryBegun, rec)
		}
	} else {
		err = a.openProofs(rec, ways.contacts)
	}
	if err != nil {
		return none, err
	}
	return a.recoveryReply(rec)
}

func begunDetail(contacts []postgres.Contact, reason string) map[string]any {
	methods := []string{}
	for _, c := range contacts {
		methods = append(methods, string(c.Method))
	}
	d := map[string]any{"methods": methods}
	if reason != "" {
		d["reason"] = reason
	}
	return d
}

// Ways are the proofs that a user could give.
type ways struct {
	lost       bool               // there is a factor to recover, and a contact
	contacts   []postgres.Contact // those chosen, set and allowed
	passphrase bool
	backup     bool // a backup code is left, and its user has said to have it
}

// ways finds out how a user could recover. It does the same work for everybody.
func (a *act) ways(methods []string) (ways, error) {
	factors, err := a.Factors()
	if err != nil {
		return ways{}, err
	}
	left, err := a.backupCodesLeft()
	if err != nil {
		return ways{}, err
	}
	p, err := a.Profile()
	if err != nil {
		return ways{}, err
	}
	contacts, passphrase, err := a.good(p)
	if err != nil {
		return ways{}, err
	}
	if p.ActivatedAt.IsZero() {
		left = 0 // nobody has said that the user has them
	}
	out := ways{passphrase: passphrase != "", backup: left > 0}
	serving := slices.ContainsFunc(factors, func(f postgres.OwnedFactor) bool { return f.State != otp.FactorConfirmed })
	out.lost = (serving || left > 0) && len(contacts) > 0
	allowed := a.policy().MethodsFor(p.Country)
	for _, c := range contacts {
		m := string(c.Method)
		if slices.Contains(allowed, m) && (len(methods) == 0 || slices.Contains(methods, m)) {
			out.contacts = append(out.contacts, c)
		}
	}
	return out, nil
}

// suffice reports whether all of them together would be proofs enough.
func (w ways) suffice() bool {
	var all []otp.ProofKind
	for _, c := range w.contacts {
		all = append(all, c.Method)
	}
	if w.passphrase {
		all = append(all, otp.ProofPassphrase)
	}
	if w.backup {
		all = append(all, otp.ProofBackupCode)
	}
	return otp.ProofsComplete(all)
}

// mayBegin refuses a recovery that could not be, or may not be now.
func (a *act) mayBegin(w ways) error {
	if !w.lost {
		return errNoRecovery
	}
	if a.Budget().Locked {
		return a.mayAnswer()
	}
	rec, open, err := a.openRecovery()
	if err != nil {
		return err
	}
	if open {
		late, err := a.expire(rec)
		if err != nil {
			return err
		}
		if !late {
			return errUnderWay
		}
	}
	last, err := a.NthRecovery(a.policy().RecoveriesPerDay)
	if err != nil {
		return err
	}
	if wait := last.Add(recoveriesWithin).Sub(a.Now); wait > 0 {
		return &otp.Problem{Reason: otp.RateLimited, Message: "too many recoveries of the user were begun within a day", RetryAfter: wait}
	}
	return w.check()
}

// check refuses ways by which nobody could give two different proofs.
func (w ways) check() error {
	if w.suffice() {
		return nil
	}
	return &otp.Problem{
		Reason: otp.NotAllowed, Field: "methods",
		Message: "by the methods that are set, asked for and allowed in the user's country, the user cannot give two different proofs: " +
			"it takes codes by two methods, or one and the passphrase or a backup code",
	}
}

// longest is when the code that lives longest expires: proofs are taken until then.
func (a *act) longest(contacts []postgres.Contact) time.Time {
	var life time.Duration
	for _, c := range contacts {
		life = max(life, otp.MethodLife(c.Method, c.Country, c.Region))
	}
	return a.Now.Add(life)
}

// planCodes keeps the methods that were chosen until the recovery is approved. No code is sent.
func (a *act) planCodes(rec postgres.Recovery, contacts []postgres.Contact) error {
	var codes []postgres.RecoveryCode
	for _, c := range contacts {
		codes = append(codes, postgres.RecoveryCode{ID: uuid.Must(uuid.NewV7()), Method: c.Method, Mask: c.Mask, NextSendAt: a.Now, ExpiresAt: rec.ExpiresAt})
	}
	return a.SetRecoveryCodes(rec.ID, codes)
}

// openProofs sends the codes and tells every email address and number, with the code that stops it. A postal address is not told: a letter would come too
// late to stop anything.
func (a *act) openProofs(rec postgres.Recovery, contacts []postgres.Contact) error {
	var codes []postgres.RecoveryCode
	var messages []postgres.Unsent
	for _, c := range contacts {
		code, err := a.recoveryCode(c.Method)
		if err != nil {
			return err
		}
		sent := postgres.RecoveryCode{
			ID: code.ID, Method: c.Method, Mask: c.Mask, Sends: 1, NextSendAt: a.Now.Add(cooldown(c.Method)),
			ExpiresAt: a.Now.Add(otp.MethodLife(c.Method, c.Country, c.Region)),
		}
		codes, messages = append(codes, sent), append(messages, recoveryMessage(code.ID, code, c, rec.Locale, sent.ExpiresAt))
	}
	if err := a.post(messages...); err != nil {
		return err
	}
	if err := a.SetRecoveryCodes(rec.ID, codes); err != nil {
		return err
	}
	return a.notifyRecovery(otp.NoticeRecoveryBegun, rec)
}

// recoveryMessage is the message with a code to a contact.
func recoveryMessage(id uuid.UUID, code postgres.Code, to postgres.Contact, locale string, expires time.Time) postgres.Unsent {
	m := postgres.Message{
		ID: id, Channel: string(channelOf(to.Method)), Purpose: event.PurposeRecovery, Sealed: to.Sealed, Mask: to.Mask, Locale: locale, ExpiresAt: expires,
	}
	m.SetCode(code)
	return postgres.Unsent{Message: m, Number: 1}
}

func (a *act) recoveryCode(method otp.ProofKind) (postgres.Code, error) {
	digits := codeDigits
	if method == otp.ProofLetter {
		digits = letterDigits
	}
	return a.worker.newCode(uuid.Must(uuid.NewV7()), digits)
}

func cooldown(method otp.ProofKind) time.Duration {
	if method == otp.ProofLetter {
		return letterCooldown
	}
	return codeCooldown
}

func sends(method otp.ProofKind) int {
	if method == otp.ProofLetter {
		return letterSends
	}
	return codeSends
}

// recoveryResend sends the code of one method once more. One that has expired meanwhile, while proofs are still taken, is replaced: of a recovery by
// letter and phone the number's code lives for ten minutes and the letter takes days. The attempts of the recovery stay what they are.
func (w *Worker) recoveryResend(ctx context.Context, c caller, r event.RecoveryResendRequest) (any, error) {
	var reply event.ResendReply
	err := w.recovering(ctx, c, uuid.MustParse(r.Recovery), func(a *act, rec postgres.Recovery) error {
		if rec.Session != "" && rec.Session != r.Session {
			return errUnknownRecovery // who takes it over does so with a proof
		}
		if err := a.provable(rec, otp.ProofKind(r.Method), rec.Proofs); err != nil {
			return err
		}
		codes, err := a.RecoveryCodes(rec.ID)
		if err != nil {
			return err
		}
		code := codes[slices.IndexFunc(codes, func(c postgres.RecoveryCode) bool { return string(c.Method) == r.Method })] // provable found it
		most := sends(code.Method)
		switch {
		case code.Sends >= most:
			return &otp.Problem{Reason: otp.RateLimited, Message: "the code was sent as often as it may be"}
		case a.Now.Before(code.NextSendAt):
			return &otp.Problem{Reason: otp.RateLimited, Message: "the code was sent a short time ago", RetryAfter: code.NextSendAt.Sub(a.Now)}
		}
		sent, err := a.sendRecoveryCode(rec, code, most)
		if err != nil {
			return err
		}
		reply = event.ResendReply{SendsLeft: most - sent.Sends, To: sent.Mask}
		if reply.SendsLeft > 0 {
			reply.RetryAfter = otp.Seconds(cooldown(code.Method))
		}
		return a.audit("recovery.resent", note{factor: rec.ID, session: r.Session, detail: map[string]any{"method": r.Method}})
	})
	return reply, err
}

// sendRecoveryCode writes a message of its own with the same code, or with another where that has expired.
func (a *act) sendRecoveryCode(rec postgres.Recovery, old postgres.RecoveryCode, most int) (postgres.RecoveryCode, error) {
	contacts, err := a.Contacts()
	if err != nil {
		return old, err
	}
	i := slices.IndexFunc(contacts, func(c postgres.Contact) bool { return c.Method == old.Method })
	if i < 0 {
		return old, errUnknownRecovery // contacts stay while a recovery is under way
	}
	to, next := contacts[i], old
	next.ID, next.Sends, next.NextSendAt = uuid.Must(uuid.NewV7()), old.Sends+1, a.Now.Add(cooldown(old.Method))
	var code postgres.Code
	if a.Now.Before(old.ExpiresAt) {
		m, found, err := a.Message(old.ID)
		if err != nil || !found {
			return old, cmp.Or(err, error(errUnknownRecovery))
		}
		code, _ = m.Code()
	} else {
		if code, err = a.recoveryCode(old.Method); err != nil {
			return old, err
		}
		if next.ExpiresAt = a.Now.Add(otp.MethodLife(to.Method, to.Country, to.Region)); next.ExpiresAt.After(rec.ExpiresAt) {
			next.ExpiresAt = rec.ExpiresAt
		}
	}
	took, err := a.ResendRecoveryCode(rec.ID, old.ID, next, most)
	if err != nil || !took {
		return old, cmp.Or(err, error(errUnknownRecovery))
	}
	again := recoveryMessage(next.ID, code, to, rec.Locale, next.ExpiresAt)
	again.Earlier = old.Sends
	return next, a.post(again)
}

package enrolment

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file takes the proofs of a recovery. An attempt is taken before anything is compared, from the recovery and, where it was wrong, from the account.

// recoveryProve takes one proof. A wrong one is a reply, as it has counted. Letters take days, and sessions end: with the password, another session of the
// user's takes the recovery over by a right proof, and has to give all of them itself.
func (w *Worker) recoveryProve(ctx context.Context, c caller, r event.RecoveryProveRequest) (any, error) {
	method := otp.ProofKind(r.Method)
	var reply event.RecoveryProveReply
	err := w.recovering(ctx, c, uuid.MustParse(r.Recovery), func(a *act, rec postgres.Recovery) error {
		takeOver, given := rec.Session != "" && rec.Session != r.Session, rec.Proofs
		if takeOver {
			if a.reauthenticated(r.Reauthenticated) != nil {
				return errUnknownRecovery // as to anybody else
			}
			given = nil
		}
		if err := a.provable(rec, method, given); err != nil {
			return err // a stranger's request meets no budget
		}
		if err := a.mayAnswer(); err != nil {
			return err
		}
		rec, found, err := a.ClaimRecovery(rec.ID, r.Session, method, takeOver)
		switch {
		case err != nil:
			return err
		case !found:
			return errUnknownRecovery
		}
		right, err := a.compareProof(ctx, rec, method, r.Code)
		if err != nil {
			return err
		}
		reply = event.RecoveryProveReply{Result: event.ResultWrong}
		if right {
			reply.Result = event.ResultProven
			rec, err = a.proven(rec, given, method, r)
		} else {
			rec, err = a.notProven(rec, method, r)
		}
		if err != nil {
			return err
		}
		reply.AttemptsLeft, reply.RetryAfter = max(0, rec.MaxAttempts-rec.Attempts), otp.Seconds(a.Budget().Wait(a.Now))
		reply.RecoveryReply, err = a.recoveryReply(rec)
		return err
	})
	return reply, err
}

// recovering runs fn with the recovery that an id names, whatever its state.
func (w *Worker) recovering(ctx context.Context, c caller, id uuid.UUID, fn func(*act, postgres.Recovery) error) error {
	user, found, err := w.store.RecoveryOwner(ctx, c.app.ID, id)
	if err != nil {
		return err
	}
	if !found {
		return errUnknownRecovery
	}
	return w.act(ctx, c, user, func(a *act) error {
		rec, found, err := a.Recovery(id)
		switch {
		case err != nil:
			return err
		case !found:
			return errUnknownRecovery // erased just now
		}
		return fn(a, rec)
	})
}

// provable refuses what no proof by this method can be given to now, where some were given.
func (a *act) provable(rec postgres.Recovery, method otp.ProofKind, given []otp.ProofKind) error {
	switch {
	case rec.State.Ended(), rec.State == otp.RecoveryWaiting, !a.Now.Before(rec.ExpiresAt):
		return errUnknownRecovery
	case rec.State == otp.RecoveryApproval:
		return &otp.Problem{Reason: otp.ApprovalRequired, Message: "a second support agent has to approve the recovery before proofs are taken"}
	case slices.Contains(given, method):
		return &otp.Problem{Reason: otp.Conflict, Field: "method", Message: "this proof was given already; it takes another one"}
	case !method.IsCode():
		return nil
	}
	codes, err := a.RecoveryCodes(rec.ID)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(codes, func(c postgres.RecoveryCode) bool { return c.Method == method }) {
		return &otp.Problem{Reason: otp.NotAllowed, Field: "method", Message: "method is not one of this recovery's"}
	}
	return nil
}

// compareProof tells whether a proof is right. A code that has expired is wrong; a backup code that is right is spent, and none is before its user has said
// to have them.
func (a *act) compareProof(ctx context.Context, rec postgres.Recovery, method otp.ProofKind, value string) (bool, error) {
	switch method {
	case otp.ProofPassphrase:
		p, err := a.Profile()
		if err != nil {
			return false, err
		}
		_, passphrase, err := a.good(p)
		if err != nil {
			return false, err
		}
		return checkPassphrase(ctx, passphrase, value)
	case otp.ProofBackupCode:
		sums, err := a.worker.Keys.Digests(otp.BackupCodeLabel, []byte(a.caller.app.Name), []byte(a.Who.User), []byte(value))
		if err != nil {
			return false, err
		}
		digests := make([][]byte, len(sums))
		for i, s := range sums {
			digests[i] = s[:]
		}
		use, err := a.UseBackupCode(digests)
		return use.Spent, err
	}
	codes, err := a.RecoveryCodes(rec.ID)
	if err != nil {
		return false, err
	}
	for _, c := range codes {
		if c.Method != method || !a.Now.Before(c.ExpiresAt) {
			continue
		}
		m, found, err := a.Message(c.ID)
		if err != nil || !found {
			return false, err
		}
		return a.answers(m, value)
	}
	return false, nil
}

// proven adds a proof to those given in this session, and with the one that completes them begins the waiting time, or carries the recovery out where there
// is none.
func (a *act) proven(rec postgres.Recovery, given []otp.ProofKind, method otp.ProofKind, r event.RecoveryProveRequest) (postgres.Recovery, error) {
	wait, was := a.policy().RecoveryWait, rec.Session
	next := rec.State.Proven(append(slices.Clone(given), method), wait)
	effective := time.Time{}
	if next != otp.RecoveryProving {
		effective = a.Now.Add(wait)
	}
	rec, err := a.ProveRecovery(rec.ID, r.Session, method, next, effective)
	if err != nil {
		return rec, err
	}
	if was != "" && was != r.Session {
		if err := a.audit("recovery.taken_over", note{factor: rec.ID, session: r.Session, client: r.Client}); err != nil {
			return rec, err
		}
	}
	a.tellRecovery(event.RecoveryProven, rec, event.RecoveryData{Proof: r.Method, Proven: proofNames(rec.Proofs), ExpiresAt: event.Time(rec.ExpiresAt)})
	if err := a.audit("recovery.proven", note{factor: rec.ID, session: r.Session, client: r.Client, detail: map[string]any{"proof": r.Method}}); err != nil {
		return rec, err
	}
	if method == otp.ProofBackupCode {
		if err := a.backupCodeUsed(r.Session); err != nil {
			return rec, err
		}
	}
	switch {
	case next == otp.RecoveryWaiting:
		a.tellRecovery(event.RecoveryWaiting, rec, event.RecoveryData{Proven: proofNames(rec.Proofs), EffectiveAt: event.Time(effective)})
		if err := a.audit("recovery.waiting", note{factor: rec.ID, session: r.Session}); err != nil {
			return rec, err
		}
		return rec, a.notifyRecovery(otp.NoticeRecoveryWaiting, rec)
	case next == otp.RecoveryCompleted:
		return rec, a.carryOut(rec)
	case rec.Attempts >= rec.MaxAttempts:
		return a.exhausted(rec, r.Session)
	}
	return rec, a.notifyRecovery(otp.NoticeRecoveryProven, rec)
}

// backupCodeUsed tells that a backup code is spent.
func (a *act) backupCodeUsed(session string) error {
	left, err := a.backupCodesLeft()
	if err != nil {
		return err
	}
	a.tell(event.BackupCodeUsed, event.BackupCodeUsedData{User: a.Who.User, Session: session, Left: left})
	if err := a.audit("backup_code.used", note{session: session, detail: map[string]any{"left": left}}); err != nil {
		return err
	}
	if left <= otp.BackupCodesLow {
		if err := a.notify(otp.NoticeBackupCodesLow, event.NoticeDetail{Left: left}); err != nil {
			return err
		}
	}
	return a.notify(otp.NoticeBackupCodeUsed, event.NoticeDetail{Left: left})
}

// notProven counts a wrong proof; the last one that the recovery takes ends it.
func (a *act) notProven(rec postgres.Recovery, method otp.ProofKind, r event.RecoveryProveRequest) (postgres.Recovery, error) {
	if _, err := a.wrong(); err != nil {
		return rec, err
	}
	if err := a.audit("recovery.wrong", note{factor: rec.ID, session: r.Session, client: r.Client, detail: map[string]any{"proof": method}}); err != nil {
		return rec, err
	}
	if rec.Attempts < rec.MaxAttempts {
		return rec, nil
	}
	return a.exhausted(rec, r.Session)
}

// exhausted ends a recovery that takes no more proofs and does not have them.
func (a *act) exhausted(rec postgres.Recovery, session string) (postgres.Recovery, error) {
	if err := a.cancelRecovery(rec, event.BySystem, "exhausted", session, nil); err != nil {
		return rec, err
	}
	rec.State, rec.EndedAt = otp.RecoveryCancelled, a.Now
	return rec, nil
}

func proofNames(proofs []otp.ProofKind) []string {
	out := make([]string, len(proofs))
	for i, p := range proofs {
		out[i] = string(p)
	}
	return out
}

package enrolment

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file ends recoveries: it carries them out when their waiting time is over, lets them expire, and cancels them for whoever may.

// errNotDue undoes an act that finds nothing to do: it leaves not even the account's row behind.
var errNotDue = errors.New("the recovery is not due any more")

// recoveriesDue carries out what has waited long enough, and ends what was not approved or proven in time.
func (w *Worker) recoveriesDue(ctx context.Context) error {
	due, err := w.store.DueRecoveries(ctx, w.Now(), sweepLimit)
	if err != nil {
		return err
	}
	var failed error
	for _, d := range due {
		if err := w.end(ctx, d); err != nil && !errors.Is(err, errNotDue) {
			failed = errors.Join(failed, fmt.Errorf("end recovery %s: %w", d.ID, err))
		}
	}
	return failed
}

func (w *Worker) end(ctx context.Context, d postgres.DueRecovery) error {
	app, err := w.apps.ByID(ctx, d.Who.AppID)
	if err != nil {
		return err
	}
	return w.act(ctx, caller{app: app, system: true}, d.Who.User, func(a *act) error {
		rec, found, err := a.Recovery(d.ID)
		if err != nil || !found {
			return cmp.Or(err, errNotDue)
		}
		done := false
		if rec.State == otp.RecoveryWaiting {
			if done, err = a.CompleteRecovery(rec.ID); err == nil && done {
				err = a.carryOut(rec)
			}
		} else {
			done, err = a.expire(rec)
		}
		if err == nil && !done {
			err = errNotDue
		}
		return err
	})
}

// carryOut does what a recovery is for, once its row says that it is completed: all that the user proved with is void, and the user enrols anew. Contacts
// and passphrase stay, for the next time; so does the account's budget, as a recovery proves nothing about what was guessed.
func (a *act) carryOut(rec postgres.Recovery) error {
	if err := a.void(event.RemovedRecovery, event.RevokedRecovery, rec.Session, nil); err != nil {
		return err
	}
	if err := a.WithdrawRecoveryCodes(rec.ID); err != nil {
		return err
	}
	a.tellRecovery(event.RecoveryCompleted, rec, event.RecoveryData{Proven: proofNames(rec.Proofs), EffectiveAt: event.Time(rec.EffectiveAt)})
	if err := a.audit("recovery.completed", note{factor: rec.ID, session: rec.Session, detail: map[string]any{"proofs": rec.Proofs}}); err != nil {
		return err
	}
	return a.notify(otp.NoticeRecoveryCompleted, event.NoticeDetail{})
}

// expire ends a recovery that was not approved or proven in time, and tells whether that is so.
func (a *act) expire(rec postgres.Recovery) (bool, error) {
	late, err := a.ExpireRecovery(rec.ID)
	if err != nil || !late {
		return false, err
	}
	if err := a.WithdrawRecoveryCodes(rec.ID); err != nil {
		return false, err
	}
	a.tellRecovery(event.RecoveryExpired, rec, event.RecoveryData{})
	if err := a.audit("recovery.expired", note{factor: rec.ID}); err != nil {
		return true, err
	}
	return true, a.notify(otp.NoticeRecoveryCancelled, event.NoticeDetail{})
}

// cancelRecovery ends a recovery that is under way, and nothing has changed but that it has ended.
func (a *act) cancelRecovery(rec postgres.Recovery, by, why, session string, client *event.Client) error {
	ok, err := a.EndRecovery(rec.ID, otp.RecoveryCancelled, why, otp.RecoveryApproval, otp.RecoveryProving, otp.RecoveryWaiting)
	if err != nil || !ok {
		return cmp.Or(err, error(errUnknownRecovery))
	}
	if err := a.WithdrawRecoveryCodes(rec.ID); err != nil {
		return err
	}
	rec.Session = session
	a.tellRecovery(event.RecoveryCancelled, rec, event.RecoveryData{By: by})
	if err := a.audit("recovery.cancelled", note{factor: rec.ID, session: session, client: client, detail: map[string]any{"why": why}}); err != nil {
		return err
	}
	return a.notify(otp.NoticeRecoveryCancelled, event.NoticeDetail{})
}

// recoveryCancel stops a recovery for the session that it belongs to, for another one of the user's in which the password was just entered, or for whoever
// has the code that every notice of it carries. A session alone would not do: whoever has one could keep its user from ever recovering.
func (w *Worker) recoveryCancel(ctx context.Context, c caller, r event.RecoveryCancelRequest) (any, error) {
	var refused *otp.Problem
	err := w.act(ctx, c, r.User, func(a *act) error {
		refused = nil
		rec, open, err := a.openRecovery()
		if err != nil || !open {
			return cmp.Or(err, error(errUnknownRecovery))
		}
		if r.Code == "" && (rec.Session == "" || rec.Session != r.Session) {
			if err := a.reauthenticated(r.Reauthenticated); err != nil {
				return err
			}
		}
		if r.Code != "" { // compared while the account waits and when it is locked: nobody's wrong answers may keep the user from stopping it
			same, err := a.worker.sameCode(c.app.Name, postgres.Code{ID: rec.ID, Nonce: rec.Nonce, KeyID: rec.KeyID, Digits: cancelDigits}, r.Code)
			if err != nil {
				return err
			}
			if !same {
				refused, err = a.wrongCancel(rec, r)
				return err
			}
		}
		return a.cancelRecovery(rec, event.ByUser, "cancelled", r.Session, r.Client)
	})
	if err == nil && refused != nil {
		err = refused
	}
	if err != nil {
		return nil, err
	}
	return event.RecoveryCancelReply{Cancelled: true}, nil
}

// wrongCancel counts a wrong code, which is committed before it is told. While the account waits it is not counted again: whoever guesses at this code, which
// lets nobody in, must not lock the account faster than by any other answer.
func (a *act) wrongCancel(rec postgres.Recovery, r event.RecoveryCancelRequest) (*otp.Problem, error) {
	b := a.Budget()
	if !b.Locked && b.Wait(a.Now) == 0 {
		var err error
		if b, err = a.wrong(); err != nil {
			return nil, err
		}
	}
	return &otp.Problem{Reason: otp.WrongCode, Field: "code", Message: "code is wrong", RetryAfter: b.Wait(a.Now)},
		a.audit("recovery.cancel_refused", note{factor: rec.ID, session: r.Session, client: r.Client})
}

// dropRecovery cancels what is under way, where there is nothing left to recover.
func (a *act) dropRecovery(why, session string) error {
	rec, open, err := a.openRecovery()
	if err != nil || !open {
		return err
	}
	return a.cancelRecovery(rec, a.by(), why, session, nil)
}

package enrolment

import (
	"cmp"
	"context"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is what support agents may do: look, begin a reset, and have a second agent approve it. An agent neither sees nor chooses a code, gives no
// proof and removes no factor; what becomes of a reset that is approved is the user's.

// supportFind shows what a user has, masked. An unknown user has nothing, and is answered like one who has not.
func (w *Worker) supportFind(ctx context.Context, c caller, r event.SupportUserRequest) (any, error) {
	var reply event.SupportFindReply
	err := w.view(ctx, c, r.User, func(a *act) error {
		list, err := a.list()
		if err != nil {
			return err
		}
		reply = event.SupportFindReply{
			Factors: list.Factors, Activated: list.Activated, BackupCodesLeft: list.BackupCodesLeft, Locked: a.Budget().Locked,
			RetryAfter: otp.Seconds(a.Budget().Wait(a.Now)),
		}
		devices, err := a.Devices()
		if err != nil {
			return err
		}
		reply.Devices = len(devices)
		if reply.Preferences, err = a.preferences(); err != nil {
			return err
		}
		rec, found, err := a.Recovery(uuid.Nil)
		if err != nil {
			return err
		}
		reply.Recovery.State = "none"
		if found {
			if reply.Recovery, err = a.recoveryReply(rec); err != nil {
				return err
			}
			if rec.BegunBy != "" && !rec.State.Ended() { // who is to approve has to know what, and by whom
				reply.BegunBy, reply.Reason = rec.BegunBy, rec.Reason
			}
		}
		return a.looked("find")
	})
	return reply, err
}

// supportBegin begins a reset. Where the policy asks for a second agent, nothing is sent before that one approves.
func (w *Worker) supportBegin(ctx context.Context, c caller, r event.SupportBeginRequest) (any, error) {
	return w.beginRecovery(ctx, c, r.User, reset{methods: r.Methods, locale: r.Locale, reason: r.Reason})
}

// supportApprove sends the codes of a reset that another agent has begun.
func (w *Worker) supportApprove(ctx context.Context, c caller, r event.SupportRecoveryRequest) (any, error) {
	var reply event.RecoveryReply
	err := w.recovering(ctx, c, uuid.MustParse(r.Recovery), func(a *act, rec postgres.Recovery) error {
		if err := a.decidable(rec, "another agent must approve it"); err != nil {
			return err
		}
		codes, err := a.RecoveryCodes(rec.ID)
		if err != nil {
			return err
		}
		var methods []string
		for _, c := range codes {
			methods = append(methods, string(c.Method))
		}
		ways, err := a.ways(methods) // the policy may be another by now, and backup codes spent
		if err != nil {
			return err
		}
		if !ways.lost {
			return errNoRecovery
		}
		if err := ways.check(); err != nil {
			return err
		}
		until := a.longest(ways.contacts)
		ok, err := a.ApproveRecovery(rec.ID, c.agent, until)
		if err != nil || !ok {
			return cmp.Or(err, error(errUnknownRecovery))
		}
		rec.State, rec.ApprovedBy, rec.ExpiresAt = otp.RecoveryProving, c.agent, until
		a.tellRecovery(event.RecoveryApproved, rec, event.RecoveryData{By: a.by(), ExpiresAt: event.Time(until)})
		if err := a.audit("recovery.approved", note{factor: rec.ID}); err != nil {
			return err
		}
		if err := a.openProofs(rec, ways.contacts); err != nil {
			return err
		}
		reply, err = a.recoveryReply(rec)
		return err
	})
	return reply, err
}

// decidable refuses a reset that does not wait for a second agent, or whose first agent is this one.
func (a *act) decidable(rec postgres.Recovery, words string) error {
	switch {
	case rec.State.Ended(), rec.State == otp.RecoveryApproval && !a.Now.Before(rec.ExpiresAt):
		return errUnknownRecovery
	case rec.State != otp.RecoveryApproval:
		return &otp.Problem{Reason: otp.Conflict, Message: "the recovery does not wait for an approval"}
	case rec.BegunBy == a.caller.agent:
		return &otp.Problem{Reason: otp.NotAllowed, Message: "the recovery was begun by this very agent; " + words}
	}
	return nil
}

// supportRefuse ends a reset that another agent has begun.
func (w *Worker) supportRefuse(ctx context.Context, c caller, r event.SupportRecoveryRequest) (any, error) {
	var reply event.RecoveryReply
	err := w.recovering(ctx, c, uuid.MustParse(r.Recovery), func(a *act, rec postgres.Recovery) error {
		if err := a.decidable(rec, "it can be cancelled instead"); err != nil {
			return err
		}
		ok, err := a.EndRecovery(rec.ID, otp.RecoveryRefused, "refused", otp.RecoveryApproval)
		if err != nil || !ok {
			return cmp.Or(err, error(errUnknownRecovery))
		}
		rec.State = otp.RecoveryRefused
		a.tellRecovery(event.RecoveryRefused, rec, event.RecoveryData{By: a.by()})
		if err := a.audit("recovery.refused", note{factor: rec.ID}); err != nil {
			return err
		}
		// The user hears of it: somebody has asked for this in their name.
		if err := a.notify(otp.NoticeRecoveryCancelled, event.NoticeDetail{}); err != nil {
			return err
		}
		reply, err = a.recoveryReply(rec)
		return err
	})
	return reply, err
}

// supportCancel stops a recovery that is under way, whoever has begun it.
func (w *Worker) supportCancel(ctx context.Context, c caller, r event.SupportRecoveryRequest) (any, error) {
	var reply event.RecoveryReply
	err := w.recovering(ctx, c, uuid.MustParse(r.Recovery), func(a *act, rec postgres.Recovery) error {
		if err := a.cancelRecovery(rec, a.by(), "cancelled by support", "", nil); err != nil {
			return err
		}
		rec.State = otp.RecoveryCancelled
		var err error
		reply, err = a.recoveryReply(rec)
		return err
	})
	return reply, err
}

// supportStatus tells where the latest recovery of a user stands.
func (w *Worker) supportStatus(ctx context.Context, c caller, r event.SupportUserRequest) (any, error) {
	return w.whereItStands(ctx, c, r.User, uuid.Nil)
}

// looked writes down that an agent has looked at a user, known or not.
func (a *act) looked(verb string) error {
	return a.audit("support.looked", note{detail: map[string]any{"verb": verb}})
}

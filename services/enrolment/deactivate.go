package enrolment

import (
	"context"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file lets a user have no second factor any more: by an intent, with the proof, and its confirmation.

// deactivateBegin takes the intent.
func (w *Worker) deactivateBegin(ctx context.Context, c caller, r event.DeactivateBeginRequest) (any, error) {
	var reply event.DeactivateBeginReply
	ready := func(a *act) error {
		factors, err := a.Factors()
		if err == nil && len(factors) == 0 {
			err = errNothing
		}
		return err
	}
	err := w.weaken(ctx, c, r.Owner, r.Proof, ready, func(a *act) error {
		if err := ready(a); err != nil {
			return err
		}
		cer := postgres.Ceremony{
			ID: uuid.Must(uuid.NewV7()), Session: r.Session, Kind: kindDeactivate, MaxAttempts: 1, ExpiresAt: a.Now.Add(a.policy().CeremonyLife),
		}
		reply = event.DeactivateBeginReply{Ceremony: cer.ID.String(), ExpiresAt: event.Time(cer.ExpiresAt)}
		if err := a.BeginCeremony(cer); err != nil {
			return err
		}
		return a.audit("deactivate.begun", note{factor: cer.ID, session: r.Session, client: r.Client})
	})
	return reply, err
}

// deactivateConfirm carries it out.
func (w *Worker) deactivateConfirm(ctx context.Context, c caller, r event.DeactivateConfirmRequest) (any, error) {
	id := uuid.MustParse(r.Ceremony)
	err := w.claimed(ctx, c, id, r.Session, func(a *act, cer postgres.Ceremony) error {
		if cer.Kind != kindDeactivate {
			return errUnknownCeremony // the claim is undone with the act
		}
		if err := a.EndCeremony(cer.ID, "confirmed"); err != nil {
			return err
		}
		if err := a.void("deactivated", event.RevokedFactorsChanged, r.Session, nil); err != nil {
			return err
		}
		if err := a.dropRecovery("deactivated", r.Session); err != nil {
			return err
		}
		if err := a.forgetPreferences(r.Session); err != nil {
			return err
		}
		a.tell(event.Deactivated, event.DeactivatedData{User: a.Who.User, Session: r.Session})
		if err := a.audit("deactivate.confirmed", note{factor: id, session: r.Session}); err != nil {
			return err
		}
		return a.notify(otp.NoticeDeactivated, event.NoticeDetail{})
	})
	if err != nil {
		return nil, err
	}
	return event.DeactivateConfirmReply{Deactivated: true}, nil
}

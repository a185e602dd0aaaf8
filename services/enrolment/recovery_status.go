package enrolment

import (
	"context"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file tells where a recovery stands.

// recoveryStatus tells where a recovery stands.
func (w *Worker) recoveryStatus(ctx context.Context, c caller, r event.RecoveryStatusRequest) (any, error) {
	only := uuid.Nil
	if r.Recovery != "" {
		only = uuid.MustParse(r.Recovery)
	}
	return w.whereItStands(ctx, c, r.User, only)
}

func (w *Worker) whereItStands(ctx context.Context, c caller, user string, only uuid.UUID) (reply event.RecoveryReply, err error) {
	err = w.view(ctx, c, user, func(a *act) (err error) {
		if reply, err = a.latestRecovery(only); err == nil && c.agent != "" {
			err = a.looked("status")
		}
		return err
	})
	return reply, err
}

// latestRecovery tells of the recovery named, or of the latest; of none where there is none.
func (a *act) latestRecovery(only uuid.UUID) (event.RecoveryReply, error) {
	rec, found, err := a.Recovery(only)
	if err != nil || !found {
		return event.RecoveryReply{State: "none"}, err
	}
	return a.recoveryReply(rec)
}

// openRecovery returns the recovery that is under way, also one whose time is over and whose end was not written yet.
func (a *act) openRecovery() (rec postgres.Recovery, open bool, err error) {
	rec, found, err := a.Recovery(uuid.Nil) // what is under way comes first
	return rec, found && !rec.State.Ended(), err
}

// recoveryReply is a recovery as people may see it.
func (a *act) recoveryReply(rec postgres.Recovery) (event.RecoveryReply, error) {
	reply := event.RecoveryReply{
		Recovery: rec.ID.String(), State: string(rec.State), Proven: proofNames(rec.Proofs), ExpiresAt: event.Time(rec.ExpiresAt),
		EffectiveAt: event.OptionalTime(rec.EffectiveAt),
	}
	giving := rec.State == otp.RecoveryApproval || rec.State == otp.RecoveryProving
	if giving && !a.Now.Before(rec.ExpiresAt) {
		giving, reply.State = false, string(otp.RecoveryExpired) // the sweeper will write it down
	}
	codes, err := a.RecoveryCodes(rec.ID)
	if err != nil {
		return reply, err
	}
	if reply.Methods, err = a.methodInfos(codes, giving); err != nil || !giving {
		return reply, err
	}
	reply.Needed = 2
	if len(rec.Proofs) > 0 {
		reply.Needed = 1
	}
	w, err := a.ways(nil)
	reply.Passphrase, reply.BackupCode = w.passphrase, w.backup
	return reply, err
}

func (a *act) methodInfos(codes []postgres.RecoveryCode, giving bool) ([]event.RecoveryMethodInfo, error) {
	ids := make([]uuid.UUID, len(codes))
	for i, c := range codes {
		ids[i] = c.ID
	}
	states, err := a.DeliveryStates(ids)
	if err != nil {
		return nil, err
	}
	var out []event.RecoveryMethodInfo
	for _, c := range codes {
		info := event.RecoveryMethodInfo{Method: string(c.Method), To: c.Mask, State: string(otp.DeliveryQueued), ExpiresAt: event.Time(c.ExpiresAt)}
		if s, found := states[c.ID]; found {
			info.State = string(s)
		} else if c.Sends > 0 {
			info.State = string(otp.DeliveryUnconfirmed) // what became of it was dropped with its day
		}
		if giving && c.Sends > 0 && c.ProvenAt.IsZero() {
			if info.SendsLeft = sends(c.Method) - c.Sends; info.SendsLeft > 0 {
				info.RetryAfter = otp.Seconds(c.NextSendAt.Sub(a.Now))
			}
		}
		out = append(out, info)
	}
	return out, nil
}

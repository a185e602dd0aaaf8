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

// This file lists, renames, prefers and removes the factors that a user has.

// factorList lists a user's factors. An unknown user has none, and is answered like one.
func (w *Worker) factorList(ctx context.Context, c caller, r event.FactorListRequest) (any, error) {
	var reply event.FactorListReply
	err := w.view(ctx, c, r.User, func(a *act) (err error) {
		reply, err = a.list()
		return err
	})
	return reply, err
}

func (a *act) list() (event.FactorListReply, error) {
	reply := event.FactorListReply{Factors: []event.FactorInfo{}}
	p, err := a.Profile()
	if err != nil {
		return reply, err
	}
	factors, err := a.Factors()
	if err != nil {
		return reply, err
	}
	for _, f := range factors {
		info := event.FactorInfo{
			Factor: f.ID.String(), Kind: string(f.Kind), Label: f.Label, State: string(f.State), To: f.Mask, Preferred: f.ID == p.Preferred,
			CreatedAt: event.Time(f.CreatedAt), LastUsedAt: event.OptionalTime(f.LastUsedAt),
		}
		if a.Now.Before(f.AloneAfter) {
			info.AloneAfter = event.Time(f.AloneAfter)
		}
		reply.Factors = append(reply.Factors, info)
	}
	reply.Activated = len(active(factors)) > 0
	for _, k := range p.Fallbacks {
		reply.Fallbacks = append(reply.Fallbacks, string(k))
	}
	reply.BackupCodesLeft, err = a.backupCodesLeft()
	return reply, err
}

var errUnknownFactor = &otp.Problem{Reason: otp.UnknownFactor, Field: "factor", Message: "factor is none of the user's"}

// factorRename gives a factor another label.
func (w *Worker) factorRename(ctx context.Context, c caller, r event.FactorRenameRequest) (any, error) {
	var reply event.FactorListReply
	err := w.act(ctx, c, r.User, func(a *act) error {
		id := uuid.MustParse(r.Factor)
		found, err := a.RenameFactor(id, r.Label)
		switch {
		case err != nil:
			return err
		case !found:
			return errUnknownFactor
		}
		if err := a.audit("factor.renamed", note{factor: id, session: r.Session}); err != nil {
			return err
		}
		reply, err = a.list()
		return err
	})
	return reply, err
}

// factorPrefer sets what logins ask for first, and the order of what comes after it.
func (w *Worker) factorPrefer(ctx context.Context, c caller, r event.FactorPreferRequest) (any, error) {
	var reply event.FactorListReply
	err := w.act(ctx, c, r.User, func(a *act) error {
		factors, err := a.Factors()
		if err != nil {
			return err
		}
		p, err := a.Profile()
		if err != nil {
			return err
		}
		if r.Factor != "" {
			id := uuid.MustParse(r.Factor)
			if !slices.ContainsFunc(active(factors), func(f postgres.OwnedFactor) bool { return f.ID == id }) {
				return errUnknownFactor
			}
			p.Preferred = id
		}
		if r.Fallbacks != nil {
			p.Fallbacks = nil
			for _, k := range r.Fallbacks {
				p.Fallbacks = append(p.Fallbacks, otp.FactorKind(k))
			}
		}
		if len(factors) == 0 {
			return errNothing
		}
		if err := a.SetProfile(p); err != nil {
			return err
		}
		if err := a.audit("factor.preferred", note{factor: p.Preferred, session: r.Session}); err != nil {
			return err
		}
		reply, err = a.list()
		return err
	})
	return reply, err
}

// errNothing is the answer where the user has no factor, as where there is no such user.
var errNothing = &otp.Problem{Reason: otp.NoFactorLeft, Message: "the user has no factor"}

// factorRemove removes a factor that is not the last. What the user wants who removes the last is deactivation.
func (w *Worker) factorRemove(ctx context.Context, c caller, r event.FactorRemoveRequest) (any, error) {
	id := uuid.MustParse(r.Factor)
	var reply event.FactorListReply
	err := w.weaken(ctx, c, r.Owner, r.Proof,
		func(a *act) error {
			_, err := a.removable(id)
			return err
		},
		func(a *act) error {
			f, err := a.removable(id)
			if err != nil {
				return err
			}
			if err := a.remove(f, "removed", r.Session, r.Client); err != nil {
				return err
			}
			if err := a.after(f, r.Session); err != nil {
				return err
			}
			reply, err = a.list()
			return err
		})
	return reply, err
}

// after does what the removal of a factor brings with it.
func (a *act) after(f postgres.OwnedFactor, session string) error {
	if f.State == otp.FactorConfirmed {
		left, err := a.Factors()
		if err != nil || len(left) > 0 {
			return err
		}
		return a.ReplaceBackupCodes(nil) // nothing waits for them any more
	}
	if err := a.endChallenges(); err != nil {
		return err
	}
	if f.State == otp.FactorSuspended { // its devices ended when it was suspended
		return nil
	}
	return a.changed(event.RevokedFactorsChanged, session)
}

// waiting are the factors that a session has proven and whose backup codes nobody has acknowledged.
func waiting(factors []postgres.OwnedFactor, session string) []postgres.OwnedFactor {
	var out []postgres.OwnedFactor
	for _, f := range factors {
		if f.State == otp.FactorConfirmed && f.Session == session {
			out = append(out, f)
		}
	}
	return out
}

// abandon removes what other sessions than this one have left waiting. No login asked for it, so nobody is told.
func (a *act) abandon(factors []postgres.OwnedFactor, session string, client *event.Client) error {
	for _, f := range factors {
		if f.State != otp.FactorConfirmed || f.Session == session {
			continue
		}
		if err := a.removeQuietly(f, "abandoned", session, client); err != nil {
			return err
		}
	}
	return nil
}

// removable finds a factor that may be removed: what is left must let the user in, and a new number or address cannot be all that is left yet.
func (a *act) removable(id uuid.UUID) (postgres.OwnedFactor, error) {
	factors, err := a.Factors()
	if err != nil {
		return postgres.OwnedFactor{}, err
	}
	i := slices.IndexFunc(factors, func(f postgres.OwnedFactor) bool { return f.ID == id })
	if i < 0 {
		return postgres.OwnedFactor{}, errUnknownFactor
	}
	f := factors[i]
	left := active(slices.Delete(slices.Clone(factors), i, i+1))
	if f.State == otp.FactorConfirmed {
		return f, nil // half a factor: no login asks for it
	}
	if len(left) == 0 {
		return f, &otp.Problem{Reason: otp.LastFactor, Field: "factor", Message: "factor is the last one; to have none is deactivation"}
	}
	if f.State == otp.FactorSuspended {
		return f, nil
	}
	soonest := left[0].AloneAfter
	for _, l := range left {
		if !a.Now.Before(l.AloneAfter) {
			return f, nil
		}
		if l.AloneAfter.Before(soonest) {
			soonest = l.AloneAfter
		}
	}
	return f, &otp.Problem{
		Reason: otp.CoolingOff, Field: "factor", RetryAfter: soonest.Sub(a.Now),
		Message: "what would be left was added too short a time ago to be all that the user has",
	}
}

// remove takes a factor away and tells of it.
func (a *act) remove(f postgres.OwnedFactor, reason, session string, client *event.Client) error {
	if err := a.removeQuietly(f, reason, session, client); err != nil || f.State == otp.FactorConfirmed {
		return err
	}
	return a.notify(otp.NoticeFactorRemoved, event.NoticeDetail{Factor: f.Kind, Label: f.Label})
}

// removeQuietly is remove without the notice, where another one tells of more.
func (a *act) removeQuietly(f postgres.OwnedFactor, reason, session string, client *event.Client) error {
	if _, err := a.SetFactorState(f.ID, otp.FactorRemoved, f.State); err != nil {
		return err
	}
	if f.State != otp.FactorConfirmed { // of one that never served nobody was told
		a.tell(event.FactorRemoved, event.FactorData{
			User: a.Who.User, Session: session, Factor: f.ID.String(), Kind: string(f.Kind), Label: f.Label, To: f.Mask, Reason: reason,
		})
	}
	return a.audit("factor.removed", note{factor: f.ID, session: session, client: client, detail: map[string]any{"kind": f.Kind, "reason": reason}})
}

// void takes away all that the user proves with: factors, backup codes, trusted devices, and the ceremonies and challenges under way.
func (a *act) void(reason, devices, session string, client *event.Client) error {
	factors, err := a.Factors()
	if err != nil {
		return err
	}
	for _, f := range factors {
		if err := a.removeQuietly(f, reason, session, client); err != nil {
			return err
		}
	}
	if err := a.ReplaceBackupCodes(nil); err != nil {
		return err
	}
	if err := a.CancelCeremonies(); err != nil {
		return err
	}
	if err := a.endChallenges(); err != nil {
		return err
	}
	p, err := a.Profile()
	if err != nil {
		return err
	}
	p.ActivatedAt, p.Preferred, p.Fallbacks = time.Time{}, uuid.Nil, nil
	if err := a.SetProfile(p); err != nil {
		return err
	}
	return a.changed(devices, session)
}

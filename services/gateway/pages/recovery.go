package pages

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file is the beginning of a recovery: what is on file, how it works, and what became of the last one. recovery_prove.go takes the proofs,
// recovery_end.go is the waiting, the stopping and the end.

// recoveryState is what the pages of this part remember. Neither a code nor a passphrase is among it.
type recoveryState struct {
	ID        string `json:"id"`                 // of the recovery that this visit follows
	Own       bool   `json:"own,omitzero"`       // it belonged to this session when it was begun or proven here; another may have taken it over since
	Whole     bool   `json:"whole,omitzero"`     // the last proof was given here: nobody can take it over any more
	Method    string `json:"method,omitzero"`    // the proof that is being given
	Exhausted bool   `json:"exhausted,omitzero"` // it ended since too many proofs were given
}

func (p *Pages) recoveryRoutes() {
	p.get("/recovery", p.recoveryStart)
	p.get("/recovery/begin", p.recoveryStart) // where a choice of language leads after a form that was wrong
	p.post("/recovery/begin", p.recoveryBegin)
	p.get("/recovery/prove", p.recoveryWays)
	p.post("/recovery/choose", p.recoveryChoose)
	p.get("/recovery/code", p.recoveryCode)
	p.post("/recovery/code", p.recoveryProve)
	p.post("/recovery/resend", p.recoveryResend)
	p.get("/recovery/waiting", p.recoveryWaiting)
	p.get("/recovery/cancel", p.recoveryCancelAsk)
	p.post("/recovery/cancel", p.recoveryCancel)
	p.get("/recovery/stop", p.recoveryStopAsk)
	p.post("/recovery/stop", p.recoveryStop)
	p.get("/recovery/stopped", p.recoveryStopped)
	p.get("/recovery/done", p.recoveryDone)
	p.post("/recovery/done", p.recoveryFinish)
}

// recovery asks where the user's recovery stands.
func (v *visit) recovery(ctx context.Context) (event.RecoveryReply, error) {
	return call[event.RecoveryReply](ctx, v, event.VerbRecoveryStatus, event.RecoveryStatusRequest{User: v.row.User})
}

// following returns what is remembered of a recovery. Of one that this visit has not met before that is nothing but its id.
func (v *visit) following(id string) *recoveryState {
	if v.state.Recovery == nil || v.state.Recovery.ID != id {
		v.state.Recovery = &recoveryState{ID: id}
	}
	return v.state.Recovery
}

// followed reports whether this visit has met a recovery before.
func (v *visit) followed(r event.RecoveryReply) bool {
	return r.Recovery != "" && v.state.Recovery != nil && v.state.Recovery.ID == r.Recovery
}

// own reports whether a recovery is known to be this session's.
func (v *visit) own(r event.RecoveryReply) bool { return v.followed(r) && v.state.Recovery.Own }

func recoveryUnderWay(state string) bool {
	return slices.Contains([]string{string(otp.RecoveryApproval), string(otp.RecoveryProving), string(otp.RecoveryWaiting)}, state)
}

// recoveryStartData is for the first page.
type recoveryStartData struct {
	Contacts   []event.ContactInfo // those that a code may go to
	Passphrase bool
	Backup     int    // codes left
	Wait       string // until a recovery takes effect; empty for none
	Enough     bool   // all of it makes two different proofs
	Nothing    bool   // there is no factor to recover
	Last       string // name of the text that says what became of the last recovery; empty for none
	Setup      bool   // one may be set up in this visit
	Challenge  bool   // the visit began with a challenge, which the user may go back to
}

// recoveryUnderWayData is for the page of a recovery that is under way.
type recoveryUnderWayData struct {
	State string
	To    string // where it goes on; empty where there is nothing to do but wait for support
}

// recoveryStart shows what there is to begin with, or leads on to what is under way.
func (p *Pages) recoveryStart(ctx context.Context, v *visit) error { return v.recoveryFirst(ctx, nil) }

func (v *visit) recoveryFirst(ctx context.Context, wrong []web.FieldError) error {
	now, err := v.recovery(ctx)
	if err != nil {
		return err
	}
	at := func(page *web.Page) { page.Path = "/recovery" }
	if recoveryUnderWay(now.State) {
		data := recoveryUnderWayData{State: now.State}
		switch now.State {
		case string(otp.RecoveryProving):
			data.To = "/recovery/prove"
		case string(otp.RecoveryWaiting):
			data.To = "/recovery/waiting"
		}
		return v.show(ctx, "recovery/underway", data, wrong, at)
	}
	list, err := call[event.FactorListReply](ctx, v, event.VerbFactorList, event.FactorListRequest{User: v.row.User})
	if err != nil {
		return err
	}
	if recovered(now, list) {
		return v.lead("/recovery/done")
	}
	if !v.fresh() {
		if last := v.last(now); last != "" { // said before anything is asked
			return v.show(ctx, "recovery/ended", last, wrong, at)
		}
		return v.needPassword(event.PageRecovery)
	}
	prefs, err := call[event.PreferencesReply](ctx, v, event.VerbRecoveryPreferences, event.PreferencesRequest{User: v.row.User})
	if err != nil {
		return err
	}
	return v.show(ctx, "recovery/start", v.onFile(now, list, prefs), wrong, at)
}

// recovered reports whether the user's last recovery was carried out and nothing was set up since.
func recovered(r event.RecoveryReply, list event.FactorListReply) bool {
	return r.State == string(otp.RecoveryCompleted) && len(list.Factors) == 0
}

// onFile puts together what a user could prove with. Whether it suffices the worker decides when a recovery begins; this is to say so beforehand.
func (v *visit) onFile(now event.RecoveryReply, list event.FactorListReply, prefs event.PreferencesReply) recoveryStartData {
	data := recoveryStartData{Passphrase: prefs.Passphrase, Challenge: v.row.Page == event.PageChallenge, Setup: v.within("/setup")}
	var proofs []otp.ProofKind
	for _, c := range prefs.Contacts {
		if slices.Contains(prefs.Allowed, c.Method) {
			data.Contacts = append(data.Contacts, c)
			proofs = append(proofs, otp.ProofKind(c.Method))
		}
	}
	if prefs.Passphrase {
		proofs = append(proofs, otp.ProofPassphrase)
	}
	if list.Activated && list.BackupCodesLeft > 0 {
		data.Backup = list.BackupCodesLeft
		proofs = append(proofs, otp.ProofBackupCode)
	}
	data.Enough, data.Nothing = otp.ProofsComplete(proofs), len(list.Factors) == 0 && data.Backup == 0
	if wait := v.app.Policy.Factors.RecoveryWait; wait > 0 {
		data.Wait = v.span(wait)
	}
	data.Last = v.last(now)
	return data
}

// last names the text that says how a recovery ended which this visit has met; empty for none, and for one that was carried out.
func (v *visit) last(r event.RecoveryReply) string {
	if !v.followed(r) {
		return ""
	}
	switch otp.RecoveryState(r.State) {
	case otp.RecoveryExpired:
		return "recovery.last_expired"
	case otp.RecoveryRefused:
		return "recovery.last_refused"
	case otp.RecoveryCancelled:
		if v.state.Recovery.Exhausted {
			return "recovery.last_exhausted"
		}
		return "recovery.last_cancelled"
	}
	return ""
}

// recoveryBegin begins one. Codes go out with it, and every address hears of it.
func (p *Pages) recoveryBegin(ctx context.Context, v *visit) error {
	if !v.fresh() {
		return v.needPassword(event.PageRecovery)
	}
	begun, err := call[event.RecoveryReply](ctx, v, event.VerbRecoveryBegin, event.RecoveryBeginRequest{
		Owner: v.owner(), Locale: v.locale.Tag, Client: v.client(), Reauthenticated: v.reauthenticated(),
	})
	problem, _ := errors.AsType[*otp.Problem](err)
	switch reason(err) {
	case "":
		if err != nil {
			return err
		}
	case otp.ReauthRequired:
		return v.needPassword(event.PageRecovery)
	case otp.Conflict: // another tab, or support, was quicker
		return v.lead("/recovery")
	case otp.RateLimited:
		return v.recoveryFirst(ctx, v.wrong("", "recovery.error_rate", "Time", v.recoveryWait(problem)))
	case otp.AccountLocked:
		return v.recoveryFirst(ctx, v.wrong("", "recovery.error_locked", "App", v.app.DisplayName))
	case otp.NoFactorLeft, otp.NotAllowed:
		return v.recoveryFirst(ctx, v.wrong("", "recovery.error_ways", "App", v.app.DisplayName))
	default:
		return err
	}
	v.following(begun.Recovery).Own = true
	return v.goTo(ctx, "/recovery/prove")
}

// recoveryWait says how long a problem asks to wait; a moment where it does not say.
func (v *visit) recoveryWait(p *otp.Problem) string { return v.span(max(p.RetryAfter, time.Second)) }

package pages

import (
	"context"
	"errors"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file is how a recovery ends: by waiting, by being stopped, or by being carried out.

// recoveryNear is how near the end of the waiting time is when the page asks by itself whether it is over.
const recoveryNear = time.Minute

// recoveryWaitingData is for the page of the waiting time.
type recoveryWaitingData struct {
	In   string // how long it is yet; empty where it is over any moment
	Date string
	Time string // hours and minutes, UTC
}

// recoveryWaiting tells when a recovery takes effect.
func (p *Pages) recoveryWaiting(ctx context.Context, v *visit) error {
	now, err := v.recovery(ctx)
	if err != nil {
		return err
	}
	if now.State != string(otp.RecoveryWaiting) {
		return v.lead(recoveryAt(now))
	}
	at, err := time.Parse(time.RFC3339, now.EffectiveAt)
	if err != nil {
		return err
	}
	left := at.Sub(p.Now())
	data := recoveryWaitingData{Date: v.locale.Date(now.EffectiveAt), Time: at.UTC().Format("15:04")}
	if left > 0 {
		data.In = v.span(left)
	}
	return v.show(ctx, "recovery/waiting", data, nil, func(page *web.Page) {
		if left <= recoveryNear {
			page.Refresh = max(int(left/time.Second)+1, 2)
		}
	})
}

// recoveryCancelAsk asks whether to stop what is under way.
func (p *Pages) recoveryCancelAsk(ctx context.Context, v *visit) error {
	now, err := v.recovery(ctx)
	if err != nil {
		return err
	}
	if !recoveryUnderWay(now.State) {
		return v.lead("/recovery")
	}
	return v.show(ctx, "recovery/cancel", recoveryAt(now), nil)
}

// recoveryCancel stops it: in its own session, or with the password.
func (p *Pages) recoveryCancel(ctx context.Context, v *visit) error {
	_, err := call[event.RecoveryCancelReply](ctx, v, event.VerbRecoveryCancel, event.RecoveryCancelRequest{
		User: v.row.User, Session: v.row.Session, Client: v.client(), Reauthenticated: v.reauthenticated(),
	})
	switch reason(err) {
	case "":
		if err != nil {
			return err
		}
		return v.lead("/recovery/stopped")
	case otp.ReauthRequired:
		return v.needPassword(event.PageRecovery)
	case otp.UnknownRecovery:
		return v.lead("/recovery")
	}
	return err
}

// recoveryStopAsk asks for the code that every message about a recovery carries.
func (p *Pages) recoveryStopAsk(ctx context.Context, v *visit) error {
	return v.show(ctx, "recovery/stop", nil, nil)
}

// recoveryStop stops a recovery with that code. It takes no password: whoever got the message shall be able to stop it at once.
func (p *Pages) recoveryStop(ctx context.Context, v *visit) error {
	code := v.form("code")
	var err error
	if code == "" { // without one the request would mean another way to stop it
		err = &otp.Problem{Reason: otp.Invalid}
	} else {
		_, err = call[event.RecoveryCancelReply](ctx, v, event.VerbRecoveryCancel, event.RecoveryCancelRequest{
			User: v.row.User, Session: v.row.Session, Code: code, Client: v.client(),
		})
	}
	problem, _ := errors.AsType[*otp.Problem](err)
	var wrong []web.FieldError
	switch reason(err) {
	case "":
		if err != nil {
			return err
		}
		return v.lead("/recovery/stopped")
	case otp.Invalid:
		wrong = v.wrong("code", "recovery.wrong_form")
	case otp.WrongCode:
		wrong = v.wrong("code", "recovery.stop_wrong")
	case otp.RateLimited:
		wrong = v.wrong("code", "recovery.wrong_wait", "Time", v.recoveryWait(problem))
	case otp.UnknownRecovery:
		wrong = v.wrong("", "recovery.stop_none")
	default:
		return err
	}
	return v.show(ctx, "recovery/stop", nil, wrong)
}

// noWayBack is for pages whose own button leads back to the app: once is enough.
func noWayBack(page *web.Page) { page.Back = "" }

// recoveryStopped says that nothing has changed, and what to do where it was somebody else.
func (p *Pages) recoveryStopped(ctx context.Context, v *visit) error {
	now, err := v.recovery(ctx)
	if err != nil {
		return err
	}
	if now.State != string(otp.RecoveryCancelled) {
		return v.lead(recoveryAt(now))
	}
	return v.show(ctx, "recovery/stopped", nil, nil, noWayBack)
}

// wasRecovered reports whether the user's last recovery was carried out and nothing was set up since: an older one is no news, and no outcome. here tells
// that it was this visit that completed the proofs: who has only begun a recovery, with no more than a password, may see another session carry it on.
func (v *visit) wasRecovered(ctx context.Context) (done, here bool, err error) {
	now, err := v.recovery(ctx)
	if err != nil || now.State != string(otp.RecoveryCompleted) {
		return false, false, err
	}
	list, err := call[event.FactorListReply](ctx, v, event.VerbFactorList, event.FactorListRequest{User: v.row.User})
	return err == nil && recovered(now, list), v.followed(now) && v.state.Recovery.Whole, err
}

// recoveryDone says that the old factors are gone. Whoever gave the proofs in this visit may set up new ones in it; anybody else signs in first, as the app
// would have them.
func (p *Pages) recoveryDone(ctx context.Context, v *visit) error {
	done, here, err := v.wasRecovered(ctx)
	switch {
	case err != nil:
		return err
	case !done:
		return v.lead("/recovery")
	}
	if here && !v.state.Recovered {
		v.state.Recovered = true
		if err := v.save(ctx); err != nil {
			return err
		}
	}
	if v.within("/setup") {
		return v.show(ctx, "recovery/done", true, nil)
	}
	return v.show(ctx, "recovery/done", false, nil, noWayBack)
}

// recoveryFinish goes back to the app, which learns of it.
func (p *Pages) recoveryFinish(ctx context.Context, v *visit) error {
	done, _, err := v.wasRecovered(ctx)
	switch {
	case err != nil:
		return err
	case !done:
		return v.lead("/recovery")
	}
	return v.finish(ctx, outcome{Outcome: event.OutcomeRecovered})
}

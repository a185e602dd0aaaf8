package pages

import (
	"context"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file lets a user have no second factor any more: password, code, a question, and a page that says that it is done. Where scripts run the question is
// a dialog over the page, whose form begins and confirms at once; else it is a page of its own.

// deactivateData is for the page that says what deactivation means.
type deactivateData struct {
	Proved bool // all that is left is the question
}

func (p *Pages) deactivate(ctx context.Context, v *visit) error {
	list, err := call[event.FactorListReply](ctx, v, event.VerbFactorList, event.FactorListRequest{User: v.row.User})
	if err != nil {
		return err
	}
	if len(list.Factors) == 0 {
		return v.goTo(ctx, "/settings")
	}
	return v.show(ctx, "settings/deactivate", deactivateData{v.fresh() && v.proved("/deactivate")}, nil)
}

// beginDeactivation takes the intent. With the answer of the dialog it is carried out at once.
func (p *Pages) beginDeactivation(ctx context.Context, v *visit) error {
	proof, ok, err := v.prove(ctx, event.PageDeactivate, "/deactivate")
	if err != nil || !ok {
		return err
	}
	reply, err := call[event.DeactivateBeginReply](ctx, v, event.VerbDeactivateBegin,
		event.DeactivateBeginRequest{Owner: v.owner(), Client: v.client(), Proof: proof})
	if reason(err) == otp.NoFactorLeft {
		return v.goTo(ctx, "/settings")
	}
	if err != nil {
		wrong, led, err := v.refused(err, event.PageDeactivate)
		if err != nil || led {
			return err
		}
		return v.show(ctx, "settings/deactivate", deactivateData{}, wrong)
	}
	v.settings().Deactivate = reply.Ceremony
	if v.form("sure") == "yes" {
		return p.doDeactivate(ctx, v)
	}
	return v.goTo(ctx, "/deactivate/confirm")
}

// confirmDeactivation asks again, without scripts.
func (p *Pages) confirmDeactivation(ctx context.Context, v *visit) error {
	if v.settings().Deactivate == "" {
		return v.goTo(ctx, "/deactivate")
	}
	return v.confirm(ctx, confirmData{
		Icon: "alert", Title: v.t("settings.ask_title"), Texts: []string{v.t("settings.ask_text")}, Action: "/deactivate/confirm", Button: v.t("settings.ask_yes"),
		Danger: true, Back: "/settings",
	})
}

func (p *Pages) doDeactivate(ctx context.Context, v *visit) error {
	ceremony := v.settings().Deactivate
	if ceremony == "" {
		return v.goTo(ctx, "/deactivate")
	}
	_, err := call[event.DeactivateConfirmReply](ctx, v, event.VerbDeactivateConfirm,
		event.DeactivateConfirmRequest{Ceremony: ceremony, Session: v.row.Session})
	switch {
	case reason(err) == otp.UnknownCeremony: // expired, or carried out in another tab
		v.settings().Deactivate = ""
		if err := v.save(ctx); err != nil {
			return err
		}
		return v.show(ctx, "settings/deactivate", deactivateData{}, v.wrong("", "settings.err_over"), func(p *web.Page) { p.Path = "/deactivate" })
	case err != nil:
		wrong, led, err := v.refused(err, event.PageDeactivate)
		if err != nil || led {
			return err
		}
		return v.show(ctx, "settings/deactivate", deactivateData{}, wrong)
	}
	*v.settings() = settingsState{Deactivated: true}
	return v.goTo(ctx, "/deactivate/done")
}

func (p *Pages) deactivated(ctx context.Context, v *visit) error {
	if !v.settings().Deactivated {
		return v.goTo(ctx, "/deactivate")
	}
	return v.show(ctx, "settings/deactivated", nil, nil, func(p *web.Page) { p.Back = "" }) // the page's own button leads back
}

// leaveDeactivated leads back to the app, which learns of it.
func (p *Pages) leaveDeactivated(ctx context.Context, v *visit) error {
	if !v.settings().Deactivated {
		return v.goTo(ctx, "/deactivate")
	}
	return v.finish(ctx, outcome{Outcome: event.OutcomeDeactivated})
}

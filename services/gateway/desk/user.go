package desk

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/web"
)

// searchData is for the page that looks for a user.
type searchData struct {
	Apps []postgres.App
	App  string
	User string
}

// searchPage shows the form.
func (d *Desk) searchPage(ctx context.Context, v *visit) error {
	return v.searchForm(ctx, v.state.App, "")
}

func (v *visit) searchForm(ctx context.Context, app, user string, wrong ...web.FieldError) error {
	list, err := v.d.Apps.List(ctx)
	if err != nil {
		return err
	}
	return v.show(ctx, "desk/search", "/support/search", searchData{Apps: list, App: app, User: user}, wrong...)
}

// search remembers whom to show. The id goes no further than into the session: no address has it.
func (d *Desk) search(ctx context.Context, v *visit) error {
	app, user := v.form("app"), v.form("user")
	list, err := d.Apps.List(ctx)
	switch {
	case err != nil:
		return err
	case !slices.ContainsFunc(list, func(a postgres.App) bool { return a.Name == app }):
		return v.searchForm(ctx, app, user, v.wrong("app", "desk.search_app_wrong"))
	case otp.CheckID(user) != "":
		return v.searchForm(ctx, app, user, v.wrong("user", "desk.search_user_wrong"))
	}
	v.state.App, v.state.User = app, user
	return v.goTo(ctx, "/support/user")
}

// userData is for the page of a user.
type userData struct {
	App, AppName, User string
	Found              event.SupportFindReply
	Empty              bool     // there is nothing about them: unknown, or never enrolled
	Methods            []string // by which a reset could send codes
	Wait               string   // until the user may answer again; empty for no wait
	Begun              bool     // the recovery was begun by this agent
	Act                string   // what is to be confirmed
	Reason             string   // as it was typed
	Chosen             []string // methods
}

// Under reports whether a recovery is under way.
func (u userData) Under() bool {
	return slices.Contains([]string{string(otp.RecoveryApproval), string(otp.RecoveryProving), string(otp.RecoveryWaiting)}, u.Found.Recovery.State)
}

// Approval reports whether a recovery waits for a second agent.
func (u userData) Approval() bool { return u.Found.Recovery.State == string(otp.RecoveryApproval) }

// Sent reports whether codes of the recovery have gone out.
func (u userData) Sent() bool {
	return u.Found.Recovery.State == string(otp.RecoveryProving) || u.Found.Recovery.State == string(otp.RecoveryWaiting)
}

// Picked reports whether a method is chosen.
func (u userData) Picked(method string) bool { return slices.Contains(u.Chosen, method) }

// user finds a user and puts together what pages show of them.
func (v *visit) user(ctx context.Context, app, user string) (userData, error) {
	u := userData{App: app, AppName: app, User: user}
	list, err := v.d.Apps.List(ctx)
	if err != nil {
		return u, err
	}
	for _, a := range list {
		if a.Name == app {
			u.AppName = a.DisplayName
		}
	}
	if u.Found, err = ask[event.SupportFindReply](ctx, v, event.SupportFind, event.SupportUserRequest{App: app, User: user}); err != nil {
		return u, err
	}
	for _, c := range u.Found.Preferences.Contacts {
		if slices.Contains(u.Found.Preferences.Allowed, c.Method) {
			u.Methods = append(u.Methods, c.Method)
		}
	}
	f := u.Found
	if f.RetryAfter > 0 {
		u.Wait = v.locale.Span(time.Duration(f.RetryAfter) * time.Second)
	}
	u.Empty = len(f.Factors) == 0 && f.BackupCodesLeft == 0 && len(f.Preferences.Contacts) == 0 && !f.Preferences.Passphrase && f.Recovery.Recovery == ""
	u.Begun = f.BegunBy == v.row.Agent
	u.Chosen = u.Methods
	return u, nil
}

// userPage shows the user of the last search.
func (d *Desk) userPage(ctx context.Context, v *visit) error {
	if v.state.User == "" {
		return v.goTo(ctx, "/support/search")
	}
	return v.showUser(ctx, v.state.App, v.state.User)
}

func (v *visit) showUser(ctx context.Context, app, user string, wrong ...web.FieldError) error {
	u, err := v.user(ctx, app, user)
	if p, ok := errors.AsType[*otp.Problem](err); ok && p.Reason != otp.Busy && p.Reason != otp.Internal {
		return v.searchForm(ctx, app, user, v.problem("find", p))
	}
	if err != nil {
		return err
	}
	return v.show(ctx, "desk/user", "/support/user", u, wrong...)
}

// beginPage asks for what a reset needs.
func (d *Desk) beginPage(ctx context.Context, v *visit) error {
	if v.state.User == "" {
		return v.goTo(ctx, "/support/search")
	}
	u, err := v.user(ctx, v.state.App, v.state.User)
	if err != nil {
		return err
	}
	if u.Under() {
		return v.goTo(ctx, "/support/user")
	}
	return v.show(ctx, "desk/begin", "/support/begin", u)
}

// about is the user that a form is about. The form says it and not the session: another tab may have looked for somebody else meanwhile.
func (v *visit) about() (app, user string, ok bool) {
	app, user = v.form("app"), v.form("user")
	ok = otp.ValidApp(app) && otp.CheckID(user) == ""
	if ok {
		v.state.App, v.state.User = app, user
	}
	return app, user, ok
}

// begin begins a reset.
func (d *Desk) begin(ctx context.Context, v *visit) error {
	app, user, ok := v.about()
	if !ok {
		return v.goTo(ctx, "/support/search")
	}
	why, methods := v.form("reason"), v.r.PostForm["method"]
	wrong := v.checkReset(why, methods)
	if len(wrong) == 0 {
		begun, err := ask[event.RecoveryReply](ctx, v, event.SupportBegin, event.SupportBeginRequest{App: app, User: user, Reason: why, Methods: methods})
		if err == nil {
			v.state.Flash = "desk.flash_begun"
			if begun.State == string(otp.RecoveryApproval) {
				v.state.Flash = "desk.flash_approval"
			}
			return v.goTo(ctx, "/support/user")
		}
		p, ok := errors.AsType[*otp.Problem](err)
		if !ok || p.Reason == otp.Internal {
			return err
		}
		wrong = append(wrong, v.problem("begin", p))
	}
	u, err := v.user(ctx, app, user)
	if err != nil {
		return err
	}
	u.Reason, u.Chosen = why, methods
	return v.show(ctx, "desk/begin", "/support/begin", u, wrong...)
}

// maxReason is the most characters of a reason that the workers take.
const maxReason = 200

func (v *visit) checkReset(why string, methods []string) (wrong []web.FieldError) {
	if otp.CheckText(why, maxReason) != "" {
		wrong = append(wrong, v.wrong("reason", "desk.begin_reason_wrong"))
	}
	known := otp.RecoveryMethods()
	if len(methods) == 0 || len(methods) > len(known) || slices.ContainsFunc(methods, func(m string) bool { return !slices.Contains(known, otp.ProofKind(m)) }) {
		wrong = append(wrong, v.wrong("methods", "desk.begin_methods_wrong"))
	}
	return wrong
}

// decisions are what an agent may decide of a recovery that is under way.
var decisions = []string{event.SupportApprove, event.SupportRefuse, event.SupportCancel}

// confirm asks once more before a decision.
func (d *Desk) confirm(ctx context.Context, v *visit) error {
	app, user, ok := v.about()
	act := v.form("act")
	if !ok || !slices.Contains(decisions, act) {
		return v.goTo(ctx, "/support/search")
	}
	u, err := v.user(ctx, app, user)
	if err != nil {
		return err
	}
	if u.Found.Recovery.Recovery != v.form("recovery") || !u.Under() {
		return v.show(ctx, "desk/user", "/support/user", u, v.wrong("", "desk.problem_changed"))
	}
	u.Act = act
	if err := v.save(ctx); err != nil {
		return err
	}
	return v.show(ctx, "desk/confirm", "/support/user", u)
}

// decide carries a decision out.
func (d *Desk) decide(ctx context.Context, v *visit) error {
	app, user, ok := v.about()
	act, recovery := v.form("act"), v.form("recovery")
	if !ok || !slices.Contains(decisions, act) {
		return v.goTo(ctx, "/support/search")
	}
	_, err := ask[event.RecoveryReply](ctx, v, act, event.SupportRecoveryRequest{App: app, Recovery: recovery})
	if err == nil {
		v.state.Flash = "desk.flash_" + act
		return v.goTo(ctx, "/support/user")
	}
	p, known := errors.AsType[*otp.Problem](err)
	if !known || p.Reason == otp.Internal {
		return err
	}
	if p.Reason == otp.NotAllowed {
		if u, err := v.user(ctx, app, user); err == nil && u.Begun {
			return v.showUser(ctx, app, user, v.wrong("", "desk.problem_own"))
		}
	}
	return v.showUser(ctx, app, user, v.problem(act, p))
}

// problem says why the workers refused, and what to do.
func (v *visit) problem(verb string, p *otp.Problem) web.FieldError {
	switch p.Reason {
	case otp.Busy:
		return v.wrong("", "common.busy")
	case otp.RateLimited:
		return v.wrong("", "desk.problem_rate", "Time", v.locale.Span(max(p.RetryAfter, time.Second)))
	case otp.AccountLocked:
		return v.wrong("", "desk.problem_locked")
	case otp.NoFactorLeft:
		return v.wrong("", "desk.problem_no_factor")
	case otp.NotAllowed:
		if verb == event.SupportBegin {
			return v.wrong("", "desk.problem_ways")
		}
		return v.wrong("", "desk.problem_not_yours")
	case otp.Conflict:
		if verb == event.SupportBegin {
			return v.wrong("", "desk.problem_under_way")
		}
		return v.wrong("", "desk.problem_changed")
	case otp.UnknownRecovery:
		return v.wrong("", "desk.problem_changed")
	case otp.UnknownApp:
		return v.wrong("app", "desk.search_app_wrong")
	}
	return v.wrong("", "desk.problem_other", "Reason", string(p.Reason))
}

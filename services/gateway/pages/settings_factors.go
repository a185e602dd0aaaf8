package pages

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file renames, prefers and removes factors. Which one is told in the bodies of forms, never in an address; the workers look whether it is the user's.

// A factorRow is a factor as the page shows it.
type factorRow struct {
	event.FactorInfo
	Icon   string
	Prefer bool // it could be asked for first, and is not
}

func rows(list event.FactorListReply) []factorRow {
	var out []factorRow
	active := 0
	for _, f := range list.Factors {
		if f.State == string(otp.FactorActive) {
			active++
		}
	}
	for _, f := range list.Factors {
		out = append(out, factorRow{FactorInfo: f, Icon: wayIcons[way(f.Kind)], Prefer: active > 1 && f.State == string(otp.FactorActive) && !f.Preferred})
	}
	return out
}

// held reports whether the user has a second factor: one that is not only half set up.
func held(list event.FactorListReply) bool {
	return slices.ContainsFunc(list.Factors, func(f event.FactorInfo) bool { return f.State != string(otp.FactorConfirmed) })
}

// name is what the user knows a factor by.
func (v *visit) name(f event.FactorInfo) string {
	if f.Label != "" {
		return f.Label
	}
	return v.t("common.kind_" + f.Kind)
}

// choose remembers the factor that a form names and leads on.
func (p *Pages) choose(to string) handler {
	return func(ctx context.Context, v *visit) error {
		v.settings().Factor = v.bounded("factor", 36)
		return v.goTo(ctx, to)
	}
}

// chosen is the factor that was chosen. ok is false where the user has no such one: they have been led back then.
func (v *visit) chosen(ctx context.Context) (f event.FactorInfo, list event.FactorListReply, ok bool, err error) {
	list, err = call[event.FactorListReply](ctx, v, event.VerbFactorList, event.FactorListRequest{User: v.row.User})
	if err != nil {
		return f, list, false, err
	}
	i := slices.IndexFunc(list.Factors, func(f event.FactorInfo) bool { return f.Factor == v.settings().Factor })
	if i < 0 {
		return f, list, false, v.gone(ctx)
	}
	return list.Factors[i], list, true, nil
}

// gone leads back from something that is not there any more.
func (v *visit) gone(ctx context.Context) error {
	v.state.Flash = ""
	if v.settings().Factor != "" {
		v.state.Flash = "settings.flash_gone"
	}
	v.settings().Factor = ""
	return v.goTo(ctx, "/settings")
}

// same holds a form to what was chosen: another tab may have chosen something else meanwhile, which this one does not show.
func same(form, chosen string) error {
	if form != chosen {
		return postgres.ErrVisitChanged
	}
	return nil
}

// renameData is for the page that asks for a name.
type renameData struct {
	Factor event.FactorInfo
	Label  string
}

func (p *Pages) rename(ctx context.Context, v *visit) error {
	f, _, ok, err := v.chosen(ctx)
	if err != nil || !ok {
		return err
	}
	return v.show(ctx, "settings/rename", renameData{f, f.Label}, nil)
}

func (p *Pages) doRename(ctx context.Context, v *visit) error {
	if err := same(v.form("factor"), v.settings().Factor); err != nil {
		return err
	}
	label := v.form("label")
	if label == "" || utf8.RuneCountInString(label) > event.MaxLabel || strings.ContainsFunc(label, func(r rune) bool { return r < ' ' }) {
		return v.renameAgain(ctx, label)
	}
	_, err := call[event.FactorListReply](ctx, v, event.VerbFactorRename,
		event.FactorRenameRequest{User: v.row.User, Factor: v.settings().Factor, Label: label, Session: v.row.Session})
	switch reason(err) {
	case "":
		if err != nil {
			return err
		}
	case otp.UnknownFactor:
		return v.gone(ctx)
	case otp.Invalid:
		return v.renameAgain(ctx, label)
	default:
		return err
	}
	v.settings().Factor, v.state.Flash = "", "settings.flash_renamed"
	return v.goTo(ctx, "/settings")
}

func (v *visit) renameAgain(ctx context.Context, label string) error {
	f, _, ok, err := v.chosen(ctx)
	if err != nil || !ok {
		return err
	}
	return v.show(ctx, "settings/rename", renameData{f, label}, v.wrong("label", "settings.err_label", "Max", event.MaxLabel))
}

// prefer makes a factor the one that logins ask for first.
func (p *Pages) prefer(ctx context.Context, v *visit) error {
	_, err := call[event.FactorListReply](ctx, v, event.VerbFactorPrefer,
		event.FactorPreferRequest{User: v.row.User, Factor: v.form("factor"), Session: v.row.Session})
	switch reason(err) {
	case "":
		if err != nil {
			return err
		}
		v.state.Flash = "settings.flash_preferred"
	case otp.UnknownFactor, otp.NoFactorLeft, otp.Invalid:
		v.state.Flash = "settings.flash_gone"
	default:
		return err
	}
	return v.goTo(ctx, "/settings")
}

// A standing is whether a factor may be removed.
type standing int

const (
	removable  standing = iota
	lastOne             // to remove it is to deactivate
	leftTooNew          // what would be left cannot be alone yet
)

// removal judges as the workers will, so that nobody is asked for a code in vain. wait is how long what is left is too new.
func (v *visit) removal(f event.FactorInfo, list event.FactorListReply) (s standing, wait time.Duration) {
	if f.State == string(otp.FactorConfirmed) {
		return removable, 0
	}
	soonest := time.Time{}
	left := 0
	for _, l := range list.Factors {
		if l.Factor == f.Factor || l.State != string(otp.FactorActive) {
			continue
		}
		left++
		at, err := time.Parse(time.RFC3339, l.AloneAfter)
		if err != nil || !v.p.Now().Before(at) {
			return removable, 0
		}
		if soonest.IsZero() || at.Before(soonest) {
			soonest = at
		}
	}
	switch {
	case left == 0:
		return lastOne, 0
	case f.State == string(otp.FactorSuspended):
		return removable, 0
	}
	return leftTooNew, soonest.Sub(v.p.Now())
}

// chooseRemoval remembers the factor and, where it may be removed, has the user prove that it is them.
func (p *Pages) chooseRemoval(ctx context.Context, v *visit) error {
	v.settings().Factor = v.bounded("factor", 36)
	f, list, ok, err := v.chosen(ctx)
	if err != nil || !ok {
		return err
	}
	if s, _ := v.removal(f, list); s != removable {
		return v.goTo(ctx, "/settings/remove")
	}
	if err := v.save(ctx); err != nil {
		return err
	}
	if ok, err := v.ask(ctx, event.PageSettings, "/settings/remove"); err != nil || !ok {
		return err
	}
	return v.goTo(ctx, "/settings/remove")
}

func (p *Pages) remove(ctx context.Context, v *visit) error { return v.askRemoval(ctx) }

// askRemoval shows the page that asks again.
func (v *visit) askRemoval(ctx context.Context, wrong ...web.FieldError) error {
	f, list, ok, err := v.chosen(ctx)
	if err != nil || !ok {
		return err
	}
	data := confirmData{Icon: "alert", Title: v.t("settings.remove_title", "Name", v.name(f)), Back: "/settings"}
	switch s, wait := v.removal(f, list); s {
	case lastOne:
		data.Texts = []string{v.t("settings.remove_last")}
		data.To, data.Link = "/deactivate", v.t("settings.deactivate_link")
	case leftTooNew:
		data.Texts = []string{v.t("settings.remove_cooling", "Wait", v.span(wait))}
		data.To, data.Link = "/settings", v.t("settings.title")
	default:
		data.Texts = []string{v.t("settings.remove_text"), v.t("settings.remove_devices")}
		data.Action, data.Hidden, data.Button, data.Danger = "/settings/remove", map[string]string{"factor": f.Factor}, v.t("settings.remove_button"), true
		data.Proof = f.State != string(otp.FactorConfirmed) && !v.proved("/settings/remove")
	}
	return v.confirm(ctx, data, wrong...)
}

func (p *Pages) doRemove(ctx context.Context, v *visit) error {
	if err := same(v.form("factor"), v.settings().Factor); err != nil {
		return err
	}
	proof, ok, err := v.prove(ctx, event.PageSettings, "/settings/remove")
	if err != nil || !ok {
		return err
	}
	_, err = call[event.FactorListReply](ctx, v, event.VerbFactorRemove,
		event.FactorRemoveRequest{Owner: v.owner(), Factor: v.settings().Factor, Client: v.client(), Proof: proof})
	switch reason(err) {
	case "":
		if err != nil {
			return err
		}
	case otp.UnknownFactor, otp.Invalid:
		return v.gone(ctx)
	case otp.LastFactor: // another was removed meanwhile
		return v.goTo(ctx, "/settings/remove")
	default:
		wrong, led, err := v.refused(err, event.PageSettings)
		if err != nil || led {
			return err
		}
		return v.askRemoval(ctx, wrong...)
	}
	v.settings().Factor, v.state.Flash = "", "settings.flash_removed"
	return v.goTo(ctx, "/settings")
}

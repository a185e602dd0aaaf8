package pages

import (
	"context"
	"errors"
	"strings"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file is the page on which users see how their account is protected, and from which they change it.

// settingsState is what the pages of this part remember.
type settingsState struct {
	Factor      string        `json:"factor,omitzero"`      // chosen, to be renamed or removed
	Way         string        `json:"way,omitzero"`         // of recovery, chosen to be removed
	Address     *addressState `json:"address,omitzero"`     // to be confirmed
	Codes       *codesState   `json:"codes,omitzero"`       // while they are shown
	Before      string        `json:"before,omitzero"`      // where the page of activity begins
	Deactivate  string        `json:"deactivate,omitzero"`  // ceremony
	Deactivated bool          `json:"deactivated,omitzero"` // in this visit
}

func (p *Pages) settingsRoutes() {
	p.setting("/settings", p.settings)

	p.post("/settings/rename/choose", p.choose("/settings/rename"))
	p.setting("/settings/rename", p.rename)
	p.post("/settings/rename", p.doRename)
	p.post("/settings/prefer", p.prefer)
	p.post("/settings/remove/choose", p.chooseRemoval)
	p.setting("/settings/remove", p.remove)
	p.post("/settings/remove", p.doRemove)

	p.get("/settings/codes", p.codes)
	p.post("/settings/codes", p.viewCodes)
	p.post("/settings/codes/save", p.saveCodes)
	p.post("/settings/codes/kept", p.keptCodes)
	p.setting("/settings/codes/new", p.newCodes)
	p.post("/settings/codes/new", p.makeCodes)

	p.setting("/settings/devices", p.devices)
	p.post("/settings/devices/revoke", p.revokeDevice)
	p.setting("/settings/devices/all", p.allDevices)
	p.post("/settings/devices/all", p.revokeDevices)

	p.recoverySettingsRoutes()

	p.setting("/settings/activity", p.activity)
	p.post("/settings/activity", p.turnActivity)

	p.setting("/deactivate", p.deactivate)
	p.post("/deactivate", p.beginDeactivation)
	p.setting("/deactivate/confirm", p.confirmDeactivation)
	p.post("/deactivate/confirm", p.doDeactivate)
	p.setting("/deactivate/done", p.deactivated)
	p.post("/deactivate/done", p.leaveDeactivated)
}

// setting adds a page of the settings. Backup codes that were shown are forgotten by it: the user has gone on.
func (p *Pages) setting(path string, h handler) {
	p.get(path, func(ctx context.Context, v *visit) error {
		if s := v.settings(); s.Codes != nil {
			s.Codes = nil
			if err := v.save(ctx); err != nil {
				return err
			}
		}
		return h(ctx, v)
	})
}

// settings is what the visit remembers of the settings.
func (v *visit) settings() *settingsState {
	if v.state.Settings == nil {
		v.state.Settings = &settingsState{}
	}
	return v.state.Settings
}

// wide gives a page more room.
func wide(p *web.Page) { p.Wide = true }

// settingsData is for the first page.
type settingsData struct {
	Activated bool
	Half      bool // begun to set up, and not finished
	Factors   []factorRow
	Codes     int
	Devices   []event.DeviceInfo
	More      bool     // browsers than are shown
	Ways      []string // to recover that are set
	UnderWay  bool     // a recovery
	Activity  []activityRow
}

// How much the first page shows of long lists.
const (
	fewDevices  = 3
	fewActivity = 4
)

// settings shows how the account is protected. It asks the workers for each part: none of it changes anything.
func (p *Pages) settings(ctx context.Context, v *visit) error {
	list, err := call[event.FactorListReply](ctx, v, event.VerbFactorList, event.FactorListRequest{User: v.row.User})
	if err != nil {
		return err
	}
	data := settingsData{Activated: held(list), Half: len(list.Factors) > 0, Factors: rows(list), Codes: list.BackupCodesLeft}
	if !data.Activated {
		return v.show(ctx, "settings/off", data, nil)
	}
	if v.settings().Deactivated { // and set up again since
		v.settings().Deactivated = false
		if err := v.save(ctx); err != nil {
			return err
		}
	}
	devices, err := call[event.DeviceListReply](ctx, v, event.VerbDeviceList, event.DeviceListRequest{User: v.row.User})
	if err != nil {
		return err
	}
	data.Devices, data.More = devices.Devices, len(devices.Devices) > fewDevices
	if data.More {
		data.Devices = data.Devices[len(data.Devices)-fewDevices:] // the newest
	}
	set, err := call[event.PreferencesReply](ctx, v, event.VerbRecoveryPreferences, event.PreferencesRequest{User: v.row.User})
	if err != nil {
		return err
	}
	data.Ways = v.wayNames(set)
	if data.UnderWay, err = v.recovering(ctx); err != nil {
		return err
	}
	activity, err := call[event.ActivityListReply](ctx, v, event.VerbActivityList,
		event.ActivityListRequest{User: v.row.User, Session: v.row.Session, Limit: fewActivity})
	if err != nil {
		return err
	}
	data.Activity = v.activityRows(activity.Activity)
	return v.show(ctx, "settings/home", data, nil, wide, func(p *web.Page) { p.Back = "" }) // the page's own button leads back
}

// refused says why the workers did not do what the user has asked for. led is true where the user was led elsewhere; what has no words here is returned.
// page is the one to come back to where the password is needed.
func (v *visit) refused(err error, page string) (wrong []web.FieldError, led bool, rest error) {
	problem, known := errors.AsType[*otp.Problem](err)
	if !known {
		return nil, false, err
	}
	say := func(id string, pairs ...any) ([]web.FieldError, bool, error) {
		return v.wrong("", id, pairs...), false, nil
	}
	wait := v.span(problem.RetryAfter)
	switch problem.Reason {
	case otp.ReauthRequired:
		if !v.fresh() {
			return nil, true, v.needPassword(page)
		}
		return say("settings.err_prove") // a factor was added meanwhile
	case otp.WrongCode:
		return say("settings.err_prove")
	case otp.CoolingOff:
		return say("settings.err_cooling", "Wait", wait)
	case otp.RateLimited:
		if problem.RetryAfter <= 0 {
			return say("settings.err_often")
		}
		return say("settings.err_wait", "Wait", wait)
	case otp.AccountLocked:
		return say("settings.err_locked", "App", v.app.DisplayName)
	case otp.NotAllowed:
		return say("settings.err_not_allowed", "App", v.app.DisplayName)
	}
	return nil, false, err
}

// ask leads to where the user gives what a weakening act needs, the password first, and back to the path. ok is true where it is there already.
func (v *visit) ask(ctx context.Context, page, back string) (ok bool, err error) {
	if !v.fresh() {
		return false, v.needPassword(page)
	}
	if v.proved(back) {
		return true, nil
	}
	_, ok, err = v.proof(ctx, back)
	return ok, err
}

// prove returns what a weakening act needs, and uses it up. ok is false where the user has been led to where they give it; they come back to the path.
func (v *visit) prove(ctx context.Context, page, back string) (proof event.Proof, ok bool, err error) {
	if !v.fresh() {
		return proof, false, v.needPassword(page)
	}
	return v.proof(ctx, back)
}

// confirmData is for a page that asks again before something is done, or says why it cannot be.
type confirmData struct {
	Icon   string
	Title  string
	Texts  []string
	Proof  bool // a code is asked for first
	Action string
	Hidden map[string]string
	Button string
	Danger bool
	To     string // a path that leads on, where there is nothing to confirm
	Link   string
	Back   string
}

func (v *visit) confirm(ctx context.Context, data confirmData, wrong ...web.FieldError) error {
	return v.show(ctx, "settings/confirm", data, wrong)
}

// bounded is a field of the form that is remembered: nothing that is an id or a mark of the workers' is longer.
func (v *visit) bounded(name string, most int) string {
	if text := v.form(name); len(text) <= most {
		return text
	}
	return ""
}

// textID is the name of a text for a word of the workers', which has dots.
func textID(prefix, word string) string { return prefix + strings.ReplaceAll(word, ".", "_") }

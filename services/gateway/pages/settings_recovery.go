package pages

import (
	"context"
	"slices"
	"unicode/utf8"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file is what users set beforehand, to get back in when they have lost their factors: addresses, a passphrase, the country that decides which addresses
// are allowed. Whoever can change it can get in later, so the password and a code are asked for first; only then the form is shown, and nothing that was typed
// into it has to wait anywhere.

// ways are what can be set for recovery, each with its form.
var ways = []string{string(otp.ProofEmail), string(otp.ProofPhone), string(otp.ProofLetter), string(otp.ProofPassphrase)}

// recoveryIcons are of ways, and of the country.
var recoveryIcons = map[string]string{"email": "email", "phone": "text", "letter": "letter", "passphrase": "lock"}

func (p *Pages) recoverySettingsRoutes() {
	p.setting("/settings/recovery", p.recoverySettings)
	p.post("/settings/recovery/change", p.changeWay)
	p.post("/settings/recovery/remove/choose", p.chooseWay)
	p.setting("/settings/recovery/remove", p.removeWay)
	p.post("/settings/recovery/remove", p.doRemoveWay)
	for _, method := range []string{"email", "phone"} {
		p.setting("/settings/recovery/"+method, p.address(method))
		p.post("/settings/recovery/"+method, p.sendAddress(method))
	}
	p.setting("/settings/recovery/code", p.addressCode)
	p.post("/settings/recovery/code", p.confirmAddress)
	p.post("/settings/recovery/resend", p.resendAddress)
	p.setting("/settings/recovery/letter", p.letter)
	p.post("/settings/recovery/letter", p.setLetter)
	p.setting("/settings/recovery/passphrase", p.passphrase)
	p.post("/settings/recovery/passphrase", p.setPassphrase)
	p.setting("/settings/recovery/country", p.country)
	p.post("/settings/recovery/country", p.setCountry)
}

// A wayRow is one way of recovery as the page shows it.
type wayRow struct {
	Way     string
	Icon    string
	To      string // masked
	At      string // when it was confirmed
	Set     bool
	Allowed bool // may be set
}

// recoverySettingsData is for the page of what is set.
type recoverySettingsData struct {
	Ways       []wayRow
	Country    string // its name
	Region     string
	ByCountry  bool // which ways are allowed depends on it
	UnderWay   bool // a recovery is, and nothing can be changed
	Passphrase bool
}

func (p *Pages) recoverySettings(ctx context.Context, v *visit) error {
	set, err := call[event.PreferencesReply](ctx, v, event.VerbRecoveryPreferences, event.PreferencesRequest{User: v.row.User})
	if err != nil {
		return err
	}
	data := recoverySettingsData{Region: set.Region, ByCountry: byCountry(v.app.Policy.Factors.RecoveryMethods), Passphrase: set.Passphrase}
	if set.Country != "" {
		data.Country = v.countryName(set.Country)
	}
	for _, way := range ways {
		row := wayRow{Way: way, Icon: recoveryIcons[way], Allowed: slices.Contains(set.Allowed, way)}
		if way == string(otp.ProofPassphrase) {
			row.Set, row.Allowed = set.Passphrase, true
		}
		for _, c := range set.Contacts {
			if c.Method == way {
				row.Set, row.To, row.At = true, c.To, c.ConfirmedAt
			}
		}
		if row.Set || row.Allowed {
			data.Ways = append(data.Ways, row)
		}
	}
	if data.UnderWay, err = v.recovering(ctx); err != nil {
		return err
	}
	return v.show(ctx, "settings/recovery", data, nil, wide)
}

// recovering reports whether a recovery of the user is under way.
func (v *visit) recovering(ctx context.Context) (bool, error) {
	recovery, err := call[event.RecoveryReply](ctx, v, event.VerbRecoveryStatus, event.RecoveryStatusRequest{User: v.row.User})
	switch otp.RecoveryState(recovery.State) {
	case otp.RecoveryApproval, otp.RecoveryProving, otp.RecoveryWaiting:
		return true, err
	}
	return false, err
}

// byCountry reports whether the methods that a policy allows are not everywhere the same.
func byCountry(methods map[string][]string) bool {
	for _, m := range methods {
		if !slices.Equal(slices.Sorted(slices.Values(m)), slices.Sorted(slices.Values(methods[otp.AnyCountry]))) {
			return true
		}
	}
	return false
}

// changeWay leads to the form of a way, or of the country, by way of the proof.
func (p *Pages) changeWay(ctx context.Context, v *visit) error {
	what := v.form("what")
	if what != "country" && !slices.Contains(ways, what) {
		return v.goTo(ctx, "/settings/recovery")
	}
	to := "/settings/recovery/" + what
	if ok, err := v.ask(ctx, event.PageSettings, to); err != nil || !ok {
		return err
	}
	return v.goTo(ctx, to)
}

// ready sees that the form of a way is shown only to who has proven to be the user: nobody types a passphrase to be sent away then.
func (v *visit) ready(ctx context.Context, path string) (ok bool, err error) {
	if v.fresh() && v.proved(path) {
		return true, nil
	}
	list, err := call[event.FactorListReply](ctx, v, event.VerbFactorList, event.FactorListRequest{User: v.row.User})
	if err != nil {
		return false, err
	}
	if v.fresh() && !held(list) {
		return true, nil // the password is all that there is
	}
	return false, v.goTo(ctx, "/settings/recovery")
}

// change asks the workers to change what is set. ok is false where they did not: the form is shown again by again then, or the user has been led elsewhere.
func (v *visit) change(ctx context.Context, path string, r event.PreferencesRequest, again func([]web.FieldError) error) (ok bool, err error) {
	proof, ok, err := v.prove(ctx, event.PageSettings, path)
	if err != nil || !ok {
		return false, err
	}
	r.User, r.Session, r.Client, r.Proof = v.row.User, v.row.Session, v.client(), proof
	_, err = call[event.PreferencesReply](ctx, v, event.VerbRecoveryPreferences, r)
	return v.changed(err, again)
}

// changed is what a change came to.
func (v *visit) changed(err error, again func([]web.FieldError) error) (ok bool, rest error) {
	if err == nil {
		return true, nil
	}
	if reason(err) == otp.Conflict {
		return false, again(v.wrong("", "settings.err_under_way"))
	}
	wrong, led, err := v.refused(err, event.PageSettings)
	if err != nil || led {
		return false, err
	}
	return false, again(wrong)
}

// chooseWay remembers which way is to be removed.
func (p *Pages) chooseWay(ctx context.Context, v *visit) error {
	if v.settings().Way = v.form("what"); !slices.Contains(ways, v.settings().Way) {
		v.settings().Way = ""
		return v.goTo(ctx, "/settings/recovery")
	}
	if err := v.save(ctx); err != nil {
		return err
	}
	if ok, err := v.ask(ctx, event.PageSettings, "/settings/recovery/remove"); err != nil || !ok {
		return err
	}
	return v.goTo(ctx, "/settings/recovery/remove")
}

func (p *Pages) removeWay(ctx context.Context, v *visit) error {
	if v.settings().Way == "" {
		return v.goTo(ctx, "/settings/recovery")
	}
	return v.askWay(ctx, nil)
}

func (v *visit) askWay(ctx context.Context, wrong []web.FieldError) error {
	way := v.settings().Way
	return v.confirm(ctx, confirmData{
		Icon: recoveryIcons[way], Title: v.t("settings.remove_title", "Name", v.t("settings.way_"+way)), Texts: []string{v.t("settings.way_remove_text")},
		Proof: !v.proved("/settings/recovery/remove"), Action: "/settings/recovery/remove", Hidden: map[string]string{"what": way},
		Button: v.t("settings.remove_button"), Danger: true, Back: "/settings/recovery",
	}, wrong...)
}

func (p *Pages) doRemoveWay(ctx context.Context, v *visit) error {
	way := v.settings().Way
	if way == "" {
		return v.goTo(ctx, "/settings/recovery")
	}
	if err := same(v.form("what"), way); err != nil {
		return err
	}
	again := func(wrong []web.FieldError) error { return v.askWay(ctx, wrong) }
	if ok, err := v.change(ctx, "/settings/recovery/remove", event.PreferencesRequest{Remove: []string{way}}, again); err != nil || !ok {
		return err
	}
	v.settings().Way, v.state.Flash = "", "settings.flash_way_removed"
	return v.goTo(ctx, "/settings/recovery")
}

func (p *Pages) passphrase(ctx context.Context, v *visit) error {
	if ok, err := v.ready(ctx, "/settings/recovery/passphrase"); err != nil || !ok {
		return err
	}
	return v.show(ctx, "settings/passphrase", passphraseData{otp.MinPassphrase}, nil)
}

// passphraseData is for the form of the passphrase. What was typed is never shown again.
type passphraseData struct{ Min int }

func (p *Pages) setPassphrase(ctx context.Context, v *visit) error {
	again := func(wrong []web.FieldError) error {
		return v.show(ctx, "settings/passphrase", passphraseData{otp.MinPassphrase}, wrong)
	}
	phrase := v.r.PostFormValue("passphrase") // as it was typed, with the space around it
	switch n := utf8.RuneCountInString(phrase); {
	case n < otp.MinPassphrase:
		return again(v.wrong("passphrase", "settings.err_short", "Min", otp.MinPassphrase))
	case n > otp.MaxPassphrase:
		return again(v.wrong("passphrase", "settings.err_long", "Max", otp.MaxPassphrase))
	case otp.CheckPassphraseForm(phrase) != "":
		return again(v.wrong("passphrase", "settings.err_characters"))
	case v.r.PostFormValue("again") != phrase:
		return again(v.wrong("again", "settings.err_again"))
	}
	if ok, err := v.change(ctx, "/settings/recovery/passphrase", event.PreferencesRequest{Passphrase: phrase}, again); err != nil || !ok {
		return err
	}
	v.state.Flash = "settings.flash_passphrase"
	return v.goTo(ctx, "/settings/recovery")
}

// countryData is for the form of the country.
type countryData struct {
	Countries []country
	Country   string
	Region    string
}

func (p *Pages) country(ctx context.Context, v *visit) error {
	if ok, err := v.ready(ctx, "/settings/recovery/country"); err != nil || !ok {
		return err
	}
	set, err := call[event.PreferencesReply](ctx, v, event.VerbRecoveryPreferences, event.PreferencesRequest{User: v.row.User})
	if err != nil {
		return err
	}
	return v.show(ctx, "settings/country", countryData{v.countries(), set.Country, set.Region}, nil)
}

func (p *Pages) setCountry(ctx context.Context, v *visit) error {
	r := event.PreferencesRequest{Country: v.form("country")}
	if r.Country == "US" {
		r.Region = v.form("region")
	}
	again := func(wrong []web.FieldError) error {
		return v.show(ctx, "settings/country", countryData{v.countries(), r.Country, r.Region}, wrong)
	}
	if !otp.ValidCountry(r.Country) {
		return again(v.wrong("country", "settings.err_country"))
	}
	if utf8.RuneCountInString(r.Region) > maxRegion {
		return again(v.wrong("region", "settings.err_field", "Field", v.t("settings.region_label")))
	}
	if ok, err := v.change(ctx, "/settings/recovery/country", r, again); err != nil || !ok {
		return err
	}
	v.state.Flash = "settings.flash_country"
	return v.goTo(ctx, "/settings/recovery")
}

// maxRegion is how many characters the name of a region may have.
const maxRegion = 32

// wayNames are the names of what is set, for one line.
func (v *visit) wayNames(set event.PreferencesReply) []string {
	names := map[string]bool{}
	for _, c := range set.Contacts {
		names[c.Method] = true
	}
	if set.Passphrase {
		names[string(otp.ProofPassphrase)] = true
	}
	var out []string
	for _, way := range ways {
		if names[way] {
			out = append(out, v.t("settings.way_"+way))
		}
	}
	return out
}

package pages

import (
	"context"
	"slices"
	"strings"
	"sync"

	"golang.org/x/text/collate"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file sets the addresses that codes of a recovery go to. An email address or a number is one once a code that went there has come back.

// addressState is an address that waits for its code.
type addressState struct {
	Ceremony string `json:"ceremony"`
	Method   string `json:"method"`
	To       string `json:"to"` // masked
}

// contactData is for the form of an email address or a number.
type contactData struct{ Method, Value string }

func (p *Pages) address(method string) handler {
	return func(ctx context.Context, v *visit) error {
		if ok, err := v.ready(ctx, "/settings/recovery/"+method); err != nil || !ok {
			return err
		}
		return v.show(ctx, "settings/address", contactData{Method: method}, nil)
	}
}

// sendAddress has a code sent to the address.
func (p *Pages) sendAddress(method string) handler {
	return func(ctx context.Context, v *visit) error {
		path, typed := "/settings/recovery/"+method, v.form("address")
		again := func(wrong []web.FieldError) error {
			return v.show(ctx, "settings/address", contactData{method, typed}, wrong)
		}
		var err error
		if method == string(otp.ProofPhone) {
			_, err = otp.ParsePhone(typed, "")
		} else {
			_, err = otp.ParseEmail(typed)
		}
		if err != nil { // seen here, so that no proof is spent on a slip
			return again(v.wrong("address", "settings.err_"+method))
		}
		proof, ok, err := v.prove(ctx, event.PageSettings, path)
		if err != nil || !ok {
			return err
		}
		reply, err := call[event.RecoveryAddressReply](ctx, v, event.VerbRecoveryAddress, event.RecoveryAddressRequest{
			Owner: v.owner(), Method: method, Address: typed, Locale: v.locale.Tag, Client: v.client(), Proof: proof,
		})
		switch reason(err) {
		case otp.Invalid:
			if err := v.keepProof(ctx, path, proof); err != nil {
				return err
			}
			return again(v.wrong("address", "settings.err_"+method))
		case otp.BlockedDestination:
			return again(v.wrong("address", "settings.err_blocked"))
		case otp.RateLimited, otp.NotAllowed: // judged before the proof is taken
			if err := v.keepProof(ctx, path, proof); err != nil {
				return err
			}
		}
		if ok, err := v.changed(err, again); err != nil || !ok {
			return err
		}
		v.settings().Address = &addressState{reply.Ceremony, method, reply.To}
		return v.goTo(ctx, "/settings/recovery/code")
	}
}

// addressCodeData is for the form of the code that went to an address.
type addressCodeData struct{ Method, To string }

func (p *Pages) addressCode(ctx context.Context, v *visit) error { return v.askAddressCode(ctx, nil) }

func (v *visit) askAddressCode(ctx context.Context, wrong []web.FieldError) error {
	a := v.settings().Address
	if a == nil {
		return v.goTo(ctx, "/settings/recovery")
	}
	return v.show(ctx, "settings/address_code", addressCodeData{a.Method, a.To}, wrong)
}

func (p *Pages) confirmAddress(ctx context.Context, v *visit) error {
	a := v.settings().Address
	if a == nil {
		return v.goTo(ctx, "/settings/recovery")
	}
	code, form, _ := otp.ParseAnswer(v.form("code"))
	if form != otp.FormDigits {
		return v.askAddressCode(ctx, v.wrong("code", "settings.err_code"))
	}
	_, err := call[event.PreferencesReply](ctx, v, event.VerbRecoveryConfirm,
		event.RecoveryConfirmRequest{Ceremony: a.Ceremony, Session: v.row.Session, Code: code})
	switch reason(err) {
	case otp.WrongCode, otp.Invalid:
		return v.askAddressCode(ctx, v.wrong("code", "settings.err_code"))
	case otp.UnknownCeremony:
		return v.addressOver(ctx)
	}
	again := func(wrong []web.FieldError) error { return v.askAddressCode(ctx, wrong) }
	if ok, err := v.changed(err, again); err != nil || !ok {
		return err
	}
	v.settings().Address, v.state.Flash = nil, "settings.flash_address"
	return v.goTo(ctx, "/settings/recovery")
}

// addressOver leads back from a code that has expired, or was tried too often.
func (v *visit) addressOver(ctx context.Context) error {
	v.settings().Address = nil
	if err := v.save(ctx); err != nil {
		return err
	}
	return v.show(ctx, "settings/over", nil, nil, func(p *web.Page) { p.Path = "/settings/recovery" })
}

func (p *Pages) resendAddress(ctx context.Context, v *visit) error {
	a := v.settings().Address
	if a == nil {
		return v.goTo(ctx, "/settings/recovery")
	}
	_, err := call[event.ResendReply](ctx, v, event.VerbFactorResend, event.FactorResendRequest{Ceremony: a.Ceremony, Session: v.row.Session})
	if reason(err) == otp.UnknownCeremony {
		return v.addressOver(ctx)
	}
	again := func(wrong []web.FieldError) error {
		return v.show(ctx, "settings/address_code", addressCodeData{a.Method, a.To}, wrong, func(p *web.Page) { p.Path = "/settings/recovery/code" })
	}
	if ok, err := v.changed(err, again); err != nil || !ok {
		return err
	}
	v.state.Flash = "settings.flash_resent"
	return v.goTo(ctx, "/settings/recovery/code")
}

// letterData is for the form of a postal address.
type letterData struct {
	otp.Address
	Countries []country
}

func (p *Pages) letter(ctx context.Context, v *visit) error {
	if ok, err := v.ready(ctx, "/settings/recovery/letter"); err != nil || !ok {
		return err
	}
	set, err := call[event.PreferencesReply](ctx, v, event.VerbRecoveryPreferences, event.PreferencesRequest{User: v.row.User})
	if err != nil {
		return err
	}
	return v.show(ctx, "settings/letter", letterData{otp.Address{Country: set.Country, Region: set.Region}, v.countries()}, nil)
}

// postalLabel is the name of the text that stands above a field of a postal address.
func postalLabel(field string) string {
	switch field {
	case "country":
		return "settings.country_label"
	case "postal_code":
		return "settings.postal_code"
	}
	return "settings.postal_" + field
}

// setLetter stores where letters go.
func (p *Pages) setLetter(ctx context.Context, v *visit) error {
	const path = "/settings/recovery/letter"
	a := otp.Address{
		Name: v.form("name"), Line1: v.form("line1"), Line2: v.form("line2"), City: v.form("city"), Region: v.form("region"),
		PostalCode: v.form("postal_code"), Country: v.form("country"),
	}
	again := func(wrong []web.FieldError) error {
		return v.show(ctx, "settings/letter", letterData{a, v.countries()}, wrong)
	}
	if _, err := otp.ParseAddress(a.Encode()); err != nil {
		field := strings.TrimPrefix(otp.AsProblem(err).Field, "address.")
		return again(v.wrong(field, "settings.err_field", "Field", v.t(postalLabel(field))))
	}
	proof, ok, err := v.prove(ctx, event.PageSettings, path)
	if err != nil || !ok {
		return err
	}
	_, err = call[event.RecoveryAddressReply](ctx, v, event.VerbRecoveryAddress, event.RecoveryAddressRequest{
		Owner: v.owner(), Method: string(otp.ProofLetter), Postal: &a, Locale: v.locale.Tag, Client: v.client(), Proof: proof,
	})
	if reason(err) == otp.Invalid {
		if err := v.keepProof(ctx, path, proof); err != nil {
			return err
		}
		return again(v.wrong("", "settings.err_postal"))
	}
	if ok, err := v.changed(err, again); err != nil || !ok {
		return err
	}
	v.state.Flash = "settings.flash_letter"
	return v.goTo(ctx, "/settings/recovery")
}

// A country is one to choose.
type country struct{ Code, Name string }

// countryLists are the countries of each language, by name in the language's order.
var countryLists sync.Map

func (v *visit) countries() []country {
	if list, ok := countryLists.Load(v.locale.Tag); ok {
		return list.([]country)
	}
	tag := language.MustParse(v.locale.Tag)
	names := display.Regions(tag)
	var list []country
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			if code := string([]rune{a, b}); otp.ValidCountry(code) {
				list = append(list, country{code, names.Name(language.MustParseRegion(code))})
			}
		}
	}
	order := collate.New(tag)
	slices.SortFunc(list, func(x, y country) int { return order.CompareString(x.Name, y.Name) })
	countryLists.Store(v.locale.Tag, list)
	return list
}

func (v *visit) countryName(code string) string {
	for _, c := range v.countries() {
		if c.Code == code {
			return c.Name
		}
	}
	return code
}

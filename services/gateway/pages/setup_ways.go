package pages

import (
	"context"
	"encoding/base64"
	"html/template"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file is the ways to choose from: an authenticator app, a number or mailbox that codes are sent to, a security key.

// appData is for the page of the authenticator app.
type appData struct {
	First  bool
	QR     template.URL
	URI    template.URL
	Secret string
	Shown  string // which ceremony the page shows
	Digits int
	Label  string
}

// setupApp shows the secret of an authenticator app. Looked at again it is the same one, for as long as it can be confirmed.
func (p *Pages) setupApp(ctx context.Context, v *visit) error {
	if v.state.Setup.live(p.Now(), otp.FactorTOTP) {
		return p.showApp(ctx, v, nil)
	}
	return p.setupAppAnew(ctx, v, "")
}

// setupAppAnew begins with another secret and says why the one before is no longer good.
func (p *Pages) setupAppAnew(ctx context.Context, v *visit, why string) error {
	list, ok, err := p.setupReady(ctx, v)
	if !ok || err != nil {
		return err
	}
	problem, err := p.setupBegin(ctx, v, list, otp.FactorTOTP, "", "")
	switch {
	case err != nil:
		return err
	case problem != nil:
		return p.notBegun(ctx, v, list, why, problem)
	case why != "":
		return p.showApp(ctx, v, v.wrong("", why))
	}
	return p.showApp(ctx, v, nil)
}

func (p *Pages) showApp(ctx context.Context, v *visit, wrong []web.FieldError) error {
	s := v.state.Setup
	data := appData{First: s.First, QR: picture(s.QR), URI: otpauth(s.URI), Secret: s.Secret, Shown: s.shown(), Digits: v.setupDigits(), Label: v.form("label")}
	return v.show(ctx, "setup/app", data, wrong)
}

// shown names the ceremony that a page has shown, without telling its id.
func (s *setupState) shown() string {
	sum := web.Digest("otpost/setup/shown/" + s.Ceremony)
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// setupAppCode takes the code that the app shows. It is of the secret that the page has shown, which may not be the latest: there are other tabs.
func (p *Pages) setupAppCode(ctx context.Context, v *visit) error {
	if s := v.state.Setup; !s.live(p.Now(), otp.FactorTOTP) || v.form("shown") != s.shown() {
		return p.setupAppAnew(ctx, v, "setup.expired_app")
	}
	r, err := p.setupAnswer(ctx, v, v.form("code"), nil)
	switch {
	case err != nil:
		return err
	case r.over == expired:
		return p.setupAppAnew(ctx, v, "setup.expired_app")
	case r.over != "":
		return p.setupAppAnew(ctx, v, "setup.wrong_last_app")
	case r.wrong != nil:
		return p.showApp(ctx, v, r.wrong)
	}
	return nil
}

// addressData is for the page that asks for a number or a mailbox.
type addressData struct {
	First bool
	Kind  string // sms or email
	Path  string // of the page
	Value string // what was typed, for it to be mended
	Label string
	To    string // where a code is on its way to, masked; empty for nowhere
}

// addressKind is the kind of factor that a path is for.
func (v *visit) addressKind() otp.FactorKind {
	if v.r.URL.Path == "/setup/text" {
		return otp.FactorSMS
	}
	return otp.FactorEmail
}

// addressPath is the page that asks for the address of a kind.
func addressPath(kind string) string {
	if kind == string(otp.FactorSMS) {
		return "/setup/text"
	}
	return "/setup/email"
}

// setupAddress asks for a number or a mailbox.
func (p *Pages) setupAddress(ctx context.Context, v *visit) error {
	if _, ok, err := p.setupReady(ctx, v); !ok || err != nil {
		return err
	}
	return p.showAddress(ctx, v, v.addressKind(), nil)
}

func (p *Pages) showAddress(ctx context.Context, v *visit, kind otp.FactorKind, wrong []web.FieldError) error {
	s := v.state.Setup
	data := addressData{First: s.First, Kind: string(kind), Path: addressPath(string(kind)), Value: v.form("address"), Label: v.form("label")}
	if s.live(p.Now(), kind) {
		data.To = s.To
	}
	return v.show(ctx, "setup/address", data, wrong, func(page *web.Page) { page.Path = data.Path })
}

// setupSend has a code sent to the number or mailbox that was entered.
func (p *Pages) setupSend(ctx context.Context, v *visit) error {
	list, ok, err := p.setupReady(ctx, v)
	if !ok || err != nil {
		return err
	}
	kind := v.addressKind()
	address, words := checkAddress(kind, v.form("address"))
	label, wrong := v.setupLabel()
	if words != "" {
		wrong = append(v.wrong("address", words), wrong...)
	}
	if wrong != nil {
		return p.showAddress(ctx, v, kind, wrong)
	}
	problem, err := p.setupBegin(ctx, v, list, kind, address, label)
	switch {
	case err != nil:
		return err
	case problem == nil:
		return v.lead("/setup/code")
	case reason(problem) == otp.ReauthRequired:
		return v.needPassword(event.PageSetup)
	}
	return p.showAddress(ctx, v, kind, v.refusal("address", problem))
}

// checkAddress reads an address as people write it, and returns the text that says what is wrong with it. Of a number, 00 is as good as the plus sign.
func checkAddress(kind otp.FactorKind, typed string) (address, words string) {
	name := "phone"
	if kind == otp.FactorEmail {
		name = "email"
	}
	if typed == "" {
		return "", "setup." + name + "_empty"
	}
	var err error
	if kind == otp.FactorEmail {
		address, err = otp.ParseEmail(typed)
	} else {
		if rest, ok := strings.CutPrefix(typed, "00"); ok {
			typed = "+" + rest
		}
		address, err = otp.ParsePhone(typed, "")
	}
	switch {
	case err == nil:
		return address, ""
	case kind == otp.FactorSMS && !strings.ContainsAny(typed, "+＋"):
		return "", "setup.phone_plus"
	}
	return "", "setup." + name + "_wrong"
}

// codeData is for the page that asks for the code that was sent.
type codeData struct {
	First  bool
	Kind   string
	To     string
	Life   countdown // until it expires
	Digits int
	Wait   *countdown // until it may be sent again
	Sends  int        // how often it may be sent again
	Back   string     // where another address is entered
}

// setupCode asks for the code that was sent.
func (p *Pages) setupCode(ctx context.Context, v *visit) error { return p.showCode(ctx, v, nil) }

func (p *Pages) showCode(ctx context.Context, v *visit, wrong []web.FieldError) error {
	s := v.state.Setup
	if !s.live(p.Now(), otp.FactorSMS, otp.FactorEmail) {
		return p.setupSentOver(ctx, v, "setup.expired_sent")
	}
	now := p.Now()
	data := codeData{
		First: s.First, Kind: s.Kind, To: s.To, Life: v.countdown("setup.code_life", event.ParseTime(s.Expires).Sub(now)), Digits: v.setupDigits(), Sends: s.Sends,
		Back: addressPath(s.Kind),
	}
	if wait := event.ParseTime(s.Resend).Sub(now); wait > 0 {
		c := v.countdown("setup.resend_wait", wait)
		data.Wait = &c
	}
	return v.show(ctx, "setup/code", data, wrong)
}

// setupSentOver says on the page of the address why the code that was sent is no longer good.
func (p *Pages) setupSentOver(ctx context.Context, v *visit, why string) error {
	s := v.state.Setup
	if s == nil || s.Ceremony == "" || s.Kind != string(otp.FactorSMS) && s.Kind != string(otp.FactorEmail) {
		return v.lead("/setup")
	}
	kind := otp.FactorKind(s.Kind)
	s.forget()
	if err := v.save(ctx); err != nil {
		return err
	}
	return p.showAddress(ctx, v, kind, v.wrong("address", why))
}

// setupCodeTyped takes the code that was sent.
func (p *Pages) setupCodeTyped(ctx context.Context, v *visit) error {
	if !v.state.Setup.live(p.Now(), otp.FactorSMS, otp.FactorEmail) {
		return p.setupSentOver(ctx, v, "setup.expired_sent")
	}
	r, err := p.setupAnswer(ctx, v, v.form("code"), nil)
	switch {
	case err != nil:
		return err
	case r.over == expired:
		return p.setupSentOver(ctx, v, "setup.expired_sent")
	case r.over != "":
		return p.setupSentOver(ctx, v, "setup.wrong_last_sent")
	case r.wrong != nil:
		return p.showCode(ctx, v, r.wrong)
	}
	return nil
}

// setupResend has the code sent once more.
func (p *Pages) setupResend(ctx context.Context, v *visit) error {
	s := v.state.Setup
	if !s.live(p.Now(), otp.FactorSMS, otp.FactorEmail) {
		return p.setupSentOver(ctx, v, "setup.expired_sent")
	}
	r, err := call[event.ResendReply](ctx, v, event.VerbFactorResend, event.FactorResendRequest{Ceremony: s.Ceremony, Session: v.row.Session})
	if reason(err) == otp.UnknownCeremony {
		return p.setupSentOver(ctx, v, "setup.expired_sent")
	}
	if err != nil {
		if wrong := v.refusal("", err); wrong != nil {
			return p.showCode(ctx, v, wrong)
		}
		return err
	}
	s.Sends, s.Resend = r.SendsLeft, p.in(r.RetryAfter)
	v.state.Flash = "setup.resent"
	return v.goTo(ctx, "/setup/code")
}

// keyData is for the page of the security key.
type keyData struct {
	First   bool
	Options string // JSON for the browser
	Label   string
}

// setupKey asks for a security key. What the browser needs serves one answer, and is the same until then.
func (p *Pages) setupKey(ctx context.Context, v *visit) error {
	if v.state.Setup.live(p.Now(), otp.FactorWebAuthn) {
		return p.showKey(ctx, v, nil)
	}
	return p.setupKeyAnew(ctx, v, "")
}

func (p *Pages) setupKeyAnew(ctx context.Context, v *visit, why string) error {
	list, ok, err := p.setupReady(ctx, v)
	if !ok || err != nil {
		return err
	}
	if !p.keysWork(v) {
		return v.lead("/setup")
	}
	problem, err := p.setupBegin(ctx, v, list, otp.FactorWebAuthn, "", "")
	switch {
	case err != nil:
		return err
	case problem != nil:
		return p.notBegun(ctx, v, list, why, problem)
	case why != "":
		return p.showKey(ctx, v, v.wrong("", why))
	}
	return p.showKey(ctx, v, nil)
}

func (p *Pages) showKey(ctx context.Context, v *visit, wrong []web.FieldError) error {
	s := v.state.Setup
	return v.show(ctx, "setup/key", keyData{First: s.First, Options: string(s.Options), Label: v.form("label")}, wrong)
}

// setupKeyAnswer takes what the security key said.
func (p *Pages) setupKeyAnswer(ctx context.Context, v *visit) error {
	if !v.state.Setup.live(p.Now(), otp.FactorWebAuthn) {
		return p.setupKeyAnew(ctx, v, "setup.expired_key")
	}
	credential := jsontext.Value(v.form("credential"))
	switch {
	case len(credential) == 0:
		return p.showKey(ctx, v, v.wrong("", "setup.key_script"))
	case len(credential) > event.MaxCredential || !credential.IsValid() || credential.Kind() != '{':
		return p.showKey(ctx, v, v.wrong("", "setup.key_refused"))
	}
	r, err := p.setupAnswer(ctx, v, "", credential)
	switch {
	case err != nil:
		return err
	case r.over == expired:
		return p.setupKeyAnew(ctx, v, "setup.expired_key")
	case r.over == taken:
		return p.setupKeyAnew(ctx, v, "setup.key_known")
	case r.over != "":
		return p.setupKeyAnew(ctx, v, "setup.key_refused")
	case r.wrong != nil:
		return p.showKey(ctx, v, r.wrong)
	}
	return nil
}

package pages

import (
	"context"
	"encoding/base64"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file is the wizard that adds a factor: the choice of a way, and what every way has in common. A visit has one ceremony at a time; what it is given to
// show, the secret of an authenticator app above all, is remembered until the factor is proven or the user chooses again, and no longer.

// setupState is what the wizard remembers.
type setupState struct {
	First    bool           `json:"first,omitzero"`    // the user has no factor yet: backup codes will come with this one
	Stranger bool           `json:"stranger,omitzero"` // what waits for its backup codes is another session's
	Kind     string         `json:"kind,omitzero"`     // of the ceremony, or of the factor just added
	Ceremony string         `json:"ceremony,omitzero"`
	Expires  string         `json:"expires,omitzero"`
	Left     int            `json:"left,omitzero"`    // answers that the ceremony still takes
	Secret   string         `json:"secret,omitzero"`  // of totp, and so are the next two
	URI      string         `json:"uri,omitzero"`     //
	QR       string         `json:"qr,omitzero"`      // SVG
	Options  jsontext.Value `json:"options,omitzero"` // of webauthn
	To       string         `json:"to,omitzero"`      // of sms and email, masked, and so are the next two
	Sends    int            `json:"sends,omitzero"`   // left
	Resend   string         `json:"resend,omitzero"`  // when the code may be sent again
	Codes    []string       `json:"codes,omitzero"`   // backup codes that are to be kept
	Factor   string         `json:"factor,omitzero"`  // that they came with; empty where they were shown again
	Kept     string         `json:"kept,omitzero"`    // how they were: saved, printed or copied
	Added    bool           `json:"added,omitzero"`   // this visit has added a factor
}

// setupTries is how many answers a ceremony takes (services/enrolment).
const setupTries = 5

func (p *Pages) setupRoutes() {
	p.get("/setup", p.setupChoose)
	p.get("/setup/app", p.setupApp)
	p.post("/setup/app", p.setupAppCode)
	p.get("/setup/text", p.setupAddress)
	p.post("/setup/text", p.setupSend)
	p.get("/setup/email", p.setupAddress)
	p.post("/setup/email", p.setupSend)
	p.get("/setup/code", p.setupCode)
	p.post("/setup/code", p.setupCodeTyped)
	p.get("/setup/code/resend", p.setupCode)
	p.post("/setup/code/resend", p.setupResend)
	p.get("/setup/key", p.setupKey)
	p.post("/setup/key", p.setupKeyAnswer)
	p.get("/setup/codes", p.setupCodes)
	p.post("/setup/codes", p.setupFinish)
	p.post("/setup/codes/show", p.setupCodesAgain)
	p.post("/setup/codes/save", p.setupCodesSave)
	p.post("/setup/codes/copy", p.setupCodesCopy)
	p.post("/setup/codes/print", p.setupCodesPrint)
	p.get("/setup/codes/print", p.setupCodesSheet)
	p.get("/setup/done", p.setupDone)
	p.post("/setup/done", p.setupLeave)
}

// A setupWay is a kind of factor to choose.
type setupWay struct {
	Kind, Path, Icon string
	Have             int // of this kind that there are
}

// setupWays are all of them, in the order in which they are offered.
var setupWays = []setupWay{
	{Kind: "totp", Path: "/setup/app", Icon: "app"},
	{Kind: "webauthn", Path: "/setup/key", Icon: "key"},
	{Kind: "sms", Path: "/setup/text", Icon: "text"},
	{Kind: "email", Path: "/setup/email", Icon: "email"},
}

// chooseData is for the page of the choice.
type chooseData struct {
	First   bool
	Waiting bool // one is proven, and its backup codes are still to be kept
	Ways    []setupWay
	Home    string // where the wizard was come to from, within the visit
}

// setupChoose shows the ways there are. Whoever comes back to the choice has left what they had begun.
func (p *Pages) setupChoose(ctx context.Context, v *visit) error {
	if s := v.state.Setup; s != nil && len(s.Codes) > 0 {
		return v.lead("/setup/codes")
	}
	list, ok, err := p.setupReady(ctx, v)
	if !ok || err != nil {
		return err
	}
	if v.state.Setup.Ceremony != "" {
		v.state.Setup.forget()
		if err := v.save(ctx); err != nil {
			return err
		}
	}
	return p.showChoice(ctx, v, list, nil)
}

func (p *Pages) showChoice(ctx context.Context, v *visit, list event.FactorListReply, wrong []web.FieldError) error {
	s := v.state.Setup
	data := chooseData{First: s.First, Waiting: s.First && !s.Stranger && len(list.Factors) > 0, Home: v.home()}
	for _, w := range setupWays {
		if w.Kind == string(otp.FactorWebAuthn) && !p.keysWork(v) {
			continue
		}
		for _, f := range list.Factors {
			if f.Kind == w.Kind && f.State != string(otp.FactorConfirmed) {
				w.Have++
			}
		}
		data.Ways = append(data.Ways, w)
	}
	return v.show(ctx, "setup/choose", data, wrong)
}

// keysWork reports whether a security key that is registered on these pages would be taken: the app has a relying party, and the pages are of it.
func (p *Pages) keysWork(v *visit) bool {
	policy := v.app.Policy.Factors
	return policy.RPID != "" && slices.Contains(policy.Origins, p.Public.Scheme+"://"+p.Public.Host)
}

// setupReady looks at what the user has. ok is false where the password is needed first, or a factor that the visit has not shown; the user is led on then.
func (p *Pages) setupReady(ctx context.Context, v *visit) (list event.FactorListReply, ok bool, err error) {
	if v.state.Setup == nil {
		v.state.Setup = &setupState{}
	}
	list, err = call[event.FactorListReply](ctx, v, event.VerbFactorList, event.FactorListRequest{User: v.row.User})
	if err != nil {
		return list, false, err
	}
	v.state.Setup.First = !slices.ContainsFunc(list.Factors, func(f event.FactorInfo) bool { return f.State != string(otp.FactorConfirmed) })
	if v.halfway() && !v.state.Setup.First && !v.state.Setup.Added { // set up elsewhere since the recovery: it is to be shown first, as at any sign-in
		return list, false, v.lead("/recovery")
	}
	if !v.state.Setup.First && !v.fresh() {
		return list, false, v.needPassword(event.PageSetup)
	}
	return list, true, nil
}

// setupBegin begins a ceremony in place of the one there was. Where the workers refuse it, problem says so and the wizard is as it was.
func (p *Pages) setupBegin(ctx context.Context, v *visit, list event.FactorListReply, kind otp.FactorKind, address, label string) (problem, err error) {
	request := event.FactorBeginRequest{
		Owner: v.owner(), Kind: string(kind), Label: label, Address: address, Locale: v.locale.Tag, Client: v.client(), Reauthenticated: v.reauthenticated(),
	}
	if label == "" {
		request.Label = v.usualLabel(list, string(kind))
	}
	if kind == otp.FactorTOTP || kind == otp.FactorWebAuthn {
		request.Account = v.row.Account
	}
	r, err := call[event.FactorBeginReply](ctx, v, event.VerbFactorBegin, request)
	if err != nil {
		if setupWords[reason(err)] == "" && reason(err) != otp.ReauthRequired {
			return nil, err
		}
		return err, nil
	}
	s := v.state.Setup
	s.forget()
	s.Kind, s.Ceremony, s.Expires, s.Left = r.Kind, r.Ceremony, r.ExpiresAt, setupTries
	s.Secret, s.URI, s.QR, s.Options = r.Secret, r.URI, r.QRSVG, r.Options
	s.To, s.Sends, s.Resend = r.To, r.SendsLeft, p.in(r.RetryAfter)
	return nil, v.save(ctx)
}

// in is a time some seconds ahead.
func (p *Pages) in(seconds int) string {
	return event.Time(p.Now().Add(time.Duration(seconds) * time.Second))
}

// usualLabel tells a further factor of a kind from those that there are, where the user has given it no name: "Security key 2".
func (v *visit) usualLabel(list event.FactorListReply, kind string) string {
	n := 1
	for _, f := range list.Factors {
		if f.Kind == kind && f.State != string(otp.FactorConfirmed) {
			n++
		}
	}
	if n == 1 {
		return ""
	}
	return v.t("setup.another", "Kind", v.t("common.kind_"+kind), "Number", n)
}

// forget drops the ceremony and all that came with it.
func (s *setupState) forget() {
	*s = setupState{First: s.First, Stranger: s.Stranger, Added: s.Added}
}

// live reports whether a ceremony of one of the kinds is under way.
func (s *setupState) live(now time.Time, kinds ...otp.FactorKind) bool {
	return s != nil && s.Ceremony != "" && slices.Contains(kinds, otp.FactorKind(s.Kind)) && now.Before(event.ParseTime(s.Expires))
}

// setupWords says a refusal of the workers.
var setupWords = map[otp.Reason]string{
	otp.TooMany: "setup.too_many", otp.NotAllowed: "setup.not_allowed", otp.Conflict: "setup.conflict", otp.RateLimited: "setup.rate_limited",
	otp.AccountLocked: "setup.locked", otp.BlockedDestination: "setup.blocked", otp.Invalid: "setup.invalid",
}

// refusal is what a page says of a refusal of the workers; nil for one that no page can say.
func (v *visit) refusal(field string, err error) []web.FieldError {
	why := reason(err)
	id := setupWords[why]
	if id == "" {
		return nil
	}
	problem := otp.AsProblem(err)
	if why == otp.RateLimited && problem.RetryAfter == 0 {
		id = "setup.enough"
	}
	if why != otp.RateLimited && why != otp.BlockedDestination && why != otp.Invalid {
		field = ""
	}
	return v.wrong(field, id, "App", v.app.DisplayName, "Span", v.span(problem.RetryAfter))
}

// notBegun shows why a ceremony could not begin, where there is nothing else to show. why is what had ended the one before it.
func (p *Pages) notBegun(ctx context.Context, v *visit, list event.FactorListReply, why string, problem error) error {
	if reason(problem) == otp.ReauthRequired {
		return v.needPassword(event.PageSetup)
	}
	if v.state.Setup.Ceremony != "" {
		v.state.Setup.forget()
		if err := v.save(ctx); err != nil {
			return err
		}
	}
	wrong := v.refusal("", problem)
	if wait := otp.AsProblem(problem).RetryAfter; why == "setup.wrong_last_app" && wait > 0 {
		wrong = v.wrong("", "setup.wrong_last", "Span", v.span(wait))
	}
	return p.showChoice(ctx, v, list, wrong)
}

// setupLabel reads the name that the user gives. wrong says what is wrong with it.
func (v *visit) setupLabel() (label string, wrong []web.FieldError) {
	if label = v.form("label"); label != "" && otp.CheckText(label, event.MaxLabel) != "" {
		return "", v.wrong("label", "setup.label_wrong", "Number", event.MaxLabel)
	}
	return label, nil
}

// answered is what became of an answer to a ceremony. One of them is set, or none where the factor is proven and the user led on.
type answered struct {
	wrong []web.FieldError // to be shown with the same ceremony
	over  end              // why the ceremony is over
}

// An end is why a ceremony is over that has not proven a factor.
type end string

const (
	expired end = "expired" // or another one was begun
	lastTry end = "last"    // wrong once too often
	taken   end = "taken"   // the key is a factor already
)

// setupAnswer proves the factor with a code, or with what a security key said.
func (p *Pages) setupAnswer(ctx context.Context, v *visit, code string, credential jsontext.Value) (answered, error) {
	label, wrong := v.setupLabel()
	if wrong != nil {
		return answered{wrong: wrong}, nil
	}
	s := v.state.Setup
	r, err := call[event.FactorConfirmReply](ctx, v, event.VerbFactorConfirm, event.FactorConfirmRequest{
		Ceremony: s.Ceremony, Session: v.row.Session, Code: code, Credential: credential, Client: v.client(),
	})
	switch why := reason(err); {
	case err == nil:
		return answered{}, p.setupProven(ctx, v, r, label)
	case why == otp.UnknownCeremony:
		return answered{over: expired}, nil
	case why == otp.Conflict:
		return answered{over: taken}, nil
	case why == otp.WrongCode:
		if s.Left--; s.Left <= 0 || credential != nil { // a security key has one try
			return answered{over: lastTry}, nil
		}
		if saved := v.save(ctx); saved != nil {
			return answered{}, saved
		}
		wrong = v.wrong("code", "setup.wrong_code", "Count", s.Left)
		if wait := otp.AsProblem(err).RetryAfter; wait > 0 {
			wrong[0].Text += " " + v.t("setup.wrong_wait", "Span", v.span(wait))
		}
		return answered{wrong: wrong}, nil
	case why == otp.Invalid && credential == nil:
		return answered{wrong: v.wrong("code", "setup.code_form", "Count", v.setupDigits())}, nil
	default:
		if wrong = v.refusal("code", err); wrong == nil {
			return answered{}, err
		}
		return answered{wrong: wrong}, nil
	}
}

// setupDigits is how long the code of the ceremony is.
func (v *visit) setupDigits() int {
	if v.state.Setup.Kind == string(otp.FactorTOTP) {
		return v.app.Policy.Factors.TOTP.Digits
	}
	return otp.DefaultPolicy().Digits // of every code that confirms an address
}

// setupProven leads on from a factor that is proven: to the backup codes, or to the end.
func (p *Pages) setupProven(ctx context.Context, v *visit, r event.FactorConfirmReply, label string) error {
	s := v.state.Setup
	kind := s.Kind
	if label != "" && (kind == string(otp.FactorTOTP) || kind == string(otp.FactorWebAuthn)) { // it was asked for together with the answer
		rename := event.FactorRenameRequest{User: v.row.User, Factor: r.Factor, Label: label, Session: v.row.Session}
		if _, err := call[event.FactorListReply](ctx, v, event.VerbFactorRename, rename); err != nil {
			p.Logger.Warn("a new factor did not get its name", "app", v.app.Name, "error", err) // it has been added all the same
		}
	}
	s.forget()
	s.Kind, s.Added, s.Codes, s.Factor = kind, true, r.BackupCodes, r.Factor
	if len(s.Codes) > 0 {
		return v.goTo(ctx, "/setup/codes")
	}
	return p.setupEnd(ctx, v, "setup.added_"+kind)
}

// setupEnd leads to the end of the wizard, or back to where it was come to from.
func (p *Pages) setupEnd(ctx context.Context, v *visit, flash string) error {
	if home := v.home(); home != "" {
		v.state.Setup, v.state.Flash = nil, flash
		return v.goTo(ctx, home)
	}
	return v.goTo(ctx, "/setup/done")
}

// home is the page of the visit that the wizard leads back to; empty where the visit is for it alone.
func (v *visit) home() string {
	switch v.row.Page {
	case event.PageSettings, event.PageBackupCodes:
		return "/settings"
	}
	return ""
}

// doneData is for the last page.
type doneData struct {
	First bool
	Kind  string
}

// enrolled reports whether the visit has added a factor, and kept the backup codes that came with it.
func (v *visit) enrolled() bool {
	s := v.state.Setup
	return s != nil && s.Added && len(s.Codes) == 0
}

// setupDone says what has been reached.
func (p *Pages) setupDone(ctx context.Context, v *visit) error {
	if !v.enrolled() {
		return v.lead("/setup")
	}
	return v.show(ctx, "setup/done", doneData{First: v.state.Setup.First, Kind: v.state.Setup.Kind}, nil, noWayBack)
}

// setupLeave ends the visit that has added a factor.
func (p *Pages) setupLeave(ctx context.Context, v *visit) error {
	if !v.enrolled() {
		return v.lead("/setup")
	}
	if v.state.Recovered && v.row.Page != event.PageSetup {
		return v.finish(ctx, outcome{Outcome: event.OutcomeRecovered})
	}
	return v.finish(ctx, outcome{Outcome: v.leaving()})
}

// lead leads to another page of the visit with nothing changed.
func (v *visit) lead(path string) error {
	http.Redirect(v.w, v.r, path, http.StatusSeeOther)
	return nil
}

// picture is an SVG as an image's address. html/template would refuse the scheme of any text that it does not know to be good; this is base64 throughout.
func picture(svg string) template.URL {
	return template.URL("data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString([]byte(svg))) //nolint:gosec // see above
}

// otpauth is the address that opens an authenticator app, or nothing where it is none.
func otpauth(uri string) template.URL {
	if !strings.HasPrefix(uri, "otpauth://") {
		return ""
	}
	return template.URL(uri) //nolint:gosec // of this scheme only, made by the workers; html/template escapes it for the attribute
}

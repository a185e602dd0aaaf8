package pages

import (
	"context"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file is the backup codes that come with the first factor. The factor is one only when the user has them in safety: Finish stays closed until they have
// been saved, printed or copied. Who goes away before that can come back to them.

// codesData is for the pages of the backup codes.
type codesData struct {
	Codes []string
	Kept  bool
	Date  string // of today
}

// setupCodes shows the backup codes that are to be kept.
func (p *Pages) setupCodes(ctx context.Context, v *visit) error { return p.showCodes(ctx, v, nil) }

func (p *Pages) showCodes(ctx context.Context, v *visit, wrong []web.FieldError) error {
	s := v.state.Setup
	if s == nil || len(s.Codes) == 0 {
		return v.lead("/setup")
	}
	return v.show(ctx, "setup/codes", codesData{Codes: s.Codes, Kept: s.Kept != "", Date: v.locale.Date(event.Time(p.Now()))}, wrong)
}

// setupCodesAgain shows the codes that a visit before this one has left unkept. The workers want the password for it, and tell the user of it.
func (p *Pages) setupCodesAgain(ctx context.Context, v *visit) error {
	if _, ok, err := p.setupReady(ctx, v); !ok || err != nil {
		return err
	}
	s := v.state.Setup
	if !s.First {
		return v.lead("/setup")
	}
	if !v.fresh() {
		return v.needPassword(event.PageSetup)
	}
	r, err := call[event.BackupCodesReply](ctx, v, event.VerbBackupView, event.BackupCodesRequest{
		Owner: v.owner(), Client: v.client(), Reauthenticated: v.reauthenticated(),
	})
	switch reason(err) {
	case otp.ReauthRequired:
		return v.needPassword(event.PageSetup)
	case otp.NoFactorLeft: // of another session: this one begins with a factor of its own
		s.Stranger = true
		return v.goTo(ctx, "/setup")
	}
	if err != nil {
		return err
	}
	s.forget()
	s.Added = true
	for _, c := range r.Codes {
		s.Codes = append(s.Codes, c.Code)
	}
	return v.goTo(ctx, "/setup/codes")
}

// keep remembers how the codes were kept. ok is false where there are none to keep; the user is led on then.
func (v *visit) keep(ctx context.Context, how string) (ok bool, err error) {
	s := v.state.Setup
	if s == nil || len(s.Codes) == 0 {
		return false, v.lead("/setup")
	}
	s.Kept = how
	if err := v.save(ctx); err != nil {
		return false, err
	}
	return true, nil
}

// setupCodesSave gives the codes as a file.
func (p *Pages) setupCodesSave(ctx context.Context, v *visit) error {
	ok, err := v.keep(ctx, "saved")
	if !ok || err != nil {
		return err
	}
	v.sendCodes(v.state.Setup.Codes)
	return nil
}

// sendCodes sends backup codes as a text file to be saved, in the visit's language.
func (v *visit) sendCodes(codes []string) {
	lines := []string{v.t("setup.file_title", "App", v.app.DisplayName)}
	if v.row.Account != "" {
		lines = append(lines, v.t("setup.file_account", "Account", v.row.Account))
	}
	lines = append(lines, v.t("setup.file_date", "Date", v.locale.Date(event.Time(v.p.Now()))), v.t("setup.file_once"), "")
	lines = append(append(lines, codes...), "")
	h := v.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Language", v.locale.Tag)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": fileName(v.app) + "-backup-codes.txt"}))
	_, _ = v.w.Write([]byte(strings.Join(lines, "\r\n"))) //nolint:gosec // plain text, of which no browser makes a page; it fails only if the browser has gone
}

// fileName is an app's name as a file's may be: letters and digits of any script, with dashes for all between them.
func fileName(app postgres.App) string {
	words := strings.FieldsFunc(app.DisplayName, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) })
	if len(words) == 0 {
		return app.Name
	}
	return strings.Join(words, "-")
}

// setupCodesCopy hears of the page's script that the codes were copied. Without scripts there is no such button.
func (p *Pages) setupCodesCopy(ctx context.Context, v *visit) error {
	if ok, err := v.keep(ctx, "copied"); !ok || err != nil {
		return err
	}
	return v.kept("/setup/codes")
}

// setupCodesPrint hears that the codes are being printed: by the page's script, or, without one, by the form that leads to a sheet to print.
func (p *Pages) setupCodesPrint(ctx context.Context, v *visit) error {
	if ok, err := v.keep(ctx, "printed"); !ok || err != nil {
		return err
	}
	return v.kept("/setup/codes/print")
}

// kept answers a script with nothing, and anybody else with another page.
func (v *visit) kept(path string) error {
	if v.r.Header.Get("Accept") == "application/json" {
		v.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return v.lead(path)
}

// setupCodesSheet shows the codes as a sheet to print.
func (p *Pages) setupCodesSheet(ctx context.Context, v *visit) error {
	s := v.state.Setup
	if s == nil || len(s.Codes) == 0 {
		return v.lead("/setup")
	}
	return v.show(ctx, "setup/sheet", codesData{Codes: s.Codes, Kept: s.Kept != "", Date: v.locale.Date(event.Time(p.Now()))}, nil)
}

// setupFinish says to the workers that the codes are in safety. With that the factor is one, and the codes leave the visit.
func (p *Pages) setupFinish(ctx context.Context, v *visit) error {
	s := v.state.Setup
	if s == nil || len(s.Codes) == 0 {
		return v.lead("/setup/done")
	}
	if s.Kept == "" {
		return p.showCodes(ctx, v, v.wrong("", "setup.codes_first"))
	}
	mine, err := p.stillMine(ctx, v)
	if err != nil {
		return err
	}
	if !mine {
		return p.setupGaveWay(ctx, v)
	}
	_, err = call[event.BackupAcknowledgeReply](ctx, v, event.VerbBackupAcknowledge, event.BackupAcknowledgeRequest{Owner: v.owner(), How: s.Kept})
	if reason(err) == otp.NoFactorLeft {
		return p.setupGaveWay(ctx, v)
	}
	if err != nil {
		return err
	}
	s.Codes, s.Kept, s.Factor = nil, "", ""
	return p.setupEnd(ctx, v, "setup.activated")
}

// stillMine reports whether the factor that the codes came with is there. Another session that was quicker has made it give way, and the codes with it.
func (p *Pages) stillMine(ctx context.Context, v *visit) (bool, error) {
	list, err := call[event.FactorListReply](ctx, v, event.VerbFactorList, event.FactorListRequest{User: v.row.User})
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(list.Factors, func(f event.FactorInfo) bool {
		if s := v.state.Setup; s.Factor != "" {
			return f.Factor == s.Factor
		}
		return f.State == string(otp.FactorConfirmed) // the codes were shown again: which factor it is the visit does not know
	}), nil
}

// setupGaveWay says that the factor is gone, and its codes with it.
func (p *Pages) setupGaveWay(ctx context.Context, v *visit) error {
	v.state.Setup = nil
	if err := v.save(ctx); err != nil {
		return err
	}
	list, ok, err := p.setupReady(ctx, v)
	if !ok || err != nil {
		return err
	}
	return p.showChoice(ctx, v, list, v.wrong("", "setup.gave_way"))
}

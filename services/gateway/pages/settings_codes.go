package pages

import (
	"context"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// This file shows the backup codes and makes new ones. To see them is an act: the user is told of it over every address, and for a while the codes prove
// nothing. So they are asked for once and then kept, sealed, while they are on the screen.

// codesLife is how long codes that were shown stay on the screen.
const codesLife = 10 * time.Minute

// codesState is the backup codes while they are shown.
type codesState struct {
	Codes []event.BackupCodeInfo `json:"codes"`
	Left  int                    `json:"left"`
	Until int64                  `json:"until"` // Unix time
}

// shownCodes are the codes that may be on the screen now, nil for none.
func (v *visit) shownCodes() *codesState {
	if c := v.settings().Codes; c != nil && v.p.Now().Unix() < c.Until {
		return c
	}
	return nil
}

// ownCodesData is for the page of backup codes.
type ownCodesData struct {
	Left  int
	None  bool // there never were any, or they went with the last factor
	Codes []event.BackupCodeInfo
	Wait  string // how long codes prove nothing after they were shown; empty for not at all
}

func (p *Pages) codes(ctx context.Context, v *visit) error {
	list, err := call[event.FactorListReply](ctx, v, event.VerbFactorList, event.FactorListRequest{User: v.row.User})
	if err != nil {
		return err
	}
	data := ownCodesData{Left: list.BackupCodesLeft, None: !held(list)}
	if wait := v.app.Policy.Factors.CoolingOff; wait > 0 {
		data.Wait = v.span(wait)
	}
	if c := v.shownCodes(); c != nil {
		data.Codes, data.Left = c.Codes, c.Left
	} else if v.settings().Codes != nil {
		v.settings().Codes = nil
		if err := v.save(ctx); err != nil {
			return err
		}
	}
	return v.show(ctx, "settings/codes", data, nil, wide)
}

// good are the codes that have not been used.
func (c codesState) good() []string {
	var good []string
	for _, code := range c.Codes {
		if code.UsedAt == "" {
			good = append(good, code.Code)
		}
	}
	return good
}

func (p *Pages) viewCodes(ctx context.Context, v *visit) error {
	return v.fetchCodes(ctx, event.VerbBackupView, "")
}

func (p *Pages) makeCodes(ctx context.Context, v *visit) error {
	return v.fetchCodes(ctx, event.VerbBackupRegenerate, "settings.flash_codes_new")
}

func (v *visit) fetchCodes(ctx context.Context, verb, flash string) error {
	if !v.fresh() {
		return v.needPassword(event.PageBackupCodes)
	}
	if verb == event.VerbBackupView && v.shownCodes() != nil {
		return v.goTo(ctx, "/settings/codes") // sent twice
	}
	reply, err := call[event.BackupCodesReply](ctx, v, verb, event.BackupCodesRequest{Owner: v.owner(), Client: v.client(), Reauthenticated: v.reauthenticated()})
	switch {
	case reason(err) == otp.ReauthRequired:
		return v.needPassword(event.PageBackupCodes)
	case reason(err) == otp.NoFactorLeft:
		return v.goTo(ctx, "/settings")
	case err != nil:
		return err
	}
	v.settings().Codes = &codesState{Codes: reply.Codes, Left: reply.Left, Until: v.p.Now().Add(codesLife).Unix()}
	v.state.Flash = flash
	return v.goTo(ctx, "/settings/codes")
}

// saveCodes sends the codes as a file.
func (p *Pages) saveCodes(ctx context.Context, v *visit) error {
	c := v.shownCodes()
	if c == nil {
		return v.goTo(ctx, "/settings/codes")
	}
	if err := v.noteKept(ctx, "saved"); err != nil {
		return err
	}
	v.sendCodes(c.good())
	return nil
}

// keptCodes hears that the codes were copied or printed.
func (p *Pages) keptCodes(ctx context.Context, v *visit) error {
	if how := v.form("how"); v.shownCodes() != nil && slices.Contains([]string{"printed", "copied"}, how) {
		if err := v.noteKept(ctx, how); err != nil {
			return err
		}
	}
	return v.kept("/settings/codes")
}

// noteKept tells the workers that the user has the codes in safety, for the record.
func (v *visit) noteKept(ctx context.Context, how string) error {
	_, err := call[event.BackupAcknowledgeReply](ctx, v, event.VerbBackupAcknowledge, event.BackupAcknowledgeRequest{Owner: v.owner(), How: how})
	if reason(err) == otp.NoFactorLeft { // none is left, or no factor is
		return nil
	}
	return err
}

func (p *Pages) newCodes(ctx context.Context, v *visit) error {
	if !v.fresh() {
		return v.needPassword(event.PageBackupCodes)
	}
	return v.confirm(ctx, confirmData{
		Icon: "codes", Title: v.t("settings.new_title"), Texts: []string{v.t("settings.new_text")}, Action: "/settings/codes/new", Button: v.t("settings.new_button"),
		Back: "/settings/codes",
	})
}

package pages

import (
	"context"
	"strings"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// This file says in words what was done with a user's factors.

// An activityRow is one thing that was done, in words.
type activityRow struct {
	At     string
	Text   string
	Detail string
	Who    string // where it was not the user
	Here   bool
	Icon   string
}

// activityIcons are by what stands before the first dot of an action.
var activityIcons = map[string]string{
	"factor": "shield", "backup_codes": "codes", "backup_code": "codes", "device": "device", "deactivate": "alert", "account": "lock", "recovery": "person",
}

func (v *visit) activityRows(list []event.ActivityInfo) []activityRow {
	out := make([]activityRow, 0, len(list))
	for _, a := range list {
		id := textID("settings.did_", a.Action)
		if !v.locale.Has(id) {
			continue // of a newer worker
		}
		area, _, _ := strings.Cut(a.Action, ".")
		row := activityRow{At: a.At, Text: v.t(id), Here: a.Here, Icon: activityIcons[area]}
		var detail []string
		say := func(id string, pairs ...any) {
			if v.locale.Has(id) {
				detail = append(detail, v.t(id, pairs...))
			}
		}
		if a.Kind != "" {
			say("common.kind_" + a.Kind)
		}
		if a.Method == string(otp.FactorBackupCode) {
			say("common.kind_" + a.Method)
		} else if a.Method != "" {
			say("settings.way_" + a.Method)
		}
		if a.How != "" {
			say("settings.how_" + a.How)
		}
		if a.Reason != "" {
			say("settings.why_" + a.Reason)
		}
		if a.Left != nil {
			say("settings.codes_left", "Count", *a.Left)
		}
		row.Detail = strings.Join(detail, " · ")
		if a.By != event.ByUser {
			if id := "settings.by_" + a.By; v.locale.Has(id) {
				row.Who = v.t(id, "App", v.app.DisplayName)
			}
		}
		out = append(out, row)
	}
	return out
}

// activityData is for the page of activity.
type activityData struct {
	Activity []activityRow
	Before   string // where the next page begins; empty for the end
	Older    bool   // this is not the first page
}

func (p *Pages) activity(ctx context.Context, v *visit) error {
	ask := event.ActivityListRequest{User: v.row.User, Session: v.row.Session, Before: v.settings().Before}
	reply, err := call[event.ActivityListReply](ctx, v, event.VerbActivityList, ask)
	if reason(err) == otp.Invalid && ask.Before != "" { // a mark that a form has made up, or one of keys that are gone
		v.settings().Before = ""
		return v.goTo(ctx, "/settings/activity")
	}
	if err != nil {
		return err
	}
	return v.show(ctx, "settings/activity", activityData{v.activityRows(reply.Activity), reply.Before, ask.Before != ""}, nil, wide)
}

// turnActivity turns to another page. Its mark is sealed for the user by the workers.
func (p *Pages) turnActivity(ctx context.Context, v *visit) error {
	v.settings().Before = v.bounded("before", 256)
	return v.goTo(ctx, "/settings/activity")
}

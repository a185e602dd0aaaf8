package enrolment

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file shows users what was done with their factors: of the audit what means something to them, and nothing that is about others.

// activityList returns one page of what was done, newest first.
func (w *Worker) activityList(ctx context.Context, c caller, r event.ActivityListRequest) (any, error) {
	reply := event.ActivityListReply{Activity: []event.ActivityInfo{}}
	before, err := w.pageMarked(c, r.User, r.Before)
	if err != nil {
		return nil, err
	}
	users, err := w.Keys.AuditKeys("user", c.app.Name, r.User)
	if err != nil {
		return nil, err
	}
	var sessions []uuid.UUID
	if r.Session != "" {
		if sessions, err = w.Keys.AuditKeys("session", c.app.Name, r.Session); err != nil {
			return nil, err
		}
	}
	limit := r.Limit
	if limit == 0 {
		limit = event.DefaultActivity
	}
	err = w.view(ctx, c, r.User, func(a *act) error {
		reply.Activity = reply.Activity[:0]
		lines, err := a.Activity(users, actionNames(), before, limit+1) // one more than is shown tells whether there are more
		if err != nil {
			return err
		}
		if len(lines) > limit {
			lines = lines[:limit]
			if reply.Before, err = w.pageMark(c, r.User, lines[limit-1].ID); err != nil {
				return err
			}
		}
		for _, l := range lines {
			info, err := shown(l)
			if err != nil {
				return err
			}
			info.Here = slices.Contains(sessions, l.Session)
			reply.Activity = append(reply.Activity, info)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func actionNames() []string {
	var names []string
	for _, a := range event.Actions() {
		names = append(names, string(a))
	}
	return names
}

// shown is what a user is shown of a line of the audit. Of its detail only what belongs to the action: an agent's own words, for one, are for operators.
func shown(l postgres.AuditEntry) (event.ActivityInfo, error) {
	info := event.ActivityInfo{At: event.Time(l.At), Action: l.Action, By: l.Actor}
	if strings.HasPrefix(l.Actor, agentPrefix) {
		info.By = event.BySupport
	}
	var d struct {
		Kind, Proof, How, Reason, Why string
		Left                          *int
	}
	if err := json.Unmarshal(l.Detail, &d); err != nil {
		return info, fmt.Errorf("detail of line %d of the audit: %w", l.ID, err)
	}
	switch event.Action(l.Action) {
	case event.DidAddFactor, event.DidRefuseFactor:
		info.Kind = d.Kind
	case event.DidRemoveFactor, event.DidSuspendFactor:
		info.Kind, info.Reason = d.Kind, d.Reason
	case event.DidRevokeDevice:
		info.Reason = d.Reason
	case event.DidAcknowledgeCodes:
		info.How = d.How
	case event.DidUseCode:
		info.Left = d.Left
	case event.DidProveRecovery, event.DidFailRecovery:
		info.Method = d.Proof
	case event.DidCancelRecovery:
		if d.Why == event.EndedExhausted || d.Why == event.RemovedDeactivated {
			info.Reason = d.Why
		}
	}
	return info, nil
}

// Where a page ends is sealed: the audit's numbers are those of all apps, and would tell how much the others do.
const pageMarkID = "activity"

func (w *Worker) pageMark(c caller, user string, line int64) (string, error) {
	sealed, err := w.Keys.SealSecret(c.app.Name, user, pageMarkID, binary.BigEndian.AppendUint64(nil, uint64(line)))
	if err != nil {
		return "", fmt.Errorf("mark of a page: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// pageMarked returns the line that a mark stands for, 0 for none. It serves for the user only that it was made for.
func (w *Worker) pageMarked(c caller, user, mark string) (line int64, err error) {
	if mark == "" {
		return 0, nil
	}
	sealed, err := base64.RawURLEncoding.DecodeString(mark)
	if err != nil {
		return 0, errPageMark
	}
	number, err := w.Keys.OpenSecret(c.app.Name, user, pageMarkID, sealed)
	if err != nil || len(number) != 8 {
		return 0, errPageMark
	}
	return int64(binary.BigEndian.Uint64(number)), nil
}

var errPageMark = otp.InvalidField("before", "must be as the last reply for this user gave it")

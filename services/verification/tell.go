package verification

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/outbox"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file is what is told of answers: events to the app, notices to the user, lines of the audit.

// A report of what happened to one user in one session, in the making.
type report struct {
	postgres.Told
	event.About        // Login is empty where there is none
	challenge   string // whose answer brought it; empty where none did
	app         string
	keys        *keyring.Ring
	now         time.Time
	failed      error // the first thing that went wrong
}

// Tell makes the events of a judged answer, the notices, and the lines of the audit.
func (p *panel) Tell(i int, c postgres.Case, j postgres.Judgement, gone postgres.Gone) (postgres.Told, error) {
	ch := c.Challenge
	id := ch.ID.String()
	r := &report{
		app: p.answers[i].App, keys: p.worker.Keys, now: p.now, challenge: id, About: event.About{User: ch.User, Session: ch.Session, Login: ch.Login, Test: ch.Test},
	}
	if j.State == otp.Verified {
		r.event(event.ChallengeVerified, id+"/verified", event.VerifiedData{
			About: r.About, Challenge: id, Factor: j.Factor, AMR: otp.FactorKind(j.Factor).AMR(), VerifiedAt: event.Time(p.now),
		})
	} else {
		r.event(event.ChallengeFailed, fmt.Sprintf("%s/failed-%d", id, ch.Attempts+1), event.Failed{
			About: r.About, Challenge: id, Factor: string(ch.Factor), AttemptsLeft: p.answers[i].reply.AttemptsLeft,
		})
		if reason, over := event.EndReason(j.State); over {
			r.event(event.ChallengeEnded, id+"/ended", event.Ended{About: r.About, Challenge: id, Reason: reason})
		}
	}
	if j.State == otp.Locked {
		r.locked(id+"/account-locked", j.Budget.Failures)
	}
	if c.Backup.Spent {
		r.backupCodeUsed(id+"/backup-code-used", c.Backup.Left)
	}
	if j.Suspend != uuid.Nil {
		for _, f := range c.Factors {
			if f.ID == j.Suspend {
				r.suspended(f, id+"/suspended")
			}
		}
	}
	if j.Trust != nil {
		r.trusted(j.Trust)
	}
	for _, d := range gone.Devices {
		r.revoked(d)
	}
	for _, c := range gone.Challenges {
		r.cancelled(c)
	}
	return r.Told, r.failed
}

// event tells the app. The id follows from what happened, where that is found again by a repeat.
func (r *report) event(name event.Name, id string, data any) {
	r.Events = append(r.Events, outbox.Entry(event.Event{App: r.app, Name: name, ID: id, Subject: r.challenge, Time: r.now, Data: data}))
}

func (r *report) notice(n otp.Notice, d event.NoticeDetail) {
	r.Notices = append(r.Notices, postgres.Notice{Notice: n, Detail: r.json(d)})
}

// audit adds a line about a factor or a device, or about neither. The user did it, in the session.
func (r *report) audit(action string, about uuid.UUID, detail map[string]any) {
	user, err := r.keys.AuditKey("user", r.app, r.User)
	r.fail(err)
	session, err := r.keys.AuditKey("session", r.app, r.Session)
	r.fail(err)
	e := postgres.AuditEntry{User: user, Actor: "user", Action: action, Factor: about, Session: session}
	if len(detail) > 0 {
		e.Detail = r.json(detail)
	}
	r.Audit = append(r.Audit, e)
}

func (r *report) json(v any) []byte {
	b, err := json.Marshal(v)
	r.fail(err)
	return b
}

func (r *report) fail(err error) {
	if r.failed == nil && err != nil {
		r.failed = fmt.Errorf("tell of an answer: %w", err)
	}
}

func (r *report) locked(id string, failures int) {
	r.event(event.AccountLocked, id, event.AccountLockedData{
		User: r.User, Session: r.Session, Login: r.Login, Challenge: r.challenge, Failures: failures,
	})
	r.notice(otp.NoticeAccountLocked, event.NoticeDetail{})
	r.audit("account.locked", uuid.Nil, map[string]any{"failures": failures})
}

func (r *report) backupCodeUsed(id string, left int) {
	r.event(event.BackupCodeUsed, id, event.BackupCodeUsedData{User: r.User, Session: r.Session, Login: r.Login, Left: left})
	r.notice(otp.NoticeBackupCodeUsed, event.NoticeDetail{Left: left})
	if left <= otp.BackupCodesLow {
		r.notice(otp.NoticeBackupCodesLow, event.NoticeDetail{Left: left})
	}
	r.audit("backup_code.used", uuid.Nil, map[string]any{"left": left})
}

func (r *report) suspended(f postgres.OwnedFactor, id string) {
	r.event(event.FactorSuspended, id, event.FactorData{
		User: r.User, Session: r.Session, Login: r.Login, Factor: f.ID.String(), Kind: string(f.Kind), Label: f.Label, Reason: event.SuspendedCloned,
	})
	r.notice(otp.NoticeFactorSuspended, event.NoticeDetail{Factor: f.Kind, Label: f.Label})
	r.audit("factor.suspended", f.ID, map[string]any{"kind": f.Kind, "reason": event.SuspendedCloned})
}

func (r *report) trusted(d *postgres.NewDevice) {
	id := d.ID.String()
	r.event(event.DeviceTrusted, id+"/trusted", event.DeviceData{
		User: r.User, Session: r.Session, Login: r.Login, Device: id, Label: d.Label, ExpiresAt: event.Time(d.ExpiresAt),
	})
	r.notice(otp.NoticeDeviceTrusted, event.NoticeDetail{Label: d.Label})
	r.audit("device.trusted", d.ID, nil)
}

// cancelled tells of another challenge that was opened for a factor that is out of use now.
func (r *report) cancelled(c postgres.OpenChallenge) {
	id := c.ID.String()
	r.Events = append(r.Events, outbox.Entry(event.Event{
		App: r.app, Name: event.ChallengeEnded, ID: id + "/ended", Subject: id, Time: r.now,
		Data: event.Ended{About: event.About{User: r.User, Session: c.Session, Login: c.Login, Test: c.Test}, Challenge: id, Reason: string(otp.Cancelled)},
	}))
}

// revoked tells of a device that ended because of the answer. The user hears of what ended it.
func (r *report) revoked(d postgres.RevokedDevice) {
	id := d.ID.String()
	r.event(event.DeviceRevoked, id+"/revoked", event.DeviceData{User: r.User, Session: d.Session, Device: id, Label: d.Label, Reason: d.Reason})
	r.audit("device.revoked", d.ID, map[string]any{"reason": d.Reason})
}

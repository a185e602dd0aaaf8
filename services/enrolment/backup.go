package enrolment

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

// This file makes, shows and replaces backup codes. They are sealed, to be shown again, and found by a keyed digest.

// firstBackupCodes makes the backup codes that come with the first factor. A session that has such codes waiting to be acknowledged is shown them again.
func (a *act) firstBackupCodes(waiting bool) ([]string, error) {
	stored, err := a.BackupCodes()
	if err != nil {
		return nil, err
	}
	if !waiting || len(stored) == 0 {
		if err := a.CodesShown(time.Time{}); err != nil {
			return nil, err
		}
		return a.newBackupCodes()
	}
	var out []string
	for _, s := range stored {
		code, err := a.openBackupCode(s)
		if err != nil {
			return nil, err
		}
		out = append(out, code)
	}
	return out, nil
}

// newBackupCodes voids the codes that there are and returns others, grouped for reading.
func (a *act) newBackupCodes() ([]string, error) {
	codes := otp.NewBackupCodes()
	stored, out := make([]postgres.BackupCode, len(codes)), make([]string, len(codes))
	for i, code := range codes {
		digest, err := a.worker.Keys.Index(otp.BackupCodeLabel, []byte(a.caller.app.Name), []byte(a.Who.User), []byte(code))
		if err != nil {
			return nil, fmt.Errorf("backup code: %w", err)
		}
		sealed, err := a.worker.Keys.SealSecret(a.caller.app.Name, a.Who.User, backupCodeID(digest[:]), []byte(code))
		if err != nil {
			return nil, fmt.Errorf("backup code: %w", err)
		}
		stored[i] = postgres.BackupCode{Digest: digest[:], Position: i + 1, Sealed: sealed}
		out[i] = otp.GroupBackupCode(code)
	}
	return out, a.ReplaceBackupCodes(stored)
}

// backupCodeID binds a sealed code to its row.
func backupCodeID(digest []byte) string { return "backup_code/" + hex.EncodeToString(digest) }

// openBackupCode returns a code, grouped for reading.
func (a *act) openBackupCode(c postgres.BackupCode) (string, error) {
	code, err := a.worker.Keys.OpenSecret(a.caller.app.Name, a.Who.User, backupCodeID(c.Digest), c.Sealed)
	if err != nil {
		return "", fmt.Errorf("backup code: %w", err)
	}
	return otp.GroupBackupCode(string(code)), nil
}

func (a *act) backupCodesLeft() (int, error) {
	codes, err := a.BackupCodes()
	left := 0
	for _, c := range codes {
		if c.UsedAt.IsZero() {
			left++
		}
	}
	return left, err
}

// backupAcknowledge hears that the user has the backup codes in safety. Only with that the first factor is one: logins ask for it from now on. The word counts
// for what its own session has proven, and for nothing else: a stranger's factor never becomes one because the user has saved backup codes.
func (w *Worker) backupAcknowledge(ctx context.Context, c caller, r event.BackupAcknowledgeRequest) (any, error) {
	var reply event.BackupAcknowledgeReply
	err := w.act(ctx, c, r.User, func(a *act) error {
		factors, err := a.Factors()
		if err != nil {
			return err
		}
		left, err := a.backupCodesLeft()
		if err != nil {
			return err
		}
		mine := waiting(factors, r.Session)
		if len(mine) == 0 && !held(factors) || left == 0 {
			return errNothing
		}
		reply = event.BackupAcknowledgeReply{Activated: true, Left: left}
		if err := a.audit("backup_codes.acknowledged", note{session: r.Session, detail: map[string]any{"how": r.How}}); err != nil {
			return err
		}
		if err := a.abandon(factors, r.Session, nil); err != nil {
			return err
		}
		return a.activate(mine, r.Session)
	})
	return reply, err
}

// activate makes factors that wait good.
func (a *act) activate(factors []postgres.OwnedFactor, session string) error {
	some := false
	for _, f := range factors {
		ok, err := a.SetFactorState(f.ID, otp.FactorActive, otp.FactorConfirmed)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		some = true
		if err := a.added(f, session, nil); err != nil {
			return err
		}
	}
	if !some {
		return nil
	}
	p, err := a.Profile()
	if err != nil {
		return err
	}
	if p.ActivatedAt.IsZero() {
		p.ActivatedAt = a.Now
		if err := a.SetProfile(p); err != nil {
			return err
		}
	}
	if err := a.dropUnproven(session); err != nil {
		return err
	}
	return a.changed(event.RevokedFactorsChanged, session)
}

// backupView shows the backup codes again, to a user who has entered the password a moment ago. The user is told, as after a renewal, and for a while the codes
// let no weakening act pass: with the password alone somebody else may have got them.
func (w *Worker) backupView(ctx context.Context, c caller, r event.BackupCodesRequest) (any, error) {
	reply := event.BackupCodesReply{}
	err := w.act(ctx, c, r.User, func(a *act) error {
		reply = event.BackupCodesReply{Codes: []event.BackupCodeInfo{}}
		if err := a.reauthenticated(r.Reauthenticated); err != nil {
			return err
		}
		if err := a.ownCodes(r.Session); err != nil {
			return err
		}
		stored, err := a.BackupCodes()
		if err != nil {
			return err
		}
		for _, s := range stored {
			code, err := a.openBackupCode(s)
			if err != nil {
				return err
			}
			reply.Codes = append(reply.Codes, event.BackupCodeInfo{Code: code, UsedAt: event.OptionalTime(s.UsedAt)})
			if s.UsedAt.IsZero() {
				reply.Left++
			}
		}
		if len(stored) == 0 {
			return errNothing
		}
		if err := a.CodesShown(a.Now); err != nil {
			return err
		}
		if err := a.audit("backup_codes.viewed", note{session: r.Session, client: r.Client}); err != nil {
			return err
		}
		return a.notify(otp.NoticeBackupCodesViewed, event.NoticeDetail{Left: reply.Left})
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// ownCodes refuses where there are no backup codes that the session may have: before the first factor is one, they are for the session that has proven it.
func (a *act) ownCodes(session string) error {
	factors, err := a.Factors()
	if err == nil && !held(factors) && len(waiting(factors, session)) == 0 {
		err = errNothing
	}
	return err
}

// backupRegenerate makes the old backup codes void and returns new ones.
func (w *Worker) backupRegenerate(ctx context.Context, c caller, r event.BackupCodesRequest) (any, error) {
	reply := event.BackupCodesReply{}
	err := w.act(ctx, c, r.User, func(a *act) error {
		reply = event.BackupCodesReply{}
		if err := a.reauthenticated(r.Reauthenticated); err != nil {
			return err
		}
		if err := a.ownCodes(r.Session); err != nil {
			return err
		}
		codes, err := a.newBackupCodes()
		if err != nil {
			return err
		}
		if err := a.CodesShown(a.Now); err != nil {
			return err
		}
		for _, code := range codes {
			reply.Codes = append(reply.Codes, event.BackupCodeInfo{Code: code})
		}
		reply.Left = len(codes)
		a.tell(event.BackupCodesRegenerated, event.BackupCodesData{User: a.Who.User, Session: r.Session, Left: len(codes)})
		if err := a.audit("backup_codes.regenerated", note{session: r.Session, client: r.Client}); err != nil {
			return err
		}
		return a.notify(otp.NoticeBackupCodesRenewed, event.NoticeDetail{Left: len(codes)})
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// This file is what follows from answers beside the verdict: devices that are trusted from now on or no more, and what is told of it.

// MaxDevices is how many trusted devices a user may have at once; a further one takes the place of the oldest.
const MaxDevices = 20

// A NewDevice is a browser to be trusted.
type NewDevice struct {
	ID        uuid.UUID
	Digest    [32]byte // of its token
	Session   string
	Label     string
	ExpiresAt time.Time
}

// A RevokedDevice is trusted no more.
type RevokedDevice struct {
	Device
	Reason string
}

// Gone is what an answer of a user has ended beside its own challenge.
type Gone struct {
	Devices    []RevokedDevice
	Challenges []OpenChallenge // as cancelled
}

type revokedRow struct {
	AppID int    `db:"app_id"`
	User  string `db:"user_id"`
	deviceRow
	Reason string `db:"revoke_reason"`
}

// devices suspends factors, which voids the devices and the other open challenges of their users, and stores new devices. It returns what has ended by that.
func (v *verdicts) devices(ctx context.Context, tx *sqlx.Tx, now time.Time, judged []uuid.UUID, owners []Account) (map[Account]Gone, error) {
	var factors []uuid.UUID
	var wronged, trusting []Account
	var fresh []*NewDevice
	for k, j := range v.judged {
		if j.Suspend != uuid.Nil {
			factors, wronged = append(factors, j.Suspend), append(wronged, owners[v.index[k]])
		}
		if j.Trust != nil {
			fresh, trusting = append(fresh, j.Trust), append(trusting, owners[v.index[k]])
		}
	}
	var gone []revokedRow
	var ended map[Account][]OpenChallenge
	if len(factors) > 0 {
		rows, err := suspend(ctx, tx, now, factors, wronged)
		if err != nil {
			return nil, err
		}
		gone = rows
		if ended, err = voidChallenges(ctx, tx, now, wronged, judged); err != nil {
			return nil, err
		}
	}
	if len(fresh) > 0 {
		rows, err := trust(ctx, tx, now, fresh, trusting)
		if err != nil {
			return nil, err
		}
		gone = append(gone, rows...)
	}
	out := map[Account]Gone{}
	for _, r := range gone {
		k := Account{r.AppID, r.User}
		g := out[k]
		g.Devices = append(g.Devices, RevokedDevice{devices([]deviceRow{r.deviceRow})[0], r.Reason})
		out[k] = g
	}
	for k, challenges := range ended {
		g := out[k]
		g.Challenges = challenges
		out[k] = g
	}
	return out, nil
}

// suspend takes factors out of use, which is a change of factors as any other: the trusted devices of their users are void.
func suspend(ctx context.Context, tx *sqlx.Tx, now time.Time, factors []uuid.UUID, users []Account) (gone []revokedRow, err error) {
	var done []uuid.UUID
	if err := tx.SelectContext(ctx, &done, query("factors_suspend"), pq.Array(factors)); err != nil {
		return nil, fmt.Errorf("suspend factors: %w", err)
	}
	apps, names := accountArrays(users)
	if _, err := tx.ExecContext(ctx, query("epochs_raise"), apps, names); err != nil {
		return nil, fmt.Errorf("raise epochs: %w", err)
	}
	if err := tx.SelectContext(ctx, &gone, query("devices_void"), apps, names, now); err != nil {
		return nil, fmt.Errorf("void devices: %w", err)
	}
	return gone, nil
}

func trust(ctx context.Context, tx *sqlx.Tx, now time.Time, fresh []*NewDevice, users []Account) (gone []revokedRow, err error) {
	n := len(fresh)
	ids, sessions, labels, expires := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n)
	digests := make(pq.ByteaArray, n)
	for i, d := range fresh {
		ids[i], sessions[i], labels[i], expires[i], digests[i] = d.ID.String(), d.Session, d.Label, stamp(d.ExpiresAt), d.Digest[:]
	}
	apps, names := accountArrays(users)
	if _, err := tx.ExecContext(ctx, query("devices_trust"), ids, apps, names, sessions, labels, expires, now); err != nil {
		return nil, fmt.Errorf("store devices: %w", err)
	}
	if _, err := tx.ExecContext(ctx, query("device_tokens_add"), digests, ids, now); err != nil {
		return nil, fmt.Errorf("store device tokens: %w", err)
	}
	if err := tx.SelectContext(ctx, &gone, query("devices_crowd_out"), apps, names, now, MaxDevices); err != nil {
		return nil, fmt.Errorf("crowd devices out: %w", err)
	}
	return gone, nil
}

// tell stores what the panel has to tell and returns the events.
func (v *verdicts) tell(ctx context.Context, tx *sqlx.Tx, now time.Time, p Panel, cases []Case, owners []Account, gone map[Account]Gone) (
	events []OutboxEvent, err error,
) {
	for k, i := range v.index {
		told, err := p.Tell(i, cases[i], v.judged[k], gone[owners[i]])
		if err != nil {
			return nil, err
		}
		events = append(events, told.Events...)
		for n := range told.Notices {
			told.Notices[n].ID, told.Notices[n].Who, told.Notices[n].At = uuid.Must(uuid.NewV7()), owners[i], now
		}
		if err := insertNotices(ctx, tx, told.Notices); err != nil {
			return nil, err
		}
		for _, e := range told.Audit {
			e.At, e.AppID = now, owners[i].AppID
			if err := insertAudit(ctx, tx, e); err != nil {
				return nil, err
			}
		}
	}
	return events, insertOutbox(ctx, tx, now, events)
}

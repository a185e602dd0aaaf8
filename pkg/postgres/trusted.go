package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// This file is how the token of a trusted device serves: at a login, in the transaction that decides it, and by itself where it is renewed. A token that
// lives is replaced by its use. One that was replaced goes on to serve for a short grace, so that requests under way at once all pass; after that
// its use says that there is a copy of it, and all the user's devices are trusted no more.

// ErrNoDevice says that a token lets nobody pass: unknown, replaced, expired, revoked or another's.
var ErrNoDevice = errors.New("no such trusted device")

// A DeviceToken is the token of a trusted device as it came in.
type DeviceToken struct {
	Device  uuid.UUID
	Digest  [32]byte
	Next    [32]byte      // digest of the token that is to follow it; zero for none: then it stays as it is
	Session string        // in which it came
	Grace   time.Duration // for how long it serves once it was replaced
}

// renews reports whether a new token is to be given for it.
func (t *DeviceToken) renews() bool { return t.Next != [32]byte{} }

// A heldToken is one that the database holds for a device that is trusted now.
type heldToken struct {
	owner    Account
	device   Device
	replaced time.Time // zero while it lives
}

// A desk takes the tokens of one transaction, in turn, and remembers what is to be written. The accounts are locked while it is open.
type desk struct {
	now    time.Time
	held   map[[32]byte]*heldToken
	stolen map[Account]int // the index of what showed the theft
	used   []usedToken
}

type usedToken struct {
	index   int
	token   *DeviceToken
	rotates bool // it lived: what its device has is replaced
}

// openDesk reads the tokens that came with the logins of the given indexes. Without any it asks nothing.
func openDesk(ctx context.Context, tx sqlx.QueryerContext, now time.Time, batch []Admission, indexes []int) (*desk, error) {
	var tokens []*DeviceToken
	for _, i := range indexes {
		if t := batch[i].Token; t != nil {
			tokens = append(tokens, t)
		}
	}
	return newDesk(ctx, tx, now, tokens)
}

func newDesk(ctx context.Context, q sqlx.QueryerContext, now time.Time, tokens []*DeviceToken) (*desk, error) {
	d := &desk{now: now}
	if len(tokens) == 0 {
		return d, nil
	}
	digests := make(pq.ByteaArray, len(tokens))
	for i, t := range tokens {
		digests[i] = t.Digest[:]
	}
	var rows []struct {
		Digest   []byte       `db:"digest"`
		Replaced sql.NullTime `db:"replaced_at"`
		AppID    int          `db:"app_id"`
		User     string       `db:"user_id"`
		deviceRow
	}
	if err := sqlx.SelectContext(ctx, q, &rows, query("device_tokens_find"), digests, now); err != nil {
		return nil, fmt.Errorf("look for device tokens: %w", err)
	}
	d.held, d.stolen = make(map[[32]byte]*heldToken, len(rows)), map[Account]int{}
	for _, r := range rows {
		d.held[[32]byte(r.Digest)] = &heldToken{owner: Account{r.AppID, r.User}, device: devices([]deviceRow{r.deviceRow})[0], replaced: nullTime(r.Replaced)}
	}
	return d, nil
}

// look returns the device that a token stands for, the zero UUID for none. One that was replaced too long ago is remembered as stolen.
func (d *desk) look(i int, owner Account, t *DeviceToken) uuid.UUID {
	if t == nil {
		return uuid.Nil
	}
	h := d.held[t.Digest]
	if h == nil || h.owner != owner || h.device.ID != t.Device {
		return uuid.Nil
	}
	if _, gone := d.stolen[owner]; gone {
		return uuid.Nil
	}
	if !h.replaced.IsZero() && d.now.Sub(h.replaced) > t.Grace {
		d.stolen[owner] = i
		return uuid.Nil
	}
	return h.device.ID
}

// use notes that a token has served and reports whether a new one follows it.
func (d *desk) use(i int, t *DeviceToken) (renewed bool) {
	h := d.held[t.Digest]
	u := usedToken{index: i, token: t, rotates: t.renews() && h.replaced.IsZero()}
	if u.rotates {
		for _, other := range d.held { // a further token of the device in this batch finds itself replaced, as in another transaction
			if other.device.ID == t.Device && other.replaced.IsZero() {
				other.replaced = d.now
			}
		}
	}
	d.used = append(d.used, u)
	return t.renews()
}

// close writes what has become of the tokens of the kept indexes, and tells of the devices that each theft has cost.
func (d *desk) close(ctx context.Context, tx *sqlx.Tx, kept []int, theft func(i int, stolen []Device)) error {
	if len(d.held) == 0 {
		return nil
	}
	stands := make(map[int]bool, len(kept))
	for _, i := range kept {
		stands[i] = true
	}
	sessions := map[uuid.UUID]string{}
	var rotated, given pq.StringArray
	var old, fresh pq.ByteaArray
	for _, u := range d.used {
		if !stands[u.index] {
			continue
		}
		sessions[u.token.Device] = u.token.Session
		if u.rotates {
			rotated, old = append(rotated, u.token.Device.String()), append(old, u.token.Digest[:])
		}
		if u.token.renews() {
			given, fresh = append(given, u.token.Device.String()), append(fresh, u.token.Next[:])
		}
	}
	if err := d.noteUse(ctx, tx, sessions); err != nil {
		return err
	}
	if len(rotated) > 0 {
		if _, err := tx.ExecContext(ctx, query(guarded("device_rotate")), rotated, old, d.now); err != nil {
			return fmt.Errorf("replace device tokens: %w", err)
		}
	}
	if len(given) > 0 {
		if _, err := tx.ExecContext(ctx, query("device_tokens_add"), fresh, given, d.now); err != nil {
			return fmt.Errorf("store device tokens: %w", err)
		}
	}
	return d.revoke(ctx, tx, stands, theft)
}

func (d *desk) noteUse(ctx context.Context, tx *sqlx.Tx, last map[uuid.UUID]string) error {
	if len(last) == 0 {
		return nil
	}
	var ids, sessions pq.StringArray
	for id, s := range last {
		ids, sessions = append(ids, id.String()), append(sessions, s)
	}
	if _, err := tx.ExecContext(ctx, query("devices_used"), ids, sessions, d.now); err != nil {
		return fmt.Errorf("note the use of devices: %w", err)
	}
	return nil
}

// revoke ends the trust in all devices of those from whom a token was stolen.
func (d *desk) revoke(ctx context.Context, tx *sqlx.Tx, stands map[int]bool, theft func(i int, stolen []Device)) error {
	var wronged []Account
	for who, i := range d.stolen {
		if stands[i] {
			wronged = append(wronged, who)
		}
	}
	if len(wronged) == 0 {
		return nil
	}
	apps, names := accountArrays(wronged)
	var rows []revokedRow
	if err := tx.SelectContext(ctx, &rows, query("devices_stolen"), apps, names, d.now); err != nil {
		return fmt.Errorf("revoke stolen devices: %w", err)
	}
	gone := map[Account][]Device{}
	for _, r := range rows {
		k := Account{r.AppID, r.User}
		gone[k] = append(gone[k], devices([]deviceRow{r.deviceRow})[0])
	}
	for _, who := range wronged {
		theft(d.stolen[who], gone[who])
	}
	return nil
}

// RenewDevice gives a device a new token for one that serves. tell says what is written where the token turns out to be stolen; its events are returned.
// It returns ErrNoDevice for a token that serves no more, for a stolen one too.
func (s *Challenges) RenewDevice(ctx context.Context, now time.Time, who Account, t DeviceToken, tell func(stolen []Device) (Told, error)) (
	dev Device, events []OutboxEvent, err error,
) {
	ask := []*DeviceToken{&t}
	first, err := newDesk(ctx, s.db.x, now, ask)
	if err != nil {
		return Device{}, nil, err
	}
	if h := first.held[t.Digest]; h == nil || h.owner != who { // to take an account is to make it: not for whoever asks
		return Device{}, nil, ErrNoDevice
	}
	found := false
	err = s.db.tx(ctx, "renew a device", func(tx *sqlx.Tx) error {
		found, events = false, nil
		if _, err := lockAccounts(ctx, tx, now, []Account{who}); err != nil {
			return err
		}
		d, err := newDesk(ctx, tx, now, ask)
		if err != nil {
			return err
		}
		if found = d.look(0, who, &t) != uuid.Nil; found {
			dev = d.held[t.Digest].device
			d.use(0, &t)
		}
		var stolen []Device
		if err := d.close(ctx, tx, []int{0}, func(_ int, gone []Device) { stolen = gone }); err != nil || len(stolen) == 0 {
			return err
		}
		told, err := tell(stolen)
		if err != nil {
			return err
		}
		if err := told.write(ctx, tx, now, who); err != nil {
			return err
		}
		events = told.Events
		return insertOutbox(ctx, tx, now, events)
	})
	switch {
	case err != nil:
		return Device{}, nil, err
	case !found:
		return Device{}, events, ErrNoDevice
	}
	return dev, nil, nil
}

// write stores the notices and the audit of what happened to a user; the events are the caller's to store.
func (t Told) write(ctx context.Context, tx *sqlx.Tx, now time.Time, who Account) error {
	for i := range t.Notices {
		t.Notices[i].ID, t.Notices[i].Who, t.Notices[i].At = uuid.Must(uuid.NewV7()), who, now
	}
	if err := insertNotices(ctx, tx, t.Notices); err != nil {
		return err
	}
	for _, e := range t.Audit {
		e.At, e.AppID = now, who.AppID
		if err := insertAudit(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

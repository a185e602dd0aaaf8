package postgres_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

const grace = 30 * time.Second

// digest is a token's of which nothing matters but that it is another than any other.
func digest(name string) [32]byte {
	return otp.DeviceDigest([32]byte([]byte(fmt.Sprintf("%32s", name))))
}

// device stores a trusted device of a user with a token for each name, and returns its id.
func (b *bench) device(user string, tokens ...string) uuid.UUID {
	b.Helper()
	id, now := uuid.Must(uuid.NewV7()), b.clock.Now()
	b.db.Exec(b, `INSERT INTO devices (id, app_id, user_id, session, label, epoch, created_at, expires_at) SELECT $1, $2, $3, 'first', 'laptop',
	              coalesce((SELECT epoch FROM users WHERE app_id = $2 AND user_id = $3), 0), $4, $5`, id, b.app.ID, user, now, now.Add(30*24*time.Hour))
	for _, t := range tokens {
		d := digest(t)
		b.db.Exec(b, "INSERT INTO device_tokens (digest, device_id, issued_at) VALUES ($1, $2, $3)", d[:], id, now)
	}
	return id
}

// from is a login from a device. next names the token that a login by request brings back; "" is a login by event.
func (b *bench) from(user, login string, device uuid.UUID, token, next string) postgres.Admission {
	a := b.login(user, login)
	a.Token = &postgres.DeviceToken{Device: device, Digest: digest(token), Session: "session of " + login, Grace: grace}
	if next != "" {
		a.Token.Next = digest(next)
	}
	return a
}

// pass decides as the worker does: who comes from a trusted device passes, all others are asked.
func (b *bench) pass(i int, u postgres.UserState) postgres.Decision {
	if u.Device != uuid.Nil {
		return postgres.Decision{Outcome: "skipped", Reason: "trusted_device", Trusted: true}
	}
	return b.issue(i, u)
}

func (b *bench) admit(batch ...postgres.Admission) []postgres.Admitted {
	b.Helper()
	out, _, err := b.challenges.Admit(b.Context(), b.clock.Now(), batch, b.pass, noEvents)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// live counts the tokens of a device that were not replaced.
func (b *bench) live(device uuid.UUID) int {
	b.Helper()
	return otposttest.Get[int](b.T, b.db, "SELECT count(*) FROM device_tokens WHERE device_id = $1 AND replaced_at IS NULL", device)
}

func (b *bench) wantPassed(what string, a postgres.Admitted, renewed bool) {
	b.Helper()
	if a.Outcome != "skipped" || a.Renewed != renewed || len(a.Stolen) != 0 {
		b.Errorf("%s: %s, renewed %t, %d stolen; want it passed, renewed %t", what, a.Outcome, a.Renewed, len(a.Stolen), renewed)
	}
}

func TestADeviceTokenIsReplacedByItsUse(t *testing.T) {
	b := newBench(t)
	d := b.device("u", "a")
	b.wantPassed("by event", b.admit(b.from("u", "1", d, "a", ""))[0], false)
	b.wantPassed("by event again", b.admit(b.from("u", "2", d, "a", ""))[0], false)
	if n := b.live(d); n != 1 {
		t.Fatalf("events left %d live tokens", n)
	}
	b.clock.Advance(time.Hour)
	b.wantPassed("by request", b.admit(b.from("u", "3", d, "a", "b"))[0], true)
	replaced := b.clock.Now()
	if got := otposttest.Get[string](t, b.db, "SELECT session FROM devices WHERE last_used_at = $1", replaced); got != "session of 3" {
		t.Errorf("it was last used in %q", got)
	}
	if again := b.admit(b.from("u", "3", d, "a", "c"))[0]; !again.Repeat || again.Outcome != "skipped" || again.Renewed {
		t.Errorf("a repeat is told %+v", again)
	}
	b.clock.Advance(grace)
	out := b.admit(b.from("u", "4", d, "a", "d"), b.from("u", "5", d, "a", ""), b.from("u", "4", d, "a", "e"))
	b.wantPassed("within the grace, by request", out[0], true)
	b.wantPassed("within the grace, by event", out[1], false)
	b.wantPassed("its repeat in the batch", out[2], false)
	if n := b.live(d); n != 2 {
		t.Errorf("%d tokens live, want both that were given for the one", n)
	}
	b.wantPassed("a sibling's use", b.admit(b.from("u", "6", d, "d", "f"))[0], true)
	if n := b.live(d); n != 1 {
		t.Errorf("%d tokens live, want the newest only", n)
	}
	if at := otposttest.Get[time.Time](t, b.db, "SELECT min(replaced_at) FROM device_tokens"); !at.Equal(replaced) {
		t.Errorf("the first was replaced anew, at %s", at)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM challenges"); n != 0 {
		t.Errorf("%d challenges were made", n)
	}
	// several of one batch: the first replaces, the others find it replaced a moment ago
	out = b.admit(b.from("u", "7", d, "f", "g"), b.from("u", "8", d, "f", "h"), b.from("v", "9", d, "f", "i"))
	b.wantPassed("the first of a batch", out[0], true)
	b.wantPassed("the second of a batch", out[1], true)
	if out[2].Outcome != "issued" || out[2].Renewed || len(out[2].Stolen) != 0 {
		t.Errorf("another user with the token: %+v", out[2])
	}
	if n := b.live(d); n != 2 {
		t.Errorf("%d tokens live after the batch, want 2", n)
	}
}

func TestATokenThatDoesNotServe(t *testing.T) {
	b := newBench(t)
	d := b.device("u", "a")
	other := b.db.App(t, "other")
	foreign := b.from("u", "foreign", d, "a", "x")
	foreign.AppID = other.ID
	wrong := b.from("u", "wrong id", uuid.New(), "a", "x")
	for name, a := range map[string]postgres.Admission{
		"unknown": b.from("u", "unknown", d, "z", "x"), "another user's": b.from("v", "another", d, "a", "x"), "another app's": foreign, "of another device": wrong,
	} {
		if out := b.admit(a)[0]; out.Outcome != "issued" || out.Renewed || len(out.Stolen) != 0 {
			t.Errorf("%s: %+v", name, out)
		}
	}
	for name, undo := range map[string][2]string{
		"revoked":        {"UPDATE devices SET revoked_at = now(), revoke_reason = 'by_hand'", "UPDATE devices SET revoked_at = NULL, revoke_reason = ''"},
		"of old factors": {"INSERT INTO users (app_id, user_id, epoch, created_at) SELECT app_id, user_id, 1, now() FROM devices", "UPDATE devices SET epoch = 1"},
	} {
		b.db.Exec(t, undo[0])
		if out := b.admit(b.from("u", name, d, "a", "x"))[0]; out.Outcome != "issued" {
			t.Errorf("%s: %+v", name, out)
		}
		b.db.Exec(t, undo[1])
	}
	if b.live(d) != 1 || otposttest.Get[int](t, b.db, "SELECT count(*) FROM device_tokens") != 1 {
		t.Error("one of them has replaced the token")
	}
	b.wantPassed("the same, as it was", b.admit(b.from("u", "good", d, "a", "b"))[0], true)
	b.clock.Advance(30 * 24 * time.Hour)
	if _, err := b.challenges.EnsurePartitions(t.Context(), b.clock.Now(), 2); err != nil {
		t.Fatal(err)
	}
	if out := b.admit(b.from("u", "expired", d, "b", "c"))[0]; out.Outcome != "issued" {
		t.Errorf("an expired one: %+v", out)
	}
}

func TestAReplacedTokenThatComesBackIsTheft(t *testing.T) {
	b := newBench(t)
	d, second, others := b.device("u", "a"), b.device("u", "phone"), b.device("v", "v")
	b.admit(b.from("u", "1", d, "a", "b"))
	b.clock.Advance(grace + time.Millisecond)
	now := b.clock.Now()
	var told []postgres.Admitted
	batch := []postgres.Admission{b.from("u", "2", second, "phone", ""), b.from("u", "3", d, "a", "c"), b.from("u", "4", d, "a", "d"), b.from("u", "5", second, "phone", "e")}
	out, events, err := b.challenges.Admit(t.Context(), now, batch, b.pass, func(_ int, a postgres.Admitted) (postgres.Told, error) {
		told = append(told, a)
		if len(a.Stolen) == 0 {
			return postgres.Told{}, nil
		}
		return postgres.Told{
			Events:  []postgres.OutboxEvent{event("revoked", a.ID)},
			Notices: []postgres.Notice{{Notice: otp.NoticeDevicesRevoked, Detail: []byte(`{"reason":"stolen"}`)}},
			Audit:   []postgres.AuditEntry{{User: uuid.New(), Actor: "system", Action: "device.revoked", Factor: a.Stolen[0].ID}},
		}, nil
	})
	if err != nil || len(events) != 1 || len(told) != 4 {
		t.Fatalf("%d events, told of %d: %v", len(events), len(told), err)
	}
	b.wantPassed("the other device, before", out[0], false)
	if out[1].Outcome != "issued" || len(out[1].Stolen) != 2 || out[1].Renewed {
		t.Errorf("the stolen one: %+v", out[1])
	}
	for i, a := range out[2:] {
		if a.Outcome != "issued" || len(a.Stolen) != 0 || a.Renewed {
			t.Errorf("login %d after it: %+v", i+4, a)
		}
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM devices WHERE revoke_reason = 'stolen' AND revoked_at = $1 AND user_id = 'u'", now); n != 2 {
		t.Errorf("%d devices of the user are revoked, want both", n)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM notices WHERE notice = 'devices_revoked' AND user_id = 'u' AND at = $1 AND detail->>'reason' = 'stolen'", now); n != 1 {
		t.Errorf("%d notices", n)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM audit WHERE action = 'device.revoked' AND app_id = $1 AND at = $2", b.app.ID, now); n != 1 {
		t.Errorf("%d lines in the audit", n)
	}
	if a := b.admit(b.from("u", "6", d, "b", "f"))[0]; a.Outcome != "issued" || len(a.Stolen) != 0 {
		t.Errorf("the token of whoever came second: %+v", a)
	}
	b.wantPassed("another user's device", b.admit(b.from("v", "7", others, "v", "w"))[0], true)
}

// One token, many logins by request at once: all pass, one of them replaces it, and what any of them brought back serves.
func TestATokenIsReplacedOnce(t *testing.T) {
	b := newBench(t)
	d := b.device("u", "0")
	const logins = 8
	for round := range 6 {
		var passed atomic.Int64
		atOnce(logins, func(i int) {
			name := fmt.Sprintf("%d/%d", round, i)
			out, _, err := b.challenges.Admit(t.Context(), b.clock.Now(), []postgres.Admission{b.from("u", name, d, fmt.Sprint(round), name)}, b.pass, noEvents)
			if err != nil {
				t.Error(err)
				return
			}
			if out[0].Renewed {
				passed.Add(1)
			}
		})
		if passed.Load() != logins || b.live(d) != logins {
			t.Errorf("%d of %d passed with a new token, and %d of these live", passed.Load(), logins, b.live(d))
		}
		b.clock.Advance(time.Second)
		next := fmt.Sprint(round + 1)
		b.wantPassed("one of the new ones", b.admit(b.from("u", "then "+next, d, fmt.Sprintf("%d/%d", round, logins-1), next))[0], true)
		if n := b.live(d); n != 1 {
			t.Fatalf("%d live after that", n)
		}
	}
}

func TestRenewDevice(t *testing.T) {
	b := newBench(t)
	d := b.device("u", "a")
	renew := func(user, token, next string) (postgres.Device, []postgres.OutboxEvent, error) {
		return b.challenges.RenewDevice(t.Context(), b.clock.Now(), postgres.Account{AppID: b.app.ID, User: user},
			postgres.DeviceToken{Device: d, Digest: digest(token), Next: digest(next), Session: "renewal", Grace: grace},
			func(stolen []postgres.Device) (postgres.Told, error) {
				return postgres.Told{Events: []postgres.OutboxEvent{event("revoked", stolen[0].ID)}}, nil
			})
	}
	if _, _, err := renew("v", "a", "x"); !errors.Is(err, postgres.ErrNoDevice) {
		t.Errorf("another user's: %v", err)
	}
	if _, _, err := renew("u", "z", "x"); !errors.Is(err, postgres.ErrNoDevice) {
		t.Errorf("an unknown one: %v", err)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM accounts"); n != 0 {
		t.Errorf("asking has made %d accounts", n)
	}
	for _, next := range []string{"b", "c"} { // the second within the grace
		if got, events, err := renew("u", "a", next); err != nil || got.ID != d || got.ExpiresAt.IsZero() || len(events) != 0 {
			t.Errorf("renewed %+v, %d events, %v", got, len(events), err)
		}
	}
	if n := b.live(d); n != 2 {
		t.Errorf("%d live", n)
	}
	if got := otposttest.Get[string](t, b.db, "SELECT session FROM devices"); got != "renewal" {
		t.Errorf("it was last used in %q", got)
	}
	b.clock.Advance(grace + time.Second)
	if _, events, err := renew("u", "a", "d"); !errors.Is(err, postgres.ErrNoDevice) || len(events) != 1 {
		t.Errorf("a stolen one: %d events, %v", len(events), err)
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM devices WHERE revoke_reason = 'stolen'"); n != 1 {
		t.Error("the device is still trusted")
	}
	if n := otposttest.Get[int](t, b.db, "SELECT count(*) FROM outbox"); n != 1 {
		t.Errorf("%d events wait", n)
	}
	if _, events, err := renew("u", "b", "e"); !errors.Is(err, postgres.ErrNoDevice) || len(events) != 0 {
		t.Errorf("after it: %d events, %v", len(events), err)
	}
}

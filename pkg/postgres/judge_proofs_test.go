package postgres_test

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// user makes a user whose factors are in use, with some backup codes, whose digests it returns.
func (b *bench) user(name string, codes int) (digests [][]byte) {
	b.Helper()
	b.db.Exec(b.T, "INSERT INTO users (app_id, user_id, epoch, activated_at, created_at) VALUES ($1, $2, 3, now(), now())", b.app.ID, name)
	for n := range codes {
		sum := sha256.Sum256([]byte(fmt.Sprint(name, n)))
		digests = append(digests, sum[:])
		b.db.Exec(b.T, "INSERT INTO backup_codes (app_id, user_id, digest, position, sealed, created_at) VALUES ($1, $2, $3, $4, '', now())", b.app.ID, name, sum[:], n+1)
	}
	return digests
}

// key gives a user a security key.
func (b *bench) key(user string, count uint32) uuid.UUID {
	b.Helper()
	id := uuid.New()
	b.db.Exec(b.T, `INSERT INTO factors (id, app_id, user_id, kind, label, sealed, public_id, credential, sign_count, created_at)
		VALUES ($1, $2, $3, 'webauthn', 'blue', '', $4, 'record', $5, now())`, id, b.app.ID, user, id.String(), count)
	return id
}

func TestACounterIsAcceptedOnce(t *testing.T) {
	for _, kind := range []string{"hotp", "yubikey"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			id := uuid.New()
			b.db.Exec(t, `INSERT INTO factors (id, app_id, user_id, kind, sealed, algorithm, digits, public_id, last_step, created_at)
				VALUES ($1, $2, 'u', $3, 'secret', 'SHA1', 6, 'cccc', 6, now())`, id, b.app.ID, kind)
			b.db.Exec(t, `INSERT INTO factors (id, app_id, user_id, kind, state, sealed, algorithm, digits, public_id, created_at)
				VALUES ($1, $2, 'u', $3, 'suspended', 'secret', 'SHA1', 6, 'dddd', now())`, uuid.New(), b.app.ID, kind)
			var ids []uuid.UUID
			for i := range 6 {
				ids = append(ids, b.issued("u", fmt.Sprint(i)))
			}
			p := newCounter(b.clock.Now(), true)
			p.advance = &postgres.Advance{Factor: id, Step: 9}
			atOnce(len(ids), func(i int) { b.judge(p, "u", ids[i]) })
			if p.compared.Load() != 6 || p.replayed.Load() != 5 {
				t.Errorf("compared %d, replayed %d", p.compared.Load(), p.replayed.Load())
			}
			f := p.last.Factors
			if len(f) != 1 || f[0].ID != id || f[0].Kind != otp.FactorKind(kind) || f[0].PublicID != "cccc" || f[0].Digits != 6 || string(f[0].Sealed) != "secret" {
				t.Errorf("the panel was shown %+v, want the active one", f)
			}
			p = newCounter(b.clock.Now(), true)
			p.advance = &postgres.Advance{Factor: id, Step: 8} // between the one that was there and the one accepted
			b.judge(p, "u", b.issued("u", "older"))
			if last := otposttest.Get[int64](t, b.db, "SELECT max(last_step) FROM factors"); last != 9 || p.replayed.Load() != 1 {
				t.Errorf("an older counter was accepted; the last is %d", last)
			}
		})
	}
}

// The same backup code at several challenges at once is one code.
func TestABackupCodeIsUsedOnce(t *testing.T) {
	b := newBench(t)
	digests := b.user("u", 4)
	b.user("v", 4)
	var ids []uuid.UUID
	for i := range 8 {
		ids = append(ids, b.issued("u", fmt.Sprint(i)))
	}
	p := newCounter(b.clock.Now(), false)
	other := sha256.Sum256([]byte("under a key that was rotated"))
	p.taking = postgres.Taking{Backup: [][]byte{other[:], digests[1]}}
	atOnce(len(ids), func(i int) { b.judge(p, "u", ids[i]) })
	spent := 0
	for _, c := range p.cases {
		if c.Backup.Spent {
			spent++
			if c.Backup.Left != 3 {
				t.Errorf("%d codes are told to be left, want 3", c.Backup.Left)
			}
		}
	}
	if left := otposttest.Get[int](t, b.db, "SELECT count(*) FROM backup_codes WHERE user_id = 'u' AND used_at IS NULL"); spent != 1 || left != 3 {
		t.Errorf("one code was used %d times and %d are left", spent, left)
	}
	if used := otposttest.Get[int](t, b.db, "SELECT count(*) FROM backup_codes WHERE user_id = 'v' AND used_at IS NOT NULL"); used != 0 {
		t.Error("another user's code was used")
	}
	// Another's code is none, and nor is one that waits to be acknowledged.
	b.db.Exec(t, "UPDATE users SET activated_at = NULL WHERE user_id = 'v'")
	for user, digest := range map[string][]byte{"w": digests[2], "v": digests[2]} {
		p := newCounter(b.clock.Now(), false)
		p.taking = postgres.Taking{Backup: [][]byte{digest}}
		if user == "v" {
			sum := sha256.Sum256([]byte("v0"))
			p.taking.Backup[0] = sum[:]
		}
		b.judge(p, user, b.issued(user, user))
		if len(p.cases) != 1 || p.cases[0].Backup.Spent {
			t.Errorf("%s used a code: %+v", user, p.cases)
		}
	}
	// What gets no attempt takes no code.
	refused := newCounter(b.clock.Now(), false)
	refused.unwilling, refused.taking = true, postgres.Taking{Backup: [][]byte{digests[3]}}
	b.judge(refused, "u", b.issued("u", "unwilling"))
	if left := otposttest.Get[int](t, b.db, "SELECT count(*) FROM backup_codes WHERE user_id = 'u' AND used_at IS NULL"); left != 3 {
		t.Errorf("%d codes are left after a refusal", left)
	}
}

// What a security key was asked to sign is given to one answer, right or wrong, whatever comes at once.
func TestASessionServesOneAnswer(t *testing.T) {
	b := newBench(t)
	id := b.issued("u", "a", func(c *postgres.NewChallenge) { c.Attempts = 10 })
	keep := func(data string, life time.Duration) {
		t.Helper()
		owner := postgres.Account{AppID: b.app.ID, User: "u"}
		if _, err := b.verifications.Act(t.Context(), b.clock.Now(), owner, func(a *postgres.Act) error {
			return a.KeepSession(id, []byte(data), b.clock.Now().Add(life))
		}); err != nil {
			t.Fatal(err)
		}
	}
	given := func(answers int) (n int, data string) {
		t.Helper()
		p := newCounter(b.clock.Now(), false)
		p.taking = postgres.Taking{Session: true}
		atOnce(answers, func(int) { b.judge(p, "u", id) })
		for _, c := range p.cases {
			if c.Session != nil {
				n, data = n+1, string(c.Session)
			}
		}
		if len(p.cases) != answers {
			t.Fatalf("%d of %d were judged", len(p.cases), answers)
		}
		return n, data
	}
	keep("older", time.Minute)
	keep("newer", time.Minute)
	if n, data := given(6); n != 1 || data != "newer" {
		t.Errorf("%d answers were given a session, %q, want one the newer", n, data)
	}
	keep("over", time.Minute)
	b.clock.Advance(time.Minute)
	if n, _ := given(1); n != 0 {
		t.Error("a session was given after its end")
	}
}

// A key's record is written only over what was read.
func TestAKeyIsKeptOverWhatWasRead(t *testing.T) {
	b := newBench(t)
	id := b.key("u", 5)
	judge := func(challenge string, k postgres.KeyUse) *counter {
		p := newCounter(b.clock.Now(), true)
		p.change = func(j *postgres.Judgement) { j.Key = &k }
		b.judge(p, "u", b.issued("u", challenge))
		return p
	}
	if p := judge("a", postgres.KeyUse{Factor: id, Was: 5, Count: 6, Record: []byte("next")}); p.replayed.Load() != 0 || p.last.Factors[0].SignCount != 5 {
		t.Errorf("refused, shown %+v", p.last.Factors)
	}
	if p := judge("b", postgres.KeyUse{Factor: id, Was: 5, Count: 7, Record: []byte("twin")}); p.replayed.Load() != 1 {
		t.Error("a copy that read the same counter was accepted")
	}
	if got := otposttest.Get[string](t, b.db, "SELECT sign_count || convert_from(credential, 'UTF8') FROM factors"); got != "6next" {
		t.Errorf("kept %s", got)
	}
}

func TestASuspendedFactorVoidsDevices(t *testing.T) {
	b := newBench(t)
	b.user("u", 0)
	id := b.key("u", 5)
	for _, user := range []string{"u", "v"} {
		b.judge(trusting(b, "phone"), user, b.issued(user, "trust "+user))
	}
	p := newCounter(b.clock.Now(), true)
	p.change = func(j *postgres.Judgement) { j.State, j.Suspend = otp.Open, id }
	judged, other, anothers := b.issued("u", "clone"), b.issued("u", "other"), b.issued("v", "another's")
	b.judge(p, "u", judged)
	b.wantState(judged, otp.Open) // it has its attempts
	b.wantState(other, otp.Cancelled)
	b.wantState(anothers, otp.Open)
	if len(p.cancelled) != 1 || p.cancelled[0].ID != other || p.cancelled[0].Login == "" {
		t.Errorf("to be told of are %+v", p.cancelled)
	}
	if got := b.status(other).Deliveries[0].State; got != otp.DeliveryExpired {
		t.Errorf("its delivery is %s, want it withdrawn", got)
	}
	if len(p.gone) != 1 || p.gone[0].Label != "phone" || p.gone[0].Reason != "factors_changed" {
		t.Errorf("revoked %+v", p.gone)
	}
	got := otposttest.Get[string](t, b.db, "SELECT f.state || u.epoch FROM factors f JOIN users u USING (app_id, user_id)")
	if live := otposttest.Get[string](t, b.db, "SELECT string_agg(user_id, ' ') FROM devices WHERE revoked_at IS NULL"); got != "suspended4" || live != "v" {
		t.Errorf("the factor and its user's epoch are %s; devices are left of %s", got, live)
	}
}

// trusting is a panel whose answers are right and bring a device.
func trusting(b *bench, label string) *counter {
	p := newCounter(b.clock.Now(), true)
	p.change = func(j *postgres.Judgement) {
		id := uuid.Must(uuid.NewV7())
		j.Trust = &postgres.NewDevice{ID: id, Digest: sha256.Sum256(id[:]), Session: "s", Label: label, ExpiresAt: b.clock.Now().Add(30 * 24 * time.Hour)}
	}
	return p
}

func TestDevicesOfAUser(t *testing.T) {
	b := newBench(t)
	b.user("u", 0)
	live := func(user string) int {
		return otposttest.Get[int](t, b.db, "SELECT count(*) FROM devices WHERE revoked_at IS NULL AND user_id = $1", user)
	}
	b.judge(trusting(b, "of nobody known"), "stranger", b.issued("stranger", "s"))
	if epoch := otposttest.Get[int](t, b.db, "SELECT epoch FROM devices"); epoch != 0 {
		t.Errorf("a device of a user of whom nothing is known has epoch %d", epoch)
	}
	var mu sync.Mutex
	var gone []postgres.RevokedDevice
	trust := func(n int) {
		p := trusting(b, fmt.Sprint("device ", n))
		b.judge(p, "u", b.issued("u", fmt.Sprint("login ", n)))
		mu.Lock()
		defer mu.Unlock()
		gone = append(gone, p.gone...)
	}
	trust(0)
	b.clock.Advance(time.Second)
	atOnce(postgres.MaxDevices-1, func(n int) { trust(n + 1) })
	if n := live("u"); n != postgres.MaxDevices || len(gone) != 0 {
		t.Fatalf("%d devices are trusted and %d revoked", n, len(gone))
	}
	b.clock.Advance(time.Second)
	trust(postgres.MaxDevices)
	if n := live("u"); n != postgres.MaxDevices || len(gone) != 1 || gone[0].Label != "device 0" || gone[0].Reason != "replaced" {
		t.Errorf("after one more %d are trusted and gone are %+v, want the oldest", n, gone)
	}
	if bad := otposttest.Get[int](t, b.db, "SELECT count(*) FROM devices WHERE user_id = 'u' AND epoch <> 3"); bad != 0 {
		t.Errorf("%d devices are of another epoch than their user", bad)
	}
	tokens := otposttest.Get[int](t, b.db, "SELECT count(*) FROM device_tokens t JOIN devices d ON d.id = t.device_id WHERE t.replaced_at IS NULL")
	if tokens != postgres.MaxDevices+2 {
		t.Errorf("%d tokens, want one for each device", tokens)
	}
	// Those of an older epoch take nobody's place.
	b.db.Exec(t, "UPDATE users SET epoch = 4")
	gone = nil
	trust(postgres.MaxDevices + 1)
	if len(gone) != 0 {
		t.Errorf("a new device ended %d that were void", len(gone))
	}
}

// A factor is advanced and a backup code taken by an act as by an answer: once.
func TestActsTakeWhatAnswersTake(t *testing.T) {
	b := newBench(t)
	digests := b.user("u", 2)
	id := uuid.New()
	b.db.Exec(t, `INSERT INTO factors (id, app_id, user_id, kind, sealed, algorithm, digits, created_at) VALUES ($1, $2, 'u', 'hotp', '', 'SHA1', 6, now())`, id, b.app.ID)
	challenge := b.issued("u", "a")
	var fresh, spent, left int
	var mu sync.Mutex
	atOnce(6, func(int) {
		var moved bool
		var use postgres.BackupUse
		if _, err := b.verifications.Act(t.Context(), b.clock.Now(), postgres.Account{AppID: b.app.ID, User: "u"}, func(a *postgres.Act) (err error) {
			if f, err := a.Provable(); err != nil || len(f) != 1 || f[0].ID != id {
				t.Errorf("provable are %+v, %v", f, err)
			}
			if c, found, err := a.Answerable(challenge); err != nil || !found || c.ID != challenge {
				t.Errorf("found %+v, %t, %v", c, found, err)
			}
			if moved, err = a.Advance(postgres.Advance{Factor: id, Step: 0}); err != nil {
				return err
			}
			use, err = a.UseBackupCode(digests[:1])
			return err
		}); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if moved {
			fresh++
		}
		if use.Spent {
			spent, left = spent+1, use.Left
		}
	})
	if fresh != 1 || spent != 1 || left != 1 {
		t.Errorf("accepted %d times, used %d times with %d left, want once, once and 1", fresh, spent, left)
	}
	if _, err := b.verifications.Act(t.Context(), b.clock.Now(), postgres.Account{AppID: b.app.ID, User: "v"}, func(a *postgres.Act) error {
		_, found, err := a.Answerable(challenge)
		if found {
			t.Error("another user's challenge was found")
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

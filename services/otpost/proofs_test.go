package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/webauthn"
)

// This file is answers by what needs no message: hardware tokens, YubiKeys, security keys and backup codes, and the devices that a right answer may bring.

// keyOrigin is where the pages of the tests' app are.
const keyOrigin = "https://login.shop.example"

// withKeys lets the users of the tests' app use security keys, and gives their answers room.
func withKeys(o *systemOptions) {
	roomy(10)(o)
	o.app = append(o.app, func(a *postgres.App) {
		a.Policy.Factors.RPID, a.Policy.Factors.Origins = "shop.example", []string{keyOrigin}
	})
}

// A given factor is one that a test has put where enrolment would.
type given struct {
	id         uuid.UUID
	kind       otp.FactorKind
	secret     []byte
	publicID   string
	credential []byte
	signCount  uint32
}

// give gives a user a factor, and makes the user one whose factors are in use.
func (s *system) give(user string, f given) uuid.UUID {
	s.t.Helper()
	f.id = uuid.Must(uuid.NewV7())
	sealed, err := otposttest.Ring(s.t, keyring.Enrolment).SealSecret("demo", user, f.id.String(), f.secret)
	if err != nil {
		s.t.Fatal(err)
	}
	s.activate(user)
	s.db.Exec(s.t, `INSERT INTO factors (id, app_id, user_id, kind, label, sealed, algorithm, digits, public_id, credential, sign_count, created_at)
		VALUES ($1, $2, $3, $4, 'mine', $5, 'SHA1', 6, nullif($6, ''), $7, $8, $9)`,
		f.id, s.app.ID, user, string(f.kind), sealed, f.publicID, f.credential, int64(f.signCount), s.clock.Now())
	return f.id
}

func (s *system) activate(user string) {
	s.t.Helper()
	s.db.Exec(s.t, `INSERT INTO users (app_id, user_id, epoch, activated_at, created_at) VALUES ($1, $2, 1, $3, $3) ON CONFLICT DO NOTHING`,
		s.app.ID, user, s.clock.Now())
}

// A token is a counter-based token in a user's hand.
type token struct {
	id     uuid.UUID
	secret []byte
}

func (s *system) giveToken(user string) token {
	s.t.Helper()
	secret := otp.NewTOTPSecret()
	return token{s.give(user, given{kind: otp.FactorHOTP, secret: secret}), secret}
}

// value is what the token shows when it was pressed counter times before.
func (k token) value(t testing.TB, counter int64) string {
	t.Helper()
	v, err := otp.HOTP{Algorithm: "SHA1", Digits: 6}.Value(k.secret, counter)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (s *system) giveYubiKey(user string) *otposttest.YubiKey {
	s.t.Helper()
	y := otposttest.NewYubiKey(s.t)
	s.give(user, given{kind: otp.FactorYubikey, secret: slices.Concat(y.PrivateID[:], y.Key), publicID: y.PublicID})
	return y
}

// giveKey registers a security key.
func (s *system) giveKey(user string, key *otposttest.Authenticator) uuid.UUID {
	s.t.Helper()
	party, ok := webauthn.PartyOf(s.app.DisplayName, s.app.Policy.Factors)
	if !ok {
		s.t.Fatal("the app has no relying party")
	}
	options, session, err := webauthn.BeginRegistration(party, webauthn.User{Handle: []byte("handle of " + user), Name: user}, nil, s.clock.Now(), time.Minute)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := webauthn.FinishRegistration(party, session, key.Create(s.t, options, keyOrigin), s.clock.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return s.give(user, given{kind: otp.FactorWebAuthn, publicID: webauthn.CredentialID(c.ID), credential: c.Record, signCount: c.SignCount})
}

// giveBackupCodes gives a user that many backup codes.
func (s *system) giveBackupCodes(user string, n int) []string {
	s.t.Helper()
	s.activate(user)
	codes := otp.NewBackupCodes()[:n]
	for i, c := range codes {
		digest, err := otposttest.Ring(s.t, keyring.Enrolment).Index(otp.BackupCodeLabel, []byte("demo"), []byte(user), []byte(c))
		if err != nil {
			s.t.Fatal(err)
		}
		s.db.Exec(s.t, `INSERT INTO backup_codes (app_id, user_id, digest, position, sealed, created_at) VALUES ($1, $2, $3, $4, '', $5)`,
			s.app.ID, user, digest[:], i+1, s.clock.Now())
	}
	return codes
}

// options asks for what a security key is to sign for a challenge.
func (s *system) options(challenge, user string) json.RawMessage {
	s.t.Helper()
	r, problem := request[struct {
		Options   json.RawMessage `json:"options"`
		ExpiresAt string          `json:"expires_at"`
	}](s, event.VerbWebAuthnBegin, map[string]any{"challenge": challenge, "session": "session of " + user})
	if problem != "" || r.ExpiresAt == "" {
		s.t.Fatalf("webauthn.begin: %s %+v", problem, r)
	}
	return r.Options
}

// sign answers with what a security key says.
func (s *system) sign(challenge, user string, credential json.RawMessage, more map[string]any) event.VerifyReply {
	s.t.Helper()
	body := map[string]any{"challenge": challenge, "session": "session of " + user, "credential": credential}
	for k, v := range more {
		body[k] = v
	}
	r, problem := request[event.VerifyReply](s, event.VerbVerify, body)
	if problem != "" {
		s.t.Fatalf("verify: %s", problem)
	}
	return r
}

// noticed is how many notices of a kind wait for a user.
func (s *system) noticed(user string, n otp.Notice) int {
	s.t.Helper()
	return otposttest.Get[int](s.t, s.db, `SELECT count(*) FROM notices WHERE user_id = $1 AND notice = $2`, user, string(n))
}

// audited is how many lines of the audit say that something was done to a user.
func (s *system) audited(user, action string) int {
	s.t.Helper()
	key, err := otposttest.Ring(s.t, keyring.Enrolment).AuditKey("user", "demo", user)
	if err != nil {
		s.t.Fatal(err)
	}
	return otposttest.Get[int](s.t, s.db, `SELECT count(*) FROM audit WHERE user_key = $1 AND action = $2 AND role = 'otpost_verification'`, key, action)
}

func TestProofs(t *testing.T) {
	t.Parallel()
	s := newSystem(t, withKeys)
	s.run(bus.RoleChallenge, bus.RoleVerification)
	defer s.endsOnce()
	pay := map[string]any{"transaction": map[string]any{"amount": "1 EUR", "payee": "Shop"}}
	paid := bySMS(1)
	paid["transaction"] = pay["transaction"]

	t.Run("hardware token", func(t *testing.T) {
		s := s.in(t)
		k := s.giveToken("hotp")
		first, second := s.begin("hotp", paid, "1"), s.begin("hotp", bySMS(1), "2")
		s.expect("without the transaction", "wrong", 9, s.verify(first.Challenge, "hotp", k.value(t, 0)))
		s.expect("as another factor", "wrong", 8, s.answer(first.Challenge, "hotp", k.value(t, 0), map[string]any{
			"transaction": pay["transaction"], "factor": "totp",
		}))
		r := s.answer(first.Challenge, "hotp", k.value(t, 0), pay)
		if r.Result != "verified" || r.Factor != "hotp" || !slices.Equal(r.AMR, []string{"otp"}) {
			t.Errorf("verdict %+v", r)
		}
		s.expect("the same value again", "wrong", 9, s.verify(second.Challenge, "hotp", k.value(t, 0)))
		ahead := int64(s.app.Policy.Factors.HOTPLookAhead)
		s.expect("too far ahead", "wrong", 8, s.verify(second.Challenge, "hotp", k.value(t, ahead+2)))
		s.expect("as far ahead as may be", "verified", 7, s.verify(second.Challenge, "hotp", k.value(t, ahead+1)))
	})

	t.Run("resync", func(t *testing.T) {
		s := s.in(t)
		k := s.giveToken("far")
		far := int64(60)
		ask := func(user string, id uuid.UUID, first, second string) string {
			_, problem := request[event.FactorResyncReply](s, event.VerbFactorResync, map[string]any{
				"user": user, "session": "s", "factor": id.String(), "first": first, "second": second,
			})
			return problem
		}
		failures := func() int {
			return otposttest.Get[int](t, s.db, `SELECT coalesce(max(failures), 0) FROM accounts WHERE user_id = 'far'`)
		}
		if p := ask("another", k.id, k.value(t, far), k.value(t, far+1)); p != "unknown_factor" {
			t.Errorf("a stranger's: %s", p)
		}
		if p := ask("far", uuid.New(), k.value(t, far), k.value(t, far+1)); p != "unknown_factor" || failures() != 0 {
			t.Errorf("of none: %s, and %d failures", p, failures())
		}
		for name, pair := range map[string][2]int64{"not in a row": {far, far + 2}, "the wrong way": {far + 1, far}, "one twice": {far, far}, "beyond the window": {150, 151}} {
			if p := ask("far", k.id, k.value(t, pair[0]), k.value(t, pair[1])); p != "wrong_code" {
				t.Errorf("%s: %q", name, p)
			}
		}
		if failures() != 4 {
			t.Errorf("%d failures, want 4", failures())
		}
		if p := ask("far", k.id, k.value(t, far), k.value(t, far+1)); p != "" || failures() != 0 {
			t.Errorf("two in a row: %q, and %d failures after it", p, failures())
		}
		c := s.begin("far", bySMS(1))
		s.expect("a value that was used for it", "wrong", 9, s.verify(c.Challenge, "far", k.value(t, far+1)))
		s.expect("the next", "verified", 8, s.verify(c.Challenge, "far", k.value(t, far+2)))
		if p := ask("far", k.id, k.value(t, far), k.value(t, far+1)); p != "wrong_code" {
			t.Errorf("the same two again: %q", p)
		}
		if n, refused := s.audited("far", "factor.resynced"), s.audited("far", "factor.resync_refused"); n != 1 || refused != 5 {
			t.Errorf("audited %d times, and %d refusals", n, refused)
		}
		s.db.Exec(t, `UPDATE accounts SET wait_until = $1 WHERE user_id = 'far'`, s.clock.Now().Add(time.Minute))
		if p := ask("far", k.id, k.value(t, 70), k.value(t, 71)); p != "rate_limited" {
			t.Errorf("within a wait: %q", p)
		}
		s.db.Exec(t, `UPDATE accounts SET wait_until = NULL, locked_at = now() WHERE user_id = 'far'`)
		if p := ask("far", k.id, k.value(t, 70), k.value(t, 71)); p != "locked" {
			t.Errorf("when locked: %q", p)
		}
	})

	t.Run("YubiKey", func(t *testing.T) {
		s := s.in(t)
		y, stranger := s.giveYubiKey("yubi"), s.giveYubiKey("another")
		forged := *otposttest.NewYubiKey(t) // of another key, under this one's name
		forged.PublicID = y.PublicID
		older := y.Press()
		typed := y.Press()
		c := s.begin("yubi", bySMS(1), "1")
		s.expect("another user's", "wrong", 9, s.verify(c.Challenge, "yubi", stranger.Press()))
		s.expect("forged", "wrong", 8, s.verify(c.Challenge, "yubi", forged.Press()))
		if _, problem := request[event.VerifyReply](s, event.VerbVerify, map[string]any{
			"challenge": c.Challenge, "session": "session of yubi", "code": typed[:43] + "x",
		}); problem != "invalid" || s.attempts(c.Challenge) != 2 {
			t.Errorf("malformed: %q", problem)
		}
		r := s.verify(c.Challenge, "yubi", strings.ToUpper(typed))
		if r.Result != "verified" || r.Factor != "yubikey" || !slices.Equal(r.AMR, []string{"otp"}) {
			t.Errorf("verdict %+v", r)
		}
		c = s.begin("yubi", bySMS(1), "2")
		s.expect("again", "wrong", 9, s.verify(c.Challenge, "yubi", typed))
		s.expect("one pressed before", "wrong", 8, s.verify(c.Challenge, "yubi", older))
		y.PlugIn()
		s.expect("the next", "verified", 7, s.answer(c.Challenge, "yubi", y.Press(), map[string]any{"factor": "yubikey"}))
	})

	t.Run("backup code", func(t *testing.T) {
		s := s.in(t)
		codes, others := s.giveBackupCodes("saver", 5), s.giveBackupCodes("other-saver", 1)
		c := s.begin("saver", paid, "1")
		s.expect("another user's", "wrong", 9, s.answer(c.Challenge, "saver", others[0], pay))
		s.expect("without the transaction", "wrong", 8, s.verify(c.Challenge, "saver", codes[0]))
		s.expect("as another factor", "wrong", 7, s.answer(c.Challenge, "saver", codes[0], map[string]any{"transaction": pay["transaction"], "factor": "totp"}))
		r := s.answer(c.Challenge, "saver", strings.ToLower(otp.GroupBackupCode(codes[0])), pay) // which was not spent on the wrong ones
		if r.Result != "verified" || r.Factor != "backup_code" || !slices.Equal(r.AMR, []string{"otp"}) {
			t.Errorf("verdict %+v", r)
		}
		e := s.heard.Wait(t, event.BackupCodeUsed, nil)
		if d := otposttest.Decode[event.BackupCodeUsedData](t, e); d.User != "saver" || d.Session != "session of saver" || d.Login == "" || d.Left != 4 {
			t.Errorf("told %+v", d)
		}
		if used, low := s.noticed("saver", otp.NoticeBackupCodeUsed), s.noticed("saver", otp.NoticeBackupCodesLow); used != 1 || low != 0 {
			t.Errorf("%d notices of its use and %d of too few", used, low)
		}
		c = s.begin("saver", bySMS(1), "2")
		s.expect("again", "wrong", 9, s.verify(c.Challenge, "saver", codes[0]))
		s.expect("the next", "verified", 8, s.answer(c.Challenge, "saver", codes[1], map[string]any{"factor": "backup_code"}))
		if used, low := s.noticed("saver", otp.NoticeBackupCodeUsed), s.noticed("saver", otp.NoticeBackupCodesLow); used != 2 || low != 1 || s.audited("saver", "backup_code.used") != 2 {
			t.Errorf("%d notices of use and %d of too few", used, low)
		}
		if left := otposttest.Get[int](t, s.db, `SELECT (detail->>'left')::int FROM notices WHERE notice = 'backup_codes_low'`); left != 3 {
			t.Errorf("%d are told to be left", left)
		}
	})

	t.Run("security key", func(t *testing.T) {
		s := s.in(t)
		key := otposttest.NewAuthenticator(t)
		id := s.giveKey("signer", key)
		c, other := s.begin("signer", paid, "1"), s.begin("signer", bySMS(1), "2")
		s.refuses("another session", event.VerbWebAuthnBegin, "unknown_challenge", map[string]any{"challenge": c.Challenge, "session": "x"})
		s.refuses("no such challenge", event.VerbWebAuthnBegin, "unknown_challenge", map[string]any{"challenge": uuid.NewString(), "session": "x"})
		keyless := s.begin("keyless", bySMS(1))
		s.refuses("without a key", event.VerbWebAuthnBegin, "no_factor", map[string]any{"challenge": keyless.Challenge, "session": "session of keyless"})
		options := s.options(c.Challenge, "signer")
		s.expect("signed for another challenge", "wrong", 9, s.sign(other.Challenge, "signer", key.Get(t, options, keyOrigin), nil))
		s.expect("in another page", "wrong", 9, s.sign(c.Challenge, "signer", key.Get(t, options, "https://shop.example.evil.example"), pay))
		s.expect("after what was wrong", "wrong", 8, s.sign(c.Challenge, "signer", key.Get(t, options, keyOrigin), pay))
		s.expect("malformed", "wrong", 7, s.sign(c.Challenge, "signer", json.RawMessage(`{"id":1}`), pay))
		signed := key.Get(t, s.options(c.Challenge, "signer"), keyOrigin)
		once := map[string]any{"transaction": pay["transaction"], "request": "r-1"}
		r := s.sign(c.Challenge, "signer", signed, once)
		s.expect("the same request again", "verified", 6, s.sign(c.Challenge, "signer", signed, once))
		s.expect("the same id with another answer", "unknown", 0, s.sign(c.Challenge, "signer", json.RawMessage(`{"id":1}`), once))
		if r.Result != "verified" || r.Factor != "webauthn" || !slices.Equal(r.AMR, []string{"pop", "user"}) {
			t.Errorf("verdict %+v", r)
		}
		if n := otposttest.Get[int64](t, s.db, `SELECT sign_count FROM factors WHERE id = $1`, id); n != int64(key.SignCount) {
			t.Errorf("the counter is kept as %d, it is %d", n, key.SignCount)
		}
		s.refuses("when it is over", event.VerbWebAuthnBegin, "challenge_ended", map[string]any{"challenge": c.Challenge, "session": "session of signer"})
		s.expect("as another factor", "wrong", 8, s.sign(other.Challenge, "signer", key.Get(t, s.options(other.Challenge, "signer"), keyOrigin), map[string]any{"factor": "totp"}))
		late := s.options(other.Challenge, "signer")
		s.db.Exec(t, `UPDATE webauthn_sessions SET expires_at = $1`, s.clock.Now())
		s.expect("too late", "wrong", 7, s.sign(other.Challenge, "signer", key.Get(t, late, keyOrigin), nil))
	})

	t.Run("copied key", func(t *testing.T) {
		s := s.in(t)
		key := otposttest.NewAuthenticator(t)
		id := s.giveKey("copied", key)
		twin := key.Clone()
		c := s.begin("copied", bySMS(1), "1")
		r := s.sign(c.Challenge, "copied", key.Get(t, s.options(c.Challenge, "copied"), keyOrigin), map[string]any{"trust_device": map[string]any{"label": "laptop"}})
		if r.Result != "verified" || r.Device == "" {
			t.Fatalf("verdict %+v", r)
		}
		c = s.begin("copied", bySMS(1), "2")
		other := s.begin("copied", bySMS(1), "3")
		s.expect("its copy", "wrong", 9, s.sign(c.Challenge, "copied", twin.Get(t, s.options(c.Challenge, "copied"), keyOrigin), nil))
		if state := otposttest.Get[string](t, s.db, `SELECT f.state || u.epoch FROM factors f JOIN users u USING (app_id, user_id) WHERE f.id = $1`, id); state != "suspended2" {
			t.Errorf("the factor, and its user's epoch, are %s", state)
		}
		d := otposttest.Decode[event.FactorData](t, s.heard.Wait(t, event.FactorSuspended, nil))
		if d.User != "copied" || d.Factor != id.String() || d.Kind != "webauthn" || d.Reason != "cloned" || d.Label != "mine" {
			t.Errorf("told %+v", d)
		}
		gone := otposttest.Decode[event.DeviceData](t, s.heard.Wait(t, event.DeviceRevoked, nil))
		if gone.User != "copied" || gone.Label != "laptop" || gone.Reason != "factors_changed" {
			t.Errorf("told %+v", gone)
		}
		if s.noticed("copied", otp.NoticeFactorSuspended) != 1 || s.audited("copied", "factor.suspended") != 1 || s.audited("copied", "device.revoked") != 1 {
			t.Error("the user is not told, or the audit is not")
		}
		if r := s.ended(other.Challenge); r != "cancelled" {
			t.Errorf("another login has ended as %s, want cancelled", r)
		}
		s.refuses("the key itself", event.VerbWebAuthnBegin, "no_factor", map[string]any{"challenge": c.Challenge, "session": "session of copied"})
	})

	t.Run("trusted device", func(t *testing.T) {
		s := s.in(t)
		k := s.giveToken("truster")
		remember := map[string]any{"trust_device": map[string]any{"label": "laptop"}, "request": "r-1"}
		c := s.begin("truster", bySMS(1))
		if r := s.answer(c.Challenge, "truster", k.value(t, 500), remember); r.Result != "wrong" || r.Device != "" {
			t.Errorf("a wrong answer: %+v", r)
		}
		r := s.answer(c.Challenge, "truster", k.value(t, 0), remember)
		id, secret, ok := otp.ParseDeviceToken(r.Device)
		if r.Result != "verified" || !ok {
			t.Fatalf("verdict %+v", r)
		}
		digest := otp.DeviceDigest(secret)
		stored := otposttest.Get[string](t, s.db, `SELECT d.user_id || d.session || d.label || d.epoch || (d.expires_at - d.created_at)
			FROM devices d JOIN device_tokens t ON t.device_id = d.id WHERE d.id = $1 AND t.digest = $2 AND t.replaced_at IS NULL AND d.revoked_at IS NULL`, id, digest[:])
		if stored != "trustersession of trusterlaptop130 days" {
			t.Errorf("stored %s", stored)
		}
		e := s.heard.Wait(t, event.DeviceTrusted, func(e otposttest.Event) bool { return e.Subject == c.Challenge })
		if d := otposttest.Decode[event.DeviceData](t, e); d.User != "truster" || d.Login == "" || d.Label != "laptop" || d.ExpiresAt == "" || strings.Contains(string(e.Data), r.Device) {
			t.Errorf("told %+v", d)
		}
		if s.noticed("truster", otp.NoticeDeviceTrusted) != 1 || s.audited("truster", "device.trusted") != 1 {
			t.Error("the user is not told, or the audit is not")
		}
		if again := s.answer(c.Challenge, "truster", k.value(t, 0), remember); again.Result != "verified" || again.Device != "" {
			t.Errorf("the same request again: %+v, want it verified without a token", again)
		}
		if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM devices WHERE user_id = 'truster'`); n != 1 {
			t.Errorf("%d devices", n)
		}
	})
}

// Where the app's policy knows no trusted devices, none is made.
func TestNoTrustedDevices(t *testing.T) {
	t.Parallel()
	s := newSystem(t, func(o *systemOptions) {
		o.app = append(o.app, func(a *postgres.App) { a.Policy.Factors.DeviceLife = 0 })
	})
	s.run(bus.RoleChallenge, bus.RoleVerification)
	k := s.giveToken("alice")
	c := s.begin("alice", bySMS(1))
	r := s.answer(c.Challenge, "alice", k.value(t, 0), map[string]any{"trust_device": map[string]any{"label": "laptop"}})
	if n := otposttest.Get[int](t, s.db, `SELECT count(*) FROM devices`); r.Result != "verified" || r.Device != "" || n != 0 {
		t.Errorf("verdict %+v, and %d devices", r, n)
	}
	c = s.begin("alice", bySMS(1), "2")
	s.refuses("a key without a relying party", event.VerbWebAuthnBegin, "not_allowed", map[string]any{"challenge": c.Challenge, "session": "session of alice"})
}

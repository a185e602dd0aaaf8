package webauthn

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-webauthn/webauthn/protocol"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// An attack is done to one ceremony. What it leaves unset is as it should be.
type attack struct {
	key    func(a *otposttest.Authenticator) // before the browser answers
	answer func(raw json.RawMessage) json.RawMessage
	origin string
	party  *Party
	late   time.Duration
	why    string // in the text of the refusal
}

func client(field string, value any) func(*otposttest.Authenticator) {
	return func(a *otposttest.Authenticator) { a.Client = func(data map[string]any) { data[field] = value } }
}

func data(alter func(data []byte)) func(*otposttest.Authenticator) {
	return func(a *otposttest.Authenticator) {
		a.Data = func(d []byte) []byte {
			alter(d)
			return d
		}
	}
}

// attacks are what both ceremonies have in common.
var attacks = map[string]attack{
	"another origin":             {origin: "https://shop.example.evil.example", why: "is not the party's"},
	"origin by http":             {origin: "http://login.shop.example", why: "is not the party's"},
	"a domain below":             {origin: "https://blog.shop.example", why: "is not the party's"},
	"another port":               {origin: origin + ":8443", why: "is not the party's"},
	"origin with a path":         {origin: origin + "/", why: "is not the party's"}, // which the library takes for the origin
	"swapped challenge":          {key: func(a *otposttest.Authenticator) { a.SwapChallenge = bytes.Repeat([]byte{1}, 32) }, why: "challenge"},
	"empty challenge":            {key: func(a *otposttest.Authenticator) { a.SwapChallenge = []byte{} }, why: "challenge"},
	"in a frame":                 {key: client("crossOrigin", true), why: "frame"},
	"in a frame, as it says":     {key: client("topOrigin", "https://evil.example"), why: "frame"},
	"token binding":              {key: client("tokenBinding", map[string]any{"status": "present", "id": "AAAA"}), why: "token"},
	"token binding of no status": {key: client("tokenBinding", map[string]any{}), why: "token"},
	"another type":               {key: client("type", "payment.get"), why: "ceremony type"},
	"another relying party":      {key: data(func(d []byte) { d[0] ^= 1 }), why: "RP Hash"},
	"nobody present":             {key: func(a *otposttest.Authenticator) { a.NotPresent = true }, why: "presence"},
	"backed up, not eligible":    {key: func(a *otposttest.Authenticator) { a.BackedUp = true }, why: "Backup State"},
	"session over":               {late: life, why: "ended"},
	"session of another party":   {party: &Party{ID: "login.shop.example", Name: "Shop", Origins: []string{origin}}, why: "another relying party"},
}

// do begins and answers a ceremony on a key of the table's, under attack.
func (k attack) do(a *otposttest.Authenticator, answer func(*otposttest.Authenticator, string) json.RawMessage) (json.RawMessage, Party, time.Time) {
	if k.key != nil {
		k.key(a)
	}
	from, p := origin, shop
	if k.origin != "" {
		from = k.origin
	}
	raw := answer(a, from)
	if k.answer != nil {
		raw = k.answer(raw)
	}
	if k.party != nil {
		p = *k.party
	}
	return raw, p, noon.Add(k.late)
}

func checkRefusal(t *testing.T, err error, why, challenge string) {
	t.Helper()
	if !errors.Is(err, ErrRefused) || errors.Is(err, ErrInput) || !strings.Contains(err.Error(), why) {
		t.Errorf("%v, want a refusal for %q", err, why)
	}
	if err != nil && strings.Contains(err.Error(), challenge) {
		t.Errorf("the error tells the challenge: %v", err)
	}
	if p := otp.AsProblem(err); p.Reason != otp.Internal {
		t.Errorf("a refusal has words for people: %v", p)
	}
}

func TestRegistrationAttacks(t *testing.T) {
	all := map[string]attack{
		"assertion as registration": {key: client("type", "webauthn.get"), why: "ceremony type"},
		"algorithm not asked for":   {key: cose(func(key []byte) { key[4] = 0x26 - 1 }), why: "algorithm"}, // ES256 becomes -6
		"point not on the curve":    {key: cose(func(key []byte) { key[len(key)-1] ^= 1 }), why: "curve"},
		"curve not the algorithm's": {key: cose(func(key []byte) { key[6] = 2 }), why: "public key"},
		"a statement for other client data": {
			key:    func(a *otposttest.Authenticator) { a.SelfAttested = true },
			answer: response("clientDataJSON", func(b []byte) []byte { return append(b, ' ') }), why: "verify signature",
		},
		"id too short": {key: func(a *otposttest.Authenticator) {
			var id []byte
			a.Data = func(d []byte) []byte { // 55 bytes, the id of 32 bytes, the key
				id = d[55:63]
				return slices.Concat(d[:53], []byte{0, 8}, id, d[87:])
			}
			a.Answer = func(answer map[string]any) {
				answer["id"] = base64.RawURLEncoding.EncodeToString(id)
				answer["rawId"] = answer["id"]
			}
		}, why: "id has 8 bytes"},
		"another id than attested": {answer: func(raw json.RawMessage) json.RawMessage {
			return edit(raw, func(m map[string]any) { m["id"], m["rawId"] = "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAA" })
		}, why: "credential id"},
	}
	for name, k := range attacks {
		all[name] = k
	}
	for name, k := range all {
		t.Run(name, func(t *testing.T) {
			options, sess, err := BeginRegistration(shop, anna, nil, noon, life)
			if err != nil {
				t.Fatal(err)
			}
			raw, p, at := k.do(otposttest.NewAuthenticator(t), func(a *otposttest.Authenticator, from string) json.RawMessage {
				return a.Create(t, options, from)
			})
			c, err := FinishRegistration(p, sess, raw, at)
			checkRefusal(t, err, k.why, challengeOf(t, sess))
			if c.ID != nil {
				t.Errorf("refused, and yet %+v", c)
			}
		})
	}
	// A session for asking is not one for registering.
	key := otposttest.NewAuthenticator(t)
	_, sess := beginAssertion(t, register(t, key, anna))
	options, _, err := BeginRegistration(shop, anna, nil, noon, life)
	if err != nil {
		t.Fatal(err)
	}
	_, err = FinishRegistration(shop, sess, key.Create(t, options, origin), noon)
	checkRefusal(t, err, "webauthn.get", challengeOf(t, sess))
}

// cose alters the public key of a registration: 77 bytes of CBOR at the end.
func cose(alter func(key []byte)) func(*otposttest.Authenticator) {
	return data(func(d []byte) { alter(d[len(d)-77:]) })
}

func edit(raw json.RawMessage, alter func(map[string]any)) json.RawMessage {
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		panic(err)
	}
	alter(m)
	out, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return out
}

// response alters one binary field of what the browser returned.
func response(field string, alter func(b []byte) []byte) func(json.RawMessage) json.RawMessage {
	return func(raw json.RawMessage) json.RawMessage {
		return edit(raw, func(m map[string]any) {
			r := m["response"].(map[string]any)
			b, err := base64.RawURLEncoding.DecodeString(r[field].(string))
			if err != nil {
				panic(err)
			}
			r[field] = base64.RawURLEncoding.EncodeToString(alter(b))
		})
	}
}

func TestAssertionAttacks(t *testing.T) {
	flip := func(i int) func(b []byte) []byte {
		return func(b []byte) []byte {
			b[(i+len(b))%len(b)] ^= 1
			return b
		}
	}
	all := map[string]attack{
		"registration as assertion": {key: client("type", "webauthn.create"), why: "ceremony type"},
		"forged signature":          {answer: response("signature", flip(-1)), why: "signature"},
		"no signature":              {answer: response("signature", func([]byte) []byte { return nil }), why: "signature"},
		"counter altered":           {answer: response("authenticatorData", flip(36)), why: "signature"},
		"PIN claimed": {
			key:    func(a *otposttest.Authenticator) { a.NotVerified = true },
			answer: response("authenticatorData", func(b []byte) []byte { b[32] |= 1 << 2; return b }), why: "signature",
		},
		"client data altered":   {answer: response("clientDataJSON", func(b []byte) []byte { return append(b, ' ') }), why: "signature"},
		"another user's handle": {answer: response("userHandle", flip(0)), why: "handle"},
		"eligible for backup":   {key: func(a *otposttest.Authenticator) { a.BackupEligible = true }, why: "Backup Eligible"},
	}
	for name, k := range attacks {
		all[name] = k
	}
	for name, k := range all {
		t.Run(name, func(t *testing.T) {
			key := otposttest.NewAuthenticator(t)
			c := register(t, key, anna)
			options, sess := beginAssertion(t, c)
			raw, p, at := k.do(key, func(a *otposttest.Authenticator, from string) json.RawMessage { return a.Get(t, options, from) })
			res, err := FinishAssertion(p, sess, []Credential{c}, raw, at)
			checkRefusal(t, err, k.why, challengeOf(t, sess))
			if res.CredentialID != nil {
				t.Errorf("refused, and yet %+v", res)
			}
		})
	}
}

// TestForeignCredentials answers with keys that are good, and not for this session.
func TestForeignCredentials(t *testing.T) {
	ben := User{Handle: bytes.Repeat([]byte{8}, 32), Name: "ben@example.com"}
	first, second, bens := otposttest.NewAuthenticator(t), otposttest.NewAuthenticator(t), otposttest.NewAuthenticator(t)
	one, two, other := register(t, first, anna), register(t, second, anna), register(t, bens, ben)
	second.Uninvited, bens.Uninvited = true, true

	options, sess := beginAssertion(t, one)
	judge := func(name string, who *otposttest.Authenticator, have ...Credential) {
		t.Helper()
		_, err := FinishAssertion(shop, sess, have, who.Get(t, options, origin), noon)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	judge("another user's key", bens, one, two)
	judge("another user's key, given by mistake", bens, one, other)
	judge("a key that was not asked for", second, one, two)
	judge("a key that was removed meanwhile", first, two)

	// Another user's key under the id of the right one: the signature is made with the wrong key.
	raw := edit(bens.Get(t, options, origin), func(m map[string]any) {
		m["id"] = base64.RawURLEncoding.EncodeToString(one.ID)
		m["rawId"] = m["id"]
		delete(m["response"].(map[string]any), "userHandle")
	})
	_, err := FinishAssertion(shop, sess, []Credential{one}, raw, noon)
	checkRefusal(t, err, "signature", challengeOf(t, sess))

	// An answer to another session of the same user.
	earlier, _ := beginAssertion(t, one)
	_, err = FinishAssertion(shop, sess, []Credential{one}, first.Get(t, earlier, origin), noon)
	checkRefusal(t, err, "challenge", challengeOf(t, sess))

	// The second of two answers, also if the first was removed meanwhile. Their handles need not be the same.
	two = register(t, second, User{Handle: []byte("made with an older key"), Name: anna.Name})
	options, sess = beginAssertion(t, one, two)
	for name, have := range map[string][]Credential{"both": {one, two}, "the one that is left": {two}} {
		if _, err := FinishAssertion(shop, sess, have, second.Get(t, options, origin), noon); err != nil {
			t.Errorf("the second key, of %s: %v", name, err)
		}
	}

	// A registration's session does not take an assertion.
	_, sess, err = BeginRegistration(shop, anna, nil, noon, life)
	if err != nil {
		t.Fatal(err)
	}
	_, err = FinishAssertion(shop, sess, []Credential{one}, first.Get(t, options, origin), noon)
	checkRefusal(t, err, "webauthn.create", challengeOf(t, sess))
}

// The library's word for a wrong challenge, which it quotes: if it changes, detail would log it.
func TestLibrarySaysChallenge(t *testing.T) {
	err := (&protocol.CollectedClientData{Type: protocol.AssertCeremony, Challenge: "x", Origin: origin}).Verify("secret", protocol.AssertCeremony,
		shop.Origins, nil, nil, protocol.TopOriginExplicitVerificationMode, false)
	if e, ok := errors.AsType[*protocol.Error](err); !ok || e.Details != challengeMismatch || strings.Contains(detail(err), "secret") {
		t.Errorf("%v, as %s", err, detail(err))
	}
}

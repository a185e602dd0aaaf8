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

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

const (
	origin = "https://login.shop.example"
	life   = 5 * time.Minute
)

var (
	noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	shop = Party{ID: "shop.example", Name: "Shop", Origins: []string{"https://shop.example", origin}}
	anna = User{Handle: bytes.Repeat([]byte{7}, 32), Name: "anna@example.com", DisplayName: "Anna"}
)

// register lets a key be registered as it should be.
func register(t testing.TB, a *otposttest.Authenticator, user User) Credential {
	t.Helper()
	options, sess, err := BeginRegistration(shop, user, nil, noon, life)
	if err != nil {
		t.Fatal(err)
	}
	c, err := FinishRegistration(shop, sess, a.Create(t, options, origin), noon)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func beginAssertion(t testing.TB, credentials ...Credential) (json.RawMessage, []byte) {
	t.Helper()
	options, sess, err := BeginAssertion(shop, credentials, noon, life)
	if err != nil {
		t.Fatal(err)
	}
	return options, sess
}

func TestKeyLife(t *testing.T) {
	for name, a := range map[string]otposttest.Authenticator{
		"security key":        {Algorithm: otposttest.ES256},
		"EdDSA":               {Algorithm: otposttest.EdDSA},
		"RSA":                 {Algorithm: otposttest.RS256},
		"vouches for itself":  {Algorithm: otposttest.ES256, SelfAttested: true},
		"not discoverable":    {Algorithm: otposttest.ES256, Forgetful: true},
		"no PIN":              {Algorithm: otposttest.ES256, NotVerified: true},
		"passkey of a laptop": {Algorithm: otposttest.ES256, PasskeyZeroCounter: true},
		"passkey in a cloud":  {Algorithm: otposttest.ES256, PasskeyZeroCounter: true, BackupEligible: true},
	} {
		t.Run(name, func(t *testing.T) {
			key := &a
			key.AAGUID = otposttest.NewAuthenticator(t).AAGUID
			c := register(t, key, anna)
			if !bytes.Equal(c.ID, key.CredentialID(t)) || c.SignCount != key.SignCount || c.BackupEligible != key.BackupEligible || c.AAGUID != key.AAGUID ||
				!slices.Equal(c.Transports, []string{"usb", "nfc"}) || len(c.Record) > 2048 {
				t.Fatalf("registered %+v", c)
			}
			for range 2 { // what the first returns is what the second needs
				options, sess := beginAssertion(t, c)
				res, err := FinishAssertion(shop, sess, []Credential{c}, key.Get(t, options, shop.Origins[0]), noon.Add(life-1))
				if err != nil || !bytes.Equal(res.CredentialID, c.ID) || res.SignCount != key.SignCount || res.Cloned || res.UserVerified == key.NotVerified {
					t.Fatalf("asserted %+v, %v", res, err)
				}
				c.Record, c.SignCount = res.Record, res.SignCount
			}
			if !key.BackupEligible {
				return
			}
			key.BackedUp = true // which happens when the cloud has it, and is no reason to refuse
			options, sess := beginAssertion(t, c)
			res, err := FinishAssertion(shop, sess, []Credential{c}, key.Get(t, options, origin), noon)
			if err != nil || !bytes.Contains(res.Record, []byte(`"backed_up":true`)) {
				t.Errorf("after the backup: %s, %v", res.Record, err)
			}
		})
	}
}

// TestOptions holds what a browser is told to what was decided.
func TestOptions(t *testing.T) {
	key := otposttest.NewAuthenticator(t)
	c := register(t, key, anna)
	b64 := base64.RawURLEncoding.EncodeToString

	options, sess, err := BeginRegistration(shop, anna, [][]byte{c.ID}, noon, life)
	if err != nil {
		t.Fatal(err)
	}
	challenge := challengeOf(t, sess)
	want := `{"publicKey":{"rp":{"name":"Shop","id":"shop.example"},"user":{"name":"anna@example.com","displayName":"Anna","id":"` + b64(anna.Handle) + `"},` +
		`"challenge":"` + challenge + `","pubKeyCredParams":[{"type":"public-key","alg":-7},{"type":"public-key","alg":-8},{"type":"public-key","alg":-257}],` +
		`"timeout":300000,"excludeCredentials":[{"type":"public-key","id":"` + b64(c.ID) + `"}],` +
		`"authenticatorSelection":{"requireResidentKey":false,"residentKey":"preferred","userVerification":"preferred"},"attestation":"none"}}`
	if string(options) != want {
		t.Errorf("to create:\n got %s\nwant %s", options, want)
	}
	options, sess = beginAssertion(t, c)
	want = `{"publicKey":{"challenge":"` + challengeOf(t, sess) + `","timeout":300000,"rpId":"shop.example","allowCredentials":[{"type":"public-key","id":"` +
		b64(c.ID) + `","transports":["usb","nfc"]}],"userVerification":"preferred"}}`
	if string(options) != want {
		t.Errorf("to get:\n got %s\nwant %s", options, want)
	}
	if challengeOf(t, sess) == challenge {
		t.Error("two sessions have the same challenge")
	}
}

func challengeOf(t testing.TB, sess []byte) string {
	t.Helper()
	var s session
	if err := json.Unmarshal(sess, &s); err != nil {
		t.Fatal(err)
	}
	if raw, err := base64.RawURLEncoding.DecodeString(s.Challenge); err != nil || len(raw) != 32 {
		t.Fatalf("the challenge has %d bytes (%v)", len(raw), err)
	}
	return s.Challenge
}

// TestClone follows a copied key: whichever of the two answers second is found out, and the answer stands nevertheless.
func TestClone(t *testing.T) {
	key := otposttest.NewAuthenticator(t)
	c := register(t, key, anna)
	twin := key.Clone()
	assert := func(who *otposttest.Authenticator, c Credential) Result {
		t.Helper()
		options, sess := beginAssertion(t, c)
		res, err := FinishAssertion(shop, sess, []Credential{c}, who.Get(t, options, origin), noon)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	used := assert(key, c)
	if used.Cloned {
		t.Fatal("the key itself is taken for a copy")
	}
	for name, stored := range map[string]Credential{
		"both updated":   {ID: c.ID, Record: used.Record, SignCount: used.SignCount},
		"column updated": {ID: c.ID, Record: c.Record, SignCount: used.SignCount},
		"record updated": {ID: c.ID, Record: used.Record, SignCount: c.SignCount},
	} {
		if res := assert(twin.Clone(), stored); !res.Cloned || res.SignCount != used.SignCount { // the same count again
			t.Errorf("%s: the copy gives %+v", name, res)
		}
	}
	stored := Credential{ID: c.ID, Record: used.Record, SignCount: used.SignCount}
	key.PasskeyZeroCounter = true
	if res := assert(key, stored); !res.Cloned || res.SignCount != used.SignCount {
		t.Errorf("a key that counted says zero: %+v", res)
	}
	key.PasskeyZeroCounter, key.SignCount = false, used.SignCount+99
	if res := assert(key, stored); res.Cloned || res.SignCount != used.SignCount+100 {
		t.Errorf("a key that skips counts: %+v", res)
	}
}

// TestLenience holds what is taken though it is not as most browsers have it.
func TestLenience(t *testing.T) {
	key := otposttest.NewAuthenticator(t)
	key.Client = func(data map[string]any) {
		delete(data, "crossOrigin") // Level 1 had none
		data["tokenBinding"], data["later"] = map[string]any{"status": "supported"}, map[string]any{"more": 1}
	}
	key.Answer = func(answer map[string]any) {
		answer["clientExtensionResults"] = map[string]any{"credProps": map[string]any{"rk": true}, "unheardOf": 1}
		if r := answer["response"].(map[string]any); r["transports"] != nil {
			r["transports"] = []string{"usb", "", "USB!", strings.Repeat("x", 33), "usb", "telepathy", "cable"}
		}
	}
	c := register(t, key, anna)
	if !slices.Equal(c.Transports, []string{"usb", "telepathy", "hybrid"}) {
		t.Errorf("transports %q", c.Transports)
	}
	options, sess := beginAssertion(t, c)
	if _, err := FinishAssertion(shop, sess, []Credential{c}, key.Get(t, options, origin), noon); err != nil {
		t.Error(err)
	}
}

// TestMalformed gives in what is no answer at all.
func TestMalformed(t *testing.T) {
	key := otposttest.NewAuthenticator(t)
	options, registration, err := BeginRegistration(shop, anna, nil, noon, life)
	if err != nil {
		t.Fatal(err)
	}
	created := key.Create(t, options, origin)
	c := register(t, key, anna)
	options, sess := beginAssertion(t, c)
	got := key.Get(t, options, origin)
	without := func(raw json.RawMessage, path ...string) []byte {
		return edit(raw, func(m map[string]any) {
			for _, step := range path[:len(path)-1] {
				m = m[step].(map[string]any)
			}
			delete(m, path[len(path)-1])
		})
	}
	long := func(raw []byte) []byte {
		return append(slices.Clone(raw), bytes.Repeat([]byte(" "), MaxCredential-len(raw)+1)...)
	}
	if _, err := FinishAssertion(shop, sess, []Credential{c}, long(got)[:MaxCredential], noon); err != nil {
		t.Errorf("as long as may be: %v", err)
	}
	for name, raws := range map[string][2][]byte{
		"empty":                 {},
		"no JSON":               {[]byte("hello"), []byte("hello")},
		"null":                  {[]byte("null"), []byte("null")},
		"cut off":               {created[:len(created)-1], got[:len(got)-1]},
		"trailing data":         {append(slices.Clone(created), '1'), append(slices.Clone(got), '1')},
		"too long":              {long(created), long(got)},
		"no id":                 {without(created, "id"), without(got, "id")},
		"no type":               {without(created, "type"), without(got, "type")},
		"no response":           {without(created, "response"), without(got, "response")},
		"no client data":        {without(created, "response", "clientDataJSON"), without(got, "response", "clientDataJSON")},
		"no authenticator data": {without(created, "response", "attestationObject"), without(got, "response", "authenticatorData")},
	} {
		_, err := FinishRegistration(shop, registration, raws[0], noon)
		_, err2 := FinishAssertion(shop, sess, []Credential{c}, raws[1], noon)
		for ceremony, err := range map[string]error{"registration": err, "assertion": err2} {
			p := otp.AsProblem(err)
			if !errors.Is(err, ErrInput) || p.Reason != otp.Invalid || p.Field != "credential" || !strings.HasPrefix(p.Message, "credential must ") {
				t.Errorf("%s, %s: %v", ceremony, name, err)
			}
			if err != nil && len(err.Error()) > 600 {
				t.Errorf("%s, %s: an error of %d bytes", ceremony, name, len(err.Error()))
			}
		}
	}
}

// TestMistakes are the caller's or the operator's, and neither input nor refusal.
func TestMistakes(t *testing.T) {
	key := otposttest.NewAuthenticator(t)
	c := register(t, key, anna)
	other := register(t, key, anna)
	options, sess := beginAssertion(t, c)
	got := key.Get(t, options, origin)
	swapped := Credential{ID: c.ID, Record: other.Record}
	begin := func(p Party, u User, life time.Duration) error {
		_, _, err := BeginRegistration(p, u, nil, noon, life)
		return err
	}
	ask := func(life time.Duration, c ...Credential) error {
		_, _, err := BeginAssertion(shop, c, noon, life)
		return err
	}
	finish := func(p Party, sess []byte, c Credential) error {
		_, err := FinishAssertion(p, sess, []Credential{c}, got, noon)
		return err
	}
	for name, err := range map[string]error{
		"party of nothing":       begin(Party{}, anna, life),
		"no handle":              begin(shop, User{Name: "a"}, life),
		"handle of 65 bytes":     begin(shop, User{Name: "a", Handle: make([]byte, 65)}, life),
		"no name":                begin(shop, User{Handle: anna.Handle}, life),
		"no life":                begin(shop, anna, 0),
		"a life of two days":     begin(shop, anna, 48*time.Hour),
		"no credentials":         ask(life),
		"no life to ask":         ask(0, c),
		"another's record":       ask(life, swapped),
		"no record":              ask(life, Credential{ID: c.ID}),
		"a record of the future": ask(life, Credential{ID: c.ID, Record: bytes.Replace(c.Record, []byte(`"v":1`), []byte(`"v":2`), 1)}),
		"no session":             finish(shop, nil, c),
		"no party to finish":     finish(Party{}, sess, c),
		"another's record then":  finish(shop, sess, swapped),
	} {
		if err == nil || errors.Is(err, ErrInput) || errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPartyCheck(t *testing.T) {
	party := func(id string, origins ...string) Party { return Party{ID: id, Name: "Shop", Origins: origins} }
	for name, tc := range map[string]struct {
		p    Party
		want string // "" for a right one
	}{
		"a domain":            {party("shop.example", "https://shop.example"), ""},
		"domains below":       {party("shop.example", "https://login.shop.example", "https://a.b.shop.example:8443"), ""},
		"this machine":        {party("localhost", "http://localhost:8080", "https://localhost"), ""},
		"a mobile app":        {party("shop.example", "https://shop.example", androidApp+strings.Repeat("A", 43)), ""},
		"no id":               {party("", "https://shop.example"), "relying party id"},
		"id with scheme":      {party("https://shop.example", "https://shop.example"), "relying party id"},
		"id with port":        {party("shop.example:443", "https://shop.example"), "relying party id"},
		"an address":          {party("192.0.2.1", "https://192.0.2.1"), "relying party id"},
		"a top-level domain":  {party("example", "https://shop.example"), "relying party id"},
		"id in upper case":    {party("Shop.example", "https://shop.example"), "lower case"},
		"no name":             {Party{ID: "shop.example", Origins: []string{"https://shop.example"}}, "name"},
		"no origins":          {party("shop.example"), "origins"},
		"too many origins":    {party("shop.example", slices.Repeat([]string{"https://shop.example"}, 17)...), "origins"},
		"by http":             {party("shop.example", "http://shop.example"), "https"},
		"a path":              {party("shop.example", "https://shop.example/"), "only"},
		"a user":              {party("shop.example", "https://a@shop.example"), "only"},
		"upper case":          {party("shop.example", "https://Shop.example"), "only"},
		"the default port":    {party("shop.example", "https://shop.example:443"), "port"},
		"an empty port":       {party("shop.example", "https://shop.example:"), "port"},
		"another domain":      {party("shop.example", "https://shop.test"), "domain below"},
		"a like domain":       {party("shop.example", "https://myshop.example"), "domain below"},
		"the domain above":    {party("login.shop.example", "https://shop.example"), "domain below"},
		"an app of no digest": {party("shop.example", androidApp), "digest"},
	} {
		if err := tc.p.Check(); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

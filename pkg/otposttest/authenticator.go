package otposttest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
)

// The algorithms of COSE that an Authenticator can sign with (RFC 9053, RFC 8812).
const (
	ES256 = -7
	EdDSA = -8
	RS256 = -257
)

// The flags of authenticator data (WebAuthn Level 3, §6.1).
const (
	flagPresent, flagVerified, flagBackupEligible, flagBackedUp, flagCredential = 1, 1 << 2, 1 << 3, 1 << 4, 1 << 6
)

// An Authenticator is a security key with the browser before it. It answers the options of a WebAuthn ceremony as the browser's
// navigator.credentials would, and makes a new key at each Create. As NewAuthenticator returns it, it is well behaved: a key that counts, held by
// somebody who is present and has entered the PIN. What is exported makes it another kind of key, or a bad one. It is not safe for concurrent use.
type Authenticator struct {
	Algorithm int // of the keys that it makes
	AAGUID    uuid.UUID
	SignCount uint32 // that its last signature had; the next one has one more

	PasskeyZeroCounter bool // it does not count: every signature has zero
	Forgetful          bool // its keys are not discoverable: it does not tell whose they are
	NotPresent         bool // nobody touched it
	NotVerified        bool // nobody entered a PIN
	BackupEligible     bool // its keys may be copied
	BackedUp           bool // and have been
	SelfAttested       bool // its new keys sign their own registration ("packed"); else "none"

	// To misbehave. Client and Data alter what is signed, before it is.
	SwapChallenge []byte                    // signed in place of the options'
	Uninvited     bool                      // it answers with its last key, whichever the options allow, and makes one whatever they exclude
	Client        func(data map[string]any) // the client data (§5.8.1)
	Data          func(data []byte) []byte  // the authenticator data (§6.1)
	Answer        func(answer map[string]any)

	keys []passkey
}

// A passkey is one credential that an Authenticator holds. Parties are not told apart by it: the page's is signed.
type passkey struct {
	id, handle []byte
	algorithm  int
	signer     crypto.Signer
}

// NewAuthenticator returns one that holds no key.
func NewAuthenticator(t testing.TB) *Authenticator {
	t.Helper()
	model, err := uuid.NewRandom()
	if err != nil {
		t.Fatal(err)
	}
	return &Authenticator{Algorithm: ES256, AAGUID: model}
}

// Clone returns a copy with the same keys and the same counter, as somebody who got at the memory of a security key would have.
func (a *Authenticator) Clone() *Authenticator {
	b := *a
	b.keys = slices.Clone(a.keys)
	return &b
}

// CredentialID returns the id of the key that was made last.
func (a *Authenticator) CredentialID(t testing.TB) []byte {
	t.Helper()
	if len(a.keys) == 0 {
		t.Fatal("the authenticator holds no key")
	}
	return a.keys[len(a.keys)-1].id
}

// ceremonyOptions is what an Authenticator reads of the options of both ceremonies (§5.4, §5.5).
type ceremonyOptions struct {
	PublicKey struct {
		Challenge string
		RPID      string `json:"rpId"`
		RP        struct{ ID, Name string }
		User      struct{ ID, Name, DisplayName string }
		Params    []struct {
			Type string
			Alg  int
		} `json:"pubKeyCredParams"`
		Exclude []struct{ Type, ID string } `json:"excludeCredentials"`
		Allow   []struct{ Type, ID string } `json:"allowCredentials"`
	} `json:"publicKey"`
}

// Create makes a key as the options of a registration want it, and returns the credential as a page at origin would send it. It fails the test
// where a browser would throw: options that are none, an algorithm that is not wanted, a key that is excluded.
func (a *Authenticator) Create(t testing.TB, options json.RawMessage, origin string) json.RawMessage {
	t.Helper()
	o := readOptions(t, options)
	handle := decode64(t, "user.id", o.PublicKey.User.ID)
	if len(handle) == 0 || len(handle) > 64 || o.PublicKey.User.Name == "" || o.PublicKey.RP.Name == "" {
		t.Fatalf("the options do not name user and party: %s", options)
	}
	wanted := false
	for _, p := range o.PublicKey.Params {
		wanted = wanted || p.Type == "public-key" && p.Alg == a.Algorithm
	}
	if !wanted {
		t.Fatalf("the options do not want algorithm %d: %s", a.Algorithm, options)
	}
	for _, c := range o.PublicKey.Exclude {
		if _, held := a.find(decode64(t, "excludeCredentials", c.ID)); held && !a.Uninvited {
			t.Fatal("the authenticator holds an excluded credential: InvalidStateError")
		}
	}

	key := newPasskey(t, a.Algorithm, handle)
	client := a.clientData(t, "webauthn.create", o.PublicKey.Challenge, origin)
	data := a.authenticatorData(o.PublicKey.RP.ID, flagCredential)
	data = append(data, a.AAGUID[:]...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(key.id)))
	data = append(append(data, key.id...), encodeCBOR(t, key.cose(t))...)
	data = a.altered(data)
	object := map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data}
	if a.SelfAttested {
		object["fmt"], object["attStmt"] = "packed", map[string]any{"alg": key.algorithm, "sig": key.sign(t, data, client)}
	}
	public, err := x509.MarshalPKIXPublicKey(key.signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	a.keys = append(a.keys, key)
	return a.answer(t, key, map[string]any{
		"clientDataJSON": encode64(client), "attestationObject": encode64(encodeCBOR(t, object)), "authenticatorData": encode64(data),
		"publicKey": encode64(public), "publicKeyAlgorithm": key.algorithm, "transports": []string{"usb", "nfc"},
	})
}

// Get answers the options of an assertion with a key that they allow, as a page at origin would send it. It fails the test where a browser would
// throw: options that are none, or no key among those allowed.
func (a *Authenticator) Get(t testing.TB, options json.RawMessage, origin string) json.RawMessage {
	t.Helper()
	o := readOptions(t, options)
	var key passkey
	held := false
	for _, c := range o.PublicKey.Allow {
		if key, held = a.find(decode64(t, "allowCredentials", c.ID)); held {
			break
		}
	}
	if a.Uninvited {
		key, held = a.find(a.CredentialID(t))
	}
	if !held {
		t.Fatal("the authenticator holds none of the credentials that are allowed: NotAllowedError")
	}
	client := a.clientData(t, "webauthn.get", o.PublicKey.Challenge, origin)
	data := a.altered(a.authenticatorData(o.PublicKey.RPID, 0))
	response := map[string]any{
		"clientDataJSON": encode64(client), "authenticatorData": encode64(data), "signature": encode64(key.sign(t, data, client)),
	}
	if !a.Forgetful {
		response["userHandle"] = encode64(key.handle)
	}
	return a.answer(t, key, response)
}

func (a *Authenticator) find(id []byte) (passkey, bool) {
	i := slices.IndexFunc(a.keys, func(k passkey) bool { return bytes.Equal(k.id, id) })
	if i < 0 {
		return passkey{}, false
	}
	return a.keys[i], true
}

func (a *Authenticator) clientData(t testing.TB, ceremony, challenge, origin string) []byte {
	t.Helper()
	if len(decode64(t, "challenge", challenge)) < 16 {
		t.Fatal("the challenge has less than 16 bytes")
	}
	if a.SwapChallenge != nil {
		challenge = encode64(a.SwapChallenge)
	}
	data := map[string]any{"type": ceremony, "challenge": challenge, "origin": origin, "crossOrigin": false}
	if a.Client != nil {
		a.Client(data)
	}
	return encodeJSON(t, data)
}

// authenticatorData counts, and returns what stands before a credential (§6.1).
func (a *Authenticator) authenticatorData(party string, flags byte) []byte {
	a.SignCount++
	if a.PasskeyZeroCounter {
		a.SignCount = 0
	}
	for flag, set := range map[byte]bool{
		flagPresent: !a.NotPresent, flagVerified: !a.NotVerified, flagBackupEligible: a.BackupEligible, flagBackedUp: a.BackedUp,
	} {
		if set {
			flags |= flag
		}
	}
	hash := sha256.Sum256([]byte(party))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), a.SignCount)
}

func (a *Authenticator) altered(data []byte) []byte {
	if a.Data != nil {
		return a.Data(data)
	}
	return data
}

// answer is what a browser's PublicKeyCredential.toJSON() gives (§5.1).
func (a *Authenticator) answer(t testing.TB, key passkey, response map[string]any) json.RawMessage {
	t.Helper()
	answer := map[string]any{
		"id": encode64(key.id), "rawId": encode64(key.id), "type": "public-key", "authenticatorAttachment": "cross-platform",
		"clientExtensionResults": map[string]any{}, "response": response,
	}
	if a.Answer != nil {
		a.Answer(answer)
	}
	return encodeJSON(t, answer)
}

func newPasskey(t testing.TB, algorithm int, handle []byte) passkey {
	t.Helper()
	k := passkey{id: make([]byte, 32), handle: handle, algorithm: algorithm}
	_, _ = rand.Read(k.id)
	var err error
	switch algorithm {
	case ES256:
		k.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, k.signer, err = ed25519.GenerateKey(rand.Reader)
	case RS256:
		k.signer, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		t.Fatalf("algorithm %d is not known", algorithm)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// cose returns the public key as COSE has it (RFC 9053, section 7; RFC 8230, section 4).
func (k passkey) cose(t testing.TB) map[int]any {
	t.Helper()
	switch public := k.signer.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return map[int]any{1: 2, 3: k.algorithm, -1: 1, -2: point[1:33], -3: point[33:]}
	case ed25519.PublicKey:
		return map[int]any{1: 1, 3: k.algorithm, -1: 6, -2: []byte(public)}
	case *rsa.PublicKey:
		return map[int]any{1: 3, 3: k.algorithm, -1: public.N.Bytes(), -2: big.NewInt(int64(public.E)).Bytes()}
	default:
		t.Fatalf("a key of type %T", public)
		return nil
	}
}

// sign signs authenticator and client data as both ceremonies do (§6.3.3).
func (k passkey) sign(t testing.TB, data, client []byte) []byte {
	t.Helper()
	hash := sha256.Sum256(client)
	message, opts := slices.Concat(data, hash[:]), crypto.SignerOpts(crypto.Hash(0))
	if k.algorithm != EdDSA { // which hashes by itself
		digest := sha256.Sum256(message)
		message, opts = digest[:], crypto.SHA256
	}
	signature, err := k.signer.Sign(rand.Reader, message, opts)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

func readOptions(t testing.TB, options json.RawMessage) (o ceremonyOptions) {
	t.Helper()
	if err := json.Unmarshal(options, &o); err != nil || o.PublicKey.Challenge == "" {
		t.Fatalf("these are no options of a ceremony (%v): %s", err, options)
	}
	return o
}

func encodeCBOR(t testing.TB, v any) []byte {
	t.Helper()
	mode, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := mode.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func encodeJSON(t testing.TB, v map[string]any) json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decode64(t testing.TB, field, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatalf("%s of the options is not base64url: %v", field, err)
	}
	return b
}

package otposttest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// An answered is the part of an answer that tests look at.
type answered struct {
	ID       string
	Response struct {
		ClientDataJSON, AttestationObject, AuthenticatorData, PublicKey, Signature, UserHandle string
	}
}

func readAnswer(t *testing.T, raw json.RawMessage) (a answered) {
	t.Helper()
	if err := json.Unmarshal(raw, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

const (
	testOrigin = "https://shop.example"
	challenge  = "AAECAwQFBgcICQoLDA0ODw"
	create     = `{"publicKey":{"challenge":"` + challenge + `","rp":{"id":"shop.example","name":"Shop"},"user":{"id":"aGFuZGxl","name":"a","displayName":""},` +
		`"pubKeyCredParams":[{"type":"public-key","alg":-7}]}}`
)

func get(ids ...[]byte) json.RawMessage {
	options := `{"publicKey":{"challenge":"` + challenge + `","rpId":"shop.example","allowCredentials":[`
	for i, id := range ids {
		options += map[bool]string{true: ","}[i > 0] + `{"type":"public-key","id":"` + base64.RawURLEncoding.EncodeToString(id) + `"}`
	}
	return json.RawMessage(options + `]}}`)
}

// TestAuthenticator checks an answer by the letter of the standard, with no library for it.
func TestAuthenticator(t *testing.T) {
	a := NewAuthenticator(t)
	a.SignCount = 41
	made := readAnswer(t, a.Create(t, json.RawMessage(create), testOrigin))
	b64 := base64.RawURLEncoding.DecodeString
	der, _ := b64(made.Response.PublicKey)
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	public := parsed.(*ecdsa.PublicKey)
	object, _ := b64(made.Response.AttestationObject)
	var attestation struct {
		Fmt      string
		AuthData []byte
	}
	if err := cbor.Unmarshal(object, &attestation); err != nil || attestation.Fmt != "none" {
		t.Fatalf("attestation %q: %v", attestation.Fmt, err)
	}
	data, hash := attestation.AuthData, sha256.Sum256([]byte("shop.example"))
	id, key := data[55:55+32], map[int]any{}
	if err := cbor.Unmarshal(data[55+32:], &key); err != nil {
		t.Fatal(err)
	}
	point, err := public.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data[:32], hash[:]) || data[32] != 0x45 || binary.BigEndian.Uint32(data[33:]) != 42 || !bytes.Equal(data[37:53], a.AAGUID[:]) ||
		!bytes.Equal(id, a.CredentialID(t)) || base64.RawURLEncoding.EncodeToString(id) != made.ID || key[1] != uint64(2) || key[3] != int64(-7) ||
		!bytes.Equal(slices.Concat(key[-2].([]byte), key[-3].([]byte)), point[1:]) {
		t.Errorf("authenticator data % x", data)
	}

	// A clone goes on from the same count, with the same key.
	twin := a.Clone()
	for name, held := range map[string]*Authenticator{"key": a, "clone": twin} {
		said := readAnswer(t, held.Get(t, get([]byte("another key's id"), id), testOrigin))
		client, _ := b64(said.Response.ClientDataJSON)
		data, _ := b64(said.Response.AuthenticatorData)
		signature, _ := b64(said.Response.Signature)
		digest := sha256.Sum256(client)
		digest = sha256.Sum256(slices.Concat(data, digest[:]))
		if !ecdsa.VerifyASN1(public, digest[:], signature) {
			t.Errorf("%s: the signature is wrong", name)
		}
		if len(data) != 37 || binary.BigEndian.Uint32(data[33:]) != 43 || said.Response.UserHandle != "aGFuZGxl" || said.ID != made.ID {
			t.Errorf("%s: authenticator data % x, handle %q", name, data, said.Response.UserHandle)
		}
		var c struct{ Type, Challenge, Origin string }
		if err := json.Unmarshal(client, &c); err != nil || c.Type != "webauthn.get" || c.Challenge != challenge || c.Origin != testOrigin {
			t.Errorf("%s: client data %s", name, client)
		}
	}
	a.PasskeyZeroCounter, a.SwapChallenge, a.Forgetful = true, []byte("of another session"), true
	said := readAnswer(t, a.Get(t, get(id), testOrigin))
	client, _ := b64(said.Response.ClientDataJSON)
	if data, _ := b64(said.Response.AuthenticatorData); binary.BigEndian.Uint32(data[33:]) != 0 || said.Response.UserHandle != "" ||
		bytes.Contains(client, []byte(challenge)) || twin.SignCount != 43 {
		t.Errorf("a bad key: % x, %s; the clone's count is %d", data, client, twin.SignCount)
	}
}

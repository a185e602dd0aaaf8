package webauthn

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/go-webauthn/webauthn/protocol"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func (h hexBytes) base64() string { return base64.RawURLEncoding.EncodeToString(h) }

var example = Party{ID: "example.org", Name: "Example", Origins: []string{"https://example.org"}}

// A vector is a key's registration and an assertion by it.
type vector struct {
	Section, Comment string
	ID, Key          hexBytes
	Registration     struct{ Challenge, ClientDataJSON, AttestationObject hexBytes }
	Authentication   struct{ Challenge, ClientDataJSON, AuthenticatorData, Signature hexBytes }
}

func vectors(t testing.TB) (out []vector) {
	t.Helper()
	raw, err := os.ReadFile("testdata/w3c-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	if len(out) != 8 {
		t.Fatalf("%d vectors", len(out))
	}
	return out
}

func (v vector) registrationSession(t testing.TB) []byte {
	return encode(t, session{
		Ceremony: protocol.CreateCeremony, Party: example.ID, Challenge: v.Registration.Challenge.base64(), Handle: []byte("handle"), Expires: noon.Add(life),
	})
}

func (v vector) assertionSession(t testing.TB) []byte {
	return encode(t, session{
		Ceremony: protocol.AssertCeremony, Party: example.ID, Challenge: v.Authentication.Challenge.base64(), Allowed: [][]byte{v.ID}, Expires: noon.Add(life),
	})
}

func (v vector) answer(t testing.TB, response map[string]string) []byte {
	return encode(t, map[string]any{"id": v.ID.base64(), "rawId": v.ID.base64(), "type": "public-key", "response": response})
}

func (v vector) created(t testing.TB, client, object hexBytes) []byte {
	return v.answer(t, map[string]string{"clientDataJSON": client.base64(), "attestationObject": object.base64()})
}

func (v vector) got(t testing.TB, client, data, signature hexBytes) []byte {
	return v.answer(t, map[string]string{"clientDataJSON": client.base64(), "authenticatorData": data.base64(), "signature": signature.base64()})
}

// credential is the vector's as if it had been registered.
func (v vector) credential(t testing.TB) Credential {
	eligible := protocol.AuthenticatorFlags(v.Authentication.AuthenticatorData[32]).HasBackupEligible()
	raw, err := record{ID: v.ID, Key: v.Key, Handle: []byte("handle"), BackupEligible: eligible}.encode()
	if err != nil {
		t.Fatal(err)
	}
	return Credential{ID: v.ID, Record: raw}
}

// TestStandardVectors reads the ceremonies that the standard itself gives as examples (Level 3, §16): made by nobody's code of this project.
func TestStandardVectors(t *testing.T) {
	// What we refuse of them: pages in frames, and statements that we did not ask for. A key with such a statement is as good as any, later on.
	noRegistration := map[string]bool{"16.4": true, "16.5": true, "16.7": true, "16.10": true, "16.11": true}
	noAssertion := map[string]bool{"16.4": true, "16.5": true}

	for _, v := range vectors(t) {
		t.Run(v.Section+" "+v.Comment, func(t *testing.T) {
			c, err := FinishRegistration(example, v.registrationSession(t), v.created(t, v.Registration.ClientDataJSON, v.Registration.AttestationObject), noon)
			if noRegistration[v.Section] {
				if !errors.Is(err, ErrRefused) {
					t.Fatalf("registration: %v, want a refusal", err)
				}
				c = v.credential(t)
			} else if err != nil {
				t.Fatalf("registration: %v", err)
			}

			finish := func(signature hexBytes) (Result, error) {
				answer := v.got(t, v.Authentication.ClientDataJSON, v.Authentication.AuthenticatorData, signature)
				return FinishAssertion(example, v.assertionSession(t), []Credential{c}, answer, noon)
			}
			res, err := finish(v.Authentication.Signature)
			if noAssertion[v.Section] {
				if !errors.Is(err, ErrRefused) {
					t.Errorf("assertion: %+v, %v, want a refusal", res, err)
				}
				return
			}
			if err != nil || res.Cloned || res.SignCount != 0 { // the standard's keys do not count
				t.Errorf("assertion: %+v, %v", res, err)
			}
			wrong := append(hexBytes(nil), v.Authentication.Signature...)
			wrong[len(wrong)-1] ^= 1
			if _, err := finish(wrong); !errors.Is(err, ErrRefused) {
				t.Errorf("one bit of the signature is wrong: %v", err)
			}
		})
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

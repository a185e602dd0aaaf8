package webauthn

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
	"github.com/google/uuid"
)

// TestForms pins what is stored: records outlive releases, and sessions an upgrade. A change that fails here needs a new version that reads both.
func TestForms(t *testing.T) {
	raw, err := record{
		ID: []byte("id"), Key: []byte("key"), Handle: []byte("handle"), SignCount: 7, BackupEligible: true, BackedUp: true,
		AAGUID: uuid.MustParse("01020304-0506-0708-090a-0b0c0d0e0f10"), Transports: []string{"usb"},
	}.encode()
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"v":1,"id":"aWQ=","key":"a2V5","handle":"aGFuZGxl","sign_count":7,"backup_eligible":true,"backed_up":true,` +
		`"aaguid":"01020304-0506-0708-090a-0b0c0d0e0f10","transports":["usb"]}`; string(raw) != want {
		t.Errorf("record\n got %s\nwant %s", raw, want)
	}
	raw = encode(t, session{
		Ceremony: protocol.AssertCeremony, Party: "shop.example", Challenge: "AAAA", Handle: []byte("handle"), Allowed: [][]byte{[]byte("id")}, Expires: noon,
	})
	if want := `{"ceremony":"webauthn.get","party":"shop.example","challenge":"AAAA","handle":"aGFuZGxl","allowed":["aWQ="],` +
		`"expires":"2026-11-21T12:00:00Z"}`; string(raw) != want {
		t.Errorf("session\n got %s\nwant %s", raw, want)
	}
}

func TestCheckKey(t *testing.T) {
	modulus := func(bits int) []byte {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key.N.Bytes()
	}
	exponent := []byte{1, 0, 1}
	strong := modulus(2048)
	for name, tc := range map[string]struct {
		key  map[int]any
		want string // "" for a good one
	}{
		"RSA of 2048 bits":         {map[int]any{1: 3, 3: -257, -1: strong, -2: exponent}, ""},
		"RSA of 1024 bits":         {map[int]any{1: 3, 3: -257, -1: modulus(1024), -2: exponent}, "weak"},
		"RSA padded with zeros":    {map[int]any{1: 3, 3: -257, -1: append(make([]byte, 128), strong[:128]...), -2: exponent}, "weak"},
		"RSA that says ES256":      {map[int]any{1: 3, 3: -7, -1: strong, -2: exponent}, "not of its algorithm"},
		"RSA of no exponent":       {map[int]any{1: 3, 3: -257, -1: strong}, "exponent"},
		"more than anybody needs":  {map[int]any{1: 3, 3: -257, -1: make([]byte, 4096), -2: exponent}, "bytes"},
		"Ed25519 that says ES256":  {map[int]any{1: 1, 3: -7, -1: 6, -2: make([]byte, 32)}, "public key"},
		"a type that nobody knows": {map[int]any{1: 99, 3: -7}, "public key"},
	} {
		raw, err := webauthncbor.Marshal(tc.key)
		if err != nil {
			t.Fatal(err)
		}
		err = checkKey(raw)
		if (err == nil) != (tc.want == "") || err != nil && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

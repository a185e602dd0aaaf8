package otp

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func TestDeviceToken(t *testing.T) {
	id, secret := uuid.MustParse("0193a5b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b"), [32]byte(bytes.Repeat([]byte{0xfb}, 32))
	const want = "otd1.AZOlsBwtfj-KS1xtfo-aC_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7"
	token := DeviceToken(id, secret)
	if token != want {
		t.Errorf("%s, not %s", token, want)
	}
	if gotID, gotSecret, ok := ParseDeviceToken(token); !ok || gotID != id || gotSecret != secret {
		t.Errorf("%s, %x, %v", gotID, gotSecret, ok)
	}
	body := strings.TrimPrefix(token, "otd1.")
	for name, bad := range map[string]string{
		"empty":                 "",
		"no prefix":             body,
		"another version":       "otd2." + body,
		"upper-case prefix":     "OTD1." + body,
		"prefix alone":          "otd1.",
		"one too few":           token[:len(token)-1],
		"one too many":          token + "A",
		"padded":                token + "=",
		"standard alphabet":     strings.ReplaceAll(token, "_", "/"),
		"line break for a sign": token[:20] + "\n" + token[21:],
		"line break at the end": token + "\n",
		"four line breaks":      token[:20] + "\n\n\n\n" + token[24:],
		"space in front":        " " + token,
		"a megabyte":            "otd1." + strings.Repeat("A", 1<<20),
	} {
		if gotID, gotSecret, ok := ParseDeviceToken(bad); ok || gotID != uuid.Nil || gotSecret != [32]byte{} {
			t.Errorf("%s: %s, %v", name, gotID, ok)
		}
	}
}

func TestDeviceTokenRoundTrip(t *testing.T) {
	bits := rapid.SliceOfN(rapid.Byte(), 48, 48)
	rapid.Check(t, func(t *rapid.T) {
		b := bits.Draw(t, "bits")
		id, secret := uuid.UUID(b[:16]), [32]byte(b[16:])
		token := DeviceToken(id, secret)
		if gotID, gotSecret, ok := ParseDeviceToken(token); !ok || gotID != id || gotSecret != secret || len(token) != 69 {
			t.Fatalf("%s: %s, %x, %v", token, gotID, gotSecret, ok)
		}
		at := rapid.IntRange(5, 68).Draw(t, "at")
		c := rapid.SampledFrom([]byte("ABCxyz019-_")).Draw(t, "character")
		other := token[:at] + string(c) + token[at+1:]
		if gotID, gotSecret, ok := ParseDeviceToken(other); ok && (gotID == id && gotSecret == secret) != (other == token) {
			t.Fatalf("%s and %s are one token", token, other)
		}
	})
}

func TestDeviceDigest(t *testing.T) {
	// printf 'otpost/device/v1' | cat - <(head -c 32 /dev/zero) | sha256sum
	zero := DeviceDigest([32]byte{})
	if got := hex.EncodeToString(zero[:]); got != wantZeroDigest {
		t.Errorf("%s", got)
	}
	if DeviceDigest([32]byte{31: 1}) == zero {
		t.Error("two secrets have one digest")
	}
}

const wantZeroDigest = "df1eefdb01d8386e1816c662829e2f510891c7554914dd583df5bc5769cbfbc3"

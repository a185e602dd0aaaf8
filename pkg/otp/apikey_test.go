package otp

import (
	"encoding/hex"
	"strings"
	"testing"
)

func TestAPIKeys(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		key := NewAPIKey()
		if digest, ok := APIKeyDigest(key); !ok || digest == [32]byte{} || len(key) != 50 || seen[key] {
			t.Fatalf("%s: %x, %v", key, digest, ok)
		}
		seen[key] = true
	}
	const key = "otpost_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	digest, ok := APIKeyDigest(key)
	// printf otpost_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA | sha256sum
	if got := hex.EncodeToString(digest[:]); !ok || got != "a6b2405745fe452f3c20a063284e22f8133ebb68261cf39a5cb8fda1736f3e36" {
		t.Errorf("%s, %v", got, ok)
	}
	for name, bad := range map[string]string{
		"empty":                         "",
		"prefix alone":                  "otpost_",
		"no prefix":                     key[7:],
		"prefix in upper case":          "OTPOST_" + key[7:],
		"one too few":                   key[:49],
		"one too many":                  key + "A",
		"padded":                        key + "=",
		"standard alphabet":             key[:49] + "/",
		"bits that no 32 bytes have":    key[:49] + "B",
		"line break for a sign":         key[:20] + "\n" + key[21:],
		"line break at the end":         key + "\n",
		"as many line breaks as digits": "otpost_" + strings.Repeat("\n", 43),
		"space in front":                " " + key,
		"a megabyte":                    "otpost_" + strings.Repeat("A", 1<<20),
	} {
		if digest, ok := APIKeyDigest(bad); ok || digest != [32]byte{} {
			t.Errorf("%s: %x", name, digest)
		}
	}
}

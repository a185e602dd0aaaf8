package otp

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func TestChallengeID(t *testing.T) {
	moment := rapid.Map(rapid.Int64Range(0, 1<<48-2), func(ms int64) time.Time { return time.UnixMilli(ms) }) // 48 bits last until the year 10889
	rapid.Check(t, func(t *rapid.T) {
		at := moment.Draw(t, "at")
		digest := sha256.Sum256(rapid.SliceOf(rapid.Byte()).Draw(t, "login"))
		other := sha256.Sum256(rapid.SliceOf(rapid.Byte()).Draw(t, "other"))
		id := ChallengeID(at, digest)
		if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("%s has version %d and variant %s", id, id.Version(), id.Variant())
		}
		if got := IDTime(id); !got.Equal(at) || got.Location() != time.UTC {
			t.Fatalf("the time of %s is %s, not %s", id, got, at)
		}
		if again := ChallengeID(at.In(time.FixedZone("", 3600)).Add(999*time.Microsecond), digest); again != id {
			t.Fatalf("the same login has two ids: %s and %s", id, again)
		}
		if later := ChallengeID(at.Add(time.Millisecond), other); bytes.Compare(id[:], later[:]) >= 0 || id.String() >= later.String() {
			t.Fatalf("a later id is not greater: %s, %s", id, later)
		}
		if digest != other && ChallengeID(at, other) == id {
			t.Fatalf("two logins have the id %s", id)
		}
	})
}

// TestChallengeIDUsesTheDigest expects all 74 bits that RFC 9562 leaves free to come from the digest.
func TestChallengeIDUsesTheDigest(t *testing.T) {
	zero, ones := ChallengeID(time.UnixMilli(0), [32]byte{}), ChallengeID(time.UnixMilli(0), [32]byte(bytes.Repeat([]byte{0xff}, 32)))
	if zero.String() != "00000000-0000-7000-8000-000000000000" || ones.String() != "00000000-0000-7fff-bfff-ffffffffffff" {
		t.Error(zero, ones)
	}
}

func TestValidApp(t *testing.T) {
	for name, ok := range map[string]bool{
		"shop": true, "a": true, "0-9": true, "-": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "Shop": false, "a.b": false, "a b": false, "*": false, ">": false, "a\n": false, "ž": false, "a_b": false,
	} {
		if ValidApp(name) != ok {
			t.Errorf("%q: not %v", name, ok)
		}
	}
}

func TestCheckID(t *testing.T) {
	for _, good := range []string{"u-42", "a", " ", "用户", "ž", "e\u0301", "🔑", "\ufffd", "\u0378", "\U0001fae9", strings.Repeat("ž", 128), strings.Repeat("🔑", 128)} {
		if w := CheckID(good); w != "" {
			t.Errorf("%q: %s", good, w)
		}
	}
	for bad, want := range map[string]string{
		"":                          "must not be empty",
		strings.Repeat("a", 129):    "must have at most 128 characters",
		strings.Repeat("ž", 129):    "must have at most 128 characters",
		strings.Repeat("\xff", 600): "must have at most 128 characters",
		"a\x00":                     "must not have control characters",
		"a\nb":                      "must not have control characters",
		"\x7f":                      "must not have control characters",
		"\u0085":                    "must not have control characters",
		"\u200b":                    "must not have control characters", // zero-width space
		"\u202e":                    "must not have control characters", // right-to-left override
		"\u2028":                    "must not have control characters", // line separator
		"\u2029":                    "must not have control characters", // paragraph separator
		"\ue000":                    "must not have control characters", // private use
		"\U000e0041":                "must not have control characters", // tag
		"\ufeff":                    "must not have control characters", // byte order mark
		"a\xff":                     "must be valid UTF-8",
		"\xed\xa0\x80":              "must be valid UTF-8", // a surrogate
	} {
		if w := CheckID(bad); w != want {
			t.Errorf("%q: %q, not %q", bad, w, want)
		}
	}
}

func TestCheckTextCountsCharacters(t *testing.T) {
	for _, c := range []struct {
		s     string
		limit int
		ok    bool
	}{{"abc", 3, true}, {"abcd", 3, false}, {"žžž", 3, true}, {"žžžž", 3, false}, {"", 3, false}} {
		if w := CheckText(c.s, c.limit); (w == "") != c.ok {
			t.Errorf("%q within %d: %q", c.s, c.limit, w)
		}
	}
}

package otp

import (
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

const goodPassphrase = "seven quiet herons"

func TestCheckPassphraseForm(t *testing.T) {
	for _, good := range []string{
		goodPassphrase, "aaaaaaaaaaaa", "žluťoučký kůň", "日本語の合言葉は十二文字以上", strings.Repeat("a", 128), strings.Repeat("ž", 128), "  spaces   count ",
		strings.Repeat("z\u030c", 128), // 128 characters once composed
	} {
		if w := CheckPassphraseForm(good); w != "" {
			t.Errorf("%q: %s", good, w)
		}
	}
	for bad, want := range map[string]string{
		"":                            "must not be empty",
		"elevenchars":                 "must have at least 12 characters",
		strings.Repeat("z\u030c", 11): "must have at least 12 characters", // 22 as typed
		strings.Repeat("a", 129):      "must have at most 128 characters",
		strings.Repeat("a", 1<<20):    "must have at most 128 characters",
		"seven quiet\nherons":         "must not have characters that are not printable",
		"seven quiet \x00 herons":     "must not have characters that are not printable",
		"seven quiet\u200bherons":     "must not have characters that are not printable",
		"seven quiet \xff\xfe herons": "must be valid UTF-8",
		"\u202eseven quiet herons":    "must not have characters that are not printable",
	} {
		if w := CheckPassphraseForm(bad); w != want {
			t.Errorf("%.40q: %q, not %q", bad, w, want)
		}
	}
}

func TestStrayBytesAreNoPassphrase(t *testing.T) {
	if n, err := normalPassphrase("seven quiet \xff\xfe herons"); err == nil || n != "" { // else two different passphrases would be one
		t.Errorf("%q, %v", n, err)
	}
}

// TestPassphrase hashes few times: each takes some ten milliseconds, on purpose.
func TestPassphrase(t *testing.T) {
	phc, err := HashPassphrase(goodPassphrase)
	if err != nil || !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") || strings.Contains(phc, "heron") {
		t.Fatalf("%q, %v", phc, err)
	}
	if again, err := HashPassphrase(goodPassphrase); err != nil || again == phc {
		t.Errorf("the second hash has the same salt: %v", err)
	}
	for p, want := range map[string]bool{
		goodPassphrase: true, "seven\u00a0quiet\u3000herons": true, // spaces are equal
		"Seven quiet herons": false, goodPassphrase + " ": false, goodPassphrase[1:]: false, "": false, "seven quiet\nherons": false,
		strings.Repeat("a", 1<<20): false, "short": false,
	} {
		if got, err := CheckPassphrase(phc, p); err != nil || got != want {
			t.Errorf("%.40q: %v, %v", p, got, err)
		}
	}
	composed, err := HashPassphrase("caf\u00e9 caf\u00e9 caf\u00e9")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := CheckPassphrase(composed, "cafe\u0301 cafe\u0301 cafe\u0301"); !ok || err != nil {
		t.Errorf("the same passphrase typed on another keyboard: %v, %v", ok, err)
	}
	for _, bad := range []string{"", "elevenchars", strings.Repeat("a", 129), "seven quiet\nherons"} {
		if phc, err := HashPassphrase(bad); err == nil || phc != "" || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%.40q: %q, %v", bad, phc, err)
		}
	}
}

// TestPassphraseOfAnotherImplementation checks a hash that the reference implementation made (argon2(1), phc-winner-argon2):
// printf 'seven quiet herons' | argon2 'somesalt01234567' -id -t 2 -k 19456 -p 1 -l 32 -e
func TestPassphraseOfAnotherImplementation(t *testing.T) {
	const phc = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQwMTIzNDU2Nw$oPSn1RdfLFW+/tFWgPeQs56QI0XlNIYyBAugZ9Av7B8"
	if ok, err := CheckPassphrase(phc, goodPassphrase); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if ok, err := CheckPassphrase(phc, "seven quiet heron5"); ok || err != nil {
		t.Errorf("another passphrase: %v, %v", ok, err)
	}
}

// TestNoPassphraseCostsTheSame expects a user without a passphrase to be told from others neither by the answer nor by the parameters.
func TestNoPassphraseCostsTheSame(t *testing.T) {
	h, err := parsePHC(NoPassphrase)
	if err != nil || h.memory != argonMemory || h.time != argonTime || h.lanes != argonLanes || len(h.salt) != argonSalt || len(h.tag) != argonTag {
		t.Errorf("%+v, %v", h, err)
	}
	for _, p := range []string{"", goodPassphrase} {
		if ok, err := CheckPassphrase(NoPassphrase, p); ok || err != nil {
			t.Errorf("%q: %v, %v", p, ok, err)
		}
	}
}

func TestStoredHashesAreBounded(t *testing.T) {
	const tail = "$8QEPiu1uLU4uByQPUnpp8g$RnQ9SSsq29/RDjF311ZPK/AP1UUgoqmde4HNugO/DAs"
	for _, good := range []string{"$argon2id$v=19$m=8,t=1,p=1" + tail, "$argon2id$v=19$m=65536,t=10,p=4" + tail} {
		if _, err := parsePHC(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "x", NoPassphrase[1:], NoPassphrase + "$", NoPassphrase + "\n", "$argon2id$v=19$m=19456,t=2,p=1$$",
		"$argon2id$v=19$m=65537,t=2,p=1" + tail, "$argon2id$v=19$m=4194304,t=2,p=1" + tail, "$argon2id$v=19$m=99999999999,t=2,p=1" + tail,
		"$argon2id$v=19$m=19456,t=11,p=1" + tail, "$argon2id$v=19$m=19456,t=0,p=1" + tail, "$argon2id$v=19$m=19456,t=2,p=5" + tail,
		"$argon2id$v=19$m=19456,t=2,p=0" + tail, "$argon2id$v=19$m=7,t=2,p=1" + tail, "$argon2id$v=19$m=31,t=2,p=4" + tail,
		"$argon2id$v=19$m=-1,t=2,p=1" + tail, "$argon2id$v=19$m=019456,t=2,p=1" + tail, "$argon2id$v=16$m=19456,t=2,p=1" + tail,
		"$argon2i$v=19$m=19456,t=2,p=1" + tail, "$argon2d$v=19$m=19456,t=2,p=1" + tail, "$argon2id$m=19456,t=2,p=1" + tail,
		"$argon2id$v=19$t=2,m=19456,p=1" + tail, "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$" + strings.Repeat("A", 43),
		"$argon2id$v=19$m=19456,t=2,p=1$8QEPiu1uLU4uByQPUnpp8g$AAAA", "$argon2id$v=19$m=19456,t=2,p=1$8QEPiu1uLU4uByQPUnpp8g$" + strings.Repeat("A", 1<<20),
		"$argon2id$v=19$m=19456,t=2,p=1$8QEPiu1uLU4uByQPUnpp8h$RnQ9SSsq29/RDjF311ZPK/AP1UUgoqmde4HNugO/DAs", // bits left over
	} {
		if ok, err := CheckPassphrase(bad, goodPassphrase); ok || err == nil || len(bad) > 20 && strings.Contains(err.Error(), bad[len(bad)-20:]) {
			t.Errorf("%.60q: %v, %v", bad, ok, err)
		}
	}
}

// TestPassphraseFormIsStable expects what passes to be printable, within the bounds after normalisation, and to pass normalised.
func TestPassphraseFormIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.OneOf(rapid.String(), rapid.StringOfN(rapid.RuneFrom(nil, unicode.L, unicode.Mn, unicode.Zs), 0, 140, -1)).Draw(t, "passphrase")
		if CheckPassphraseForm(p) != "" {
			return
		}
		n, err := normalPassphrase(p)
		if err != nil {
			t.Fatal(err)
		}
		if w := CheckPassphraseForm(n); w != "" {
			t.Fatalf("%q is good and, normalised, %q %s", p, n, w)
		}
		if again, err := normalPassphrase(n); err != nil || again != n {
			t.Fatalf("%q becomes %q and that %q (%v)", p, n, again, err)
		}
		for _, r := range n {
			if unicode.IsControl(r) {
				t.Fatalf("%q holds U+%04X", n, r)
			}
		}
	})
}

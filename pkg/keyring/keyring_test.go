package keyring_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/keyring"
)

// initialised returns a directory with fresh keys.
func initialised(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := keyring.Init(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func load(t testing.TB, dir string, role keyring.Role) *keyring.Ring {
	t.Helper()
	ring, err := keyring.Load(dir, role)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func derive(t testing.TB, r *keyring.Ring, keyID uint32, input string) [32]byte {
	t.Helper()
	f, err := r.CodePRF(keyID)
	if err != nil {
		t.Fatal(err)
	}
	out, err := f([]byte(input))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func codeKeyID(t testing.TB, r *keyring.Ring) uint32 {
	t.Helper()
	id, err := r.CodeKeyID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestInitWritesPrivateFilesPerRole(t *testing.T) {
	dir := initialised(t)
	want := []string{
		"challenge/code.info.json", "challenge/destination-email.json", "challenge/destination-sms.json", "challenge/index.json",
		"challenge/receipt.json",
		"email/ceremony.json", "email/code.json", "email/destination-email.json", "email/receipt.json",
		"enrolment/ceremony.json", "enrolment/destination-email.json", "enrolment/destination-letter.json", "enrolment/destination-sms.json",
		"enrolment/index.json", "enrolment/secret.json",
		"gateway/page.json",
		"letter/ceremony.json", "letter/destination-letter.json",
		"operator/destination-email.json", "operator/destination-letter.json", "operator/destination-sms.json", "operator/index.json", "operator/page.json",
		"operator/secret.json",
		"sms/ceremony.json", "sms/code.json", "sms/destination-sms.json", "sms/receipt.json",
		"verification/code.json", "verification/index.json", "verification/secret.json",
	}
	var got []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o600)
		if info.IsDir() {
			mode = 0o700
		} else {
			rel, _ := filepath.Rel(dir, path)
			got = append(got, rel)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %04o, want %04o", path, info.Mode().Perm(), mode)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("files:\n got %q\nwant %q", got, want)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".otpost-keys-*")); len(left) > 0 {
		t.Errorf("temporary directories left behind: %q", left)
	}

	code, err := os.ReadFile(filepath.Join(dir, "challenge/code.info.json"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(code), "value") || strings.Contains(string(code), "keyData") {
		t.Errorf("the challenge role's info holds key material: %s", code)
	}
}

func TestInitNeverOverwrites(t *testing.T) {
	dir := initialised(t)
	before, err := os.ReadFile(filepath.Join(dir, "sms/code.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := keyring.Init(dir); !errors.Is(err, keyring.ErrExists) {
		t.Fatalf("second Init: %v, want ErrExists", err)
	}
	after, _ := os.ReadFile(filepath.Join(dir, "sms/code.json"))
	if !bytes.Equal(before, after) {
		t.Error("second Init changed the keys")
	}

	empty := t.TempDir() // an empty directory is not keys
	if err := keyring.Init(empty); err != nil {
		t.Errorf("Init into an empty directory: %v", err)
	}
	load(t, empty, keyring.SMS)
}

// TestRoles states who can do what: the table of grants, seen from outside.
func TestRoles(t *testing.T) {
	dir := initialised(t)
	tests := []struct {
		role                                                           keyring.Role
		keyID, code, ceremony, sms, email, letter, secret, index, page bool
	}{
		{role: keyring.SMS, keyID: true, code: true, ceremony: true, sms: true},
		{role: keyring.Email, keyID: true, code: true, ceremony: true, email: true},
		{role: keyring.Letter, ceremony: true, letter: true},
		{role: keyring.Verification, keyID: true, code: true, secret: true, index: true},
		{role: keyring.Enrolment, ceremony: true, secret: true, index: true, sms: true, email: true, letter: true},
		{role: keyring.Gateway, page: true},
		{role: keyring.Operator, secret: true, index: true, sms: true, email: true, letter: true, page: true},
		{role: keyring.Challenge, keyID: true, index: true, sms: true, email: true},
	}
	if len(tests) != len(keyring.Roles()) {
		t.Errorf("%d roles tested, there are %v", len(tests), keyring.Roles())
	}
	primary := codeKeyID(t, load(t, dir, keyring.Challenge))
	ceremony, err := load(t, dir, keyring.Enrolment).CeremonyKeyID()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(string(tt.role), func(t *testing.T) {
			r := load(t, dir, tt.role)
			check := func(what string, may bool, err error) {
				t.Helper()
				if may && err != nil {
					t.Errorf("%s: %v", what, err)
				}
				if !may && !errors.Is(err, keyring.ErrNotHeld) {
					t.Errorf("%s: %v, want ErrNotHeld", what, err)
				}
			}
			id, err := r.CodeKeyID()
			check("CodeKeyID", tt.keyID, err)
			if tt.keyID && id != primary {
				t.Errorf("CodeKeyID = %d, the challenge role has %d", id, primary)
			}
			_, err = r.CodePRF(primary)
			check("CodePRF", tt.code, err)
			id, err = r.CeremonyKeyID()
			check("CeremonyKeyID", tt.ceremony, err)
			if tt.ceremony && id != ceremony {
				t.Errorf("CeremonyKeyID = %d, the enrolment role has %d", id, ceremony)
			}
			_, err = r.CeremonyPRF(ceremony)
			check("CeremonyPRF", tt.ceremony, err)
			_, err = r.SealDestination("letter", "a", "u", "p", "1 Main St")
			check("seal letter", tt.letter, err)
			_, err = r.SealDestination("sms", "a", "u", "p", "+14155550100")
			check("seal sms", tt.sms, err)
			_, err = r.SealDestination("email", "a", "u", "p", "user@example.com")
			check("seal email", tt.email, err)
			_, err = r.OpenDestination("email", "a", "u", "p", nil)
			check("open email", tt.email, ignoreOpen(err))
			_, err = r.SealSecret("a", "u", "f", []byte("s"))
			check("seal secret", tt.secret, err)
			_, err = r.Index("label")
			check("index", tt.index, err)
			_, err = r.Digests("label")
			check("digests", tt.index, err)
			sealed, err := r.Seal(keyring.Page, []byte("state"), []byte("visit"))
			check("seal page", tt.page, err)
			_, err = r.Open(keyring.Page, sealed, []byte("visit"))
			check("open page", tt.page, err)
			_, err = r.SealDestination("pigeon", "a", "u", "p", "coop 7")
			check("seal for an unknown channel", false, err)
		})
	}
	if _, err := keyring.Load(dir, "passer-by"); err == nil {
		t.Error("a role that holds no keys loaded some")
	}
}

// ignoreOpen passes over the error of opening garbage: it shows that the keyset is held.
func ignoreOpen(err error) error {
	if errors.Is(err, keyring.ErrOpen) {
		return nil
	}
	return err
}

func TestSealedValuesAreBound(t *testing.T) {
	dir := initialised(t)
	challenge, sms, operator, verification := load(t, dir, keyring.Challenge), load(t, dir, keyring.SMS), load(t, dir, keyring.Operator), load(t, dir, keyring.Verification)

	const addr = "+14155550100"
	sealed, err := challenge.SealDestination("sms", "shop", "u-42", "delivery", addr)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte(addr)) {
		t.Fatal("the sealed value shows the address")
	}
	got, err := sms.OpenDestination("sms", "shop", "u-42", "delivery", sealed)
	if err != nil || got != addr {
		t.Fatalf("OpenDestination = %q, %v", got, err)
	}
	for name, open := range map[string]func() (string, error){
		"other app":     func() (string, error) { return sms.OpenDestination("sms", "bank", "u-42", "delivery", sealed) },
		"other user":    func() (string, error) { return sms.OpenDestination("sms", "shop", "u-43", "delivery", sealed) },
		"other purpose": func() (string, error) { return sms.OpenDestination("sms", "shop", "u-42", "factor", sealed) },
		"moved border":  func() (string, error) { return sms.OpenDestination("sms", "shopu", "-42", "delivery", sealed) },
		"other channel": func() (string, error) {
			return challenge.OpenDestination("email", "shop", "u-42", "delivery", sealed)
		},
		"altered": func() (string, error) {
			bad := bytes.Clone(sealed)
			bad[len(bad)-1] ^= 1
			return sms.OpenDestination("sms", "shop", "u-42", "delivery", bad)
		},
		"empty": func() (string, error) { return sms.OpenDestination("sms", "shop", "u-42", "delivery", nil) },
	} {
		if got, err := open(); !errors.Is(err, keyring.ErrOpen) || got != "" {
			t.Errorf("%s: %q, %v, want ErrOpen", name, got, err)
		}
	}

	secret := []byte("12345678901234567890")
	sealedSecret, err := operator.SealSecret("shop", "u-42", "f-1", secret)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := verification.OpenSecret("shop", "u-42", "f-1", sealedSecret)
	if err != nil || !bytes.Equal(opened, secret) {
		t.Errorf("OpenSecret = %q, %v", opened, err)
	}
	if _, err := verification.OpenSecret("shop", "u-42", "f-2", sealedSecret); !errors.Is(err, keyring.ErrOpen) {
		t.Errorf("the secret of another factor: %v, want ErrOpen", err)
	}
}

func TestIndexSeparatesLabelsAndFields(t *testing.T) {
	dir := initialised(t)
	r := load(t, dir, keyring.Challenge)
	digest := func(label string, fields ...string) [32]byte {
		t.Helper()
		var raw [][]byte
		for _, f := range fields {
			raw = append(raw, []byte(f))
		}
		sum, err := r.Index(label, raw...)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	seen := map[[32]byte]string{}
	for _, in := range [][]string{
		{"address", "ab", "c"},
		{"address", "a", "bc"},
		{"address", "abc"},
		{"address", "abc", ""},
		{"address", "", "abc"},
		{"addressa", "bc"},
		{"event", "ab", "c"},
		{"address"},
		{""},
	} {
		sum := digest(in[0], in[1:]...)
		if other, ok := seen[sum]; ok {
			t.Errorf("%q has the digest of %s", in, other)
		}
		seen[sum] = fmt.Sprintf("%q", in)
	}
	again, err := load(t, dir, keyring.Operator).Index("address", []byte("ab"), []byte("c"))
	if err != nil || again != digest("address", "ab", "c") {
		t.Errorf("another role's digest of the same differs (%v)", err)
	}
	other, err := load(t, initialised(t), keyring.Challenge).Index("address", []byte("ab"), []byte("c"))
	if err != nil || other == again {
		t.Errorf("the digest does not depend on the key (%v)", err)
	}
}

// The code of a ceremony and the code of a login have nothing in common, whatever they are derived for.
func TestCeremoniesHaveKeysOfTheirOwn(t *testing.T) {
	dir := initialised(t)
	email := load(t, dir, keyring.Email)
	id, err := email.CeremonyKeyID()
	if err != nil {
		t.Fatal(err)
	}
	ofCeremony := func(r *keyring.Ring, id uint32) [32]byte {
		t.Helper()
		f, err := r.CeremonyPRF(id)
		if err != nil {
			t.Fatal(err)
		}
		out, err := f([]byte("the same"))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if ofCeremony(email, id) != ofCeremony(load(t, dir, keyring.Enrolment), id) || ofCeremony(email, id) != ofCeremony(load(t, dir, keyring.Letter), id) {
		t.Error("who sends a ceremony's code and who compares it derive different ones")
	}
	if ofCeremony(email, id) == derive(t, email, codeKeyID(t, email), "the same") {
		t.Error("a ceremony's code is derived like a login's")
	}
	if _, err := email.CodePRF(id); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("a ceremony's key is taken for a code key: %v", err)
	}
	if _, err := email.CeremonyPRF(id + 1); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("a key that there is not: %v", err)
	}
}

func TestRingDoesNotPrintKeys(t *testing.T) {
	r := load(t, initialised(t), keyring.SMS)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, r); got != "keyring of role sms" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}

func TestLoadRefusesBadFiles(t *testing.T) {
	text := func(content string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	edit := func(old, new string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(b), old) {
				t.Fatalf("%s has no %s", path, old)
			}
			text(strings.Replace(string(b), old, new, 1))(t, path)
		}
	}
	tests := []struct {
		name, file string
		damage     func(t *testing.T, path string)
		want       string
	}{
		{"missing", "code.json", func(t *testing.T, p string) { os.Remove(p) }, "missing"},
		{"empty", "code.json", text(""), "malformed"},
		{"no JSON", "code.json", text("c2VjcmV0IGtleQ=="), "malformed"},
		{"cut short", "code.json", func(t *testing.T, p string) { os.Truncate(p, 100) }, "malformed"},
		{"material damaged", "code.json", edit(`"value":"`, `"value":"!c2VjcmV0`), "malformed"},
		{"key id altered", "code.json", edit(`"keyId":`, `"keyId":1`), "malformed"},
		{"key disabled", "code.json", edit(`"ENABLED"`, `"DISABLED"`), "malformed"},
		{"key type swapped", "code.json", edit("HmacPrfKey", "AesGcmKey"), ""},
		{"keyset of another kind", "code.json", func(t *testing.T, p string) {
			b, err := os.ReadFile(filepath.Join(filepath.Dir(p), "destination-sms.json"))
			if err != nil {
				t.Fatal(err)
			}
			text(string(b))(t, p)
		}, "kind"},
		{"open to the group", "code.json", func(t *testing.T, p string) { os.Chmod(p, 0o640) }, "chmod 600"},
		{"open to all", "destination-sms.json", func(t *testing.T, p string) { os.Chmod(p, 0o604) }, "chmod 600"},
		{"foreign keyset", "secret.json", text("{}"), "must not hold"},
		{"copy of a keyset", "code.json.bak", text("{}"), "must not hold"},
		{"unknown keyset", "session.json", text("{}"), "must not hold"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := initialised(t)
			path := filepath.Join(dir, "sms", tt.file)
			tt.damage(t, path)
			_, err := keyring.Load(dir, keyring.SMS)
			if err == nil {
				t.Fatal("loaded")
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q; want one line with %s and %q", err, path, tt.want)
			}
			if strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("the error quotes the file: %v", err)
			}
			if _, err := keyring.Load(dir, keyring.Verification); err != nil {
				t.Errorf("another role is affected: %v", err)
			}
		})
	}

	dir := initialised(t)
	text("hidden")(t, filepath.Join(dir, "sms", "..data"))
	text("hello")(t, filepath.Join(dir, "sms", "README"))
	load(t, dir, keyring.SMS)
	if _, err := keyring.Load(t.TempDir(), keyring.SMS); err == nil || !strings.Contains(err.Error(), "otpost keys init") {
		t.Errorf("no keys at all: %v", err)
	}
}

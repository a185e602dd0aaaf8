package keyring_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/keyring"
)

// addedSince is what the first version did not make.
var addedSince = []string{
	"email/ceremony.json", "enrolment/ceremony.json", "enrolment/destination-email.json", "enrolment/destination-letter.json",
	"enrolment/destination-sms.json", "enrolment/index.json", "enrolment/secret.json", "gateway/page.json", "letter/ceremony.json", "letter/destination-letter.json",
	"operator/destination-letter.json", "operator/page.json", "sms/ceremony.json", "verification/index.json",
}

// ofFirstVersion returns a directory of keys as the first version made it.
func ofFirstVersion(t *testing.T) string {
	t.Helper()
	dir := initialised(t)
	for _, name := range addedSince {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range []string{"enrolment", "gateway", "letter"} {
		if err := os.Remove(filepath.Join(dir, role)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contents reads every file below dir.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// complete completes a directory and returns the files that this made.
func complete(t *testing.T, dir string) (made []string) {
	t.Helper()
	before := map[string]string{}
	if _, err := os.Stat(dir); err == nil {
		before = contents(t, dir)
	}
	told, err := keyring.Complete(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name := range contents(t, dir) {
		if _, there := before[name]; !there {
			made = append(made, name)
		}
	}
	slices.Sort(made)
	slices.Sort(told)
	if !slices.Equal(told, made) {
		t.Errorf("it says that it made %q, and made %q", told, made)
	}
	return made
}

func loadAll(t *testing.T, dir string) {
	t.Helper()
	for _, role := range keyring.Roles() {
		load(t, dir, role)
	}
	list, err := keyring.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if len(s.Behind) > 0 {
			t.Errorf("keyset %s: the copies of %v differ", s.Keyset, s.Behind)
		}
	}
}

// The second version knew no gateway. What it makes for that leaves every other file as it was.
func TestCompleteAddsTheGatewaysKeys(t *testing.T) {
	dir := initialised(t)
	for _, name := range []string{"gateway", "operator/page.json"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	before := contents(t, dir)
	for _, role := range []keyring.Role{keyring.Gateway, keyring.Operator} {
		if _, err := keyring.Load(dir, role); err == nil || !strings.Contains(err.Error(), "keys init --missing") {
			t.Errorf("%s: the error does not say what to do: %v", role, err)
		}
	}
	if made := complete(t, dir); !slices.Equal(made, []string{"gateway/page.json", "operator/page.json"}) {
		t.Errorf("made %q", made)
	}
	after := contents(t, dir)
	for name, text := range before {
		if after[name] != text {
			t.Errorf("%s was touched", name)
		}
	}
	loadAll(t, dir)
	sealed, err := load(t, dir, keyring.Operator).Seal(keyring.Page, []byte("secret of a webhook"), []byte("its id"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := load(t, dir, keyring.Gateway).Open(keyring.Page, sealed, []byte("its id")); err != nil || string(got) != "secret of a webhook" {
		t.Errorf("the gateway opens %q of what the operator has sealed, %v", got, err)
	}
}

func TestCompleteBringsTheFirstVersionsKeysUpToDate(t *testing.T) {
	dir := ofFirstVersion(t)
	before := contents(t, dir)
	sum, err := load(t, dir, keyring.Challenge).Index("event", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Load(dir, keyring.SMS); err == nil || !strings.Contains(err.Error(), "keys init --missing") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	if _, err := keyring.Load(dir, keyring.Letter); err == nil || !strings.Contains(err.Error(), "keys init --missing") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	if made := complete(t, dir); !slices.Equal(made, addedSince) {
		t.Errorf("made %q, want %q", made, addedSince)
	}
	after := contents(t, dir)
	for name, text := range before {
		if after[name] != text {
			t.Errorf("%s was touched", name)
		}
	}
	loadAll(t, dir)
	if got, err := load(t, dir, keyring.Verification).Index("event", []byte("x")); err != nil || got != sum {
		t.Errorf("the verification role has another index key (%v)", err)
	}
	for _, name := range append(addedSince, "enrolment", "gateway", "letter") {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others, %v", name, err)
		}
	}
	if made := complete(t, dir); len(made) != 0 || !maps.Equal(contents(t, dir), after) {
		t.Errorf("a second time it made %q", made)
	}
}

// Whatever had been written when it was cut short, the next run makes the rest, of the same keys.
func TestCompleteCutShortIsMendedByRunningAgain(t *testing.T) {
	dir := ofFirstVersion(t)
	complete(t, dir)
	whole := contents(t, dir)
	for cut := range addedSince {
		for _, name := range addedSince[cut:] {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		complete(t, dir)
		loadAll(t, dir)
		now := contents(t, dir)
		for _, name := range addedSince[:cut] {
			if now[name] != whole[name] {
				t.Errorf("cut after %d files: %s was touched", cut, name)
			}
		}
		whole = now
	}
}

// A rotation that was cut short has left copies of different fullness; a new holder gets the fullest.
func TestCompleteCopiesTheFullestKeyset(t *testing.T) {
	dir := ofFirstVersion(t)
	path := filepath.Join(dir, "challenge", "index.json")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	complete(t, dir)
	added, err := keyring.Add(dir, keyring.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"verification/index.json", "enrolment/index.json"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	complete(t, dir)
	if promoted, err := keyring.Promote(dir, keyring.Index); err != nil || promoted != added {
		t.Errorf("Promote = %d, %v; want %d", promoted, err, added)
	}
	loadAll(t, dir)
}

func TestCompleteRefuses(t *testing.T) {
	remove := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, name := range names {
				if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, c := range []struct {
		name, want string
		damage     func(*testing.T, string)
	}{
		{"where only some roles are", "no folder of role sms", remove("sms", "email")},
		{"to replace a lost keyset", "keyset secret", remove("operator/secret.json", "verification/secret.json")},
		{"to replace lost code keys whose ids are known", "keyset code", remove("sms/code.json", "email/code.json", "verification/code.json")},
		{"to choose between keysets", "not of one keyset", func(t *testing.T, dir string) {
			foreign, err := os.ReadFile(filepath.Join(initialised(t), "operator/index.json"))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "operator/index.json"), foreign, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"a damaged copy", "malformed", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "challenge/index.json"), 20); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := ofFirstVersion(t)
			c.damage(t, dir)
			before := contents(t, dir)
			if made, err := keyring.Complete(dir); len(made) > 0 || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want an error with %q", err, c.want)
			}
			if !maps.Equal(contents(t, dir), before) {
				t.Error("it made files all the same")
			}
		})
	}
}

// Whoever names the wrong folder would get new keys that open nothing of what is there.
func TestCompleteOfNothingMakesNothing(t *testing.T) {
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "keys")} {
		if made, err := keyring.Complete(dir); !errors.Is(err, keyring.ErrNoKeys) || len(made) > 0 {
			t.Errorf("it made %q (%v)", made, err)
		}
	}
	if left := contents(t, empty); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

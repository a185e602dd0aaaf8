package keyring_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/keyring"
)

func status(t *testing.T, dir string, k keyring.Keyset) keyring.Status {
	t.Helper()
	list, err := keyring.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Keyset == k {
			return s
		}
	}
	t.Fatalf("List has no keyset %s: %+v", k, list)
	return keyring.Status{}
}

func TestCodeRotation(t *testing.T) {
	dir := initialised(t)
	first := codeKeyID(t, load(t, dir, keyring.Challenge))
	sentBefore := derive(t, load(t, dir, keyring.SMS), first, "challenge 1")

	second, err := keyring.Add(dir, keyring.Code)
	if err != nil {
		t.Fatal(err)
	}
	if got := codeKeyID(t, load(t, dir, keyring.Challenge)); got != first {
		t.Errorf("an added key is in use before it is promoted: %d", got)
	}
	// Every worker that holds the keyset knows the new key before any challenge names it.
	for _, role := range []keyring.Role{keyring.SMS, keyring.Email, keyring.Verification} {
		if derive(t, load(t, dir, role), second, "challenge 2") == derive(t, load(t, dir, role), first, "challenge 2") {
			t.Errorf("%s: both keys derive the same", role)
		}
	}

	promoted, err := keyring.Promote(dir, keyring.Code)
	if err != nil || promoted != second {
		t.Fatalf("Promote = %d, %v; want %d", promoted, err, second)
	}
	for _, role := range []keyring.Role{keyring.Challenge, keyring.SMS} {
		if got := codeKeyID(t, load(t, dir, role)); got != second {
			t.Errorf("%s uses key %d after Promote, want %d", role, got, second)
		}
	}
	if derive(t, load(t, dir, keyring.Verification), first, "challenge 1") != sentBefore {
		t.Error("a code sent before the rotation is no longer derived")
	}
	if _, err := keyring.Promote(dir, keyring.Code); !errors.Is(err, keyring.ErrNoNewKey) {
		t.Errorf("Promote with no new key: %v, want ErrNoNewKey", err)
	}

	want := []keyring.Key{{ID: first, Enabled: true}, {ID: second, Primary: true, Enabled: true}}
	if s := status(t, dir, keyring.Code); len(s.Keys) != 2 || s.Keys[0] != want[0] || s.Keys[1] != want[1] || len(s.Behind) != 0 {
		t.Errorf("List: %+v, want keys %+v", s, want)
	}

	if err := keyring.Remove(dir, keyring.Code, second); !errors.Is(err, keyring.ErrInUse) {
		t.Errorf("Remove of the key in use: %v, want ErrInUse", err)
	}
	if err := keyring.Remove(dir, keyring.Code, first); err != nil {
		t.Fatal(err)
	}
	if err := keyring.Remove(dir, keyring.Code, first); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("Remove again: %v, want ErrUnknownKey", err)
	}
	if _, err := load(t, dir, keyring.SMS).CodePRF(first); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("CodePRF of a removed key: %v, want ErrUnknownKey", err)
	}
}

func TestSealedValuesSurviveRotation(t *testing.T) {
	dir := initialised(t)
	old, err := load(t, dir, keyring.Challenge).SealDestination("email", "shop", "u", "factor", "user@example.com")
	if err != nil {
		t.Fatal(err)
	}
	before := load(t, dir, keyring.Email) // a worker not yet restarted
	if _, err := keyring.Add(dir, keyring.DestinationEmail); err != nil {
		t.Fatal(err)
	}
	between := load(t, dir, keyring.Email)
	if _, err := keyring.Promote(dir, keyring.DestinationEmail); err != nil {
		t.Fatal(err)
	}
	after := load(t, dir, keyring.Email)
	if got, err := after.OpenDestination("email", "shop", "u", "factor", old); err != nil || got != "user@example.com" {
		t.Errorf("sealed before the rotation: %q, %v", got, err)
	}
	fresh, err := load(t, dir, keyring.Challenge).SealDestination("email", "shop", "u", "factor", "user@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := between.OpenDestination("email", "shop", "u", "factor", fresh); err != nil || got != "user@example.com" {
		t.Errorf("a worker restarted after Add does not open what the new key sealed: %q, %v", got, err)
	}
	if _, err := before.OpenDestination("email", "shop", "u", "factor", fresh); !errors.Is(err, keyring.ErrOpen) {
		t.Errorf("a worker that never saw the new key: %v, want ErrOpen", err)
	}
	if s := status(t, dir, keyring.DestinationSMS); len(s.Keys) != 1 {
		t.Errorf("another keyset was rotated: %+v", s)
	}
}

// What was digested before a rotation must be found after it, by workers that were restarted at any step.
func TestDigestsSurviveRotation(t *testing.T) {
	dir := initialised(t)
	field := []byte("a backup code")
	index := func() [32]byte {
		t.Helper()
		sum, err := load(t, dir, keyring.Enrolment).Index("backup", field)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	digests := func(r *keyring.Ring) [][32]byte {
		t.Helper()
		all, err := r.Digests("backup", field)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	first := index()
	if got := digests(load(t, dir, keyring.Verification)); len(got) != 1 || got[0] != first {
		t.Fatalf("with one key there are %d digests, or it is another than Index has", len(got))
	}
	oldest := status(t, dir, keyring.Index).Keys[0].ID
	sums := [][32]byte{first} // oldest first
	for range 2 {
		if _, err := keyring.Add(dir, keyring.Index); err != nil {
			t.Fatal(err)
		}
		between := digests(load(t, dir, keyring.Verification))
		if _, err := keyring.Promote(dir, keyring.Index); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, index())
		if len(between) != len(sums) || between[0] != sums[len(sums)-2] || !slices.Contains(between, sums[len(sums)-1]) {
			t.Errorf("between Add and Promote the primary key's digest does not lead, or the new key's is missing")
		}
	}
	got := digests(load(t, dir, keyring.Verification))
	slices.Reverse(sums)
	if !slices.Equal(got, sums) {
		t.Error("the digests are not the primary key's and then the others', newest first")
	}
	if err := keyring.Remove(dir, keyring.Index, oldest); err != nil {
		t.Fatal(err)
	}
	if got := digests(load(t, dir, keyring.Verification)); slices.Contains(got, first) || len(got) != 2 {
		t.Error("a removed key still digests")
	}
}

// An interrupted change leaves the copies written last as they were. Running it again must mend them.
func TestInterruptedPromoteIsMendedByRunningAgain(t *testing.T) {
	dir := initialised(t)
	second, err := keyring.Add(dir, keyring.Code)
	if err != nil {
		t.Fatal(err)
	}
	late := map[string][]byte{}
	for _, name := range []string{"verification/code.json", "challenge/code.info.json"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		late[name] = b
	}
	if _, err := keyring.Promote(dir, keyring.Code); err != nil {
		t.Fatal(err)
	}
	for name, b := range late {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s := status(t, dir, keyring.Code); len(s.Behind) != 2 {
		t.Errorf("Behind = %v, want verification and challenge", s.Behind)
	}
	if got, err := keyring.Promote(dir, keyring.Code); err != nil || got != second {
		t.Fatalf("Promote again = %d, %v", got, err)
	}
	if s := status(t, dir, keyring.Code); len(s.Behind) != 0 {
		t.Errorf("still behind: %v", s.Behind)
	}
	if got := codeKeyID(t, load(t, dir, keyring.Challenge)); got != second {
		t.Errorf("the challenge role uses key %d, want %d", got, second)
	}
}

func TestRotationRefusesForeignCopies(t *testing.T) {
	dir, other := initialised(t), initialised(t)
	foreign, err := os.ReadFile(filepath.Join(other, "email/code.json"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "email/code.json")
	if err := os.WriteFile(path, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"Add": second(keyring.Add(dir, keyring.Code)), "List": second(keyring.List(dir))} {
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error naming %s", name, err, path)
		}
	}
	if now, _ := os.ReadFile(path); string(now) != string(foreign) {
		t.Error("the foreign copy was overwritten: its key is lost")
	}
	if _, err := keyring.Add(dir, "nonsense"); err == nil {
		t.Error("Add to a keyset that does not exist succeeded")
	}
}

func second[T any](_ T, err error) error { return err }

func TestRotationKeepsModes(t *testing.T) {
	dir := initialised(t)
	if _, err := keyring.Add(dir, keyring.Secret); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "verification"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %04o, %v", e.Name(), info.Mode().Perm(), err)
		}
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("temporary file left behind: %s", e.Name())
		}
	}
}

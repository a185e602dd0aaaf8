package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otposttest"
)

// A worker that does not have a new key yet neither loses a code nor costs a user an attempt.
func TestWorkersWithoutTheNewKeyWait(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	rotated := filepath.Join(t.TempDir(), "keys")
	if err := os.CopyFS(rotated, os.DirFS(s.keys)); err != nil {
		t.Fatal(err)
	}
	private(t, rotated)
	if _, err := keyring.Add(rotated, keyring.Code); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Promote(rotated, keyring.Code); err != nil {
		t.Fatal(err)
	}
	s.start(bus.RoleChallenge, "", "--keys", rotated)
	behind := []*process{s.start(bus.RoleSMS, ""), s.start(bus.RoleVerification, "")}
	s.publish("login", "alice", bySMS(1))
	c := s.issued("alice")
	for range 2 * s.app.Policy.Attempts {
		if got := answerOnce(s, c.Challenge, "alice", "123456"); got != "unavailable" {
			t.Fatalf("a worker without the key answers %s", got)
		}
	}
	if n := otposttest.Get[int](t, s.db, `SELECT attempts FROM challenges`); n != 0 {
		t.Errorf("%d attempts were taken by a worker without the key", n)
	}
	for _, p := range behind {
		p.kill()
	}
	s.start(bus.RoleSMS, "", "--keys", rotated)
	s.start(bus.RoleVerification, "", "--keys", rotated)
	if r := s.verify(c.Challenge, "alice", s.code(phone(1))); r.Result != "verified" {
		t.Errorf("with the key it is %s", r.Result)
	}
	s.heard.Wait(t, event.ChallengeVerified, nil)
}

// private gives copied keys the modes that they must have.
func private(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

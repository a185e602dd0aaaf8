package otposttest

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/otpost/otpost/pkg/keyring"
)

var keys struct {
	once sync.Once
	dir  string
	err  error
}

// Keys returns a directory with a first key of every keyset. All tests of a binary share it: a test that rotates keys makes its own.
func Keys(t testing.TB) string {
	t.Helper()
	dir := binaryDir(t)
	keys.once.Do(func() {
		keys.dir = filepath.Join(dir, "keys")
		keys.err = keyring.Init(keys.dir)
	})
	if keys.err != nil {
		t.Fatal(keys.err)
	}
	return keys.dir
}

// Ring returns the keys of one role out of Keys.
func Ring(t testing.TB, role keyring.Role) *keyring.Ring {
	t.Helper()
	r, err := keyring.Load(Keys(t), role)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

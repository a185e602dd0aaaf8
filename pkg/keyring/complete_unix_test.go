//go:build unix

package keyring_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What root adds to a worker's folder, the worker must be able to read.
func TestCompleteLeavesFilesToTheOwnerOfTheirFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const worker = 65532
	dir := ofFirstVersion(t)
	if err := os.Chown(filepath.Join(dir, "sms"), worker, worker); err != nil {
		t.Fatal(err)
	}
	complete(t, dir)
	for name, owner := range map[string]uint32{"sms/ceremony.json": worker, "email/ceremony.json": 0} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != owner {
			t.Errorf("%s belongs to %d, want %d", name, got, owner)
		}
	}
}

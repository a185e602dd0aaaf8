// Package otposttest is the bench that tests of otpost stand on: a real Postgres with a database for each test, a real NATS, an inbox, keys, a
// clock, and the log of everything. Only tests import it.
//
// What it promises: nothing outlives the test that asked for it, and what one test binary shares (its Postgres, its keys) does not outlive
// the binary, however that ends. Several binaries may run at once. Nothing here sleeps to let something happen: what comes is waited for, by a
// signal or, where there is none, by [Eventually].
package otposttest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// Patience bounds every wait for something that must come.
const Patience = 10 * time.Second

// Eventually returns when ok does, and fails the test where it has not within Patience. It is for what gives no signal; what names that in the failure.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain for %s", Patience, what)
		}
		time.Sleep(pause)
	}
}

// reap outlives this process by an instant: it waits for the end of its input, which comes with the end of the process, for the database to
// have shut down, and removes the directory. Neither a panic nor a signal to the test binary comes in between.
const reap = `trap '' INT TERM HUP
cat >/dev/null
i=0
while [ $i -lt 100 ] && [ -n "$(find "$1" -name postmaster.pid 2>/dev/null)" ]; do sleep 0.1; i=$((i+1)); done
rm -rf "$1"`

var life struct {
	once sync.Once
	dir  string
	held io.WriteCloser // the reaper's input, open for as long as this process lives
	err  error
}

// binaryDir is a directory of this test binary, which is removed when the process has ended.
func binaryDir(t testing.TB) string {
	t.Helper()
	life.once.Do(func() {
		if life.dir, life.err = os.MkdirTemp("", "otpost-test-"); life.err != nil {
			return
		}
		if life.err = os.Chmod(life.dir, 0o711); life.err != nil { // run by root, Postgres is another user who must pass through
			return
		}
		reaper := exec.Command("sh", "-c", reap, "sh", life.dir)
		if life.held, life.err = reaper.StdinPipe(); life.err == nil {
			life.err = reaper.Start()
		}
	})
	if life.err != nil {
		t.Fatal(fmt.Errorf("make a directory for this test binary: %w", life.err))
	}
	return life.dir
}

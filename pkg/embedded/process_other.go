//go:build !linux

package embedded

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// setDeathSignal does nothing: only Linux tells a child of its parent's death. A postmaster left so is stopped by the next start.
func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

// commandLine returns the arguments of a live process, or nothing when there is none. ps joins arguments with spaces, so the second
// element is all of them.
func commandLine(pid int) []string {
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return nil
	}
	program, args, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	return []string{program, args}
}

package embedded

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// setDeathSignal has the kernel send sig to the child when the thread that started it ends.
func setDeathSignal(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// commandLine returns the arguments of a live process, or nothing when there is none. It reads /proc/<pid>/cmdline, which needs no
// privilege: /proc/<pid>/cwd of another user's process is closed to root in a container without CAP_SYS_PTRACE.
func commandLine(pid int) []string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
}

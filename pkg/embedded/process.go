package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// An account is the operating system's user that Postgres runs as. A nil account is the user of this process.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount returns the account for a new cluster: nil for an ordinary user; for root, under whom Postgres refuses to run, the user
// postgres or else nobody.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("Postgres does not run as root, and there is no user postgres or nobody to run it as")
}

// own gives path to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// command prepares a program of the server: run as the account, in dir, outside of the terminal's process group so that Ctrl-C reaches
// only otpost, and told deathSignal should otpost die first (Linux). It sees none of otpost's environment, which may hold secrets, and none
// of the variables (PGDATA, PGPORT, LC_ALL, …) that would change what it does.
func (a *account) command(ctx context.Context, dir string, deathSignal syscall.Signal, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	if path := os.Getenv("LD_LIBRARY_PATH"); path != "" {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+path)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	setDeathSignal(cmd.SysProcAttr, deathSignal)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// runTool runs a short program to its end. The error carries the last lines that it wrote.
func (a *account) runTool(ctx context.Context, dir, program string, args ...string) error {
	var output strings.Builder
	cmd := a.command(ctx, dir, syscall.SIGTERM, program, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	child, err := startChild(cmd)
	if err != nil {
		return err
	}
	<-child.done
	if child.err != nil {
		return fmt.Errorf("%w%s", child.err, quoteTail(output.String()))
	}
	return nil
}

// A child is a process started by this one.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and err is set
	err  error
}

// startChild starts cmd and waits for its end in the background. Both happen on one operating system thread that lives as long as the
// child: the kernel sends the parent-death signal when the thread that started the child ends (prctl(2), PR_SET_PDEATHSIG), and Go ends
// threads as it likes.
func startChild(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		c.err = cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// tailLines is how many of the last lines of a log an error quotes.
const tailLines = 12

// quoteTail returns the last lines of text for the end of an error message, or nothing when there are none.
func quoteTail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	return ":\n" + strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrInUse means that a live process holds the lock of a directory. The error that wraps it names the directory and, where it is known,
// the process id of the holder.
var ErrInUse = errors.New("directory in use")

// lockFile is the name of the lock file inside a locked directory. It is never removed: a process that had opened the removed file could
// lock it while another locks its successor.
const lockFile = "lock"

// A DirLock is the exclusive hold of one process on a directory. The kernel drops it when the process ends, however it ends.
type DirLock struct {
	file *os.File
}

// LockDir takes the exclusive lock of dir, which must exist, without waiting. It locks the file "lock" in dir with flock(2) and writes
// the process id into it for people and for the error of the next one to try. Two locks of one directory exclude each other inside one
// process too. The error wraps ErrInUse when another holds the lock.
func LockDir(dir string) (*DirLock, error) {
	path := filepath.Join(dir, lockFile)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer file.Close()
		return nil, fmt.Errorf("%w: %s is held by %s", ErrInUse, dir, lockHolder(file))
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := writePID(file); err != nil {
		file.Close()
		return nil, fmt.Errorf("write lock file: %w", err)
	}
	return &DirLock{file: file}, nil
}

// Unlock gives the directory free. A second call does nothing.
func (l *DirLock) Unlock() error {
	if l == nil || l.file == nil {
		return nil
	}
	file := l.file
	l.file = nil
	// An explicit unlock also ends the hold of a descriptor that a child, caught between fork and exec, still shares.
	err := errors.Join(file.Truncate(0), syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close())
	if err != nil {
		return fmt.Errorf("unlock directory: %w", err)
	}
	return nil
}

func writePID(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// lockHolder names the holder for an error. The file is empty for the instant between the holder's flock and its write.
func lockHolder(file *os.File) string {
	text, err := io.ReadAll(io.LimitReader(file, 32))
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || convErr != nil {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}

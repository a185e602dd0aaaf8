package letter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/otpost/otpost/pkg/delivery"
)

// Spool writes letters as files into a folder, from which the operator prints and removes them. It is safe for concurrent use, and so are several
// processes with one folder.
//
// A file appears whole or not at all, as <reference>.pdf. While it lies there, a delivery that comes again adds none. Files have mode 0600 and the folder
// 0700: they hold addresses and codes.
type Spool struct {
	dir string
	log *slog.Logger
}

var _ delivery.Provider = (*Spool)(nil)

const (
	spoolTemp = ".otpost-" // begins the names of files that are being written
	staleTemp = time.Hour  // after which such a file is one of a process that died; no letter takes long to write
)

// reference is what may name a file. It leaves out whatever leads to another folder.
var reference = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z-]{0,127}$`)

// NewSpool returns a provider that writes into dir, which it makes where there is none. It refuses a folder that others can read, and removes
// what a process that died has left half-written.
func NewSpool(dir string, log *slog.Logger) (*Spool, error) {
	if dir == "" {
		return nil, errors.New("spool: no folder is given")
	}
	if log == nil {
		log = slog.Default()
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: making the folder: %w", err)
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return nil, fmt.Errorf("spool: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("spool: %s is not a folder", dir)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("spool: others can get at the folder %s (mode %04o): make its mode 0700", dir, info.Mode().Perm())
	}
	s := &Spool{dir: dir, log: log}
	if err := s.tidy(time.Now().Add(-staleTemp)); err != nil { // by the machine's clock, as files' times are
		return nil, err
	}
	return s, nil
}

// tidy removes half-written files from before a time.
func (s *Spool) tidy(before time.Time) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("spool: reading the folder: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), spoolTemp) || !info.Mode().IsRegular() || info.ModTime().After(before) {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("spool: removing a half-written letter: %w", err)
		}
	}
	return nil
}

// Name returns "spool".
func (s *Spool) Name() string { return "spool" }

// Send writes the letter and returns once it is on disk for good. The reference is the file's name.
//
// Errors are *delivery.Error. As long as the file does not bear its name nothing was sent: Transient where space or handles lack, Configuration where
// the folder does not let itself be written to. A file of the same name with another content, which no retry makes, and a failure after the file has
// got its name, are Ambiguous.
func (s *Spool) Send(ctx context.Context, m *delivery.Message) (delivery.Accepted, error) {
	if err := checkDocument(m); err != nil {
		return delivery.Accepted{}, err
	}
	name := m.Reference + ".pdf"
	taken, err := s.compare(name, m.Document)
	if err == nil && !taken {
		err = s.write(ctx, name, m.Document)
	}
	if err != nil {
		return delivery.Accepted{}, spoolError(err)
	}
	return delivery.Accepted{Reference: name}, nil
}

// checkDocument refuses what no provider of letters can take.
func checkDocument(m *delivery.Message) error {
	switch {
	case !reference.MatchString(m.Reference):
		return &delivery.Error{Class: delivery.Permanent, Reason: "the delivery's reference does not make a name"}
	case len(m.Document) == 0:
		return &delivery.Error{Class: delivery.Permanent, Reason: "the message has no document"}
	}
	return nil
}

// compare reports whether a letter lies in the spool already. Its error is errOther if that is another one.
func (s *Spool) compare(name string, document []byte) (bool, error) {
	path := filepath.Join(s.dir, name)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() || info.Size() != int64(len(document)) {
		return false, errOther
	}
	there, err := os.ReadFile(path) //nolint:gosec // of the spool, by a name that was checked
	switch {
	case errors.Is(err, fs.ErrNotExist): // the operator has just taken it
		return true, nil
	case err != nil:
		return false, err
	case !bytes.Equal(there, document):
		return false, errOther
	}
	return true, s.sync() // who wrote it may have died before it did
}

var (
	errOther  = errors.New("another file has the letter's name")
	errUnsure = errors.New("the letter may be lost with the machine")
)

// write writes the document beside its place and links it there: a link, unlike a renaming, never replaces a file.
func (s *Spool) write(ctx context.Context, name string, document []byte) (err error) {
	f, err := os.CreateTemp(s.dir, spoolTemp+"*") // 0600 and O_EXCL
	if err != nil {
		return err
	}
	defer func() {
		if e := os.Remove(f.Name()); e != nil && !errors.Is(e, fs.ErrNotExist) {
			s.log.Warn("a temporary file stays in the spool until the next start", "error", e)
		}
	}()
	_, err = f.Write(document)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = ctx.Err() // the last moment to stop
	}
	if err != nil {
		return err
	}
	err = os.Link(f.Name(), filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrExist) { // another process was quicker
		_, err = s.compare(name, document)
		return err
	}
	if errors.Is(err, syscall.EPERM) { // link(2): the file system has none; a file could be made just now
		return syscall.ENOTSUP
	}
	if err != nil {
		return err
	}
	return s.sync()
}

// sync makes the folder's entries last.
func (s *Spool) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnsure, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errUnsure, err)
	}
	return nil
}

// spoolError sorts what the file system said. The words of its errors hold paths but nothing of the letter.
func spoolError(err error) *delivery.Error {
	e := &delivery.Error{Class: delivery.Transient, Reason: "the letter could not be written", Err: err}
	is := func(errs ...error) bool {
		for _, target := range errs {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		e.Code = fmt.Sprintf("errno %d", int(number))
	}
	switch {
	case is(errOther):
		e.Class, e.Reason = delivery.Ambiguous, "another file has the letter's name"
	case is(errUnsure):
		e.Class, e.Reason = delivery.Ambiguous, "the spool folder could not be made to last"
	case is(context.Canceled, context.DeadlineExceeded):
		e.Reason = "not written in time"
	case is(syscall.ENOSPC, syscall.EDQUOT):
		e.Reason = "the spool's disk is full"
	case is(fs.ErrPermission, syscall.EROFS):
		e.Class, e.Reason = delivery.Configuration, "the spool folder cannot be written to"
	case is(fs.ErrNotExist, syscall.ENOTDIR):
		e.Class, e.Reason = delivery.Configuration, "the spool folder is gone"
	case is(syscall.ENOTSUP, syscall.ENOSYS, syscall.EXDEV, syscall.EMLINK):
		e.Class, e.Reason = delivery.Configuration, "the spool's file system has no hard links"
	}
	return e
}

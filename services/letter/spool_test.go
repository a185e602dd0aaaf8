package letter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/delivery"
)

const testReference = "019ab000-0000-7000-8000-000000000001-1"

func testLetter() *delivery.Message {
	return &delivery.Message{
		Reference: testReference, To: `{"name":"Jane Doe"}`, Document: []byte("%PDF-1.3 Jane Doe 1234 567 890"), ExpiresAt: testIssued.Add(21 * 24 * time.Hour),
	}
}

func testSpool(t *testing.T) (*Spool, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out", "letters")
	s, err := NewSpool(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// names returns what lies in a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// expectError checks the class of err, and that neither it nor its cause tells what is in the letter.
func expectError(t *testing.T, err error, class delivery.Class) *delivery.Error {
	t.Helper()
	e, ok := errors.AsType[*delivery.Error](err)
	if !ok {
		t.Fatalf("error %v (%T), want a *delivery.Error", err, err)
	}
	if e.Class != class {
		t.Errorf("error %v, cause %v; want class %v", e, e.Err, class)
	}
	if e.Reason == "" {
		t.Error("the error has no reason")
	}
	for _, secret := range []string{"Jane", "1234", "567", testToken} {
		if told := fmt.Sprintf("%v %v", e, e.Err); strings.Contains(told, secret) {
			t.Errorf("the error tells %q: %s", secret, told)
		}
	}
	return e
}

func TestSpoolWrites(t *testing.T) {
	s, dir := testSpool(t)
	m := testLetter()
	accepted, err := s.Send(t.Context(), m)
	if err != nil || accepted.Reference != testReference+".pdf" {
		t.Fatalf("%+v, %v", accepted, err)
	}
	path := filepath.Join(dir, accepted.Reference)
	if text, err := os.ReadFile(path); err != nil || !bytes.Equal(text, m.Document) {
		t.Errorf("the file has %q (%v)", text, err)
	}
	for path, want := range map[string]fs.FileMode{path: 0o600, dir: 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v (%v), want %v", path, info.Mode(), err, want)
		}
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("the folder has %q, want the letter alone", got)
	}
}

// TestSpoolSendsOnce: the same delivery again, from however many processes at once, leaves one file as it is.
func TestSpoolSendsOnce(t *testing.T) {
	s, dir := testSpool(t)
	other, err := NewSpool(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, testReference+".pdf")
	seen := make([]fs.FileInfo, 32) // the file as each found it
	var all sync.WaitGroup
	for i := range seen {
		all.Go(func() {
			if _, err := []*Spool{s, other}[i%2].Send(t.Context(), testLetter()); err != nil {
				t.Errorf("sending it again: %v", err)
			}
			var err error
			if seen[i], err = os.Stat(path); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := s.Send(t.Context(), testLetter()); err != nil {
		t.Error(err)
	}
	last, err := os.Stat(path)
	for _, info := range seen {
		if err != nil || !os.SameFile(info, last) {
			t.Fatalf("the file was replaced (%v)", err)
		}
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("the folder has %q, want the letter alone", got)
	}
}

// TestSpoolNeverReplaces: what lies under the letter's name stays, whatever it is, and the delivery is not called sent.
func TestSpoolNeverReplaces(t *testing.T) {
	m := testLetter()
	for name, put := range map[string]func(path string) error{
		"half a letter":    func(p string) error { return os.WriteFile(p, m.Document[:9], 0o600) },
		"an empty file":    func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"another letter":   func(p string) error { return os.WriteFile(p, bytes.ToUpper(m.Document), 0o600) },
		"a folder":         func(p string) error { return os.Mkdir(p, 0o700) },
		"a link elsewhere": func(p string) error { return os.Symlink(filepath.Join(filepath.Dir(filepath.Dir(p)), "elsewhere"), p) },
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := testSpool(t)
			if err := put(filepath.Join(dir, testReference+".pdf")); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(filepath.Join(dir, testReference+".pdf"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Send(t.Context(), m)
			expectError(t, err, delivery.Ambiguous)
			after, err := os.Lstat(filepath.Join(dir, testReference+".pdf"))
			if err != nil || !os.SameFile(before, after) || before.Size() != after.Size() {
				t.Errorf("it was replaced (%v)", err)
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "elsewhere")); !errors.Is(err, fs.ErrNotExist) {
				t.Error("the letter was written outside the spool")
			}
			if got := names(t, dir); len(got) != 1 {
				t.Errorf("the folder has %q", got)
			}
		})
	}
}

// TestSpoolSurvivesKilling has a process write letters without end and kills it, at another moment each time. Whatever bears a letter's name is whole, what
// was half-written is removed in time, and the letters can be sent then.
func TestSpoolSurvivesKilling(t *testing.T) {
	if dir := os.Getenv("OTPOST_TEST_SPOOL"); dir != "" {
		spoolForever(dir)
	}
	half := 0
	for round := range 4 {
		_, dir := testSpool(t)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSpoolSurvivesKilling$") //nolint:gosec // this test itself
		cmd.Env = append(os.Environ(), "OTPOST_TEST_SPOOL="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, spoolWriters+round)); err != nil { // it is in the middle of several then
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		half += spoolAfterKilling(t, dir)
	}
	if half == 0 {
		t.Error("no process was killed in the middle of a letter: this test has shown nothing")
	}
}

// spoolAfterKilling checks what a killed process left, and that another can go on from there. It returns the number of letters that were half-written.
func spoolAfterKilling(t *testing.T, dir string) (half int) {
	t.Helper()
	for _, name := range names(t, dir) {
		path := filepath.Join(dir, name)
		if strings.HasPrefix(name, spoolTemp) {
			half++
			old := time.Now().Add(-2 * staleTemp)
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if text, err := os.ReadFile(path); err != nil || !bytes.Equal(text, bigLetter(strings.TrimSuffix(name, ".pdf")).Document) {
			t.Errorf("%s is not whole: %d octets (%v)", name, len(text), err)
		}
	}
	s, err := NewSpool(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range spoolWriters {
		if _, err := s.Send(t.Context(), bigLetter(fmt.Sprintf("%d-0", i))); err != nil {
			t.Error(err)
		}
	}
	for _, name := range names(t, dir) {
		if strings.HasPrefix(name, spoolTemp) {
			t.Errorf("%s was not removed", name)
		}
	}
	return half
}

func bigLetter(reference string) *delivery.Message {
	return &delivery.Message{Reference: reference, Document: bytes.Repeat([]byte("%PDF "+reference+"\n"), 1<<18)}
}

const spoolWriters = 4

// spoolForever writes letters until the process is killed, and tells of each before it is written. It never returns.
func spoolForever(dir string) {
	s, err := NewSpool(dir, nil)
	if err != nil {
		panic(err)
	}
	for w := range spoolWriters {
		go func() {
			for i := 0; ; i++ {
				m := bigLetter(fmt.Sprintf("%d-%d", w, i))
				fmt.Print(".")
				if _, err := s.Send(context.Background(), m); err != nil {
					panic(err)
				}
			}
		}()
	}
	select {}
}

// TestSpoolTidies: only old files of the spool's own making are removed.
func TestSpoolTidies(t *testing.T) {
	_, dir := testSpool(t)
	old := time.Now().Add(-2 * staleTemp)
	for _, name := range []string{spoolTemp + "1", spoolTemp + "2", "a.pdf", "notes.txt"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if name == spoolTemp+"2" {
			continue
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewSpool(dir, nil); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, dir), []string{spoolTemp + "2", "a.pdf", "notes.txt"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}

func TestNewSpoolRefuses(t *testing.T) {
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil { //nolint:gosec // the fault that is looked for
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"none": "", "others can read": open, "a file": file, "below a file": filepath.Join(file, "x")} {
		if s, err := NewSpool(dir, nil); err == nil || s != nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestSpoolRefusesMessages(t *testing.T) {
	s, dir := testSpool(t)
	for name, change := range map[string]func(*delivery.Message){
		"a path":       func(m *delivery.Message) { m.Reference = "../../etc/passwd" },
		"a dot":        func(m *delivery.Message) { m.Reference = ".hidden" },
		"no reference": func(m *delivery.Message) { m.Reference = "" },
		"no document":  func(m *delivery.Message) { m.Document = nil },
	} {
		m := testLetter()
		change(m)
		_, err := s.Send(t.Context(), m)
		if e := expectError(t, err, delivery.Permanent); e.Reason == "" {
			t.Error(name)
		}
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("the folder has %q", got)
	}
}

// TestSpoolFaults: real faults of the file system, and then the words for those that a test cannot bring about.
func TestSpoolFaults(t *testing.T) {
	t.Run("the folder is gone", func(t *testing.T) {
		s, dir := testSpool(t)
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		_, err := s.Send(t.Context(), testLetter())
		expectError(t, err, delivery.Configuration)
	})
	t.Run("time is up", func(t *testing.T) {
		s, dir := testSpool(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Send(ctx, testLetter())
		expectError(t, err, delivery.Transient)
		if got := names(t, dir); len(got) != 0 {
			t.Errorf("the folder has %q", got)
		}
	})
	for err, class := range map[error]delivery.Class{
		syscall.ENOSPC: delivery.Transient, syscall.EDQUOT: delivery.Transient, syscall.EMFILE: delivery.Transient, syscall.EIO: delivery.Transient,
		syscall.EACCES: delivery.Configuration, syscall.EPERM: delivery.Configuration, syscall.EROFS: delivery.Configuration,
		syscall.ENOENT: delivery.Configuration, syscall.ENOTDIR: delivery.Configuration, syscall.ENOTSUP: delivery.Configuration,
		errOther: delivery.Ambiguous, fmt.Errorf("%w: %w", errUnsure, syscall.EIO): delivery.Ambiguous, errors.New("strange"): delivery.Transient,
	} {
		expectError(t, spoolError(&fs.PathError{Op: "write", Path: "/spool/x", Err: err}), class)
	}
}

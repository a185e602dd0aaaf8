package shop

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// A user of the shop. ID is what otpost calls the user: random, never the email address, which changes and comes to belong to another person. A user who is
// deleted and signs up again is another user.
type user struct {
	ID       string    `json:"id"`
	Email    string    `json:"email"`
	Password string    `json:"password"` // Argon2id
	Since    time.Time `json:"since"`
}

// A signal is something that ends trust, which otpost has to hear of. It is written with the change that it tells of, in one step, and goes when otpost
// has taken it: so it is not lost when otpost, the network or this process is down just then. Its ID makes sending it twice the same as once.
type signal struct {
	ID   string         `json:"id"`
	Name string         `json:"name"` // password.changed, session.signed_out, user.deleted
	Data map[string]any `json:"data"`
}

func newSignal(name string, data map[string]any) signal {
	return signal{ID: "signal-" + rand.Text(), Name: name, Data: data}
}

var (
	errTaken  = errors.New("there is an account with this email address")
	errNoUser = errors.New("there is no such user")
)

// users are the shop's users, in memory and in a file.
type users struct {
	path string
	mu   sync.Mutex
	file usersFile

	hashing chan struct{} // a hash takes 19 MiB: a crowd waits its turn
	nobody  string        // a hash that nobody has, for addresses that nobody has
}

type usersFile struct {
	Users   []user   `json:"users"`
	Signals []signal `json:"signals,omitempty"`
}

func openUsers(path string) (*users, error) {
	u := &users{path: path, hashing: make(chan struct{}, 4), nobody: hashPassword(rand.Text())}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return u, u.save(u.file)
	case err != nil:
		return nil, fmt.Errorf("read users: %w", err)
	}
	if err := json.Unmarshal(text, &u.file); err != nil {
		return nil, fmt.Errorf("read users: %s: %w", path, err)
	}
	return u, nil
}

// save leaves the old file or the whole new one.
func (u *users) save(f usersFile) error {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("save users: %w", err)
	}
	t, err := os.CreateTemp(filepath.Dir(u.path), "."+filepath.Base(u.path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("save users: %w", err)
	}
	defer os.Remove(t.Name()) // gone by then, unless something failed
	_, err = t.Write(append(text, '\n'))
	if err := errors.Join(err, t.Sync(), t.Close()); err != nil {
		return fmt.Errorf("save users: %w", err)
	}
	if err := os.Rename(t.Name(), u.path); err != nil {
		return fmt.Errorf("save users: %w", err)
	}
	return nil
}

// alter makes a change and keeps it, or leaves everything as it was.
func (u *users) alter(f func(*usersFile) error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	next := usersFile{Users: slices.Clone(u.file.Users), Signals: slices.Clone(u.file.Signals)}
	if err := f(&next); err != nil {
		return err
	}
	if err := u.save(next); err != nil {
		return err
	}
	u.file = next
	return nil
}

// add adds a user; errTaken where the address is.
func (u *users) add(ctx context.Context, email, password string, now time.Time) (user, error) {
	hash, err := u.hash(ctx, password)
	if err != nil {
		return user{}, err
	}
	v := user{ID: "u-" + rand.Text(), Email: email, Password: hash, Since: now.UTC()}
	return v, u.alter(func(f *usersFile) error {
		if slices.ContainsFunc(f.Users, func(o user) bool { return o.Email == email }) {
			return errTaken
		}
		f.Users = append(f.Users, v)
		return nil
	})
}

// get returns a user by id.
func (u *users) get(id string) (user, bool) { return u.find(func(v user) bool { return v.ID == id }) }

func (u *users) find(is func(user) bool) (user, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.IndexFunc(u.file.Users, is); i >= 0 {
		return u.file.Users[i], true
	}
	return user{}, false
}

// check returns the user of an address if the password is theirs. For an address that nobody has it takes as long.
func (u *users) check(ctx context.Context, email, password string) (user, bool, error) {
	v, known := u.find(func(v user) bool { return v.Email == email })
	against := v.Password
	if !known {
		against = u.nobody
	}
	right, err := u.matches(ctx, against, password)
	return v, right && known, err
}

// setPassword changes a password and keeps the signal of it.
func (u *users) setPassword(ctx context.Context, id, password string) error {
	hash, err := u.hash(ctx, password)
	if err != nil {
		return err
	}
	return u.alter(func(f *usersFile) error {
		i := slices.IndexFunc(f.Users, func(v user) bool { return v.ID == id })
		if i < 0 {
			return errNoUser
		}
		f.Users[i].Password = hash
		f.Signals = append(f.Signals, newSignal("password.changed", map[string]any{"user": id}))
		return nil
	})
}

// remove deletes a user and keeps the signal of it: otpost erases what it has of the person.
func (u *users) remove(id string) error {
	return u.alter(func(f *usersFile) error {
		f.Users = slices.DeleteFunc(f.Users, func(v user) bool { return v.ID == id })
		f.Signals = append(f.Signals, newSignal("user.deleted", map[string]any{"user": id}))
		return nil
	})
}

// tell keeps a signal.
func (u *users) tell(s signal) error {
	return u.alter(func(f *usersFile) error {
		f.Signals = append(f.Signals, s)
		return nil
	})
}

// signals are those that wait, oldest first.
func (u *users) signals() []signal {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.file.Signals)
}

// told forgets a signal that otpost has taken.
func (u *users) told(id string) error {
	return u.alter(func(f *usersFile) error {
		f.Signals = slices.DeleteFunc(f.Signals, func(s signal) bool { return s.ID == id })
		return nil
	})
}

// Parameters of Argon2id: 19 MiB, two passes, one lane (OWASP, Password Storage Cheat Sheet).
const (
	argonMemory = 19 * 1024 // KiB
	argonTime   = 2
	argonLanes  = 1
)

var base64Text = base64.RawStdEncoding

// hashPassword hashes in the form that other programs read too (PHC string format).
func hashPassword(password string) string {
	salt := randomBytes(16)
	sum := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, 32)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		base64Text.EncodeToString(salt), base64Text.EncodeToString(sum))
}

// samePassword compares in constant time. The parameters are those of the hash, which may be older than the constants.
func samePassword(hash, password string) bool {
	var version int
	var memory, passes uint32
	var lanes uint8
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false
	}
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &passes, &lanes); err != nil || version != argon2.Version {
		return false
	}
	salt, err1 := base64Text.DecodeString(parts[4])
	sum, err2 := base64Text.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(sum) == 0 || passes == 0 || lanes == 0 {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, lanes, uint32(len(sum)))
	return subtle.ConstantTimeCompare(got, sum) == 1
}

// turn waits for a turn to hash.
func (u *users) turn(ctx context.Context) (done func(), err error) {
	select {
	case u.hashing <- struct{}{}:
		return func() { <-u.hashing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (u *users) hash(ctx context.Context, password string) (string, error) {
	done, err := u.turn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	return hashPassword(password), nil
}

func (u *users) matches(ctx context.Context, hash, password string) (bool, error) {
	done, err := u.turn(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	return samePassword(hash, password), nil
}

// The length of a password is counted in characters from below and in bytes from above, where it only bounds the work.
const (
	minPassword = 8
	maxPassword = 1024
)

// faultOfPassword says what is wrong with a new password, or "". No rule asks for digits or signs: length is what counts (NIST SP 800-63B-4, section
// 3.1.1.2).
func faultOfPassword(password, email string) string {
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return fmt.Sprintf("Use at least %d characters.", minPassword)
	case len(password) > maxPassword:
		return "That is more than we can keep."
	case strings.EqualFold(password, email):
		return "Use something other than your email address."
	}
	return ""
}

// readEmail returns the address in the one way that the shop writes it; ok is false for what is none.
func readEmail(typed string) (email string, ok bool) {
	typed = strings.ToLower(strings.TrimSpace(typed))
	a, err := mail.ParseAddress(typed)
	if err != nil || a.Address != typed || len(typed) > 254 || !strings.Contains(typed[strings.LastIndex(typed, "@"):], ".") {
		return "", false
	}
	return typed, true
}

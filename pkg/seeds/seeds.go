// Package seeds reads files of the seeds of hardware tokens, as their vendors and personalisation tools write them, for the operator's import:
// PSKC (RFC 6030), CSV, and what Yubico's tools log.
//
// A file is taken whole or not at all, and what a token would need beyond what otpost does is refused rather than dropped: a PIN checked by the server,
// check digits, a limited number of uses. Files are hostile until read: their size, depth, number of keys and length of fields are bounded, an XML
// document type (and with it every entity) is refused, and what is encrypted is believed only after its MAC.
//
// Errors name the line, the token's serial number and the field, and never a value that could be a secret. Neither does a Seed print one.
package seeds

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

// The kinds of seed, as otp.FactorKind names them.
const (
	KindHOTP    = "hotp"    // counter-based OATH token (RFC 4226)
	KindTOTP    = "totp"    // time-based OATH token (RFC 6238)
	KindYubikey = "yubikey" // Yubico OTP
)

// Bounds of what is read.
const (
	DefaultMaxBytes = 16 << 20
	MaxKeys         = 20_000
	MaxField        = 4 << 10 // bytes
	MinSecret       = 16      // bytes: RFC 4226, section 4 (R6) wants 128 bits at least
	MaxSecret       = 128     // bytes
	MaxCounter      = 1<<32 - 1
	MaxIterations   = 10_000_000 // of PBKDF2
)

// A Seed is one token's secret and setting. All of it has been checked against the bounds above and those of pkg/otp.
type Seed struct {
	Kind      string // KindHOTP, KindTOTP or KindYubikey
	Serial    string // never empty and unique in its file: the serial number or, if the file has none, the id of the key
	User      string // whose it is, if the file tells: an id of the app's, or any name that the vendor was given
	Label     string // a name for people, or ""
	Secret    []byte // MinSecret to MaxSecret bytes; the AES-128 key of a YubiKey
	Algorithm string // of HOTP and TOTP: SHA1, SHA256 or SHA512
	Digits    int    // of HOTP and TOTP: 6–8
	Period    int    // of TOTP: 30 or 60 seconds
	Counter   int64  // of HOTP: the counter of the next code, 0–MaxCounter
	PublicID  string // of a YubiKey: the 12 modhex characters that each of its codes begins with; unique in its file
	PrivateID []byte // of a YubiKey: 6 bytes
	Line      int    // where it begins in its file, from 1
}

// String tells the kind and the serial number only, so that no secret is printed by mistake.
func (s Seed) String() string { return s.Kind + " " + s.Serial }

// GoString is String, for %#v.
func (s Seed) GoString() string { return s.String() }

// LogValue is String, for logs.
func (s Seed) LogValue() slog.Value { return slog.StringValue(s.String()) }

// A Format is a way of writing seeds down.
type Format string

// The formats. See readCSV and readYubico for what a file of each looks like.
const (
	PSKC   Format = "pskc"   // RFC 6030, and the drafts before it
	CSV    Format = "csv"    // with a row of column names
	Yubico Format = "yubico" // the log of the YubiKey Personalization Tool, and the output of YubiKey Manager
)

// Options say how a file is to be read. The zero value reads any file that is not encrypted.
type Options struct {
	Format     Format    // "" to tell it by the content
	Key        []byte    // the pre-shared key of an encrypted file: 16, 24 or 32 bytes
	Passphrase string    // the passphrase of an encrypted file
	MaxBytes   int64     // the longest file that is read, in bytes; 0 is DefaultMaxBytes
	Now        time.Time // which dates of validity are judged against; zero is the time of the call
}

// Errors that a caller may want to act on.
var (
	ErrKeyNeeded        = errors.New("is encrypted with a pre-shared key, and none was given")
	ErrPassphraseNeeded = errors.New("is encrypted with a passphrase, and none was given")
	ErrMismatch         = errors.New("does not match its MAC: the key or passphrase is wrong, or the file was altered")
	ErrNotEncrypted     = errors.New("is not encrypted, although a key or passphrase was given")
)

// An Error says where in a file something is wrong.
type Error struct {
	Line   int    // from 1; 0 if it is not about one
	Serial string // of the token, where it is known and is certainly no secret
	Field  string // what is wrong, or ""
	Err    error  // how
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d", e.Line)
	}
	if e.Serial != "" {
		fmt.Fprintf(&b, " (serial %s)", e.Serial)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field + " ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Parse reads a file of seeds, in the order of the file. An error, which may be an *Error and wrap one of the errors above, comes without any seeds;
// so does a file that holds none. A key or passphrase for a file that is not encrypted is an error too: whoever can write the file could
// otherwise put one of their own in its place.
func Parse(r io.Reader, o Options) ([]Seed, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	in := &meter{r: bufio.NewReaderSize(r, headBytes), left: o.MaxBytes, max: o.MaxBytes}
	format := o.Format
	head, err := in.head()
	if err == nil && format == "" {
		format = tell(head)
	}
	found := &found{serials: map[string]int{}, publicIDs: map[string]int{}}
	switch {
	case err != nil:
	case format == PSKC:
		err = readPSKC(in, o, found)
	case format != CSV && format != Yubico:
		err = errors.New("format must be pskc, csv or yubico")
	case o.Key != nil || o.Passphrase != "":
		err = &Error{Field: "file", Err: ErrNotEncrypted}
	case format == CSV:
		err = readCSV(in, found)
	default:
		err = readYubico(in, found)
	}
	if err == nil && len(found.seeds) == 0 {
		err = errors.New("the file holds no seeds")
	}
	if err != nil {
		return nil, fmt.Errorf("read seeds: %w", err)
	}
	return found.seeds, nil
}

// headBytes is how much of a file is looked at to tell its format.
const headBytes = 4 << 10

// tell guesses the format by what a file begins with.
func tell(head []byte) Format {
	first, _, _ := bytes.Cut(bytes.TrimSpace(head), []byte("\n"))
	switch {
	case bytes.HasPrefix(first, []byte("<")):
		return PSKC
	case looksYubico(string(first)):
		return Yubico
	default:
		return CSV
	}
}

// A meter lets so many bytes through and then fails, and can be told to fail earlier by limitToken. It is an io.ByteReader so that the XML decoder takes
// no more from it than it needs for the next token.
type meter struct {
	r          *bufio.Reader
	left, max  int64
	token      int // bytes that the token may still have
	tokenLimit bool
}

var errToken = fmt.Errorf("has a tag, text or comment longer than %d bytes", maxToken)

// head skips a byte order mark and returns the beginning of the file without taking it.
func (m *meter) head() ([]byte, error) {
	head, err := m.r.Peek(headBytes)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("take the beginning: %w", err)
	}
	if bytes.HasPrefix(head, []byte("\xfe\xff")) || bytes.HasPrefix(head, []byte("\xff\xfe")) {
		return nil, errors.New("the file is in UTF-16: save it in UTF-8")
	}
	if mark := []byte("\ufeff"); bytes.HasPrefix(head, mark) {
		_, _ = m.r.Discard(len(mark)) // they are in the buffer
		head = head[len(mark):]
	}
	return head, nil
}

func (m *meter) tooLong() error { return fmt.Errorf("the file has more than %d bytes", m.max) }

func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		if _, err := m.r.Peek(1); errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		return 0, m.tooLong()
	}
	n, err := m.r.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	return n, err
}

func (m *meter) ReadByte() (byte, error) {
	if m.tokenLimit {
		if m.token--; m.token < 0 {
			return 0, errToken
		}
	}
	b, err := m.r.ReadByte()
	if err != nil {
		return 0, err
	}
	if m.left--; m.left < 0 {
		return 0, m.tooLong()
	}
	return b, nil
}

func (m *meter) limitToken(n int) { m.token, m.tokenLimit = n, true }

// found collects what a file holds and is what the formats have in common: the same seed is good or bad whichever way it was written.
type found struct {
	seeds              []Seed
	serials, publicIDs map[string]int // and the line of each
}

var serialForm = regexp.MustCompile(`^[0-9A-Za-z](?:[0-9A-Za-z ._:-]{0,62}[0-9A-Za-z])?$`)

// showable returns a text of the file as it may be shown in an error: not if it might be a secret that stands where it should not, of which the
// shortest is 22 characters long (128 bits in base64).
func showable(s string) string {
	if len(s) <= 20 && serialForm.MatchString(s) {
		return s
	}
	return ""
}

func (f *found) add(s Seed) error {
	field, err := s.check()
	if err == nil {
		if line, ok := f.serials[s.Serial]; ok {
			field, err = "serial", fmt.Errorf("is that of line %d too", line)
		} else if line, ok := f.publicIDs[s.PublicID]; ok && s.PublicID != "" {
			field, err = "public_id", fmt.Errorf("is that of line %d too", line)
		} else if len(f.seeds) == MaxKeys {
			field, err = "file", fmt.Errorf("has more than %d keys", MaxKeys)
		}
	}
	if err != nil {
		return &Error{Line: s.Line, Serial: showable(s.Serial), Field: field, Err: err}
	}
	f.serials[s.Serial] = s.Line
	if s.PublicID != "" {
		f.publicIDs[s.PublicID] = s.Line
	}
	f.seeds = append(f.seeds, s)
	return nil
}

// check returns the first field out of bounds and how.
func (s Seed) check() (field string, err error) {
	if !serialForm.MatchString(s.Serial) {
		return "serial", errors.New("must have 1 to 64 letters, digits, spaces and . _ : - with a letter or digit at both ends")
	}
	for _, t := range []struct{ field, text string }{{"user", s.User}, {"label", s.Label}} {
		if t.text == "" {
			continue
		}
		if words := otp.CheckID(t.text); words != "" {
			return t.field, errors.New(words)
		}
	}
	if s.Kind == KindYubikey {
		return s.checkYubikey()
	}
	if len(s.Secret) < MinSecret || len(s.Secret) > MaxSecret {
		return "secret", fmt.Errorf("must have %d to %d bytes, not %d", MinSecret, MaxSecret, len(s.Secret))
	}
	if !slices.Contains([]string{"SHA1", "SHA256", "SHA512"}, s.Algorithm) {
		return "algorithm", errors.New("must be SHA1, SHA256 or SHA512")
	}
	if s.Digits < 6 || s.Digits > 8 {
		return "digits", errors.New("must be 6 to 8")
	}
	switch s.Kind {
	case KindHOTP:
		if s.Counter < 0 || s.Counter > MaxCounter {
			return "counter", fmt.Errorf("must be 0 to %d", int64(MaxCounter))
		}
	case KindTOTP:
		if err := (otp.TOTP{Algorithm: s.Algorithm, Digits: s.Digits, Period: s.Period}).Check(); err != nil {
			return "period", errors.New("must be 30 or 60 seconds") // the rest has been checked
		}
	default:
		return "kind", errors.New("must be hotp, totp or yubikey")
	}
	return "", nil
}

func (s Seed) checkYubikey() (field string, err error) {
	if _, err := modhex(s.PublicID); err != nil || len(s.PublicID) != 12 {
		return "public_id", errors.New("must be 12 modhex characters") // a login's code has 44, of which 32 are the token
	}
	if len(s.PrivateID) != 6 {
		return "private_id", errors.New("must have 6 bytes")
	}
	if len(s.Secret) != 16 {
		return "secret", fmt.Errorf("must be an AES-128 key of 16 bytes, not %d", len(s.Secret))
	}
	return "", nil
}

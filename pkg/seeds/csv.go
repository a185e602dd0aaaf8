package seeds

import (
	"encoding/base32"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// columns are those that a CSV file may have, and the kinds of seed whose rows may fill them; nil is all.
var columns = map[string][]string{
	"kind": nil, "serial": nil, "user": nil, "label": nil,

	"secret_hex": {KindHOTP, KindTOTP}, "secret_base32": {KindHOTP, KindTOTP}, "digits": {KindHOTP, KindTOTP}, "algorithm": {KindHOTP, KindTOTP},
	"period": {KindTOTP}, "counter": {KindHOTP},
	"public_id": {KindYubikey}, "private_id": {KindYubikey}, "aes_key": {KindYubikey},
}

// readCSV reads rows of comma-separated values (RFC 4180) below a row of column names, in any order; semicolons do as well, which spreadsheets write
// where the comma is a decimal sign. The columns kind and serial are obligatory. A row fills
//
//	kind           hotp, totp or yubikey
//	serial         the serial number; of a yubikey it may be empty, which then goes by its public id
//	user, label    or not
//	secret_hex     of hotp and totp: the secret in hexadecimal or
//	secret_base32  in base32
//	algorithm      of hotp and totp: SHA1 (if empty), SHA256 or SHA512
//	digits         of hotp and totp: 6 (if empty) to 8
//	counter        of hotp: that of the next code, 0 if empty
//	period         of totp: 30 (if empty) or 60 seconds
//	public_id      of a yubikey, in modhex
//	private_id     of a yubikey, in hexadecimal
//	aes_key        of a yubikey, in hexadecimal
//
// and no column that its kind has no use for.
func readCSV(in *meter, found *found) error {
	r := csv.NewReader(in)
	r.Comma = comma(in)
	r.FieldsPerRecord = -1 // counted below
	r.TrimLeadingSpace = true
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty")
	} else if err != nil {
		return rowError(err)
	}
	names, err := readHeader(header)
	if err != nil {
		line, _ := r.FieldPos(0)
		return &Error{Line: line, Err: err}
	}
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return rowError(err)
		}
		line, _ := r.FieldPos(0)
		row, err := newRow(names, cells, line)
		if err != nil {
			return err
		}
		if len(row.cells) == 0 { // what spreadsheets leave below a table
			continue
		}
		seed, err := row.seed()
		if err != nil {
			return err
		}
		if err := found.add(seed); err != nil {
			return err
		}
	}
}

// comma is what separates the cells of the first line.
func comma(in *meter) rune {
	head, err := in.r.Peek(headBytes)
	if err != nil && len(head) == 0 {
		return ','
	}
	first, _, _ := strings.Cut(string(head), "\n")
	if strings.Contains(first, ";") && !strings.Contains(first, ",") {
		return ';'
	}
	return ','
}

// rowError leaves out of an error of the csv package what is not about the line: its own words have no values of the file, and other errors are the
// meter's or the reader's.
func rowError(err error) error {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return &Error{Line: e.StartLine, Field: "row", Err: fmt.Errorf("is not as RFC 4180 has it: %w", e.Err)}
	}
	return err
}

// readHeader returns the names of the columns. One that is not known is not repeated: in a file without the row of names it could be a secret.
func readHeader(header []string) ([]string, error) {
	names := make([]string, len(header))
	for i, cell := range header {
		name := strings.ToLower(strings.TrimSpace(cell))
		if _, ok := columns[name]; !ok {
			if name == "secret" {
				return nil, fmt.Errorf("column %d must say how the secret is written: secret_hex or secret_base32", i+1)
			}
			return nil, fmt.Errorf("column %d is not known: the first row must name the columns", i+1)
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("column %s is there twice", name)
		}
		names[i] = name
	}
	for _, name := range []string{"kind", "serial"} {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("column %s is missing: the first row must name the columns", name)
		}
	}
	return names, nil
}

// A row is the cells of one line that are not empty, by the names of their columns.
type row struct {
	line  int
	cells map[string]string
}

func newRow(names, cells []string, line int) (row, error) {
	if len(cells) != len(names) { // what a cell holds is certain only where none is missing
		return row{}, &Error{Line: line, Field: "row", Err: fmt.Errorf("has %d cells, and there are %d columns", len(cells), len(names))}
	}
	r := row{line, make(map[string]string, len(names))}
	for i, cell := range cells {
		if len(cell) > MaxField {
			return row{}, r.wrong(names[i], fmt.Errorf("has more than %d bytes", MaxField))
		}
		if cell = strings.TrimSpace(cell); cell != "" {
			r.cells[names[i]] = cell
		}
	}
	return r, nil
}

func (r row) wrong(field string, err error) error {
	return &Error{Line: r.line, Serial: showable(r.cells["serial"]), Field: field, Err: err}
}

func (r row) seed() (Seed, error) {
	s := Seed{Kind: strings.ToLower(r.cells["kind"]), Serial: r.cells["serial"], User: r.cells["user"], Label: r.cells["label"], Line: r.line}
	if !slices.Contains([]string{KindHOTP, KindTOTP, KindYubikey}, s.Kind) {
		return Seed{}, r.wrong("kind", errors.New("must be hotp, totp or yubikey"))
	}
	for name := range r.cells {
		if kinds := columns[name]; kinds != nil && !slices.Contains(kinds, s.Kind) {
			return Seed{}, r.wrong(name, errors.New("must be empty for a "+s.Kind))
		}
	}
	if s.Kind == KindYubikey {
		return r.yubikey(s)
	}
	if err := r.secret(&s); err != nil {
		return Seed{}, err
	}
	algorithm, digits, period, counter := r.cells["algorithm"], int64(6), int64(0), int64(0)
	if s.Algorithm = "SHA1"; algorithm != "" {
		s.Algorithm = hashName(algorithm)
	}
	if s.Kind == KindTOTP {
		period = 30
	}
	for _, n := range []struct {
		name string
		to   *int64
	}{{"digits", &digits}, {"period", &period}, {"counter", &counter}} {
		if cell := r.cells[n.name]; cell != "" {
			var err error
			if *n.to, err = number(cell); err != nil {
				return Seed{}, r.wrong(n.name, err)
			}
		}
	}
	s.Digits, s.Period, s.Counter = int(digits), int(period), counter
	return s, nil
}

func (r row) secret(s *Seed) error {
	hexed, is16 := r.cells["secret_hex"]
	b32, is32 := r.cells["secret_base32"]
	switch {
	case is16 && is32:
		return r.wrong("secret_base32", errors.New("must be empty where secret_hex is not"))
	case is16:
		secret, err := unhex(hexed)
		if err != nil {
			return r.wrong("secret_hex", err)
		}
		s.Secret = secret
	case is32:
		plain := strings.TrimRight(strings.ToUpper(unspaced(b32)), "=")
		secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(plain)
		if err != nil {
			return r.wrong("secret_base32", errors.New("must be base32 (A–Z and 2–7)"))
		}
		s.Secret = secret
	default:
		return r.wrong("secret", errors.New("is missing: secret_hex or secret_base32 must be filled"))
	}
	return nil
}

func (r row) yubikey(s Seed) (Seed, error) {
	s.PublicID = strings.ToLower(r.cells["public_id"])
	if s.Serial == "" {
		s.Serial = s.PublicID
	}
	var err error
	if s.PrivateID, err = unhex(r.cells["private_id"]); err != nil {
		return Seed{}, r.wrong("private_id", err)
	}
	if s.Secret, err = unhex(r.cells["aes_key"]); err != nil {
		return Seed{}, r.wrong("aes_key", err)
	}
	return s, nil
}

// The decoders' own errors repeat what they could not decode, so they are not passed on.

func number(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("must be a whole number from 0 to %d", int64(MaxCounter))
	}
	return int64(n), nil
}

func unhex(s string) ([]byte, error) {
	b, err := hex.DecodeString(unspaced(s))
	if err != nil {
		return nil, errors.New("must be hexadecimal, two characters a byte")
	}
	return b, nil
}

// unspaced drops the white space that sets groups apart.
func unspaced(s string) string { return strings.Join(strings.Fields(s), "") }

// hashName brings the ways of writing a hash function down to one: "HMAC-SHA-256", "HmacSHA256" and "sha256" are SHA256. Others become no name at all.
func hashName(s string) string {
	plain := strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToUpper(s))
	plain = strings.TrimPrefix(plain, "HMAC")
	if plain == "SHA" {
		return "SHA1"
	}
	return plain
}

// modhex decodes Yubico's hexadecimal, which is typed alike on every keyboard.
func modhex(s string) ([]byte, error) {
	b := make([]byte, len(s))
	for i := range len(s) {
		v := strings.IndexByte("cbdefghijklnrtuv", s[i])
		if v < 0 {
			return nil, errors.New("must be modhex (cbdefghijklnrtuv)")
		}
		b[i] = "0123456789abcdef"[v]
	}
	return unhex(string(b))
}

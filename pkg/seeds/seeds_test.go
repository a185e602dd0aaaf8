package seeds_test

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/seeds"
)

// rfcSecret is that of RFC 6030's figures and of RFC 4226's own vectors.
const rfcSecret = "12345678901234567890"

func file(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// count returns bytes that count up, as in the files that were made for these tests.
func count(from, to byte) []byte {
	var b []byte
	for c := from; c < to; c++ {
		b = append(b, c)
	}
	return b
}

// same compares field by field; a Seed prints no secrets, which would make a poor diff.
func same(t *testing.T, got []seeds.Seed, want ...seeds.Seed) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// refused checks that an error says what is wanted and comes alone.
func refused(t *testing.T, got []seeds.Seed, err error, want string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), "read seeds: ") || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, not one with %q", err, want)
	}
	if got != nil {
		t.Errorf("%d seeds beside the error", len(got))
	}
}

func TestFormatIsTold(t *testing.T) {
	pskc, csv := string(file(t, "rfc6030-figure3.xml")), "kind,serial,secret_hex\nhotp,1,"+strings.Repeat("0a", 20)+"\n"
	yubico := "LOGGING START,x\nYubico OTP,x,1,vvvvvvcurikv,8792ebfe26cc,ecde18dbe76fbd0c33330f1c354871db,,,0,0,0,0,0,0,0,0,0,0\n"
	manager := "12345,vvvvvvcurikv,8792ebfe26cc,ecde18dbe76fbd0c33330f1c354871db,,2026-11-21T10:00:00,\n"
	for name, tc := range map[string]struct {
		text string
		o    seeds.Options
		want string // of the error, or ""
	}{
		"PSKC":                      {pskc, seeds.Options{}, ""},
		"PSKC after a byte order":   {"\ufeff" + pskc, seeds.Options{}, ""},
		"PSKC without declaration":  {pskc[strings.Index(pskc, "<Key"):], seeds.Options{}, ""},
		"CSV":                       {csv, seeds.Options{}, ""},
		"CSV after a byte order":    {"\ufeff" + csv, seeds.Options{}, ""},
		"Yubico's log":              {yubico, seeds.Options{}, ""},
		"its second line":           {yubico[strings.Index(yubico, "Yub"):], seeds.Options{}, ""},
		"YubiKey Manager's":         {manager, seeds.Options{}, ""},
		"a key server's":            {"# ykksm 1\n" + manager, seeds.Options{}, ""},
		"each where it is named":    {manager, seeds.Options{Format: seeds.Yubico}, ""},
		"PSKC that is taken as CSV": {pskc, seeds.Options{Format: seeds.CSV}, "row"},
		"CSV that is taken as PSKC": {csv, seeds.Options{Format: seeds.PSKC}, "text outside its elements"},
		"no such format":            {csv, seeds.Options{Format: "xls"}, "format must be pskc, csv or yubico"},
		"a spreadsheet":             {"PK\x03\x04\x14\x00\x06\x00", seeds.Options{}, "column 1"},
		"UTF-16":                    {"\xff\xfek\x00i\x00", seeds.Options{}, "UTF-16"},
		"nothing":                   {"", seeds.Options{}, "empty"},
		"no PSKC":                   {"", seeds.Options{Format: seeds.PSKC}, "empty"},
		"no log":                    {"", seeds.Options{Format: seeds.Yubico}, "holds no seeds"},
		"only names":                {"kind,serial\n", seeds.Options{}, "holds no seeds"},
		"a key for what is plain":   {csv, seeds.Options{Key: make([]byte, 16)}, "is not encrypted"},
		"a passphrase for it":       {yubico, seeds.Options{Passphrase: "x"}, "is not encrypted"},
		"as long as allowed":        {csv, seeds.Options{MaxBytes: int64(len(csv))}, ""},
		"longer":                    {csv, seeds.Options{MaxBytes: int64(len(csv)) - 1}, "more than"},
		"PSKC as long as allowed":   {pskc, seeds.Options{MaxBytes: int64(len(pskc))}, ""},
		"longer PSKC":               {pskc, seeds.Options{MaxBytes: int64(len(pskc)) - 1}, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := seeds.Parse(strings.NewReader(tc.text), tc.o)
			if tc.want != "" {
				refused(t, got, err, tc.want)
			} else if err != nil || len(got) != 1 {
				t.Errorf("%d seeds (%v)", len(got), err)
			}
			again, againErr := seeds.Parse(iotest.OneByteReader(strings.NewReader(tc.text)), tc.o)
			if fmt.Sprint(againErr) != fmt.Sprint(err) || !cmp.Equal(got, again) {
				t.Errorf("byte by byte it reads otherwise: %v", againErr)
			}
		})
	}
}

func TestReaderFails(t *testing.T) {
	fails := errors.New("the disk is gone")
	for _, text := range []string{"", "<KeyContainer", "kind,serial\n", strings.Repeat("1", 5000)} {
		got, err := seeds.Parse(io.MultiReader(strings.NewReader(text), iotest.ErrReader(fails)), seeds.Options{})
		if refused(t, got, err, ""); !errors.Is(err, fails) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// TestMany holds the bound of keys, on both sides, and that a file of them is read in reasonable time.
func TestMany(t *testing.T) {
	var csv, pskc strings.Builder
	csv.WriteString("kind,serial,secret_hex\n")
	pskc.WriteString(`<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc">`)
	for i := range seeds.MaxKeys + 1 {
		secret := fmt.Sprintf("%040x", i)
		fmt.Fprintf(&csv, "hotp,%d,%s\n", i, secret)
		if i > 0 { // one fewer
			fmt.Fprintf(&pskc, `<KeyPackage><Key Id="%d" Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:pin"/></KeyPackage>`, i)
		}
	}
	got, err := seeds.Parse(strings.NewReader(csv.String()), seeds.Options{})
	refused(t, got, err, fmt.Sprintf("line %d (serial %d): file has more than %d keys", seeds.MaxKeys+2, seeds.MaxKeys, seeds.MaxKeys))

	one := strings.TrimSuffix(csv.String(), "\n")
	got, err = seeds.Parse(strings.NewReader(one[:strings.LastIndex(one, "\n")]), seeds.Options{})
	if err != nil || len(got) != seeds.MaxKeys {
		t.Errorf("%d seeds (%v)", len(got), err)
	}

	// Keys that hold no seed are counted as well.
	got, err = seeds.Parse(strings.NewReader(pskc.String()+"</KeyContainer>"), seeds.Options{})
	refused(t, got, err, "holds no seeds")
	got, err = seeds.Parse(strings.NewReader(pskc.String()+"<KeyPackage><Key/></KeyPackage></KeyContainer>"), seeds.Options{})
	refused(t, got, err, "more than 20000 keys")
}

func TestSeedPrintsNoSecret(t *testing.T) {
	s := seeds.Seed{Kind: "yubikey", Serial: "4711", Secret: []byte(rfcSecret), PrivateID: []byte("secret")}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("read", "seed", s)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%v", []seeds.Seed{s}), logged.String()} {
		if !strings.Contains(text, "yubikey 4711") || strings.Contains(text, "49 50") || strings.Contains(text, "0x31") || strings.Contains(text, "MTIz") {
			t.Errorf("printed as %s", text)
		}
	}
}

// goodFiles are one of each format with the secrets that they hold, and how to read them.
func goodFiles(t testing.TB) map[string]struct {
	text []byte
	o    seeds.Options
} {
	b32 := base32.StdEncoding.EncodeToString([]byte(rfcSecret))
	type good = struct {
		text []byte
		o    seeds.Options
	}
	return map[string]good{
		"figure 5":   {file(t, "rfc6030-figure5.xml"), seeds.Options{}},
		"figure 6":   {file(t, "rfc6030-figure6.xml"), seeds.Options{Key: unhex(t, "12345678901234567890123456789012")}},
		"csv hex":    {[]byte("serial,kind,secret_hex,user,digits\n12,totp," + hex.EncodeToString([]byte(rfcSecret)) + ",u-1,8\n"), seeds.Options{}},
		"csv base32": {[]byte("secret_base32,kind,serial\n" + b32 + ",hotp,12\n"), seeds.Options{}},
		"log":        {[]byte("OATH-HOTP,21.11.26,2,ubhebbbbbbbb,," + hex.EncodeToString([]byte(rfcSecret)) + ",,,0,1,0,6,0,0,0,0,0,0\n"), seeds.Options{}},
	}
}

// TestErrorsTellNoSecret damages files in every place and in several ways and looks for the secret in what is said about it.
func TestErrorsTellNoSecret(t *testing.T) {
	secret := []byte(rfcSecret)
	pieces := []string{hex.EncodeToString(secret), base32.StdEncoding.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret), rfcSecret}
	for name, f := range goodFiles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := seeds.Parse(bytes.NewReader(f.text), f.o); err != nil {
				t.Fatalf("as it is: %v", err)
			}
			errs := 0
			check := func(text []byte) {
				_, err := seeds.Parse(bytes.NewReader(text), f.o)
				if err == nil {
					return
				}
				errs++
				for _, piece := range pieces {
					for i := 0; i+8 <= len(piece); i += 4 {
						if strings.Contains(strings.ToLower(err.Error()), strings.ToLower(piece[i:i+8])) {
							t.Fatalf("%v", err)
						}
					}
				}
			}
			for i := 0; i < len(f.text); i += 1 + len(f.text)/400 { // not quite every place of a long one, for time
				for _, with := range []string{"", "&", "<", ",", "\"", "\n", "\xff", "Z"} {
					check([]byte(string(f.text[:i]) + with + string(f.text[i:])))
					check([]byte(string(f.text[:i]) + with + string(f.text[i+1:])))
				}
				check(f.text[i:])
				check(f.text[:i])
			}
			if errs < min(400, len(f.text)) {
				t.Errorf("only %d of the damaged files are refused", errs)
			}
		})
	}
}

var slow = regexp.MustCompile(`IterationCount[^>]*>\s*[0-9]{5}`)

func FuzzParse(f *testing.F) {
	for _, good := range goodFiles(f) {
		f.Add(good.text)
	}
	names, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(names) == 0 {
		f.Fatalf("no files (%v)", err)
	}
	for _, name := range names {
		f.Add(file(f, filepath.Base(name)))
	}
	f.Add([]byte("12345,vvvvvvcurikv,8792ebfe26cc,ecde18dbe76fbd0c33330f1c354871db,,2026-11-21T10:00:00,\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if slow.Match(text) {
			t.Skip("a key that takes long to derive, as it may")
		}
		for _, o := range []seeds.Options{{}, {Key: make([]byte, 16)}, {Passphrase: "qwerty"}} {
			o.Now = time.Unix(1<<30, 0)
			got, err := seeds.Parse(bytes.NewReader(text), o)
			if (err == nil) != (len(got) > 0) {
				t.Fatalf("%d seeds and error %v", len(got), err)
			}
			serials := map[string]bool{}
			for _, s := range got {
				if s.Serial == "" || serials[s.Serial] || len(s.Secret) < seeds.MinSecret || len(s.Secret) > seeds.MaxSecret || s.Line < 1 {
					t.Fatalf("out of bounds: %v at line %d, %d bytes", s, s.Line, len(s.Secret))
				}
				serials[s.Serial] = true
			}
		}
	})
}

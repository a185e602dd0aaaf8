package otp

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestYubicoVectors are Yubico's: of its page of test vectors (developers.yubico.com/OTP/Specifications/Test_vectors.html), of the tests of its C
// library, and of the documentation of its first server.
func TestYubicoVectors(t *testing.T) {
	for _, v := range []struct {
		otp, key, publicID, privateID string
		counter                       uint16 // as sealed
		session                       uint8
		timestamp                     uint32
		random                        uint16
	}{
		{"dvgtiblfkbgturecfllberrvkinnctnn", "000102030405060708090a0b0c0d0e0f", "", "010203040506", 1, 1, 0x010001, 0},
		{"rnibcnfhdninbrdebccrndfhjgnhftee", "000102030405060708090a0b0c0d0e0f", "", "010203040506", 1, 2, 0x010001, 0},
		{"iikkijbdknrrdhfdrjltvgrbkkjblcbh", "000102030405060708090a0b0c0d0e0f", "", "010203040506", 0xfff, 1, 0x010001, 0},
		{"dcihgvrhjeucvrinhdfddbjhfjftjdei", "88888888888888888888888888888888", "", "888888888888", 0x8888, 0x88, 0x888888, 0x8888},
		{"kkkncjnvcnenkjvjgncjihljiibgbhbh", "00000000000000000000000000000000", "", "000000000000", 0, 0, 0, 0},
		{"iucvrkjiegbhidrcicvlgrcgkgurhjnj", "c4422890653076cde73d449b191b416a", "", "33c69e7f249e", 1, 0, 0x2413a7, 0xc63c},
		{"dteffujehknhfjbrjnlnldnhcujvddbikngjrtgh", "ecde18dbe76fbd0c33330f1c354871db", "dteffuje", "8792ebfe26cc", 19, 17, 49712, 40904},
		{"enrlucvketdlfeknvrdggingjvrggeffenhevendbvgd", "4013a2c719c4e9734bbc63048b00e16b", "enrlucvketdl", "912a644bbc7b", 1, 0, 688051, 55936},
	} {
		for _, typed := range []string{v.otp, strings.ToUpper(v.otp)} {
			o, words := parseYubico(typed)
			if words != "" || o.PublicID != v.publicID {
				t.Errorf("%s: public id %q: %s", typed, o.PublicID, words)
			}
			got, err := o.Open(unhex(t, v.key))
			want := YubicoToken{[6]byte(unhex(t, v.privateID)), v.counter & 0x7fff, v.session, v.timestamp, v.random}
			if err != nil || got != want {
				t.Errorf("%s: %+v, not %+v (%v)", typed, got, want, err)
			}
		}
	}
}

// TestCRC16Vectors are of the tests of Yubico's C library.
func TestCRC16Vectors(t *testing.T) {
	for _, v := range []struct {
		in   []byte
		want uint16
	}{
		{[]byte{0, 1, 2, 3, 4}, 62919},
		{[]byte{0xfe}, 4470},
		{[]byte{0x55, 0xaa, 0, 0xff}, 52149},
		{[]byte{1, 2, 3, 4, 5, 6, 0x30, 0x75, 0, 9, 0x3d, 0xfa, 0x60, 0xea}, 35339},
	} {
		if got := crc16(v.in); got != v.want {
			t.Errorf("% x: %d, not %d", v.in, got, v.want)
		}
	}
}

const goodYubico = "enrlucvketdlfeknvrdggingjvrggeffenhevendbvgd"

func TestParseYubicoOTP(t *testing.T) {
	if o, words := ParseYubicoOTP(goodYubico); words != "" || o.PublicID != "enrlucvketdl" {
		t.Errorf("%+v: %s", o, words)
	}
	for name, bad := range map[string]string{
		"empty":                  "",
		"no public id":           goodYubico[12:],
		"public id of 8":         goodYubico[4:],
		"public id of 16":        "cccc" + goodYubico,
		"one too few":            goodYubico[1:],
		"one too many":           goodYubico + "c",
		"a letter that is none":  "a" + goodYubico[1:],
		"a digit":                goodYubico[:43] + "1",
		"a space":                goodYubico[:43] + " ",
		"a line break":           goodYubico[:43] + "\n",
		"two bytes, one letter":  goodYubico[:42] + "ž",
		"the Kelvin sign":        goodYubico[:43] + "\u212a", // its lower case is k, one byte for three
		"a zero byte":            goodYubico[:43] + "\x00",
		"a megabyte":             strings.Repeat("c", 1<<20),
		"another keyboard's own": "jpgygji" + goodYubico[7:],
	} {
		if o, words := ParseYubicoOTP(bad); words == "" || o != (YubicoOTP{}) || strings.Contains(words, goodYubico[:8]) {
			t.Errorf("%s: %+v, %q", name, o, words)
		}
	}
}

func TestYubicoOpenRefuses(t *testing.T) {
	o, words := ParseYubicoOTP(goodYubico)
	if words != "" {
		t.Fatal(words)
	}
	key := unhex(t, "4013a2c719c4e9734bbc63048b00e16b")
	for _, bad := range [][]byte{nil, key[:15], append(key[:16:16], 0), make([]byte, 24), make([]byte, 32)} {
		if _, err := o.Open(bad); err == nil || errors.Is(err, ErrYubicoChecksum) {
			t.Errorf("a key of %d bytes: %v", len(bad), err)
		}
	}
	other := append([]byte(nil), key...)
	other[15] ^= 1
	if token, err := o.Open(other); !errors.Is(err, ErrYubicoChecksum) || token != (YubicoToken{}) {
		t.Errorf("another key: %+v, %v", token, err)
	}
}

// TestYubicoAltered changes one character of a token: a block that opens to anything but noise has a chance of 1 in 65536, and these have none.
func TestYubicoAltered(t *testing.T) {
	key := unhex(t, "4013a2c719c4e9734bbc63048b00e16b")
	for i := YubicoPublicID; i < len(goodYubico); i++ {
		b := []byte(goodYubico)
		b[i] = modhex[(strings.IndexByte(modhex, b[i])+1)%16]
		o, words := ParseYubicoOTP(string(b))
		if words != "" {
			t.Fatal(words)
		}
		if token, err := o.Open(key); !errors.Is(err, ErrYubicoChecksum) {
			t.Errorf("character %d altered: %+v, %v", i, token, err)
		}
	}
}

// TestYubicoCounterOrders expects the order of counters to be that of power-ups first and presses second.
func TestYubicoCounterOrders(t *testing.T) {
	token := rapid.Custom(func(t *rapid.T) YubicoToken {
		return YubicoToken{UseCounter: rapid.Uint16Range(0, 0x7fff).Draw(t, "use"), SessionUse: rapid.Uint8().Draw(t, "session")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := token.Draw(t, "a"), token.Draw(t, "b")
		later := a.UseCounter > b.UseCounter || a.UseCounter == b.UseCounter && a.SessionUse > b.SessionUse
		if later != (a.Counter() > b.Counter()) || (a == b) != (a.Counter() == b.Counter()) {
			t.Fatalf("%+v has %d, %+v has %d", a, a.Counter(), b, b.Counter())
		}
	})
}

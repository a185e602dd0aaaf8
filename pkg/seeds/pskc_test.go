package seeds_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/seeds"
)

func options(t *testing.T, key string) seeds.Options {
	t.Helper()
	return seeds.Options{Key: unhex(t, key), Now: now}
}

var now = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

const (
	key6  = "12345678901234567890123456789012" // of figure 6, as the RFC gives it
	key32 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// TestRFC6030 reads the RFC's own figures, errata applied.
func TestRFC6030(t *testing.T) {
	hotp := func(serial, user string, line int) seeds.Seed {
		return seeds.Seed{Kind: "hotp", Serial: serial, User: user, Secret: []byte(rfcSecret), Algorithm: "SHA1", Digits: 8, Line: line}
	}
	may := time.Date(2006, 5, 15, 0, 0, 0, 0, time.UTC)
	for figure, tc := range map[int]struct {
		o    seeds.Options
		want seeds.Seed
		err  string
	}{
		2:  {seeds.Options{}, seeds.Seed{}, "line 6 (serial 12345678): secret must have 16 to 128 bytes, not 4"},
		3:  {seeds.Options{}, hotp("987654321", "UID=jsmith,DC=example-bank,DC=net", 14), ""},
		4:  {seeds.Options{}, seeds.Seed{}, "secret is missing; keys derived from a master key are not supported"},
		5:  {seeds.Options{}, hotp("987654321", "", 13), ""}, // without the second key, a PIN that the token checks
		6:  {options(t, key6), hotp("987654321", "", 28), ""},
		7:  {seeds.Options{Passphrase: "qwerty"}, hotp("987654321", "", 46), ""},
		8:  {options(t, key6), seeds.Seed{}, "EncryptionKey must be a pre-shared key or one derived from a passphrase"},
		10: {seeds.Options{Now: may}, seeds.Seed{}, "(serial 9999999): ExpiryDate has passed: the key expired at 2006-03-31T00:00:00Z"},
	} {
		t.Run(fmt.Sprint(figure), func(t *testing.T) {
			got, err := seeds.Parse(bytes.NewReader(file(t, fmt.Sprintf("rfc6030-figure%d.xml", figure))), tc.o)
			if tc.err != "" {
				refused(t, got, err, tc.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, tc.want)
		})
	}
}

// TestMadeByOthers reads files that python-pskc 1.2 encrypted: every value, with other keys and functions than the RFC's figures.
func TestMadeByOthers(t *testing.T) {
	want := []seeds.Seed{
		{Kind: "totp", Serial: "T-1001", User: "u-42", Label: "Grün", Secret: count(0, 32), Algorithm: "SHA256", Digits: 8, Period: 60},
		{Kind: "hotp", Serial: "H-1002", Secret: count(20, 40), Algorithm: "SHA1", Digits: 6, Counter: 7},
	}
	for name, o := range map[string]seeds.Options{"aes256.xml": options(t, key32), "pbkdf2.xml": {Passphrase: "correct horse battery"}} {
		got, err := seeds.Parse(bytes.NewReader(file(t, name)), o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range got {
			if got[i].Line == 0 {
				t.Errorf("%s: no line", name)
			}
			got[i].Line = 0
		}
		same(t, got, want...)
	}
}

func TestEncryptedIsBelievedOnlyWithItsMAC(t *testing.T) {
	figure6, figure7, both := string(file(t, "rfc6030-figure6.xml")), string(file(t, "rfc6030-figure7.xml")), string(file(t, "aes256.xml"))
	cut := func(s, from, to string) string {
		i := strings.Index(s, from)
		j := strings.Index(s, to) + len(to)
		if i < 0 || j < i {
			t.Fatalf("no %s…%s", from, to)
		}
		return s[:i] + s[j:]
	}
	swap := func(s, from, to string) string {
		if !strings.Contains(s, from) {
			t.Fatalf("no %s", from)
		}
		return strings.ReplaceAll(s, from, to)
	}
	right, passphrase := options(t, key6), seeds.Options{Passphrase: "qwerty"}
	for name, tc := range map[string]struct {
		text string
		o    seeds.Options
		want string
		is   error
	}{
		"no key":                       {figure6, seeds.Options{}, "", seeds.ErrKeyNeeded},
		"a passphrase for a key":       {figure6, passphrase, "", seeds.ErrKeyNeeded},
		"a wrong key":                  {figure6, options(t, "22345678901234567890123456789012"), "", seeds.ErrMismatch},
		"a key of another length":      {figure6, options(t, key32), "with a key of 16 bytes, and the key given has 32", nil},
		"a key of no length":           {figure6, seeds.Options{Key: []byte("short")}, "16, 24 or 32 bytes, not 5", nil},
		"no passphrase":                {figure7, seeds.Options{}, "", seeds.ErrPassphraseNeeded},
		"a key for a passphrase":       {figure7, right, "", seeds.ErrPassphraseNeeded},
		"a wrong passphrase":           {figure7, seeds.Options{Passphrase: "Qwerty"}, "", seeds.ErrMismatch},
		"a plain file in its place":    {string(file(t, "rfc6030-figure3.xml")), right, "", seeds.ErrNotEncrypted},
		"no MAC":                       {cut(figure6, "<ValueMAC>", "</ValueMAC>"), right, "encrypted without a MAC", nil},
		"no method of MAC":             {cut(figure6, "<MACMethod", "</MACMethod>"), right, "encrypted without a MAC", nil},
		"another MAC":                  {swap(figure6, "Su+N", "Su+O"), right, "", seeds.ErrMismatch},
		"a shorter MAC":                {swap(figure6, "Su+NvtQfmvfJzF6bmQiJqoLRExc=", "Su+NvtQf"), right, "", seeds.ErrMismatch},
		"another ciphertext":           {swap(figure6, "AAECAwQF", "AAECAwQG"), right, "", seeds.ErrMismatch},
		"half a block":                 {swap(figure6, "ESIzRFVmd4iZABEiM0RVZgKn6WjLaTC1sbeBMSvIhRejN9vJa2BOlSaMrR7I5wSX", "ESIzRFVmd4iZABEi"), right, "whole blocks", nil},
		"MAC of another value   ":      {swap(both, "GqWWBdqUSqPUf5GChEFuEAjmyiePRBVQF6Uuch/Kx/A=", "aKrQPIfI2gcC8BcuMxZojQ+qAk227S36PuAtGwot5YY="), options(t, key32), "", seeds.ErrMismatch},
		"a weak MAC":                   {swap(figure6, "#hmac-sha1", "#hmac-md5"), right, "MACMethod must be HMAC-SHA1 or HMAC-SHA256", nil},
		"a method unknown":             {swap(figure6, "#aes128-cbc", "#tripledes-cbc"), right, "by a method that is not supported", nil},
		"plain and encrypted":          {swap(figure6, "<EncryptedValue>", "<PlainValue>MTIz</PlainValue><EncryptedValue>"), right, "in plain text and encrypted", nil},
		"two secrets":                  {swap(figure6, "<Secret>", "<Secret><PlainValue>MTIz</PlainValue></Secret><Secret>"), right, "", seeds.ErrNotEncrypted},
		"two MAC methods":              {swap(figure6, "<KeyPackage>", `<MACMethod Algorithm="x"/><KeyPackage>`), right, "MACMethod is there twice", nil},
		"two keys":                     {swap(figure6, "<MACMethod", "<EncryptionKey/><MACMethod"), right, "EncryptionKey is there twice", nil},
		"a key that comes late":        {swap(cut(figure6, "<EncryptionKey>", "</EncryptionKey>"), "</KeyContainer>", "<EncryptionKey/></KeyContainer>"), right, "must come before the keys", nil},
		"no salt":                      {cut(figure7, "<Salt>", "</Salt>"), passphrase, "salt of 8 bytes or more", nil},
		"a short salt":                 {swap(figure7, "Ej7/PEpyEpw=", "Ej7/PEpy"), passphrase, "salt of 8 bytes or more", nil},
		"too many iterations":          {swap(figure7, ">1000<", ">10000001<"), passphrase, "1 to 10000000 iterations", nil},
		"far too many iterations":      {swap(figure7, ">1000<", ">99999999999999999999<"), passphrase, "IterationCount must be a whole number", nil},
		"no iterations":                {swap(figure7, ">1000<", ">0<"), passphrase, "1 to 10000000 iterations", nil},
		"a huge key":                   {swap(figure7, ">16<", ">4000000000<"), passphrase, "a key of 16, 24 or 32 bytes", nil},
		"another function":             {swap(figure7, "<PRF/>", `<PRF Algorithm="md5"/>`), passphrase, "PRF must be HMAC-SHA1 or HMAC-SHA256", nil},
		"another derivation":           {swap(figure7, "#pbkdf2", "#scrypt"), passphrase, "must be PBKDF2", nil},
		"a derivation without content": {cut(figure7, "<pkcs5:PBKDF2-params>", "</pkcs5:PBKDF2-params>"), passphrase, "salt of 8 bytes", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := seeds.Parse(strings.NewReader(tc.text), tc.o)
			refused(t, got, err, tc.want)
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v is not %v", err, tc.is)
			}
		})
	}

	// What may be left out: the name of a key that both know.
	got, err := seeds.Parse(strings.NewReader(cut(figure6, "<EncryptionKey>", "</EncryptionKey>")), right)
	if err != nil || len(got) != 1 || string(got[0].Secret) != rfcSecret {
		t.Errorf("without EncryptionKey: %v (%v)", got, err)
	}
}

// container wraps packages, on line 2 and below.
func container(packages string) string {
	return `<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc">` + "\n" + packages + "\n</KeyContainer>"
}

const plainSecret = "<Secret><PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret>"

// pack makes a package of one key.
func pack(algorithm, parameters, data, more string) string {
	return container(`<KeyPackage><DeviceInfo><SerialNo>S-1</SerialNo></DeviceInfo><Key Id="k" Algorithm="` + algorithm + `">` +
		`<AlgorithmParameters>` + parameters + `</AlgorithmParameters><Data>` + plainSecret + data + `</Data>` + more + `</Key></KeyPackage>`)
}

const (
	hotpURN = "urn:ietf:params:xml:ns:keyprov:pskc:hotp"
	totpURN = "urn:ietf:params:xml:ns:keyprov:pskc:totp"
)

func TestPSKCSettings(t *testing.T) {
	plain := func(name, value string) string {
		return "<" + name + "><PlainValue>" + value + "</PlainValue></" + name + ">"
	}
	hotp := seeds.Seed{Kind: "hotp", Serial: "S-1", Secret: []byte(rfcSecret), Algorithm: "SHA1", Digits: 6, Line: 2}
	totp := hotp
	totp.Kind, totp.Period = "totp", 30
	with := func(s seeds.Seed, change func(*seeds.Seed)) seeds.Seed {
		change(&s)
		return s
	}
	for name, tc := range map[string]struct {
		text string
		want seeds.Seed
	}{
		"HOTP by default":   {pack(hotpURN, "", "", ""), hotp},
		"HOTP of the draft": {pack("urn:ietf:params:xml:ns:keyprov:pskc#hotp", "", "", ""), hotp},
		"HOTP of an older":  {pack("http://www.ietf.org/keyprov/pskc#HOTP", "", "", ""), hotp},
		"TOTP by default":   {pack(totpURN, "", "", ""), totp},
		"TOTP of the draft": {pack("urn:ietf:params:xml:ns:keyprov:pskc#totp", "", "", ""), totp},
		"the draft's elements": {
			`<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc:1.0"><Device><DeviceInfo><SerialNo>S-1</SerialNo></DeviceInfo>` + "\n" +
				`<Key KeyId="k" KeyAlgorithm="urn:ietf:params:xml:ns:keyprov:pskc#totp"><Usage OTP="true"><ResponseFormat Length="8" Format="DECIMAL"/></Usage><Data>` +
				plainSecret + plain("Time", "0") + plain("TimeInterval", "60") + plain("TimeDrift", "4") + `</Data></Key></Device></KeyContainer>`,
			with(totp, func(s *seeds.Seed) { s.Digits, s.Period = 8, 60 }),
		},
		"a counter":                     {pack(hotpURN, "", plain("Counter", "4294967295"), ""), with(hotp, func(s *seeds.Seed) { s.Counter = seeds.MaxCounter })},
		"digits":                        {pack(hotpURN, `<ResponseFormat Length="7" Encoding="DECIMAL" CheckDigits="false"/>`, "", ""), with(hotp, func(s *seeds.Seed) { s.Digits = 7 })},
		"SHA-256":                       {pack(totpURN, `<Suite>HMAC-SHA256</Suite>`, "", ""), with(totp, func(s *seeds.Seed) { s.Algorithm = "SHA256" })},
		"SHA-512":                       {pack(totpURN, `<Suite>HmacSHA-512</Suite>`, "", ""), with(totp, func(s *seeds.Seed) { s.Algorithm = "SHA512" })},
		"a name in two languages":       {pack(hotpURN, "", "", `<FriendlyName>Blau</FriendlyName><FriendlyName xml:lang="fr">Bleu</FriendlyName>`), with(hotp, func(s *seeds.Seed) { s.Label = "Blau" })},
		"a policy that is met":          {pack(hotpURN, "", "", `<Policy><StartDate>2026-11-21T00:00:00Z</StartDate><ExpiryDate>2026-11-21T01:00:01+01:00</ExpiryDate><KeyUsage>CR</KeyUsage><KeyUsage>OTP</KeyUsage></Policy>`), hotp},
		"no serial number but an id":    {strings.Replace(pack(hotpURN, "", "", ""), "<SerialNo>S-1</SerialNo>", "", 1), with(hotp, func(s *seeds.Seed) { s.Serial = "k" })},
		"what is of others":             {pack(hotpURN, "", "", `<Extensions><x:Secret xmlns:x="urn:x"/></Extensions><x:Policy xmlns:x="urn:x"><a/></x:Policy>`), hotp},
		"a comment in the secret":       {strings.Replace(pack(hotpURN, "", "", ""), "MTIz", "MT<!-- -->Iz", 1), hotp},
		"white space inside the secret": {strings.Replace(pack(hotpURN, "", "", ""), "MTIz", " MT\n\tIz", 1), hotp},
		"a YubiKey (draft-josefsson-keyprov-pskc-yubikey)": {
			pack("http://www.yubico.com/#yubikey-aes", `<ResponseFormat Encoding="ALPHANUMERIC" Length="44"/>`, "", "<UserId>CN=ekhgjhbctrgn, UID=ca62baca62ba</UserId>"),
			seeds.Seed{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "a YubiKey") {
				tc.text = strings.Replace(tc.text, "MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", "Vpg1bTCGjEIB4m9mxYK7RQ==", 1)
				tc.want = seeds.Seed{
					Kind: "yubikey", Serial: "S-1", Secret: unhex(t, "5698356d30868c4201e26f66c582bb45"), PublicID: "ekhgjhbctrgn",
					PrivateID: unhex(t, "ca62baca62ba"), Line: 2,
				}
			}
			got, err := seeds.Parse(strings.NewReader(tc.text), seeds.Options{Now: now})
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, tc.want)
		})
	}
}

func TestPSKCRefused(t *testing.T) {
	ok := pack(hotpURN, "", "", "")
	policy := func(s string) string { return pack(hotpURN, "", "", "<Policy>"+s+"</Policy>") }
	secret := func(s string) string { return strings.Replace(ok, "MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", s, 1) }
	counter := func(s string) string {
		return pack(hotpURN, "", "<Counter><PlainValue>"+s+"</PlainValue></Counter>", "")
	}
	for name, tc := range map[string]struct{ text, want string }{
		"another algorithm":        {pack("urn:ietf:params:xml:ns:keyprov:pskc:ocra", "", "", ""), "line 2 (serial S-1): Algorithm must be that of HOTP, TOTP or Yubico OTP"},
		"no algorithm":             {pack("", "", "", ""), "Algorithm must be"},
		"a YubiKey without ids":    {pack("http://www.yubico.com/#yubikey-aes", "", "", "<UserId>u-42</UserId>"), "user must be CN="},
		"a short secret":           {secret("MTIzNDU2Nzg5MDEyMzQ1"), "(serial S-1): secret must have 16 to 128 bytes, not 15"},
		"a long secret":            {secret(strings.Repeat("MTIz", 43)), "secret must have 16 to 128 bytes, not 129"},
		"no base64":                {secret("!!!!"), "secret must be base64"},
		"no secret in it":          {secret(""), "secret is empty"},
		"an endless secret":        {secret(strings.Repeat("MTIz", 1025)), "secret has more than 4096 bytes"},
		"elements in a secret":     {secret("<b/>"), "must be text without elements"},
		"a huge counter":           {counter("4294967296"), "counter must be a whole number from 0 to 4294967295"},
		"an endless counter":       {counter("99999999999999999999999"), "counter must be a whole number"},
		"a counter below 0":        {counter("-1"), "counter must be a whole number"},
		"a counter of words":       {counter("one"), "counter must be a whole number"},
		"five digits":              {pack(hotpURN, `<ResponseFormat Length="5"/>`, "", ""), "digits must be 6 to 8"},
		"ten digits":               {pack(hotpURN, `<ResponseFormat Length="10"/>`, "", ""), "digits must be 6 to 8"},
		"bad digits":               {pack(hotpURN, `<ResponseFormat Length="0x6"/>`, "", ""), "digits must be a whole number"},
		"letters":                  {pack(hotpURN, `<ResponseFormat Length="6" Encoding="HEXADECIMAL"/>`, "", ""), "encoding DECIMAL"},
		"check digits":             {pack(hotpURN, `<ResponseFormat Length="6" CheckDigits="true"/>`, "", ""), "check digits"},
		"a format twice":           {pack(hotpURN, `<ResponseFormat Length="6"/><ResponseFormat Length="8"/>`, "", ""), "ResponseFormat is there twice"},
		"an attribute twice":       {pack(hotpURN, `<ResponseFormat Length="6" Length="8"/>`, "", ""), "Length is there twice"},
		"an endless attribute":     {pack(hotpURN, `<ResponseFormat Length="`+strings.Repeat("6", 5000)+`"/>`, "", ""), "Length has more than 4096 bytes"},
		"another hash":             {pack(totpURN, "<Suite>HMAC-MD5</Suite>", "", ""), "algorithm must be SHA1, SHA256 or SHA512"},
		"another period":           {pack(totpURN, "", "<TimeInterval><PlainValue>45</PlainValue></TimeInterval>", ""), "period must be 30 or 60 seconds"},
		"expired":                  {policy("<ExpiryDate>2026-11-21T00:00:00Z</ExpiryDate>"), "(serial S-1): ExpiryDate has passed"},
		"expired, without a zone":  {policy("<ExpiryDate>2026-11-20T23:59:59</ExpiryDate>"), "ExpiryDate has passed"},
		"not yet valid":            {policy("<StartDate>2026-11-21T00:00:01Z</StartDate>"), "StartDate has not come"},
		"an expired device":        {strings.Replace(ok, "<SerialNo>", "<ExpiryDate>2001-01-01T00:00:00Z</ExpiryDate><SerialNo>", 1), "ExpiryDate has passed"},
		"no date":                  {policy("<ExpiryDate>tomorrow</ExpiryDate>"), "must be a date and time"},
		"for encryption only":      {policy("<KeyUsage>Encrypt</KeyUsage>"), "must have OTP among its values"},
		"a PIN to be checked":      {policy(`<PINPolicy PINUsageMode="Append"/>`), "a PIN that the server checks"},
		"a number of uses":         {policy("<NumberOfTransactions>5</NumberOfTransactions>"), "limits the key in a way that is not supported"},
		"a policy of others":       {policy(`<x:Weekdays xmlns:x="urn:x"/>`), "limits the key in a way that is not supported"},
		"a bad serial":             {strings.Replace(ok, "S-1", "S&#xA;1", 1), "line 2: serial must have 1 to 64"},
		"no serial":                {strings.Replace(strings.Replace(ok, "S-1", "", 1), `Id="k"`, "", 1), "serial must have 1 to 64"},
		"a hidden mark in a user":  {pack(hotpURN, "", "", "<UserId>u\u202e1</UserId>"), "user must not have control characters"},
		"a serial twice":           {strings.Replace(ok, "</KeyContainer>", ok[strings.Index(ok, "<KeyP"):strings.Index(ok, "</KeyC")]+"</KeyContainer>", 1), "line 3 (serial S-1): serial is that of line 2 too"},
		"two keys of one device":   {strings.Replace(ok, "</KeyPackage>", ok[strings.Index(ok, "<Key Id"):strings.Index(ok, "</KeyP")]+"</KeyPackage>", 1), "serial is that of line 2 too"},
		"another version":          {strings.Replace(ok, `"1.0"`, `"2.0"`, 1), "Version must be 1.0"},
		"another root":             {`<html xmlns="urn:ietf:params:xml:ns:keyprov:pskc"/>`, "must be one KeyContainer"},
		"another namespace":        {`<KeyContainer Version="1.0" xmlns="urn:x"/>`, "must be one KeyContainer"},
		"two containers":           {ok + ok, "must be one KeyContainer"},
		"text behind it":           {ok + "text", "text outside its elements"},
		"an end that is missing":   {ok[:len(ok)-5], "not well-formed"},
		"ends that are crossed":    {strings.Replace(ok, "</Data>", "</Secret>", 1), "not well-formed"},
		"bytes that are not UTF-8": {strings.Replace(ok, "S-1", "\xff", 1), "not well-formed"},
		"another encoding":         {`<?xml version="1.0" encoding="UTF-7"?>` + ok, "file "},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := seeds.Parse(strings.NewReader(tc.text), seeds.Options{Now: now})
			refused(t, got, err, tc.want)
		})
	}
}

// TestBombs feeds what is small and would grow, or is deep, or long where nothing long belongs.
func TestBombs(t *testing.T) {
	ok := pack(hotpURN, "", "", "")
	laughs := `<!DOCTYPE KeyContainer [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>`
	inside := func(s string) string { return strings.Replace(ok, "<Data>", s+"<Data>", 1) }
	for name, tc := range map[string]struct{ text, want string }{
		"a billion laughs":        {laughs + strings.Replace(ok, "S-1", "&c;", 1), "document type"},
		"an external entity":      {`<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>` + strings.Replace(ok, "S-1", "&x;", 1), "document type"},
		"a document type alone":   {"<!DOCTYPE KeyContainer>" + ok, "document type"},
		"a document type inside":  {inside("<!DOCTYPE a>"), "document type"},
		"an entity of nobody":     {strings.Replace(ok, "S-1", "&nbsp;", 1), "not well-formed"},
		"as deep as allowed":      {inside(strings.Repeat("<a>", 29) + strings.Repeat("</a>", 29)), ""},
		"deeper":                  {inside(strings.Repeat("<a>", 30) + strings.Repeat("</a>", 30)), "more than 32 elements inside each other"},
		"endlessly deep":          {inside(strings.Repeat("<a>", 1<<18)), "more than 32 elements inside each other"},
		"a tag of attributes":     {inside("<a " + strings.Repeat(`b="" `, 20_000) + "/>"), "longer than 65536 bytes"},
		"a tag that never ends":   {inside("<" + strings.Repeat("a", 1<<18)), "longer than 65536 bytes"},
		"a comment without end":   {inside("<!--" + strings.Repeat(">", 1<<18)), "longer than 65536 bytes"},
		"text where none belongs": {inside(strings.Repeat(" ", 1<<18)), "longer than 65536 bytes"},
		"a field in pieces":       {strings.Replace(ok, "S-1", strings.Repeat("S<!-- -->", 5000), 1), "serial has more than 4096 bytes"},
		"a field in CDATA":        {strings.Replace(ok, "S-1", strings.Repeat("<![CDATA[S]]>", 5000), 1), "serial has more than 4096 bytes"},
		"elements without end":    {inside(strings.Repeat("<a/>", 1<<18)), "more than 1000000 bytes"},
		"a file without end":      {strings.Repeat("\n", 1<<20), "more than 1000000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := seeds.Parse(strings.NewReader(tc.text), seeds.Options{Now: now, MaxBytes: 1_000_000})
			if tc.want == "" {
				if err != nil {
					t.Errorf("%v", err)
				}
				return
			}
			refused(t, got, err, tc.want)
		})
	}
}

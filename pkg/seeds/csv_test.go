package seeds_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/seeds"
)

const (
	secretHex    = "3132333435363738393031323334353637383930"
	secretBase32 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	aesKey       = "ecde18dbe76fbd0c33330f1c354871db" // of Yubico's own examples
)

func TestCSV(t *testing.T) {
	text := strings.Join([]string{
		"Kind,Serial,Secret_Hex, secret_base32,user,label,digits,algorithm,period,counter,public_id,private_id,aes_key",
		"hotp,H-1," + secretHex + ",,u-1,Blue token,8,SHA1,,42,,,",
		`HOTP,"H 2",31323334 35363738 39303132 33343536 37383930,,,"Anna's, the second",,,,,,,`,
		",,,,,,,,,,,,",
		"",
		"totp,T-1,," + secretBase32 + ",u-2,,6,sha-256,60,,,,",
		"totp,T-2,,gezd gnbv gy3t qojq gezd gnbv gy3t qojq====,,,,,,,,,",
		"yubikey,4711,,,u-3,,,,,,vvvvvvcurikv,8792ebfe26cc," + aesKey,
		"yubikey,,,,,,,,,,VVVVVVCURIKT,8792EBFE26CC," + strings.ToUpper(aesKey),
	}, "\n")
	secret, key, id := []byte(rfcSecret), unhex(t, aesKey), unhex(t, "8792ebfe26cc")
	want := []seeds.Seed{
		{Kind: "hotp", Serial: "H-1", User: "u-1", Label: "Blue token", Secret: secret, Algorithm: "SHA1", Digits: 8, Counter: 42, Line: 2},
		{Kind: "hotp", Serial: "H 2", Label: "Anna's, the second", Secret: secret, Algorithm: "SHA1", Digits: 6, Line: 3},
		{Kind: "totp", Serial: "T-1", User: "u-2", Secret: secret, Algorithm: "SHA256", Digits: 6, Period: 60, Line: 6},
		{Kind: "totp", Serial: "T-2", Secret: secret, Algorithm: "SHA1", Digits: 6, Period: 30, Line: 7},
		{Kind: "yubikey", Serial: "4711", User: "u-3", Secret: key, PublicID: "vvvvvvcurikv", PrivateID: id, Line: 8},
		{Kind: "yubikey", Serial: "vvvvvvcurikt", Secret: key, PublicID: "vvvvvvcurikt", PrivateID: id, Line: 9},
	}
	for name, ends := range map[string]string{"Unix": "\n", "DOS": "\r\n"} {
		got, err := seeds.Parse(strings.NewReader(strings.ReplaceAll(text, "\n", ends)), seeds.Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		same(t, got, want...)
	}

	got, err := seeds.Parse(strings.NewReader("serial;kind;secret_hex;label\n1;hotp;"+secretHex+";a,b\n"), seeds.Options{})
	if err != nil {
		t.Fatalf("semicolons: %v", err)
	}
	same(t, got, seeds.Seed{Kind: "hotp", Serial: "1", Label: "a,b", Secret: []byte(rfcSecret), Algorithm: "SHA1", Digits: 6, Line: 2})
}

func TestCSVRefused(t *testing.T) {
	hotp := func(columns, cells string) string {
		return "kind,serial,secret_hex" + columns + "\nhotp,H-1," + secretHex + cells + "\n"
	}
	of := func(kind, columns, cells string) string {
		return "kind,serial" + columns + "\n" + kind + ",H-1" + cells + "\n"
	}
	yubikey := func(public, private, key string) string {
		return of("yubikey", ",public_id,private_id,aes_key", ","+public+","+private+","+key)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"no row of names":           {"hotp,H-1," + secretHex + "\n", "line 1: column 1 is not known: the first row must name the columns"},
		"a column of nobody":        {hotp(",colour", ",blue"), "line 1: column 4 is not known"},
		"a column twice":            {hotp(",serial", ",H-2"), "column serial is there twice"},
		"a secret of no form":       {of("hotp", ",secret", ","+secretHex), "column 3 must say how the secret is written"},
		"no column of kinds":        {"serial\n1\n", "column kind is missing"},
		"no column of serials":      {"kind\nhotp\n", "column serial is missing"},
		"another kind":              {of("sms", "", ""), "line 2 (serial H-1): kind must be hotp, totp or yubikey"},
		"no kind":                   {of("", "", ""), "kind must be"},
		"no secret":                 {of("hotp", "", ""), "secret is missing"},
		"two secrets":               {hotp(",secret_base32", ","+secretBase32), "secret_base32 must be empty where secret_hex is not"},
		"half a byte":               {of("hotp", ",secret_hex", ","+secretHex[1:]), "secret_hex must be hexadecimal"},
		"no hexadecimal":            {of("hotp", ",secret_hex", ",xx"+secretHex), "secret_hex must be hexadecimal"},
		"no base32":                 {of("hotp", ",secret_base32", ",1"+secretBase32), "secret_base32 must be base32"},
		"80 bits":                   {of("totp", ",secret_hex", ","+secretHex[:20]), "(serial H-1): secret must have 16 to 128 bytes, not 10"},
		"1032 bits":                 {of("totp", ",secret_hex", ","+strings.Repeat("ab", 129)), "secret must have 16 to 128 bytes, not 129"},
		"five digits":               {hotp(",digits", ",5"), "digits must be 6 to 8"},
		"nine digits":               {hotp(",digits", ",9"), "digits must be 6 to 8"},
		"digits of words":           {hotp(",digits", ",six"), "digits must be a whole number"},
		"another hash":              {hotp(",algorithm", ",MD5"), "algorithm must be SHA1, SHA256 or SHA512"},
		"a period of HOTP":          {hotp(",period", ",30"), "period must be empty for a hotp"},
		"a counter of TOTP":         {of("totp", ",secret_hex,counter", ","+secretHex+",0"), "counter must be empty for a totp"},
		"another period":            {of("totp", ",secret_hex,period", ","+secretHex+",31"), "period must be 30 or 60 seconds"},
		"no period at all":          {of("totp", ",secret_hex,period", ","+secretHex+",0"), "period must be 30 or 60 seconds"},
		"a huge counter":            {hotp(",counter", ",4294967296"), "counter must be a whole number from 0 to 4294967295"},
		"a counter below 0":         {hotp(",counter", ",-1"), "counter must be a whole number"},
		"a spreadsheet's counter":   {hotp(",counter", ",1E+05"), "counter must be a whole number"},
		"a spreadsheet's serial":    {"kind,serial,secret_hex\nhotp,2.6E+12," + secretHex + "\n", "line 2: serial must have"},
		"no serial":                 {"kind,serial,secret_hex\nhotp,," + secretHex + "\n", "serial must have"},
		"an endless serial":         {"kind,serial,secret_hex\nhotp," + strings.Repeat("1", 65) + "," + secretHex + "\n", "serial must have 1 to 64"},
		"an endless field":          {hotp(",label", ","+strings.Repeat("l", 4097)), "label has more than 4096 bytes"},
		"a long user":               {hotp(",user", ","+strings.Repeat("u", 129)), "user must have at most 128 characters"},
		"a label of two lines":      {hotp(",label", ",\"a\nb\""), "label must not have control characters"},
		"a label not in UTF-8":      {hotp(",label", ",\xff"), "label must be valid UTF-8"},
		"a row too short":           {"kind,serial,secret_hex\nhotp,H-1\n", "line 2: row has 2 cells, and there are 3 columns"},
		"a row too long":            {"kind,serial\nhotp,H-1,x\n", "line 2: row has 3 cells, and there are 2 columns"},
		"a quote that is not ended": {hotp(",label", `,"a`), "row is not as RFC 4180 has it"},
		"a serial twice":            {hotp("", "") + "hotp,H-2," + secretHex + "\ntotp,H-1," + secretHex + "\n", "line 4 (serial H-1): serial is that of line 2 too"},
		"a YubiKey's secret":        {of("yubikey", ",secret_hex", ","+secretHex), "secret_hex must be empty for a yubikey"},
		"an AES key of HOTP":        {of("hotp", ",aes_key", ","+aesKey), "aes_key must be empty for a hotp"},
		"no public id":              {yubikey("", "8792ebfe26cc", aesKey), "public_id must be 12 modhex characters"},
		"a short public id":         {yubikey("vvvvvvcuri", "8792ebfe26cc", aesKey), "public_id must be 12 modhex characters"},
		"a public id in hex":        {yubikey("8792ebfe26cc", "8792ebfe26cc", aesKey), "public_id must be 12 modhex characters"},
		"a short private id":        {yubikey("vvvvvvcurikv", "8792ebfe26", aesKey), "private_id must have 6 bytes"},
		"a private id in modhex":    {yubikey("vvvvvvcurikv", "vvvvvvcurikv", aesKey), "private_id must be hexadecimal"},
		"a short AES key":           {yubikey("vvvvvvcurikv", "8792ebfe26cc", aesKey[2:]), "AES-128 key of 16 bytes, not 15"},
		"a public id twice": {
			yubikey("vvvvvvcurikv", "8792ebfe26cc", aesKey) + "yubikey,H-2,vvvvvvcurikv,8792ebfe26cc," + aesKey, "line 3 (serial H-2): public_id is that of line 2 too",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := seeds.Parse(strings.NewReader(tc.text), seeds.Options{Format: seeds.CSV})
			refused(t, got, err, tc.want)
		})
	}
}

func TestYubico(t *testing.T) {
	key, id, secret := unhex(t, aesKey), unhex(t, "8792ebfe26cc"), []byte(rfcSecret)
	yubikey := func(serial, public string, line int) seeds.Seed {
		return seeds.Seed{Kind: "yubikey", Serial: serial, PublicID: public, PrivateID: id, Secret: key, Line: line}
	}
	hotp := func(serial string, digits int, counter int64, line int) seeds.Seed {
		return seeds.Seed{Kind: "hotp", Serial: serial, Secret: secret, Algorithm: "SHA1", Digits: digits, Counter: counter, Line: line}
	}
	for name, tc := range map[string]struct {
		text string
		want []seeds.Seed
	}{
		"the log of the Personalization Tool": {
			strings.Join([]string{
				"LOGGING START,11/21/26 10:43 PM",
				"Yubico OTP,11/21/26 10:43 PM,1,vvvvvvcurikv,8792ebfe26cc," + aesKey + ",,,0,0,0,0,0,0,0,0,0,0",
				"Yubico OTP,11/21/26, 10:44 PM,2,vvvvvvcurikt,8792ebfe26cc," + aesKey + ",,010203040506,0,0,0,0,0,0,0,0,0,0",
				"Static Password: Scan Code,11/21/26, 10:45 PM,2,,,0102,,,0,0,0,0,0,0,0,0,0,0",
				"Challenge-Response: HMAC-SHA1,11/21/26 10:45 PM,2,,," + secretHex + ",,,0,0,0,0,0,0,0,0,0,0",
				// "ub" (the maker) and "he" (the kind) stay in modhex, and the number is typed in digits
				"OATH-HOTP,11/21/26 10:46 PM,1,ubhecccccccb,," + secretHex + ",,,0,1,0,8,160,0,0,0,0,0",
				"OATH-HOTP,Sat, Nov 21, 2026,2,ubcccccccccd,," + secretHex + ",,,1,0,0,6,0,0,0,0,0,0",
				"OATH-HOTP,21.11.2026 22:46,2,vvcccccccccd,," + secretHex + ",,,0,0,1,6,0,0,0,0,0,0",
				"OATH-HOTP,21.11.2026 22:46,2,cccccccccccd,," + secretHex + ",,,0,0,0,6,0,0,0,0,0,0",
			}, "\n"),
			[]seeds.Seed{
				yubikey("vvvvvvcurikv", "vvvvvvcurikv", 2), yubikey("vvvvvvcurikt", "vvvvvvcurikt", 3),
				hotp("ubhe00000001", 8, 160, 6), hotp("ub0000000002", 6, 0, 7), hotp("vvcccccccccd", 6, 0, 8), hotp("000000000002", 6, 0, 9),
			},
		},
		"YubiKey Manager's output": {
			"12345678,vvvvvvcurikv,8792ebfe26cc," + aesKey + ",,2026-11-21T22:46:00,\n" +
				"12345679,vvvvvvcurikt,8792ebfe26cc," + aesKey + ",010203040506,2026-11-21T22:46:00,\n",
			[]seeds.Seed{yubikey("12345678", "vvvvvvcurikv", 1), yubikey("12345679", "vvvvvvcurikt", 2)},
		},
		"a key server's file": {
			"# ykksm 1\n# start 1\n1,vvvvvvcurikv,8792ebfe26cc," + aesKey + ",000000000000,2026-11-21T22:46:00,\n# the end\n",
			[]seeds.Seed{yubikey("1", "vvvvvvcurikv", 3)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := seeds.Parse(strings.NewReader(tc.text), seeds.Options{})
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, tc.want...)
		})
	}
}

func TestYubicoRefused(t *testing.T) {
	const rest = ",,,0,0,0,6,0,0,0,0,0,0"
	good := "Yubico OTP,today,1,vvvvvvcurikv,8792ebfe26cc," + aesKey + rest
	for name, tc := range map[string]struct{ text, want string }{
		"a key given twice":       {good + "\n" + good, "line 2 (serial vvvvvvcurikv): serial is that of line 1 too"},
		"another event":           {good + "\nYubico PIN,today,1,2,3,4,5,6", "line 2: row is neither"},
		"no slot":                 {strings.Replace(good, ",1,", ",3,", 1), "too few cells, or no slot"},
		"too few cells":           {"Yubico OTP,today,1,vvvvvvcurikv,8792ebfe26cc," + aesKey, "too few cells"},
		"nothing behind the name": {"Yubico OTP", "too few cells"},
		"no public id":            {strings.Replace(good, "vvvvvvcurikv", "", 1), "serial must have"},
		"an id not in modhex":     {strings.Replace(good, "vvvvvvcurikv", "0123456789ab", 1), "public_id must be 12 modhex"},
		"a private id too long":   {strings.Replace(good, "8792ebfe26cc", "8792ebfe26cc00", 1), "private_id must have 6 bytes"},
		"a private id not hex":    {strings.Replace(good, "8792ebfe26cc", "vvvvvvcurikv", 1), "private_id must be hexadecimal"},
		"a key not in hex":        {strings.Replace(good, aesKey, "x"+aesKey[1:], 1), "secret must be hexadecimal"},
		"a key of 20 bytes":       {strings.Replace(good, aesKey, secretHex, 1), "AES-128 key of 16 bytes, not 20"},
		"an endless cell":         {good + strings.Repeat("0", 5000), "more than 4096 bytes"},
		"HOTP without an id":      {"OATH-HOTP,today,1,,," + secretHex + rest, "the token has no id"},
		"HOTP with a wrong id":    {"OATH-HOTP,today,1,u8,," + secretHex + rest, "serial must be modhex"},
		"HOTP with half an id":    {"OATH-HOTP,today,1,ubc,," + secretHex + rest, "serial must be"},
		"HOTP of no digits":       {"OATH-HOTP,today,1,ubcc,," + secretHex + ",,,0,0,0,0,0", "digits must be 6 to 8"},
		"HOTP of a word's digits": {"OATH-HOTP,today,1,ubcc,," + secretHex + ",,,0,0,0,x,0", "digits must be a whole number"},
		"HOTP of a huge counter":  {"OATH-HOTP,today,1,ubcc,," + secretHex + ",,,0,0,0,6,4294967296", "counter must be a whole number"},
		"the Manager's other use": {"12345,ubhecccccccb,0," + secretHex + ",,2026-11-21T22:46:00,", "does not tell the digits"},
		"the Manager's wrong key": {"12345,vvvvvvcurikv,8792ebfe26cc,zz,,2026-11-21T22:46:00,", "secret must be hexadecimal"},
		"the Manager's wrong id":  {"12345,vvvvvvcurikv,zz," + aesKey + ",,2026-11-21T22:46:00,", "private_id must be hexadecimal"},
		"a quote that is open":    {good + "\n\"", "row is not as RFC 4180 has it"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := seeds.Parse(strings.NewReader(tc.text), seeds.Options{Format: seeds.Yubico})
			refused(t, got, err, tc.want)
		})
	}
}

func ExampleParse() {
	file := "kind,serial,secret_base32,user,digits\n" +
		"totp,2600215704919,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ,u-42,6\n"
	read, err := seeds.Parse(strings.NewReader(file), seeds.Options{})
	fmt.Println(read, err)

	_, err = seeds.Parse(strings.NewReader(file+"totp,1,AAAA,,9\n"), seeds.Options{})
	fmt.Println(err)
	// Output:
	// [totp 2600215704919] <nil>
	// read seeds: line 3 (serial 1): secret must have 16 to 128 bytes, not 2
}

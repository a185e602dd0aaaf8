package event

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/otpost/otpost/pkg/otp"
)

// onlyGoKnows reports whether a refusal is one of the few that no schema can make: how many digits a country's numbers have, what
// time it is, how many bytes something has, which countries there are, how long a text is in another form of Unicode, what is an IPv6 address.
func onlyGoKnows(p *otp.Problem) bool {
	says := func(words string) bool { return strings.Contains(p.Message, words) }
	switch p.Field {
	case "to.sms", "data.to.sms", "address":
		return !says("must") && !says("only")
	case "time":
		return says("must lie within")
	case "body", "credential":
		return says("bytes")
	case "country", "postal.country":
		return says("no country")
	case "passphrase":
		return says("characters")
	case "postal.postal_code":
		return says("ZIP")
	case "return_url", "reauthenticate_url":
		return says("IPv6")
	case "postal.region":
		return says("US state")
	}
	return false
}

// A reporter is a *testing.T, *testing.F or *rapid.T.
type reporter interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// agree proves that the schema and Go judge a message alike.
func agree(t reporter, k messageKind, body []byte) {
	t.Helper()
	refusal := k.refuse(body)
	p, _ := errors.AsType[*otp.Problem](refusal)
	if refusal != nil {
		if p == nil {
			t.Fatalf("a refusal that is no problem: %v", refusal)
		}
		checkProblem(t, p, body)
	}
	if _, err := parseJSON(body); err != nil {
		if _, ok := errors.AsType[*jsontext.SyntacticError](err); !ok {
			return // a number too large for this test's own reader
		}
	}
	against := accepts(k.schema, body)
	switch {
	case refusal == nil && against != nil:
		t.Fatalf("Go accepts what the schema refuses:\n%s\n%v", body, against)
	case refusal != nil && against == nil && !onlyGoKnows(p):
		t.Fatalf("the schema accepts what Go refuses:\n%s\n%v", body, p)
	}
}

// pieces are values that have broken a parser somewhere, and good values in the wrong place.
var pieces = []any{
	nil, true, false, 0.0, 1.0, -1.0, 1.5, 1e300, 4294967296.0,
	[]any{},
	[]any{nil},
	[]any{"sms"},
	map[string]any{},
	map[string]any{"": nil},
	map[string]any{"sms": "+14155550100"},
	map[string]any{"sms": ""},
	map[string]any{"email": "user@example.com", "sms": "+14155550100"},
	map[string]any{"ip": "::1"},
	map[string]any{"amount": "1 EUR", "payee": "Shop"},
	map[string]any{"amount": "1 EUR", "payee": ""},
	map[string]any{"label": "Phone"},
	map[string]any{"label": "\u200f"},
	"", " ", "\x00", "\n", "\x7f", "\u0085", "\u200b", "\u202e", "\u2028", "\ue000", "\U000e0001", "\ufffd", "\ufffe", "\U0010ffff", "\u0378", "\U0001fae9", "ž", "用户", "e\u0301",
	"1.0", "otpost.login.requested.v1", "application/json", "text/plain", "0193503c-7a80-7c1e-9d2a-3f1be2a45c07", "0193503C-7A80-7C1E-9D2A-3F1BE2A45C07",
	"00000000-0000-0000-0000-000000000000", "0193503c7a807c1e9d2a3f1be2a45c07",
	"sms", "SMS", "email", "totp", "hotp", "webauthn", "yubikey", "backup_code", "voice", "phone", "letter", "passphrase", "saved",
	[]any{"email"},
	[]any{"email", "email"},
	[]any{"totp", "passphrase"},
	[]any{"passphrase"},
	[]any{1.0},
	map[string]any{"id": "mGx0", "response": map[string]any{"userHandle": nil}},
	map[string]any{"name": "Jane", "line1": "1 Main Street", "city": "Praha", "country": "CZ"},
	map[string]any{"name": "Jane", "line1": "1 Main Street", "city": "Springfield", "country": "US"},
	map[string]any{"name": "\u3000", "line1": "1", "city": "x", "country": "CZ"},
	"K7Q2-9XW4M-3ZRT", "k7q2 9xw4m\u22123zro", "Ｋ7Q29XW4M3ZRT", "U7Q29XW4M3ZRT", "1234567890123", "ccccccbchvthlivuitriujjifivbvtrjkjfirllluurj",
	"CCCCCC BCHVTH-LIVUITRIUJJIFIVBVTRJKJFIRLLLUURJ", "ccccccbchvthlivuitriujjifivbvtrjkjfirllluura", "US", "us", "ZZ", "UK", "correct horse battery staple", "p\u200ca\u200cs\u200cs\u200cphrase",
	"110 00", "SW1A-1AA", "12#4", "97403-1234",
	"+14155550100", "14155550100", "+1 415 555 0100", "+1/415.555(0100)", "\u202a+14155550100\u202c", "+1415555010a", "+1+4155550100", "＋１４１５５５５０１００", "+999", "tel:+14155550100",
	"user@example.com", "User@Example.COM", "a.b+c@d-e.example", "user@-example.com", "user@example-.com", "user@example..com", "user@example.com.", ".user@example.com",
	"user@1.2.3.4", "user@x.1a", "user@@example.com", "user@example.com ", "user@xn--bcher-kva.example", "u'!#$%&*+/=?^_`{|}~-@example.com",
	"cs", "de-AT", "zh_Hant_TW", "c", "cs-", "cs-123456789", "en-a-b-c-d-e", "203.0.113.7", "203.0.113.07", "::ffff:192.0.2.1", "2001:db8::", "2001:db8::1%eth0", "1.2.3", "::1::",
	"2026-11-21T17:00:00Z", "2026-11-21T17:00:00.5+00:00", "2026-11-21T17:00:00.Z", "2026-11-21T24:00:00Z", "2026-11-21T17:00:60Z", "2026-11-21 17:00:00Z", "2026-02-29T17:00:00Z",
	"2026-11-21T17:00:00+24:00", "2026-11-21T17:00:00+23:60", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
	"123456", "123 456", "1-2-3-4", "۱۲۳۴", "𝟏𝟐𝟑𝟒", "12 34\u00a056", "1234\t", "12345678901", "abcd", "----", "1234\u200e",
	strings.Repeat("x", 64), strings.Repeat("ž", 64), strings.Repeat("x", 65), strings.Repeat("ž", 128), strings.Repeat("x", 129), strings.Repeat("x", 512), strings.Repeat("ž", 513),
	strings.Repeat("x", 1024), strings.Repeat("ž", 1025), strings.Repeat("1 ", 10), "1" + strings.Repeat("\u3000", 60) + "234", "1" + strings.Repeat("\u3000", 61) + "234",
}

var names = []string{"", "user", "session", "id", "time", "data", "to", "sms", "email", "code", "channel", "User", "unknown", "data_base64", "trace-id", "x\x00", "x\u202e", "ž", "partition", strings.Repeat("n", 100), strings.Repeat("\x01", 100)}

// places lists every object of a message.
func places(v any) []map[string]any {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	out := []map[string]any{m}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, places(m[k])...)
	}
	return out
}

// own copies an object: the next change may be made in it, and must not change what others drew, or put it into itself.
func own(v any) any {
	if m, ok := v.(map[string]any); ok {
		return maps.Clone(m)
	}
	return v
}

func mutate(t *rapid.T, doc any) {
	in := rapid.SampledFrom(places(doc)).Draw(t, "object")
	value := rapid.OneOf(rapid.SampledFrom(pieces), rapid.Map(rapid.StringN(0, 70, -1), func(s string) any { return s }))
	switch keys := slices.Sorted(maps.Keys(in)); rapid.SampledFrom([]string{"drop", "replace", "replace", "replace", "add"}).Draw(t, "how") {
	case "drop":
		if len(keys) > 0 {
			delete(in, rapid.SampledFrom(keys).Draw(t, "key"))
		}
	case "replace":
		if len(keys) > 0 {
			in[rapid.SampledFrom(keys).Draw(t, "key")] = own(value.Draw(t, "value"))
		}
	case "add":
		in[rapid.SampledFrom(names).Draw(t, "name")] = own(value.Draw(t, "value"))
	}
}

// TestMutatedMessages changes valid messages at one or two places, well or badly, and expects one verdict from both.
func TestMutatedMessages(t *testing.T) {
	for _, k := range kinds {
		if !k.incoming() {
			continue
		}
		t.Run(k.schema, func(t *testing.T) {
			valid := examples(t, k.schema, "valid")
			names := slices.Sorted(maps.Keys(valid))
			rapid.Check(t, func(t *rapid.T) {
				doc, err := parseJSON(valid[rapid.SampledFrom(names).Draw(t, "example")])
				if err != nil {
					t.Fatal(err)
				}
				for range rapid.IntRange(1, 2).Draw(t, "changes") {
					mutate(t, doc)
				}
				agree(t, k, Encode(doc))
			})
		})
	}
}

// TestEveryPieceAtEveryPlace is the same without chance: each value once in the place of each member, once as every member that the message might have
// besides, and once as one that it knows not. A member of a name that many messages have is tried in a few of them only: one check reads it everywhere.
func TestEveryPieceAtEveryPlace(t *testing.T) {
	const enough = 2
	tried := map[string]int{}
	for _, k := range kinds {
		if !k.incoming() {
			continue
		}
		t.Run(k.schema, func(t *testing.T) {
			for name, body := range examples(t, k.schema, "valid") {
				doc, err := parseJSON(body)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(name, "full") && name != "plain" && name != "over-another-channel" {
					continue
				}
				known, _ := schemaFile(t, k.schema+".json").value["properties"].(map[string]any)
				for i, in := range places(doc) {
					keys := append(slices.Collect(maps.Keys(in)), "unknown")
					if i == 0 { // the message itself
						keys = slices.AppendSeq(keys, maps.Keys(known))
					}
					slices.Sort(keys)
					keys = slices.Compact(keys)
					for _, key := range keys {
						was, had := in[key]
						if tried[key]++; tried[key] > enough {
							continue
						}
						for _, v := range pieces {
							in[key] = v
							agree(t, k, Encode(doc))
						}
						if delete(in, key); had {
							agree(t, k, Encode(doc))
							in[key] = was
						}
					}
				}
			}
		})
	}
}

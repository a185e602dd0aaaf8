package event

import "testing"

func seed(f *testing.F, schema string) messageKind {
	for _, side := range []string{"valid", "invalid"} {
		for _, body := range examples(f, schema, side) {
			f.Add(body)
		}
	}
	return kindOfSchema(f, schema)
}

// FuzzParseLogin looks for a body that breaks the parser, that makes a refusal quote what it must not, or that the schema judges otherwise.
func FuzzParseLogin(f *testing.F) {
	k := seed(f, "login.requested")
	f.Fuzz(func(t *testing.T, body []byte) { agree(t, k, body) })
}

// FuzzParseVerify is the same for answers.
func FuzzParseVerify(f *testing.F) {
	k := seed(f, "rpc.verify.request")
	f.Fuzz(func(t *testing.T, body []byte) { agree(t, k, body) })
}

// FuzzParseRequest is the same for the requests in the life of factors; which tells the request apart by its place in the list.
func FuzzParseRequest(f *testing.F) {
	for i, k := range kinds {
		if !k.incoming() {
			continue
		}
		for _, body := range examples(f, k.schema, "valid") {
			f.Add(uint8(i), body)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		if k := kinds[int(which)%len(kinds)]; k.incoming() {
			agree(t, k, body)
		}
	})
}

func BenchmarkParseLogin(b *testing.B) {
	for _, name := range []string{"minimal", "full"} {
		body := examples(b, "login.requested", "valid")[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, p := ParseLogin("shop", body, received); p != nil {
					b.Fatal(p)
				}
			}
		})
	}
}

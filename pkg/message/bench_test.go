package message

import "testing"

func BenchmarkSMS(b *testing.B) {
	c := newCatalog(b)
	web := login("cs-CZ")
	web.Origin = "https://shop.example"
	diacritics := payment("cs")
	diacritics.Transaction.Payee = "Kavárna Ořech"
	for name, in := range map[string]Input{"login": login("en"), "webotp": web, "transaction": payment("de"), "diacritics": diacritics} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.SMS(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEmail(b *testing.B) {
	c := newCatalog(b)
	in := payment("pl")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Email(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		newCatalog(b)
	}
}

package message

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

func setOwn(t *testing.T, c *Catalog, templates ...Template) {
	t.Helper()
	if err := c.SetOverrides(map[string][]Template{"shop": templates}); err != nil {
		t.Fatal(err)
	}
}

func TestOwnWordsAreThoseOfTheLanguageOrOfAll(t *testing.T) {
	c := newCatalog(t)
	setOwn(t, c,
		Template{Channel: otp.SMS, Purpose: "login", Text: "{{app}}: {{code}}. {{expires}}"},
		Template{Channel: otp.SMS, Purpose: "login", Locale: "de", Text: "{{code}} für {{app}}. {{expires}}"},
		Template{Channel: otp.SMS, Purpose: "transaction", Locale: "en", Text: "{{code}} pays {{amount}} to {{payee}}"},
		Template{Channel: otp.Voice, Purpose: "login", Locale: "fr", Text: "{{app}} : {{code}}."},
		Template{Channel: otp.WhatsApp, Purpose: "login", Locale: "de", Text: "WhatsApp {{code}}"},
	)
	for _, tt := range []struct {
		name   string
		render func(Input) (SMSMessage, error)
		in     Input
		want   string // empty for otpost's own
		locale string
	}{
		{"of the language", c.SMS, login("de"), "123456 für Shop. Der Code ist 5 Minuten gültig.", "de"},
		{"of a region of it", c.SMS, login("de-AT"), "123456 für Shop. Der Code ist 5 Minuten gültig.", "de"},
		{"of all others", c.SMS, login("fr"), "Shop: 123456. Ce code expire dans 5 minutes.", "fr"},
		{"of an unknown one", c.SMS, login("tlh"), "Shop: 123456. It expires in 5 minutes.", "en"},
		{"of a transaction", c.SMS, payment("en"), "123456 pays 39.99 EUR to Corner Books Ltd", "en"},
		{"not in this language", c.SMS, payment("fr"), "", "fr"},
		{"a call", c.Voice, login("fr"), "Shop : 1, 2, 3, 4, 5, 6.", "fr"},
		{"a call in another language", c.Voice, login("de"), "", "de"},
		{"WhatsApp has its own", c.WhatsApp, login("de"), "WhatsApp 123456", "de"},
		{"WhatsApp has those of SMS", c.WhatsApp, login("fr"), "Shop: 123456. Ce code expire dans 5 minutes.", "fr"},
	} {
		otposts, err := tt.render(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		other := tt.in
		other.AppKey = "bank"
		if m, err := tt.render(other); err != nil || m != otposts {
			t.Errorf("%s: another app says %q, %v", tt.name, m.Text, err)
		}
		tt.in.AppKey = "shop"
		if tt.want == "" {
			tt.want = otposts.Text
		}
		if m, err := tt.render(tt.in); err != nil || m.Text != tt.want || m.Locale != tt.locale {
			t.Errorf("%s: %q in %s, %v, want %q", tt.name, m.Text, m.Locale, err, tt.want)
		}
	}
	in := login("en")
	in.AppKey, in.Purpose = "shop", AddFactor
	if m, err := c.SMS(in); err != nil || !strings.HasSuffix(m.Text, "second factor. It expires in 5 minutes. Do not share it with anyone.") {
		t.Errorf("a purpose without words of its own: %q, %v", m.Text, err)
	}
}

func TestOwnWordsEndAsOthersDo(t *testing.T) {
	c := newCatalog(t)
	setOwn(t, c,
		Template{Channel: otp.SMS, Purpose: "login", Text: "Příliš žluťoučký kód {{app}} je {{code}}, {{expires}}, a nikdo jiný ho znát nemá."},
		Template{Channel: otp.SMS, Purpose: "recovery", Text: "{{code}}"})
	in := login("cs")
	in.AppKey, in.Origin = "shop", "https://shop.example"
	m, err := c.SMS(in)
	if want := "\n\n@shop.example #123456"; err != nil || !strings.HasSuffix(m.Text, want) {
		t.Errorf("%q, %v, want %q at the end", m.Text, err, want)
	}
	in.Style.Fold = true
	m, err = c.SMS(in)
	want := "Prilis zlutoucky kod Shop je 123456, Kod plati 5 minut., a nikdo jiny ho znat nema.\n\n@shop.example #123456"
	if err != nil || m.Text != want {
		t.Errorf("folded: %q, %v, want %q", m.Text, err, want)
	}
	in.Hash, in.Style.Fold = hash, true
	if m, err = c.SMS(in); err != nil || !strings.HasSuffix(m.Text, "nema.\n\n"+hash) {
		t.Errorf("with a hash: %q, %v", m.Text, err)
	}
	in.Purpose = Recovery
	if m, err = c.SMS(in); err != nil || m.Text != "123456" {
		t.Errorf("a recovery: %q, %v", m.Text, err)
	}
}

func TestOwnEmail(t *testing.T) {
	c := newCatalog(t)
	setOwn(t, c,
		Template{Channel: otp.Email, Purpose: "login", Text: "Hello,\nthis is {{app}}.\n\n{{code}}\n\n{{expires}}"},
		Template{
			Channel: otp.Email, Purpose: "transaction", Locale: "en", Subject: "{{app}} asks for {{code}}", Text: "{{amount}} to {{payee}}: {{code}}",
			HTML: `<p>{{amount}} to <b>{{payee}}</b>: <code>{{code}}</code> &amp; {{expires}}</p>`,
		})
	in := login("en")
	in.AppKey, in.App = "shop", "Shop <b>&"
	m, err := c.Email(in)
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "123456 is your Shop <b>& code" || m.Text != "Hello,\nthis is Shop <b>&.\n\n123456\n\nIt expires in 5 minutes.\n" || m.Locale != "en" {
		t.Errorf("%+v", m)
	}
	golden(t, "own-text.html", m.HTML)

	in = payment("en")
	in.AppKey, in.Transaction.Payee = "shop", `<a href="https://evil.example">{{code}}</a>`
	if m, err = c.Email(in); err != nil {
		t.Fatal(err)
	}
	if m.Subject != "Shop asks for 123456" || m.Text != `39.99 EUR to <a href="https://evil.example">{{code}}</a>: 123456`+"\n" {
		t.Errorf("%+v", m)
	}
	golden(t, "own-html.html", m.HTML)
	in.Locale = "de"
	if m, err = c.Email(in); err != nil || !strings.HasPrefix(m.Subject, "123456 ist Ihr Code") {
		t.Errorf("a language without words of its own: %q, %v", m.Subject, err)
	}
}

// What values contain is not looked into, whatever words they stand in.
func TestHostileStringsStayInTheirPlaceInOwnWords(t *testing.T) {
	c := newCatalog(t)
	setOwn(t, c,
		Template{Channel: otp.SMS, Purpose: "transaction", Text: "{{app}} {{code}} {{amount}} {{payee}}"},
		Template{Channel: otp.Email, Purpose: "transaction", Text: "{{app}}\n{{code}}\nAmount {{amount}}\nTo {{payee}}", HTML: "<p>{{app}}</p><p>{{code}}</p><p>{{amount}} {{payee}}</p>"})
	harmless := payment("en")
	harmless.AppKey = "shop"
	plain, err := c.Email(harmless)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range hostile {
		in := payment("en")
		in.AppKey, in.App, in.Transaction = "shop", s, &otp.Transaction{Amount: s, Payee: s}
		m, err := c.SMS(in)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		if lookalike.MatchString(m.Text) || strings.Contains(m.Text, "\n") {
			t.Errorf("%q: %q", s, m.Text)
		}
		checkLine(t, in, m.Text)
		e, err := c.Email(in)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		for _, r := range "<>" {
			if strings.Count(e.HTML, string(r)) != strings.Count(plain.HTML, string(r)) {
				t.Errorf("%q: HTML %s", s, e.HTML)
			}
		}
		if strings.Count(e.Text, "\n") != strings.Count(plain.Text, "\n") {
			t.Errorf("%q: text %q", s, e.Text)
		}
	}
}

// A template that is not fit, as one that an earlier version took may be, costs nobody the code.
func TestUnfitTemplatesAreLeftOut(t *testing.T) {
	c := newCatalog(t)
	err := c.SetOverrides(map[string][]Template{
		"shop": {{Channel: otp.SMS, Purpose: "login", Text: "{{kode}}"}, {Channel: otp.SMS, Purpose: "recovery", Text: "{{code}} recovers"}},
		"bank": {{Channel: otp.SMS, Purpose: "login", Text: "Bank {{code}}"}},
	})
	if err == nil || !strings.Contains(err.Error(), "shop") || !strings.Contains(err.Error(), "{{kode}}") || strings.Contains(err.Error(), "bank") {
		t.Errorf("error %v", err)
	}
	for app, want := range map[string]string{"shop": "123456 is your Shop code. It expires in 5 minutes. Do not share it with anyone.", "bank": "Bank 123456"} {
		in := login("en")
		in.AppKey = app
		if m, err := c.SMS(in); err != nil || m.Text != want {
			t.Errorf("%s: %q, %v, want %q", app, m.Text, err, want)
		}
	}
	in := login("en")
	in.AppKey, in.Purpose = "shop", Recovery
	if m, err := c.SMS(in); err != nil || m.Text != "123456 recovers" {
		t.Errorf("%q, %v", m.Text, err)
	}
	if err := c.SetOverrides(nil); err != nil {
		t.Fatal(err)
	}
	if m, err := c.SMS(in); err != nil || !strings.Contains(m.Text, "recovery code") {
		t.Errorf("after all were removed: %q, %v", m.Text, err)
	}
}

// Words are replaced while messages are rendered: each message is wholly of the old ones or wholly of the new ones.
func TestWordsAreReplacedAtOnce(t *testing.T) {
	c := newCatalog(t)
	words := func(mark string) map[string][]Template {
		return map[string][]Template{"shop": {{Channel: otp.Email, Purpose: "login", Subject: mark, Text: mark + " {{code}}"}}}
	}
	if err := c.SetOverrides(words("a")); err != nil {
		t.Fatal(err)
	}
	var (
		done    sync.WaitGroup
		stop    = make(chan struct{})
		changed = make(chan error, 1)
	)
	done.Go(func() {
		defer close(stop)
		for i := range 50 {
			if err := c.SetOverrides(words(string(rune('a' + i%2)))); err != nil {
				changed <- err
				return
			}
		}
	})
	for range 4 {
		done.Go(func() {
			in := login("en")
			in.AppKey = "shop"
			for {
				m, err := c.Email(in)
				if err != nil || !strings.HasPrefix(m.Text, m.Subject+" ") {
					t.Errorf("%q, %q, %v", m.Subject, m.Text, err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	done.Wait()
	select {
	case err := <-changed:
		t.Error(err)
	default:
	}
}

func TestOwnWordsDoNotChangeWhatInputIsRefused(t *testing.T) {
	c := newCatalog(t)
	setOwn(t, c, Template{Channel: otp.SMS, Purpose: "login", Text: "{{code}}"})
	in := login("en")
	in.AppKey, in.Life = "shop", time.Minute
	in.Code = "12"
	if _, err := c.SMS(in); !errors.Is(err, ErrInput) {
		t.Errorf("a short code: %v", err)
	}
	in = login("en")
	in.AppKey, in.App = "shop", "\u200b"
	if _, err := c.SMS(in); !errors.Is(err, ErrInput) {
		t.Errorf("no name: %v", err)
	}
}

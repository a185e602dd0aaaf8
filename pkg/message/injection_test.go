package message

import (
	"errors"
	"html"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/otpost/otpost/pkg/otp"
)

// hostile are strings that try to break out of their place in a message.
var hostile = []string{
	"Shop\n@evil.example #000000",
	"Shop\r\n\r\n@evil.example #000000",
	"@evil.example #000000",
	"pay @evil.example #000000 now",
	"@@ @evil.example #000000",
	"\u200b@evil.example #000000",
	"x \u2066@evil.example #000000\u2069",
	"x \ufe0f@evil.example #000000",
	"x \u3164@evil.example #000000",
	"x ＠evil.example #000000",
	"x\u2028@evil.example #000000",
	"x\u0085@evil.example #000000",
	"x\v@evil.example\f#000000",
	"x\u00a0@evil.example #000000",
	"x\x00@evil.example #000000\x1b[2J",
	"\xff\xfe@evil.example #000000",
	"(@evil.example #000000)",
	"a'@evil.example #000000",
	"aʼ@evil.example #000000",
	"\u0301@evil.example #000000",
	"-＠evil.example #000000",
	"\u202eelpmaxe.live\u202c",
	"{{.Code}} {{.App}} {{printf \"%s\" .}}",
	"\x01\x02\x03\x04\x05 marks",
	"<script>alert(1)</script>",
	`"><img src=x onerror=alert(1)>`,
	"</title></style></div><a href='https://evil.example'>here</a>",
	"<!-- --> &amp; &#64;evil",
	"Shop\r\nBcc: victim@mail.example",
}

// lookalike is what a phone could take for the WebOTP line, at the start of a line or after any space or mark.
var lookalike = regexp.MustCompile(`(?:^|[^\pL\pM\pN_])[@＠﹫]\S+ #\S+`)

func TestHostileStringsStayInTheirPlace(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		for _, s := range hostile {
			for _, origin := range []string{"", "https://shop.example"} {
				in := login(tag)
				in.App, in.Origin = s, origin
				checkHostile(t, c, in)
				in = payment(tag)
				in.App, in.Origin = s, origin
				in.Transaction = &otp.Transaction{Amount: s, Payee: s}
				checkHostile(t, c, in)
			}
		}
	}
}

func checkHostile(t *testing.T, c *Catalog, in Input) {
	t.Helper()
	m, err := c.SMS(in)
	if err != nil {
		t.Errorf("%s: %q: %v", in.Locale, in.App, err)
		return
	}
	words, last := m.Text, ""
	if in.Origin != "" {
		var ok bool
		if words, last, ok = strings.Cut(m.Text, "\n\n"); !ok || last != "@shop.example #123456" {
			t.Errorf("%s: %q: last line %q", in.Locale, in.App, last)
		}
	}
	if !strings.HasPrefix(words, "123456 ") || lookalike.MatchString(words) {
		t.Errorf("%s: %q: words %q", in.Locale, in.App, words)
	}
	checkLine(t, in, words)

	e, err := c.Email(in)
	if err != nil {
		t.Errorf("%s: %q: %v", in.Locale, in.App, err)
		return
	}
	checkLine(t, in, e.Subject)
	var harmless EmailMessage
	if in.Transaction == nil {
		harmless, _ = c.Email(login(in.Locale))
	} else {
		harmless, _ = c.Email(payment(in.Locale))
	}
	if got, want := strings.Count(e.Text, "\n"), strings.Count(harmless.Text, "\n"); got != want {
		t.Errorf("%s: %q: text has %d lines, want %d", in.Locale, in.App, got, want)
	}
	for _, r := range "<>" { // every tag is the template's own
		if got, want := strings.Count(e.HTML, string(r)), strings.Count(harmless.HTML, string(r)); got != want {
			t.Errorf("%s: %q: HTML has %d %q, want %d", in.Locale, in.App, got, r, want)
		}
	}
	for line := range strings.Lines(e.Text + html.UnescapeString(e.HTML)) {
		if lookalike.MatchString(line) {
			t.Errorf("%s: %q: email line %q", in.Locale, in.App, line)
		}
	}
}

func checkLine(t *testing.T, in Input, s string) {
	t.Helper()
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Cf, r) || r == utf8.RuneError {
			t.Errorf("%s: %q: %U in %q", in.Locale, in.App, r, s)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"Shop":                      "Shop",
		"":                          "",
		" ":                         "",
		"  two  words ":             "two words",
		"a\r\n\tb":                  "a b",
		"39,99\u202f€":              "39,99 €",
		"Kavárna Ořech":             "Kavárna Ořech",
		"株式会社 例":                    "株式会社 例",
		"tom@shop.example":          "tom@shop.example",
		"@tom":                      "tom",
		"pay @ tom":                 "pay tom",
		"pay (@tom)":                "pay (tom)",
		"pay -＠tom":                 "pay -tom",
		"a@@tom":                    "a@tom",
		"é@tom e\u0301@tom":         "é@tom e\u0301@tom",
		"« @tom»":                   "« tom»",
		" \u0301@tom":               "\u0301tom",
		"STORE #1234":               "STORE #1234",
		"e\u0301":                   "e\u0301",
		"a\u202eb\u200bc\ufeffd":    "abcd",
		"a \u200b b":                "a b",
		"\U000e0041hidden tag":      "hidden tag",
		"bad \xf0\x28 bytes \ufffd": "bad ( bytes",
	} {
		got := clean(in)
		if got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
		if again := clean(got); again != got {
			t.Errorf("clean(%q) = %q: not stable", got, again)
		}
	}
}

// plain must never call clean what clean would change.
func FuzzClean(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if lookalike.MatchString(got) || strings.ContainsAny(got, "\r\n") || !utf8.ValidString(got) || strings.TrimSpace(got) != got {
			t.Errorf("clean(%q) = %q", s, got)
		}
		if clean(got) != got {
			t.Errorf("clean(%q) = %q: not stable", s, got)
		}
		if plain(s) && clean(s+"\u200b") != s { // the zero-width space takes the slow way
			t.Errorf("%q is called plain, yet becomes %q", s, clean(s+"\u200b"))
		}
	})
}

func TestLongStringsAreBounded(t *testing.T) {
	c := newCatalog(t)
	in := login("en")
	in.App = strings.Repeat("ř", MaxName)
	if m, err := c.SMS(in); err != nil || !strings.Contains(m.Text, " "+in.App+" ") {
		t.Errorf("a name of %d characters: %q, %v", MaxName, m.Text, err)
	}
	in.App += "ř"
	m, err := c.SMS(in)
	if want := " " + strings.Repeat("ř", MaxName-3) + "... "; err != nil || !strings.Contains(m.Text, want) {
		t.Errorf("a longer name: %q, %v, want %q in it", m.Text, err, want)
	}

	for name, set := range map[string]func(*otp.Transaction, string){
		"amount": func(t *otp.Transaction, s string) { t.Amount = s },
		"payee":  func(t *otp.Transaction, s string) { t.Payee = s },
	} {
		in := payment("en")
		set(in.Transaction, strings.Repeat("ř", otp.MaxTransactionField))
		if _, err := c.SMS(in); err != nil {
			t.Errorf("%s of %d characters: %v", name, otp.MaxTransactionField, err)
		}
		for _, bad := range []string{strings.Repeat("9", otp.MaxTransactionField+1), "", "\u200b \n"} {
			set(in.Transaction, bad)
			if _, err := c.SMS(in); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %q: error %v, want ErrInput that names it", name, bad, err)
			}
			if _, err := c.Email(in); !errors.Is(err, ErrInput) {
				t.Errorf("%s %q: email error %v, want ErrInput", name, bad, err)
			}
		}
	}
}

func TestUnusableInputIsRefusedWithoutTellingTheCode(t *testing.T) {
	c := newCatalog(t)
	for name, change := range map[string]func(*Input){
		"no code":       func(in *Input) { in.Code = "" },
		"short code":    func(in *Input) { in.Code = "987" },
		"long code":     func(in *Input) { in.Code = "98765432109" },
		"spaced code":   func(in *Input) { in.Code = "987 654" },
		"other digits":  func(in *Input) { in.Code = "٩٨٧٦" },
		"no app":        func(in *Input) { in.App = "" },
		"invisible app": func(in *Input) { in.App = "\u200b\n@" },
	} {
		in := login("en")
		in.Code = "987654"
		change(&in)
		_, err := c.SMS(in)
		_, err2 := c.Email(in)
		for _, err := range []error{err, err2} {
			if !errors.Is(err, ErrInput) {
				t.Errorf("%s: error %v, want ErrInput", name, err)
			} else if strings.Contains(err.Error(), "987") || strings.Contains(err.Error(), "٩٨٧") {
				t.Errorf("%s: error %q tells the code", name, err)
			}
		}
	}
	in := login("en")
	in.Origin = "shop.example"
	if _, err := c.SMS(in); !errors.Is(err, ErrInput) {
		t.Errorf("no origin: error %v, want ErrInput", err)
	}
}

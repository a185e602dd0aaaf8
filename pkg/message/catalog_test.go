package message

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/otpost/otpost/pkg/otp"
)

// all are the languages promised, in the order of Locales.
var all = []string{"en", "cs", "de", "es", "fr", "it", "ja", "pl"}

func newCatalog(t testing.TB) *Catalog {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// login is a plain input; tests change what they are about.
func login(locale string) Input {
	return Input{App: "Shop", Code: "123456", Locale: locale, Life: 5 * time.Minute}
}

func payment(locale string) Input {
	in := login(locale)
	in.Transaction = &otp.Transaction{Amount: "39.99 EUR", Payee: "Corner Books Ltd"}
	return in
}

func TestLocales(t *testing.T) {
	if got := newCatalog(t).Locales(); !slices.Equal(got, all) {
		t.Errorf("locales %v, want %v", got, all)
	}
}

// The catalogs are read here without go-i18n, so that nothing it forgives is forgiven.
func TestCatalogsAreComplete(t *testing.T) {
	// CLDR's cardinal categories; "many" in French, Italian and Spanish is that of whole millions.
	forms := map[string][]string{
		"en": {"one", "other"}, "de": {"one", "other"}, "ja": {"other"},
		"es": {"many", "one", "other"}, "fr": {"many", "one", "other"}, "it": {"many", "one", "other"},
		"cs": {"few", "many", "one", "other"}, "pl": {"few", "many", "one", "other"},
	}
	placeholder := regexp.MustCompile(`\{\{\.\w+\}\}`)
	placeholders := func(s string) []string {
		found := placeholder.FindAllString(s, -1)
		slices.Sort(found)
		return found
	}
	read := func(tag string) map[string]any {
		b, err := files.ReadFile("locales/active." + tag + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatalf("%s: %v", tag, err)
		}
		return m
	}
	english := read("en")
	want, plurals := append(slices.Clone(phraseNames[:]), familyNames()...), map[string]bool{}
	for _, c := range counts {
		want, plurals[c.name] = append(want, c.name), true
	}
	if !slices.Equal(slices.Sorted(maps.Keys(english)), slices.Sorted(slices.Values(want))) {
		t.Errorf("en has messages %v, want %v", slices.Sorted(maps.Keys(english)), want)
	}
	for _, tag := range all {
		messages := read(tag)
		if got, want := slices.Sorted(maps.Keys(messages)), slices.Sorted(maps.Keys(english)); !slices.Equal(got, want) {
			t.Errorf("%s has messages %v, want %v", tag, got, want)
		}
		for id, m := range messages {
			if plurals[id] {
				plural := m.(map[string]any)
				if got := slices.Sorted(maps.Keys(plural)); !slices.Equal(got, forms[tag]) {
					t.Errorf("%s: %s has forms %v, want %v", tag, id, got, forms[tag])
				}
				for form, s := range plural {
					if got := placeholders(s.(string)); !slices.Equal(got, []string{"{{.PluralCount}}"}) {
						t.Errorf("%s: %s (%s) has placeholders %v", tag, id, form, got)
					}
				}
				continue
			}
			if got, want := placeholders(m.(string)), placeholders(english[id].(string)); !slices.Equal(got, want) {
				t.Errorf("%s: %s has placeholders %v, want %v", tag, id, got, want)
			}
			if strings.ContainsAny(m.(string), "@\n") {
				t.Errorf("%s: %s has an \"@\" or a line break", tag, id)
			}
		}
	}
}

func TestBrokenCatalogsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		locale string
		change func(map[string]any)
		want   string
	}{
		"message missing":      {"de", func(m map[string]any) { delete(m, "keep_secret") }, `message "keep_secret"`},
		"message empty":        {"de", func(m map[string]any) { m["keep_secret"] = " " }, "is empty"},
		"placeholder missing":  {"it", func(m map[string]any) { m["subject"] = "Codice {{.App}}" }, "placeholders"},
		"placeholder unknown":  {"it", func(m map[string]any) { m["subject"] = "{{.Kode}}" }, "Kode"},
		"code not first":       {"fr", func(m map[string]any) { m["sms_login"] = "{{.App}} {{.Code}} {{.Expires}}" }, "does not begin with the code"},
		"plural form missing":  {"pl", func(m map[string]any) { delete(m["expires"].(map[string]any), "few") }, `plural form "few"`},
		"line break":           {"cs", func(m map[string]any) { m["sms_login"] = "{{.Code}}\n{{.App}} {{.Expires}}" }, "control character"},
		"notice missing":       {"ja", func(m map[string]any) { delete(m, "notice_factor_added_body") }, `message "notice_factor_added_body"`},
		"factor not named":     {"ja", func(m map[string]any) { delete(m, "factor_yubikey") }, `message "factor_yubikey"`},
		"notice lacks advice":  {"es", func(m map[string]any) { m["notice_deactivated_sms"] = "{{.App}}: {{.When}}." }, "placeholders"},
		"notice begins oddly":  {"es", func(m map[string]any) { m["notice_deactivated_sms"] = "{{.When}} {{.App}} {{.Advice}}" }, "does not begin with the app"},
		"code of a recovery":   {"es", func(m map[string]any) { m["sms_recovery"] = "{{.App}} {{.Code}} {{.Expires}} {{.App}}" }, "does not begin with the code"},
		"hours lack a form":    {"cs", func(m map[string]any) { delete(m["expires_hours"].(map[string]any), "few") }, `plural form "few"`},
		"days lack a form":     {"pl", func(m map[string]any) { delete(m["expires_days"].(map[string]any), "many") }, `plural form "many"`},
		"left lacks a form":    {"en", func(m map[string]any) { delete(m["left"].(map[string]any), "one") }, `plural form "one"`},
		"English itself short": {"en", func(m map[string]any) { delete(m, "subject") }, `message "subject"`},
	} {
		t.Run(name, func(t *testing.T) {
			broken := fstest.MapFS{}
			err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				b, err := files.ReadFile(path)
				if path == "locales/active."+c.locale+".json" {
					var m map[string]any
					if err := json.Unmarshal(b, &m); err != nil {
						return err
					}
					c.change(m)
					if b, err = json.Marshal(m); err != nil {
						return err
					}
				}
				broken[path] = &fstest.MapFile{Data: b}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := load(broken); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestLocaleIsTheBestMatch(t *testing.T) {
	c := newCatalog(t)
	for _, m := range []struct{ asked, fallback, want string }{
		{"de", "", "de"},
		{"de-AT", "", "de"},
		{"de_CH", "", "de"},
		{"DE", "", "de"},
		{"es-419", "", "es"},
		{"en-GB", "cs", "en"},
		{"fr-CA-u-nu-latn", "", "fr"},
		{"ja-Jpan-JP", "", "ja"},
		{"cs-XY", "", "cs"},   // unknown region, known language
		{"lb", "en", "de"},    // CLDR: Luxembourgers read German
		{"pt", "fr", "fr"},    // no catalog: the app's default
		{"pt", "fr-BE", "fr"}, // which is matched as well
		{"pt", "", "en"},      // and then English
		{"pt", "sw", "en"},    //
		{"", "pl", "pl"},      //
		{"", "", "en"},        //
		{"und", "it", "it"},   // says nothing of the language
		{"x-elvish", "it", "it"},
		{"../../etc/passwd", "it", "it"},
		{"de\r\nBcc: x", "it", "it"},
		{"de;q=0.1", "it", "it"},
		{"\xff\xfe", "it", "it"},
		{strings.Repeat("de-", 5000) + "AT", "it", "it"},
	} {
		for range 2 { // the second time from memory
			in := login(m.asked)
			in.Fallback = m.fallback
			s, err := c.SMS(in)
			if err != nil {
				t.Fatal(err)
			}
			e, err := c.Email(in)
			if err != nil {
				t.Fatal(err)
			}
			if s.Locale != m.want || e.Locale != m.want {
				t.Errorf("%.40q, fallback %q: sms %q, email %q, want %q", m.asked, m.fallback, s.Locale, e.Locale, m.want)
			}
		}
	}
}

func TestRememberedLocalesAreBounded(t *testing.T) {
	c := newCatalog(t)
	for i := range 2 * maxRemembered {
		if got := c.locale(fmt.Sprintf("de-x-%d", i), "").name; got != "de" {
			t.Fatalf("de-x-%d: %q, want de", i, got)
		}
	}
	if n := len(*c.matched.Load()); n != maxRemembered {
		t.Errorf("%d names remembered, want %d", n, maxRemembered)
	}
}

func TestConcurrentUse(t *testing.T) {
	c := newCatalog(t)
	want := make(map[string]EmailMessage)
	wantSMS := make(map[string]SMSMessage)
	for _, tag := range all {
		want[tag], _ = c.Email(payment(tag))
		wantSMS[tag], _ = c.SMS(payment(tag))
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 200 {
				tag := all[(worker+i)%len(all)]
				in := payment(fmt.Sprintf("%s-x-%d", tag, i)) // not remembered yet: readers and writers meet
				if got, err := c.SMS(in); err != nil || got != wantSMS[tag] {
					t.Errorf("%s: %v, %+v, want %+v", in.Locale, err, got, wantSMS[tag])
				}
				if got, err := c.Email(in); err != nil || got != want[tag] {
					t.Errorf("%s: %v, email differs from that of %s", in.Locale, err, tag)
				}
			}
		})
	}
	wg.Wait()
}

package message

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

func TestMinutesInWords(t *testing.T) {
	counts := []int{1, 2, 5, 21, 22}
	for tag, want := range map[string][]string{
		"en": {"1 minute.", "2 minutes.", "5 minutes.", "21 minutes.", "22 minutes."},
		"cs": {"1 minutu.", "2 minuty.", "5 minut.", "21 minut.", "22 minut."},
		"de": {"1 Minute gültig.", "2 Minuten gültig.", "5 Minuten gültig.", "21 Minuten gültig.", "22 Minuten gültig."},
		"es": {"1 minuto.", "2 minutos.", "5 minutos.", "21 minutos.", "22 minutos."},
		"fr": {"1 minute.", "2 minutes.", "5 minutes.", "21 minutes.", "22 minutes."},
		"it": {"1 minuto.", "2 minuti.", "5 minuti.", "21 minuti.", "22 minuti."},
		"ja": {"有効期間は1分です。", "有効期間は2分です。", "有効期間は5分です。", "有効期間は21分です。", "有効期間は22分です。"},
		"pl": {"1 minutę.", "2 minuty.", "5 minut.", "21 minut.", "22 minuty."},
	} {
		c := newCatalog(t)
		for i, n := range counts {
			in := login(tag)
			in.Life = time.Duration(n) * time.Minute
			m, err := c.SMS(in)
			if err != nil {
				t.Fatal(err)
			}
			// The space before the number keeps "1 minute" from being found in "21 minute".
			w := want[i]
			if tag != "ja" {
				w = " " + w
			}
			if !strings.Contains(m.Text, w) {
				t.Errorf("%s, %d minutes: %q has not %q", tag, n, m.Text, w)
			}
			e, err := c.Email(in)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(e.Text, w) || strings.Count(e.HTML, w) != 2 { // preheader and body
				t.Errorf("%s, %d minutes: email has not %q", tag, n, w)
			}
		}
	}
}

func TestLifeIsRoundedUp(t *testing.T) {
	c := newCatalog(t)
	for life, want := range map[time.Duration]string{
		-time.Hour:                    " 1 minute.",
		0:                             " 1 minute.",
		time.Nanosecond:               " 1 minute.",
		time.Minute:                   " 1 minute.",
		time.Minute + 1:               " 2 minutes.",
		4*time.Minute + 1*time.Second: " 5 minutes.",
		5 * time.Minute:               " 5 minutes.",
		time.Hour:                     " 60 minutes.",
		1<<63 - 1:                     " 60 minutes.",
	} {
		in := login("en")
		in.Life = life
		if m, err := c.SMS(in); err != nil || !strings.Contains(m.Text, want) {
			t.Errorf("%v: %q, %v, want %q in it", life, m.Text, err, want)
		}
	}
}

// gsm7 returns the septets that s takes in the GSM 7-bit default alphabet and its extension (3GPP TS 23.038, section 6.2.1);
// ok is false when it has another character.
func gsm7(s string) (septets int, ok bool) {
	const basic = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	const extension = "\f^{}\\[~]|€"
	for _, r := range s {
		switch {
		case strings.ContainsRune(basic, r):
			septets++
		case strings.ContainsRune(extension, r):
			septets += 2
		default:
			return 0, false
		}
	}
	return septets, true
}

func TestSMSFitsOneSegmentWhereTheLanguageAllows(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		plain, web, paid := login(tag), login(tag), payment(tag)
		web.Origin = "https://login.shop.example"
		for name, in := range map[string]Input{"plain": plain, "with WebOTP line": web, "with transaction": paid} {
			m, err := c.SMS(in)
			if err != nil {
				t.Fatal(err)
			}
			n, ok := gsm7(m.Text)
			switch tag {
			case "cs", "ja":
				units := len(utf16.Encode([]rune(m.Text)))
				if limit := map[string]int{"plain": 70}[name]; ok || units > max(limit, 134) || name == "plain" && units > limit {
					t.Errorf("%s %s: %d UTF-16 units (GSM: %v): %q", tag, name, units, ok, m.Text)
				}
			default:
				if !ok || n > 160 {
					t.Errorf("%s %s: %d septets (GSM: %v): %q", tag, name, n, ok, m.Text)
				}
			}
		}
	}
}

func TestEmailHasTheCodeInSubjectAndPreheaderAndNothingToFetch(t *testing.T) {
	c := newCatalog(t)
	first := regexp.MustCompile(`<body[^>]*>\s*<div style="display:none[^"]*">([^<]*)</div>`)
	for _, tag := range all {
		for _, in := range []Input{login(tag), payment(tag)} {
			in.Code = "0123456789"
			in.Origin = "https://shop.example" // for SMS only
			m, err := c.Email(in)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(m.Subject, in.Code) || !strings.Contains(m.Subject, in.App) {
				t.Errorf("%s: subject %q", tag, m.Subject)
			}
			pre := first.FindStringSubmatch(m.HTML)
			if pre == nil || !strings.Contains(pre[1], in.Code) || !strings.Contains(pre[1], in.App) {
				t.Errorf("%s: preheader %q", tag, pre)
			}
			if !strings.Contains(m.HTML, `<html lang="`+tag+`">`) {
				t.Errorf("%s: language not declared", tag)
			}
			if !strings.Contains(m.HTML, ">"+in.Code+"</p>") || !strings.Contains(m.Text, "\n    "+in.Code+"\n") {
				t.Errorf("%s: the code does not stand by itself", tag)
			}
			for _, bad := range []string{"<a", "<img", "<link", "<script", "<form", "<iframe", "<table", "src=", "href", "url(", "@import", "//", "shop.example"} {
				if strings.Contains(m.HTML, bad) {
					t.Errorf("%s: HTML has %q", tag, bad)
				}
			}
			if strings.Contains(m.HTML, "ZgotmplZ") || strings.Contains(m.HTML+m.Text+m.Subject, "<no value>") {
				t.Errorf("%s: a template was not filled", tag)
			}
		}
	}
}

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

func TestLifeIsToldInTheUnitThatFits(t *testing.T) {
	c := newCatalog(t)
	for life, want := range map[time.Duration]string{
		-time.Hour:                    " 1 minute.",
		0:                             " 1 minute.",
		time.Nanosecond:               " 1 minute.",
		time.Minute:                   " 1 minute.",
		time.Minute + 1:               " 2 minutes.",
		4*time.Minute + 1*time.Second: " 5 minutes.",
		5 * time.Minute:               " 5 minutes.",
		59 * time.Minute:              " 59 minutes.",
		59*time.Minute + 1:            " 1 hour.",
		time.Hour:                     " 1 hour.",
		119*time.Minute - underway:    " 1 hour.",
		2*time.Hour - underway:        " 2 hours.",
		23 * time.Hour:                " 23 hours.",
		24*time.Hour - time.Minute:    " 24 hours.",
		48 * time.Hour:                " 48 hours.",
		48*time.Hour + time.Minute:    " 48 hours.",
		48*time.Hour + underway:       " 2 days.",
		72*time.Hour - underway - 1:   " 2 days.",
		72*time.Hour - underway:       " 3 days.",
		21 * 24 * time.Hour:           " 21 days.",
		60 * 24 * time.Hour:           " 60 days.",
		1<<63 - 1:                     " 60 days.",
	} {
		in := login("en")
		in.Life = life
		if m, err := c.SMS(in); err != nil || !strings.Contains(m.Text, want) {
			t.Errorf("%v: %q, %v, want %q in it", life, m.Text, err, want)
		}
	}
}

func TestHoursAndDaysInWords(t *testing.T) {
	const day = 24 * time.Hour
	lives := []time.Duration{time.Hour, 2 * time.Hour, 5 * time.Hour, 22 * time.Hour, 24 * time.Hour, 2*day + time.Hour, 21 * day, 22 * day, 30 * day}
	for tag, want := range map[string][]string{
		"en": {"1 hour.", "2 hours.", "5 hours.", "22 hours.", "24 hours.", "2 days.", "21 days.", "22 days.", "30 days."},
		"cs": {"1 hodinu.", "2 hodiny.", "5 hodin.", "22 hodin.", "24 hodin.", "2 dny.", "21 dní.", "22 dní.", "30 dní."},
		"de": {
			"1 Stunde gültig.", "2 Stunden gültig.", "5 Stunden gültig.", "22 Stunden gültig.", "24 Stunden gültig.",
			"2 Tage gültig.", "21 Tage gültig.", "22 Tage gültig.", "30 Tage gültig.",
		},
		"es": {"1 hora.", "2 horas.", "5 horas.", "22 horas.", "24 horas.", "2 días.", "21 días.", "22 días.", "30 días."},
		"fr": {"1 heure.", "2 heures.", "5 heures.", "22 heures.", "24 heures.", "2 jours.", "21 jours.", "22 jours.", "30 jours."},
		"it": {"1 ora.", "2 ore.", "5 ore.", "22 ore.", "24 ore.", "2 giorni.", "21 giorni.", "22 giorni.", "30 giorni."},
		"ja": {
			"有効期間は1時間です。", "有効期間は2時間です。", "有効期間は5時間です。", "有効期間は22時間です。", "有効期間は24時間です。",
			"有効期間は2日間です。", "有効期間は21日間です。", "有効期間は22日間です。", "有効期間は30日間です。",
		},
		"pl": {"1 godzinę.", "2 godziny.", "5 godzin.", "22 godziny.", "24 godziny.", "2 dni.", "21 dni.", "22 dni.", "30 dni."},
	} {
		c := newCatalog(t)
		for i, life := range lives {
			in := login(tag)
			in.Purpose, in.Life = Recovery, life
			w := want[i]
			if tag != "ja" {
				w = " " + w
			}
			m, err := c.SMS(in)
			if err != nil || !strings.Contains(m.Text, w) {
				t.Errorf("%s, %v: %q, %v, want %q in it", tag, life, m.Text, err, w)
			}
			e, err := c.Email(in)
			if err != nil || !strings.Contains(e.Text, w) {
				t.Errorf("%s, %v: email has not %q (%v)", tag, life, w, err)
			}
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
		added, addedWeb, address := login(tag), web, login(tag)
		added.Purpose, addedWeb.Purpose, address.Purpose = AddFactor, AddFactor, ResetAddress
		for name, in := range map[string]Input{
			"plain": plain, "with WebOTP line": web, "with transaction": paid, "add": added, "add with WebOTP line": addedWeb, "reset address": address,
		} {
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

// The code of a recovery comes with a warning and may cost two segments, but no third one.
func TestSMSOfARecoveryFitsTwoSegments(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		in := login(tag)
		in.Purpose, in.Life = Recovery, 10*time.Minute
		m, err := c.SMS(in)
		if err != nil {
			t.Fatal(err)
		}
		checkSegments(t, tag, m.Text, 2)
	}
}

// checkSegments holds a text that is longer than one segment to so many of 153 septets or, where the language is not written in the
// GSM alphabet, of 67 UTF-16 units (3GPP TS 23.040, section 9.2.3.24.1).
func checkSegments(t *testing.T, tag, text string, most int) {
	t.Helper()
	n, ok := gsm7(text)
	segment := 153
	if tag == "cs" || tag == "ja" || tag == "pl" && !ok {
		n, ok, segment = len(utf16.Encode([]rune(text))), true, 67
	}
	if !ok || n > most*segment {
		t.Errorf("%s: %d units of %d (GSM: %v): %q", tag, n, most*segment, ok, text)
	}
}

func TestEmailHasTheCodeInSubjectAndPreheaderAndNothingToFetch(t *testing.T) {
	c := newCatalog(t)
	first := regexp.MustCompile(`<body[^>]*>\s*<div style="display:none[^"]*">([^<]*)</div>`)
	for _, tag := range all {
		added, recovery, address := login(tag), login(tag), login(tag)
		added.Purpose, recovery.Purpose, address.Purpose = AddFactor, Recovery, ResetAddress
		for _, in := range []Input{login(tag), payment(tag), added, recovery, address} {
			in.Code = "0123456789"
			in.Origin = "https://shop.example" // for SMS only
			m, err := c.Email(in)
			if err != nil {
				t.Fatal(err)
			}
			// A recovery's code lives for a day: it is not for lock screens.
			if strings.Contains(m.Subject, in.Code) == (in.Purpose == Recovery) || !strings.Contains(m.Subject, in.App) {
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

package message

import (
	"errors"
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/otpost/otpost/pkg/otp"
)

// happened is when the notices of these tests tell of.
var happened = time.Date(2026, time.November, 3, 14, 5, 59, 0, time.UTC)

// notice is a plain input; tests change what they are about.
func notice(locale string, n otp.Notice) NoticeInput {
	in := NoticeInput{App: "Shop", Locale: locale, Notice: n, At: happened}
	switch n {
	case otp.NoticeFactorAdded, otp.NoticeFactorRemoved, otp.NoticeFactorSuspended:
		in.Factor, in.Label = otp.FactorTOTP, "Work phone"
	case otp.NoticeBackupCodeUsed, otp.NoticeBackupCodesLow:
		in.Left = 3
	case otp.NoticeDeviceTrusted:
		in.Label = "Firefox, kitchen"
	case otp.NoticeDevicesRevoked:
		in.Reason = "password_changed"
	case otp.NoticeRecoveryBegun, otp.NoticeRecoveryProven, otp.NoticeRecoveryWaiting:
		in.CancelCode = "12345678"
		in.Effective = happened.Add(24 * time.Hour)
	}
	return in
}

// happenings are all notices, those that say different things in several ways.
func happenings(locale string) (ins []NoticeInput) {
	for _, n := range otp.Notices() {
		ins = append(ins, notice(locale, n))
	}
	for _, k := range append(otp.FactorKinds(), otp.FactorBackupCode) {
		in := notice(locale, otp.NoticeFactorAdded)
		in.Factor, in.Label = k, ""
		ins = append(ins, in)
	}
	for _, r := range Reasons() {
		in := notice(locale, otp.NoticeDevicesRevoked)
		in.Reason = r
		ins = append(ins, in)
	}
	for _, n := range []int{0, 1, 5} {
		in := notice(locale, otp.NoticeBackupCodeUsed)
		in.Left = n
		ins = append(ins, in)
	}
	uncancelled := notice(locale, otp.NoticeRecoveryWaiting)
	uncancelled.CancelCode = ""
	return append(ins, uncancelled)
}

func TestNoticeSMSIsOneLineAndShort(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		for _, in := range happenings(tag) {
			m, err := c.NoticeSMS(in)
			if err != nil {
				t.Fatal(err)
			}
			if m.Locale != tag || !strings.HasPrefix(m.Text, "Shop") || strings.ContainsAny(m.Text, "\n@") || strings.Contains(m.Text, "  ") {
				t.Errorf("%s, %s: %q", tag, in.Notice, m.Text)
			}
			for _, want := range []string{"2026", "03", "11", "14:05 UTC"} {
				if !strings.Contains(m.Text, want) {
					t.Errorf("%s, %s: %q has not %q", tag, in.Notice, m.Text, want)
				}
			}
			most := 2
			if tag == "cs" || tag == "ja" || tag == "pl" { // UCS-2: in Polish nobody can be told to change the password without its letters
				most = 3
			}
			checkSegments(t, tag, m.Text, most)
		}
	}
}

// What stops a recovery must not be taken for what lets one in: no code begins the text or stands in a subject, the words before it say
// what it is for, and nothing tells a phone to fill it in.
func TestCancelCodeIsNoLoginCode(t *testing.T) {
	c := newCatalog(t)
	const code = "98765432"
	alone := regexp.MustCompile(`(?:^|\D)` + code + `(?:$|\D)`)
	for _, tag := range all {
		for _, n := range otp.Notices() {
			in := notice(tag, n)
			in.CancelCode = code
			m, err := c.NoticeSMS(in)
			if err != nil {
				t.Fatal(err)
			}
			e, err := c.NoticeEmail(in)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			if n == otp.NoticeRecoveryBegun || n == otp.NoticeRecoveryProven || n == otp.NoticeRecoveryWaiting {
				want = 1
			}
			if got := strings.Count(m.Text, code); got != want || want == 1 && !alone.MatchString(m.Text) {
				t.Errorf("%s, %s: the code stands %d times in %q, want %d", tag, n, got, m.Text, want)
			}
			if strings.Contains(e.Subject, code) || strings.Count(e.Text, "\n    "+code+"\n") != want || strings.Count(e.HTML, ">"+code+"</p>") != want ||
				strings.Count(e.HTML, code) != want {
				t.Errorf("%s, %s: the code does not stand by itself %d times in\n%s", tag, n, want, e.Text)
			}
			if _, _, ok := parse(m.Text); ok {
				t.Errorf("%s, %s: %q has a WebOTP line", tag, n, m.Text)
			}
		}
	}
	in := notice("en", otp.NoticeRecoveryBegun)
	if m, _ := c.NoticeSMS(in); !strings.Contains(m.Text, "stop the reset") || !strings.Contains(m.Text, "Do not share") {
		t.Errorf("%q", m.Text)
	}
	in.CancelCode = ""
	if m, err := c.NoticeSMS(in); err != nil || !strings.HasSuffix(m.Text, "Change your password and contact Shop.") {
		t.Errorf("without a code: %q, %v", m.Text, err)
	}
}

func TestNoticeEmailTellsWhatIsKnown(t *testing.T) {
	c := newCatalog(t)
	for _, tag := range all {
		full, bare := notice(tag, otp.NoticeFactorRemoved), notice(tag, otp.NoticeFactorRemoved)
		bare.Factor, bare.Label = "", ""
		with, err := c.NoticeEmail(full)
		if err != nil {
			t.Fatal(err)
		}
		without, err := c.NoticeEmail(bare)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Count(with.Text, "\n"), strings.Count(without.Text, "\n")+2; got != want {
			t.Errorf("%s: %d lines with kind and label, want %d", tag, got, want)
		}
		if !strings.Contains(with.Text, "Work phone") || strings.Contains(without.Text, "Work phone") || strings.Contains(without.Text, "()") {
			t.Errorf("%s: %q", tag, with.Text)
		}
		for _, in := range happenings(tag) {
			e, err := c.NoticeEmail(in)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(e.Subject, "Shop") || !strings.Contains(e.Text, "14:05") || !strings.Contains(e.Text, "UTC") || !strings.Contains(e.Text, "2026") {
				t.Errorf("%s, %s: %q\n%s", tag, in.Notice, e.Subject, e.Text)
			}
			for _, bad := range []string{"<a", "<img", "<link", "<script", "<form", "src=", "href", "url(", "//", "ZgotmplZ", "<no value>"} {
				if strings.Contains(e.HTML, bad) {
					t.Errorf("%s, %s: HTML has %q", tag, in.Notice, bad)
				}
			}
			if strings.Contains(e.Text, "\n\n\n") {
				t.Errorf("%s, %s: a gap in %q", tag, in.Notice, e.Text)
			}
			for _, text := range []string{e.Subject, e.Text, e.HTML} {
				for _, r := range text {
					if r > firstMarker && r < firstMarker+rune(fieldCount) {
						t.Errorf("%s, %s: a placeholder was not filled in %q", tag, in.Notice, text)
					}
				}
			}
		}
	}
}

func TestTimesAreToldInUTCInTheLanguagesOrder(t *testing.T) {
	c := newCatalog(t)
	at := time.Date(2026, time.March, 1, 0, 30, 0, 0, time.FixedZone("", 2*60*60)) // the evening of 28 February in UTC
	first := time.Date(2026, time.August, 1, 9, 5, 0, 0, time.UTC)
	for tag, want := range map[string][3]string{
		"en": {"2026-02-28 22:30 UTC", "28 February 2026, 22:30 UTC", "1 August 2026, 09:05 UTC"},
		"cs": {"28.02.2026 v 22:30 UTC", "28. února 2026 22:30 UTC", "1. srpna 2026 09:05 UTC"},
		"de": {"28.02.2026 um 22:30 UTC", "28. Februar 2026, 22:30 UTC", "1. August 2026, 09:05 UTC"},
		"es": {"28/02/2026, 22:30 UTC", "28 de febrero de 2026, 22:30 UTC", "1 de agosto de 2026, 09:05 UTC"},
		"fr": {"28/02/2026 à 22:30 UTC", "28 février 2026 à 22:30 UTC", "1er août 2026 à 09:05 UTC"},
		"it": {"28/02/2026, ore 22:30 UTC", "28 febbraio 2026, 22:30 UTC", "1º agosto 2026, 09:05 UTC"},
		"ja": {"2026/02/28 22:30 UTC", "2026年2月28日 22:30 UTC", "2026年8月1日 09:05 UTC"},
		"pl": {"28.02.2026 o 22:30 UTC", "28 lutego 2026, 22:30 UTC", "1 sierpnia 2026, 09:05 UTC"},
	} {
		in := notice(tag, otp.NoticeDeactivated)
		in.At = at
		if m, err := c.NoticeSMS(in); err != nil || !strings.Contains(m.Text, want[0]) {
			t.Errorf("%s: %q, %v, want %q in it", tag, m.Text, err, want[0])
		}
		if e, err := c.NoticeEmail(in); err != nil || !strings.Contains(e.Text, want[1]) {
			t.Errorf("%s: %q, %v, want %q in it", tag, e.Text, err, want[1])
		}
		in.At = first
		if e, err := c.NoticeEmail(in); err != nil || !strings.Contains(e.Text, want[2]) {
			t.Errorf("%s: %q, %v, want %q in it", tag, e.Text, err, want[2])
		}
	}
}

func TestBackupCodesLeftInWords(t *testing.T) {
	c := newCatalog(t)
	for tag, want := range map[string][4]string{
		"en": {"no backup codes left", "1 backup code left", "2 backup codes left", "5 backup codes left"},
		"cs": {"Nezbývá žádný", "Zbývá vám 1 záložní kód.", "Zbývají vám 2 záložní kódy.", "Zbývá vám 5 záložních kódů."},
		"pl": {"Nie masz już", "jeszcze 1 kod zapasowy.", "jeszcze 2 kody zapasowe.", "jeszcze 5 kodów zapasowych."},
	} {
		for i, n := range []int{0, 1, 2, 5} {
			in := notice(tag, otp.NoticeBackupCodesLow)
			in.Left = n
			m, err := c.NoticeSMS(in)
			e, err2 := c.NoticeEmail(in)
			if errors.Join(err, err2) != nil || !strings.Contains(m.Text, want[i]) || !strings.Contains(e.Text, want[i]) {
				t.Errorf("%s, %d left: %v, %q\n%s", tag, n, errors.Join(err, err2), m.Text, e.Text)
			}
		}
	}
}

// links is what phones and mail programs underline in words that stand in a label.
var links = regexp.MustCompile(`\w[./:@]\w|//`)

func TestHostileLabelsStayInTheirPlace(t *testing.T) {
	c := newCatalog(t)
	labels := append(slices.Clone(hostile),
		"evil.example/stop", "https://evil.example", "help@evil.example", "evil．example", `x"). Shop: your code is 000000`, "x“ ” « » 「 」 „",
		"\ue001\ue00c 000000", strings.Repeat("ř", 500))
	for _, tag := range all {
		harmless, err := c.NoticeEmail(notice(tag, otp.NoticeFactorAdded))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range labels {
			in := notice(tag, otp.NoticeFactorAdded)
			in.Label = s
			m, err := c.NoticeSMS(in)
			if err != nil {
				t.Errorf("%s: %q: %v", tag, s, err)
				continue
			}
			if strings.Contains(m.Text, "\n") || lookalike.MatchString(m.Text) || !strings.HasPrefix(m.Text, "Shop") {
				t.Errorf("%s: %q: words %q", tag, s, m.Text)
			}
			checkLine(t, Input{App: s, Locale: tag}, m.Text)
			if strings.Count(m.Text, `"`) > 2 || strings.Count(m.Text, "“") > 1 || strings.Count(m.Text, "」") > 1 {
				t.Errorf("%s: %q: the quotation ends early in %q", tag, s, m.Text)
			}

			e, err := c.NoticeEmail(in)
			if err != nil {
				t.Errorf("%s: %q: %v", tag, s, err)
				continue
			}
			if e.Subject != harmless.Subject {
				t.Errorf("%s: %q: subject %q", tag, s, e.Subject)
			}
			if got, want := strings.Count(e.Text, "\n"), strings.Count(harmless.Text, "\n"); got != want && shownLabel(s) != "" {
				t.Errorf("%s: %q: text has %d lines, want %d", tag, s, got, want)
			}
			for _, r := range "<>" {
				if got, want := strings.Count(e.HTML, string(r)), strings.Count(harmless.HTML, string(r)); got != want && shownLabel(s) != "" {
					t.Errorf("%s: %q: HTML has %d %q, want %d", tag, s, got, r, want)
				}
			}
			for line := range strings.Lines(e.Text + html.UnescapeString(e.HTML)) {
				if lookalike.MatchString(line) {
					t.Errorf("%s: %q: email line %q", tag, s, line)
				}
			}
		}
	}
	for _, s := range labels {
		if got := shownLabel(s); links.MatchString(got) || len([]rune(got)) > MaxLabel || strings.ContainsAny(got, `"„“”«»「」`) {
			t.Errorf("label %q shows as %q", s, got)
		}
	}
}

// shownLabel is what a notice shows of a label.
func shownLabel(s string) string {
	in := notice("en", otp.NoticeFactorAdded)
	in.Label = s
	v, err := in.values(&locale{family: map[string]phrase{factorName(in.Factor): nil}})
	if err != nil {
		panic(err)
	}
	return v[label]
}

func TestLabels(t *testing.T) {
	for in, want := range map[string]string{
		"Work phone":            "Work phone",
		"Dr. Watson’s phone":    "Dr Watson’s phone",
		"Pixel 9 (v1.2)":        "Pixel 9 (v1 2)",
		`my "old" key`:          "my 'old' key",
		"仕事用":                   "仕事用",
		"\u200b":                "",
		strings.Repeat("x", 32): strings.Repeat("x", 32),
		strings.Repeat("x", 33): strings.Repeat("x", 29) + "...",
	} {
		if got := shownLabel(in); got != want {
			t.Errorf("%q shows as %q, want %q", in, got, want)
		}
	}
}

func TestUnusableNoticesAreRefusedWithoutTellingTheCode(t *testing.T) {
	c := newCatalog(t)
	for name, change := range map[string]func(*NoticeInput){
		"no notice":           func(in *NoticeInput) { in.Notice = "" },
		"unknown notice":      func(in *NoticeInput) { in.Notice = "factor_eaten" },
		"no app":              func(in *NoticeInput) { in.App = "\u200b" },
		"no time":             func(in *NoticeInput) { in.At = time.Time{} },
		"unknown factor":      func(in *NoticeInput) { in.Factor = "fax" },
		"no effective time":   func(in *NoticeInput) { in.Effective = time.Time{} },
		"short cancel code":   func(in *NoticeInput) { in.CancelCode = "987" },
		"spaced cancel code":  func(in *NoticeInput) { in.CancelCode = "9876 5432" },
		"long cancel code":    func(in *NoticeInput) { in.CancelCode = "98765432109" },
		"unknown reason":      func(in *NoticeInput) { in.Notice, in.Reason = otp.NoticeDevicesRevoked, "eaten" },
		"fewer than none":     func(in *NoticeInput) { in.Notice, in.Left = otp.NoticeBackupCodeUsed, -1 },
		"more than ever made": func(in *NoticeInput) { in.Notice, in.Left = otp.NoticeBackupCodesLow, maxLeft+1 },
	} {
		in := notice("en", otp.NoticeRecoveryWaiting)
		in.CancelCode = "98765432"
		change(&in)
		_, err := c.NoticeSMS(in)
		_, err2 := c.NoticeEmail(in)
		for _, err := range []error{err, err2} {
			if !errors.Is(err, ErrInput) {
				t.Errorf("%s: error %v, want ErrInput", name, err)
			} else if strings.Contains(err.Error(), "987") {
				t.Errorf("%s: error %q tells the code", name, err)
			}
		}
	}
}

// A label can carry no number that a victim could call.
func TestLabelsHoldNoPhoneNumber(t *testing.T) {
	for _, label := range []string{"not you? call +1 900 555 0199", "1-900-555-0199", "９００５５５０１９９ ruf an", "٩٠٠٥٥٥٠١٩٩"} {
		digits := 0
		for _, r := range unlink(label) {
			if unicode.IsDigit(r) {
				digits++
			}
		}
		if digits > maxLabelDigits {
			t.Errorf("%q keeps %d digits", label, digits)
		}
	}
	if got := unlink("iPhone 15 (2026)"); got != "iPhone 15 (20)" {
		t.Errorf("an honest label becomes %q", got)
	}
}

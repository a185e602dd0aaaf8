package letter

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// japaneseFont is Debian's fonts-ipaexfont-gothic.
const japaneseFont = "/usr/share/fonts/opentype/ipaexfont-gothic/ipaexg.ttf"

var testIssued = time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)

func testFonts(t testing.TB, japanese bool) *Fonts {
	t.Helper()
	path := ""
	if japanese {
		path = japaneseFont
	}
	f, err := LoadFonts(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func needJapanese(t *testing.T) {
	t.Helper()
	_, err := os.Stat(japaneseFont)
	need(t, err == nil, japaneseFont, "fonts-ipaexfont-gothic")
}

func usPage() Page {
	return Page{
		Size: USLetter, Issued: testIssued, Sender: "Shop Inc. · 100 Market St · San Francisco CA 94105",
		Address: []string{"Jane Doe", "1600 Main St", "Apt 4", "SPRINGFIELD OR 97477"}, Date: "November 21, 2026",
		Subject: "Your code to recover your Shop account", Salutation: "Hello,",
		Body: []string{
			"Somebody, most likely you, asked to recover access to your Shop account by letter. To go on, enter the code below on the page where you began.",
			"You need a second proof as well.",
		},
		CodeLabel: "Your code", Code: "1234 567 890",
		Closing:  []string{"The code is good until December 12, 2026.", "If you did not ask for this, cancel the recovery and contact us.", "Shop"},
		Language: "en",
	}
}

func czechPage() Page {
	return Page{
		Size: A4, Issued: testIssued, Sender: "Obchod s. r. o. · Žižkova 1 · 602 00 Brno",
		Address: []string{"Přemysl Šťastný-Ďuričková", "Náměstí Míru 3/12", "2. patro", "544 01 Dvůr Králové nad Labem", "CZECH REPUBLIC"},
		Date:    "21. listopadu 2026", Subject: "Kód pro obnovení vašeho účtu Obchod", Salutation: "Dobrý den,",
		Body:      []string{"někdo, nejspíše vy, požádal o obnovení přístupu k vašemu účtu. Příliš žluťoučký kůň úpěl ďábelské ódy.", "Kód zadejte na stránce, kde jste začali."},
		CodeLabel: "Váš kód", Code: "1234 567 890", Closing: []string{"Kód platí do 12. prosince 2026.", "Obchod"}, Language: "cs",
	}
}

func japanesePage() Page {
	return Page{
		Size: A4, Issued: testIssued, Sender: "株式会社ショップ・東京都千代田区丸の内1-1-1",
		Address: []string{"〒164-0001", "東京都中野区", "中野1-2-3", "山田太郎 様"}, Date: "2026年11月21日",
		Subject: "「Shop」アカウントの復旧コードのお知らせ", Salutation: "いつもご利用ありがとうございます。",
		Body: []string{"お客様の「Shop」アカウントへのアクセスを郵便で復旧するよう、お申し込みがありました。手続きを続けるには、" +
			"お申し込みになったページで下のコードを入力してください。"},
		CodeLabel: "コード", Code: "1234 567 890", Closing: []string{"お心当たりのない場合は、ご連絡ください。", "Shop"}, Language: "ja",
	}
}

// window is what an envelope shows of a folded letter: always at least the inner box, and with the letter slipped as far as it goes either way, the
// outer one (x from, x to, y from, y to, in mm of the page).
type window struct{ inner, outer [4]float64 }

// The envelopes: as in layout.go, computed here from the envelopes' own measures.
func windows() map[Size]window {
	show := func(envelope, paper [2]float64, slot [4]float64, fold float64) window {
		slackX, slackY := envelope[0]-paper[0], envelope[1]-fold
		top := envelope[1] - slot[1] - slot[3]
		return window{
			inner: [4]float64{slot[0], slot[0] + slot[2] - slackX, top, top + slot[3] - slackY},
			outer: [4]float64{slot[0] - slackX, slot[0] + slot[2], top - slackY, top + slot[3]},
		}
	}
	const inch = 25.4
	return map[Size]window{
		// window: from the left, from the bottom, width, height
		A4:       show([2]float64{220, 110}, [2]float64{210, 297}, [4]float64{20, 15, 90, 45}, 105),
		USLetter: show([2]float64{9.5 * inch, 4.125 * inch}, [2]float64{8.5 * inch, 11 * inch}, [4]float64{0.875 * inch, 0.5 * inch, 4.5 * inch, 1.125 * inch}, 11*inch/3),
	}
}

func (w word) within(b [4]float64) bool {
	return w.XMin >= b[0] && w.XMax <= b[1] && w.YMin >= b[2] && w.YMax <= b[3]
}

func (w word) touches(b [4]float64) bool {
	return w.XMax > b[0] && w.XMin < b[1] && w.YMax > b[2] && w.YMin < b[3]
}

// TestWindow: with the letter in its envelope, the address can be read through the window wherever the letter has slipped to, nothing but the address
// and the sender can ever be seen there, and the code lies in a fold.
func TestWindow(t *testing.T) {
	needJapanese(t)
	fonts := testFonts(t, true)
	for name, p := range map[string]Page{"US": usPage(), "Czech": czechPage(), "Japanese": japanesePage()} {
		t.Run(name, func(t *testing.T) {
			pdf, err := fonts.Render(p)
			if err != nil {
				t.Fatal(err)
			}
			page, w := read(t, pdf), windows()[p.Size]
			size := map[Size][2]float64{A4: {210, 297}, USLetter: {215.9, 279.4}}[p.Size]
			if dx, dy := page.Width-size[0], page.Height-size[1]; dx*dx+dy*dy > 0.1 {
				t.Errorf("the page has %.1f × %.1f mm, want %v", page.Width, page.Height, size)
			}
			address, seen := solid(strings.Join(p.Address, "")), ""
			for _, x := range page.Words {
				sender := p.Size == A4 && x.YMax < forms[A4].addressTop && strings.Contains(solid(p.Sender), solid(x.Text))
				if x.touches(w.outer) && !sender {
					seen += x.Text
					// Boxes of words have the font's full height, with room above and below: what is printed is within.
					x.YMin, x.YMax = x.YMin+0.6, x.YMax-0.6
					if !x.within(w.inner) {
						t.Errorf("%q at %.1f–%.1f × %.1f–%.1f mm is not always within %v", x.Text, x.XMin, x.XMax, x.YMin, x.YMax, w.inner)
					}
				}
			}
			if solid(seen) != address {
				t.Errorf("the window shows %q, want %q", seen, p.Address)
			}
			folds := forms[p.Size].folds
			for _, x := range page.Words {
				if slices.Contains(strings.Fields(p.Code), x.Text) && (x.YMin < folds[0] || x.YMax > folds[1]) {
					t.Errorf("the code is at %.1f mm, not between the folds %v", x.YMin, folds)
				}
			}
		})
	}
}

// TestText: an independent reader finds every text of the page, in every script, and the code in the largest print.
func TestText(t *testing.T) {
	needJapanese(t)
	fonts := testFonts(t, true)
	for name, p := range map[string]Page{"US": usPage(), "Czech": czechPage(), "Japanese": japanesePage()} {
		t.Run(name, func(t *testing.T) {
			pdf, err := fonts.Render(p)
			if err != nil {
				t.Fatal(err)
			}
			page := read(t, pdf)
			text := solid(page.text())
			for _, want := range p.texts() {
				if !strings.Contains(text, solid(want)) {
					t.Errorf("the page lacks %q", want)
				}
			}
			if n := strings.Count(text, solid(p.Code)); n != 1 {
				t.Errorf("the code stands on the page %d times", n)
			}
			tallest := slices.MaxFunc(page.Words, func(a, b word) int { return int(1000 * (a.YMax - a.YMin - b.YMax + b.YMin)) })
			if !strings.Contains(p.Code, tallest.Text) {
				t.Errorf("the largest print is %q", tallest.Text)
			}
			for _, w := range page.Words {
				if w.XMin < 0 || w.YMin < 0 || w.XMax > page.Width-15 || w.YMax > page.Height-8 {
					t.Errorf("%q runs into the margin", w.Text)
				}
			}
		})
	}
}

// TestMetadata: the document tells its language and title to a screen reader, and of the person no more than is printed, once.
func TestMetadata(t *testing.T) {
	tool, err := exec.LookPath("pdfinfo")
	need(t, err == nil, "pdfinfo", "poppler-utils")
	pdf, err := testFonts(t, false).Render(czechPage())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tool, "-isodates", "-") //nolint:gosec // as found
	cmd.Stdin = bytes.NewReader(pdf)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pdfinfo: %v", err)
	}
	for _, want := range []string{"Kód pro obnovení vašeho účtu Obchod", "otpost", "2026-11-21T17:00:00", "Pages:           1", "Encrypted:       no", "JavaScript:      no"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, secret := range []string{"Přemysl", "Králové", "1234", "567"} {
		if strings.Contains(string(out), secret) {
			t.Errorf("%q is in the metadata", secret)
		}
	}
	if !bytes.Contains(pdf, []byte("/Lang (cs)")) {
		t.Error("the document has no language")
	}
	if bytes.Contains(pdf, []byte("/ID")) {
		t.Error("the document has an id")
	}
}

// TestSameOctets: a letter made again is the same, by whichever process and however many at once.
func TestSameOctets(t *testing.T) {
	needJapanese(t)
	fonts, again := testFonts(t, true), testFonts(t, true)
	for name, p := range map[string]Page{"US": usPage(), "Japanese": japanesePage()} {
		want, err := fonts.Render(p)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if got, err := again.Render(p); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: another letter for the same page (%v)", name, err)
				}
			})
		}
		all.Wait()
		p.Code = "1234 567 891"
		if got, err := fonts.Render(p); err != nil || bytes.Equal(got, want) {
			t.Errorf("%s: the same letter for another code (%v)", name, err)
		}
	}
}

// TestMissingCharacters: what cannot be printed is refused, counted and not quoted.
func TestMissingCharacters(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		missing int
	}{
		"Latin":                        {"Łódź, São Tomé, Þórshöfn, Đà Nẵng", 0},
		"Greek and Cyrillic":           {"Αθήνα Київ", 0},
		"decomposed":                   {"Zdene\u030ck", 0},
		"Japanese without its font":    {"山田 Taro", 2},
		"an emoji":                     {"Jane 🙂", 1},
		"Arabic":                       {"شارع", 4},
		"a line break":                 {"Jane\nDoe", 1},
		"a right-to-left override":     {"Jane\u202eDoe", 1},
		"beyond what the writer knows": {"𠮷野", 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := usPage()
			p.Address = []string{c.text, "1600 Main St", "SPRINGFIELD OR 97477"}
			_, err := testFonts(t, false).Render(p)
			if c.missing == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			m, ok := errors.AsType[*MissingError](err)
			if !ok || m.Count != c.missing {
				t.Fatalf("error %v, want %d missing characters", err, c.missing)
			}
			if strings.ContainsAny(err.Error(), "山🙂ش") {
				t.Errorf("the error quotes the text: %v", err)
			}
		})
	}
}

// TestLongTexts: long addresses are made to fit their field, long letters are set smaller, and what does not fit is refused rather than cut.
func TestLongTexts(t *testing.T) {
	fonts := testFonts(t, false)
	long := strings.TrimSpace(strings.Repeat("Wohngemeinschaft ", 4))[:64]
	for name, c := range map[string]struct {
		change func(*Page)
		fits   bool
	}{
		"three lines of 64 characters": {func(p *Page) { p.Address = []string{long, long, long} }, true},
		"six lines":                    {func(p *Page) { p.Address = []string{"A", "B", "C", "D", "E", "FRANCE"} }, true},
		"six lines of 64 characters":   {func(p *Page) { p.Address = slices.Repeat([]string{long}, 6) }, false},
		"seven lines":                  {func(p *Page) { p.Address = slices.Repeat([]string{"A"}, 7) }, false},
		"no address":                   {func(p *Page) { p.Address = nil }, false},
		"a long body":                  {func(p *Page) { p.Body = []string{strings.Repeat("Lorem ipsum dolor ", 120)} }, true},
		"too long a body":              {func(p *Page) { p.Body = []string{strings.Repeat("Lorem ipsum dolor ", 300)} }, false},
		"a long subject":               {func(p *Page) { p.Subject = strings.Repeat("Recover ", 20) }, true},
		"a long sender":                {func(p *Page) { p.Sender = strings.Repeat("Sender ", 22) }, true},
		"no code":                      {func(p *Page) { p.Code = "" }, false},
		"no date":                      {func(p *Page) { p.Issued = time.Time{} }, false},
		"another paper":                {func(p *Page) { p.Size = "A5" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := czechPage()
			c.change(&p)
			pdf, err := fonts.Render(p)
			if (err == nil) != c.fits {
				t.Fatalf("error %v, want fits = %v", err, c.fits)
			}
			if !c.fits {
				return
			}
			page := read(t, pdf)
			text, outer := solid(page.text()), windows()[A4].outer
			for _, want := range slices.Concat(p.Address, p.Body, p.Closing, []string{p.Subject}) {
				if !strings.Contains(text, solid(want)) {
					t.Errorf("the page lacks %q", want)
				}
			}
			for _, w := range page.Words {
				if w.touches(outer) && (w.XMax > 105 || w.YMax > 91) {
					t.Errorf("%q leaves the address field", w.Text)
				}
				if w.YMax > page.Height-8 || w.XMax > page.Width-15 {
					t.Errorf("%q runs into the margin", w.Text)
				}
			}
		})
	}
}

func TestLoadFonts(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	latin := testFonts(t, false).faces[0].regular
	for name, path := range map[string]string{
		"no such file":       filepath.Join(dir, "none.ttf"),
		"a folder":           dir,
		"an empty file":      file("empty.ttf", nil),
		"no font":            file("text.ttf", []byte("some text that is no font at all")),
		"PostScript":         file("ps.otf", append([]byte("OTTO"), latin[4:]...)),
		"a collection":       file("all.ttc", append([]byte("ttcf"), latin[4:]...)),
		"half a font":        file("half.ttf", latin[:len(latin)/2]),
		"a font's beginning": file("head.ttf", latin[:64]),
		"without kana":       file("latin.ttf", latin),
	} {
		if f, err := LoadFonts(path); err == nil || f != nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestSizeFor(t *testing.T) {
	for country, want := range map[string]Size{"US": USLetter, "CA": USLetter, "PR": USLetter, "CZ": A4, "JP": A4, "": A4} {
		if got := SizeFor(country); got != want {
			t.Errorf("%s: %s, want %s", country, got, want)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	fonts := testFonts(b, false)
	for b.Loop() {
		if _, err := fonts.Render(usPage()); err != nil {
			b.Fatal(err)
		}
	}
}

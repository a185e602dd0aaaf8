package message

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
)

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"plain":                  "plain",
		"Příliš žluťoučký kůň":   "Prilis zlutoucky kun",
		"Zażółć gęślą jaźń":      "Zazolc gesla jazn",
		"fünf Größen, À é ñ Ç å": "fünf Größen, A é ñ Ç å", // what the alphabet has stays; it has à and no À
		"ça, naïve, château":     "ca, naive, chateau",
		"cœur, Œuvre, Łódź":      "coeur, OEuvre, Lodz",
		"őrült tűz":              "örült tüz",
		"ệ ǖ ǿ":                  "e u ø",
		"„a“ «b» ‚c’ 5′":         `"a" "b" 'c' 5'`,
		"1–2 — 3 − 4…":           "1-2 - 3 - 4...",
		"39,99\u00a0€\u202f!":    "39,99 € !",
		"e\u0301 z\u030c":        "é z", // marks that stand by themselves
		"ﬁ":                      "fi",
		"ΔΦΓ":                    "ΔΦΓ",                  // Greek capitals that the alphabet has
		"ΑΒΕ, αβ":                "ΑΒΕ, αβ",              // and those that only look like Latin ones
		"Раураl":                 "Раураl",               // Cyrillic
		"й ё":                    "й ё",                  // Cyrillic with marks
		"и\u0306":                "й",                    // composed, and not bared
		"株式会社 例":                 "株式会社 例",               // no look-alike
		"मानक":                   "मानक",                 // marks of other scripts belong to their letters
		"💳 5 €":                  "💳 5 €",                // nothing to be had
		"a\n@b #123456":          "a\n@b #123456",        // line breaks and digits
		"１２３":                    "１２３",                  // other digits are not made into a code
		"ŉ":                      "ŉ",                    // no mark: a letter of its own
		"x\u0301":                "x",                    // a mark on a Latin letter that has no composed form
		"я\u0301":                "я\u0301",              // and on another one
		"Bücher–Öl “Ärger”…":     `Bücher-Öl "Ärger"...`, // German keeps its letters
		"s’il vous plaît":        "s'il vous plait",      // French
		"perché città":           "perché città",         // Italian needs nothing
		"¿qué? día":              "¿qué? dia",            // Spanish
	} {
		got := Fold(in)
		if got != want {
			t.Errorf("Fold(%q) = %q, want %q", in, got, want)
		}
		if again := Fold(got); again != got {
			t.Errorf("Fold(%q) = %q: not stable", got, again)
		}
	}
}

// No character of another script ever becomes a letter or digit of ours.
func TestFoldTakesNothingFromOtherScripts(t *testing.T) {
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) || unicode.Is(unicode.Latin, r) {
			continue
		}
		for _, got := range Fold(string(r)) {
			// ʼ is an apostrophe that counts as a letter; the Kelvin and Ångström signs are Latin
			if r != 'ʼ' && got < 0x80 {
				t.Errorf("%q (%U) became %q", r, r, got)
			}
		}
	}
}

func TestFoldGivesGSMForEveryLetterOfTheLanguagesHere(t *testing.T) {
	for tag, letters := range map[string]string{
		"cs": "áčďéěíňóřšťúůýž", "de": "äöüßẞ", "es": "áéíóúüñ¿¡ªº", "fr": "àâæçéèêëîïôœùûüÿ", "it": "àèéìíîòóùú", "pl": "ąćęłńóśźż",
	} {
		for _, s := range []string{letters, strings.ToUpper(letters)} {
			for _, r := range Fold(s) {
				if septets[r] == 0 && r != 'ª' && r != 'º' {
					t.Errorf("%s: %q is left", tag, r)
				}
			}
		}
	}
}

// Which of the catalogs' messages folding saves segments of, and how many are left: "before>after". Where nothing is saved a message stays as it is.
func TestFoldSavesSegments(t *testing.T) {
	c := newCatalog(t)
	const purposes = "login, with origin, transaction, of a Czech payee, add_factor, recovery, reset_address"
	want := map[string]string{
		"en": "1 1 1 2>1 1 2 1",
		"cs": "1 2>1 2>1 2>1 2>1 2>1 2>1",
		"de": "1 1 1 3>1 1 2 1",
		"es": "1 1 1 2>1 1 2 1",
		"fr": "1 1 1 3>1 1 2 1",
		"it": "1 1 1 3>1 1 2 1",
		"ja": "1 1 2 2 1 2 1", // Japanese has no look-alikes
		"pl": "1 1 1 3>1 1 2 1",
	}
	for _, tag := range all {
		web, added, recovery, address := login(tag), login(tag), login(tag), login(tag)
		web.Origin = "https://shop.example"
		added.Purpose, recovery.Purpose, address.Purpose = AddFactor, Recovery, ResetAddress
		czech := payment(tag)
		czech.Transaction.Payee = "Kavárna U Tří ořechů"
		var got []string
		for _, in := range []Input{login(tag), web, payment(tag), czech, added, recovery, address} {
			plain, err := c.SMS(in)
			if err != nil {
				t.Fatal(err)
			}
			in.Style.Fold = true
			folded, err := c.SMS(in)
			if err != nil {
				t.Fatal(err)
			}
			_, _, before := Segments(plain.Text)
			_, _, after := Segments(folded.Text)
			switch {
			case after < before:
				got = append(got, fmt.Sprintf("%d>%d", before, after))
			case folded != plain:
				t.Errorf("%s: %q became %q and saved nothing", tag, plain.Text, folded.Text)
			default:
				got = append(got, fmt.Sprint(before))
			}
		}
		if s := strings.Join(got, " "); s != want[tag] {
			t.Errorf("%s: %s: %s, want %s", tag, purposes, s, want[tag])
		}
	}
}

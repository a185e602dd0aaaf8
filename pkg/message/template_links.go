package message

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What mail programs and phones make a link of, or dial, without being asked to.
const (
	word = `\p{L}\p{M}\p{N}_`
	dots = `.．·` // "·" becomes "." where an SMS is folded
)

var (
	linkForm = regexp.MustCompile(`(?i)[:：][/／⁄]{2}|\bwww[` + dots + `]|\bmailto:|\btel:|\bsms:`)
	beginAt  = regexp.MustCompile(`(?:^|[^` + word + `])[@＠﹫]`)

	// hostForm is a dot within a name, with a last label of two letters or more (of any script) after it, or one in Punycode. The ideographic full stops end
	// sentences of Japanese without a space, and count between Latin letters only.
	hostForm = regexp.MustCompile(`([` + word + `-]+[` + dots + `]\p{L}[\p{L}\p{M}]+)(?:[^\p{L}\p{M}\p{N}]|$)|([` + word + `-]+[` + dots + `](?i:xn--))|` +
		`(?i:([a-z0-9-]+[。｡][a-z]{2,})(?:[^a-z0-9]|$))`)

	// wholeHost is a host name as WebOTPHost returns it, to tell which one it is that hostForm finds.
	wholeHost = regexp.MustCompile(`(?i)[a-z0-9-]+(?:\.[a-z0-9-]+)+`)

	addressForm = regexp.MustCompile(`(?:^|\P{Nd})\p{Nd}{1,3}(?:[` + dots + `]\p{Nd}{1,3}){3}(?:\P{Nd}|$)`) // of IPv4
	numberForm  = regexp.MustCompile(`\p{Nd}(?:[\p{Zs}\p{Pd}()./·⁄−]*\p{Nd}){6}`)                           // of a phone: seven digits or more
)

// checkLinks refuses what users could follow, call or take for the WebOTP line, in a text with letters for values. The app's own host may be named, where
// nothing is added to it.
func checkLinks(s, host string) error {
	others := withoutHost(s, host)
	if linkForm.MatchString(others) || addressForm.MatchString(others) {
		return errors.New("must have no link: users must not learn to follow one that comes with a code")
	}
	if beginAt.MatchString(s) {
		return errors.New(`no word may begin with "@": phones take it for the line that the code is filled in from`)
	}
	if found := hostForm.FindStringSubmatch(others); found != nil {
		return fmt.Errorf("must have no link, and %.60q would be made one: put a space after the full stop; only the host of the app's origin may be named",
			found[1]+found[2]+found[3])
	}
	return nil
}

// checkNumbers refuses what can be dialled.
func checkNumbers(s string) error {
	if numberForm.MatchString(s) {
		return errors.New("must have no phone number, which seven digits or more look like: users must not learn to call one that comes with a code")
	}
	return nil
}

// withoutHost puts a letter for each place where the host stands alone.
func withoutHost(s, host string) string {
	if host == "" {
		return s
	}
	var b strings.Builder
	from := 0
	for _, at := range regexp.MustCompile(`(?i)`+regexp.QuoteMeta(host)).FindAllStringIndex(s, -1) {
		before, _ := utf8.DecodeLastRuneInString(s[:at[0]])
		if at[0] > 0 && (isWord(before) || strings.ContainsRune(dots+"-/:", before)) || !ends(s[at[1]:]) {
			continue
		}
		b.WriteString(s[from:at[0]])
		b.WriteByte('x')
		from = at[1]
	}
	b.WriteString(s[from:])
	return b.String()
}

// ends reports whether rest, which stands after a host or a value, cannot be read as more of it: at most marks that end a sentence or a clause, and
// then a space, the end, or what closes brackets and quotations.
func ends(rest string) bool {
	after := strings.TrimLeft(rest, ".:?!,;…")
	r, _ := utf8.DecodeRuneInString(after)
	switch {
	case after == "" || unicode.IsSpace(r):
		return true
	case after == rest:
		return !isWord(r) && !strings.ContainsRune(dots+"-/⁄#@＠﹫\\=&%~", r)
	default:
		return unicode.In(r, unicode.Pe, unicode.Pf) || r == '"' || r == '\''
	}
}

func isWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsNumber(r) || r == '_'
}

// checkBeside refuses what would make an address or a link of a value: a mark of one right before or after a placeholder.
func checkBeside(p phrase) error {
	for i, s := range p {
		if s.field == none {
			continue
		}
		if before, _ := utf8.DecodeLastRuneInString(s.text); s.text != "" && strings.ContainsRune(dots+"/⁄:?@＠﹫", before) {
			return fmt.Errorf("has %q right before a variable: put a space between them, so that no value becomes a part of a link", before)
		}
		rest := p[i+1 : min(i+2, len(p))].plain()
		if r, _ := utf8.DecodeRuneInString(rest); rest != "" && (strings.ContainsRune("·．/⁄@＠﹫", r) || strings.ContainsRune(".:?", r) && !ends(rest)) {
			return fmt.Errorf("has %q right after a variable: put a space behind it, so that no value becomes a part of a link", r)
		}
	}
	return nil
}

// checkLone refuses lines that a payee could have to himself: they would look like the app's, or like the one that phones fill the code in from.
func checkLone(p phrase) error {
	supplied, words := false, false
	check := func() error {
		if supplied && !words {
			return errors.New("{{amount}} or {{payee}} stands alone on a line: put words beside it, so that what a payee supplied is not taken for yours")
		}
		supplied, words = false, false
		return nil
	}
	for _, s := range p {
		for i, part := range strings.Split(s.text, "\n") {
			if i > 0 {
				if err := check(); err != nil {
					return err
				}
			}
			words = words || strings.ContainsFunc(part, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
		}
		switch s.field {
		case none:
		case amount, payee:
			supplied = true
		default:
			words = true
		}
	}
	return check()
}

// onlyHost returns the first host that the template names, or nothing: where the app's origin is not known, it may be that, and nothing else may.
func (t Template) onlyHost() string {
	for _, m := range wholeHost.FindAllString(t.Subject+"\n"+t.Text+"\n"+t.HTML, -1) {
		if hostForm.MatchString(m) {
			return m
		}
	}
	return ""
}

package message

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// Elements and attributes that an app's own HTML may have: what shows text in plain mail programs. Nothing here can load, lead or run.
var (
	allowedElements = []string{
		"b", "bdi", "big", "blockquote", "br", "center", "code", "dd", "div", "dl", "dt", "em", "font", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i",
		"li", "ol", "p", "pre", "s", "small", "span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul", "wbr",
	}
	voidElements  = []string{"br", "hr", "wbr"}
	blockElements = []string{ // what is before and after them is never read as one word
		"blockquote", "br", "center", "dd", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "table", "tbody", "td",
		"tfoot", "th", "thead", "tr", "ul",
	}
	allowedAttributes = []string{
		"align", "aria-hidden", "aria-label", "bgcolor", "border", "cellpadding", "cellspacing", "color", "colspan", "dir", "face", "height", "lang",
		"role", "rowspan", "size", "style", "title", "translate", "valign", "width",
	}

	readAttributes = []string{"aria-label", "title"} // shown, or read out

	// badStyle is what fetches, what runs in old programs, and what hides either of them.
	badStyle = regexp.MustCompile(`(?i)url|image|src|@|\\|/\*|expression|behavior|binding|element|<`)
)

// why gives reasons for elements that people are likely to try.
var why = map[string]string{
	"a":      "an email with a code has no link to follow",
	"img":    "an email with a code fetches nothing, so that nobody is told that it was opened",
	"script": "mail programs run no script",
	"style":  "use style attributes; many mail programs leave it out",
	"html":   "give what stands in the body alone",
	"head":   "give what stands in the body alone",
	"body":   "give what stands in the body alone",
}

// checkHTML holds an app's own HTML to well-formed markup of what is allowed. It reads tokens and not a tree, because a parser of trees repairs what
// mail programs would each repair in their own way. Placeholders stand in texts only, where a value that is escaped can do nothing.
func checkHTML(s, host string) error {
	z := html.NewTokenizer(strings.NewReader(s))
	var (
		open []string
		read int
		text strings.Builder
	)
	for {
		kind := z.Next()
		raw := string(z.Raw())
		if kind == html.ErrorToken {
			if err := z.Err(); !errors.Is(err, io.EOF) {
				return fmt.Errorf("cannot be read: %w", err)
			}
			break
		}
		read += len(raw)
		token := z.Token()
		if kind == html.TextToken {
			if strings.Contains(raw, "<") {
				return errors.New(`has a "<" that begins no tag: write &lt;`)
			}
			text.WriteString(strings.ReplaceAll(token.Data, "\n", " ")) // as it is shown
			continue
		}
		if strings.Contains(raw, "{{") {
			return errors.New("a variable stands within a tag: only texts may have them")
		}
		var err error
		switch kind {
		case html.StartTagToken, html.SelfClosingTagToken:
			if err = checkTag(&token, host); err == nil && !slices.Contains(voidElements, token.Data) {
				if kind == html.SelfClosingTagToken {
					return fmt.Errorf("<%s/> is not closed: only <br>, <hr> and <wbr> need no end", token.Data)
				}
				open = append(open, token.Data)
			}
			if slices.Contains(blockElements, token.Data) {
				text.WriteByte('\n')
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				return fmt.Errorf("</%.20s> closes nothing that is open there", token.Data)
			}
			open = open[:len(open)-1]
			if slices.Contains(blockElements, token.Data) {
				text.WriteByte('\n')
			}
		default:
			return errors.New("must have no comment and no declaration")
		}
		if err != nil {
			return err
		}
	}
	if read != len(s) {
		return errors.New("ends within a tag")
	}
	if len(open) > 0 {
		return fmt.Errorf("<%s> is not closed", open[len(open)-1])
	}
	words, err := cutTemplate(text.String())
	if err != nil {
		return err
	}
	return checkText(words, host, true)
}

func checkTag(token *html.Token, host string) error {
	if !slices.Contains(allowedElements, token.Data) {
		if reason := why[token.Data]; reason != "" {
			return fmt.Errorf("<%s> is not allowed: %s", token.Data, reason)
		}
		return fmt.Errorf("<%.20s> is not allowed", token.Data)
	}
	for _, a := range token.Attr {
		switch {
		case !slices.Contains(allowedAttributes, a.Key):
			return fmt.Errorf("<%s> has the attribute %.40q, which is not allowed", token.Data, a.Key)
		case a.Key == "style" && badStyle.MatchString(a.Val):
			return fmt.Errorf("<%s> has a style that could fetch something or hide that it does", token.Data)
		}
		err := checkPlain(a.Val, false)
		if err == nil {
			err = checkLinks(a.Val, host)
		}
		if err == nil && slices.Contains(readAttributes, a.Key) {
			err = checkNumbers(a.Val)
		}
		if err != nil {
			return fmt.Errorf("<%s %s>: %w", token.Data, a.Key, err)
		}
	}
	return nil
}

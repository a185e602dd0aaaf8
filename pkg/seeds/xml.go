package seeds

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of the XML itself.
const (
	maxDepth = 32
	maxToken = 64 << 10 // bytes of one tag, text or comment; certificates and signatures, which are passed over, are longer than a field
)

// A walker reads XML token by token, so that a large file is never in memory as a tree. Its handlers descend as the elements do: each takes one element
// whole, to its end.
type walker struct {
	d     *xml.Decoder
	in    *meter
	depth int
	at    int // the line that the last token begins on
}

func newWalker(in *meter) *walker { return &walker{d: xml.NewDecoder(in), in: in} }

// A handler takes the rest of the element that begins with the tag, to its end.
type handler func(tag xml.StartElement) error

// wrong returns an error at the last token.
func (w *walker) wrong(field string, err error) error {
	return &Error{Line: w.at, Field: field, Err: err}
}

// next returns the next start, end or text. Comments and instructions are passed over. A document type is refused, and with it all entities but
// XML's own five, which the decoder has no others of.
func (w *walker) next() (xml.Token, error) {
	for {
		w.in.limitToken(maxToken)
		w.at, _ = w.d.InputPos()
		token, err := w.d.Token()
		switch {
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		case err != nil:
			if _, ok := errors.AsType[*xml.SyntaxError](err); ok {
				err = errors.New("is not well-formed XML in UTF-8") // the decoder's words may repeat a piece of the text
			}
			return nil, w.wrong("file", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if w.depth++; w.depth > maxDepth {
				return nil, w.wrong("file", fmt.Errorf("has more than %d elements inside each other", maxDepth))
			}
			return token, nil
		case xml.EndElement:
			w.depth--
			return token, nil
		case xml.CharData:
			return token, nil
		case xml.Directive:
			return nil, w.wrong("file", errors.New("has a document type (DOCTYPE), which is refused"))
		}
	}
}

// children gives each child of the element that has just begun to the handler of its name. Text between children is of no meaning. A child that has a
// handler may come once, or any number of times if the handlers name it with an asterisk behind; "" handles the others, which are passed over without.
func (w *walker) children(name func(xml.Name) string, handlers map[string]handler) error {
	seen := map[string]bool{}
	for {
		token, err := w.next()
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			n := name(token.Name)
			h, once := handlers[n]
			if !once {
				h = handlers[n+"*"]
			}
			if h == nil {
				h = handlers[""]
			}
			if once && seen[n] {
				return w.wrong(n, errors.New("is there twice"))
			}
			seen[n] = true
			if h == nil {
				err = w.skip()
			} else {
				err = h(token)
			}
			if err != nil {
				return err
			}
		}
	}
}

// skip passes over the rest of the element that has just begun.
func (w *walker) skip() error {
	for end := w.depth - 1; w.depth > end; {
		if _, err := w.next(); err != nil {
			return err
		}
	}
	return nil
}

// text returns the text of the element that has just begun, without the white space around it.
func (w *walker) text(field string) (string, error) {
	var b strings.Builder
	for {
		token, err := w.next()
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case xml.EndElement:
			return strings.TrimSpace(b.String()), nil
		case xml.StartElement:
			return "", w.wrong(field, errors.New("must be text without elements"))
		case xml.CharData:
			if b.Write(token); b.Len() > MaxField {
				return "", w.wrong(field, fmt.Errorf("has more than %d bytes", MaxField))
			}
		}
	}
}

// into returns a handler that stores the text of an element.
func (w *walker) into(field string, to *string) handler {
	return func(xml.StartElement) (err error) {
		*to, err = w.text(field)
		return err
	}
}

// attr returns an attribute by the first of its names that is there; older drafts had other names for some.
func (w *walker) attr(tag xml.StartElement, names ...string) (string, error) {
	for _, name := range names {
		value, n := "", 0
		for _, a := range tag.Attr {
			if a.Name.Space == "" && a.Name.Local == name {
				value, n = strings.TrimSpace(a.Value), n+1
			}
		}
		switch {
		case n > 1:
			return "", w.wrong(name, errors.New("is there twice"))
		case len(value) > MaxField:
			return "", w.wrong(name, fmt.Errorf("has more than %d bytes", MaxField))
		case n == 1:
			return value, nil
		}
	}
	return "", nil
}

// local names an element without its namespace.
func local(n xml.Name) string { return n.Local }

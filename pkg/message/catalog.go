// Package message turns a one-time code into the words that reach a person: a short message, a call, an email or a letter, in the
// person's language. It also words notices: what happened to a person's second factors, and what to do if it was somebody else.
//
// It promises that in otpost's own words the digits come first in a short message, and in any words stand unbroken; that a short message
// ends with at most one line for the phone, the one browsers fill the code in from (WebOTP) or an Android app's hash, where that is wanted,
// and that no name, label, payee or amount can put a line of its own, or a look-alike of that line, into a message; that a notice begins
// with the app's name and never with digits, and that no label puts a link into it; that email has no link, no image and nothing
// that tells the sender it was opened.
//
// An app may have its own words for codes ([Template], [Catalog.SetOverrides]). They are held to the same: [Catalog.Check] refuses what
// leaves the code out, shows a transaction in part, or leads anywhere. A template that is not fit is never used, and costs nobody the code.
//
// Wording lives in locales/active.<tag>.json (go-i18n's format), one file a language. [New] refuses catalogs in which a message, a
// placeholder or a plural form is missing, so a half-translated language fails the build's tests, not a login.
//
// A short message is written in the GSM 7-bit alphabet (3GPP TS 23.038) where the language reads well in it, so that it fits one
// segment of 160 septets: en, de, es, fr, it and, but for a last minute ("1 minutę"), pl. Spanish says "clave" there for that reason.
// The code of a recovery comes with a warning and takes two segments, as notices do. Czech, Japanese and notices in Polish are sent as
// UCS-2, 70 characters a segment: without their letters they would look like a forgery, and a message that people are to trust may
// cost another segment. Names and labels outside the GSM alphabet change the encoding in any language. An app that would rather save the
// segment may have look-alikes written in their place ([Fold]); [Segments] tells what a message takes.
package message

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	texttemplate "text/template"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"
)

//go:embed locales/active.*.json templates/*.tmpl
var files embed.FS

// ErrInput is wrapped by every error of a [Catalog] that the input is to blame for. Trying again is of no use.
var ErrInput = errors.New("message input not usable")

// maxRemembered bounds the locale names whose match is remembered. Names come from apps and their users, so the memory must not grow
// with them; real traffic asks for a few dozen.
const maxRemembered = 512

// A Catalog holds the compiled wording of every locale. It is safe for concurrent use; make one and keep it.
type Catalog struct {
	locales []*locale // English first, the rest by tag; in the order of the matcher
	byName  map[string]*locale
	matcher language.Matcher
	html    *template.Template
	text    *texttemplate.Template
	ownHTML *template.Template

	overrides atomic.Pointer[overrides] // apps' own words; nil for none

	// matched remembers what asked names were matched to (nil: to nothing). Readers take no lock: writers replace the map.
	matched   atomic.Pointer[map[string]*locale]
	rememberM sync.Mutex
}

// New parses and compiles the embedded catalogs and templates. It fails when a catalog lacks a message, a placeholder or a plural form.
func New() (*Catalog, error) { return load(files) }

func load(fsys fs.FS) (*Catalog, error) {
	paths, err := fs.Glob(fsys, "locales/active.*.json")
	if err != nil {
		return nil, fmt.Errorf("list message catalogs: %w", err)
	}
	bundle := i18n.NewBundle(language.English)
	for _, path := range paths {
		file, err := bundle.LoadMessageFileFS(fsys, path)
		if err != nil {
			return nil, fmt.Errorf("read message catalog %s: %w", path, err)
		}
		if want := "locales/active." + file.Tag.String() + ".json"; path != want {
			return nil, fmt.Errorf("read message catalog %s: its language would be written %s", path, want)
		}
	}

	c := &Catalog{byName: make(map[string]*locale)}
	tags := bundle.LanguageTags() // English is first: it is the bundle's default
	for _, tag := range tags {
		l, err := compile(bundle, tag)
		if err != nil {
			return nil, fmt.Errorf("compile message catalog %s: %w", tag, err)
		}
		if err := l.sameShape(c.locales); err != nil {
			return nil, fmt.Errorf("compile message catalog %s: %w", tag, err)
		}
		c.locales = append(c.locales, l)
		c.byName[l.name] = l
	}
	c.matcher = language.NewMatcher(tags)
	c.matched.Store(&map[string]*locale{})

	if c.html, err = template.ParseFS(fsys, "templates/email.html.tmpl"); err != nil {
		return nil, fmt.Errorf("parse email template: %w", err)
	}
	if c.ownHTML, err = template.ParseFS(fsys, "templates/own.html.tmpl"); err != nil {
		return nil, fmt.Errorf("parse email template: %w", err)
	}
	if c.text, err = texttemplate.ParseFS(fsys, "templates/email.txt.tmpl"); err != nil {
		return nil, fmt.Errorf("parse email template: %w", err)
	}
	return c, nil
}

// Locales returns the BCP 47 tags that messages are written in, English first.
func (c *Catalog) Locales() []string {
	names := make([]string, len(c.locales))
	for i, l := range c.locales {
		names[i] = l.name
	}
	return names
}

// locale picks the wording for a message: the best match of what was asked for, else of the app's default, else English.
func (c *Catalog) locale(asked, fallback string) *locale {
	if l := c.match(asked); l != nil {
		return l
	}
	if l := c.match(fallback); l != nil {
		return l
	}
	return c.locales[0]
}

// match returns the locale that a reader of the named language understands best by CLDR's language matching, nil for none. What is
// not a language tag, or is longer than any real one, matches nothing.
func (c *Catalog) match(name string) *locale {
	if l, ok := c.byName[name]; ok {
		return l
	}
	if name == "" || len(name) > maxTag {
		return nil
	}
	if l, ok := (*c.matched.Load())[name]; ok {
		return l
	}
	var l *locale
	tag, err := language.Parse(name)
	// A ValueError says that some subtag is well-formed but not known ("de-XY"); the rest of the tag still tells the language.
	if _, unknown := errors.AsType[language.ValueError](err); err == nil || unknown {
		if _, i, confidence := c.matcher.Match(tag); confidence > language.No {
			l = c.locales[i]
		}
	}
	c.remember(name, l)
	return l
}

// maxTag is the longest language tag looked at, in bytes; RFC 5646, section 4.4.1, asks for room for 35.
const maxTag = 35

func (c *Catalog) remember(name string, l *locale) {
	c.rememberM.Lock()
	defer c.rememberM.Unlock()
	old := *c.matched.Load()
	if len(old) >= maxRemembered {
		return
	}
	grown := make(map[string]*locale, len(old)+1)
	for k, v := range old {
		grown[k] = v
	}
	grown[strings.Clone(name)] = l // the name may be a slice of a whole request, which must not be kept alive
	c.matched.Store(&grown)
}

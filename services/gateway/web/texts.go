package web

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"
)

// Locales are the languages of the pages, English first, as the messages have them.
func Locales() []string { return []string{"en", "cs", "de", "es", "fr", "it", "ja", "pl"} }

// Texts holds what pages say in every language.
type Texts struct {
	bundle  *i18n.Bundle
	matcher language.Matcher
	locales map[string]*Locale
}

// LoadTexts reads message files, "<folder>/<area>.<tag>.json", from each of the file systems. It fails where a language of an area is missing, or where a
// language lacks a text that English has, or has one that English lacks.
func LoadTexts(sources ...fs.FS) (*Texts, error) {
	t := &Texts{bundle: i18n.NewBundle(language.English), locales: map[string]*Locale{}}
	keys := map[string]map[string]bool{} // by language
	for _, source := range sources {
		paths, err := fs.Glob(source, "locales/*.json")
		if err != nil {
			return nil, fmt.Errorf("list texts: %w", err)
		}
		for _, path := range paths {
			file, err := t.bundle.LoadMessageFileFS(source, path)
			if err != nil {
				return nil, fmt.Errorf("read texts %s: %w", path, err)
			}
			tag := file.Tag.String()
			if keys[tag] == nil {
				keys[tag] = map[string]bool{}
			}
			for _, m := range file.Messages {
				if keys[tag][m.ID] {
					return nil, fmt.Errorf("read texts %s: %s is there twice", path, m.ID)
				}
				keys[tag][m.ID] = true
			}
		}
	}
	var tags []language.Tag
	for _, name := range Locales() {
		for id := range keys["en"] {
			if !keys[name][id] {
				return nil, fmt.Errorf("texts: %s lacks %s", name, id)
			}
		}
		for id := range keys[name] {
			if !keys["en"][id] {
				return nil, fmt.Errorf("texts: %s has %s, which English lacks", name, id)
			}
		}
		tag := language.MustParse(name)
		tags = append(tags, tag)
		t.locales[name] = &Locale{Tag: name, localizer: i18n.NewLocalizer(t.bundle, name), ids: keys["en"]}
	}
	t.matcher = language.NewMatcher(tags)
	return t, nil
}

// Match returns the language that fits best: what was chosen, else what the browser asks for (Accept-Language), else English.
func (t *Texts) Match(chosen, accept string) *Locale {
	for _, wanted := range []string{chosen, accept} {
		if wanted == "" {
			continue
		}
		tags, _, err := language.ParseAcceptLanguage(wanted)
		if err != nil || len(tags) == 0 {
			continue
		}
		if _, i, confidence := t.matcher.Match(tags...); confidence > language.No {
			return t.locales[Locales()[i]]
		}
	}
	return t.locales["en"]
}

// Locale returns a language by its tag, or English.
func (t *Texts) Locale(tag string) *Locale {
	if l, ok := t.locales[tag]; ok {
		return l
	}
	return t.locales["en"]
}

// IDs are the names of all texts, in order.
func (t *Texts) IDs() []string { return slices.Sorted(maps.Keys(t.locales["en"].ids)) }

// A Locale says things in one language.
type Locale struct {
	Tag       string
	localizer *i18n.Localizer
	ids       map[string]bool
}

// Has reports whether there is a text of this name.
func (l *Locale) Has(id string) bool { return l.ids[id] }

// T returns a text. The rest are names and values of its placeholders, in turn; the value of "Count" chooses the plural form. A text that is not there is
// a fault of the caller's that tests meet: it is shown by its name.
func (l *Locale) T(id string, pairs ...any) string {
	cfg := &i18n.LocalizeConfig{MessageID: id}
	data := make(map[string]any, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		name := fmt.Sprint(pairs[i])
		data[name] = pairs[i+1]
		if name == "Count" {
			cfg.PluralCount = pairs[i+1]
		}
	}
	cfg.TemplateData = data
	text, err := l.localizer.Localize(cfg)
	if err != nil && text == "" {
		return "[" + id + "]"
	}
	return strings.TrimSpace(text)
}

// Name is what the language calls itself.
func (l *Locale) Name() string {
	name := display.Self.Name(language.MustParse(l.Tag))
	_, size := utf8.DecodeRuneInString(name)
	return strings.ToUpper(name[:size]) + name[size:]
}

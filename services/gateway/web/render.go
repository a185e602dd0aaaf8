package web

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// A Look is what an app may choose of its pages.
type Look struct {
	Name   string       // of the app, as messages name it
	Accent string       // "#rrggbb"; empty for the house's own
	Logo   template.URL // data: URL of a picture; empty for the name in its place
}

// A Page is what every template is given. Data is the page's own.
type Page struct {
	Look
	Lang    string
	Langs   []*Locale // to choose from; none where the page cannot be asked for again
	Nonce   string
	CSRF    string
	Path    string       // of the page itself, for the choice of language
	LangAt  string       // where the choice of language is sent to; empty for /language
	Theme   template.CSS // the app's colours
	Wide    bool         // settings and the desk: more room
	Refresh int          // seconds after which the page asks anew by itself; 0 for never
	Errors  []FieldError // what was wrong with the form
	Flash   string       // what has just been done; a text's name
	Signed  string       // who the page is for, as the app calls them
	Back    string       // where leaving leads to; empty for nowhere
	Data    any
}

// A FieldError says what is wrong with a field; without a field, with the form.
type FieldError struct {
	Field string
	Text  string // in the page's language
}

// Err is the error of a field, or empty.
func (p Page) Err(field string) string {
	for _, e := range p.Errors {
		if e.Field == field {
			return e.Text
		}
	}
	return ""
}

// Templates are the pages of every language, ready to be shown.
type Templates struct {
	pages map[string]map[string]*template.Template // by language and name
	now   func() time.Time
}

// LoadTemplates reads pages, "templates/<area>/<name>.html" in each source; a page is called <area>/<name>, defines "title" and "main", and may use what
// this package's own templates define.
func LoadTemplates(texts *Texts, now func() time.Time, sources ...fs.FS) (*Templates, error) {
	t := &Templates{pages: map[string]map[string]*template.Template{}, now: now}
	for _, tag := range Locales() {
		l := texts.Locale(tag)
		base, err := template.New("base").Funcs(functions(l, now)).ParseFS(files, "templates/*.html")
		if err != nil {
			return nil, fmt.Errorf("read templates: %w", err)
		}
		t.pages[tag] = map[string]*template.Template{}
		for _, source := range sources {
			paths, err := fs.Glob(source, "templates/*/*.html")
			if err != nil {
				return nil, fmt.Errorf("list templates: %w", err)
			}
			shared := template.Must(base.Clone())
			for _, p := range paths { // what starts with "_" is shared by the pages of its source
				if strings.HasPrefix(path.Base(p), "_") {
					if shared, err = shared.ParseFS(source, p); err != nil {
						return nil, fmt.Errorf("read template: %w", err)
					}
				}
			}
			for _, p := range paths {
				if strings.HasPrefix(path.Base(p), "_") {
					continue
				}
				page, err := template.Must(shared.Clone()).ParseFS(source, p)
				if err != nil {
					return nil, fmt.Errorf("read template: %w", err)
				}
				t.pages[tag][path.Base(path.Dir(p))+"/"+strings.TrimSuffix(path.Base(p), ".html")] = page
			}
		}
	}
	return t, nil
}

// Names are the names of all pages.
func (t *Templates) Names() []string {
	var names []string
	for name := range t.pages["en"] {
		names = append(names, name)
	}
	return names
}

// Show writes a page.
func (t *Templates) Show(w http.ResponseWriter, status int, name string, p Page) error {
	page, ok := t.pages[p.Lang][name]
	if !ok {
		return fmt.Errorf("show page: there is no %q in %q", name, p.Lang)
	}
	var b bytes.Buffer
	if err := page.ExecuteTemplate(&b, "layout", p); err != nil {
		return fmt.Errorf("show page %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", p.Lang)
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // fails only if the browser has gone
	return nil
}

// functions are what templates can call.
func functions(l *Locale, now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"t":      l.T,
		"has":    l.Has,
		"dict":   dict,
		"ago":    func(stamp string) string { return l.Ago(now(), stamp) },
		"until":  func(stamp string) string { return l.Until(now(), stamp) },
		"on":     func(stamp string) string { return l.Date(stamp) },
		"icon":   icon,
		"static": staticURL,
		"lines":  func(s string) []string { return strings.Split(s, "\n") },
		"add":    func(a, b int) int { return a + b },
	}
}

// dict makes a map of names and values in turn, for templates that take more than one thing.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict: a name without a value")
	}
	out := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, errors.New("dict: a name that is no text")
		}
		out[name] = pairs[i+1]
	}
	return out, nil
}

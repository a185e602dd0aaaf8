package web_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/otpost/otpost/services/gateway/web"
)

// surfaces are what people see: the hosted pages and the support desk, each with what all pages share.
var surfaces = map[string]fs.FS{"pages": os.DirFS("../pages"), "desk": os.DirFS("../desk")}

// forms are the plural forms of each language (CLDR, Language Plural Rules).
var forms = map[string][]string{
	"en": {"one", "other"}, "de": {"one", "other"}, "es": {"many", "one", "other"}, "fr": {"many", "one", "other"}, "it": {"many", "one", "other"},
	"cs": {"few", "many", "one", "other"}, "pl": {"few", "many", "one", "other"}, "ja": {"other"},
}

// A text is a message as its file has it: one form, "other", or the forms of a plural.
type text map[string]string

func (m *text) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*m = text{"other": one}
		return nil
	}
	return json.Unmarshal(b, (*map[string]string)(m))
}

// read returns the texts of a language.
func read(t *testing.T, tag string, sources ...fs.FS) map[string]text {
	t.Helper()
	out := map[string]text{}
	for _, source := range sources {
		paths, err := fs.Glob(source, "locales/*."+tag+".json")
		if err != nil || len(paths) == 0 {
			t.Fatalf("texts of %s: %v, %v", tag, paths, err)
		}
		for _, p := range paths {
			b, err := fs.ReadFile(source, p)
			if err == nil {
				err = json.Unmarshal(b, &out)
			}
			if err != nil {
				t.Fatalf("%s: %v", p, err)
			}
		}
	}
	return out
}

var placeholder = regexp.MustCompile(`\.([A-Z][A-Za-z]*)`)

// placeholders are what a text names, a date's own choice of forms aside.
func placeholders(s string) []string {
	var out []string
	for _, braces := range regexp.MustCompile(`{{[^}]*}}`).FindAllString(s, -1) {
		for _, m := range placeholder.FindAllStringSubmatch(braces, -1) {
			out = append(out, m[1])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Every language says all that English says: with the same placeholders, in all plural forms that it has, and in its own words.
func TestTextsOfEveryLanguage(t *testing.T) {
	t.Parallel()
	for name, surface := range surfaces {
		if _, err := web.LoadTexts(web.Files(), surface); err != nil { // which holds that the names are the same
			t.Errorf("%s: %v", name, err)
		}
		english := read(t, "en", web.Files(), surface)
		for _, tag := range web.Locales() {
			texts := read(t, tag, web.Files(), surface)
			for id, said := range texts {
				want := []string{"other"}
				if len(english[id]) > 1 {
					want = forms[tag]
				}
				if got := slices.Sorted(maps.Keys(said)); !slices.Equal(got, want) {
					t.Errorf("%s %s has the forms %v, want %v", tag, id, got, want)
				}
				for form, s := range said {
					if got, want := placeholders(s), placeholders(english[id]["other"]); !slices.Equal(got, want) && !(form == "one" && slices.Equal(append(got, "Count"), want)) {
						t.Errorf("%s %s (%s) names %v, want %v", tag, id, form, got, want)
					}
					if strings.TrimSpace(s) == "" || strings.ContainsAny(s, "<>\u202a\u202b\u202d\u202e\ufffd") || strings.Count(s, "{{") != strings.Count(s, "}}") {
						t.Errorf("%s %s (%s) is %q", tag, id, form, s)
					}
				}
				if s := english[id]["other"]; tag != "en" && said["other"] == s && len(strings.Fields(s)) >= 4 {
					t.Errorf("%s %s is English: %q", tag, id, s)
				}
			}
		}
	}
}

var (
	literal = regexp.MustCompile("[\"`](common|challenge|setup|settings|recovery|desk)\\.([a-z0-9_%]*)[\"`]([^\"`\n]{0,40}[\"`](_[a-z_]+)[\"`])?")
	source  = regexp.MustCompile(`\.(go|html)$`)
)

// named returns the names of texts in code and templates, each as a form: what is put together when a page is shown stands in it as any word.
func named(t *testing.T, root fs.FS) []*regexp.Regexp {
	t.Helper()
	seen := map[string]bool{}
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !source.MatchString(p) || strings.HasSuffix(p, "_test.go") {
			return err
		}
		b, err := fs.ReadFile(root, p)
		for _, m := range literal.FindAllStringSubmatch(string(b), -1) {
			name := strings.ReplaceAll(m[2], "%s", "[a-z0-9_]+")
			if name == "" || strings.HasSuffix(name, "_") {
				name += "[a-z0-9_]+" + m[4]
			}
			seen[m[1]+`\.`+name] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []*regexp.Regexp
	for form := range seen {
		out = append(out, regexp.MustCompile("^"+form+"$"))
	}
	return out
}

// Every text that code and templates name is there, and every text that is there is named.
func TestTextsAreUsed(t *testing.T) {
	t.Parallel()
	shared, used, ids := named(t, os.DirFS(".")), map[string]bool{}, map[string]bool{}
	for name, surface := range surfaces {
		english := read(t, "en", web.Files(), surface)
		for _, form := range slices.Concat(shared, named(t, surface)) {
			found := false
			for id := range english {
				ids[id] = true
				if form.MatchString(id) {
					used[id], found = true, true
				}
			}
			if !found {
				t.Errorf("%s names the text %s, which is not there", name, form)
			}
		}
	}
	for id := range ids {
		if !used[id] {
			t.Errorf("no page says %q", id)
		}
	}
}

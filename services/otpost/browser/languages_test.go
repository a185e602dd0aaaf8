package browser

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// texts are the sentences of the pages in a language, as their authors wrote them.
func texts(t *testing.T, area, lang string) map[string]string {
	t.Helper()
	dir := filepath.Join("..", "..", "gateway", "pages", "locales")
	if area == "common" {
		dir = filepath.Join("..", "..", "gateway", "web", "locales")
	}
	raw, err := os.ReadFile(filepath.Join(dir, area+"."+lang+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var any map[string]json.RawMessage
	if err := json.Unmarshal(raw, &any); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for key, value := range any {
		var one string
		if json.Unmarshal(value, &one) == nil {
			out[key] = one
		}
	}
	return out
}

// words are what stands in a language's texts, to tell them from another's.
func words(t *testing.T, lang string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, area := range []string{"common", "challenge", "setup", "settings"} {
		for _, text := range texts(t, area, lang) {
			for _, w := range latin.FindAllString(hole.ReplaceAllString(text, ""), -1) {
				out[strings.ToLower(w)] = true
			}
		}
	}
	return out
}

var (
	latin = regexp.MustCompile(`\p{L}{3,}`)
	hole  = regexp.MustCompile(`\{\{[^}]*\}\}`)
)

// The whole challenge in Czech and in Japanese: wrong, sent again too soon, another method, a backup code, run out. Nothing of it is English.
func TestChallengeInOtherLanguages(t *testing.T) {
	t.Parallel()
	langs := []string{"cs", "ja"}
	if os.Getenv("OTPOST_SCREENSHOTS") != "" {
		langs = append(langs, "de") // for its long words
	}
	for _, lang := range langs {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			say, common, setup := texts(t, "challenge", lang), texts(t, "common", lang), texts(t, "setup", lang)
			english := words(t, "en")
			for w := range words(t, lang) {
				delete(english, w)
			}
			p := newPerson(t, speaks(lang))
			here := func() {
				t.Helper()
				if got := must[string](p, "attribute", "html", "lang"); got != lang {
					t.Errorf("%s says that it is in %q", p.url().Path, got)
				}
				main := strings.Join(append(must[[]string](p, "items", "main"), must[[]string](p, "items", "footer form button")...), " ")
				main = strings.NewReplacer("Demo shop", "", p.email, "").Replace(main)
				left := slices.DeleteFunc(latin.FindAllString(main, -1), func(w string) bool { return !english[strings.ToLower(w)] })
				if len(left) > 0 {
					t.Errorf("%s still says in English %q:\n%s", p.url().Path, left, main)
				}
			}
			p.signUp().beginSetup()
			here()
			p.click(common["common.kind_sms"]).at("/setup/text")
			here()
			p.fill(setup["setup.sms_label"], p.phone).click(setup["setup.send"]).at("/setup/code")
			here()
			p.enter(setup["setup.code_label"], p.code(p.phone)).at("/setup/codes")
			here()
			codes := must[[]string](p, "items", "#codes li")
			p.downloads()
			p.click(setup["setup.save"]).says(setup["setup.codes_kept"]).click(setup["setup.finish"]).at("/setup/done")
			here()
			p.click(setup["setup.done_add"]).at("/setup").click(common["common.kind_email"]).at("/setup/email")
			p.fill(setup["setup.email_label"], p.email).click(setup["setup.send"]).at("/setup/code").enter(setup["setup.code_label"], p.code(p.email)).at("/setup/done")
			here()

			p.signOut().signIn().at("/challenge").says(say["challenge.title"])
			here()
			code := p.code(p.phone)
			p.fill(say["challenge.label"], other(code)).click(say["challenge.confirm"]).at("/challenge")
			p.until("to be told that it is wrong", func() (bool, error) {
				list, err := ask[[]string](p, "items", "[role=alert]")
				return len(list) == 1 && strings.Contains(list[0], "4"), err
			})
			here()
			p.pressDisabled(say["challenge.resend"])
			p.at("/challenge").click(say["challenge.not_arrived"]).says(say["challenge.help_sms"])
			here()
			p.click(say["challenge.other_way"]).at("/challenge/ways").says(say["challenge.ways_title"])
			here()
			p.click(common["common.kind_email"]).says(strings.Split(say["challenge.resend_soon"], "{{")[0])
			here()
			p.cooledDown()
			p.click(common["common.kind_email"]).at("/challenge").says("•••@example.com")
			here()
			p.cooledDown()
			p.open(system.Pages + "/challenge").at("/challenge").click(say["challenge.resend"]).at("/challenge").says(say["challenge.sent"])
			here()
			p.click(say["challenge.other_way"]).at("/challenge/ways").click(common["common.kind_backup_code"]).at("/challenge").says(say["challenge.title_backup_code"])
			here()
			p.fill(say["challenge.label_backup_code"], codes[0]).click(say["challenge.confirm"]).at("/account")
			p.click("Security settings").at("/settings")
			here()
			for _, path := range []string{"/settings/recovery", "/settings/codes", "/settings/activity", "/setup/app", "/setup/key", "/deactivate"} {
				p.open(system.Pages + path).at(path)
				here()
			}

			p.signOut().signIn().at("/challenge")
			p.runOut()
			p.fill(say["challenge.label"], p.code(p.phone)).click(say["challenge.confirm"]).at("/challenge").says(say["challenge.ended_expired_title"])
			here()
			p.click(strings.ReplaceAll(common["common.back_to"], "{{.App}}", "Demo shop")).at("/sign-in")
		})
	}
}

// The choice at the foot of each page changes the language at once, and stays.
func TestChoiceOfLanguage(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.signUp().beginSetup()
	p.fill("Language", "Deutsch")
	de := texts(t, "setup", "de")
	p.says(de["setup.choose_title"])
	p.click(texts(t, "common", "de")["common.kind_totp"]).at("/setup/app").says(de["setup.app_title"])
}

package browser

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// Without scripts everything goes but security keys.
func TestScriptsOff(t *testing.T) {
	t.Parallel()
	p := newPerson(t, scriptsOff)
	p.signUp().beginSetup().click("Text message").at("/setup/text").fill("Phone number", p.phone).click("Send the code").at("/setup/code").says("It expires in")
	code := p.code(p.phone)
	p.fill("Code", code[:3]+" "+code[3:]).click("Confirm").at("/setup/codes").silent("Copy")
	codes := must[[]string](p, "items", "#codes li")
	p.click("Finish").at("/setup/codes").says("Save, print or copy the codes first")
	dir := p.downloads()
	p.click("Save")
	if file := p.saved(dir); !strings.Contains(file, codes[0]) {
		t.Errorf("the file is:\n%s", file)
	}
	p.click("Print").at("/setup/codes/print").says("Print this page with your browser", codes[9]).click("Continue").at("/setup/codes")
	p.click("Finish").at("/setup/done").click("Continue to Demo shop").at("/account")

	p.signOut().signIn().at("/challenge").says("The code is valid for another 5 minutes")
	code = p.code(p.phone)
	p.fill("Code", other(code)).click("Continue").at("/challenge").says("you have 4 attempts left")
	p.click("Send the code again").at("/challenge/resend").says("It is a little too soon")
	p.click("Use another method").at("/challenge/ways").click("Back").at("/challenge")
	p.fill("Code", code).tick("Trust this browser").click("Continue").at("/account")

	p.settings().says("Trusted browsers", "Stop trusting").fill("Language", "Deutsch").click("Choose").at("/settings").
		says(texts(t, "settings", "de")["settings.title"])
	p.fill("Sprache", "English").click("Auswählen").at("/settings")
	p.click("Turn off two-step sign-in").at("/deactivate").click("Continue").at("/prove").fill("Code", p.code(p.phone)).click("Continue").at("/deactivate")
	p.click("Turn it off").at("/deactivate/confirm").says("Really turn it off?").click("Yes, turn it off").at("/deactivate/done")
}

// focus is what has the focus.
type focus struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	Name string `json:"name"`
	Ring bool   `json:"ring"` // whether it can be seen
}

// tabTo presses Tab until what has the name has the focus, which can be seen wherever it is.
func (p *person) tabTo(name string) *person {
	p.t.Helper()
	var passed []string
	before := must[focus](p, "focus")
	for range 40 {
		p.press(tab)
		f := must[focus](p, "focus")
		if f == before {
			continue
		}
		if f.Kind != "" && !f.Ring {
			p.t.Errorf("%s: nobody sees that %s %q has the focus", p.url().Path, f.Kind, f.Name)
		}
		if f.Name == name || strings.HasPrefix(f.Name, name) {
			return p
		}
		passed = append(passed, f.Name)
	}
	p.t.Fatalf("%s: Tab does not lead to %s, but to %q", p.url().Path, name, passed)
	return p
}

// hit presses a key that leads to another page.
func (p *person) hit(what key) *person {
	p.t.Helper()
	must[bool](p, "leave")
	return p.press(what)
}

func (p *person) types(text string) *person {
	p.t.Helper()
	p.do("type", chromedp.KeyEvent(text))
	return p
}

// typesAll types a code after which the page goes on by itself.
func (p *person) typesAll(code string) *person {
	p.t.Helper()
	must[bool](p, "leave")
	return p.types(code)
}

// has waits until something has the focus.
func (p *person) has(id string) *person {
	p.t.Helper()
	p.until("the focus on "+id, func() (bool, error) {
		f, err := ask[focus](p, "focus")
		return f.ID == id, err
	})
	return p
}

// With the keyboard alone: every step can be reached, what has the focus can be seen, and a fault takes the focus.
func TestKeyboardAlone(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.open(system.Shop + "/sign-up").at("/sign-up").has("email").types(p.email).tabTo("Password").types(password).hit(enter).at("/welcome")
	p.tabTo("Set up a second factor").hit(enter).at("/setup")
	p.tabTo("Skip to the content").press(enter).has("main")
	p.tabTo("Text message").hit(enter).at("/setup/text").has("address").types("12").hit(enter).at("/setup/text").has("errors")
	p.tabTo("Begin with + and the country code.").press(enter).has("address").press(selectAll).types(p.phone)
	p.tabTo("Send the code").hit(enter).at("/setup/code").has("code").typesAll(p.code(p.phone)).at("/setup/codes")
	p.downloads()
	p.tabTo("Save").press(space).says("Good. Keep them in a safe place.").tabTo("Finish").hit(enter).at("/setup/done").tabTo("Continue to Demo shop").
		hit(space).at("/account")

	p.tabTo("Sign out").hit(enter).at("/").tabTo("Sign in").hit(enter).at("/sign-in").has("email").types(p.email).tabTo("Password").types(password).hit(enter)
	p.at("/challenge").has("code")
	code := p.code(p.phone)
	p.types(other(code)).hit(enter).at("/challenge").says("you have 4 attempts left").has("code").types(code).tabTo("Trust this browser").press(space).
		tabTo("Continue").hit(enter).at("/account")

	p.open(system.Shop + "/account").at("/account").tabTo("Security settings").hit(enter).at("/settings").tabTo("Turn off two-step sign-in").hit(enter).
		at("/deactivate")
	p.tabTo("Continue").hit(enter).at("/prove").has("code").typesAll(p.code(p.phone)).at("/deactivate")
	p.tabTo("Turn it off").press(enter).says("Really turn it off?").press(escape)
	p.until("the question to be gone and the focus to be back", func() (bool, error) {
		f, err := ask[focus](p, "focus")
		return f.Name == "Turn it off", err
	})
}

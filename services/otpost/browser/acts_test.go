package browser

import "strings"

// What people do again and again.

// signUp makes an account at the shop and leads to the offer to protect it.
func (p *person) signUp() *person {
	p.t.Helper()
	p.open(system.Shop+"/sign-up").at("/sign-up").fill("Email", p.email).fill("Password", password).click("Sign up")
	return p.at("/welcome")
}

// beginSetup leads from the offer to the choice of methods.
func (p *person) beginSetup() *person {
	p.t.Helper()
	return p.click("Set up a second factor").at("/setup")
}

// byText sets up codes by text message, as far as the backup codes, in English.
func (p *person) byText() *person {
	p.t.Helper()
	p.click("Text message").at("/setup/text").fill("Phone number", p.phone).click("Send the code").at("/setup/code")
	return p.enter("Code", p.code(p.phone))
}

// keep saves the backup codes and finishes.
func (p *person) keep() (codes []string) {
	p.t.Helper()
	p.at("/setup/codes")
	codes = must[[]string](p, "items", "#codes li")
	if len(codes) != 10 {
		p.t.Fatalf("there are %d backup codes", len(codes))
	}
	p.downloads()
	p.click("Save").says("Good. Keep them in a safe place.").click("Finish").at("/setup/done")
	return codes
}

// protected is a person who gets codes by text message when they sign in, and is signed in.
func (p *person) protected() (codes []string) {
	p.t.Helper()
	p.signUp().beginSetup().byText()
	codes = p.keep()
	p.click("Continue to Demo shop").at("/account")
	return codes
}

// signOut signs out at the shop.
func (p *person) signOut() *person {
	p.t.Helper()
	return p.open(system.Shop + "/account").at("/account").click("Sign out").at("/").says("You are signed out")
}

// signIn gives the password. What comes then depends.
func (p *person) signIn() *person {
	p.t.Helper()
	return p.open(system.Shop+"/sign-in").at("/sign-in").fill("Email", p.email).fill("Password", password).click("Sign in")
}

// settings opens the security settings, from the shop.
func (p *person) settings() *person {
	p.t.Helper()
	return p.open(system.Shop + "/account").at("/account").click("Security settings").at("/settings")
}

func (p *person) signInWith(word string) *person {
	p.t.Helper()
	return p.open(system.Shop+"/sign-in").at("/sign-in").fill("Email", p.email).fill("Password", word).click("Sign in")
}

// prove answers the question that stands before an act which weakens the account, by the code that was sent.
func (p *person) prove() *person {
	p.t.Helper()
	p.at("/prove").says("Confirm that it is you")
	to := p.phone
	if lead := must[[]string](p, "items", "main .lead"); len(lead) > 0 && strings.Contains(lead[0], "@") {
		to = p.email
	}
	return p.enter("Code", p.code(to))
}

// pressDisabled sees that a button is there and cannot be used yet.
func (p *person) pressDisabled(text string) *person {
	p.t.Helper()
	s, err := ask[spot](p, "clickable", text)
	if err != nil || s.Fault != text+" cannot be used" {
		p.t.Errorf("%q can be used already (%v, %v)", text, s, err)
	}
	return p
}

package browser

import (
	"slices"
	"strings"
	"testing"
)

// other is a code that is wrong.
func other(code string) string {
	if strings.HasPrefix(code, "1") {
		return "2" + code[1:]
	}
	return "1" + code[1:]
}

// What is pasted may have spaces in it, or be the whole message; and nothing of it can be seen any more once it has served.
func TestPastedCodes(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.protected()
	p.mayUseClipboard()

	p.signOut().signIn().at("/challenge")
	code := p.code(p.phone)
	p.paste("Code", code[:3]+" "+code[3:])
	if got := must[string](p, "value", "Code"); got != code {
		t.Errorf("%q was pasted in place of %q", got, code)
	}
	p.click("Continue").at("/account")
	p.back()
	p.until("that the code is gone", func() (bool, error) {
		text, err := ask[string](p, "text")
		value, err2 := ask[string](p, "value", "Code")
		return err == nil && err2 == nil && text != "" && !strings.Contains(text+value, code), nil
	})

	p.signOut().signIn().at("/challenge")
	code = p.code(p.phone)
	p.paste("Code", "Your Demo shop code is "+code+". It is valid for 5 minutes. Do not tell it to anybody.")
	if got := must[string](p, "value", "Code"); got != code {
		t.Errorf("%q was pasted in place of %q", got, code)
	}
	p.click("Continue").at("/account")

	p.signOut().signIn().at("/challenge") // typed with a space
	code = p.code(p.phone)
	p.fill("Code", code[:3]+" "+code[3:]).click("Continue").at("/account")
}

// A double click takes one attempt, and each wrong code says how many are left, until there are none.
func TestDoubleClickAndWrongCodes(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.protected()
	p.signOut().signIn().at("/challenge")
	wrong := other(p.code(p.phone))
	p.fill("Code", wrong).doubleClick("Continue").at("/challenge").says("you have 4 attempts left")
	if value := must[string](p, "value", "Code"); value != "" {
		t.Errorf("the wrong code stands in the field: %q", value)
	}
	for _, left := range []string{"you have 3 attempts left", "you have 2 attempts left", "you have 1 attempt left"} {
		p.fill("Code", wrong).click("Continue").at("/challenge").says(left)
	}
	p.fill("Code", wrong).click("Continue").at("/challenge").says("Too many wrong codes")
	p.click("Back to Demo shop").at("/sign-in").says("The second step did not succeed")
}

// Another method, a backup code, and the help that is there.
func TestOtherMethods(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	codes := p.protected()
	p.settings().click("Add another method").at("/setup").click("Email").at("/setup/email").fill("Email address", p.email).click("Send the code").at("/setup/code")
	p.enter("Code", p.code(p.email)).at("/settings")

	p.signOut().signIn().at("/challenge").says("We sent a code to", "The code is valid for another", "Possible in")
	p.click("Didn’t get the code?").says("Check that your phone has a signal")
	p.click("Use another method").at("/challenge/ways").says("How do you want to confirm?").click("Email").says("It is a little too soon to send the code again.")
	p.cooledDown()
	p.click("Email").at("/challenge").says("•••@example.com")
	p.cooledDown()
	p.click("Use another method").at("/challenge/ways").says("Text message", "WhatsApp").click("Phone call").at("/challenge").says("The code is on its way.", "Call me again")
	p.click("Didn’t get the code?").says("until your phone rings")
	p.click("Use another method").at("/challenge/ways").click("Backup code").at("/challenge").says("Enter a backup code")
	p.fill("Backup code", strings.ToLower(strings.ReplaceAll(codes[4], "-", ""))).click("Continue").at("/account").says("Backup codes left: 9")

	p.settings().says("9 backup codes left").click("View or replace").at("/settings/codes").click("Show my codes").at("/settings/codes").says(codes[0])
	if used := must[[]string](p, "items", ".codes .used s"); !slices.Equal(used, codes[4:5]) {
		t.Errorf("%q are struck through, want %q", used, codes[4])
	}
}

// A browser that is trusted is not asked again, until the user signs out there, changes the password, or no longer trusts it.
func TestTrustedBrowser(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.protected()
	trust := func() {
		t.Helper()
		p.at("/challenge").tick("Trust this browser for 30 days").enter("Code", p.code(p.phone)).at("/account")
	}
	p.signOut().signIn()
	trust()
	p.closeBrowser()
	p.signIn().at("/account").says("not asked for: you trust this browser")

	p.signOut().signIn() // of the session in which it was trusted
	trust()

	p.open(system.Shop+"/account/password").at("/account/password").fill("Password now", password).fill("New password", password+" 2").click("Change password")
	p.at("/account").says("Your password is changed")
	p.closeBrowser()
	p.signInWith(password + " 2")
	trust()
	p.closeBrowser()
	p.signInWith(password + " 2").at("/account").says("you trust this browser")

	p.settings().says("Stop trusting").click("Stop trusting all").at("/settings/devices/all").click("Stop trusting all").at("/settings").
		says("No browser is trusted any more.")
	p.closeBrowser()
	p.signInWith(password + " 2")
	trust()

	p.erased() // a device manager says that the device was erased
	p.until("the browser to be asked", func() (bool, error) {
		p.closeBrowser()
		p.signInWith(password + " 2")
		var at string
		p.until("the next page", func() (bool, error) {
			at, _ = ask[string](p, "where")
			return at == "/account" || at == "/challenge", nil
		})
		return at == "/challenge", nil
	})

	// And out of everywhere.
	trust()
	p.click("Sign out everywhere").at("/").says("You are signed out everywhere")
	p.signInWith(password + " 2").at("/challenge")
}

// A payment is confirmed by a code of its own, and says what is agreed to.
func TestPayment(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.protected()
	p.open(system.Shop+"/buy/lamp").at("/buy/lamp").click("Buy for").at("/challenge").says("Confirm this payment", "89.00 EUR")
	p.fill("Code", p.code(p.phone)).click("Confirm payment").at("/account").says("confirmed by your second factor")
}

// The challenge has run out while the user looked for the phone; a newer one has taken its place; and a link serves once.
func TestEndedChallenges(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.protected()
	p.signOut().signIn().at("/challenge")
	code := p.code(p.phone)
	p.runOut()
	p.fill("Code", code).click("Continue").at("/challenge").says("The time is up").click("Back to Demo shop").at("/sign-in")

	p.open(system.Pages + "/settings").says("There is nothing open here")
	p.open(system.Pages + "/nowhere").says("There is no such page")
	link := p.link("settings", "")
	p.open(link).at("/settings").click("View or replace").at("/settings/codes").click("Show my codes").at("/reauthenticate").says("Confirm your password")
	p.open(link).says("This link has been used")
}

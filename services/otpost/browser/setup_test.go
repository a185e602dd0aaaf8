package browser

import (
	"strings"
	"testing"
)

// From sign-up to a sign-in with an authenticator app: codes come from the picture on the screen, by programs that know nothing of otpost.
func TestAuthenticatorApp(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.signUp().beginSetup().click("Authenticator app").at("/setup/app")
	app := p.scan()
	if !strings.Contains(app.label, p.email) {
		t.Errorf("the app calls the account %q", app.label)
	}
	p.fill("Code from the app", "000000").click("Confirm").at("/setup/app").says("That code is wrong")
	p.fill("Code from the app", app.code(0)).click("Confirm").at("/setup/codes")

	codes := must[[]string](p, "items", "#codes li")
	p.click("Finish").at("/setup/codes").says("Save, print or copy the codes first")
	dir := p.downloads()
	p.click("Save").says("Good. Keep them in a safe place.")
	file := p.saved(dir)
	for _, code := range codes {
		if !strings.Contains(file, code) {
			t.Errorf("the file has no %s:\n%s", code, file)
		}
	}
	if !strings.Contains(file, p.email) || len(codes) != 10 {
		t.Errorf("%d codes, and the file is:\n%s", len(codes), file)
	}
	p.click("Finish").at("/setup/done").says("Your account is protected").click("Continue to Demo shop").at("/account").
		says("authenticator app", "Backup codes left: 10")

	p.signOut().signIn().at("/challenge").says("Open your authenticator app").enter("Code", app.code(1)).at("/account")
	p.says("password and one-time code")
}

// By text message, with the backup codes printed; then by email too.
func TestTextMessageAndPrintedCodes(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.signUp().beginSetup().click("Text message").at("/setup/text")
	p.fill("Phone number", "0147").click("Send the code").at("/setup/text").says("Begin with + and the country code.")
	p.fill("Phone number", p.phone).fill("Name", "My phone").click("Send the code").at("/setup/code").says("We sent it as a text message to", "It expires in")
	p.click("Change the number").at("/setup/text").click("Enter the code sent to").at("/setup/code")
	code := p.code(p.phone)
	p.enter("Code", other(code)).at("/setup/code").says("That code is wrong")
	p.enter("Code", code).at("/setup/codes")

	codes := must[[]string](p, "items", "#codes li")
	must[bool](p, "noticePrint") // headless Chromium has no dialog to print with
	p.click("Print").says("Good. Keep them in a safe place.")
	if n := must[int](p, "timesPrinted"); n != 1 {
		t.Errorf("the page was printed %d times", n)
	}
	paper := p.paper()
	for _, code := range codes {
		if !strings.Contains(paper, code) {
			t.Errorf("%s is not on the paper", code)
		}
	}
	for _, button := range []string{"Save", "Copy", "Finish", "Language"} {
		if strings.Contains(paper, button) {
			t.Errorf("%s is on the paper:\n%s", button, paper)
		}
	}
	if !strings.Contains(paper, "Backup codes for Demo shop") || !strings.Contains(paper, p.email) {
		t.Errorf("the paper says:\n%s", paper)
	}
	p.click("Finish").at("/setup/done").click("Add another way as well").at("/setup").says("Add another way to sign in")
	p.click("Email").at("/setup/email").fill("Email address", "nobody").click("Send the code").says("This is not a whole email address.")
	p.fill("Email address", p.email).click("Send the code").at("/setup/code").enter("Code", p.code(p.email)).at("/setup/done")
	p.says("Your email address is set up.").click("Continue to Demo shop").at("/account").says("text message", "email")
}

// By email, with the backup codes copied.
func TestEmailAndCopiedCodes(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.signUp().beginSetup().click("Email").at("/setup/email").fill("Email address", p.email).click("Send the code").at("/setup/code")
	p.enter("Code", p.code(p.email)).at("/setup/codes")
	codes := must[[]string](p, "items", "#codes li")
	p.mayUseClipboard()
	clipboard.Lock()
	defer clipboard.Unlock()
	p.click("Copy").says("Copied", "Good. Keep them in a safe place.")
	if got := strings.Fields(p.clipboard()); strings.Join(got, " ") != strings.Join(codes, " ") {
		t.Errorf("the clipboard has %q, want %q", got, codes)
	}
	p.click("Finish").at("/setup/done").click("Continue to Demo shop").at("/account").says("email", "Backup codes left: 10")
}

// A security key: Chromium simulates one that is plugged in.
func TestSecurityKey(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.plugInKey()
	p.signUp().beginSetup().click("Security key").at("/setup/key").fill("Name", "Blue key").click("Use a security key").at("/setup/codes")
	p.keep()
	p.click("Add another way as well").at("/setup").click("Security key").at("/setup/key").click("Use a security key").says("This key is set up already.")
	p.open(system.Shop + "/account").at("/account").says("security key")

	p.signOut().signIn().at("/challenge").says("Use your security key")
	p.click("Use security key").at("/account").says("password and security key")
}

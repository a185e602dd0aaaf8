package browser

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Looking after what one has, from the first name to the end of it all.
func TestSettings(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	codes := p.protected()
	p.settings().says("Sign-in methods", "Text message", "10 backup codes left", "No browser is trusted", "Nothing is set")

	p.click("Rename").at("/settings/rename").fill("Name", "").fill("Name", "Old phone").click("Save").at("/settings").
		says("The name has been changed.", "Old phone")
	p.click("Add another method").at("/setup").click("Email").at("/setup/email").fill("Email address", p.email).fill("Name", "Mailbox").click("Send the code")
	p.at("/setup/code").enter("Code", p.code(p.email)).at("/settings").says("Your email address is set up.", "Mailbox")
	p.click("Ask for this first Mailbox").at("/settings").says("We ask for this method first from now on.")

	p.click("View or replace").at("/settings/codes").click("Show my codes").at("/settings/codes").says(codes[0], codes[9])
	p.click("Make new codes").at("/settings/codes/new").says("Make new backup codes?").click("Make new codes").at("/settings/codes").
		says("These are your new codes")
	fresh := must[[]string](p, "items", ".codes li")
	if len(fresh) != 10 || slices.Contains(fresh, codes[0]) {
		t.Errorf("the new codes are %q", fresh)
	}

	p.open(system.Pages + "/settings").at("/settings").click("Remove Mailbox").prove().at("/settings/remove").click("Remove").at("/settings/remove")
	p.says("The way you confirmed with is too new for this").click("Cancel").at("/settings").click("Ask for this first Old phone").at("/settings")
	p.click("Remove Mailbox").prove().at("/settings/remove").says("Remove “Mailbox”?")
	p.click("Remove").at("/settings").says("The method has been removed.").silent("Mailbox")
	p.click("Remove Old phone").at("/settings/remove").says("It is your last method").click("Back").at("/settings")
	p.click("Show more").at("/settings/activity").says("Sign-in method removed", "New backup codes made", "Sign-in method renamed", "Backup codes kept").
		click("Security settings").at("/settings")

	p.click("Turn off two-step sign-in").at("/deactivate").says("From then on your password alone").click("Continue").prove().at("/deactivate").
		says("One question is left")
	p.click("Turn it off").says("Really turn it off?").click("Keep it on").silent("Really turn it off?")
	p.click("Turn it off").says("Really turn it off?").click("Yes, turn it off").at("/deactivate/done").says("Two-step sign-in is off")
	p.click("Back to Demo shop").at("/account").says("You have no second factor any more.", "Off")
	p.signOut().signIn().at("/account")
}

// Who has lost the phone gives two proofs, waits, and sets up anew.
func TestRecovery(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.protected()
	const phrase = "a phrase that nobody guesses"
	p.settings().click("Manage").at("/settings/recovery").says("Set at least two")
	p.click("Set up Email address").prove().at("/settings/recovery/email").fill("Email address", p.email).click("Send a code").at("/settings/recovery/code")
	p.enter("Code", p.code(p.email)).at("/settings/recovery").says("The address has been confirmed and set.")
	p.click("Set up Passphrase").prove().at("/settings/recovery/passphrase").fill("Passphrase", phrase).fill("The same once more", phrase).click("Save")
	p.at("/settings/recovery").says("The passphrase has been set.")

	p.signOut().signIn().at("/challenge").click("Use another method").at("/challenge/ways").click("I can’t use any of these").at("/recovery")
	p.says("Lost your phone?", "What we have on file", "Email", "Recovery passphrase").click("Begin recovery").at("/recovery/prove").says("Which one first?")
	p.click("Recovery passphrase").at("/recovery/code").fill("Recovery passphrase", "not this one").click("Continue").at("/recovery/code").
		says("That is not right.")
	p.fill("Recovery passphrase", phrase).click("Continue").at("/recovery/prove").says("That was right.")
	p.click("Email").at("/recovery/code").enter("Code", p.message(p.email, sixDigits))
	p.until("the wait to be over", func() (bool, error) {
		at, err := ask[string](p, "where")
		if at == "/recovery/waiting" {
			p.look()
		}
		return at == "/recovery/done", err
	})
	p.says("Your old second steps are gone").click("Set up new ones").at("/setup").click("Authenticator app").at("/setup/app")
	app := p.scan()
	p.fill("Code from the app", app.code(0)).click("Confirm")
	p.keep()
	p.click("Continue to Demo shop").at("/challenge").says("authenticator app").enter("Code", app.code(1)).at("/account").says("authenticator app")
}

// Who did not ask for a recovery stops it with the code from the message.
func TestRecoveryStopped(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	codes := p.protected()
	p.settings().click("Manage").at("/settings/recovery")
	p.click("Set up Email address").prove().at("/settings/recovery/email").fill("Email address", p.email).click("Send a code").at("/settings/recovery/code")
	p.enter("Code", p.code(p.email)).at("/settings/recovery")
	p.open(system.Shop + "/account").at("/account")

	thief := newPerson(t)
	thief.email = p.email
	thief.signIn().at("/challenge").click("Use another method").at("/challenge/ways").click("I can’t use any of these").at("/recovery").says("10 codes left")
	thief.click("Begin recovery").at("/recovery/prove").click("Backup code").at("/recovery/code").fill("Code", codes[7]).click("Continue").at("/recovery/prove")

	p.settings().says("Somebody has asked to reset").click("Look at the reset").at("/recovery").says("A recovery is under way")
	p.click("That wasn’t me").at("/recovery/stop").enter("Code from the message", p.message(p.email, eightDigits)).at("/recovery/stopped").
		says("The recovery is stopped")
	thief.click("Email").says("stopped")
}

// Two agents reset what a user has lost, and see no code and no whole address.
func TestSupportDesk(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.protected()
	p.settings().click("Manage").at("/settings/recovery")
	p.click("Set up Email address").prove().at("/settings/recovery/email").fill("Email address", p.email).click("Send a code").at("/settings/recovery/code")
	p.enter("Code", p.code(p.email)).at("/settings/recovery")

	agent := func(name string) *person {
		a := newPerson(t)
		text, err := os.ReadFile(filepath.Join(system.dir, "agents", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var settings struct {
			Password string `yaml:"nats-password"`
		}
		if err := yaml.Unmarshal(text, &settings); err != nil || settings.Password == "" {
			t.Fatalf("%s has no password: %v", name, err)
		}
		a.open(system.Pages + "/support").at("/support/sign-in")
		if name == "alice" {
			a.fill("Agent", name).fill("Password", "a guess").click("Sign in").at("/support/sign-in").says("That did not work.")
		}
		a.fill("Agent", name).fill("Password", settings.Password).click("Sign in").at("/support/search")
		a.fill("User", p.user()).click("Find").at("/support/user").says("Text message", "•••@example.com", "On")
		return a.silent(p.email, p.phone)
	}
	alice := agent("alice")
	alice.click("Begin a reset").at("/support/begin").fill("Reason", "ticket 4711").click("Begin the reset").at("/support/user")
	alice.says("waits for another agent’s approval", "You have begun this reset")
	bob := agent("bob")
	bob.click("Approve").at("/support/confirm").says("Approve this reset?").click("Approve").at("/support/user").says("Approved.", "proves who they are")
	bob.click("Cancel the reset").at("/support/confirm").click("Cancel the reset").at("/support/user").says("Cancelled.")
	bob.click("Sign out").at("/support/sign-in")
}

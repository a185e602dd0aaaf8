package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/client"
)

// These examples stand for an app's own handlers. They have no output because they need an otpost that is up; services/otpost runs the same flows in its
// tests.

// c is what an app makes once and shares.
var c *client.Client

func ExampleConnect() {
	ctx := context.Background()
	c, err := client.Connect(ctx, client.Config{
		URL: "tls://nats.internal:4222", App: "shop", User: "app_shop", Password: os.Getenv("OTPOST_PASSWORD"), CAFile: "/etc/shop/nats-ca.pem",
	}, client.WithSource("https://shop.example"), client.WithTimeout(3*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
}

// A login in two requests: ask, show a field for the code, verify.
func ExampleClient_Login() {
	ctx := context.Background()
	login, err := c.Login(ctx, client.Login{
		User: "u-42", Session: "s-9f3c", Locale: "cs", Origin: client.Origin{IP: "203.0.113.7", UserAgent: "Firefox"},
	})
	if err != nil {
		log.Fatal(err) // nobody is let in
	}
	switch login.Outcome {
	case client.Skipped:
		fmt.Println("no second factor is needed:", login.Reason)
		return
	case client.Refused:
		fmt.Println(login.Message)
		return
	case client.Issued:
		fmt.Printf("Type the code of %d digits that went to %s", login.Digits, login.To)
	}

	var typed string
	_, _ = fmt.Scanln(&typed)
	verdict, err := c.Verify(ctx, client.Verify{Challenge: login.Challenge, Session: "s-9f3c", Code: typed})
	if err != nil {
		log.Fatal(err)
	}
	switch verdict.Result {
	case client.Verified:
		fmt.Println("welcome,", verdict.User, verdict.AMR)
	case client.Wrong:
		fmt.Printf("That was not it. %d attempts are left, the next after %s.", verdict.AttemptsLeft, verdict.RetryAfter.Duration())
	default:
		fmt.Println("The code cannot be used any more:", verdict.Result)
	}
}

// The same login for an app that goes by events: what becomes of it comes to Events.
func ExampleClient_PublishLogin() {
	id, err := c.PublishLogin(context.Background(), client.Login{
		User: "u-42", Session: "s-9f3c", Channel: client.KindSMS, To: client.To{SMS: "+14155550100"},
		Transaction: client.Transaction{Amount: "39.99 EUR", Payee: "Shop"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("its events name the login", id)
}

// The code did not come: have a call say it, where there is somebody who calls.
func ExampleClient_Resend() {
	ctx := context.Background()
	again := client.Resend{Challenge: "0193503c-…", Session: "s-9f3c"}
	status, err := c.ChallengeStatus(ctx, again.Challenge)
	if err != nil {
		log.Fatal(err)
	}
	if slices.Contains(status.Channels, client.ChannelVoice) {
		again.Channel = client.ChannelVoice
	}
	sent, err := c.Resend(ctx, again)
	if e, ok := errors.AsType[*client.Error](err); ok && errors.Is(err, client.ErrRateLimited) {
		fmt.Println("again in", e.RetryAfter)
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("It went to %s; %d more are possible.", sent.To, sent.SendsLeft)
}

// The first factor of a user: an authenticator app, and the backup codes that come with it.
func ExampleClient_BeginFactor() {
	ctx := context.Background()
	begun, err := c.BeginFactor(ctx, client.BeginFactor{
		User: "u-42", Session: "s-9f3c", Kind: client.KindTOTP, Label: "Phone", Account: "user@example.com",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(begun.QRSVG, "or by hand:", begun.Secret)

	var typed string
	_, _ = fmt.Scanln(&typed)
	confirmed, err := c.ConfirmFactor(ctx, client.ConfirmFactor{Ceremony: begun.Ceremony, Session: "s-9f3c", Code: typed})
	if errors.Is(err, client.ErrWrongCode) {
		fmt.Println("That was not it; try the next one.")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	if len(confirmed.BackupCodes) > 0 { // the first factor works only once these are in safety
		fmt.Println("Save these, each is good for one login:", confirmed.BackupCodes)
		if _, err := c.AcknowledgeBackupCodes(ctx, client.AcknowledgeBackupCodes{User: "u-42", Session: "s-9f3c", How: client.Printed}); err != nil {
			log.Fatal(err)
		}
	}
}

// Another factor: a phone number. The user has one already, so the password must have been entered a moment ago.
func ExampleClient_BeginFactor_sms() {
	ctx := context.Background()
	passwordEntered := time.Now()
	begun, err := c.BeginFactor(ctx, client.BeginFactor{
		User: "u-42", Session: "s-9f3c", Kind: client.KindSMS, Address: "+1 415 555 0100", ReauthenticatedAt: passwordEntered,
	})
	if errors.Is(err, client.ErrReauthenticationRequired) {
		fmt.Println("Please enter your password again.")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("A code went to", begun.To)

	var typed string
	_, _ = fmt.Scanln(&typed)
	if _, err := c.ConfirmFactor(ctx, client.ConfirmFactor{Ceremony: begun.Ceremony, Session: "s-9f3c", Code: typed}); err != nil {
		log.Fatal(err)
	}
	if _, err := c.PreferFactor(ctx, client.PreferFactor{User: "u-42", Fallbacks: []client.Kind{client.KindTOTP, client.KindSMS}}); err != nil {
		log.Fatal(err)
	}
}

// A security key: what navigator.credentials.create needs goes to the browser, what it returns comes back.
func ExampleClient_ConfirmFactor_securityKey() {
	http.HandleFunc("POST /keys/begin", func(w http.ResponseWriter, r *http.Request) {
		begun, err := c.BeginFactor(r.Context(), client.BeginFactor{
			User: "u-42", Session: "s-9f3c", Kind: client.KindWebAuthn, Label: "Blue key", ReauthenticatedAt: time.Now(),
		})
		if err != nil {
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"ceremony": begun.Ceremony, "options": begun.Options})
	})
	http.HandleFunc("POST /keys/confirm", func(w http.ResponseWriter, r *http.Request) {
		var from struct {
			Ceremony   string
			Credential json.RawMessage
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&from); err != nil {
			http.Error(w, "no JSON", http.StatusBadRequest)
			return
		}
		confirmed, err := c.ConfirmFactor(r.Context(), client.ConfirmFactor{Ceremony: from.Ceremony, Session: "s-9f3c", Credential: from.Credential})
		if err != nil {
			http.Error(w, "this key was not added", http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, "added as", confirmed.Factor)
	})
}

// A login with a security key.
func ExampleClient_BeginWebAuthn() {
	ctx := context.Background()
	login, err := c.Login(ctx, client.Login{User: "u-42", Session: "s-9f3c", Channel: client.KindWebAuthn})
	if err != nil {
		log.Fatal(err)
	}
	key, err := c.BeginWebAuthn(ctx, login.Challenge, "s-9f3c")
	if err != nil {
		log.Fatal(err)
	}
	credential := askBrowser(key.Options) // navigator.credentials.get
	verdict, err := c.Verify(ctx, client.Verify{Challenge: login.Challenge, Session: "s-9f3c", Credential: credential})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(verdict.Result == client.Verified)
}

func askBrowser(options json.RawMessage) json.RawMessage { return options }

// Shown again, and replaced: the password must have been entered a moment ago.
func ExampleClient_BackupCodes() {
	ctx := context.Background()
	view := client.ViewBackupCodes{User: "u-42", Session: "s-9f3c", ReauthenticatedAt: time.Now()}
	codes, err := c.BackupCodes(ctx, view)
	if err != nil {
		log.Fatal(err)
	}
	for _, code := range codes.Codes {
		if code.UsedAt.IsZero() {
			fmt.Println(code.Code)
		}
	}
	if codes.Left <= 3 {
		if codes, err = c.RegenerateBackupCodes(ctx, view); err != nil {
			log.Fatal(err)
		}
		fmt.Println("The old ones are void. The new ones:", codes.Codes)
	}
}

// A browser that the user trusts skips the second factor; each time its token is another.
func ExampleClient_Verify_trustedDevice() {
	ctx := context.Background()
	verdict, err := c.Verify(ctx, client.Verify{
		Challenge: "0193503c-…", Session: "s-9f3c", Code: "123456", TrustDevice: client.TrustDevice{Label: "Firefox on Linux"},
	})
	if err != nil {
		log.Fatal(err)
	}
	cookie := http.Cookie{Name: "device", Value: verdict.Device, HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode, Path: "/login"}

	// at the next login
	login, err := c.Login(ctx, client.Login{User: "u-42", Session: "s-77aa", Device: cookie.Value})
	if err != nil {
		log.Fatal(err)
	}
	if login.Outcome == client.Skipped && login.Reason == client.ReasonTrustedDevice {
		if cookie.Value = login.Device; cookie.Value == "" {
			cookie.MaxAge = -1
		}
	}

	// in the user's settings
	devices, err := c.Devices(ctx, "u-42")
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range devices {
		fmt.Println(d.Label, d.CreatedAt, d.LastUsedAt)
		if _, err := c.RevokeDevice(ctx, "u-42", d.Device, "s-77aa"); err != nil {
			log.Fatal(err)
		}
	}
}

// What was done with a user's factors, for the page on which the user looks after them.
func ExampleClient_Activity() {
	ctx := context.Background()
	wanted := client.ListActivity{User: "u-42", Session: "s-9f3c", Limit: 50}
	for {
		page, err := c.Activity(ctx, wanted)
		if err != nil {
			log.Fatal(err)
		}
		for _, a := range page.Activity {
			switch {
			case a.Here:
				fmt.Println(a.At, a.Action, "in this session")
			case a.By == client.BySupport:
				fmt.Println(a.At, a.Action, "by support")
			default:
				fmt.Println(a.At, a.Action, a.Kind, a.Reason)
			}
		}
		if wanted.Before = page.Before; wanted.Before == "" {
			return
		}
	}
}

// To remove a factor takes the password and a code of a factor that the user has.
func ExampleClient_RemoveFactor() {
	ctx := context.Background()
	list, err := c.Factors(ctx, "u-42")
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.RemoveFactor(ctx, client.RemoveFactor{
		User: "u-42", Session: "s-9f3c", Factor: list.Factors[0].Factor, Proof: client.Proof{ReauthenticatedAt: time.Now(), Code: "123456"},
	})
	switch {
	case errors.Is(err, client.ErrLastFactor):
		fmt.Println("This is your last one. Do you want to have no second factor at all?")
	case errors.Is(err, client.ErrCoolingOff):
		fmt.Println("What would be left is too new to be the only one.")
	case err != nil:
		log.Fatal(err)
	}
}

// No second factor any more: said, and confirmed.
func ExampleClient_BeginDeactivation() {
	ctx := context.Background()
	wish, err := c.BeginDeactivation(ctx, client.BeginDeactivation{
		User: "u-42", Session: "s-9f3c", Proof: client.Proof{ReauthenticatedAt: time.Now(), Code: "123456"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("Are you sure? Your account will be protected by the password alone. Until", wish.ExpiresAt)
	if err := c.ConfirmDeactivation(ctx, wish.Ceremony, "s-9f3c"); err != nil {
		log.Fatal(err)
	}
}

// What a user sets while all is well.
func ExampleClient_SetRecoveryAddress() {
	ctx := context.Background()
	proof := client.Proof{ReauthenticatedAt: time.Now(), Code: "123456"}
	pending, err := c.SetRecoveryAddress(ctx, client.SetRecoveryAddress{
		User: "u-42", Session: "s-9f3c", Method: client.MethodEmail, Address: "other@example.org", Proof: proof,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("A code went to", pending.To)

	var typed string
	_, _ = fmt.Scanln(&typed)
	_, err = c.ConfirmRecoveryAddress(ctx, client.ConfirmRecoveryAddress{Ceremony: pending.Ceremony, Session: "s-9f3c", Code: typed})
	if err != nil {
		log.Fatal(err)
	}

	proof.Code = "234567" // another: each serves once
	set, err := c.SetRecoveryPreferences(ctx, client.SetRecoveryPreferences{
		User: "u-42", Session: "s-9f3c", Passphrase: "correct horse battery staple", Proof: proof,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(set.Contacts, set.Passphrase)
}

// All factors are lost: two different proofs, a waiting time, and the user enrols anew.
func ExampleClient_BeginRecovery() {
	ctx := context.Background()
	recovery, err := c.BeginRecovery(ctx, client.BeginRecovery{
		User: "u-42", Session: "s-lost", ReauthenticatedAt: time.Now(), Origin: client.Origin{IP: "203.0.113.7"},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range recovery.Methods {
		fmt.Printf("A code goes to %s by %s.", m.To, m.Method)
	}
	for _, proof := range []client.ProveRecovery{
		{Method: client.MethodEmail, Code: "123456"},
		{Method: client.MethodPassphrase, Code: "correct horse battery staple"},
	} {
		proof.Recovery, proof.Session = recovery.Recovery, "s-lost"
		verdict, err := c.ProveRecovery(ctx, proof)
		if err != nil {
			log.Fatal(err)
		}
		if verdict.Result != client.Proven {
			fmt.Println("That was not it.", verdict.AttemptsLeft, "attempts are left.")
			return
		}
		recovery = verdict.Recovery
	}
	switch recovery.State {
	case client.RecoveryWaiting:
		fmt.Println("Done. For your safety it takes effect at", recovery.EffectiveAt)
	case client.RecoveryCompleted:
		fmt.Println("Done. Please set up a new factor.")
	}
}

// Somebody else tries: the user stops it, from a session in which the password was just entered, or with the code of the notice.
func ExampleClient_CancelRecovery() {
	ctx := context.Background()
	recovery, err := c.RecoveryStatus(ctx, "u-42", "")
	if err != nil {
		log.Fatal(err)
	}
	if recovery.State == client.RecoveryProving || recovery.State == client.RecoveryWaiting {
		if err := c.CancelRecovery(ctx, client.CancelRecovery{User: "u-42", Session: "s-9f3c", ReauthenticatedAt: time.Now()}); err != nil {
			log.Fatal(err)
		}
	}
}

// What happens to users, none missed. Each event may come more than once.
func ExampleClient_Events() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := c.Events(ctx, func(ctx context.Context, e client.Event) error {
		switch d := e.Data.(type) {
		case client.ChallengeVerified:
			return letIn(ctx, e.ID, d.Session) // an error here brings the event again
		case client.ChallengeDelivery:
			if e.Name == client.EventChallengeUndeliverable {
				fmt.Println("the code did not reach", d.User, "by", d.Channel, "over", d.Provider, d.Reason) // the next way is taken by itself
			}
		case client.Alarm:
			fmt.Println(d.Alarm, d.Country, d.Prefix, d.Message)
		case client.FactorChange:
			fmt.Println(e.Name, d.User, d.Kind, d.Reason)
		case client.RecoveryChange:
			if e.Name == client.EventRecoveryCompleted {
				fmt.Println(d.User, "must set up a new factor")
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

// letIn would open the session, unless it has seen the event's id before.
func letIn(context.Context, string, string) error { return nil }

// What the app tells of its users, so that no trusted device outlives its reason.
func ExampleClient_PasswordChanged() {
	ctx := context.Background()
	for _, told := range []error{
		c.PasswordChanged(ctx, "u-42"),
		c.SignedOut(ctx, "u-42", "s-9f3c"),
		c.DeviceErased(ctx, "u-42", "0193503c-7a80-7c1e-9d2a-3f1be2a45c07"),
		c.UserDeleted(ctx, "u-43"),
	} {
		if told != nil {
			log.Fatal(told)
		}
	}
}

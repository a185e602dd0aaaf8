package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/client"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// This file is an app that uses pkg/client, over all workers: the flows that the examples of that package show.

// An appSide is the app.
type appSide struct {
	*system
	*client.Client
	mu  sync.Mutex
	all []client.Event
}

// throughClient connects the app with the SDK and has it hear its events.
func throughClient(t *testing.T, s *system) *appSide {
	t.Helper()
	user, password := s.nats.AppUser("demo")
	c, err := client.Connect(t.Context(), client.Config{URL: s.nats.URL(), App: "demo", User: user, Password: password},
		client.WithTimeout(otposttest.Patience), client.WithLogger(s.log.Logger))
	if err != nil {
		t.Fatal(err)
	}
	a := &appSide{system: s, Client: c}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- c.Events(ctx, func(_ context.Context, e client.Event) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.all = append(a.all, e)
			return nil
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, c.Close()); err != nil {
			t.Error(err)
		}
	})
	return a
}

// heardOf waits for an event whose data is a T that match takes.
func heardOf[T any](a *appSide, name client.Name, match func(T) bool) (found T) {
	a.t.Helper()
	otposttest.Eventually(a.t, "event "+string(name), func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return slices.ContainsFunc(a.all, func(e client.Event) bool {
			d, ok := e.Data.(T)
			if e.Name != name || !ok || !match(d) {
				return false
			}
			found = d
			return true
		})
	})
	return found
}

// sure is what a call has brought, which must have succeeded: sure(a)(a.Factors(ctx, user)).
func sure[T any](a *appSide) func(T, error) T {
	return func(v T, err error) T {
		a.t.Helper()
		if err != nil {
			a.t.Fatal(err)
		}
		return v
	}
}

// fails expects a refusal.
func (a *appSide) fails(what string, err, want error) {
	a.t.Helper()
	if !errors.Is(err, want) {
		a.t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// enrolled gives a user an authenticator app and has them keep the backup codes.
func (a *appSide) enrolled(user string) *authenticator {
	a.t.Helper()
	ctx, session := a.t.Context(), "session of "+user
	begun := sure[client.FactorCeremony](a)(a.BeginFactor(ctx, client.BeginFactor{
		User: user, Session: session, Kind: client.KindTOTP, Label: "phone", ReauthenticatedAt: a.clock.Now(),
	}))
	if len(begun.QRPNG) == 0 || !strings.HasPrefix(begun.QRSVG, "<svg") || !begun.ExpiresAt.After(a.clock.Now()) {
		a.t.Errorf("begun: %+v", begun)
	}
	app := &authenticator{s: a.system, secret: strings.ReplaceAll(begun.Secret, " ", "")}
	value := app.value()
	_, err := a.ConfirmFactor(ctx, client.ConfirmFactor{Ceremony: begun.Ceremony, Session: session, Code: wrongCode(value)})
	a.fails("a wrong value", err, client.ErrWrongCode)
	confirmed := sure[client.ConfirmedFactor](a)(a.ConfirmFactor(ctx, client.ConfirmFactor{Ceremony: begun.Ceremony, Session: session, Code: value}))
	if app.factor, app.codes = confirmed.Factor, confirmed.BackupCodes; confirmed.State != client.FactorConfirmed || len(app.codes) != 10 {
		a.t.Errorf("confirmed: %+v", confirmed)
	}
	_, err = a.ConfirmFactor(ctx, client.ConfirmFactor{Ceremony: begun.Ceremony, Session: session, Code: value})
	a.fails("confirmed twice", err, client.ErrUnknownCeremony)
	if left := sure[int](a)(a.AcknowledgeBackupCodes(ctx, client.AcknowledgeBackupCodes{User: user, Session: session, How: client.Copied})); left != 10 {
		a.t.Errorf("%d backup codes are left", left)
	}
	if d := heardOf(a, client.EventFactorAdded, func(d client.FactorChange) bool { return d.User == user }); d.Kind != client.KindTOTP || d.Factor != app.factor {
		a.t.Errorf("factor.added: %+v", d)
	}
	return app
}

func (a *appSide) proof(code string) client.Proof {
	return client.Proof{ReauthenticatedAt: a.clock.Now(), Code: code}
}

// A user enrols, logs in, trusts a browser, adds a number and a key, loses faith in all of it and deactivates.
func TestFactorsThroughTheClient(t *testing.T) {
	t.Parallel()
	s := newSystem(t, withKeys)
	s.run(factorRoles...)
	a := throughClient(t, s)
	ctx := t.Context()
	const user, session = "alice", "session of alice"
	app := a.enrolled(user)

	// A login by request, and a browser that is trusted from then on.
	login := sure[client.LoginResult](a)(a.Login(ctx, client.Login{ID: "l-1", User: user, Session: session}))
	if login.Outcome != client.Issued || login.Factor != client.KindTOTP || !slices.Contains(login.Methods, client.KindBackupCode) {
		t.Fatalf("a login: %+v", login)
	}
	if again := sure[client.LoginResult](a)(a.Login(ctx, client.Login{ID: "l-1", User: user, Session: session})); again.Challenge != login.Challenge {
		t.Errorf("the same login again is %+v", again)
	}
	answer := client.Verify{Challenge: login.Challenge, Session: session, Code: wrongCode(app.value())}
	if v := sure[client.Verdict](a)(a.Verify(ctx, answer)); v.Result != client.Wrong || v.AttemptsLeft != 9 {
		t.Errorf("a wrong code: %+v", v)
	}
	answer.Code, answer.TrustDevice.Label = app.next(), "Firefox"
	v := sure[client.Verdict](a)(a.Verify(ctx, answer))
	if v.Result != client.Verified || v.User != user || v.Factor != client.KindTOTP || v.Device == "" || !v.VerifiedAt.Equal(s.clock.Now()) {
		t.Fatalf("a right code: %+v", v)
	}
	heardOf(a, client.EventChallengeVerified, func(d client.ChallengeVerified) bool { return d.Challenge == login.Challenge && d.Login == "l-1" })
	heardOf(a, client.EventDeviceTrusted, func(d client.DeviceChange) bool { return d.User == user && d.Label == "Firefox" })

	skipped := sure[client.LoginResult](a)(a.Login(ctx, client.Login{User: user, Session: session, Device: v.Device}))
	if skipped.Outcome != client.Skipped || skipped.Reason != client.ReasonTrustedDevice || skipped.Device == "" || skipped.Device == v.Device {
		t.Errorf("a trusted browser: %+v", skipped)
	}
	renewed := sure[client.RenewedDevice](a)(a.RenewDevice(ctx, client.RenewDevice{User: user, Session: session, Device: skipped.Device}))
	if renewed.Device == skipped.Device || !renewed.ExpiresAt.After(s.clock.Now()) {
		t.Errorf("renewed: %+v", renewed)
	}
	devices := sure[[]client.Device](a)(a.Devices(ctx, user))
	if len(devices) != 1 || devices[0].Label != "Firefox" || devices[0].LastUsedAt.IsZero() {
		t.Fatalf("devices: %+v", devices)
	}
	if err := a.PasswordChanged(ctx, user); err != nil {
		t.Fatal(err)
	}
	if d := heardOf(a, client.EventDeviceRevoked, func(d client.DeviceChange) bool { return d.User == user }); d.Device != devices[0].Device || d.Reason != "password_changed" {
		t.Errorf("device.revoked: %+v", d)
	}
	_, err := a.RevokeDevice(ctx, user, devices[0].Device, session)
	a.fails("revoked twice", err, client.ErrUnknownDevice)

	// A number.
	number := client.BeginFactor{User: user, Session: session, Kind: client.KindSMS, Address: phone(1)}
	_, err = a.BeginFactor(ctx, number)
	a.fails("a number without the password", err, client.ErrReauthenticationRequired)
	number.ReauthenticatedAt = s.clock.Now()
	begun := sure[client.FactorCeremony](a)(a.BeginFactor(ctx, number))
	_, err = a.ResendFactor(ctx, begun.Ceremony, session)
	if e, ok := errors.AsType[*client.Error](err); !ok || !errors.Is(err, client.ErrRateLimited) || e.RetryAfter <= 0 {
		t.Errorf("sent again at once: %v", err)
	}
	sms := sure[client.ConfirmedFactor](a)(a.ConfirmFactor(ctx, client.ConfirmFactor{Ceremony: begun.Ceremony, Session: session, Code: s.code(phone(1))}))
	if sms.State != client.FactorActive || sms.AloneAfter.IsZero() {
		t.Errorf("a number: %+v", sms)
	}
	sure[client.Factors](a)(a.RenameFactor(ctx, client.RenameFactor{User: user, Factor: sms.Factor, Label: "work"}))
	list := sure[client.Factors](a)(a.PreferFactor(ctx, client.PreferFactor{User: user, Factor: sms.Factor, Fallbacks: []client.Kind{client.KindTOTP}}))
	if len(list.Factors) != 2 || !list.Factors[1].Preferred || list.Factors[1].Label != "work" || !slices.Equal(list.Fallbacks, []client.Kind{client.KindTOTP}) {
		t.Errorf("preferred: %+v", list)
	}
	_, err = a.RemoveFactor(ctx, client.RemoveFactor{User: user, Session: session, Factor: app.factor, Proof: a.proof(app.codes[0])})
	a.fails("only what is new would be left", err, client.ErrCoolingOff)

	// A security key.
	key := otposttest.NewAuthenticator(t)
	begun = sure[client.FactorCeremony](a)(a.BeginFactor(ctx, client.BeginFactor{User: user, Session: session, Kind: client.KindWebAuthn, ReauthenticatedAt: s.clock.Now()}))
	sure[client.ConfirmedFactor](a)(a.ConfirmFactor(ctx, client.ConfirmFactor{
		Ceremony: begun.Ceremony, Session: session, Credential: key.Create(t, begun.Options, keyOrigin),
	}))
	login = sure[client.LoginResult](a)(a.Login(ctx, client.Login{User: user, Session: session, Channel: client.KindWebAuthn}))
	options := sure[client.WebAuthnOptions](a)(a.BeginWebAuthn(ctx, login.Challenge, session))
	v = sure[client.Verdict](a)(a.Verify(ctx, client.Verify{Challenge: login.Challenge, Session: session, Credential: key.Get(t, options.Options, keyOrigin)}))
	if v.Result != client.Verified || v.Factor != client.KindWebAuthn {
		t.Errorf("a security key: %+v", v)
	}

	// Backup codes: one lets in, all can be seen and replaced.
	login = sure[client.LoginResult](a)(a.Login(ctx, client.Login{User: user, Session: session}))
	v = sure[client.Verdict](a)(a.Verify(ctx, client.Verify{Challenge: login.Challenge, Session: session, Code: app.codes[1]}))
	if v.Result != client.Verified || v.Factor != client.KindBackupCode {
		t.Errorf("a backup code: %+v", v)
	}
	heardOf(a, client.EventBackupCodeUsed, func(d client.BackupCodesChange) bool { return d.User == user })
	_, err = a.BackupCodes(ctx, client.ViewBackupCodes{User: user, Session: session, ReauthenticatedAt: s.clock.Now().Add(-time.Hour)})
	a.fails("the password of an hour ago", err, client.ErrReauthenticationRequired)
	view := client.ViewBackupCodes{User: user, Session: session, ReauthenticatedAt: s.clock.Now()}
	seen := sure[client.BackupCodes](a)(a.BackupCodes(ctx, view))
	if len(seen.Codes) != 10 || seen.Codes[1].Code != app.codes[1] || seen.Codes[1].UsedAt.IsZero() || !seen.Codes[2].UsedAt.IsZero() {
		t.Errorf("seen: %d codes, %d left", len(seen.Codes), seen.Left)
	}
	fresh := sure[client.BackupCodes](a)(a.RegenerateBackupCodes(ctx, view))
	if fresh.Left != 10 || fresh.Codes[0].Code == seen.Codes[0].Code {
		t.Errorf("regenerated: %d left", fresh.Left)
	}

	_, err = a.RemoveFactor(ctx, client.RemoveFactor{User: user, Session: session, Factor: sms.Factor, Proof: a.proof(fresh.Codes[0].Code)})
	a.fails("a backup code that was just made", err, client.ErrCoolingOff)

	// A code proves one act. At the end there is none left to prove with.
	once := app.next()
	list = sure[client.Factors](a)(a.RemoveFactor(ctx, client.RemoveFactor{User: user, Session: session, Factor: sms.Factor, Proof: a.proof(once)}))
	if len(list.Factors) != 2 || list.BackupCodesLeft != 10 {
		t.Errorf("left are %+v", list)
	}
	_, err = a.BeginDeactivation(ctx, client.BeginDeactivation{User: user, Session: session, Proof: a.proof(once)})
	a.fails("a code twice", err, client.ErrWrongCode)
	wish := sure[client.Deactivation](a)(a.BeginDeactivation(ctx, client.BeginDeactivation{User: user, Session: session, Proof: a.proof(app.next())}))
	a.fails("another session", a.ConfirmDeactivation(ctx, wish.Ceremony, "another"), client.ErrUnknownCeremony)
	if err := a.ConfirmDeactivation(ctx, wish.Ceremony, session); err != nil {
		t.Fatal(err)
	}
	heardOf(a, client.EventDeactivated, func(d client.UserChange) bool { return d.User == user && d.Session == session })
	if list := sure[client.Factors](a)(a.Factors(ctx, user)); len(list.Factors) != 0 || list.Activated {
		t.Errorf("after deactivation: %+v", list)
	}
	if err := a.UserDeleted(ctx, user); err != nil {
		t.Fatal(err)
	}
	heardOf(a, client.EventUserErased, func(d client.UserChange) bool { return d.User == user })
}

// A login by event, from its publication to the verdict.
func TestALoginEventThroughTheClient(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run(factorRoles...)
	a := throughClient(t, s)
	ctx := t.Context()
	const session = "s-1"
	transaction := client.Transaction{Amount: "39.99 EUR", Payee: "Shop"}
	id := sure[string](a)(a.PublishLogin(ctx, client.Login{User: "bob", Session: session, To: client.To{SMS: phone(7)}, Transaction: transaction}))
	issued := heardOf(a, client.EventChallengeIssued, func(d client.ChallengeIssued) bool { return d.Login == id })
	if issued.Channel != client.KindSMS || issued.To == "" || issued.Digits != 6 || !issued.ExpiresAt.After(s.clock.Now()) {
		t.Errorf("issued: %+v", issued)
	}
	code := s.code(phone(7))
	heardOf(a, client.EventChallengeSent, func(d client.ChallengeDelivery) bool { return d.Challenge == issued.Challenge && d.Attempt == 1 })
	_, err := a.Resend(ctx, client.Resend{Challenge: issued.Challenge, Session: session})
	a.fails("sent again at once", err, client.ErrRateLimited)
	a.fails("another session", a.CancelChallenge(ctx, issued.Challenge, "s-2"), client.ErrUnknownChallenge)
	if v := sure[client.Verdict](a)(a.Verify(ctx, client.Verify{Challenge: issued.Challenge, Session: session, Code: code})); v.Result != client.Wrong {
		t.Errorf("without the transaction: %+v", v)
	}
	s.clock.Advance(time.Minute)
	v := sure[client.Verdict](a)(a.Verify(ctx, client.Verify{Challenge: issued.Challenge, Session: session, Code: code, Transaction: transaction}))
	if v.Result != client.Verified || !slices.Equal(v.AMR, []string{"otp", "sms"}) {
		t.Errorf("verified: %+v", v)
	}
	status := sure[client.ChallengeStatus](a)(a.ChallengeStatus(ctx, issued.Challenge))
	if status.State != client.StateVerified || len(status.Deliveries) != 1 || status.Deliveries[0].Provider != "twilio" || status.EndedAt.IsZero() {
		t.Errorf("status: %+v", status)
	}
	a.fails("cancelled after it", a.CancelChallenge(ctx, issued.Challenge, session), client.ErrChallengeEnded)
}

// A user sets up recovery, loses everything, has one attempt stopped, and comes back by a code and the passphrase.
func TestRecoveryThroughTheClient(t *testing.T) {
	t.Parallel()
	s := newSystem(t, policy(func(p *otp.FactorPolicy) { p.RecoveryWait = 0 }))
	s.run(factorRoles...)
	a := throughClient(t, s)
	ctx := t.Context()
	const user, session, passphrase = "carol", "session of carol", "seven wise otters juggle"

	set := sure[client.RecoveryPreferences](a)(a.SetRecoveryPreferences(ctx, client.SetRecoveryPreferences{
		User: user, Session: session, Country: "US", Region: "CA", Passphrase: passphrase, Proof: a.proof(""),
	}))
	if !set.Passphrase || set.Country != "US" || !slices.Contains(set.Allowed, client.MethodLetter) {
		t.Errorf("set: %+v", set)
	}
	pending := sure[client.PendingAddress](a)(a.SetRecoveryAddress(ctx, client.SetRecoveryAddress{
		User: user, Session: session, Method: client.MethodEmail, Address: "carol@rescue.example", Proof: a.proof(""),
	}))
	set = sure[client.RecoveryPreferences](a)(a.ConfirmRecoveryAddress(ctx, client.ConfirmRecoveryAddress{
		Ceremony: pending.Ceremony, Session: session, Code: s.code("carol@rescue.example"),
	}))
	if len(set.Contacts) != 1 || set.Contacts[0].Method != client.MethodEmail || set.Contacts[0].ConfirmedAt.IsZero() {
		t.Errorf("contacts: %+v", set)
	}
	sure[client.PendingAddress](a)(a.SetRecoveryAddress(ctx, client.SetRecoveryAddress{
		User: user, Session: session, Method: client.MethodLetter, Proof: a.proof(""),
		Postal: &client.PostalAddress{Name: "Carol", Line1: "1 Market St", City: "San Francisco", Region: "CA", PostalCode: "94105", Country: "US"},
	}))
	a.enrolled(user)
	if r := sure[client.Recovery](a)(a.RecoveryStatus(ctx, user, "")); r.State != client.RecoveryNone {
		t.Errorf("before any: %+v", r)
	}

	// Somebody begins one, and the user stops it.
	begin := client.BeginRecovery{User: user, Session: "lost", Methods: []client.Method{client.MethodEmail}, Origin: client.Origin{IP: "203.0.113.7"}}
	_, err := a.BeginRecovery(ctx, begin)
	a.fails("without the password", err, client.ErrReauthenticationRequired)
	begin.ReauthenticatedAt = a.proof("").ReauthenticatedAt
	sure[client.Recovery](a)(a.BeginRecovery(ctx, begin))
	_, err = a.BeginRecovery(ctx, begin)
	a.fails("a second one", err, client.ErrConflict)
	stop := client.CancelRecovery{User: user, Session: session}
	a.fails("stopped without the password", a.CancelRecovery(ctx, stop), client.ErrReauthenticationRequired)
	stop.ReauthenticatedAt = begin.ReauthenticatedAt
	if err := a.CancelRecovery(ctx, stop); err != nil {
		t.Fatal(err)
	}
	heardOf(a, client.EventRecoveryCancelled, func(d client.RecoveryChange) bool { return d.User == user && d.By == "user" })

	// The user begins one, and completes it.
	r := sure[client.Recovery](a)(a.BeginRecovery(ctx, begin))
	if r.State != client.RecoveryProving || r.Needed != 2 || !r.Passphrase || len(r.Methods) != 1 || r.Methods[0].Method != client.MethodEmail {
		t.Fatalf("begun: %+v", r)
	}
	_, err = a.ResendRecovery(ctx, client.ResendRecovery{Recovery: r.Recovery, Session: "lost", Method: client.MethodEmail})
	a.fails("sent again at once", err, client.ErrRateLimited)
	prove := client.ProveRecovery{Recovery: r.Recovery, Session: "lost", Method: client.MethodEmail, Code: s.resetCode(r.Recovery, "email")}
	if v := sure[client.RecoveryVerdict](a)(a.ProveRecovery(ctx, prove)); v.Result != client.Proven || v.Needed != 1 || v.State != client.RecoveryProving {
		t.Errorf("the code: %+v", v)
	}
	prove.Method, prove.Code = client.MethodPassphrase, "seven wise otters giggle"
	if v := sure[client.RecoveryVerdict](a)(a.ProveRecovery(ctx, prove)); v.Result != client.Wrong || v.Needed != 1 {
		t.Errorf("a wrong passphrase: %+v", v)
	}
	prove.Code = passphrase
	v := sure[client.RecoveryVerdict](a)(a.ProveRecovery(ctx, prove))
	if v.Result != client.Proven || v.State != client.RecoveryCompleted || len(v.Proven) != 2 {
		t.Errorf("the passphrase: %+v", v)
	}
	heardOf(a, client.EventRecoveryCompleted, func(d client.RecoveryChange) bool { return d.User == user && d.Recovery == r.Recovery })
	if list := sure[client.Factors](a)(a.Factors(ctx, user)); len(list.Factors) != 0 {
		t.Errorf("after it: %+v", list)
	}
}

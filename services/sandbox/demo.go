package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

const (
	// workersPatience is how long the workers may take to come up.
	workersPatience = 30 * time.Second
	// stepPatience is how long one step of a login may take. A healthy system needs milliseconds.
	stepPatience = 15 * time.Second
	demoPhone    = "+14155550100"
	demoEmail    = "user@example.com"
)

// A demoLogin is one of the logins that Demo shows.
type demoLogin struct {
	title   string // names it for people
	channel string
	to      demoTo
	// read gets the code as the user would, and says where from.
	read   func(ctx context.Context, e loginEvent, began time.Time, digits int) (code string, err error)
	source string
}

// Demo shows the main job: one login by SMS, one by email, one by TOTP, each of a fresh user; and the life of a factor, from its enrolment over the loss of
// the phone and the recovery to the next login. It does what an app does, over NATS as the demo app with nothing but the wire's JSON, and what a user does,
// reading the code in the inbox or computing it as an authenticator app would. To out it writes a timeline of each, with colours where color is set. It
// first waits until the workers answer.
//
// The first step that fails ends it: out then shows what was waited for, the login's status, what waits in the streams and the dead letters,
// and the error names the login and the step. Codes are never written.
func (s *Sandbox) Demo(ctx context.Context, out io.Writer, color bool) error {
	d := &demo{s: s, out: &printer{w: out, color: color}, run: strings.ToLower(rand.Text()[:6])}
	if err := d.all(ctx); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return d.out.err
}

type demo struct {
	s   *Sandbox
	out *printer
	app *appClient
	run string // sets this run's users apart, so that no limit of an earlier one bites
}

func (d *demo) all(ctx context.Context) error {
	access, ok := d.s.App(DemoApp)
	if !ok {
		return fmt.Errorf("there is no app %s", DemoApp)
	}
	var err error
	if d.app, err = connectApp(access, d.s.Addresses().Inbox); err != nil {
		return err
	}
	defer d.app.close()
	if err := d.awaitWorkers(ctx); err != nil {
		return err
	}
	secret, err := d.enrol(ctx)
	if err != nil {
		return err
	}

	logins := []demoLogin{
		{"SMS", "sms", demoTo{SMS: demoPhone}, d.fromInbox(demoPhone), "the inbox"},
		{"Email", "email", demoTo{Email: demoEmail}, d.fromInbox(demoEmail), "the inbox"},
		{"Authenticator app (TOTP)", "totp", demoTo{}, fromAuthenticator(secret), "the app"},
	}
	began := time.Now()
	d.out.title(fmt.Sprintf("%d logins, each from the app's event to the verdict", len(logins)))
	for _, l := range logins {
		if err := d.show(ctx, l); err != nil {
			return fmt.Errorf("login by %s: %w", l.channel, err)
		}
	}
	sum := fmt.Sprintf("%d of %d logins verified in %s", len(logins), len(logins), milliseconds(time.Since(began)))
	recovered, err := d.showRecovery(ctx)
	if err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	if recovered {
		sum += ", and one account recovered"
	}
	d.out.end(sum)
	return nil
}

// awaitWorkers returns when the workers that answer requests do. They are asked about a challenge and a user that do not exist.
func (d *demo) awaitWorkers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, workersPatience)
	defer cancel()
	nobody := uuid.Must(uuid.NewV7()).String()
	for _, ask := range []struct {
		verb string
		body any
	}{
		{"status", map[string]string{"challenge": nobody}},
		{"verify", verifyRequest{Challenge: nobody, Session: "none", Code: "000000"}},
		{"factor.list", map[string]string{"user": "nobody-" + d.run}},
	} {
		if _, err := d.app.request(ctx, ask.verb, ask.body); err != nil {
			if _, answered := errors.AsType[*requestError](err); answered { // an error reply is an answer too
				continue
			}
			err = fmt.Errorf("no worker answers to %s: %w", ask.verb, err)
			d.out.failure("workers", err.Error())
			d.explain(ctx, "")
			return err
		}
	}
	return nil
}

func (d *demo) user(channel string) string { return "demo-" + channel + "-" + d.run }

// enrol gives the TOTP user a factor, as the operator would, and returns its secret.
func (d *demo) enrol(ctx context.Context) ([]byte, error) {
	app, err := postgres.NewApps(d.s.db).Get(ctx, DemoApp)
	if err != nil {
		return nil, fmt.Errorf("enrol the user of the TOTP login: %w", err)
	}
	user, id, secret := d.user("totp"), uuid.New(), otp.NewTOTPSecret()
	sealed, err := d.s.keys.SealSecret(DemoApp, user, id.String(), secret)
	if err != nil {
		return nil, fmt.Errorf("enrol the user of the TOTP login: %w", err)
	}
	key, err := d.s.keys.AuditKey("user", DemoApp, user)
	if err != nil {
		return nil, fmt.Errorf("enrol the user of the TOTP login: %w", err)
	}
	err = postgres.NewFactors(d.s.db).Add(ctx, time.Now(), postgres.NewFactor{
		ID: id, Account: postgres.Account{AppID: app.ID, User: user}, Kind: otp.FactorTOTP, Label: "demo", Sealed: sealed, TOTP: otp.DefaultTOTP(), UserKey: key,
	})
	if err != nil {
		return nil, fmt.Errorf("enrol the user of the TOTP login: %w", err)
	}
	return secret, nil
}

// show carries out one login and writes its timeline.
func (d *demo) show(ctx context.Context, l demoLogin) error {
	e := newLoginEvent(d.user(l.channel), l.channel, l.to)
	d.out.heading(l.title, "user "+e.Data.User)
	challenge := ""
	began := time.Now()
	d.out.begin(began)
	fail := func(step, missing string, err error) error {
		d.out.failure(step, missing)
		d.out.detail("cause", oneLine(err))
		d.explain(ctx, challenge)
		return fmt.Errorf("%s: %w", step, err)
	}
	wait := func(names ...string) (received, error) {
		ctx, cancel := context.WithTimeout(ctx, stepPatience)
		defer cancel()
		return d.app.await(ctx, e.ID, names...)
	}

	step := "event published"
	if err := d.app.publish(ctx, e); err != nil {
		return fail(step, "JetStream did not take the event", err)
	}
	d.out.step(step, d.app.loginSubject(), time.Now())

	step = "challenge stored"
	issued, err := wait("challenge.issued")
	if err != nil {
		return fail(step, "waited for challenge.issued, from the challenge worker", err)
	}
	challenge = issued.Data.Challenge
	d.out.step(step, fmt.Sprintf("%d digits, %s", issued.Data.Digits, issued.validFor()), issued.at)

	if l.to != (demoTo{}) {
		step = "handed to the provider"
		sent, err := wait("challenge.sent")
		if err != nil {
			return fail(step, "waited for challenge.sent, from the "+l.channel+" worker", err)
		}
		d.out.step(step, sent.Data.Provider+" to "+issued.Data.To, sent.at)
	}

	step = "code read from " + l.source
	code, err := l.read(ctx, e, began, issued.Data.Digits)
	if err != nil {
		return fail(step, "the user does not get at the code", err)
	}
	d.out.step(step, fmt.Sprintf("%d digits", len(code)), time.Now())

	step = "verified"
	reply, err := d.app.verify(ctx, challenge, e.Data.Session, code)
	if err != nil {
		return fail(step, "waited for the verification worker's verdict", err)
	}
	if reply.Result != "verified" {
		return fail(step, "the verdict is another", fmt.Errorf("the answer is %q", reply.Result))
	}
	d.out.step(step, "amr "+strings.Join(reply.AMR, " "), time.Now())

	step = "event received"
	verified, err := wait("challenge.verified")
	if err != nil {
		return fail(step, "waited for challenge.verified", err)
	}
	d.out.step(step, "challenge.verified", verified.at)
	return nil
}

// fromInbox reads codes that were sent to an address.
func (d *demo) fromInbox(to string) func(context.Context, loginEvent, time.Time, int) (string, error) {
	return func(ctx context.Context, e loginEvent, began time.Time, digits int) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, stepPatience)
		defer cancel()
		return d.app.readInbox(ctx, e.Data.Channel, to, began, digits)
	}
}

// fromAuthenticator computes codes as an authenticator app does.
func fromAuthenticator(secret []byte) func(context.Context, loginEvent, time.Time, int) (string, error) {
	return func(context.Context, loginEvent, time.Time, int) (string, error) {
		setting := otp.DefaultTOTP()
		return setting.Value(secret, setting.Step(time.Now()))
	}
}

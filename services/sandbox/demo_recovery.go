package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
)

const (
	demoSpareEmail = "spare@example.com" // of the recovery; no login goes there
	// longestShownWait is the most of a recovery's waiting time that anybody would watch.
	longestShownWait = 10 * time.Second
)

// errNotShown ends the timeline without a fault: somebody has changed the demo app's policy so that the rest would not work, or not soon.
var errNotShown = errors.New("not shown")

// A loss is the story of a user who loses the phone, as app and user live it.
type loss struct {
	*demo
	user      string
	phone     *authenticator
	skew      int       // steps that the policy accepts to either side
	session   string    // of the user's last login
	challenge string    // of that login
	lost      time.Time // when the recovery was begun
	recovery  string
	wait      time.Duration
}

// showRecovery carries out the story and writes its timeline. It reports whether it was shown to its end.
func (d *demo) showRecovery(ctx context.Context) (whole bool, err error) {
	app, err := postgres.NewApps(d.s.db).Get(ctx, DemoApp)
	if err != nil {
		return false, err
	}
	l := &loss{demo: d, user: d.user("recovery"), skew: app.Policy.TOTPSkew}
	d.out.heading("Lost phone", "user "+l.user)
	d.out.begin(time.Now())
	for _, s := range []struct {
		name string
		do   func(context.Context) (note string, err error)
	}{
		{"authenticator enrolled", l.enrol},
		{"logged in by TOTP", l.login},
		{"recovery address set", l.setAddress},
		{"passphrase set", l.setPassphrase},
		{"phone lost, reset begun", l.lose},
		{"proven by email", l.proveEmail},
		{"proven by passphrase", l.provePassphrase},
		{"waiting time over", l.await},
		{"the lost phone is void", l.look},
		{"enrolled anew", l.enrol},
		{"logged in again", l.login},
	} {
		note, err := s.do(ctx)
		if errors.Is(err, errNotShown) {
			d.out.detail("not shown", note)
			return false, nil
		}
		if err != nil {
			d.out.failure(s.name, "this did not work")
			d.out.detail("cause", oneLine(err))
			d.explain(ctx, l.challenge)
			return false, fmt.Errorf("%s: %w", s.name, err)
		}
		d.out.step(s.name, note, time.Now())
	}
	return true, nil
}

// attested is what the app says: the user has entered the password a moment ago.
func attested() string { return time.Now().UTC().Format(time.RFC3339Nano) }

// enrol adds an authenticator app: it scans the URI, types a value, and saves the backup codes.
func (l *loss) enrol(ctx context.Context) (string, error) {
	session := "session-" + rand.Text()
	var begun struct{ Ceremony, URI string }
	err := l.app.call(ctx, "factor.begin", map[string]any{"user": l.user, "session": session, "kind": "totp", "label": "phone"}, &begun)
	if err != nil {
		return "", err
	}
	if l.phone, err = scan(begun.URI, l.skew); err != nil {
		return "", err
	}
	code, err := l.phone.value(ctx)
	if err != nil {
		return "", err
	}
	var confirmed struct {
		Codes []string `json:"backup_codes"`
	}
	if err := l.app.call(ctx, "factor.confirm", map[string]any{"ceremony": begun.Ceremony, "session": session, "code": code}, &confirmed); err != nil {
		return "", err
	}
	var acknowledged struct{ Activated bool }
	err = l.app.call(ctx, "backup_codes.acknowledge", map[string]any{"user": l.user, "session": session, "how": "saved"}, &acknowledged)
	if err == nil && !acknowledged.Activated {
		err = errors.New("the factor is not active")
	}
	return fmt.Sprintf("%d backup codes saved", len(confirmed.Codes)), err
}

// login is a login by event, with a value of the phone.
func (l *loss) login(ctx context.Context) (string, error) {
	e := newLoginEvent(l.user, "totp", demoTo{})
	if err := l.app.publish(ctx, e); err != nil {
		return "", err
	}
	patient, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	issued, err := l.app.await(patient, e.ID, "challenge.issued")
	if err != nil {
		return "", err
	}
	l.session, l.challenge = e.Data.Session, issued.Data.Challenge
	code, err := l.phone.value(ctx)
	if err != nil {
		return "", err
	}
	verdict, err := l.app.verify(ctx, l.challenge, l.session, code)
	if err == nil && verdict.Result != "verified" {
		err = fmt.Errorf("the answer is %q", verdict.Result)
	}
	return "amr " + strings.Join(verdict.AMR, " "), err
}

// setAddress sets where codes of a recovery go. The login that was just verified is the proof that it takes.
func (l *loss) setAddress(ctx context.Context) (string, error) {
	began := time.Now()
	var begun struct{ Ceremony, To string }
	err := l.app.call(ctx, "recovery.address", map[string]any{
		"user": l.user, "session": l.session, "method": "email", "address": demoSpareEmail, "reauthenticated_at": attested(), "challenge": l.challenge,
	}, &begun)
	if e, ok := errors.AsType[*requestError](err); ok && e.Code == "not_allowed" {
		return "the app's policy allows no recovery by email", errNotShown
	}
	if err != nil {
		return "", err
	}
	code, err := l.readMail(ctx, began, "confirm this address")
	if err != nil {
		return "", err
	}
	var set struct{}
	return begun.To, l.app.call(ctx, "recovery.confirm", map[string]any{"ceremony": begun.Ceremony, "session": l.session, "code": code}, &set)
}

func (l *loss) readMail(ctx context.Context, after time.Time, purpose string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	return l.app.readMail(ctx, demoSpareEmail, after, purpose)
}

// demoPassphrase is no secret: it is that of a user who is gone in a moment.
const demoPassphrase = "correct horse battery staple"

func (l *loss) setPassphrase(ctx context.Context) (string, error) {
	code, err := l.phone.value(ctx)
	if err != nil {
		return "", err
	}
	var set struct{ Passphrase bool }
	err = l.app.call(ctx, "recovery.preferences", map[string]any{
		"user": l.user, "session": l.session, "passphrase": demoPassphrase, "reauthenticated_at": attested(), "code": code,
	}, &set)
	if err == nil && !set.Passphrase {
		err = errors.New("no passphrase is set")
	}
	return "with a value of the phone", err
}

// lose begins the recovery, from a login page: a session that has proven nothing but the password.
func (l *loss) lose(ctx context.Context) (string, error) {
	l.phone, l.session, l.lost = nil, "session-"+rand.Text(), time.Now()
	var begun struct {
		Recovery string
		Methods  []struct{ To string }
	}
	if err := l.app.call(ctx, "recovery.begin", map[string]any{"user": l.user, "session": l.session, "reauthenticated_at": attested()}, &begun); err != nil {
		return "", err
	}
	if len(begun.Methods) != 1 {
		return "", fmt.Errorf("codes went by %d ways", len(begun.Methods))
	}
	l.recovery = begun.Recovery
	return "code to " + begun.Methods[0].To, nil
}

type proofReply struct {
	Result      string
	State       string
	Needed      int
	EffectiveAt string `json:"effective_at"`
}

func (l *loss) prove(ctx context.Context, method, code string) (proofReply, error) {
	var r proofReply
	err := l.app.call(ctx, "recovery.prove", map[string]any{"recovery": l.recovery, "session": l.session, "method": method, "code": code}, &r)
	if err == nil && r.Result != "proven" {
		err = fmt.Errorf("the answer is %q", r.Result)
	}
	return r, err
}

func (l *loss) proveEmail(ctx context.Context) (string, error) {
	code, err := l.readMail(ctx, l.lost, "recovery code")
	if err != nil {
		return "", err
	}
	r, err := l.prove(ctx, "email", code)
	return fmt.Sprintf("%d more proof needed", r.Needed), err
}

func (l *loss) provePassphrase(ctx context.Context) (string, error) {
	r, err := l.prove(ctx, "passphrase", demoPassphrase)
	if err != nil {
		return "", err
	}
	if r.EffectiveAt == "" {
		return "it takes effect at once", nil
	}
	at, err := time.Parse(time.RFC3339, r.EffectiveAt)
	l.wait = max(0, time.Until(at))
	return fmt.Sprintf("%s, takes effect in %.0f s", r.State, l.wait.Seconds()), err
}

// await waits until the recovery has taken effect. Until then whoever was told can stop it.
func (l *loss) await(ctx context.Context) (string, error) {
	if l.wait > longestShownWait {
		return fmt.Sprintf("by the app's policy it takes effect in %s", l.wait.Round(time.Second)), errNotShown
	}
	ctx, cancel := context.WithTimeout(ctx, l.wait+stepPatience)
	defer cancel()
	_, err := l.app.awaitAny(ctx, func(r received) bool { return r.name() == "recovery.completed" && r.Data.User == l.user })
	if err != nil {
		return "", fmt.Errorf("no recovery.completed: %w", err)
	}
	return "recovery.completed", nil
}

// look sees that nothing of the old factor is left.
func (l *loss) look(ctx context.Context) (string, error) {
	var list struct {
		Factors []struct{}
		Left    int `json:"backup_codes_left"`
	}
	err := l.app.call(ctx, "factor.list", map[string]any{"user": l.user}, &list)
	if err == nil && len(list.Factors)+list.Left > 0 {
		err = fmt.Errorf("the user has %d factors and %d backup codes", len(list.Factors), list.Left)
	}
	return "0 factors, 0 backup codes", err
}

// An authenticator is an authenticator app: what it has scanned.
type authenticator struct {
	secret  []byte
	setting otp.TOTP
	skew    int   // steps that the server accepts to either side
	last    int64 // the last step whose value was used
}

// scan reads an otpauth URI as authenticator apps do.
func scan(uri string, skew int) (*authenticator, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "otpauth" {
		return nil, errors.New("there is no otpauth URI to scan")
	}
	q := u.Query()
	a := &authenticator{skew: skew, last: -1}
	digits, err1 := strconv.Atoi(q.Get("digits"))
	period, err2 := strconv.Atoi(q.Get("period"))
	a.setting = otp.TOTP{Algorithm: q.Get("algorithm"), Digits: digits, Period: period}
	secret, err3 := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(q.Get("secret"))
	a.secret = secret
	if errors.Join(err1, err2, err3, a.setting.Check()) != nil {
		return nil, errors.New("the otpauth URI is not whole") // its words would hold the secret
	}
	return a, nil
}

// value returns a value that has not been used. The first is of the oldest step that the server accepts, so that the next ones need no waiting.
func (a *authenticator) value(ctx context.Context) (string, error) {
	for {
		now := a.setting.Step(time.Now())
		if step := max(a.last+1, now-int64(a.skew)); step <= now+int64(a.skew) {
			a.last = step
			return a.setting.Value(a.secret, step)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return "", err
		}
	}
}

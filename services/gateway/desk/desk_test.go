package desk

import (
	"fmt"
	"io/fs"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// every is a user of whom there is everything that a page could show.
func every(state otp.RecoveryState, delivery otp.DeliveryState) userData {
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC).Format(time.RFC3339)
	u := userData{App: "demo", AppName: "Demo", User: `"><script>alert(1)</script>`, Methods: []string{"email", "phone", "letter"}, Wait: "1 minute", Begun: true}
	for _, kind := range otp.FactorKinds() {
		for _, s := range []otp.FactorState{otp.FactorConfirmed, otp.FactorActive, otp.FactorSuspended} {
			u.Found.Factors = append(u.Found.Factors, event.FactorInfo{Kind: string(kind), State: string(s), Label: "mine", To: "•••12", CreatedAt: at, LastUsedAt: at})
		}
	}
	u.Found.Recovery = event.RecoveryReply{
		Recovery: "0197", State: string(state), ExpiresAt: at, EffectiveAt: at, Proven: []string{"email", "passphrase", "backup_code"},
	}
	u.Found.Preferences.Passphrase = true
	for _, m := range otp.RecoveryMethods() {
		u.Found.Preferences.Contacts = append(u.Found.Preferences.Contacts, event.ContactInfo{Method: string(m), To: "•••"})
		u.Found.Recovery.Methods = append(u.Found.Recovery.Methods, event.RecoveryMethodInfo{Method: string(m), To: "•••", State: string(delivery)})
	}
	return u
}

// missing is how a text that is not there shows.
var missing = regexp.MustCompile(`\[(desk|common)\.[a-z_.]*\]`)

// Every page can be shown in every language and state, with no text missing and nothing of a user's taken for markup.
func TestPagesSayEverything(t *testing.T) {
	d, err := New(Config{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	type shown struct {
		name string
		data any
	}
	pages := []shown{
		{"desk/plain", plainData{Title: "common.busy_title", Text: "desk.wrong", Icon: "alert", Request: "7"}},
		{"desk/signin", signInData{}},
		{"desk/signin", signInData{Closed: true}},
		{"desk/search", searchData{User: "<b>"}},
		{"desk/user", userData{Empty: true}},
		{"desk/begin", userData{}},
		{"desk/begin", every(otp.RecoveryExpired, "")},
	}
	for _, act := range decisions {
		pages = append(pages, shown{"desk/confirm", userData{Act: act}})
	}
	for _, state := range []otp.RecoveryState{
		otp.RecoveryApproval, otp.RecoveryProving, otp.RecoveryWaiting, otp.RecoveryCompleted, otp.RecoveryCancelled, otp.RecoveryExpired, otp.RecoveryRefused,
	} {
		for _, delivery := range []otp.DeliveryState{
			otp.DeliveryQueued, otp.DeliverySending, otp.DeliveryAccepted, otp.DeliveryDelivered, otp.DeliveryUndelivered, otp.DeliveryFailed, otp.DeliveryUnconfirmed,
			otp.DeliveryExpired,
		} {
			pages = append(pages, shown{"desk/user", every(state, delivery)})
		}
	}
	for _, locale := range d.langs() {
		for _, p := range pages {
			w := httptest.NewRecorder()
			d.show(w, 200, p.name, web.Page{Look: look(locale), Lang: locale.Tag, Langs: d.langs(), Data: p.data, Wide: true})
			body := w.Body.String()
			if w.Code != 200 || missing.MatchString(body) || strings.Contains(body, "<no value>") || strings.Contains(body, "<script>alert") {
				t.Errorf("%s in %s: %d %s", p.name, locale.Tag, w.Code, missing.FindString(body))
			}
		}
	}
}

// named are the texts that Go code and templates name in full.
var named = regexp.MustCompile(`"(desk\.[a-z_]+[a-z])"`)

func TestNamedTextsExist(t *testing.T) {
	d, err := New(Config{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	paths, err := fs.Glob(files, "templates/desk/*.html")
	if err != nil || len(paths) < 7 {
		t.Fatalf("the templates are %v, %v", paths, err)
	}
	for _, p := range paths {
		text, err := fs.ReadFile(files, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(text, -1) {
			if !d.texts.Locale("en").Has(string(m[1])) {
				t.Errorf("%s names the text %s, which is not there", p, m[1])
			}
		}
	}
	for _, reason := range []otp.Reason{
		otp.Busy, otp.RateLimited, otp.AccountLocked, otp.NoFactorLeft, otp.NotAllowed, otp.Conflict, otp.UnknownRecovery, otp.UnknownApp, otp.Invalid,
	} {
		for _, verb := range []string{"find", event.SupportBegin, event.SupportApprove} {
			v := &visit{locale: d.texts.Locale("en")}
			if text := v.problem(verb, &otp.Problem{Reason: reason}).Text; text == "" || missing.MatchString(text) {
				t.Errorf("%s at %s is told as %q", reason, verb, text)
			}
		}
	}
	for _, act := range decisions {
		if !d.texts.Locale("en").Has("desk.flash_" + act) {
			t.Errorf("nothing is said after %s", act)
		}
	}
}

// Tries are counted before they are compared, for an agent and for an address, and a window ends.
func TestLimiter(t *testing.T) {
	l, now := newLimiter(), time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	ann := map[string]int{"agent ann": 2, "ip 1": 3}
	for try, want := range []bool{true, true, false} {
		if l.take(now, ann) != want {
			t.Fatalf("two tries for an agent, and no third: %d", try)
		}
	}
	bob := map[string]int{"agent bob": 2, "ip 1": 3}
	if !l.take(now, bob) || l.take(now, bob) {
		t.Fatal("three tries from an address, and no fourth; one that is refused counts for nobody")
	}
	l.giveBack(bob)
	if !l.take(now, bob) {
		t.Error("a try that went right counts")
	}
	l.forget(now.Add(tryWindow - time.Second))
	if l.take(now.Add(tryWindow-time.Second), ann) {
		t.Error("the window ends before its time")
	}
	if !l.take(now.Add(tryWindow), ann) {
		t.Error("the window does not end")
	}
	l.forget(now.Add(3 * tryWindow))
	if len(l.seen) != 0 {
		t.Errorf("%d windows are kept for ever", len(l.seen))
	}
	for i := range maxWindows {
		l.take(now, map[string]int{fmt.Sprint("agent ", i): 2, fmt.Sprint("ip ", i): 3})
	}
	if len(l.seen) > maxWindows || l.take(now, ann) {
		t.Errorf("%d windows are kept", len(l.seen))
	}
	if !l.take(now.Add(tryWindow), ann) {
		t.Error("windows that are over make no room")
	}
}

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// withProviders has workers of a database say which providers they have: two for SMS, of which vonage was seen last long ago, one for calls and one for mail.
func withProviders(t *testing.T, db *otposttest.DB) {
	t.Helper()
	now := time.Now()
	for _, one := range []struct {
		role bus.Role
		at   time.Time
		row  postgres.ProviderRow
	}{
		{bus.RoleSMS, now, postgres.ProviderRow{Channel: otp.SMS, Name: "twilio-eu", Kind: "twilio", Receipts: true, Costs: map[string]int64{"": 50_000, "CZ": 62_500}}},
		{bus.RoleSMS, now.Add(-3 * time.Hour), postgres.ProviderRow{Channel: otp.SMS, Name: "vonage", Kind: "vonage", Position: 1, Costs: map[string]int64{"": 40_000}}},
		{bus.RoleSMS, now, postgres.ProviderRow{Channel: otp.Voice, Name: "calls", Kind: "twilio", Receipts: true, Costs: map[string]int64{"": 120_000}}},
		{bus.RoleEmail, now, postgres.ProviderRow{Channel: otp.Email, Name: "smtp", Kind: "smtp"}},
	} {
		if err := postgres.NewRoutes(db.Role(string(one.role))).Register(t.Context(), one.at, []postgres.ProviderRow{one.row}); err != nil {
			t.Fatal(err)
		}
	}
}

// fits holds what is printed to a terminal's width.
func fits(t *testing.T, printed string) {
	t.Helper()
	for line := range strings.Lines(printed) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > width {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
}

func TestRouteCommands(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	db.App(t, "demo", func(a *postgres.App) { a.Policy.Delivery.Countries = []string{"CZ"} })
	withProviders(t, db)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator")}}
	set := func(args ...string) []string { return append([]string{"route", "set", "--channel=sms"}, args...) }

	// What cannot work is refused with the reason.
	for _, c := range []struct {
		status int
		words  []string
		args   []string
	}{
		{1, []string{"--app, --all-apps"}, set("--providers=vonage")},
		{1, []string{"--app, --all-apps"}, set("--providers=vonage", "--app=demo", "--all-apps")},
		{1, []string{"--app"}, set("--providers=vonage", "--app=no app")},
		{1, []string{"ghost"}, set("--providers=vonage", "--app=ghost")},
		{1, []string{"--providers", "no worker has a provider named ghost for sms", "otpost providers list"}, set("--providers=twilio-eu,ghost", "--all-apps")},
		{1, []string{"--providers", "calls carries voice, not sms"}, set("--providers=calls", "--all-apps")},
		{1, []string{"--providers", "vonage is listed twice"}, set("--providers=vonage,vonage", "--all-apps")},
		{1, []string{"--providers"}, set("--providers=,", "--all-apps")},
		{1, []string{"--country", "two capital letters"}, set("--providers=vonage", "--all-apps", "--country=cz")},
		{1, []string{"--country", "must be the code of a country"}, set("--providers=vonage", "--all-apps", "--country=XX")},
		{1, []string{"--country", "email has none"}, []string{"route", "set", "--channel=email", "--providers=smtp", "--all-apps", "--country=CZ"}},
		{1, []string{"--weights", "the policy order has none"}, set("--providers=vonage", "--all-apps", "--weights=1")},
		{1, []string{"--weights", "needs one for each"}, set("--providers=vonage", "--all-apps", "--policy=weight")},
		{1, []string{"--weights", "1 for 2 providers"}, set("--providers=twilio-eu,vonage", "--all-apps", "--policy=weight", "--weights=1")},
		{1, []string{"--weights", "whole numbers"}, set("--providers=twilio-eu", "--all-apps", "--policy=weight", "--weights=0.5")},
		{1, []string{"--policy", "nothing to choose from"}, set("--providers=vonage", "--all-apps", "--policy=conversion")},
		{2, []string{"--policy"}, set("--providers=vonage", "--all-apps", "--policy=cheapest")},
		{1, []string{"--receipt-timeout", "between 5s and 5m"}, set("--providers=twilio-eu", "--all-apps", "--receipt-timeout=1s")},
		{1, []string{"--receipt-timeout", "whole seconds"}, set("--providers=twilio-eu", "--all-apps", "--receipt-timeout=7500ms")},
		{1, []string{"--receipt-timeout", "none of the providers tells"}, set("--providers=vonage", "--all-apps", "--receipt-timeout=20s")},
		{1, []string{"no such route"}, []string{"route", "show", "--channel=sms", "--all-apps"}},
		{1, []string{"no such route"}, []string{"route", "remove", "--channel=sms", "--app=demo"}},
		{1, []string{"ghost"}, []string{"route", "list", "--app=ghost"}},
	} {
		sh.fails(c.status, c.words, c.args...)
	}
	if n := otposttest.Get[int](t, db, `SELECT count(*) FROM routes`); n != 0 {
		t.Fatalf("%d routes were set", n)
	}

	// What works is set, and what is easily not meant is said.
	if out := sh.ok(set("--all-apps", "--providers=twilio-eu, vonage", "--policy=weight", "--weights=70,30")...); !strings.HasPrefix(out,
		"sms of all apps to every country goes over twilio-eu 70, vonage 30, drawn by weight\n") || !strings.Contains(out, "\nNo worker has said since ") ||
		!strings.Contains(out, "that it has vonage: is otpost sms running with it?") {
		t.Errorf("it says:\n%s", out)
	}
	out := sh.ok(set("--app=demo", "--country=CZ", "--providers=twilio-eu", "--receipt-timeout=20s")...)
	if strings.Join(strings.Fields(out), " ") != "sms of app demo to CZ goes over twilio-eu; there is no next provider: after 20s without word of its delivery the channels of "+
		"--fallback follow App demo has no other channel as its fallback: a code that twilio-eu does not confirm goes nowhere else. See otpost app policy set demo --fallback." {
		t.Errorf("it says:\n%s", out)
	}
	sh.ok("app", "policy", "set", "demo", "--fallback=email")
	if out := sh.ok("route", "show", "--channel=sms", "--app=demo", "--country=CZ"); strings.Contains(out, "fallback") {
		t.Errorf("where mail follows it says:\n%s", out)
	}
	out = sh.ok(set("--app=demo", "--country=DE", "--providers=vonage,twilio-eu", "--receipt-timeout=20s")...)
	for _, words := range []string{"vonage, twilio-eu, in this order;", "App demo does not send to DE", "vonage tells no receipts"} {
		if !strings.Contains(out, words) {
			t.Errorf("it does not say %q:\n%s", words, out)
		}
	}
	out = sh.ok("route", "list")
	fits(t, out)
	has(t, out, "(all)", "sms", "-", "weight", "-")
	has(t, out, "demo", "sms", "CZ", "order", "20s")
	db.App(t, "other")
	if out := sh.ok("route", "list", "--app=other"); strings.Contains(out, "demo") || !strings.Contains(out, "(all)") {
		t.Errorf("of another app it lists:\n%s", out)
	}
	out = sh.ok("route", "show", "--channel=sms", "--all-apps")
	fits(t, out)
	has(t, out, "twilio-eu", "twilio", "70 %", "0.05", "-", "yes")
	has(t, out, "vonage", "vonage", "30 %", "0.04", "-", "no")
	if out := sh.ok("route", "remove", "--channel=sms", "--app=demo", "--country=CZ"); out !=
		"removed; the route for sms of all apps to every country serves: twilio-eu 70, vonage 30, drawn by weight\n" {
		t.Errorf("it says:\n%s", out)
	}

	// Providers that no worker has any more.
	out = sh.ok("providers", "list")
	fits(t, out)
	has(t, out, "sms", "twilio-eu", "twilio", "yes")
	has(t, out, "email", "smtp", "smtp", "no")
	sh.fails(1, []string{"vonage", "the route for sms of all apps to every country names it"}, "providers", "forget", "--channel=sms", "vonage")
	sh.fails(1, []string{"calls for sms", "no such provider"}, "providers", "forget", "--channel=sms", "calls")
	sh.ok("providers", "forget", "--channel=voice", "calls")
	if out := sh.ok("providers", "list"); strings.Contains(out, "calls") {
		t.Errorf("a forgotten provider is listed:\n%s", out)
	}
}

func TestRouteTest(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	app := db.App(t, "demo", func(a *postgres.App) {
		a.Policy.Delivery.Countries, a.Policy.Delivery.Fallback = []string{"CZ", "GB"}, []otp.Channel{otp.Voice, otp.Email, otp.WhatsApp}
		a.Policy.Delivery.Limits = otp.DefaultLimits()
		a.Policy.Delivery.SpendCaps = map[string]int64{"CZ": 100_000_000, "GB": 0}
	})
	keys := otposttest.Keys(t)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator"), "OTPOST_KEYS": keys, "OTPOST_APP": "demo"}}
	ask := func(to string, args ...string) string {
		t.Helper()
		out := sh.ok(append([]string{"route", "test", "--to=" + to}, args...)...)
		fits(t, out)
		if strings.Contains(out, to) {
			t.Errorf("it shows the address:\n%s", out)
		}
		return out
	}
	says := func(out string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), w) {
				t.Errorf("it does not say %q:\n%s", w, out)
			}
		}
	}
	const number = "+420601123456"
	says(ask(number), "Nothing is sent: no worker has ever said that it has a provider for sms. Is otpost sms running?")
	withProviders(t, db)
	says(ask(number), "none is set", "over twilio-eu first, for 0.0625, and 0.1025 where it has to be sent over all of the route")

	// The whole story, with the user's language, a sender and a route of conversion.
	sh.ok("route", "set", "--app=demo", "--channel=sms", "--country=CZ", "--providers=twilio-eu,vonage", "--policy=conversion", "--receipt-timeout=15s")
	sh.ok("sender", "set", "demo", "--country=CZ", "--sender=Demo")
	db.Exec(t, `INSERT INTO users (app_id, user_id, locale, created_at) VALUES ($1, 'alice', 'cs', now())`, app.ID)
	db.Exec(t, `INSERT INTO delivery_stats (slot, app, channel, country, provider, sent, accepted, verified)
		VALUES (date_bin('5 minutes', now() - interval '20 minutes', 'epoch'), 'demo', 'sms', 'CZ', 'twilio-eu', 100, 100, 10),
		       (date_bin('5 minutes', now() - interval '20 minutes', 'epoch'), 'demo', 'sms', 'CZ', 'vonage', 100, 100, 90)`)
	out := ask(number, "--user=alice")
	for _, row := range [][]string{
		{"country", "CZ, which the app allows"},
		{"prefix", "+420601"},
		{"listed", "no"},
		{"limits", "user: 6 a minute, 20 an hour, 50 a day"},
		{"language", "cs, as the user asks"},
		{"message", "UCS-2,"},
		{"sender", "Demo"},
		{"route", "sms of app demo to CZ, by conversion"},
		{"receipt within", "15s"},
		{"falls back to", "voice by calls for 0.12"},
	} {
		has(t, out, row...)
	}
	says(out, "whatsapp, which no worker has a provider for", "spent in CZ: 100 a day", "10 % of 100 of late", "90 % of 100 of late", "over one of twilio-eu, vonage first, for 0.04")
	if strings.Contains(out, "email") {
		t.Errorf("a user without an address for mail could fall back to it:\n%s", out)
	}
	says(ask(number), "email where the user has an address for it")

	// What is never sent, and why.
	says(ask("+491711234567"), "DE, which the app does not allow", "Nothing is sent: the policy of app demo does not list DE")
	says(ask("+420906123456"), "premium numbers, denied to all apps", "never written to")
	says(ask("+447400123456"), "the cap on what app demo may spend in GB a day is 0")
	ring, err := keyring.Load(keys, keyring.Operator)
	if err != nil {
		t.Fatal(err)
	}
	for to, kind := range map[string]string{"+420601000001": postgres.DestinationTest, "+420601000002": postgres.DestinationSafe} {
		digest, err := ring.DestinationKey("demo", otp.SMS, to)
		if err != nil {
			t.Fatal(err)
		}
		d := postgres.Destination{AppID: app.ID, Digest: digest, Kind: kind, Address: "phone", Mask: otp.MaskPhone(to), CreatedAt: time.Now()}
		if kind == postgres.DestinationTest {
			if d.CodeDigest, err = ring.TestCode("demo", digest, "123456"); err != nil {
				t.Fatal(err)
			}
		}
		db.Exec(t, `INSERT INTO destinations (app_id, digest, kind, address, mask, code_digest, created_at) VALUES ($1, $2, $3, 'phone', $4, $5, now())`,
			d.AppID, d.Digest, d.Kind, d.Mask, d.CodeDigest)
	}
	says(ask("+420601000001"), "Nothing is sent: the app has listed it for tests, and its code is fixed.")
	if out := ask("+420601000002"); !strings.Contains(out, "as safe:") || strings.Contains(out, "prefix: ") {
		t.Errorf("of a safe number it says:\n%s", out)
	}

	now := time.Now()
	if err := postgres.NewPumping(db.Role("operator")).Block(t.Context(), postgres.PrefixBlock{
		Prefix: postgres.Prefix{AppID: app.ID, Digits: "+420602"}, Since: now, Until: now.Add(time.Hour), Mode: otp.PumpingShadow, Manual: true, Why: []string{"by hand"},
	}); err != nil {
		t.Fatal(err)
	}
	says(ask("+420602123456"), "+420602, blocked by hand", "Nothing is sent: the prefix +420602 is blocked until ", "otpost pumping report --app=demo")

	says(ask("alice@example.com"), "email", "smtp", "A code would go out, over smtp first, unless a limit is reached. The counters of limits and caps are not known here.")
	if out := sh.ok("route", "test", "--help"); !strings.Contains(strings.Join(strings.Fields(out), " "), "(one of sms, voice, whatsapp, email;") {
		t.Errorf("its help says:\n%s", out)
	}
	delete(sh.env, "OTPOST_KEYS")
	says(ask(number), "not looked up: give --keys", "unless a limit or the day's cap is reached or the address is listed for tests.")
	for _, bad := range []string{"0601123456", "+42", "alice@", ""} {
		status, _, stderr := run1(t.Context(), sh.env, "route", "test", "--to="+bad)
		if status != 1 || !strings.Contains(stderr, "--to: ") || bad != "" && strings.Contains(stderr, bad) {
			t.Errorf("of %q: exit %d, %s", bad, status, stderr)
		}
	}
}

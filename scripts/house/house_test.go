// Package house holds the arrows of the house: which package may import which. A wrong arrow fails the build, and so does a package that the table
// does not know, so that whoever adds one decides where it stands.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/otpost/otpost"

// arrows says what each package of ours may import of ours. Arrows run downward only, from services to pkg; otp is at the bottom.
var arrows = map[string][]string{
	// at the bottom: they import none of ours
	"pkg/otp":            {},
	"pkg/bounce":         {},
	"pkg/lifecycle":      {},
	"pkg/telemetry":      {},
	"pkg/embedded":       {},
	"pkg/inbox":          {},
	"pkg/pumping":        {},
	"pkg/qr":             {},
	"schemas":            {},
	"schemas/migrations": {},

	"pkg/event":         {"pkg/otp"},
	"pkg/keyring":       {"pkg/otp"},
	"pkg/message":       {"pkg/otp"},
	"pkg/route":         {"pkg/otp"},
	"pkg/seeds":         {"pkg/otp"},
	"pkg/webauthn":      {"pkg/otp"},
	"pkg/client":        {"pkg/event", "pkg/otp"}, // of apps: it knows the contract and nothing of how otpost keeps it
	"pkg/bus":           {"pkg/event", "pkg/lifecycle", "pkg/otp", "pkg/telemetry"},
	"pkg/postgres":      {"pkg/event", "pkg/otp", "pkg/pumping", "pkg/route", "schemas/migrations"},
	"pkg/apps":          {"pkg/otp", "pkg/postgres"},
	"pkg/limit":         {"pkg/event", "pkg/keyring", "pkg/otp", "pkg/postgres"},
	"pkg/pumping/watch": {"pkg/keyring", "pkg/otp", "pkg/postgres", "pkg/pumping"},
	"pkg/routes":        {"pkg/otp", "pkg/postgres", "pkg/route"},
	"pkg/outbox":        {"pkg/bus", "pkg/event", "pkg/otp", "pkg/postgres"},
	"pkg/requests":      {"pkg/bus", "pkg/event", "pkg/otp", "pkg/postgres", "pkg/telemetry"},
	"pkg/delivery": {
		"pkg/bus", "pkg/event", "pkg/keyring", "pkg/lifecycle", "pkg/limit", "pkg/message", "pkg/otp", "pkg/postgres", "pkg/telemetry",
	},
	"pkg/otposttest": {
		"pkg/bus", "pkg/embedded", "pkg/event", "pkg/inbox", "pkg/keyring", "pkg/lifecycle", "pkg/limit", "pkg/otp", "pkg/postgres", "pkg/telemetry",
		"schemas", "schemas/migrations",
	},

	// a service never imports another
	"services/challenge": working,
	"services/email":     working,
	"services/enrolment": working,
	"services/gateway": slices.Concat(working, []string{
		"services/gateway/api", "services/gateway/ask", "services/gateway/callback", "services/gateway/desk", "services/gateway/pages", "services/gateway/web",
		"services/gateway/webhook",
	}),
	"services/letter":       working,
	"services/sms":          working,
	"services/verification": working,

	// the parts of the gateway
	"services/gateway/ask":      {"pkg/bus", "pkg/otp"},
	"services/gateway/web":      {},
	"services/gateway/api":      slices.Concat(working, []string{"schemas", "services/gateway/ask", "services/gateway/web"}),
	"services/gateway/desk":     slices.Concat(working, []string{"services/gateway/web"}),
	"services/gateway/pages":    slices.Concat(working, []string{"services/gateway/ask", "services/gateway/web"}),
	"services/gateway/webhook":  working,
	"services/gateway/callback": working,

	// everything on one machine, without the workers
	"services/sandbox": {"pkg/bus", "pkg/embedded", "pkg/event", "pkg/inbox", "pkg/keyring", "pkg/lifecycle", "pkg/limit", "pkg/otp", "pkg/postgres", "pkg/route", "services/sandbox/shop"},

	"services/sandbox/shop": {}, // an app as anybody would write one

	// the command wires them
	"services/otpost": slices.Concat(working, []string{
		"pkg/embedded", "pkg/inbox", "schemas", "schemas/migrations",
		"services/challenge", "services/email", "services/enrolment", "services/gateway", "services/gateway/ask", "services/gateway/callback", "services/gateway/desk",
		"services/gateway/pages", "services/gateway/web", "services/gateway/webhook", "services/letter",
		"services/sandbox", "services/sandbox/shop", "services/sms", "services/verification",
	}),

	"services/otpost/browser": {}, // tests alone: they start the command and a browser

	"scripts/house":   {},
	"scripts/openapi": {"pkg/otp", "services/gateway/api"}, // writes schemas/openapi.yaml
	"scripts/try":     {},                                  // an app as anybody would write one
}

// working is what a service is made from: neither the servers of one machine, nor the simulated providers, nor the test bench.
var working = []string{
	"pkg/apps", "pkg/bounce", "pkg/bus", "pkg/delivery", "pkg/event", "pkg/keyring", "pkg/lifecycle", "pkg/limit", "pkg/message", "pkg/otp", "pkg/outbox", "pkg/postgres",
	"pkg/pumping", "pkg/pumping/watch", "pkg/qr", "pkg/requests", "pkg/route", "pkg/routes", "pkg/seeds", "pkg/telemetry", "pkg/webauthn",
}

// importers says who alone may import a library. Tests may too: they speak to what is ours as others do.
var importers = map[string][]string{
	"github.com/sony/gobreaker/v2":      {"pkg/delivery"},
	"github.com/twilio/twilio-go":       {"services/sms", "services/gateway/callback"},
	"github.com/emersion/go-imap/v2":    {"services/email"},
	"github.com/aws":                    {"services/sms", "pkg/inbox"},
	"github.com/wneessen/go-mail":       {"services/email"},
	"codeberg.org/go-pdf/fpdf":          {"services/letter"},
	"github.com/boombuler/barcode":      {"pkg/qr"},
	"github.com/go-webauthn":            {"pkg/webauthn"},
	"github.com/jmoiron/sqlx":           {"pkg/postgres"},
	"github.com/lib/pq":                 {"pkg/postgres", "pkg/embedded"},
	"github.com/pressly/goose/v3":       {"pkg/postgres"},
	"database/sql":                      {"pkg/postgres", "pkg/embedded", "pkg/otposttest"},
	"github.com/tink-crypto/tink-go/v2": {"pkg/keyring"},
	"github.com/nats-io/nats-server/v2": {"pkg/embedded"},
	"github.com/alecthomas/kong":        {"services/otpost"},
	"github.com/chromedp":               {}, // tests only
}

// A listed package is what go list tells of it.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func TestArrows(t *testing.T) {
	for _, tags := range []string{"", "unguarded"} {
		packages := list(t, tags)
		if len(packages) < 10 {
			t.Fatalf("go list -tags %q found %d packages: not the whole house", tags, len(packages))
		}
		for _, fault := range faults(packages) {
			t.Error(fault)
		}
	}
}

// faults returns a line for each import that must not be.
func faults(packages []listed) []string {
	var out []string
	for _, p := range packages {
		self, ours := within(p.ImportPath)
		if !ours {
			out = append(out, p.ImportPath+" is not of this module")
			continue
		}
		allowed, known := arrows[self]
		if !known {
			out = append(out, self+" is not in the table of arrows: say there what it may import")
			continue
		}
		for _, path := range p.Imports {
			if to, ours := within(path); ours && !slices.Contains(allowed, to) {
				out = append(out, fmt.Sprintf("%s imports %s", self, to))
			}
			if only := importersOf(path); only != nil && !slices.Contains(only, self) {
				out = append(out, fmt.Sprintf("%s imports %s, which only %s may", self, path, strings.Join(only, " and ")))
			}
		}
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if to, ours := within(path); ours && to != self && strings.HasPrefix(to, "services/") && !slices.Contains(allowed, to) {
				out = append(out, fmt.Sprintf("a test of %s imports %s", self, to))
			}
		}
	}
	return out
}

// within returns the path of a package inside the module.
func within(path string) (string, bool) {
	return strings.CutPrefix(path, module+"/")
}

// importersOf returns who alone may import a path, or nil if it is anybody's.
func importersOf(path string) []string {
	for library, only := range importers {
		if path == library || strings.HasPrefix(path, library+"/") {
			return only
		}
	}
	return nil
}

// list asks the go command for every package of the module.
func list(t *testing.T, tags string) []listed {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", "list", "-tags", tags, "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false") // whatever a person's own flags are
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}

// TestFaults feeds wrong arrows in and sees each of them found.
func TestFaults(t *testing.T) {
	pkg := func(self string, imports ...string) listed {
		return listed{ImportPath: module + "/" + self, Imports: imports}
	}
	test := func(self string, imports ...string) listed {
		return listed{ImportPath: module + "/" + self, XTestImports: imports}
	}
	ours := func(path string) string { return module + "/" + path }
	for name, tc := range map[string]struct {
		fed  listed
		want string // "" for a right one
	}{
		"the domain imports nothing":        {pkg("pkg/otp", "fmt", ours("pkg/event")), "pkg/otp imports pkg/event"},
		"arrows run downward":               {pkg("pkg/event", ours("pkg/bus")), "pkg/event imports pkg/bus"},
		"pkg does not import services":      {pkg("pkg/delivery", ours("services/sms")), "pkg/delivery imports services/sms"},
		"a service imports no other":        {pkg("services/sms", ours("services/email")), "services/sms imports services/email"},
		"not in its tests either":           {test("services/sms", ours("services/email")), "a test of services/sms imports services/email"},
		"nobody imports the command":        {pkg("services/challenge", ours("services/otpost")), "services/challenge imports services/otpost"},
		"the bench is for tests":            {pkg("services/otpost", ours("pkg/otposttest")), "services/otpost imports pkg/otposttest"},
		"Twilio is of the SMS service":      {pkg("services/challenge", "github.com/twilio/twilio-go/client"), "services/challenge imports github.com/twilio/twilio-go/client, which only services/sms and services/gateway/callback may"},
		"SQL is of the stores":              {pkg("pkg/outbox", "github.com/jmoiron/sqlx"), "pkg/outbox imports github.com/jmoiron/sqlx, which only pkg/postgres may"},
		"keys are of one package":           {pkg("services/verification", "github.com/go-webauthn/webauthn/protocol"), "services/verification imports github.com/go-webauthn/webauthn/protocol, which only pkg/webauthn may"},
		"the SDK is an app's":               {pkg("pkg/client", ours("pkg/bus")), "pkg/client imports pkg/bus"},
		"a new package is put in its place": {pkg("pkg/util"), "pkg/util is not in the table of arrows: say there what it may import"},

		"the command imports services": {pkg("services/otpost", ours("services/sms"), ours("pkg/embedded")), ""},
		"tests use the bench":          {test("pkg/bus", ours("pkg/otposttest"), ours("pkg/embedded")), ""},
		"tests speak to the simulator": {test("pkg/inbox", "github.com/twilio/twilio-go", "github.com/wneessen/go-mail"), ""},
		"like names are no matter":     {pkg("pkg/message", "github.com/lib/pqueue"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			if tc.want != "" {
				want = []string{tc.want}
			}
			if got := faults([]listed{tc.fed}); !slices.Equal(got, want) {
				t.Errorf("faults: %q, want %q", got, want)
			}
		})
	}
}

package event

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/schemas"
)

// constants returns the values of a file's string constants that are of a type or whose names begin with a prefix.
func constants(t *testing.T, file, typ, prefix string) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			name, isNamed := v.Type.(*ast.Ident)
			if typ != "" && (!isNamed || name.Name != typ) || !strings.HasPrefix(v.Names[0].Name, prefix) || len(v.Values) == 0 {
				continue
			}
			if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if out[v.Names[0].Name], err = strconv.Unquote(lit.Value); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no such constants", file)
	}
	return out
}

func sorted(values map[string]string) []string { return slices.Sorted(maps.Values(values)) }

// enum returns the words of a closed set in common.json.
func enum(t *testing.T, name string) []string {
	t.Helper()
	def, _ := schemaFile(t, "common.json").value["$defs"].(map[string]any)[name].(map[string]any)
	var out []string
	list, _ := def["enum"].([]any)
	for _, v := range list {
		out = append(out, v.(string))
	}
	slices.Sort(out)
	return out
}

// TestClosedSetsAreTheSame holds the words of the schemas to the constants of Go.
func TestClosedSetsAreTheSame(t *testing.T) {
	without := func(list []string, drop ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(drop, s) })
	}
	states := sorted(constants(t, "../otp/otp.go", "State", ""))
	kindsOfFactor := sorted(constants(t, "../otp/otp.go", "FactorKind", ""))
	proofs := sorted(constants(t, "../otp/recovery.go", "ProofKind", ""))
	for name, want := range map[string][]string{
		"reason":          sorted(constants(t, "../otp/problem.go", "Reason", "")),
		"state":           states,
		"end_reason":      without(states, string(otp.Open), string(otp.Verified)),
		"delivery_state":  sorted(constants(t, "../otp/otp.go", "DeliveryState", "")),
		"channel":         without(sorted(constants(t, "../otp/otp.go", "Channel", "")), string(otp.Letter)),
		"factor":          kindsOfFactor,
		"method":          slices.Sorted(slices.Values(append(without(kindsOfFactor, string(otp.FactorBackupCode)), string(otp.Voice), string(otp.WhatsApp)))),
		"factor_kind":     without(kindsOfFactor, string(otp.FactorBackupCode)),
		"factor_state":    without(sorted(constants(t, "../otp/otp.go", "FactorState", "")), string(otp.FactorRemoved)),
		"removed_reason":  sorted(constants(t, "event_factor.go", "", "Removed")),
		"revoked_reason":  sorted(constants(t, "event_factor.go", "", "Revoked")),
		"actor":           sorted(constants(t, "event_factor.go", "", "By")),
		"activity_by":     slices.Sorted(slices.Values(append(sorted(constants(t, "event_factor.go", "", "By")), sorted(constants(t, "activity.go", "", "By"))...))),
		"action":          sorted(constants(t, "activity.go", "Action", "")),
		"proof":           proofs,
		"recovery_method": without(proofs, string(otp.ProofPassphrase), string(otp.ProofBackupCode)),
		"http_reason":     sorted(constants(t, "http.go", "", "")),
		"page":            sorted(constants(t, "page.go", "", "Page")),
		"page_outcome":    sorted(constants(t, "page.go", "", "Outcome")),
		"recovery_state":  sorted(constants(t, "../otp/recovery.go", "RecoveryState", "")),
	} {
		if d := cmp.Diff(want, enum(t, name)); d != "" {
			t.Errorf("%s (-Go +schema):\n%s", name, d)
		}
	}
	headers, _ := schemaFile(t, "dead.letter.json").value["properties"].(map[string]any)
	if d := cmp.Diff(sorted(constants(t, "../bus/dead.go", "", "Header")), slices.Sorted(maps.Keys(headers))); d != "" {
		t.Errorf("headers of a dead letter (-Go +schema):\n%s", d)
	}
}

// eventNames returns the names of all events to apps.
func eventNames(t *testing.T) []string {
	t.Helper()
	return append(sorted(constants(t, "event.go", "Name", "")), sorted(constants(t, "event_factor.go", "Name", ""))...)
}

type asyncAPI struct {
	AsyncAPI string `yaml:"asyncapi"`
	Channels map[string]struct {
		Address  *string        `yaml:"address"`
		Messages map[string]any `yaml:"messages"`
	} `yaml:"channels"`
	Operations map[string]struct {
		Channel map[string]string `yaml:"channel"`
		Reply   *struct {
			Channel map[string]string `yaml:"channel"`
		} `yaml:"reply"`
	} `yaml:"operations"`
	Components struct {
		Messages map[string]struct {
			Payload map[string]string `yaml:"payload"`
		} `yaml:"messages"`
	} `yaml:"components"`
}

func readAsyncAPI(t *testing.T, into any) {
	t.Helper()
	b, err := schemas.Events.ReadFile(schemaDir + "/asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

// TestAsyncAPIKnowsEverySubject holds the addresses of asyncapi.yaml to the constants and functions of this package.
func TestAsyncAPIKnowsEverySubject(t *testing.T) {
	var doc asyncAPI
	readAsyncAPI(t, &doc)
	if doc.AsyncAPI != "3.0.0" {
		t.Errorf("asyncapi is %q", doc.AsyncAPI)
	}
	want := map[string]string{ // address → the message on it
		LoginSubject("{app}"):       "login.requested",
		WorkSubject("{channel}"):    "work.command",
		ReceiptSubject("{channel}"): "receipt",
		ReportSubject:               "report",
		DueSubject:                  "timer.due",
		DeadPrefix + "{stream}":     "dead.letter",
	}
	for _, name := range eventNames(t) {
		want[EventSubject("{app}", Name(name))] = name
	}
	signals := sorted(constants(t, "signal.go", "SignalName", ""))
	for _, name := range signals {
		if !slices.Contains(SignalNames(), SignalName(name)) {
			t.Errorf("SignalNames does not name %s", name)
		}
	}
	for _, name := range signals {
		want[SignalSubject("{app}", SignalName(name))] = name
	}
	for _, file := range []string{"subject.go", "factor.go", "backup.go", "device.go", "activity.go", "recovery.go"} {
		for _, verb := range constants(t, file, "", "Verb") {
			want[RPCSubject("{app}", verb)] = "rpc." + verb + ".request"
		}
	}
	for _, verb := range constants(t, "support.go", "", "Support") {
		want[SupportSubject("{agent}", verb)] = "support." + verb + ".request"
	}
	want[InternalSubject(VerbCheck)] = "internal.check.request"
	got := map[string]string{}
	operated := map[string]bool{}
	for _, op := range doc.Operations {
		operated[strings.TrimPrefix(op.Channel["$ref"], "#/channels/")] = true
		if op.Reply != nil {
			operated[strings.TrimPrefix(op.Reply.Channel["$ref"], "#/channels/")] = true
		}
	}
	for name, c := range doc.Channels {
		if !operated[name] {
			t.Errorf("no operation uses channel %s", name)
		}
		messages := slices.Sorted(maps.Keys(c.Messages))
		if c.Address == nil { // a reply
			if d := cmp.Diff(slices.Sorted(slices.Values([]string{"rpc.error", name})), messages); d != "" {
				t.Errorf("%s: %s", name, d)
			}
			continue
		}
		got[*c.Address] = strings.Join(messages, " ")
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("subjects (-Go +asyncapi.yaml):\n%s", d)
	}
}

// TestAsyncAPIRefersToWhatExists follows every reference and expects every schema to be some message's.
func TestAsyncAPIRefersToWhatExists(t *testing.T) {
	var whole map[string]any
	readAsyncAPI(t, &whole)
	used := map[string]bool{}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(at, e)
			}
		case map[string]any:
			for k, e := range v {
				ref, isRef := e.(string)
				if k != "$ref" || !isRef {
					walk(at+"/"+k, e)
					continue
				}
				if file, ok := strings.CutPrefix(ref, "./"); ok {
					used[strings.TrimSuffix(file, ".json")] = true
					if _, err := schemas.Events.ReadFile(schemaDir + "/" + file); err != nil {
						t.Errorf("%s: %v", at, err)
					}
					continue
				}
				var to any = whole
				for _, step := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
					m, _ := to.(map[string]any)
					to = m[step]
				}
				if to == nil {
					t.Errorf("%s refers to %s, which is not there", at, ref)
				}
			}
		}
	}
	walk("", whole)
	for name := range validators() {
		if !used[name] && name != "common" && !strings.HasPrefix(name, "http.") { // what has no subject is in openapi.yaml
			t.Errorf("asyncapi.yaml does not mention %s.json", name)
		}
	}
	var doc asyncAPI
	readAsyncAPI(t, &doc)
	for name, m := range doc.Components.Messages {
		if name != "dead.letter" && m.Payload["$ref"] != "./"+name+".json" {
			t.Errorf("message %s has the payload %q", name, m.Payload["$ref"])
		}
	}
}

// TestEventTypes holds each schema's type attribute to the one that Go writes.
func TestEventTypes(t *testing.T) {
	for _, name := range eventNames(t) {
		typ, _ := schemaFile(t, name+".json").property(t, "type")
		var e cloudEvent
		if err := json.Unmarshal(Event{App: "shop", Name: Name(name)}.Encode(), &e); err != nil {
			t.Fatal(err)
		}
		if typ.value["const"] != e.Type {
			t.Errorf("%s: the schema says %v, Go writes %q", name, typ.value["const"], e.Type)
		}
	}
}

func TestAppOf(t *testing.T) {
	for subject, want := range map[string]string{
		LoginSubject("shop"):                  "shop",
		RPCSubject("a-1", VerbVerify):         "a-1",
		EventSubject("shop", ChallengeIssued): "shop",
		"otpost.app.Shop.login":               "",
		"otpost.app..login":                   "",
		"otpost.app.*.login":                  "",
		"otpost.app.shop":                     "",
		"otpost.work.sms":                     "",
		"x.otpost.app.shop.login":             "",
		LoginSubject(strings.Repeat("a", 64)): strings.Repeat("a", 64),
		LoginSubject(strings.Repeat("a", 65)): "",
	} {
		if got, ok := AppOf(subject); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q, %v", subject, got, ok)
		}
	}
}

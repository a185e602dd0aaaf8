package event

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/schemas"
)

const schemaDir = "events/v1"

// received is the present of every login event in the examples.
var received = time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)

// A messageKind ties a schema to what pkg/event makes of it.
type messageKind struct {
	schema string
	goType reflect.Type                      // of the message, or of its data for a CloudEvent
	refuse func(body []byte) error           // reads the message as otpost does; nil for what otpost only writes
	again  func(body []byte) ([]byte, error) // reads the message and writes it once more
}

// incoming reports whether apps send it, so that Go and schema must agree on every byte.
func (k messageKind) incoming() bool {
	return k.schema == "login.requested" || strings.HasSuffix(k.schema, ".request")
}

func problemOrNil(p *otp.Problem) error {
	if p == nil {
		return nil
	}
	return p
}

func plain[T any](schema string, refuse func([]byte) error) messageKind {
	return messageKind{schema, reflect.TypeFor[T](), refuse, func(body []byte) ([]byte, error) {
		var v T
		if err := json.Unmarshal(body, &v, strict); err != nil {
			return nil, err
		}
		return Encode(v), nil
	}}
}

func cloud[T any](name Name) messageKind {
	return messageKind{string(name), reflect.TypeFor[T](), nil, func(body []byte) ([]byte, error) {
		var data T
		e := cloudEvent{Data: &data}
		if err := json.Unmarshal(body, &e, strict); err != nil {
			return nil, err
		}
		at, err := time.Parse(time.RFC3339, e.Time)
		if err != nil {
			return nil, err
		}
		app, ok := strings.CutPrefix(e.Source, "/otpost/apps/")
		if !ok {
			return nil, fmt.Errorf("source %q is no app", e.Source)
		}
		return Event{App: app, Name: name, ID: e.ID, Subject: e.Subject, Time: at, Data: data}.Encode(), nil
	}}
}

// rewriteLogin keeps the envelope, of which otpost stores little, and writes the data anew.
func rewriteLogin(body []byte) ([]byte, error) {
	l, p := ParseLogin("shop", body, received)
	if p != nil {
		return nil, p
	}
	var whole map[string]any
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, err
	}
	whole["id"], whole["data"] = l.ID, l.LoginData
	return Encode(whole), nil
}

// kinds is every message of the contract, by the name of its schema.
var kinds = []messageKind{
	{"login.requested", reflect.TypeFor[LoginData](), func(b []byte) error { _, p := ParseLogin("shop", b, received); return problemOrNil(p) }, rewriteLogin},
	cloud[Issued](ChallengeIssued),
	cloud[Skipped](ChallengeSkipped),
	cloud[Refused](ChallengeRefused),
	cloud[Delivery](ChallengeSent),
	cloud[Delivery](ChallengeDelivered),
	cloud[Delivery](ChallengeUndeliverable),
	cloud[VerifiedData](ChallengeVerified),
	cloud[Failed](ChallengeFailed),
	cloud[Ended](ChallengeEnded),
	cloud[AccountLockedData](AccountLocked),
	plain[VerifyRequest]("rpc.verify.request", func(b []byte) error { _, p := ParseVerify("shop", b); return problemOrNil(p) }),
	plain[LoginRequest]("rpc.login.request", func(b []byte) error { _, p := ParseLoginRequest("shop", b); return problemOrNil(p) }),
	plain[ResendRequest]("rpc.resend.request", func(b []byte) error { _, p := ParseResend("shop", b); return problemOrNil(p) }),
	plain[CancelRequest]("rpc.cancel.request", func(b []byte) error { _, p := ParseCancel("shop", b); return problemOrNil(p) }),
	plain[StatusRequest]("rpc.status.request", func(b []byte) error { _, p := ParseStatus("shop", b); return problemOrNil(p) }),
	plain[VerifyReply]("rpc.verify.reply", nil),
	plain[LoginReply]("rpc.login.reply", nil),
	plain[ResendReply]("rpc.resend.reply", nil),
	plain[CancelReply]("rpc.cancel.reply", nil),
	plain[StatusReply]("rpc.status.reply", nil),
	plain[ErrorReply]("rpc.error", nil),
	plain[Command]("work.command", func(b []byte) error { _, err := ParseCommand(b); return err }),
	plain[Receipt]("receipt", func(b []byte) error { _, err := ParseReceipt(b); return err }),
}

func kindOfSchema(t testing.TB, schema string) messageKind {
	t.Helper()
	for _, k := range kinds {
		if k.schema == schema {
			return k
		}
	}
	t.Fatalf("no message has the schema %q", schema)
	return messageKind{}
}

// validators compiles every schema once, from the embedded files and nothing else.
var validators = sync.OnceValue(func() map[string]*jsonschema.Schema {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	files, err := fs.Glob(schemas.Events, schemaDir+"/*.json")
	if err != nil {
		panic(err)
	}
	ids := map[string]string{}
	for _, f := range files {
		body, err := schemas.Events.ReadFile(f)
		if err != nil {
			panic(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			panic(fmt.Errorf("%s: %w", f, err))
		}
		id := doc.(map[string]any)["$id"].(string)
		if err := c.AddResource(id, doc); err != nil {
			panic(fmt.Errorf("%s: %w", f, err))
		}
		ids[strings.TrimSuffix(path.Base(f), ".json")] = id
	}
	out := map[string]*jsonschema.Schema{}
	for name, id := range ids {
		out[name] = c.MustCompile(id)
	}
	return out
})

// accepts returns what the schema has against body, nil for nothing. A body that is no single JSON document in good order fails too.
func accepts(schema string, body []byte) error {
	doc, err := parseJSON(body)
	if err != nil {
		return err
	}
	return validators()[schema].Validate(doc)
}

func parseJSON(body []byte) (doc any, err error) {
	err = json.Unmarshal(body, &doc)
	return doc, err
}

func sameJSON(t testing.TB, want, got []byte) {
	t.Helper()
	w, err := parseJSON(want)
	if err != nil {
		t.Fatalf("want is no JSON: %v", err)
	}
	g, err := parseJSON(got)
	if err != nil {
		t.Fatalf("got is no JSON: %v", err)
	}
	if d := cmp.Diff(w, g); d != "" {
		t.Errorf("not the same message (-want +got):\n%s", d)
	}
}

// TestEverySchemaHasAMessage holds the list above, the schema files and the schemas' own ids to each other.
func TestEverySchemaHasAMessage(t *testing.T) {
	var want, got []string
	for _, k := range kinds {
		want = append(want, k.schema)
	}
	for name, s := range validators() {
		if name != "common" && name != "dead.letter" { // the one holds parts, the other headers
			got = append(got, name)
		}
		if id := "https://github.com/otpost/otpost/schemas/events/v1/" + name + ".json"; strings.TrimSuffix(s.Location, "#") != id {
			t.Errorf("%s.json has the $id %q, not %q", name, s.Location, id)
		}
		if s.Title == "" || s.Description == "" {
			t.Errorf("%s.json has no title or no description", name)
		}
	}
	sort.Strings(want)
	sort.Strings(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("schemas (-in Go +in files):\n%s", d)
	}
}

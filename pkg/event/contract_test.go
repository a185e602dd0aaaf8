package event

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
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
	never  []string                          // members of goType that this message never has
	always []string                          // and those that it always has, although goType may leave them out
}

// without says which members of its type a message never has.
func (k messageKind) without(members ...string) messageKind {
	k.never = members
	return k
}

// with says which members of its type a message always has, although the type may leave them out.
func (k messageKind) with(members ...string) messageKind {
	k.always = members
	return k
}

// enveloped reports whether it is a CloudEvent that apps send.
func (k messageKind) enveloped() bool {
	return k.schema == "login.requested" || slices.Contains(SignalNames(), SignalName(k.schema))
}

// incoming reports whether apps or support agents send it, so that Go and schema must agree on every byte.
func (k messageKind) incoming() bool {
	return k.enveloped() || strings.HasSuffix(k.schema, ".request")
}

func problemOrNil(p *otp.Problem) error {
	if p == nil {
		return nil
	}
	return p
}

func plain[T any](schema string, refuse func([]byte) error) messageKind {
	return messageKind{schema: schema, goType: reflect.TypeFor[T](), refuse: refuse, again: func(body []byte) ([]byte, error) {
		var v T
		if err := json.Unmarshal(body, &v, strict); err != nil {
			return nil, err
		}
		return Encode(v), nil
	}}
}

// request is a message that Parse reads; prefix and verb name its schema.
func request[T any, P Checked[T]](prefix, verb string) messageKind {
	return plain[T](prefix+"."+verb+".request", func(body []byte) error { _, p := Parse[T, P](body); return problemOrNil(p) })
}

// signal is a message that ParseSignal reads; T is what it looks for in the data.
func signal[T any](name SignalName) messageKind {
	return messageKind{
		schema: string(name), goType: reflect.TypeFor[T](),
		refuse: func(body []byte) error { _, p := ParseSignal("shop", name, body); return problemOrNil(p) },
		again: func(body []byte) ([]byte, error) {
			s, p := ParseSignal("shop", name, body)
			if p != nil {
				return nil, p
			}
			return rewrite(body, s.ID, s.SignalData)
		},
	}
}

func cloud[T any](name Name) messageKind {
	return messageKind{schema: string(name), goType: reflect.TypeFor[T](), again: func(body []byte) ([]byte, error) {
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

func readLogin(body []byte) error { _, p := ParseLogin("shop", body, received); return problemOrNil(p) }

func rewriteLogin(body []byte) ([]byte, error) {
	l, p := ParseLogin("shop", body, received)
	if p != nil {
		return nil, p
	}
	return rewrite(body, l.ID, l.LoginData)
}

// rewrite keeps the envelope, of which otpost stores little, and writes the data anew.
func rewrite(body []byte, id string, data any) ([]byte, error) {
	var whole map[string]any
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, err
	}
	whole["id"], whole["data"] = id, data
	return Encode(whole), nil
}

// kinds is every message of the contract, by the name of its schema.
var kinds = []messageKind{
	{schema: "login.requested", goType: reflect.TypeFor[LoginData](), refuse: readLogin, again: rewriteLogin},
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
	plain[Report]("report", func(b []byte) error { _, err := ParseReport(b); return err }),
	plain[Due]("timer.due", func(b []byte) error { _, err := ParseDue(b); return err }),

	// The life of factors.
	cloud[FactorData](FactorAdded).without("reason", "login"),
	cloud[FactorData](FactorRemoved).without("login").with("reason"),
	cloud[FactorData](FactorSuspended).with("reason"),
	cloud[BackupCodeUsedData](BackupCodeUsed),
	cloud[BackupCodesData](BackupCodesRegenerated),
	cloud[DeviceData](DeviceTrusted).without("reason").with("expires_at"),
	cloud[DeviceData](DeviceRevoked).without("expires_at").with("reason"),
	cloud[DeactivatedData](Deactivated),
	cloud[RecoveryData](RecoveryBegun).without("proof", "proven", "effective_at").with("by"),
	cloud[RecoveryData](RecoveryApproved).without("proof", "proven", "effective_at").with("by"),
	cloud[RecoveryData](RecoveryProven).without("by", "effective_at").with("proof"),
	cloud[RecoveryData](RecoveryWaiting).without("by", "proof", "expires_at").with("effective_at"),
	cloud[RecoveryData](RecoveryCompleted).without("by", "proof", "expires_at").with("effective_at"),
	cloud[RecoveryData](RecoveryCancelled).without("proof", "proven", "effective_at", "expires_at").with("by"),
	cloud[RecoveryData](RecoveryExpired).without("by", "proof", "proven", "effective_at", "expires_at"),
	cloud[RecoveryData](RecoveryRefused).without("proof", "proven", "effective_at", "expires_at").with("by"),
	cloud[ErasedData](UserErased),
	cloud[Alarm](AlarmRaised),
	signal[userData](PasswordChanged),
	signal[signedOutData](SessionSignedOut),
	signal[erasedData](DeviceErased),
	signal[userData](UserDeleted),
	request[FactorBeginRequest]("rpc", VerbFactorBegin),
	request[FactorResendRequest]("rpc", VerbFactorResend),
	request[FactorConfirmRequest]("rpc", VerbFactorConfirm),
	request[FactorListRequest]("rpc", VerbFactorList),
	request[FactorRenameRequest]("rpc", VerbFactorRename),
	request[FactorPreferRequest]("rpc", VerbFactorPrefer),
	request[FactorRemoveRequest]("rpc", VerbFactorRemove),
	request[FactorResyncRequest]("rpc", VerbFactorResync),
	request[BackupAcknowledgeRequest]("rpc", VerbBackupAcknowledge),
	request[BackupCodesRequest]("rpc", VerbBackupView),
	request[BackupCodesRequest]("rpc", VerbBackupRegenerate),
	request[DeviceListRequest]("rpc", VerbDeviceList),
	request[DeviceRevokeRequest]("rpc", VerbDeviceRevoke),
	request[DeviceRenewRequest]("rpc", VerbDeviceRenew),
	request[ActivityListRequest]("rpc", VerbActivityList),
	request[DeactivateBeginRequest]("rpc", VerbDeactivateBegin),
	request[DeactivateConfirmRequest]("rpc", VerbDeactivateConfirm),
	request[WebAuthnBeginRequest]("rpc", VerbWebAuthnBegin),
	request[PreferencesRequest]("rpc", VerbRecoveryPreferences),
	request[RecoveryAddressRequest]("rpc", VerbRecoveryAddress),
	request[RecoveryConfirmRequest]("rpc", VerbRecoveryConfirm),
	request[RecoveryBeginRequest]("rpc", VerbRecoveryBegin),
	request[RecoveryResendRequest]("rpc", VerbRecoveryResend),
	request[RecoveryProveRequest]("rpc", VerbRecoveryProve),
	request[RecoveryStatusRequest]("rpc", VerbRecoveryStatus),
	request[RecoveryCancelRequest]("rpc", VerbRecoveryCancel),
	request[SupportUserRequest]("support", SupportFind),
	request[SupportBeginRequest]("support", SupportBegin),
	request[SupportRecoveryRequest]("support", SupportApprove),
	request[SupportRecoveryRequest]("support", SupportRefuse),
	request[SupportRecoveryRequest]("support", SupportCancel),
	request[SupportUserRequest]("support", SupportStatus),
	request[CheckRequest]("internal", VerbCheck),
	plain[FactorBeginReply]("rpc.factor.begin.reply", nil),
	plain[ResendReply]("rpc.factor.resend.reply", nil),
	plain[FactorConfirmReply]("rpc.factor.confirm.reply", nil),
	plain[FactorListReply]("rpc.factor.list.reply", nil),
	plain[FactorListReply]("rpc.factor.rename.reply", nil),
	plain[FactorListReply]("rpc.factor.prefer.reply", nil),
	plain[FactorListReply]("rpc.factor.remove.reply", nil),
	plain[FactorResyncReply]("rpc.factor.resync.reply", nil),
	plain[BackupAcknowledgeReply]("rpc.backup_codes.acknowledge.reply", nil),
	plain[BackupCodesReply]("rpc.backup_codes.view.reply", nil),
	plain[BackupCodesReply]("rpc.backup_codes.regenerate.reply", nil),
	plain[DeviceListReply]("rpc.device.list.reply", nil),
	plain[DeviceListReply]("rpc.device.revoke.reply", nil),
	plain[DeviceRenewReply]("rpc.device.renew.reply", nil),
	plain[ActivityListReply]("rpc.activity.list.reply", nil),
	plain[DeactivateBeginReply]("rpc.deactivate.begin.reply", nil),
	plain[DeactivateConfirmReply]("rpc.deactivate.confirm.reply", nil),
	plain[WebAuthnBeginReply]("rpc.webauthn.begin.reply", nil),
	plain[PreferencesReply]("rpc.recovery.preferences.reply", nil),
	plain[RecoveryAddressReply]("rpc.recovery.address.reply", nil),
	plain[PreferencesReply]("rpc.recovery.confirm.reply", nil),
	plain[RecoveryReply]("rpc.recovery.begin.reply", nil),
	plain[ResendReply]("rpc.recovery.resend.reply", nil),
	plain[RecoveryProveReply]("rpc.recovery.prove.reply", nil),
	plain[RecoveryReply]("rpc.recovery.status.reply", nil),
	plain[RecoveryCancelReply]("rpc.recovery.cancel.reply", nil),
	plain[SupportFindReply]("support.find.reply", nil),
	plain[RecoveryReply]("support.begin.reply", nil),
	plain[RecoveryReply]("support.approve.reply", nil),
	plain[RecoveryReply]("support.refuse.reply", nil),
	plain[RecoveryReply]("support.cancel.reply", nil),
	plain[RecoveryReply]("support.status.reply", nil),
	plain[CheckReply]("internal.check.reply", nil),

	// What is known over HTTP only, the hosted pages among it.
	plain[HTTPProblem]("http.problem", nil),
	plain[SignalReply]("http.signals.reply", nil),
	request[PageSessionRequest]("http", PathPageSessions),
	plain[PageSessionReply]("http.page-sessions.reply", nil),
	request[PageResultRequest]("http", PathPageResults),
	plain[PageResultReply]("http.page-results.reply", nil),
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

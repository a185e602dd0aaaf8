package client_test

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/client"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// A verb is how the client asks: it makes a request of an example, and returns the reply as the client reads it, nil where it is told in other words.
type verb func(t *testing.T, c *client.Client, example []byte) (any, error)

// in makes a verb of a method that takes its request as a type of its own.
func in[Request, Reply any](method func(*client.Client, context.Context, Request) (Reply, error)) verb {
	return func(t *testing.T, c *client.Client, example []byte) (any, error) {
		return method(c, t.Context(), decoded[Request](t, example))
	}
}

// args makes a verb of a method that takes its request in single words.
func args[Reply any](call func(c *client.Client, ctx context.Context, r map[string]string) (Reply, error)) verb {
	return func(t *testing.T, c *client.Client, example []byte) (any, error) {
		return call(c, t.Context(), decoded[map[string]string](t, example))
	}
}

// bare is args for a method that returns an error only.
func bare(call func(c *client.Client, ctx context.Context, r map[string]string) error) verb {
	return func(t *testing.T, c *client.Client, example []byte) (any, error) {
		return nil, call(c, t.Context(), decoded[map[string]string](t, example))
	}
}

func decoded[T any](t *testing.T, text []byte) T {
	t.Helper()
	var v T
	if err := jsonv2.Unmarshal(text, &v, jsonv2.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("%T does not take the example: %v in %s", v, err, text)
	}
	return v
}

type ctx = context.Context

var verbs = map[string]verb{
	event.VerbLogin:  in((*client.Client).Login),
	event.VerbVerify: in((*client.Client).Verify),
	event.VerbResend: in((*client.Client).Resend),
	event.VerbCancel: bare(func(c *client.Client, x ctx, r map[string]string) error {
		return c.CancelChallenge(x, r["challenge"], r["session"])
	}),
	event.VerbStatus: args(func(c *client.Client, x ctx, r map[string]string) (client.ChallengeStatus, error) {
		return c.ChallengeStatus(x, r["challenge"])
	}),
	event.VerbWebAuthnBegin: args(func(c *client.Client, x ctx, r map[string]string) (client.WebAuthnOptions, error) {
		return c.BeginWebAuthn(x, r["challenge"], r["session"])
	}),

	event.VerbFactorBegin: in((*client.Client).BeginFactor),
	event.VerbFactorResend: args(func(c *client.Client, x ctx, r map[string]string) (client.Resent, error) {
		return c.ResendFactor(x, r["ceremony"], r["session"])
	}),
	event.VerbFactorConfirm: in((*client.Client).ConfirmFactor),
	event.VerbFactorList: args(func(c *client.Client, x ctx, r map[string]string) (client.Factors, error) {
		return c.Factors(x, r["user"])
	}),
	event.VerbFactorRename: in((*client.Client).RenameFactor),
	event.VerbFactorPrefer: in((*client.Client).PreferFactor),
	event.VerbFactorRemove: in((*client.Client).RemoveFactor),
	event.VerbFactorResync: func(t *testing.T, c *client.Client, example []byte) (any, error) {
		return nil, c.ResyncFactor(t.Context(), decoded[client.ResyncFactor](t, example))
	},
	event.VerbDeactivateBegin: in((*client.Client).BeginDeactivation),
	event.VerbDeactivateConfirm: bare(func(c *client.Client, x ctx, r map[string]string) error {
		return c.ConfirmDeactivation(x, r["ceremony"], r["session"])
	}),

	event.VerbBackupAcknowledge: func(t *testing.T, c *client.Client, example []byte) (any, error) {
		left, err := c.AcknowledgeBackupCodes(t.Context(), decoded[client.AcknowledgeBackupCodes](t, example))
		return event.BackupAcknowledgeReply{Activated: err == nil, Left: left}, err
	},
	event.VerbBackupView:       in((*client.Client).BackupCodes),
	event.VerbBackupRegenerate: in((*client.Client).RegenerateBackupCodes),
	event.VerbDeviceList: args(func(c *client.Client, x ctx, r map[string]string) (map[string][]client.Device, error) {
		list, err := c.Devices(x, r["user"])
		return map[string][]client.Device{"devices": list}, err
	}),
	event.VerbDeviceRevoke: func(t *testing.T, c *client.Client, example []byte) (any, error) {
		r := decoded[event.DeviceRevokeRequest](t, example)
		if r.All {
			return nil, c.RevokeDevices(t.Context(), r.User, r.Session)
		}
		list, err := c.RevokeDevice(t.Context(), r.User, r.Device, r.Session)
		return map[string][]client.Device{"devices": list}, err
	},
	event.VerbDeviceRenew:  in((*client.Client).RenewDevice),
	event.VerbActivityList: in((*client.Client).Activity),

	event.VerbRecoveryPreferences: func(t *testing.T, c *client.Client, example []byte) (any, error) {
		r := decoded[client.SetRecoveryPreferences](t, example)
		if r.Session == "" {
			return c.RecoveryPreferences(t.Context(), r.User)
		}
		return c.SetRecoveryPreferences(t.Context(), r)
	},
	event.VerbRecoveryAddress: in((*client.Client).SetRecoveryAddress),
	event.VerbRecoveryConfirm: in((*client.Client).ConfirmRecoveryAddress),
	event.VerbRecoveryBegin:   in((*client.Client).BeginRecovery),
	event.VerbRecoveryResend:  in((*client.Client).ResendRecovery),
	event.VerbRecoveryProve:   in((*client.Client).ProveRecovery),
	event.VerbRecoveryStatus: args(func(c *client.Client, x ctx, r map[string]string) (client.Recovery, error) {
		return c.RecoveryStatus(x, r["user"], r["recovery"])
	}),
	event.VerbRecoveryCancel: func(t *testing.T, c *client.Client, example []byte) (any, error) {
		return nil, c.CancelRecovery(t.Context(), decoded[client.CancelRecovery](t, example))
	},
}

// made are the members that the client adds where the app left them out.
var made = map[string]string{event.VerbVerify: "request"}

// TestEveryVerbSpeaksTheContract sends every valid example of every request and has it answered by every valid example of the reply: what goes out is the
// example, and nothing of what comes in is lost.
func TestEveryVerbSpeaksTheContract(t *testing.T) {
	t.Parallel()
	s := newStand(t, []bus.Role{bus.RoleChallenge, bus.RoleVerification, bus.RoleEnrolment})
	c := s.connect(t)
	for name, call := range verbs {
		requests, replies := examples(t, "rpc."+name+".request"), examples(t, "rpc."+name+".reply")
		exchange := func(request, reply string) {
			var asked []byte
			s.answers(func(verb string, r *bus.Request) {
				if verb != name {
					t.Errorf("%s was asked for in the place of %s", verb, name)
				}
				asked = r.Data
				r.Reply(replies[reply])
			})
			got, err := call(t, c, requests[request])
			if err != nil {
				t.Errorf("%s, %s answered by %s: %v", name, request, reply, err)
				return
			}
			want := canonical(t, requests[request]).(map[string]any)
			sent := canonical(t, asked).(map[string]any)
			if member := made[name]; want[member] == nil {
				delete(sent, member)
			}
			if d := cmp.Diff(want, sent); d != "" {
				t.Errorf("%s, %s (-example +sent):\n%s", name, request, d)
			}
			if got != nil {
				if d := cmp.Diff(canonical(t, replies[reply]), canonical(t, encoded(t, got))); d != "" {
					t.Errorf("%s, %s (-example +read):\n%s", name, reply, d)
				}
			}
		}
		some := slices.Sorted(maps.Keys(requests))[0]
		for _, reply := range slices.Sorted(maps.Keys(replies)) {
			exchange(some, reply)
		}
		for _, request := range slices.Sorted(maps.Keys(requests)) {
			exchange(request, slices.Sorted(maps.Keys(replies))[0])
		}
	}
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	text, err := jsonv2.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestNothingIsLeftOut holds the client to the verbs and the reasons that the contract has.
func TestNothingIsLeftOut(t *testing.T) {
	t.Parallel()
	all := constants(t, filepath.Join("..", "event", "*.go"))
	if len(all) < 60 {
		t.Fatalf("the contract was not found: %v", all)
	}
	for name, value := range all {
		if strings.HasPrefix(name, "Verb") && name != "VerbCheck" && verbs[value] == nil {
			t.Errorf("no method asks for %s", value)
		}
	}
	for _, r := range reasons(t) {
		if !slices.Contains(slices.Collect(maps.Values(sentinels)), r) {
			t.Errorf("no sentinel stands for %s", r)
		}
	}
}

// sentinels are the errors to branch on.
var sentinels = map[error]client.Code{
	client.ErrInvalid: otp.Invalid, client.ErrUnknownApp: otp.UnknownApp, client.ErrUnknownChallenge: otp.UnknownChallenge,
	client.ErrChallengeEnded: otp.ChallengeEnded, client.ErrRateLimited: otp.RateLimited, client.ErrLocked: otp.AccountLocked,
	client.ErrBlockedDestination: otp.BlockedDestination, client.ErrNoFactor: otp.NoFactorLeft, client.ErrStale: otp.Stale,
	client.ErrReauthenticationRequired: otp.ReauthRequired, client.ErrUnknownFactor: otp.UnknownFactor, client.ErrUnknownCeremony: otp.UnknownCeremony,
	client.ErrUnknownRecovery: otp.UnknownRecovery, client.ErrUnknownDevice: otp.UnknownDevice, client.ErrWrongCode: otp.WrongCode,
	client.ErrNotAllowed: otp.NotAllowed, client.ErrLastFactor: otp.LastFactor, client.ErrCoolingOff: otp.CoolingOff,
	client.ErrApprovalRequired: otp.ApprovalRequired, client.ErrConflict: otp.Conflict, client.ErrTooMany: otp.TooMany, client.ErrUnavailable: otp.Busy,
	client.ErrInternal: otp.Internal,
}

// reasons are the values of otp.Reason.
func reasons(t *testing.T) []otp.Reason {
	t.Helper()
	var out []otp.Reason
	for _, value := range constants(t, filepath.Join("..", "otp", "problem.go")) {
		out = append(out, otp.Reason(value))
	}
	if len(out) < 20 {
		t.Fatalf("the reasons were not found: %v", out)
	}
	return out
}

// constants returns the string constants of source files, by name.
func constants(t *testing.T, pattern string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
				for _, spec := range g.Specs {
					v := spec.(*ast.ValueSpec)
					if len(v.Values) == 0 {
						continue
					}
					if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
						if out[v.Names[0].Name], err = strconv.Unquote(lit.Value); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
		}
	}
	return out
}

// eventNames are the names of all events to apps, as the schemas' folder has them.
func eventNames(t *testing.T) []event.Name {
	t.Helper()
	var out []event.Name
	for _, file := range []string{"event.go", "event_factor.go"} {
		for _, value := range constants(t, filepath.Join("..", "event", file)) {
			if schema, err := filepath.Glob(filepath.Join("..", "..", "schemas", "events", "v1", value+".json")); err == nil && len(schema) == 1 {
				out = append(out, event.Name(value))
			}
		}
	}
	if len(out) < 28 { // deactivated is also a reason
		t.Fatalf("the events were not found: %v", out)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestEveryEventIsRead publishes every valid example of every event and reads it: nothing of its data is lost.
func TestEveryEventIsRead(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	js := s.operator(t)
	var want []struct {
		name event.Name
		text []byte
	}
	for _, name := range eventNames(t) {
		for _, text := range examples(t, string(name)) {
			if _, err := js.Publish(t.Context(), event.EventSubject("demo", name), text); err != nil {
				t.Fatal(err)
			}
			want = append(want, struct {
				name event.Name
				text []byte
			}{name, text})
		}
	}
	c := s.connect(t)
	x, cancel := context.WithTimeout(t.Context(), otposttest.Patience)
	defer cancel()
	seen := 0
	err := c.Events(x, func(_ context.Context, e client.Event) error {
		w := want[seen]
		var ce struct {
			ID, Subject string
			Time        time.Time
			Data        json.RawMessage
		}
		if err := json.Unmarshal(w.text, &ce); err != nil {
			t.Fatal(err)
		}
		if e.Name != w.name || e.ID != ce.ID || e.Subject != ce.Subject || !e.Time.Equal(ce.Time) || e.Tries != 1 {
			t.Errorf("%s is read as %+v", w.text, e)
		}
		if d := cmp.Diff(canonical(t, ce.Data), canonical(t, e.Raw)); d != "" {
			t.Errorf("raw data of %s: %s", w.name, d)
		}
		if d := cmp.Diff(canonical(t, ce.Data), canonical(t, encoded(t, e.Data))); e.Data == nil || d != "" {
			t.Errorf("data of %s (-example +read): %s", w.name, d)
		}
		if seen++; seen == len(want) {
			cancel()
		}
		return nil
	})
	if err != nil || seen != len(want) {
		t.Errorf("%d of %d events came, %v", seen, len(want), err)
	}
}

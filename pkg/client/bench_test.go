package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/client"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otposttest"
)

// served says which role answers which verbs.
var served = map[bus.Role][]string{
	bus.RoleChallenge:    {event.VerbLogin, event.VerbResend, event.VerbCancel, event.VerbStatus, event.VerbDeviceRenew},
	bus.RoleVerification: {event.VerbVerify, event.VerbWebAuthnBegin, event.VerbFactorResync},
	bus.RoleEnrolment: {
		event.VerbFactorBegin, event.VerbFactorResend, event.VerbFactorConfirm, event.VerbFactorList, event.VerbFactorRename, event.VerbFactorPrefer,
		event.VerbFactorRemove, event.VerbBackupAcknowledge, event.VerbBackupView, event.VerbBackupRegenerate, event.VerbDeviceList, event.VerbDeviceRevoke,
		event.VerbActivityList,
		event.VerbDeactivateBegin, event.VerbDeactivateConfirm, event.VerbRecoveryPreferences, event.VerbRecoveryAddress, event.VerbRecoveryConfirm,
		event.VerbRecoveryBegin, event.VerbRecoveryResend, event.VerbRecoveryProve, event.VerbRecoveryStatus, event.VerbRecoveryCancel,
	},
}

// A stand is what stands in for otpost: services that speak its wire over a real NATS, and answer as the test says.
type stand struct {
	*otposttest.Server
	mu     sync.Mutex
	answer func(verb string, r *bus.Request)
}

// newStand starts the services of the roles.
func newStand(t *testing.T, roles []bus.Role, options ...otposttest.NATSOption) *stand {
	t.Helper()
	s := &stand{Server: otposttest.NATS(t, append([]otposttest.NATSOption{otposttest.WithLazySync()}, options...)...)}
	for _, role := range roles {
		s.serve(t, role)
	}
	return s
}

// serve starts the service of a role and returns when it listens. It ends with the test.
func (s *stand) serve(t *testing.T, role bus.Role) {
	t.Helper()
	b := s.Bus(t, role)
	verbs := map[string]func(*bus.Request){}
	for _, verb := range served[role] {
		verbs[verb] = func(r *bus.Request) {
			s.mu.Lock()
			answer := s.answer
			s.mu.Unlock()
			answer(verb, r)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, bus.Service{Name: string(role), Version: "1.2.3", Verbs: verbs}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	const discovery = 9 // subscriptions by which a service is found
	otposttest.Eventually(t, string(role)+" to listen", func() bool { return b.Conn().NumSubscriptions() >= discovery+len(verbs) })
	if err := b.Conn().FlushTimeout(otposttest.Patience); err != nil {
		t.Fatal(err)
	}
}

// answers says what the services do from now on.
func (s *stand) answers(answer func(verb string, r *bus.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// connect connects as app demo does.
func (s *stand) connect(t *testing.T, options ...client.Option) *client.Client {
	t.Helper()
	user, password := s.AppUser("demo")
	cfg := client.Config{URL: s.URL(), App: "demo", User: user, Password: password}
	c, err := client.Connect(t.Context(), cfg, append([]client.Option{client.WithLogger(otposttest.Logger(t).Logger)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// stored returns the newest message of a subject.
func (s *stand) stored(t *testing.T, stream, subject string) []byte {
	t.Helper()
	js := s.operator(t)
	str, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := str.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return m.Data
}

func (s *stand) operator(t *testing.T) jetstream.JetStream {
	t.Helper()
	return s.Bus(t, bus.RoleOperator).JetStream()
}

// examples returns the valid examples of a message, by name.
func examples(t *testing.T, message string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "schemas", "events", "v1", "examples", message, "valid", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no examples: %v", message, err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		if out[strings.TrimSuffix(filepath.Base(f), ".json")], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// canonical reads JSON such that what means the same is the same: times as instants, and nothing that stands for "not given".
func canonical(t *testing.T, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	v, _ = plain(v)
	return v
}

// plain is canonical for a value; given is false where it stands for none.
func plain(v any) (out any, given bool) {
	switch v := v.(type) {
	case string:
		if at, err := time.Parse(time.RFC3339, v); err == nil {
			return at.UTC().Format(time.RFC3339Nano), true
		}
		return v, v != ""
	case []any:
		for i := range v {
			v[i], _ = plain(v[i])
		}
		return v, true
	case map[string]any:
		for k, member := range v {
			m, given := plain(member)
			if v[k] = m; !given {
				delete(v, k)
			}
		}
		return v, len(v) > 0
	}
	return v, true
}

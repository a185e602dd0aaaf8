package main

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway"
	"github.com/otpost/otpost/services/gateway/callback"
)

// A provider reaches the gateway under whatever host, needs no cookie and no origin, and its receipt is on the stream when it is told so.
func TestCallbacksOfTheGateway(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	const secret = "0123456789abcdef0123456789abcdef"
	e := s.edge(func(c *gateway.Config) {
		c.Callbacks = []callback.Source{{Name: "twilio-eu", Kind: callback.Twilio, Secrets: []string{secret}}}
	})
	address := e.URL + "/callbacks/twilio-eu/AbC-_1"
	form := url.Values{"MessageSid": {"SM1"}, "MessageStatus": {"delivered"}}
	tell := func(signature string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "inside.example"
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("X-Twilio-Signature", signature)
		resp, err := insecure.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if status := tell("wrong"); status != http.StatusForbidden {
		t.Errorf("a wrong signature is answered with %d", status)
	}
	for range 2 { // the second changes nothing
		if status := tell(inbox.TwilioSignature(secret, address, form)); status != http.StatusNoContent {
			t.Errorf("a good signature is answered with %d", status)
		}
	}
	stream, err := s.nats.Bus(t, bus.RoleOperator).JetStream().Stream(t.Context(), bus.StreamReceipts)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), event.ReportSubject)
	if err != nil {
		t.Fatal(err)
	}
	r, err := event.ParseReport(m.Data)
	if err != nil || r.Provider != "twilio-eu" || r.Token != "AbC-_1" || r.Reference != "SM1" || r.State != otp.DeliveryDelivered {
		t.Errorf("%+v, %v", r, err)
	}
	if m.Sequence != 1 {
		t.Errorf("it is on the stream %d times", m.Sequence)
	}
}

func TestCallbacksFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "callbacks.yaml")
	if err := os.WriteFile(path, []byte("callbacks: [{name: twilio, kind: twilio}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		path:           "--callbacks: " + path + `: provider "twilio": auth_token: is missing`,
		"/nowhere.yml": "--callbacks: reading callbacks: open /nowhere.yml",
	} {
		cmd := gatewayCmd{gatewayFlags: gatewayFlags{PublicURL: "https://auth.example", Callbacks: file}}
		if _, err := cmd.gateway(parts{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestBounceFlags(t *testing.T) {
	t.Parallel()
	good := bounceFlags{BounceIMAP: "imaps://bounces@mail.example/INBOX", BouncePassword: "p", BounceEvery: time.Minute}
	changed := func(change func(*bounceFlags)) bounceFlags {
		f := good
		change(&f)
		return f
	}
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]bounceFlags{
		"--bounce-imap: is missing":  {BouncePassword: "p"},
		"--bounce-imap: must be":     changed(func(f *bounceFlags) { f.BounceIMAP = "pop3://x" }),
		"--bounce-password: is":      changed(func(f *bounceFlags) { f.BouncePassword = "" }),
		"--bounce-every: must be 1s": changed(func(f *bounceFlags) { f.BounceEvery = 0 }),
		"--bounce-ca: open":          changed(func(f *bounceFlags) { f.BounceCA = "/nowhere.pem" }),
		"--bounce-ca: " + empty:      changed(func(f *bounceFlags) { f.BounceCA = empty }),
	} {
		if _, err := f.with(parts{}, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if w, err := good.with(parts{}, nil); err != nil || w == nil {
		t.Error(w, err)
	}
}

package bus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// run serves until the test's end and returns when the service listens; endpoints is how many it has.
func run(t *testing.T, b *bus.Bus, s bus.Service, endpoints int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, s) }()
	t.Cleanup(func() {
		cancel()
		if err := receive(t, "the service to stop", done); err != nil {
			t.Error(err)
		}
	})
	listening(t, b, 9+endpoints)
}

func TestAskingAnotherWorker(t *testing.T) {
	t.Parallel()
	n := otposttest.NATS(t, otposttest.WithLazySync(), otposttest.WithoutStreams())
	verification, enrolment := n.Bus(t, bus.RoleVerification), n.Bus(t, bus.RoleEnrolment)

	_, err := enrolment.Ask(t.Context(), "check", nil) // nobody is there yet
	if p := otp.AsProblem(err); p.Reason != otp.Busy || p.RetryAfter <= 0 || !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("with nobody to answer: %v", err)
	}
	asked := make(chan struct{}, 1)
	run(t, verification, bus.Service{Name: "verification", Version: "1.0.0", Internal: map[string]func(*bus.Request){"check": func(r *bus.Request) {
		switch string(r.Data) {
		case "fail":
			r.Fail(&otp.Problem{Reason: otp.AccountLocked, Message: "the account is locked", RetryAfter: 90 * time.Second})
		case "panic":
			panic("cannot digest")
		case "silence":
			asked <- struct{}{}
		default:
			r.Reply([]byte("from " + r.App + r.Agent + ": " + string(r.Data)))
		}
	}}}, 1)

	if reply, err := enrolment.Ask(t.Context(), "check", []byte("hello")); err != nil || string(reply) != "from : hello" {
		t.Errorf("it is answered %q, %v", reply, err)
	}
	_, err = enrolment.Ask(t.Context(), "check", []byte("fail"))
	if p := otp.AsProblem(err); p.Reason != otp.AccountLocked || p.Message != "the account is locked" || p.RetryAfter != 90*time.Second {
		t.Errorf("a problem arrives as %v, %+v", err, p)
	}
	if _, err = enrolment.Ask(t.Context(), "check", []byte("panic")); otp.AsProblem(err).Reason != otp.Internal || strings.Contains(err.Error(), "digest") {
		t.Errorf("a panic arrives as %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err = enrolment.Ask(ctx, "check", []byte("silence")); otp.AsProblem(err).Reason != otp.Busy || !errors.Is(err, context.Canceled) {
		t.Errorf("no answer arrives as %v", err)
	}
	// Who may not ask hears nothing, and is not heard.
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := n.Bus(t, bus.RoleSMS).Ask(short, "check", []byte("hello")); otp.AsProblem(err).Reason != otp.Busy {
		t.Errorf("the SMS worker is answered %v", err)
	}
	if _, err := n.App(t, "demo").Request(event.InternalSubject("check"), []byte("hello"), 100*time.Millisecond); err == nil {
		t.Error("an app is answered on a worker's subject")
	}
}

func TestSupportAgentsAreKnownByTheirSubject(t *testing.T) {
	t.Parallel()
	n := otposttest.NATS(t, otposttest.WithLazySync(), otposttest.WithoutStreams())
	b := n.Bus(t, bus.RoleEnrolment)
	answer := func(kind string) func(*bus.Request) {
		return func(r *bus.Request) {
			if string(r.Data) == "fail" {
				r.Fail(&otp.Problem{Reason: otp.ApprovalRequired, Message: "another agent must approve"})
				return
			}
			r.Reply([]byte(kind + " of app=" + r.App + " agent=" + r.Agent))
		}
	}
	// The verbs of an app, with dots, may be the same words as an agent's.
	run(t, b, bus.Service{Name: "enrolment", Version: "1.0.0", Verbs: map[string]func(*bus.Request){
		"factor.begin": answer("factor.begin"), "backup_codes.view": answer("backup_codes.view"), "recovery.begin": answer("recovery.begin"),
	}, Support: map[string]func(*bus.Request){"begin": answer("begin"), "status": answer("status")}}, 5)

	ann, bob, demo := n.Agent(t, "ann"), n.Agent(t, "bob"), n.App(t, "demo")
	for _, c := range []struct {
		nc            *nats.Conn
		subject, want string
	}{
		{ann, event.SupportSubject("ann", "begin"), "begin of app= agent=ann"},
		{bob, event.SupportSubject("bob", "begin"), "begin of app= agent=bob"},
		{bob, event.SupportSubject("bob", "status"), "status of app= agent=bob"},
		{demo, "otpost.app.demo.rpc.factor.begin", "factor.begin of app=demo agent="},
		{demo, "otpost.app.demo.rpc.backup_codes.view", "backup_codes.view of app=demo agent="},
		{demo, "otpost.app.demo.rpc.recovery.begin", "recovery.begin of app=demo agent="},
	} {
		m, err := c.nc.Request(c.subject, []byte("x"), patience)
		if err != nil || string(m.Data) != c.want {
			t.Errorf("%s is answered %+v, %v; want %q", c.subject, m, err, c.want)
		}
	}
	m, err := ann.Request(event.SupportSubject("ann", "begin"), []byte("fail"), patience)
	if err != nil || m.Header.Get(micro.ErrorCodeHeader) != string(otp.ApprovalRequired) {
		t.Errorf("a problem arrives as %+v, %v", m, err)
	}
	for what, ask := range map[string]func() (*nats.Msg, error){
		"ann as bob": func() (*nats.Msg, error) {
			return ann.Request(event.SupportSubject("bob", "begin"), nil, 100*time.Millisecond)
		},
		"an app as ann": func() (*nats.Msg, error) {
			return demo.Request(event.SupportSubject("ann", "begin"), nil, 100*time.Millisecond)
		},
		"ann as an app": func() (*nats.Msg, error) {
			return ann.Request("otpost.app.demo.rpc.factor.begin", nil, 100*time.Millisecond)
		},
		"an unknown verb": func() (*nats.Msg, error) { return ann.Request(event.SupportSubject("ann", "end"), nil, patience) },
		"ann in a longer name": func() (*nats.Msg, error) {
			return ann.Request("otpost.support.ann.x.rpc.begin", nil, 100*time.Millisecond)
		},
	} {
		if m, err := ask(); err == nil {
			t.Errorf("%s is answered %q", what, m.Data)
		}
	}
	// The operator may send to any subject: what stands for the agent must be a name.
	m, err = n.Bus(t, bus.RoleOperator).Conn().Request("otpost.support.No_Agent.rpc.begin", nil, patience)
	if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "invalid" {
		t.Errorf("no agent's name is answered %+v, %v", m, err)
	}
}

package bus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// serve answers verify requests until stop, which waits, or the test's end.
func serve(t *testing.T, b *bus.Bus, handle func(*bus.Request)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- b.Serve(ctx, bus.Service{Name: "verification", Version: "1.2.3", Verbs: map[string]func(*bus.Request){"verify": handle}})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := receive(t, "the service to stop", done); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	listening(t, b, 10)
	return stop
}

// listening waits until a service has made its subscriptions: nine by which it is found, and one an endpoint.
func listening(t *testing.T, b *bus.Bus, subscriptions int) {
	t.Helper()
	otposttest.Eventually(t, "the service to listen", func() bool { return b.Conn().NumSubscriptions() >= subscriptions })
	if err := b.Conn().FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
}

func TestRequestsAreAnswered(t *testing.T) {
	t.Parallel()
	n := otposttest.NATS(t, otposttest.WithLazySync(), otposttest.WithApps("demo", "other"))
	serve(t, n.Bus(t, bus.RoleVerification), func(r *bus.Request) {
		switch string(r.Data) {
		case "fail":
			r.Fail(&otp.Problem{Reason: otp.RateLimited, Message: "too\nsoon", RetryAfter: 90 * time.Second})
		case "panic":
			panic("cannot digest")
		default:
			r.Reply([]byte(r.App + " said " + string(r.Data)))
		}
	})
	for _, app := range []string{"demo", "other"} {
		m, err := n.App(t, app).Request("otpost.app."+app+".rpc.verify", []byte("hello"), patience)
		if err != nil || string(m.Data) != app+" said hello" || m.Header.Get(micro.ErrorCodeHeader) != "" {
			t.Fatalf("%s is answered %+v, %v", app, m, err)
		}
	}
	demo := n.App(t, "demo")
	m, err := demo.Request("otpost.app.demo.rpc.verify", []byte("fail"), patience)
	if err != nil {
		t.Fatal(err)
	}
	var body struct {
		Error struct {
			Code, Message string
			RetryAfter    int `json:"retry_after"`
		}
	}
	if err := json.Unmarshal(m.Data, &body); err != nil || body.Error.Code != "rate_limited" || body.Error.Message != "too\nsoon" || body.Error.RetryAfter != 90 {
		t.Errorf("the problem's body is %s, %v", m.Data, err)
	}
	if m.Header.Get(micro.ErrorCodeHeader) != "rate_limited" || m.Header.Get(micro.ErrorHeader) != "too soon" {
		t.Errorf("the problem's headers are %v", m.Header)
	}
	m, err = demo.Request("otpost.app.demo.rpc.verify", []byte("panic"), patience)
	if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "internal" || strings.Contains(string(m.Data), "digest") {
		t.Errorf("a panic is answered %+v, %v", m, err)
	}
	if m, err = demo.Request("otpost.app.demo.rpc.verify", []byte("again"), patience); err != nil || string(m.Data) != "demo said again" {
		t.Errorf("after the panic: %+v, %v", m, err)
	}
}

// Within otpost's own account a subject may name anything in the place of an app.
func TestASubjectWithoutAnAppIsRefused(t *testing.T) {
	t.Parallel()
	n := otposttest.NATS(t, otposttest.WithLazySync())
	b := n.Bus(t, bus.RoleVerification)
	serve(t, b, func(*bus.Request) { t.Error("the handler was called") })
	m, err := n.Bus(t, bus.RoleOperator).Conn().Request("otpost.app.No_App.rpc.verify", nil, patience)
	if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "invalid" {
		t.Errorf("it is answered %+v, %v", m, err)
	}
}

func TestInstancesShareTheRequests(t *testing.T) {
	t.Parallel()
	n := otposttest.NATS(t, otposttest.WithLazySync())
	var counts [2]atomic.Int64
	for i := range counts {
		serve(t, n.Bus(t, bus.RoleVerification), func(r *bus.Request) { counts[i].Add(1); r.Reply(nil) })
	}
	demo := n.App(t, "demo")
	const requests = 60
	for range requests {
		if _, err := demo.Request("otpost.app.demo.rpc.verify", nil, patience); err != nil {
			t.Fatal(err)
		}
	}
	a, b := counts[0].Load(), counts[1].Load()
	if a+b != requests || a == 0 || b == 0 {
		t.Errorf("the instances had %d and %d of %d requests", a, b, requests)
	}
}

func TestStoppingAServiceWaitsForItsCalls(t *testing.T) {
	t.Parallel()
	n := otposttest.NATS(t, otposttest.WithLazySync())
	b, demo := n.Bus(t, bus.RoleVerification), n.App(t, "demo")
	const requests = 20
	began, release := make(chan struct{}, requests), make(chan struct{})
	var answered atomic.Int64
	stop := serve(t, b, func(r *bus.Request) {
		began <- struct{}{}
		<-release
		answered.Add(1)
		r.Reply(nil)
	})
	replies, err := demo.SubscribeSync(demo.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	for i := range requests {
		if err := demo.PublishRequest("otpost.app.demo.rpc.verify", replies.Subject, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := demo.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	receive(t, "the first call", began)
	if err := b.Conn().FlushTimeout(patience); err != nil { // all have arrived, and one is under way
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("it stopped with a call under way")
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	receive(t, "the stop", stopped)
	if answered.Load() != requests {
		t.Errorf("%d of %d requests were answered before the stop returned", answered.Load(), requests)
	}
	for range requests {
		if _, err := replies.NextMsg(patience); err != nil {
			t.Fatal(err)
		}
	}
}

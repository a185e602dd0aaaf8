package bus_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
)

// TestAppsCannotReachOtherSubjectsByWayOfReplies tries the confused deputies of NATS: whoever answers a message, be it a worker, a stream
// or a consumer, sends to the reply subject that the asker chose.
func TestAppsCannotReachOtherSubjectsByWayOfReplies(t *testing.T) {
	w := newWorld(t)
	verification := w.connect("verification")
	service, err := micro.AddService(verification, micro.Config{Name: "verification", Version: "1.0.0", Endpoint: &micro.EndpointConfig{
		Subject: "otpost.app.*.rpc.verify",
		Handler: micro.HandlerFunc(func(r micro.Request) { _ = r.Respond([]byte("forged")) }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Stop()
	if err := verification.Flush(); err != nil {
		t.Fatal(err)
	}
	watch := w.subscribe(w.operator, "otpost.>")
	victim := w.connect("app_other")
	victimInbox, victimEvents := w.subscribe(victim, "_INBOX.>"), w.subscribe(victim, "otpost.app.other.event.>")

	demo := w.connect("app_demo")
	targets := []string{"otpost.work.sms", "otpost.receipt.sms", "otpost.app.other.login", "otpost.app.other.event.challenge.verified", "_INBOX.other"}
	for _, target := range targets {
		w.publish(verification, "otpost.app.demo.event.challenge.verified", "forged")
		w.publish(verification, "otpost.app.demo.event.challenge.verified", "forged")
		for _, ask := range []string{"otpost.app.demo.rpc.verify", "otpost.app.demo.login", "$JS.API.CONSUMER.INFO.OTPOST_EVENTS.demo", "$SRV.PING"} {
			if err := demo.PublishRequest(ask, target, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := demo.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.OTPOST_EVENTS.demo", target, []byte(`{"batch":1,"no_wait":true}`)); err != nil {
			t.Fatal(err)
		}
		w.request(demo, "otpost.app.demo.rpc.verify", "")                   // answered after the forged one
		if err := w.pull(demo, "OTPOST_EVENTS", "demo").Ack(); err != nil { // delivered after the forged one
			t.Fatal(err)
		}
	}
	if err := demo.LastError(); err != nil {
		t.Fatalf("the attack met %v before it could show anything", err)
	}
	// What stands behind all that in the same queues ends the watch.
	w.publish(w.operator, "otpost.app.other.event.end", "")
	for {
		m, err := watch.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject == "otpost.app.other.event.end" {
			break
		}
		if !strings.HasPrefix(m.Subject, "otpost.app.demo.") {
			t.Errorf("%s got %q", m.Subject, m.Data)
		}
	}
	if m, err := victimEvents.NextMsg(patience); err != nil || m.Subject != "otpost.app.other.event.end" {
		t.Errorf("the other app got %v, %v", m, err)
	}
	if n, _, _ := victimInbox.Pending(); n != 0 {
		t.Errorf("%d messages in the other app's inbox", n)
	}
	for stream, want := range map[string]uint64{"OTPOST_WORK": 0, "OTPOST_RECEIPTS": 0, "OTPOST_LOGINS": uint64(len(targets))} {
		s, err := w.js(w.operator).Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		n := s.CachedInfo().State.Msgs
		for deadline := time.Now().Add(patience); n < want && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) { // a stream stores when it can
			info, err := s.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n = info.State.Msgs
		}
		if n != want {
			t.Errorf("%s holds %d messages, want %d", stream, n, want)
		}
	}
}

// TestAnAgentCannotSpeakAsAnother has an agent name another's request as the place for its answer. If the answer went there, it would come with
// that other's name, and a reset could be approved by who has begun it.
func TestAnAgentCannotSpeakAsAnother(t *testing.T) {
	w := newWorld(t)
	enrolment := w.connect("enrolment")
	service, err := micro.AddService(enrolment, micro.Config{Name: "enrolment", Version: "1.0.0", Endpoint: &micro.EndpointConfig{
		Subject: "otpost.support.*.rpc.begin",
		Handler: micro.HandlerFunc(func(r micro.Request) { _ = r.Respond([]byte("forged")) }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Stop()
	if err := enrolment.Flush(); err != nil {
		t.Fatal(err)
	}
	watch := w.subscribe(w.operator, "otpost.>")
	bob := w.subscribe(w.connect("support-bob"), "_INBOX.>")
	ann := w.connect("support-ann")
	for _, target := range []string{"otpost.support.bob.rpc.approve", "otpost.app.demo.event.challenge.verified", "otpost.work.sms", "_INBOX.other"} {
		if err := ann.PublishRequest("otpost.support.ann.rpc.begin", target, nil); err != nil {
			t.Fatal(err)
		}
		w.request(ann, "otpost.support.ann.rpc.begin", "") // answered after the forged one
	}
	if err := ann.LastError(); err != nil {
		t.Fatalf("the attack met %v before it could show anything", err)
	}
	w.publish(w.operator, "otpost.app.demo.event.end", "")
	for {
		m, err := watch.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject == "otpost.app.demo.event.end" {
			break
		}
		if m.Subject != "otpost.support.ann.rpc.begin" {
			t.Errorf("%s got %q", m.Subject, m.Data)
		}
	}
	if n, _, _ := bob.Pending(); n != 0 {
		t.Errorf("%d messages in the other agent's inbox", n)
	}
}

// TestAppsSeeNothingOfEachOther subscribes as widely as an app may while another one talks.
func TestAppsSeeNothingOfEachOther(t *testing.T) {
	w := newWorld(t)
	other, demo := w.connect("app_other"), w.connect("app_demo")
	inboxes, events := w.subscribe(other, "_INBOX.>"), w.subscribe(other, "otpost.app.other.event.>")
	w.publish(demo, "otpost.app.demo.login", "x") // its acknowledgement goes to an inbox
	challenge := w.connect("challenge")
	w.publish(challenge, "otpost.app.demo.event.challenge.issued", "x")
	w.publish(challenge, "otpost.app.other.event.challenge.issued", "y")
	if m, err := events.NextMsg(patience); err != nil || string(m.Data) != "y" {
		t.Errorf("first event: %v, %v; want its own", m, err)
	}
	if n, _, _ := inboxes.Pending(); n != 0 {
		t.Errorf("it saw %d replies of another app", n)
	}
	for _, stream := range []string{"OTPOST_EVENTS", "OTPOST_LOGINS"} {
		if _, err := w.js(other).Stream(w.shortly(), stream); err == nil {
			t.Errorf("an app reads the state of %s", stream)
		}
	}
	if _, err := w.js(other).Consumer(w.shortly(), "OTPOST_EVENTS", "demo"); err == nil {
		t.Error("an app reads another's consumer")
	}
}

// TestNobodyButTheOperatorMakesConsumers tries the push consumer whose deliver subject would write into the work queue.
func TestNobodyButTheOperatorMakesConsumers(t *testing.T) {
	w := newWorld(t)
	for _, user := range []string{"app_demo", "support-ann", "sms", "email", "letter", "challenge", "verification", "enrolment"} {
		js := w.js(w.connect(user))
		if _, err := js.CreateOrUpdatePushConsumer(w.shortly(), "OTPOST_EVENTS", jetstream.ConsumerConfig{
			Durable: "demo", FilterSubject: "otpost.app.demo.event.>", DeliverSubject: "otpost.work.sms",
		}); err == nil {
			t.Errorf("%s made a push consumer", user)
		}
		if _, err := js.CreateStream(w.shortly(), jetstream.StreamConfig{Name: "STOLEN", Sources: []*jetstream.StreamSource{{Name: "OTPOST_WORK"}}}); err == nil {
			t.Errorf("%s made a stream", user)
		}
	}
	names := w.js(w.operator).StreamNames(t.Context())
	for name := range names.Name() {
		if !strings.HasPrefix(name, "OTPOST_") {
			t.Errorf("there is a stream %s", name)
		}
	}
	if err := names.Err(); err != nil {
		t.Error(err)
	}
	c, err := w.js(w.operator).Consumer(t.Context(), "OTPOST_EVENTS", "demo")
	if err != nil || c.CachedInfo().Config.DeliverSubject != "" {
		t.Errorf("the app's consumer: %v, %v", c, err)
	}
}

// TestAppsCannotForgeAcknowledgements gives a worker's consumer as the reply subject, so that an empty answer would acknowledge a message
// for it. The server refuses such replies from clients.
func TestAppsCannotForgeAcknowledgements(t *testing.T) {
	w := newWorld(t)
	for _, reply := range []string{"$JS.ACK.OTPOST_WORK.sms.1.1.1.1.0", "_R_.aaaaaa.bbbbbb"} {
		demo := w.connect("app_demo")
		if err := errors.Join(demo.PublishRequest("otpost.app.demo.login", reply, nil), demo.FlushTimeout(patience)); err != nil {
			t.Fatal(err)
		}
		if err := demo.LastError(); err == nil || !strings.Contains(err.Error(), "Permissions Violation for Publish with Reply") {
			t.Errorf("reply %s: %v", reply, err)
		}
	}
	s, err := w.js(w.operator).Stream(t.Context(), "OTPOST_LOGINS")
	if err != nil || s.CachedInfo().State.Msgs != 0 {
		t.Errorf("stream: %v, %v; want it empty", s, err)
	}
}

// TestAppsCannotTraceIntoOtherSubjects sets the header that makes a server report the way of a message to a subject.
func TestAppsCannotTraceIntoOtherSubjects(t *testing.T) {
	w := newWorld(t)
	watch := w.subscribe(w.operator, "otpost.>")
	demo := w.connect("app_demo")
	traced := func(dest string) error {
		return demo.PublishMsg(&nats.Msg{Subject: "otpost.app.demo.login", Header: nats.Header{"Nats-Trace-Dest": {dest}}})
	}
	for _, dest := range []string{"otpost.work.sms", "otpost.app.demo.signal.trace", "otpost.app.other.login"} {
		if err := errors.Join(traced(dest), demo.FlushTimeout(patience)); err != nil {
			t.Fatal(err)
		}
	}
	w.publish(w.operator, "otpost.app.demo.event.end", "")
	for {
		m, err := watch.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject == "otpost.app.demo.event.end" {
			return
		}
		if !strings.HasPrefix(m.Subject, "otpost.app.demo.") {
			t.Errorf("%s got %q", m.Subject, m.Data)
		}
	}
}

// TestChannelWorkersKeepApart has a worker of one channel reach for the other's commands.
func TestChannelWorkersKeepApart(t *testing.T) {
	w := newWorld(t)
	w.publish(w.connect("challenge"), "otpost.work.email", "not for sms")
	if _, err := w.js(w.connect("sms")).Consumer(w.shortly(), "OTPOST_WORK", "email"); err == nil {
		t.Error("sms reads the consumer of email")
	}
	sms := w.connect("sms")
	answer := w.subscribe(sms, "_INBOX_sms.stolen")
	if err := errors.Join(sms.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.OTPOST_WORK.email", "_INBOX_sms.stolen", []byte(`{"batch":1}`)),
		sms.FlushTimeout(patience)); err != nil {
		t.Fatal(err)
	}
	if err := sms.LastError(); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("last error is %v, want a permissions violation", err)
	}
	if n, _, _ := answer.Pending(); n != 0 {
		t.Error("sms got a command of email")
	}
	if m := w.pull(w.connect("email"), "OTPOST_WORK", "email"); string(m.Data()) != "not for sms" {
		t.Errorf("email got %q", m.Data())
	}
}

// TestAppsOwnEventsInTheLoginStreamStayTheirs has a consumer deliver an app's event to where the app publishes logins. That is the app's to
// do; the message must still name the app that did it.
func TestAppsOwnEventsInTheLoginStreamStayTheirs(t *testing.T) {
	w := newWorld(t)
	w.publish(w.connect("verification"), "otpost.app.demo.event.challenge.verified", "event")
	demo := w.connect("app_demo")
	if err := errors.Join(demo.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.OTPOST_EVENTS.demo", "otpost.app.demo.login", []byte(`{"batch":1}`)),
		demo.FlushTimeout(patience)); err != nil {
		t.Fatal(err)
	}
	m := w.pull(w.connect("challenge"), "OTPOST_LOGINS", "challenge")
	t.Logf("stored under %s", m.Subject())
	if string(m.Data()) != "event" || !strings.HasPrefix(m.Subject(), "otpost.app.demo.") {
		t.Errorf("the login stream got %q under %s", m.Data(), m.Subject())
	}
}

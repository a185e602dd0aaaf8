package bus_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/embedded"
	"github.com/otpost/otpost/pkg/event"
)

// patience bounds every wait of these tests for something that must come.
const patience = 20 * time.Second

// A world is a server with otpost's accounts, the apps demo and other, the support agents ann and bob, and all streams and consumers that the permissions speak of.
type world struct {
	*testing.T
	nats     *embedded.NATS
	operator *nats.Conn
}

func newWorld(t *testing.T) *world {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })

	dir := t.TempDir()
	s := bus.ServerSettings{StoreDir: filepath.Join(dir, "store"), SyncInterval: "1m", BcryptCost: 4, Users: map[bus.Role]string{}}
	for _, r := range bus.Roles() {
		s.Users[r] = "secret of " + string(r)
	}
	for _, a := range []string{"demo", "other"} {
		s.Apps = append(s.Apps, bus.App{Name: a, Password: "secret of app_" + a})
	}
	s.Agents = map[string]string{"ann": "secret of support-ann", "bob": "secret of support-bob"}
	text, err := bus.ServerConfig(s)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler) // it warns of each violation that these tests provoke
	n, err := embedded.StartNATS(t.Context(), embedded.NATSConfig{Dir: dir, ConfigText: text, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	w := &world{T: t, nats: n}
	w.operator = w.connect("operator")
	js := w.js(w.operator)
	for name, subject := range map[string]string{
		"OTPOST_LOGINS": "otpost.app.*.login", "OTPOST_WORK": "otpost.work.*", "OTPOST_RECEIPTS": "otpost.receipt.*",
		"OTPOST_SIGNALS": "otpost.app.*.signal.>",
		"OTPOST_EVENTS":  "otpost.app.*.event.>", "OTPOST_DEAD": "otpost.dead.>",
	} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "OTPOST_TIMERS", Subjects: []string{event.TimerPrefix + "*", event.DueSubject}, AllowMsgSchedules: true, AllowMsgTTL: true,
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{
		{"OTPOST_LOGINS", "challenge", ""},
		{"OTPOST_RECEIPTS", "challenge", ""},
		{"OTPOST_WORK", "sms", "otpost.work.sms"},
		{"OTPOST_WORK", "voice", "otpost.work.voice"},
		{"OTPOST_WORK", "whatsapp", "otpost.work.whatsapp"},
		{"OTPOST_TIMERS", "challenge", event.DueSubject},
		{"OTPOST_WORK", "email", "otpost.work.email"},
		{"OTPOST_WORK", "letter", "otpost.work.letter"},
		{"OTPOST_SIGNALS", "enrolment", ""},
		{"OTPOST_EVENTS", "demo", "otpost.app.demo.event.>"},
		{"OTPOST_EVENTS", "other", "otpost.app.other.event.>"},
		{"OTPOST_EVENTS", bus.ConsumerGateway, ""},
	} {
		if _, err := js.CreateConsumer(t.Context(), c[0], jetstream.ConsumerConfig{
			Durable: c[1], FilterSubject: c[2], AckPolicy: jetstream.AckExplicitPolicy,
		}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) connect(user string, more ...nats.Option) *nats.Conn {
	w.Helper()
	opts := []nats.Option{nats.UserInfo(user, "secret of "+user), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}
	if !strings.HasPrefix(user, "app_") && !strings.HasPrefix(user, "support-") { // who has an account of its own needs nothing but user and password
		opts = append(opts, nats.CustomInboxPrefix(bus.Role(user).InboxPrefix()))
	}
	nc, err := nats.Connect(w.nats.URL(), append(opts, more...)...)
	if err != nil {
		w.Fatalf("connect %s: %v", user, err)
	}
	w.Cleanup(nc.Close)
	return nc
}

func (w *world) js(nc *nats.Conn) jetstream.JetStream {
	w.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		w.Fatal(err)
	}
	return js
}

// publish sends through JetStream and fails the test without its acknowledgement.
func (w *world) publish(nc *nats.Conn, subject, data string) {
	w.Helper()
	if _, err := w.js(nc).Publish(w.Context(), subject, []byte(data)); err != nil {
		w.Fatalf("publish %s: %v", subject, err)
	}
}

// pull fetches the next message of a consumer.
func (w *world) pull(nc *nats.Conn, stream, consumer string) jetstream.Msg {
	w.Helper()
	c, err := w.js(nc).Consumer(w.Context(), stream, consumer)
	if err != nil {
		w.Fatalf("consumer %s of %s: %v", consumer, stream, err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		w.Fatalf("next of consumer %s of %s: %v", consumer, stream, err)
	}
	return m
}

func (w *world) request(nc *nats.Conn, subject, data string) *nats.Msg {
	w.Helper()
	m, err := nc.Request(subject, []byte(data), patience)
	if err != nil {
		w.Fatalf("request %s: %v", subject, err)
	}
	return m
}

func (w *world) subscribe(nc *nats.Conn, subject string) *nats.Subscription {
	w.Helper()
	s, err := nc.SubscribeSync(subject)
	if err == nil {
		err = nc.Flush()
	}
	if err == nil {
		err = nc.LastError()
	}
	if err != nil {
		w.Fatalf("subscribe to %s: %v", subject, err)
	}
	return s
}

var quoted = regexp.MustCompile(`"([^"]+)"`)

// refused does acts on a fresh connection and returns the subjects that the server refused with a permissions violation. The last act is
// one that every user is refused, so that nothing is still on its way when it has come back.
func (w *world) refused(user string, act func(*nats.Conn, string) error, subjects []string) map[string]bool {
	w.Helper()
	const last = "nobody.may.this"
	errs := make(chan error, len(subjects)+1)
	nc := w.connect(user, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	for _, s := range append(subjects[:len(subjects):len(subjects)], last) {
		if err := act(nc, s); err != nil {
			w.Fatalf("%s: %s: %v", user, s, err)
		}
	}
	if err := nc.FlushTimeout(patience); err != nil {
		w.Fatal(err)
	}
	out := map[string]bool{}
	for !out[last] {
		select {
		case err := <-errs:
			m := quoted.FindStringSubmatch(err.Error())
			if m == nil {
				w.Fatalf("%s: unexpected error %v", user, err)
			}
			out[m[1]] = true
		case <-time.After(patience):
			w.Fatalf("%s was not refused %q", user, last)
		}
	}
	delete(out, last)
	return out
}

// shortly returns a context for asking what the server drops without an answer; that it was refused shows by nothing but its end.
func (w *world) shortly() context.Context {
	ctx, cancel := context.WithTimeout(w.Context(), 150*time.Millisecond)
	w.Cleanup(cancel)
	return ctx
}

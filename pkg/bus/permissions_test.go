package bus_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/otpost/otpost/pkg/bus"
)

// users are everyone who may connect, as the tests name them.
var users = []string{"challenge", "sms", "email", "letter", "verification", "enrolment", "gateway", "operator", "app_demo", "support-ann"}

// mayPublish says of each subject who may publish to it, as a list of users. Everybody else must be refused.
var mayPublish = map[string]string{
	"otpost.app.demo.login":                          "operator app_demo",
	"otpost.app.other.login":                         "operator",
	"otpost.app.demo.signal.password.changed":        "operator app_demo gateway",
	"otpost.app.other.signal.password.changed":       "operator gateway",
	"otpost.app.demo.rpc.verify":                     "operator app_demo gateway",
	"otpost.app.other.rpc.verify":                    "operator gateway",
	"otpost.app.demo.event.challenge.issued":         "challenge operator",
	"otpost.app.demo.event.challenge.skipped":        "challenge operator",
	"otpost.app.demo.event.challenge.refused":        "challenge operator",
	"otpost.app.demo.event.challenge.sent":           "challenge operator",
	"otpost.app.demo.event.challenge.delivered":      "challenge operator",
	"otpost.app.demo.event.challenge.undeliverable":  "challenge operator",
	"otpost.app.demo.event.challenge.ended":          "challenge verification enrolment operator",
	"otpost.app.demo.event.challenge.verified":       "verification operator", // only who checks answers may say that one was right
	"otpost.app.demo.event.challenge.failed":         "verification operator",
	"otpost.app.demo.event.account.locked":           "verification enrolment operator",
	"otpost.app.demo.event.factor.added":             "enrolment operator",
	"otpost.app.demo.event.factor.removed":           "enrolment operator",
	"otpost.app.demo.event.backup_codes.regenerated": "enrolment operator",
	"otpost.app.demo.event.deactivated":              "enrolment operator",
	"otpost.app.demo.event.recovery.begun":           "enrolment operator",
	"otpost.app.demo.event.recovery.approved":        "enrolment operator",
	"otpost.app.demo.event.recovery.proven":          "enrolment operator",
	"otpost.app.demo.event.recovery.waiting":         "enrolment operator",
	"otpost.app.demo.event.recovery.completed":       "enrolment operator",
	"otpost.app.demo.event.recovery.cancelled":       "enrolment operator",
	"otpost.app.demo.event.recovery.expired":         "enrolment operator",
	"otpost.app.demo.event.recovery.refused":         "enrolment operator",
	"otpost.app.demo.event.user.erased":              "enrolment operator",
	"otpost.app.demo.event.factor.suspended":         "verification operator",
	"otpost.app.demo.event.backup_code.used":         "verification enrolment operator",
	"otpost.app.demo.event.device.trusted":           "verification operator",
	"otpost.app.demo.event.device.revoked":           "challenge verification enrolment operator",
	"otpost.app.demo.event.factor.renamed":           "operator",
	"otpost.app.demo.event.recovery.other":           "operator",
	"otpost.app.demo.rpc.factor.begin":               "operator app_demo gateway",
	"otpost.app.other.rpc.factor.begin":              "operator gateway",
	"otpost.internal.check":                          "enrolment operator", // who could send it would guess codes without a session
	"otpost.internal.other":                          "operator",
	"otpost.support.ann.rpc.begin":                   "operator support-ann",
	"otpost.support.ann.rpc.approve":                 "operator support-ann",
	"otpost.support.bob.rpc.approve":                 "operator", // an agent speaks under its own name
	"otpost.support.ann":                             "operator",
	"otpost.app.demo.event.challenge.other":          "operator",
	"otpost.app.demo.event.challenge.issued.x":       "operator",
	"otpost.app.demo.nothing":                        "operator",
	"otpost.app.demo":                                "operator",
	"otpost.work.sms":                                "challenge enrolment operator",
	"otpost.work.email":                              "challenge enrolment operator",
	"otpost.work.letter":                             "enrolment operator",
	"otpost.work.voice":                              "challenge operator",
	"otpost.work.whatsapp":                           "challenge operator",
	"otpost.work.fax":                                "operator",
	"otpost.timer.set.d-1":                           "challenge operator",
	"otpost.timer.due":                               "operator", // only the stream brings a timer back
	"otpost.receipt.voice":                           "sms operator",
	"otpost.receipt.provider":                        "operator gateway", // what a provider has signed, and nothing else of the gateway's
	"otpost.app.demo.event.alarm.raised":             "challenge enrolment operator",
	"otpost.dead.OTPOST_TIMERS":                      "challenge operator",
	"otpost.receipt.sms":                             "sms operator",
	"otpost.receipt.email":                           "email operator",
	"otpost.receipt.letter":                          "operator",
	"otpost.dead.OTPOST_LOGINS":                      "challenge operator",
	"otpost.dead.OTPOST_RECEIPTS":                    "challenge operator",
	"otpost.dead.OTPOST_WORK":                        "sms email letter operator",
	"otpost.dead.OTPOST_SIGNALS":                     "enrolment operator",
	"otpost.dead.OTPOST_EVENTS":                      "operator gateway",

	"$JS.API.INFO":                                        "operator",
	"$JS.API.STREAM.NAMES":                                "operator",
	"$JS.API.STREAM.CREATE.X":                             "operator",
	"$JS.API.STREAM.UPDATE.OTPOST_WORK":                   "operator",
	"$JS.API.STREAM.DELETE.X":                             "operator",
	"$JS.API.STREAM.PURGE.X":                              "operator",
	"$JS.API.STREAM.MSG.GET.OTPOST_WORK":                  "operator",
	"$JS.API.STREAM.MSG.DELETE.OTPOST_LOGINS":             "operator",
	"$JS.API.DIRECT.GET.OTPOST_EVENTS":                    "operator",
	"$JS.API.STREAM.INFO.OTPOST_LOGINS":                   "challenge operator",
	"$JS.API.STREAM.INFO.OTPOST_RECEIPTS":                 "challenge operator",
	"$JS.API.STREAM.INFO.OTPOST_WORK":                     "sms email letter operator",
	"$JS.API.STREAM.INFO.OTPOST_SIGNALS":                  "enrolment operator",
	"$JS.API.STREAM.INFO.OTPOST_EVENTS":                   "operator gateway",
	"$JS.API.STREAM.INFO.OTPOST_DEAD":                     "operator",
	"$JS.API.CONSUMER.CREATE.OTPOST_EVENTS":               "operator",
	"$JS.API.CONSUMER.CREATE.OTPOST_EVENTS.demo":          "operator",
	"$JS.API.CONSUMER.CREATE.OTPOST_WORK.sms":             "operator",
	"$JS.API.CONSUMER.DURABLE.CREATE.OTPOST_WORK.x":       "operator",
	"$JS.API.CONSUMER.DELETE.X.x":                         "operator",
	"$JS.API.CONSUMER.NAMES.OTPOST_EVENTS":                "operator",
	"$JS.API.CONSUMER.INFO.OTPOST_LOGINS.challenge":       "challenge operator",
	"$JS.API.CONSUMER.INFO.OTPOST_WORK.sms":               "sms operator",
	"$JS.API.CONSUMER.INFO.OTPOST_WORK.voice":             "sms operator",
	"$JS.API.CONSUMER.MSG.NEXT.OTPOST_WORK.whatsapp":      "sms operator",
	"$JS.API.CONSUMER.MSG.NEXT.OTPOST_TIMERS.challenge":   "challenge operator",
	"$JS.ACK.OTPOST_TIMERS.challenge.1.1.1.1.0":           "challenge operator",
	"$JS.API.CONSUMER.INFO.OTPOST_WORK.email":             "email operator",
	"$JS.API.CONSUMER.INFO.OTPOST_WORK.letter":            "letter operator",
	"$JS.API.CONSUMER.INFO.OTPOST_SIGNALS.enrolment":      "enrolment operator",
	"$JS.API.CONSUMER.INFO.OTPOST_EVENTS.demo":            "operator app_demo",
	"$JS.API.CONSUMER.INFO.OTPOST_EVENTS.other":           "operator",
	"$JS.API.CONSUMER.INFO.OTPOST_EVENTS._gateway":        "gateway operator",
	"$JS.API.CONSUMER.MSG.NEXT.OTPOST_LOGINS.challenge":   "challenge operator",
	"$JS.API.CONSUMER.MSG.NEXT.OTPOST_RECEIPTS.challenge": "challenge operator",
	"$JS.API.CONSUMER.MSG.NEXT.OTPOST_WORK.sms":           "sms operator",
	"$JS.API.CONSUMER.MSG.NEXT.OTPOST_WORK.email":         "email operator",
	"$JS.API.CONSUMER.MSG.NEXT.OTPOST_WORK.letter":        "letter operator",
	"$JS.API.CONSUMER.MSG.NEXT.OTPOST_SIGNALS.enrolment":  "enrolment operator",
	"$JS.API.CONSUMER.MSG.NEXT.OTPOST_EVENTS.demo":        "operator app_demo",
	"$JS.API.CONSUMER.MSG.NEXT.OTPOST_EVENTS.other":       "operator",
	"$JS.API.CONSUMER.MSG.NEXT.OTPOST_EVENTS._gateway":    "gateway operator", // of all apps
	"$JS.ACK.OTPOST_LOGINS.challenge.1.1.1.1.0":           "challenge operator",
	"$JS.ACK.OTPOST_RECEIPTS.challenge.1.1.1.1.0":         "challenge operator",
	"$JS.ACK.OTPOST_WORK.sms.1.1.1.1.0":                   "sms operator",
	"$JS.ACK.OTPOST_WORK.email.1.1.1.1.0":                 "email operator",
	"$JS.ACK.OTPOST_WORK.letter.1.1.1.1.0":                "letter operator",
	"$JS.ACK.OTPOST_SIGNALS.enrolment.1.1.1.1.0":          "enrolment operator",
	"$JS.ACK.OTPOST_EVENTS.demo.1.1.1.1.0":                "operator app_demo",
	"$JS.ACK.OTPOST_EVENTS.other.1.1.1.1.0":               "operator",
	"$JS.ACK.OTPOST_EVENTS._gateway.1.1.1.1.0":            "gateway operator",

	"$SRV.PING":             "operator app_demo",
	"$SYS.REQ.SERVER.PING":  "",
	"_R_.aaaaaa.bbbbbb":     "challenge verification enrolment",
	"_INBOX_sms.x":          "",
	"_INBOX_operator.x":     "",
	"_INBOX.x":              "",
	"anything.else":         "",
	"otpost":                "",
	"APP_other.otpost.work": "",
}

// maySubscribe says of each subject who may subscribe to it.
var maySubscribe = map[string]string{
	"otpost.app.*.login":                       "operator",
	"otpost.app.demo.login":                    "operator",
	"otpost.app.demo.event.>":                  "operator app_demo",
	"otpost.app.demo.event.challenge.verified": "operator app_demo",
	"otpost.app.other.event.>":                 "operator",
	"otpost.app.*.event.>":                     "operator",
	"otpost.app.*.rpc.login":                   "challenge operator",
	"otpost.app.*.rpc.resend":                  "challenge operator",
	"otpost.app.*.rpc.cancel":                  "challenge operator",
	"otpost.app.*.rpc.status":                  "challenge operator",
	"otpost.app.*.rpc.verify":                  "verification operator",
	"otpost.app.*.rpc.device.renew":            "challenge operator",
	"otpost.app.*.rpc.webauthn.begin":          "verification operator",
	"otpost.app.*.rpc.factor.resync":           "verification operator",
	"otpost.app.*.rpc.factor.begin":            "enrolment operator",
	"otpost.app.*.rpc.activity.list":           "enrolment operator",
	"otpost.app.*.rpc.backup_codes.view":       "enrolment operator",
	"otpost.app.*.rpc.recovery.prove":          "enrolment operator",
	"otpost.app.*.rpc.>":                       "operator",
	"otpost.app.demo.signal.>":                 "operator",
	"otpost.internal.check":                    "verification operator",
	"otpost.internal.>":                        "operator",
	"otpost.support.*.rpc.approve":             "enrolment operator",
	"otpost.support.ann.rpc.begin":             "enrolment operator",
	"otpost.support.>":                         "operator",
	"otpost.work.letter":                       "operator",
	"otpost.work.sms":                          "operator",
	"otpost.work.>":                            "operator",
	"otpost.receipt.>":                         "operator",
	"otpost.dead.>":                            "operator",
	"otpost.>":                                 "operator",
	">":                                        "",
	"$SRV.PING.verification":                   "challenge verification enrolment",
	"$JS.EVENT.ADVISORY.>":                     "operator",
	"$JS.API.>":                                "",
	"$JS.ACK.>":                                "",
	"$SYS.>":                                   "",
	"_R_.>":                                    "",
	"_INBOX.>":                                 "app_demo support-ann",
	"_INBOX_challenge.>":                       "challenge",
	"_INBOX_sms.>":                             "sms",
	"_INBOX_email.>":                           "email",
	"_INBOX_verification.>":                    "verification",
	"_INBOX_letter.>":                          "letter",
	"_INBOX_enrolment.>":                       "enrolment",
	"_INBOX_gateway.>":                         "gateway",
	"_INBOX_operator.>":                        "operator",
}

func TestNobodyDoesMoreOrLessThanGranted(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		verb  string
		may   map[string]string
		doing func(*nats.Conn, string) error
	}{
		{"publish to", mayPublish, func(nc *nats.Conn, s string) error { return nc.Publish(s, nil) }},
		{"subscribe to", maySubscribe, func(nc *nats.Conn, s string) error { _, err := nc.SubscribeSync(s); return err }},
	} {
		subjects := slices.Sorted(maps.Keys(tc.may))
		for _, user := range users {
			refused := w.refused(user, tc.doing, subjects)
			for _, s := range subjects {
				if may := slices.Contains(strings.Fields(tc.may[s]), user); may == refused[s] {
					t.Errorf("%s may %s %s: %t, want %t", user, tc.verb, s, !refused[s], may)
				}
			}
		}
	}
}

// TestEveryGrantWorks walks the way of a login and does once whatever a grant is there for.
func TestEveryGrantWorks(t *testing.T) {
	w := newWorld(t)
	app, challenge, verification := w.connect("app_demo"), w.connect("challenge"), w.connect("verification")
	enrolment, gateway, agent := w.connect("enrolment"), w.connect("gateway"), w.connect("support-ann")
	ack := func(m jetstream.Msg, data string) {
		t.Helper()
		if got := string(m.Data()); got != data {
			t.Errorf("%s brought %q, want %q", m.Subject(), got, data)
		}
		if err := m.InProgress(); err != nil {
			t.Error(err)
		}
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Errorf("acknowledge %s: %v", m.Subject(), err)
		}
	}

	w.publish(app, "otpost.app.demo.login", "acknowledged")
	if err := app.Publish("otpost.app.demo.login", []byte("plain")); err != nil {
		t.Fatal(err)
	}
	first := w.pull(challenge, "OTPOST_LOGINS", "challenge")
	if first.Subject() != "otpost.app.demo.login" {
		t.Errorf("subject is %q", first.Subject())
	}
	if err := first.Nak(); err != nil {
		t.Error(err)
	}
	got := map[string]bool{}
	for range 2 {
		m := w.pull(challenge, "OTPOST_LOGINS", "challenge")
		got[string(m.Data())] = true
		ack(m, string(m.Data()))
	}
	if !got["acknowledged"] || !got["plain"] {
		t.Errorf("logins: %v", got)
	}

	for _, channel := range []string{"sms", "email"} {
		worker := w.connect(channel)
		w.publish(challenge, "otpost.work."+channel, "send by "+channel)
		ack(w.pull(worker, "OTPOST_WORK", channel), "send by "+channel)
		w.publish(worker, "otpost.receipt."+channel, "sent by "+channel)
		ack(w.pull(challenge, "OTPOST_RECEIPTS", "challenge"), "sent by "+channel)
		w.publish(worker, "otpost.dead.OTPOST_WORK", "poison")
		if _, err := w.js(worker).Stream(t.Context(), "OTPOST_WORK"); err != nil {
			t.Errorf("%s reads its stream's state: %v", channel, err)
		}
	}
	for _, channel := range []string{"voice", "whatsapp"} {
		worker := w.connect("sms")
		w.publish(challenge, "otpost.work."+channel, "send by "+channel)
		ack(w.pull(worker, "OTPOST_WORK", channel), "send by "+channel)
		w.publish(worker, "otpost.receipt."+channel, "sent by "+channel)
		ack(w.pull(challenge, "OTPOST_RECEIPTS", "challenge"), "sent by "+channel)
	}
	w.publish(gateway, "otpost.receipt.provider", "delivered")
	ack(w.pull(challenge, "OTPOST_RECEIPTS", "challenge"), "delivered")
	timer := bus.At("otpost.timer.set.d-1", "otpost.timer.due", time.Now().Add(time.Second), []byte("late"))
	if _, err := w.js(challenge).PublishMsg(t.Context(), &nats.Msg{Subject: timer.Subject, Header: timer.Header, Data: timer.Data}); err != nil {
		t.Fatal(err)
	}
	ack(w.pull(challenge, "OTPOST_TIMERS", "challenge"), "late")
	w.publish(challenge, "otpost.dead.OTPOST_TIMERS", "poison")
	w.publish(app, "otpost.app.demo.signal.user.deleted", "forget them")
	ack(w.pull(enrolment, "OTPOST_SIGNALS", "enrolment"), "forget them")
	w.publish(gateway, "otpost.app.other.signal.user.deleted", "over HTTP")
	ack(w.pull(enrolment, "OTPOST_SIGNALS", "enrolment"), "over HTTP")
	letter := w.connect("letter")
	w.publish(enrolment, "otpost.work.letter", "print")
	ack(w.pull(letter, "OTPOST_WORK", "letter"), "print")
	w.publish(letter, "otpost.dead.OTPOST_WORK", "poison")
	w.publish(enrolment, "otpost.dead.OTPOST_SIGNALS", "poison")
	for _, channel := range []string{"sms", "email"} {
		w.publish(enrolment, "otpost.work."+channel, "of enrolment")
		ack(w.pull(w.connect(channel), "OTPOST_WORK", channel), "of enrolment")
	}
	w.publish(challenge, "otpost.dead.OTPOST_LOGINS", "poison")
	w.publish(challenge, "otpost.dead.OTPOST_RECEIPTS", "poison")
	dead, err := w.js(w.operator).Stream(t.Context(), "OTPOST_DEAD")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := dead.GetLastMsgForSubject(t.Context(), "otpost.dead.OTPOST_LOGINS"); err != nil || string(m.Data) != "poison" {
		t.Errorf("the operator reads a dead letter: %v, %v", m, err)
	}

	live := w.subscribe(app, "otpost.app.demo.event.>")
	for want, worker := range map[string]*nats.Conn{"challenge.issued": challenge, "challenge.verified": verification, "factor.added": enrolment} {
		w.publish(worker, "otpost.app.demo.event."+want, want)
		if m, err := live.NextMsg(patience); err != nil || string(m.Data) != want || m.Subject != "otpost.app.demo.event."+want {
			t.Errorf("live event: %v, %v; want %s", m, err, want)
		}
		ack(w.pull(app, "OTPOST_EVENTS", "demo"), want)
		ack(w.pull(gateway, "OTPOST_EVENTS", bus.ConsumerGateway), want)
	}
	w.publish(gateway, "otpost.dead.OTPOST_EVENTS", "poison")

	serve := func(nc *nats.Conn, name, prefix string, verbs ...string) {
		t.Helper()
		s, err := micro.AddService(nc, micro.Config{Name: name, Version: "1.0.0"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Stop() })
		for _, v := range verbs {
			err := s.AddEndpoint(strings.ReplaceAll(v, ".", "-"), micro.HandlerFunc(func(r micro.Request) {
				if string(r.Data()) == "wrong" {
					_ = r.Error("invalid", "no good", []byte(`{"error":{}}`), micro.WithHeaders(micro.Headers{"Otpost-Test": {"e"}}))
					return
				}
				_ = r.Respond([]byte(r.Subject()), micro.WithHeaders(micro.Headers{"Otpost-Test": {r.Headers().Get("Otpost-Test")}}))
			}), micro.WithEndpointSubject(prefix+v))
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil || nc.LastError() != nil {
			t.Fatal(err, nc.LastError())
		}
	}
	rpc := "otpost.app.*.rpc."
	serve(challenge, "challenge", rpc, "login", "resend", "cancel", "status", "device.renew")
	serve(verification, "verification", rpc, "verify", "webauthn.begin", "factor.resync")
	serve(verification, "internal", "otpost.internal.", "check")
	enrols := []string{
		"factor.begin", "factor.resend", "factor.confirm", "factor.list", "factor.rename", "factor.prefer", "factor.remove",
		"backup_codes.acknowledge", "backup_codes.view", "backup_codes.regenerate", "device.list", "device.revoke", "activity.list", "deactivate.begin", "deactivate.confirm",
		"recovery.preferences", "recovery.address", "recovery.confirm", "recovery.begin", "recovery.resend", "recovery.prove", "recovery.status", "recovery.cancel",
	}
	serve(enrolment, "enrolment", rpc, enrols...)
	supports := []string{"find", "begin", "approve", "refuse", "cancel", "status"}
	serve(enrolment, "support", "otpost.support.*.rpc.", supports...)
	asks := map[string]*nats.Conn{"otpost.internal.check": enrolment}
	for _, verb := range append(enrols, "login", "resend", "cancel", "status", "device.renew", "verify", "webauthn.begin", "factor.resync") {
		asks["otpost.app.demo.rpc."+verb] = app
	}
	for _, verb := range supports {
		asks["otpost.support.ann.rpc."+verb] = agent
	}
	try := func(asker *nats.Conn, subject string) {
		t.Helper()
		m, err := asker.RequestMsg(&nats.Msg{Subject: subject, Header: nats.Header{"Otpost-Test": {"kept"}}}, patience)
		if err != nil {
			t.Fatalf("request %s: %v", subject, err)
		}
		if string(m.Data) != subject || m.Header.Get("Otpost-Test") != "kept" {
			t.Errorf("reply to %s: %q with %v", subject, m.Data, m.Header)
		}
		m = w.request(asker, subject, "wrong")
		if m.Header.Get(micro.ErrorCodeHeader) != "invalid" || m.Header.Get(micro.ErrorHeader) != "no good" || m.Header.Get("Otpost-Test") != "e" {
			t.Errorf("error reply to %s: %v", subject, m.Header)
		}
	}
	for subject, asker := range asks {
		try(asker, subject)
		if asker == app {
			try(gateway, subject)
		}
	}
	for verb, want := range map[string]string{"PING": `"name":"verification"`, "INFO": "otpost.app.*.rpc.verify", "STATS": `"num_requests"`} {
		if m := w.request(app, "$SRV."+verb+".verification", ""); !strings.Contains(string(m.Data), want) {
			t.Errorf("the app asked for %s and got %s", verb, m.Data)
		}
	}
	if m := w.request(w.operator, "$SRV.PING.verification", ""); !strings.Contains(string(m.Data), `"name":"verification"`) {
		t.Errorf("discovery: %s", m.Data)
	}
	for _, nc := range []*nats.Conn{app, challenge, verification, enrolment, gateway, letter, agent, w.operator} {
		if err := nc.LastError(); err != nil {
			t.Errorf("%s met %v", nc.Opts.User, err)
		}
	}
}

func TestPermissionTableShowsEveryUserAndSubject(t *testing.T) {
	var b strings.Builder
	if err := bus.PermissionTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, r := range bus.Roles() {
		p := r.Permissions()
		for _, s := range append(append([]string{string(r)}, p.Publish...), p.Subscribe...) {
			if !strings.Contains(b.String(), "`"+s+"`") {
				t.Errorf("the table does not show %s of %s", s, r)
			}
		}
	}
	for _, s := range []string{"`otpost.app.<app>.login`", "`APP_<app>`", "`otpost.support.<agent>.rpc.>`", "`SUPPORT_<agent>`"} {
		if !strings.Contains(b.String(), s) {
			t.Errorf("the table does not show %s", s)
		}
	}
	for line := range strings.Lines(b.String()) {
		if n := strings.Count(line, "|"); n != 0 && n != 5 && n != 6 {
			t.Errorf("broken line of Markdown: %s", line)
		}
	}
}

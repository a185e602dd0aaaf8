package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/keyring"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/telemetry"
	"github.com/otpost/otpost/services/challenge"
	"github.com/otpost/otpost/services/email"
	"github.com/otpost/otpost/services/enrolment"
	"github.com/otpost/otpost/services/letter"
	"github.com/otpost/otpost/services/sms"
	"github.com/otpost/otpost/services/verification"
)

// asCommand makes the test binary play the command: the processes of these tests are real ones, started, signalled and killed.
const asCommand = "OTPOST_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		_ = os.Unsetenv(asCommand)
		os.Exit(execute(context.Background(), os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// A system is otpost with everything real around it, for one test.
type system struct {
	t      testing.TB
	db     *otposttest.DB
	nats   *otposttest.Server
	box    *otposttest.Mailbox
	clock  *otposttest.Clock // of workers inside the test; processes have the machine's
	log    *otposttest.Log
	keys   string
	spool  string // where letters lie
	app    postgres.App
	conn   *nats.Conn            // the app's
	agents map[string]*nats.Conn // support's, once they ask
	js     jetstream.JetStream
	heard  *otposttest.Heard

	metrics *telemetry.Metrics

	exchange func(verb string, body []byte) []byte // how requests of the app go; over NATS where it is nil

	operator func() *bus.Bus // one connection, however often it is asked for
}

type systemOptions struct {
	ownPostgres bool
	nats        []otposttest.NATSOption
	app         []func(*postgres.App)
}

func newSystem(t testing.TB, change ...func(*systemOptions)) *system {
	t.Helper()
	var o systemOptions
	for _, c := range change {
		c(&o)
	}
	s := &system{
		t: t, clock: otposttest.NewClock(), log: otposttest.Logger(t), keys: otposttest.Keys(t), box: otposttest.Inbox(t), spool: filepath.Join(t.TempDir(), "letters"),
		metrics: telemetry.NewMetrics(telemetry.NewRegistry()),
	}
	if o.ownPostgres {
		s.db = otposttest.OwnPostgres(t)
	} else {
		s.db = otposttest.Postgres(t)
	}
	s.nats = otposttest.NATS(t, o.nats...)
	s.app = s.db.App(t, "demo", o.app...)
	s.conn = s.nats.App(t, "demo")
	var err error
	if s.js, err = jetstream.New(s.conn); err != nil {
		t.Fatal(err)
	}
	s.heard = otposttest.Events(t, s.conn, "demo", otposttest.ByContract)
	s.operator = sync.OnceValue(func() *bus.Bus { return s.nats.Bus(t, bus.RoleOperator) })
	return s
}

// shortAckWait makes messages of killed workers come again soon.
func shortAckWait(d time.Duration) func(*systemOptions) {
	return func(o *systemOptions) {
		o.nats = append(o.nats, otposttest.WithStreams(func(s *bus.StreamSettings) { s.AckWait = d }))
	}
}

// run starts workers inside the test. stop drains them and may be called more than once.
func (s *system) run(roles ...bus.Role) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	for _, role := range roles {
		r := s.worker(role)
		done.Go(func() {
			if err := r.Run(ctx); err != nil {
				s.t.Errorf("%s: %v", role, err)
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		done.Wait()
	})
	s.t.Cleanup(stop)
	s.awaitServices(roles...)
	return stop
}

// awaitServices returns when requests of every verb find who answers them: a service listens on its subjects one after another.
func (s *system) awaitServices(roles ...bus.Role) {
	s.t.Helper()
	for _, role := range roles {
		for _, subject := range role.Permissions().Subscribe {
			asked := strings.Replace(subject, "otpost.app.*.rpc.", "otpost.app.demo.rpc.", 1)
			if asked == subject {
				continue // no request of apps
			}
			otposttest.Eventually(s.t, string(role)+" answers on "+asked, func() bool {
				_, err := s.conn.Request(asked, []byte(`{}`), time.Second)
				return err == nil
			})
		}
	}
}

func (s *system) worker(role bus.Role) runner {
	s.t.Helper()
	b, keys := s.nats.Bus(s.t, role), otposttest.Ring(s.t, keyring.Role(role))
	db := s.db.Role(string(role))
	send := delivery.Config{
		Bus: b, Store: postgres.NewDeliveries(db), Keys: keys, Metrics: s.metrics, Logger: s.log.Logger, Now: s.clock.Now, Timeout: 3 * time.Second,
		Lease: 4 * time.Second,
	}
	var r runner
	var err error
	switch role {
	case bus.RoleChallenge:
		var w *challenge.Worker
		w, err = challenge.New(challenge.Config{
			DB: db, Bus: b, Keys: keys, Metrics: s.metrics, Logger: s.log.Logger, Now: s.clock.Now, Version: microVersion,
			Sweep: challenge.Sweep{Every: 50 * time.Millisecond},
		})
		if err == nil {
			err = w.Prepare(context.Background())
		}
		r = w
	case bus.RoleSMS:
		var p *sms.Twilio
		p, err = sms.NewTwilio(sms.TwilioConfig{
			AccountSID: s.box.AccountSID, AuthToken: s.box.AuthToken, From: []string{"+15005550006"}, BaseURL: s.box.TwilioURL, Logger: s.log.Logger,
			Now: s.clock.Now, Timeout: 3 * time.Second,
		})
		if err == nil {
			s.t.Cleanup(p.Close)
			r, err = sms.New(send, otp.SMS, p)
		}
	case bus.RoleEmail:
		var p *email.SMTP
		host, port := split(s.t, s.box.SMTP)
		p, err = email.NewSMTP(email.SMTPConfig{
			Host: host, Port: port, TLS: email.NoTLS, From: "Demo <no-reply@shop.example>", Logger: s.log.Logger, Now: s.clock.Now,
		})
		if err == nil {
			s.t.Cleanup(func() { _ = p.Close() })
			r, err = email.New(send, p)
		}
	case bus.RoleVerification:
		r = verification.New(verification.Config{
			DB: db, Bus: b, Keys: keys, Metrics: s.metrics, Logger: s.log.Logger, Now: s.clock.Now, Version: microVersion,
		})
	case bus.RoleLetter:
		var p *letter.Spool
		if p, err = letter.NewSpool(s.spool, s.log.Logger); err == nil {
			r, err = letter.New(send, p, letter.Options{Sender: "Demo · 1 Market St · San Francisco CA 94105", SenderCountry: "US"})
		}
	case bus.RoleEnrolment:
		var w *enrolment.Worker
		w, err = enrolment.New(enrolment.Config{
			DB: db, Bus: b, Keys: keys, Metrics: s.metrics, Logger: s.log.Logger, Now: s.clock.Now, Version: microVersion,
			Sweep: enrolment.Sweep{Every: 50 * time.Millisecond},
		})
		if err == nil {
			err = w.Prepare(context.Background())
		}
		r = w
	default:
		s.t.Fatalf("there is no worker %s", role)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func split(t testing.TB, addr string) (host string, port int) {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.IP.String(), a.Port
}

// A process is a worker in a process of its own.
type process struct {
	*exec.Cmd
	out  *output
	done chan error
}

// output collects what a process prints.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start starts a worker's process and waits until it is ready. natsURL is the test's own where it is empty.
func (s *system) start(role bus.Role, natsURL string, extra ...string) *process {
	s.t.Helper()
	p := s.spawn(role, natsURL, extra...)
	otposttest.Eventually(s.t, string(role)+" is ready", func() bool { return s.ready(p) })
	s.awaitServices(role)
	return p
}

// spawn starts a worker's process.
func (s *system) spawn(role bus.Role, natsURL string, extra ...string) *process {
	s.t.Helper()
	if natsURL == "" {
		natsURL = s.nats.URL()
	}
	args := []string{string(role), "--nats-url", natsURL, "--keys", s.keys, "--log-level", "debug"}
	host, port := split(s.t, s.box.SMTP)
	switch role {
	case bus.RoleSMS:
		args = append(args, "--twilio-account-sid", s.box.AccountSID, "--twilio-from", "+15005550006", "--twilio-base-url", s.box.TwilioURL)
	case bus.RoleEmail:
		args = append(args, "--smtp-host", host, "--smtp-port", fmt.Sprint(port), "--smtp-tls", "none", "--smtp-from", "no-reply@shop.example")
	case bus.RoleLetter:
		args = append(args, "--spool", s.spool, "--sender", "Demo, 1 Market Street, San Francisco CA 94105")
	}
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	return s.launch(exe, append(os.Environ(), asCommand+"=1", "OTPOST_NATS_PASSWORD="+s.nats.Password(role), "OTPOST_DATABASE_URL="+s.db.URL(string(role)),
		"OTPOST_TWILIO_AUTH_TOKEN="+s.box.AuthToken), append(args, extra...)...)
}

// launch starts a process that ends with the test.
func (s *system) launch(exe string, env []string, args ...string) *process {
	s.t.Helper()
	p := &process{Cmd: exec.Command(exe, args...), out: &output{}, done: make(chan error, 1)} //nolint:noctx // ends by signal
	p.Env, p.Stdout, p.Stderr = env, p.out, p.out
	if err := p.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { p.done <- p.Wait() }()
	s.t.Cleanup(func() {
		p.kill()
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", args[0], p.out)
		}
	})
	return p
}

var listening = regexp.MustCompile(`server=health listen=(\S+)`)

// ready asks /readyz where the process says that it listens.
func (s *system) ready(p *process) bool {
	status, _ := p.page("/readyz")
	return status == 200
}

// page fetches a page of the process's own server; status is 0 where nobody answers yet.
func (p *process) page(path string) (status int, body string) {
	m := listening.FindStringSubmatch(p.out.String())
	if m == nil {
		return 0, ""
	}
	return get("http://" + m[1] + path)
}

// kill ends the process as a power failure would.
func (p *process) kill() {
	_ = p.Process.Kill()
	<-p.done
	p.done <- nil
}

// publish publishes a login event of the app and waits until the stream has it.
func (s *system) publish(id, user string, data map[string]any) {
	s.t.Helper()
	if _, err := s.js.Publish(s.t.Context(), event.LoginSubject("demo"), s.login(id, user, s.clock.Now(), data)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) login(id, user string, at time.Time, data map[string]any) []byte {
	body := map[string]any{"user": user, "session": "session of " + user}
	for k, v := range data {
		body[k] = v
	}
	b, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": id, "source": "https://shop.example", "type": event.LoginType, "time": at.Format(time.RFC3339Nano), "data": body,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// bySMS is login data with a number; each n is another number.
func bySMS(n int) map[string]any {
	return map[string]any{"to": map[string]any{"sms": phone(n)}}
}

func phone(n int) string { return fmt.Sprintf("+1415556%04d", n) }

// issued waits for the challenge of a user's login.
func (s *system) issued(user string) event.Issued {
	s.t.Helper()
	return s.issuedNot(user, "")
}

// issuedNot waits for a challenge of the user that is not the one named.
func (s *system) issuedNot(user, challenge string) event.Issued {
	s.t.Helper()
	var found event.Issued
	s.heard.Wait(s.t, event.ChallengeIssued, func(e otposttest.Event) bool {
		found = otposttest.Decode[event.Issued](s.t, e)
		return found.User == user && found.Challenge != challenge
	})
	return found
}

// ended waits for a challenge's end and returns its reason.
func (s *system) ended(challenge string) string {
	s.t.Helper()
	e := s.heard.Wait(s.t, event.ChallengeEnded, func(e otposttest.Event) bool { return e.Subject == challenge })
	return otposttest.Decode[event.Ended](s.t, e).Reason
}

var digits = regexp.MustCompile(`\b\d{4,10}\b`)

// code waits for the code that a number or mailbox got.
func (s *system) code(to string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), otposttest.Patience)
	defer cancel()
	m, err := s.box.Wait(ctx, inbox.Filter{To: to})
	if err != nil {
		s.t.Fatalf("no message for %s: %v", to, err)
	}
	code := digits.FindString(m.Text)
	if code == "" {
		s.t.Fatalf("no code in the message for %s", to)
	}
	return code
}

// messages counts what a number or mailbox got.
func (s *system) messages(to string) int { return len(s.box.List(inbox.Filter{To: to})) }

// wrongCode is a code of the same length that is not the code.
func wrongCode(code string) string {
	last := code[len(code)-1]
	return code[:len(code)-1] + string('0'+(last-'0'+1)%10)
}

// request asks as the app does and decodes the reply. problem is the error's code, empty for none.
func request[T any](s *system, verb string, body any) (reply T, problem string) {
	s.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	exchange := s.exchange
	if exchange == nil {
		exchange = s.overNATS
	}
	answer := exchange(verb, b)
	var failed event.ErrorReply
	if err := json.Unmarshal(answer, &failed); err == nil && failed.Error.Code != "" {
		if err := otposttest.Contract("rpc.error", answer); err != nil {
			s.t.Errorf("an error of %s breaks its schema: %v\n%s", verb, err, answer)
		}
		return reply, failed.Error.Code
	}
	if err := otposttest.Contract("rpc."+verb+".reply", answer); err != nil {
		s.t.Errorf("a reply of %s breaks its schema: %v\n%s", verb, err, answer)
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		s.t.Fatalf("%s: %v in %s", verb, err, answer)
	}
	return reply, ""
}

func (s *system) overNATS(verb string, body []byte) []byte {
	s.t.Helper()
	m, err := s.conn.Request(event.RPCSubject("demo", verb), body, otposttest.Patience)
	if err != nil {
		s.t.Fatalf("%s: %v", verb, err)
	}
	return m.Data
}

// verify answers a challenge of a user's own session.
func (s *system) verify(challenge, user, code string) event.VerifyReply {
	s.t.Helper()
	r, problem := request[event.VerifyReply](s, event.VerbVerify, map[string]any{
		"challenge": challenge, "session": "session of " + user, "code": code,
	})
	if problem != "" {
		s.t.Fatalf("verify: %s", problem)
	}
	return r
}

// dead returns the dead letters.
func (s *system) dead() []bus.Letter {
	s.t.Helper()
	letters, _, err := s.operator().DeadLetters(s.t.Context(), 0, 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	return letters
}

// A gate is a TCP proxy that can stop forwarding what clients send while they go on receiving: the moment before a worker's words reach
// NATS, made as long as a test likes.
type gate struct {
	listener net.Listener
	mu       sync.Mutex
	shut     bool
	open     *sync.Cond
}

func newGate(t testing.TB, target string) *gate {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: l}
	g.open = sync.NewCond(&g.mu)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target) //nolint:noctx // loopback
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(client, server)
				_ = client.Close()
			}()
			go func() {
				defer func() { _ = server.Close() }()
				buf := make([]byte, 32<<10)
				for {
					n, err := client.Read(buf)
					g.pass()
					if n > 0 {
						if _, err := server.Write(buf[:n]); err != nil {
							return
						}
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return g
}

func (g *gate) url() string { return "nats://" + g.listener.Addr().String() }

// close holds back what clients send from now on.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

func (g *gate) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.shut {
		g.open.Wait()
	}
}

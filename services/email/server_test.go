package email

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
)

// A server is a real SMTP server whose answers a test scripts. The hooks run on the server's goroutines and may close the connection.
type server struct {
	secure  TLSMode // how it encrypts: StartTLS (offered), Implicit or NoTLS
	auth    bool    // offers PLAIN and LOGIN to user "shop", password "secret"
	utf8    bool
	onLogin func() error
	onMail  func(*gosmtp.Conn) error
	onRcpt  func(*gosmtp.Conn) error
	onData  func(*gosmtp.Conn) error // after the final dot

	port  int
	certs *x509.CertPool

	mu         sync.Mutex
	opened     int // connections so far
	peak       int // most at once
	logins     int
	received   []received
	transcript bytes.Buffer
	conns      map[*counted]bool
}

type received struct {
	from, to string
	text     []byte
}

func (s *server) start(t testing.TB) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = listener.Addr().(*net.TCPAddr).Port
	s.conns = map[*counted]bool{}
	listener = counter{listener, s}
	srv := gosmtp.NewServer(gosmtp.BackendFunc(s.session))
	srv.Domain = "mx.test"
	srv.ErrorLog = log.New(io.Discard, "", 0)
	srv.EnableSMTPUTF8 = s.utf8
	srv.Debug = (*transcriber)(s)
	if s.secure != NoTLS {
		var cert tls.Certificate
		cert, s.certs = certificate(t)
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	if s.secure == Implicit {
		listener = tls.NewListener(listener, srv.TLSConfig)
		srv.TLSConfig = nil
	}
	srv.AllowInsecureAuth = s.secure == NoTLS
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	return s
}

type transcriber server

func (w *transcriber) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.transcript.Write(b)
}

// commands returns how often each command came in.
func (s *server) commands() map[string]int {
	n := map[string]int{}
	for line := range strings.Lines(s.script()) {
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT":
			n[verb]++
		}
	}
	return n
}

func (s *server) session(c *gosmtp.Conn) (gosmtp.Session, error) { return &session{s: s, c: c}, nil }

// A counter is the server's listener; it keeps count of connections, which go-smtp's sessions do not: STARTTLS begins a second one.
type counter struct {
	net.Listener
	s *server
}

func (l counter) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	c := &counted{Conn: raw, s: l.s}
	l.s.conns[c] = true
	l.s.opened++
	l.s.peak = max(l.s.peak, len(l.s.conns))
	return c, nil
}

type counted struct {
	net.Conn
	s *server
}

func (c *counted) Close() error {
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

// stats reads a value under the lock.
func stats[T any](s *server, read func() T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return read()
}

func (s *server) connections() int { return stats(s, func() int { return s.opened }) }
func (s *server) current() int     { return stats(s, func() int { return len(s.conns) }) }
func (s *server) count() int       { return stats(s, func() int { return len(s.received) }) }
func (s *server) last() received {
	return stats(s, func() received { return s.received[len(s.received)-1] })
}

func (s *server) all() []received {
	return stats(s, func() []received { return slices.Clone(s.received) })
}
func (s *server) script() string { return stats(s, func() string { return s.transcript.String() }) }

// hook replaces one of the hooks while the server runs.
func (s *server) hook(which *func(*gosmtp.Conn) error, with func(*gosmtp.Conn) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*which = with
}

// hangUp closes every open connection from the server's side, as a restart does.
func (s *server) hangUp() {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

type session struct {
	s        *server
	c        *gosmtp.Conn
	from, to string
}

func (x *session) AuthMechanisms() []string {
	if !x.s.auth {
		return nil
	}
	return []string{sasl.Plain, sasl.Login}
}

func (x *session) Auth(mech string) (sasl.Server, error) {
	check := func(user, password string) error {
		if x.s.onLogin != nil {
			if err := x.s.onLogin(); err != nil {
				return err
			}
		}
		if user != "shop" || password != "secret" {
			return gosmtp.ErrAuthFailed
		}
		x.s.mu.Lock()
		x.s.logins++
		x.s.mu.Unlock()
		return nil
	}
	if mech == sasl.Login {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
}

// loginServer is the server's side of LOGIN, which go-sasl lacks.
type loginServer struct {
	check func(user, password string) error
	user  string
	step  int
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(response)
		return []byte("Password:"), false, nil
	default:
		return nil, true, l.check(l.user, string(response))
	}
}

func (x *session) Mail(from string, _ *gosmtp.MailOptions) error {
	x.from = from
	return x.run(&x.s.onMail)
}

func (x *session) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	x.to = to
	return x.run(&x.s.onRcpt)
}

func (x *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := x.run(&x.s.onData); err != nil {
		return err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.received = append(x.s.received, received{x.from, x.to, text})
	return &gosmtp.SMTPError{Code: 250, EnhancedCode: gosmtp.EnhancedCode{2, 0, 0}, Message: "Ok: queued as 4XyZ12AbCd"}
}

func (x *session) Reset() {}

func (x *session) Logout() error { return nil }

func (x *session) run(hook *func(*gosmtp.Conn) error) error {
	h := stats(x.s, func() func(*gosmtp.Conn) error { return *hook })
	if h == nil {
		return nil
	}
	return h(x.c)
}

// reply makes a hook that answers with code, enhanced and a text that quotes the recipient, as servers do.
func reply(code int, enhanced gosmtp.EnhancedCode) func(*gosmtp.Conn) error {
	return func(*gosmtp.Conn) error {
		return &gosmtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: "<jane.roe@example.com>: no"}
	}
}

func hangUp(c *gosmtp.Conn) error { return c.Conn().Close() }

// once makes a hook that runs hook for the first call only; later calls do not wait for it.
func once(hook func(*gosmtp.Conn) error) func(*gosmtp.Conn) error {
	var done atomic.Bool
	return func(c *gosmtp.Conn) error {
		if done.Swap(true) {
			return nil
		}
		return hook(c)
	}
}

// scripted runs talk for each connection to a bare TCP listener and returns its port.
func scripted(t *testing.T, talk func(*textproto.Conn)) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				c := textproto.NewConn(raw)
				defer c.Close()
				talk(c)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return listener.Addr().(*net.TCPAddr).Port
}

func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.test"}, DNSNames: []string{"mx.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// closedPort returns a port on which nobody listens.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

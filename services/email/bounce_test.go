package email

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/telemetry"
)

const (
	bounceUser     = "bounces@shop.example"
	bouncePassword = "the mailbox's password"
	bounced        = "0199a5c0-1111-7222-8333-444455556666"
)

// A mailbox is an IMAP server on loopback with one user, and what its bounces came to.
type mailbox struct {
	*testing.T
	user    *imapmemserver.User
	address string
	roots   *x509.CertPool
	logs    bytes.Buffer

	mu    sync.Mutex
	out   []bus.Out
	fails error // what publishing fails with
}

// newMailbox starts a server; over TLS unless clear.
func newMailbox(t *testing.T, clear bool, caps imap.CapSet) *mailbox {
	m := &mailbox{T: t, user: imapmemserver.NewUser(bounceUser, bouncePassword)}
	for _, name := range []string{"INBOX", "Bounces"} {
		if err := m.user.Create(name, nil); err != nil {
			t.Fatal(err)
		}
	}
	store := imapmemserver.New()
	store.AddUser(m.user)
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return store.NewSession(), nil, nil
		},
		Caps: caps, InsecureAuth: clear, Logger: log.New(io.Discard, "", 0),
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.address = listener.Addr().String()
	if !clear {
		certified := httptest.NewUnstartedServer(nil) // for its certificate
		certified.StartTLS()
		t.Cleanup(certified.Close)
		m.roots = x509.NewCertPool()
		m.roots.AddCert(certified.Certificate())
		listener = tls.NewListener(listener, &tls.Config{Certificates: certified.TLS.Certificates})
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return m
}

func (m *mailbox) bounces(change ...func(*BouncesConfig)) *Bounces {
	m.Helper()
	cfg := BouncesConfig{
		URL: "imaps://bounces%40shop.example@" + m.address + "/Bounces", Password: bouncePassword, RootCAs: m.roots, Every: time.Second,
		Publish: m.publish, Metrics: telemetry.NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.NewTextHandler(&m.logs, nil)),
		Now: func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) },
	}
	if m.roots == nil {
		cfg.URL = strings.Replace(cfg.URL, "imaps:", "imap:", 1)
	}
	for _, c := range change {
		c(&cfg)
	}
	b, err := NewBounces(cfg)
	if err != nil {
		m.Fatal(err)
	}
	return b
}

func (m *mailbox) publish(_ context.Context, out ...bus.Out) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails != nil {
		return m.fails
	}
	m.out = append(m.out, out...)
	return nil
}

func (m *mailbox) told() []bus.Out {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.out
	m.out = nil
	return out
}

func (m *mailbox) add(mail string) {
	m.Helper()
	text := strings.ReplaceAll(mail, "\n", "\r\n")
	if _, err := m.user.Append("Bounces", literal{strings.NewReader(text), int64(len(text))}, &imap.AppendOptions{}); err != nil {
		m.Fatal(err)
	}
}

type literal struct {
	io.Reader
	size int64
}

func (l literal) Size() int64 { return l.size }

// look looks into the mailbox once.
func (m *mailbox) look(b *Bounces) {
	m.Helper()
	if err := b.look(m.Context()); err != nil {
		m.Fatal(err)
	}
}

// unread returns how many mails there are, and how many of them nobody has read.
func (m *mailbox) unread() (all, unread uint32) {
	m.Helper()
	s, err := m.user.Status("Bounces", &imap.StatusOptions{NumMessages: true, NumUnseen: true})
	if err != nil {
		m.Fatal(err)
	}
	return *s.NumMessages, *s.NumUnseen
}

func notification(t *testing.T, change ...string) string {
	t.Helper()
	b, err := os.ReadFile("../../pkg/bounce/testdata/postfix.eml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(change...).Replace(string(b))
}

const answer = "From: jane.roe@example.com\nTo: bounces@shop.example\nSubject: Re: Your code\nContent-Type: text/plain\n\nWhat is this?\n"

func TestBounces(t *testing.T) {
	m := newMailbox(t, false, nil)
	b := m.bounces()
	m.add(notification(t))
	m.add(answer)
	m.add(notification(t, "Status: 5.1.1", "Status: 5.7.1", bounced+"-2", bounced+"-3"))
	m.add(notification(t, "Action: failed", "Action: delayed"))
	m.add(notification(t, "Action: failed", "Action: delivered", bounced+"-2", bounced+"-4"))
	m.add(notification(t, bounced, "another-program"))
	m.add(notification(t, "report-type=delivery-status", "report-type=disposition-notification"))
	m.add(notification(t, "message/delivery-status", "text/plain"))
	m.look(b)

	want := []event.Receipt{
		{Attempt: 2, State: otp.DeliveryUndelivered, Reason: "the mailbox does not exist (5.1.1)", Class: event.ClassPermanent},
		{Attempt: 3, State: otp.DeliveryUndelivered, Reason: "refused by policy (5.7.1)", Class: event.ClassRejected},
		{Attempt: 4, State: otp.DeliveryDelivered},
	}
	ids := []string{bounced + "-2/undelivered/bounce", bounced + "-3/undelivered/bounce", bounced + "-4/delivered/bounce"}
	told := m.told()
	if len(told) != len(want) {
		t.Fatalf("%d receipts, want %d", len(told), len(want))
	}
	for i, out := range told {
		want[i].Challenge, want[i].Channel, want[i].At = uuid.MustParse(bounced), otp.Email, b.Now()
		got, err := event.ParseReceipt(out.Data)
		if err != nil || got != want[i] || out.ID != ids[i] || out.Subject != "otpost.receipt.email" {
			t.Errorf("receipt %d: %+v, %s %s, %v\nwant %+v", i, got, out.Subject, out.ID, err, want[i])
		}
	}
	// The answer and the report of another kind are left as they were, the rest is read.
	if all, unread := m.unread(); all != 8 || unread != 2 {
		t.Errorf("%d mails, %d of them unread", all, unread)
	}
	for result, n := range map[string]float64{"taken": 3, "stage": 2, "malformed": 1, "unavailable": 0} {
		if got := testutil.ToFloat64(b.Metrics.Callbacks.WithLabelValues("mailbox", result)); got != n {
			t.Errorf("%s: %v are counted, want %v", result, got, n)
		}
	}
	m.look(b)
	if told := m.told(); len(told) != 0 {
		t.Errorf("told again: %d", len(told))
	}
	if len(b.left) != 1 {
		t.Errorf("%d mails are remembered, want one", len(b.left))
	}
	for _, private := range []string{"jane", "314159", bouncePassword} {
		if strings.Contains(m.logs.String(), private) {
			t.Errorf("the log has %q", private)
		}
	}
}

// What the stream does not have stays unread, and comes when it can be told.
func TestBouncesWaitForTheStream(t *testing.T) {
	m := newMailbox(t, false, nil)
	b := m.bounces()
	m.add(notification(t))
	m.fails = errors.New("no stream")
	if err := b.look(t.Context()); !errors.Is(err, m.fails) {
		t.Fatal(err)
	}
	if _, unread := m.unread(); unread != 1 {
		t.Error("it is marked as read")
	}
	m.fails = nil
	m.look(b)
	if len(m.told()) != 1 {
		t.Error("it is not told")
	}
	if _, unread := m.unread(); unread != 0 {
		t.Error("it is not marked as read")
	}
}

func TestBouncesAreDeleted(t *testing.T) {
	for name, tc := range map[string]struct {
		caps imap.CapSet
		left uint32
	}{
		"alone":               {imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}}, 2},
		"by IMAP4rev2":        {imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}}, 2},
		"not where all would": {imap.CapSet{imap.CapIMAP4rev1: {}}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMailbox(t, true, tc.caps)
			b := m.bounces(func(c *BouncesConfig) { c.Delete = true })
			m.add(notification(t))
			m.add(answer)
			m.add(notification(t, "message/delivery-status", "text/plain")) // people may make something of it
			m.look(b)
			m.look(b)
			if told := m.told(); len(told) != 1 {
				t.Errorf("%d are told", len(told))
			}
			if all, _ := m.unread(); all != tc.left {
				t.Errorf("%d mails are left, want %d", all, tc.left)
			}
		})
	}
}

// A mail that goes on without end is read as far as a notification goes.
func TestLongBounces(t *testing.T) {
	m := newMailbox(t, true, nil)
	b := m.bounces()
	m.add(notification(t, "314159 is your code.", strings.Repeat("A long mail.\n", 60_000)))
	m.look(b)
	if told := m.told(); len(told) != 1 {
		t.Errorf("%d are told", len(told))
	}
}

// Two workers read one mailbox, while mails come in: each is told, under one id however often.
func TestBouncesOfTwoWorkers(t *testing.T) {
	m := newMailbox(t, true, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for range 2 {
		b := m.bounces()
		b.Logger = slog.New(slog.DiscardHandler)
		workers.Go(func() {
			if err := b.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	const mails = 20
	for i := range mails {
		m.add(notification(t, bounced+"-2", bounced+"-"+string(rune('1'+i/10))+string(rune('0'+i%10))))
	}
	ids := map[string]bool{}
	otposttest.Eventually(t, "all are told", func() bool {
		for _, out := range m.told() {
			ids[out.ID] = true
		}
		return len(ids) == mails
	})
	otposttest.Eventually(t, "all are read", func() bool { _, unread := m.unread(); return unread == 0 })
	cancel()
	workers.Wait()
}

func TestMailboxRefuses(t *testing.T) {
	m := newMailbox(t, false, nil)
	for want, change := range map[string]func(*BouncesConfig){
		"answered LOGIN with NO AUTHENTICATIONFAILED": func(c *BouncesConfig) { c.Password = "wrong" },
		"answered SELECT with NO NONEXISTENT":         func(c *BouncesConfig) { c.URL = strings.Replace(c.URL, "/Bounces", "/Nowhere", 1) },
		"TLS: tls: failed to verify certificate":      func(c *BouncesConfig) { c.RootCAs = nil },
	} {
		err := m.bounces(change).look(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	// A server that says nothing holds nobody longer than the look may take.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	b := m.bounces(func(c *BouncesConfig) { c.URL = "imap://u@" + silent.Addr().String() })
	if err := b.look(ctx); err == nil {
		t.Error("a silent server answers")
	}
}

func TestWrongBouncesSettings(t *testing.T) {
	for want, change := range map[string]func(*BouncesConfig){
		"URL: must be like":         func(c *BouncesConfig) { c.URL = "pop3://u@mail.example" },
		"URL: must be like imaps":   func(c *BouncesConfig) { c.URL = "imaps://u@mail.example/INBOX?x=1" },
		"URL: names no user":        func(c *BouncesConfig) { c.URL = "imaps://mail.example/INBOX" },
		"URL: must not hold":        func(c *BouncesConfig) { c.URL = "imaps://u:secret@mail.example/INBOX" },
		"URL: has a control":        func(c *BouncesConfig) { c.URL = "imaps://u@mail.example/IN%0ABOX" },
		"Password: is missing":      func(c *BouncesConfig) { c.Password = "" },
		"Password: is missing, or":  func(c *BouncesConfig) { c.Password = "a\r\nb" },
		"Every: must be 1s to 1h":   func(c *BouncesConfig) { c.Every = time.Millisecond },
		"Every: must be 1s to 1h, ": func(c *BouncesConfig) { c.Every = 2 * time.Hour },
	} {
		cfg := BouncesConfig{URL: "imaps://u@mail.example/INBOX", Password: "p", Every: time.Minute}
		change(&cfg)
		if _, err := NewBounces(cfg); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	b, err := NewBounces(BouncesConfig{URL: "imap://u@mail.example", Password: "p", Every: time.Minute})
	if err != nil || b.address != "mail.example:143" || b.mailbox != "INBOX" || b.implicit {
		t.Errorf("%+v, %v", b, err)
	}
}

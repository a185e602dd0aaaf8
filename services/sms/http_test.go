package sms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/inbox"
	"github.com/otpost/otpost/pkg/otp"
)

const (
	testKey       = "abcd1234"
	testSecret    = "Abcdef0123456789"
	testSigSecret = "s1gnaturesecretofthirtytwocharac"
	testWhsec     = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	testReceipt   = "c29tZS1zZWFsZWQtdG9rZW4_-"
)

// codeMessage is a message with all that a code comes with. It lives by the clock of the day, as the simulators do.
func codeMessage() *delivery.Message {
	return &delivery.Message{
		Reference: "0192f0c1-2345-7abc-8def-0123456789ab-1", Token: testReceipt, App: "shop", Country: "US", To: testNumber, Code: "493817", Text: testText,
		Locale: "en", ExpiresAt: time.Now().Add(5 * time.Minute),
	}
}

// simulate starts the simulated providers.
func simulate(t *testing.T, c inbox.Config) (*inbox.Inbox, string) {
	t.Helper()
	c.VonageKey, c.VonageSecret, c.WebhookSecret = testKey, testSecret, testWhsec
	in := inbox.New(c)
	server := httptest.NewServer(in.Handler())
	t.Cleanup(func() {
		in.Close()
		server.CloseClientConnections()
		server.Close()
	})
	return in, server.URL
}

// A kind is a provider over HTTP as these tests make it: for the server at base, with what it logs.
type kind struct {
	name string
	make func(t *testing.T, base string, timeout time.Duration) (delivery.Provider, *safeBuffer)
}

var kinds = []kind{
	{"vonage", func(t *testing.T, base string, timeout time.Duration) (delivery.Provider, *safeBuffer) {
		return newTestVonage(t, base+"/vonage", func(c *VonageConfig) { c.Timeout = timeout })
	}},
	{"webhook", func(t *testing.T, base string, timeout time.Duration) (delivery.Provider, *safeBuffer) {
		return newTestWebhook(t, base+"/webhook", func(c *WebhookConfig) { c.Timeout = timeout })
	}},
}

func newTestVonage(t *testing.T, base string, change ...func(*VonageConfig)) (*Vonage, *safeBuffer) {
	t.Helper()
	logger, logged := testLogger()
	c := VonageConfig{APIKey: testKey, APISecret: testSecret, From: "+15005550006", BaseURL: base, Logger: logger}
	for _, f := range change {
		f(&c)
	}
	v, err := NewVonage(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v, logged
}

func newTestWebhook(t *testing.T, target string, change ...func(*WebhookConfig)) (*Webhook, *safeBuffer) {
	t.Helper()
	logger, logged := testLogger()
	c := WebhookConfig{Channel: otp.SMS, URL: target, Secret: testWhsec, Logger: logger}
	for _, f := range change {
		f(&c)
	}
	w, err := NewWebhook(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w, logged
}

func testLogger() (*slog.Logger, *safeBuffer) {
	logged := new(safeBuffer)
	return slog.New(slog.NewJSONHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug})), logged
}

// expectFailure checks the class and code of err, and that neither it, nor its cause, nor the log tells the address, the text or a secret.
func expectFailure(t *testing.T, err error, class delivery.Class, code string, logged *safeBuffer) *delivery.Error {
	t.Helper()
	e, ok := errors.AsType[*delivery.Error](err)
	if !ok {
		t.Fatalf("error %v (%T), want a *delivery.Error", err, err)
	}
	if e.Class != class || e.Code != code || e.Reason == "" {
		t.Errorf("error %v, cause %v; want %v with code %q and a reason", e, e.Err, class, code)
	}
	told := fmt.Sprintf("%v %v %s", e, e.Err, logged)
	for _, private := range []string{
		testNumber, testNumber[1:], "555-0100", "493817", testText, testReceipt, testKey, testSecret, testSigSecret, testWhsec, "ann@mail.example",
	} {
		if strings.Contains(told, private) {
			t.Errorf("errors or log tell %q: %s", private, told)
		}
	}
	return e
}

// What happens to a connection says whether the message may be on its way.
func TestHTTPBrokenConnections(t *testing.T) {
	wait := func(c net.Conn) { io.Copy(io.Discard, c) } // until the client gives up
	for _, k := range kinds {
		for _, c := range []struct {
			name string
			then func(net.Conn)
		}{
			{"dropped after the request", func(net.Conn) {}},
			{"no answer", wait},
			{"not HTTP", func(c net.Conn) { io.WriteString(c, "220 mail.example ESMTP\r\n") }},
			{"dropped inside the header", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-") }},
			{"endless header", func(c net.Conn) {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 2*maxAnswerHeader)+"\r\n\r\n")
			}},
		} {
			t.Run(k.name+" "+c.name, func(t *testing.T) {
				p, logged := k.make(t, deaf(t, c.then), 150*time.Millisecond)
				_, err := p.Send(t.Context(), codeMessage())
				expectFailure(t, err, delivery.Ambiguous, "", logged)
			})
		}
	}
}

func TestHTTPUnreachable(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := "http://" + free.Addr().String()
	free.Close()
	silent := deaf(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	untrusted.StartTLS()
	defer untrusted.Close()
	for _, k := range kinds {
		for name, base := range map[string]string{
			"refused": refusing, "no TLS": "https://" + strings.TrimPrefix(silent, "http://"), "unknown certificate": untrusted.URL,
		} {
			t.Run(k.name+" "+name, func(t *testing.T) {
				p, logged := k.make(t, base, 150*time.Millisecond)
				_, err := p.Send(t.Context(), codeMessage())
				expectFailure(t, err, delivery.Transient, "", logged)
			})
		}
		t.Run(k.name+" cancelled before", func(t *testing.T) {
			p, logged := k.make(t, silent, 0)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := p.Send(ctx, codeMessage())
			expectFailure(t, err, delivery.Transient, "", logged)
		})
		t.Run(k.name+" name that has no host", func(t *testing.T) {
			p, logged := k.make(t, "https://sender.invalid", 0)
			noHost := func(context.Context, string, string) (net.Conn, error) { // the resolver's answer, without asking one
				return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "sender.invalid", IsNotFound: true}}
			}
			switch p := p.(type) {
			case *Vonage:
				p.transport.DialContext = noHost
			case *Webhook:
				p.transport.DialContext = noHost
			}
			_, err := p.Send(t.Context(), codeMessage())
			if e := expectFailure(t, err, delivery.Transient, "", logged); e.Reason != "the host's name could not be resolved" {
				t.Errorf("reason %q", e.Reason)
			}
		})
	}
}

// A message that the simulator took without an answer, or too late, is Ambiguous, and there; one that it dropped is Ambiguous too, for nobody can tell from
// here.
func TestHTTPAcceptedThenDropped(t *testing.T) {
	for _, k := range kinds {
		for _, c := range []struct {
			fault inbox.Fault
			there int // messages that the simulator took
		}{{inbox.Fault{AcceptThenDrop: true}, 1}, {inbox.Fault{Drop: true}, 0}, {inbox.Fault{Delay: time.Minute}, 1}} {
			t.Run(fmt.Sprintf("%s %v", k.name, c.fault), func(t *testing.T) {
				in, base := simulate(t, inbox.Config{})
				in.SetFaults(inbox.FaultRule{Provider: k.name, Fault: c.fault})
				p, logged := k.make(t, base, 300*time.Millisecond)
				_, err := p.Send(t.Context(), codeMessage())
				expectFailure(t, err, delivery.Ambiguous, "", logged)
				if c.there == 0 {
					if n := len(in.List(inbox.Filter{})); n != 0 {
						t.Errorf("%d messages in the inbox", n)
					}
					return
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if _, err := in.Wait(ctx, inbox.Filter{To: testNumber}); err != nil { // the slow one notices after us that nobody waits
					t.Error(err)
				}
			})
		}
	}
}

// Answers that carry nothing but an HTTP status.
func TestHTTPStatuses(t *testing.T) {
	in, base := simulate(t, inbox.Config{})
	for _, k := range kinds {
		p, logged := k.make(t, base, 0)
		for status, class := range map[int]delivery.Class{
			301: delivery.Configuration, 307: delivery.Configuration,
			401: delivery.Configuration, 402: delivery.Configuration, 403: delivery.Configuration, 404: delivery.Configuration, 405: delivery.Configuration,
			410: delivery.Configuration,
			400: delivery.Rejected, 413: delivery.Rejected, 418: delivery.Rejected, 422: delivery.Rejected, 499: delivery.Rejected,
			408: delivery.Transient, 425: delivery.Transient, 429: delivery.Transient, 503: delivery.Transient,
			500: delivery.Ambiguous, 502: delivery.Ambiguous, 504: delivery.Ambiguous, 599: delivery.Ambiguous,
		} {
			t.Run(fmt.Sprint(k.name, " ", status), func(t *testing.T) {
				in.SetFaults(inbox.FaultRule{Fault: inbox.Fault{Status: status, RetryAfter: 7 * time.Second}})
				_, err := p.Send(t.Context(), codeMessage())
				e := expectFailure(t, err, class, fmt.Sprint("HTTP ", status), logged)
				if (e.RetryAfter == 7*time.Second) != (class == delivery.Transient) {
					t.Errorf("retry after %v", e.RetryAfter)
				}
			})
		}
	}
}

func TestHTTPFollowsNoRedirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusPermanentRedirect))
	defer server.Close()
	for _, k := range kinds {
		p, logged := k.make(t, server.URL, 0)
		_, err := p.Send(t.Context(), codeMessage())
		expectFailure(t, err, delivery.Configuration, "HTTP 308", logged)
	}
}

// Neither acceptance nor refusal costs its connection, however much an answer says.
func TestHTTPKeepsConnections(t *testing.T) {
	var opened, requests atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
		io.WriteString(w, `{"message-count":"1","messages":[{"status":"0","message-id":"m-1"}]}`+strings.Repeat(" ", 4000))
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	for i, k := range kinds {
		p, _ := k.make(t, server.URL, 0)
		for j := range 10 {
			if _, err := p.Send(t.Context(), codeMessage()); (err == nil) != (j%2 == 0) {
				t.Fatal(k.name, err)
			}
		}
		if n := opened.Load(); n != int32(i)+1 {
			t.Errorf("%s: %d connections", k.name, n)
		}
	}
}

func TestHTTPDoesNotSendWhatIsAboutToExpire(t *testing.T) {
	in, base := simulate(t, inbox.Config{})
	for _, k := range kinds {
		p, logged := k.make(t, base, 0)
		m := codeMessage()
		for _, m.ExpiresAt = range []time.Time{{}, time.Now(), time.Now().Add(900 * time.Millisecond)} {
			_, err := p.Send(t.Context(), m)
			expectFailure(t, err, delivery.Rejected, "", logged)
		}
	}
	if n := len(in.List(inbox.Filter{})); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
}

func TestWithoutPrivate(t *testing.T) {
	m := &delivery.Message{To: "Ann@mail.example", Text: "Your code is 493817", Code: "493817"}
	for said, want := range map[string]string{
		"no way to Ann@mail.example":             "no way to …",
		"no way to ann@mail.example, sorry":      "no way to … sorry",
		"'To' +14155550100 (415-555-0100) wrong": "'To' +…) wrong",
		"said: Your code is 493817!":             "said: …!",
		"4 9 3 8 1 7":                            "…",
		"line\r\nbreak\xff":                      "line  break",
		strings.Repeat("x", 500):                 strings.Repeat("x", maxSaid) + "…",
	} {
		if got := withoutPrivate(said, m); got != want {
			t.Errorf("withoutPrivate(%q) = %q, want %q", said, got, want)
		}
	}
}

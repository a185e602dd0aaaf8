package sms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/delivery"
)

const (
	testAccount = "AC0123456789abcdef0123456789abcdef"
	testToken   = "fedcba9876543210fedcba9876543210"
	testSID     = "SM0123456789abcdef0123456789abcdef"
	testNumber  = "+14155550100"
	testText    = "Your code is 493817"
)

var testNow = time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)

// created is a Message resource as Twilio answers it, with HTTP status 201.
const created = `{"account_sid":"` + testAccount + `","api_version":"2010-04-01","body":"` + testText + `","date_created":"Sat, 21 Nov 2026 17:00:00 +0000",
"date_sent":null,"date_updated":"Sat, 21 Nov 2026 17:00:00 +0000","direction":"outbound-api","error_code":null,"error_message":null,
"from":"+15005550006","messaging_service_sid":null,"num_media":"0","num_segments":"1","price":null,"price_unit":"USD","sid":"` + testSID + `",
"status":"queued","subresource_uris":{"media":"/2010-04-01/Accounts/` + testAccount + `/Messages/` + testSID + `/Media.json"},"to":"` + testNumber + `",
"uri":"/2010-04-01/Accounts/` + testAccount + `/Messages/` + testSID + `.json"}`

func testMessage() *delivery.Message {
	return &delivery.Message{
		Reference: "c-1", Token: "AbC-_9", To: testNumber, Code: "493817", Text: testText, Locale: "cs", ExpiresAt: testNow.Add(5 * time.Minute),
	}
}

// newTestTwilio returns a provider for the server at base, and what it logs.
func newTestTwilio(t testing.TB, base string, change ...func(*TwilioConfig)) (*Twilio, *safeBuffer) {
	t.Helper()
	var logged safeBuffer
	c := TwilioConfig{
		AccountSID: testAccount, AuthToken: testToken, From: []string{"+15005550006"}, BaseURL: base,
		Logger: slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:    func() time.Time { return testNow },
	}
	for _, f := range change {
		f(&c)
	}
	tw, err := NewTwilio(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tw.Close)
	return tw, &logged
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// expectError checks the class and code of err, and that neither it, nor its cause, nor the log tells the address or the text.
func expectError(t *testing.T, err error, class delivery.Class, code string, logged *safeBuffer) *delivery.Error {
	t.Helper()
	e, ok := errors.AsType[*delivery.Error](err)
	if !ok {
		t.Fatalf("error %v (%T), want a *delivery.Error", err, err)
	}
	if e.Class != class || e.Code != code {
		t.Errorf("error %v, cause %v; want %v with code %q", e, e.Err, class, code)
	}
	if e.Reason == "" {
		t.Error("the error has no reason")
	}
	told := fmt.Sprintf("%v %v %s", e, e.Err, logged)
	for _, secret := range []string{testNumber, "4155550100", "555-0100", "493817", testText, testToken} {
		if strings.Contains(told, secret) {
			t.Errorf("errors or log tell %q: %s", secret, told)
		}
	}
	return e
}

func TestTwilioSendsTheForm(t *testing.T) {
	type seen struct {
		method, path, host, user, password, kind string
		form                                     url.Values
	}
	var got seen
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		got = seen{r.Method, r.URL.Path, r.Host, user, password, r.Header.Get("Content-Type"), r.PostForm}
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, created)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")

	for _, c := range []struct {
		name           string
		change         func(*TwilioConfig)
		user, password string
		form           url.Values
	}{
		{
			"a number and an auth token", func(*TwilioConfig) {}, testAccount, testToken,
			url.Values{"To": {testNumber}, "Body": {testText}, "From": {"+15005550006"}, "ValidityPeriod": {"300"}},
		},
		{
			"a service, an API key and a callback", func(c *TwilioConfig) {
				c.From, c.MessagingServiceSID = nil, "MG0123456789abcdef0123456789abcdef"
				c.AuthToken, c.APIKey, c.APISecret = "", "SK0123456789abcdef0123456789abcdef", "s3cret"
				c.Callback = "https://otpost.example/callbacks/twilio/"
				c.BaseURL += "/"
			}, "SK0123456789abcdef0123456789abcdef", "s3cret",
			url.Values{
				"To": {testNumber}, "Body": {testText}, "MessagingServiceSid": {"MG0123456789abcdef0123456789abcdef"},
				"StatusCallback": {"https://otpost.example/callbacks/twilio/AbC-_9"}, "ValidityPeriod": {"300"},
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Neither may reach the request: they would move it to another host.
			t.Setenv("TWILIO_EDGE", "frankfurt")
			t.Setenv("TWILIO_REGION", "de1")
			tw, logged := newTestTwilio(t, server.URL+"/twilio", c.change)
			accepted, err := tw.Send(t.Context(), testMessage())
			if err != nil || accepted.Reference != testSID {
				t.Fatalf("Send = %+v, %v", accepted, err)
			}
			want := seen{
				"POST", "/twilio/2010-04-01/Accounts/" + testAccount + "/Messages.json", host, c.user, c.password,
				"application/x-www-form-urlencoded", c.form,
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("the server saw\n%+v, want\n%+v", got, want)
			}
			if logged.String() != "" {
				t.Errorf("a good send logs %s", logged)
			}
		})
	}
}

func TestTwilioGoesToTwilioByDefault(t *testing.T) {
	tw, logged := newTestTwilio(t, "")
	var asked string
	tw.transport.DialContext = func(_ context.Context, _, address string) (net.Conn, error) {
		asked = address
		return nil, errors.New("no way out of the test")
	}
	_, err := tw.Send(t.Context(), testMessage())
	expectError(t, err, delivery.Transient, "", logged)
	if asked != "api.twilio.com:443" {
		t.Errorf("dialled %s", asked)
	}
}

func TestTwilioValidityPeriod(t *testing.T) {
	for left, want := range map[time.Duration]int{
		time.Second:             1,
		1001 * time.Millisecond: 2,
		5 * time.Minute:         300,
		10 * time.Hour:          36000,
		11 * time.Hour:          36000,
		1<<63 - 1:               36000,
	} {
		if got := validityPeriod(left); got != want {
			t.Errorf("validityPeriod(%v) = %d, want %d", left, got, want)
		}
	}
}

func TestTwilioDoesNotSendWhatIsAboutToExpire(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	tw, logged := newTestTwilio(t, server.URL)
	m := testMessage()
	for _, m.ExpiresAt = range []time.Time{{}, testNow, testNow.Add(999 * time.Millisecond)} {
		_, err := tw.Send(t.Context(), m)
		expectError(t, err, delivery.Rejected, "", logged)
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestTwilioClasses(t *testing.T) {
	for _, c := range []struct {
		status, code int
		class        delivery.Class
	}{
		{400, 21211, delivery.Permanent},
		{400, 21217, delivery.Permanent},
		{400, 21614, delivery.Permanent},
		{400, 21635, delivery.Permanent},
		{400, 30005, delivery.Permanent},
		{400, 30006, delivery.Permanent},
		{400, 63024, delivery.Permanent},
		{400, 21214, delivery.Rejected},
		{403, 21408, delivery.Rejected},
		{400, 21610, delivery.Rejected},
		{400, 21612, delivery.Rejected},
		{400, 21617, delivery.Rejected},
		{400, 30003, delivery.Rejected},
		{400, 30007, delivery.Rejected},
		{400, 30034, delivery.Rejected},
		{400, 21212, delivery.Configuration},
		{400, 21219, delivery.Configuration},
		{400, 21603, delivery.Configuration},
		{400, 21606, delivery.Configuration},
		{400, 21608, delivery.Configuration},
		{401, 20003, delivery.Configuration},
		{404, 20404, delivery.Configuration},
		{400, 30002, delivery.Configuration},
		{429, 20429, delivery.Transient},
		{429, 21611, delivery.Transient},
		{503, 20503, delivery.Transient},
		{500, 20500, delivery.Ambiguous},
		// Codes that the table lacks.
		{400, 29999, delivery.Rejected},
		{401, 29999, delivery.Configuration},
		{403, 29999, delivery.Configuration},
		{404, 29999, delivery.Configuration},
		{429, 29999, delivery.Transient},
		{500, 29999, delivery.Ambiguous},
		{502, 29999, delivery.Ambiguous},
		{503, 29999, delivery.Transient},
	} {
		t.Run(fmt.Sprintf("%d %d", c.status, c.code), func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(c.status)
				fmt.Fprintf(w, `{"code":%d,"message":"The 'To' number %s (415-555-0100) and %s are wrong.","more_info":"https://www.twilio.com/docs/errors/%d","status":%d}`,
					c.code, testNumber, testText, c.code, c.status)
			}))
			defer server.Close()
			tw, logged := newTestTwilio(t, server.URL)
			for range 2 {
				_, err := tw.Send(t.Context(), testMessage())
				e := expectError(t, err, c.class, fmt.Sprint(c.code), logged)
				if wait := 7 * time.Second; (e.RetryAfter == wait) != (c.class == delivery.Transient) {
					t.Errorf("retry after %v", e.RetryAfter)
				}
			}
			if lines := strings.Count(logged.String(), "\n"); lines > 1 || (lines == 1) != (c.code == 29999) {
				t.Errorf("logged %d lines: %s", lines, logged)
			}
		})
	}
}

func TestTwilioAnswersWithoutACode(t *testing.T) {
	page := "<html>" + testText + testNumber + "</html>"
	for _, c := range []struct {
		name, body string
		status     int
		class      delivery.Class
		code       string
	}{
		{"page with 400", page, 400, delivery.Rejected, "HTTP 400"},
		{"page with 401", page, 401, delivery.Configuration, "HTTP 401"},
		{"page with 402", page, 402, delivery.Configuration, "HTTP 402"},
		{"page with 403", page, 403, delivery.Configuration, "HTTP 403"},
		{"page with 404", page, 404, delivery.Configuration, "HTTP 404"},
		{"page with 408", page, 408, delivery.Transient, "HTTP 408"},
		{"page with 429", page, 429, delivery.Transient, "HTTP 429"},
		{"page with 500", page, 500, delivery.Ambiguous, "HTTP 500"},
		{"page with 502", page, 502, delivery.Ambiguous, "HTTP 502"},
		{"page with 503", page, 503, delivery.Transient, "HTTP 503"},
		{"nothing with 503", "", 503, delivery.Transient, "HTTP 503"},
		{"page with 200", page, 200, delivery.Ambiguous, ""},
		{"nothing with 201", "", 201, delivery.Ambiguous, ""},
		{"message without sid", `{"status":"queued"}`, 201, delivery.Ambiguous, ""},
		{"message with empty sid", `{"sid":"","status":"queued"}`, 201, delivery.Ambiguous, ""},
		{"message cut short", created[:200], 201, delivery.Ambiguous, ""},
		{"endless message", `{"sid":"` + strings.Repeat("S", maxTwilioBody) + `"}`, 201, delivery.Ambiguous, ""},
		{"endless refusal", strings.Repeat("x", maxTwilioBody+1), 400, delivery.Rejected, "HTTP 400"},
		{"message that failed at once", `{"sid":"` + testSID + `","status":"failed","error_code":30006}`, 201, delivery.Permanent, "30006"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			}))
			defer server.Close()
			tw, logged := newTestTwilio(t, server.URL)
			_, err := tw.Send(t.Context(), testMessage())
			expectError(t, err, c.class, c.code, logged)
		})
	}
}

func TestTwilioFollowsNoRedirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	for _, status := range []int{302, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, status))
		tw, logged := newTestTwilio(t, server.URL)
		_, err := tw.Send(t.Context(), testMessage())
		expectError(t, err, delivery.Configuration, fmt.Sprintf("HTTP %d", status), logged)
		server.Close()
	}
}

// deaf is a listener that accepts connections; after reads the request, it does what then says.
func deaf(t *testing.T, then func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				buffer := make([]byte, 64<<10)
				if _, err := c.Read(buffer); err == nil {
					then(c)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return "http://" + l.Addr().String()
}

func TestTwilioBrokenConnections(t *testing.T) {
	wait := func(c net.Conn) { io.Copy(io.Discard, c) } // until the client gives up
	for _, c := range []struct {
		name string
		then func(net.Conn)
	}{
		{"dropped after the request", func(net.Conn) {}},
		{"no answer", wait},
		{"not HTTP", func(c net.Conn) { io.WriteString(c, "220 mail.example ESMTP\r\n") }},
		{"dropped inside the header", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-") }},
		{"dropped inside the body", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 2000\r\n\r\n"+created)
		}},
		{"stalled inside the body", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 2000\r\n\r\n"+created)
			wait(c)
		}},
		{"endless header", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 201 Created\r\nX: "+strings.Repeat("x", 2*maxTwilioHeader)+"\r\n\r\n")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tw, logged := newTestTwilio(t, deaf(t, c.then), func(c *TwilioConfig) { c.Timeout = 200 * time.Millisecond })
			_, err := tw.Send(t.Context(), testMessage())
			expectError(t, err, delivery.Ambiguous, "", logged)
		})
	}
}

func TestTwilioUnreachable(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := free.Addr().String()
	free.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	untrusted.StartTLS()
	defer untrusted.Close()
	silent := deaf(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	short := func(c *TwilioConfig) { c.Timeout = 200 * time.Millisecond }

	for name, base := range map[string]string{
		"refused":               "http://" + refusing,
		"unknown certificate":   untrusted.URL,
		"no TLS":                "https://" + strings.TrimPrefix(silent, "http://"),
		"name that has no host": "http://twilio.invalid",
	} {
		t.Run(name, func(t *testing.T) {
			tw, logged := newTestTwilio(t, base, short)
			if strings.HasSuffix(base, ".invalid") { // the resolver's answer, without asking one
				tw.transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
					return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "twilio.invalid", IsNotFound: true}}
				}
			}
			_, err := tw.Send(t.Context(), testMessage())
			expectError(t, err, delivery.Transient, "", logged)
		})
	}
	t.Run("cancelled before", func(t *testing.T) {
		tw, logged := newTestTwilio(t, silent)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := tw.Send(ctx, testMessage())
		expectError(t, err, delivery.Transient, "", logged)
	})
}

// A send that waits for a connection until its deadline has sent nothing.
func TestTwilioBoundsConnections(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, created)
	}))
	defer server.Close()
	tw, logged := newTestTwilio(t, server.URL, func(c *TwilioConfig) { c.Connections = 1 })
	first := make(chan error, 1)
	go func() {
		_, err := tw.Send(context.Background(), testMessage())
		first <- err
	}()
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := tw.Send(ctx, testMessage())
	expectError(t, err, delivery.Transient, "", logged)
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// The caller's context ends a send that Timeout would let go on.
func TestTwilioHonoursTheCallersDeadline(t *testing.T) {
	received := make(chan struct{}, 1)
	base := deaf(t, func(c net.Conn) { received <- struct{}{}; io.Copy(io.Discard, c) })
	tw, logged := newTestTwilio(t, base, func(c *TwilioConfig) { c.Timeout = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-received; cancel() }()
	_, err := tw.Send(ctx, testMessage())
	if e := expectError(t, err, delivery.Ambiguous, "", logged); !errors.Is(e, context.Canceled) {
		t.Errorf("cause %v", e.Err)
	}
}

// A server that closes idle connections costs a new connection, not a message; and once it is gone, nothing was sent.
func TestTwilioStaleConnection(t *testing.T) {
	var requests atomic.Int32
	closed := make(chan struct{}, 8)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, created)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.Start()
	tw, logged := newTestTwilio(t, server.URL)
	if _, err := tw.Send(t.Context(), testMessage()); err != nil {
		t.Fatal(err)
	}
	server.Close()
	<-closed
	for {
		// The client may find the connection closed a moment later: until then it cannot know that the request went nowhere.
		_, err := tw.Send(t.Context(), testMessage())
		e, ok := errors.AsType[*delivery.Error](err)
		if !ok {
			t.Fatalf("a closed server took a message: %v", err)
		}
		if e.Class == delivery.Transient {
			expectError(t, err, delivery.Transient, "", logged)
			break
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("the server saw %d requests", n)
	}
}

// Refusals must not cost their connection: a burst of wrong numbers would turn into a burst of handshakes.
func TestTwilioKeepsConnections(t *testing.T) {
	var opened atomic.Int32
	status := http.StatusCreated
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		if status == http.StatusCreated {
			io.WriteString(w, created)
		} else {
			fmt.Fprintf(w, `{"code":21211,"message":"wrong","status":400}%s`, strings.Repeat(" ", 2000))
		}
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	tw, _ := newTestTwilio(t, server.URL)
	for i := range 20 {
		if status = http.StatusCreated; i%2 == 0 {
			status = http.StatusBadRequest
		}
		if _, err := tw.Send(t.Context(), testMessage()); (err == nil) != (i%2 == 1) {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections for 20 sends one after the other", n)
	}
}

func TestTwilioRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                              0,
		"30":                            30 * time.Second,
		"-5":                            0,
		"999999999":                     time.Hour,
		"soon":                          0,
		"Sat, 21 Nov 2026 17:01:00 GMT": time.Minute,
		"Sat, 21 Nov 2026 16:00:00 GMT": 0,
	} {
		if got := retryAfter(header, testNow); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", header, got, want)
		}
	}
}

func TestNewTwilioNamesTheWrongField(t *testing.T) {
	good := TwilioConfig{AccountSID: testAccount, AuthToken: testToken, From: []string{"+15005550006"}}
	for _, c := range []struct {
		field  string
		change func(*TwilioConfig)
	}{
		{"AccountSID", func(c *TwilioConfig) { c.AccountSID = "" }},
		{"AccountSID", func(c *TwilioConfig) { c.AccountSID = "SK" + testAccount[2:] }},
		{"AccountSID", func(c *TwilioConfig) { c.AccountSID = testAccount + "/../x" }},
		{"AuthToken", func(c *TwilioConfig) { c.AuthToken = "" }},
		{"AuthToken", func(c *TwilioConfig) { c.AuthToken = "secret\n" }},
		{"AuthToken", func(c *TwilioConfig) { c.APIKey = "SK0123456789abcdef0123456789abcdef" }},
		{"APIKey", func(c *TwilioConfig) { c.AuthToken, c.APISecret = "", "secret" }},
		{"APISecret", func(c *TwilioConfig) { c.AuthToken, c.APIKey = "", "SK0123456789abcdef0123456789abcdef" }},
		{"Name", func(c *TwilioConfig) { c.Name = "Twilio EU" }},
		{"From", func(c *TwilioConfig) { c.From = nil }},
		{"From", func(c *TwilioConfig) { c.From = []string{"+15005550006", "+0123"} }},
		{"From", func(c *TwilioConfig) { c.From = []string{"much too long a name"} }},
		{"From", func(c *TwilioConfig) { c.From = []string{"Shop", "12345", "Shop"} }},
		{"ContentSID", func(c *TwilioConfig) { c.ContentSID = "HX0123456789abcdef0123456789abcdef" }},
		{"MessagingServiceSID", func(c *TwilioConfig) { c.MessagingServiceSID = "MG0123456789abcdef0123456789abcdef" }},
		{"MessagingServiceSID", func(c *TwilioConfig) { c.From, c.MessagingServiceSID = nil, "AC0123" }},
		{"BaseURL", func(c *TwilioConfig) { c.BaseURL = "127.0.0.1:8025/twilio" }},
		{"BaseURL", func(c *TwilioConfig) { c.BaseURL = "ftp://127.0.0.1" }},
		{"BaseURL", func(c *TwilioConfig) { c.BaseURL = "https://user:secret@twilio.example" }},
		{"Callback", func(c *TwilioConfig) { c.Callback = "/callbacks/twilio" }},
		{"Callback", func(c *TwilioConfig) { c.Callback = "https://otpost.example/callbacks/twilio?to" }},
		{"Timeout", func(c *TwilioConfig) { c.Timeout = -1 }},
		{"Connections", func(c *TwilioConfig) { c.Connections = -1 }},
	} {
		config := good
		c.change(&config)
		_, err := NewTwilio(config)
		if err == nil || !strings.Contains(err.Error(), c.field) || strings.Contains(err.Error(), "secret") {
			t.Errorf("error %v, want one that names %s", err, c.field)
		}
	}
	config := good
	config.Name, config.From = "twilio-eu", []string{"+15005550006", "12345", "Shop & Co"}
	if tw, err := NewTwilio(config); err != nil || tw.Name() != "twilio-eu" {
		t.Errorf("a pool of all kinds of senders: %v", err)
	}
	if tw, err := NewTwilio(good); err != nil || tw.Name() != "twilio" {
		t.Errorf("the default: %v", err)
	}
}

func TestTwilioWarnsOfClearText(t *testing.T) {
	for base, warned := range map[string]bool{
		"http://127.0.0.1:8025/twilio": false,
		"http://[::1]:8025":            false,
		"http://localhost:8025":        false,
		"https://proxy.example":        false,
		"http://inbox:8025":            true,
	} {
		if _, logged := newTestTwilio(t, base); (logged.String() != "") != warned {
			t.Errorf("%s: logged %q", base, logged)
		}
	}
}

// BenchmarkTwilioSend measures sends over loopback, many at a time; its numbers hold the server's part as well, which is about a third.
func BenchmarkTwilioSend(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, created)
	}))
	defer server.Close()
	tw, _ := newTestTwilio(b, server.URL)
	b.ReportAllocs()
	b.SetParallelism(16)
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.RunParallel(func(p *testing.PB) {
		m := testMessage()
		for p.Next() {
			if _, err := tw.Send(context.Background(), m); err != nil {
				b.Error(err)
				return
			}
		}
	})
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N)/1000, "cpu-µs/op")
}

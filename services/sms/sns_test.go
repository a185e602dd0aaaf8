package sms

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/inbox"
)

const (
	snsKeyID  = "AKIAABCDEFGHIJKLMNOP"
	snsSecret = "a+secret/of/forty/characters/0123456789a"
	snsNumber = "+14155550123"
	snsText   = "Your code is 493817"
)

var snsNow = time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)

func snsConfig(base string) SNSConfig {
	return SNSConfig{Region: "eu-central-1", AccessKeyID: snsKeyID, SecretAccessKey: snsSecret, From: "Shop", BaseURL: base, Now: func() time.Time { return snsNow }}
}

func snsMessage() *delivery.Message {
	return &delivery.Message{Reference: "r-1", To: snsNumber, Text: snsText, Code: "493817", Country: "US", ExpiresAt: snsNow.Add(5 * time.Minute)}
}

// newTestSNS returns a provider, what it logs, and closes it with the test.
func newTestSNS(t *testing.T, c SNSConfig) (*SNS, *bytes.Buffer) {
	t.Helper()
	logged := new(bytes.Buffer)
	c.Logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := NewSNS(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, logged
}

// snsSimulator serves a simulated SNS and keeps the forms that came.
func snsSimulator(t *testing.T) (in *inbox.Inbox, base string, forms func() []url.Values) {
	t.Helper()
	in = inbox.New(inbox.Config{SNSAccessKeyID: snsKeyID, SNSSecretAccessKey: snsSecret})
	handler := in.Handler()
	var mu sync.Mutex
	var all []url.Values
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		mu.Lock()
		all = append(all, form)
		mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		in.Close()
		server.CloseClientConnections()
		server.Close()
	})
	return in, server.URL + "/sns", func() []url.Values {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// expectSNSError checks what err says, and that neither it nor its cause nor the log gives the message away.
func expectSNSError(t *testing.T, name string, err error, class delivery.Class, code string, logged *bytes.Buffer) *delivery.Error {
	t.Helper()
	e, ok := err.(*delivery.Error)
	if !ok || e.Class != class || e.Code != code || e.Reason == "" {
		t.Errorf("%s: %v, want %s with %q", name, err, class, code)
		return &delivery.Error{}
	}
	for _, said := range []string{err.Error(), fmt.Sprint(e.Err), logged.String()} {
		for _, secret := range []string{snsNumber, "4155550123", "493817", snsText, snsSecret, snsKeyID} {
			if strings.Contains(said, secret) {
				t.Errorf("%s: %q gives %q away", name, said, secret)
			}
		}
	}
	return e
}

func TestNewSNS(t *testing.T) {
	for field, change := range map[string]func(*SNSConfig){
		"":                func(*SNSConfig) {},
		"Name":            func(c *SNSConfig) { c.Name = "SNS" },
		"Region":          func(c *SNSConfig) { c.Region = "evil.example/" },
		"AccessKeyID":     func(c *SNSConfig) { c.AccessKeyID = "" },
		"SecretAccessKey": func(c *SNSConfig) { c.SecretAccessKey = "short" },
		"From":            func(c *SNSConfig) { c.From = "My Shop" },
		"MaxPrice":        func(c *SNSConfig) { c.MaxPrice = -1 },
		"BaseURL":         func(c *SNSConfig) { c.BaseURL = "sns.example" },
		"Timeout":         func(c *SNSConfig) { c.Timeout = -1 },
		"Connections":     func(c *SNSConfig) { c.Connections = -1 },
	} {
		c := snsConfig("https://sns.example")
		change(&c)
		s, err := NewSNS(c)
		if (err == nil) != (field == "") || err != nil && (!strings.HasPrefix(err.Error(), "sns: "+field+" ") || strings.Contains(err.Error(), snsSecret)) {
			t.Errorf("%q: %v", field, err)
		}
		if err == nil && s.Name() != "sns" {
			t.Errorf("name %q", s.Name())
		}
	}
	for _, region := range []string{"us-east-1", "ap-southeast-2", "us-gov-west-1", "me-central-1"} {
		c := snsConfig("")
		if c.Region = region; c.Region != "" {
			if _, err := NewSNS(c); err != nil {
				t.Errorf("%s: %v", region, err)
			}
		}
	}
}

func TestSNSSends(t *testing.T) {
	in, base, forms := snsSimulator(t)
	for name, c := range map[string]struct {
		change   func(*SNSConfig, *delivery.Message)
		from     string
		provider string
		want     map[string]string // attributes
	}{
		"a name": {
			func(*SNSConfig, *delivery.Message) {}, "Shop", "sns",
			map[string]string{"AWS.SNS.SMS.SenderID": "Shop"},
		},
		"the app's sender goes first": {
			func(_ *SNSConfig, m *delivery.Message) { m.Sender = "+15005550006" }, "+15005550006", "sns",
			map[string]string{"AWS.MM.SMS.OriginationNumber": "+15005550006"},
		},
		"none, a price, under a name of its own": {
			func(c *SNSConfig, _ *delivery.Message) {
				c.From, c.MaxPrice, c.Name, c.BaseURL = "", 0.075, "aws-eu", strings.Replace(base, "/sns", "/at/aws-eu/sns", 1)
			}, "NOTICE", "aws-eu",
			map[string]string{"AWS.SNS.SMS.MaxPrice": "0.075"},
		},
	} {
		in.Clear()
		config, m := snsConfig(base), snsMessage()
		c.change(&config, m)
		s, logged := newTestSNS(t, config)
		accepted, err := s.Send(t.Context(), m)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := in.List(inbox.Filter{To: snsNumber})
		if len(got) != 1 || got[0].Text != snsText || got[0].From != c.from || got[0].Provider != c.provider || got[0].Reference != accepted.Reference ||
			accepted.Reference == "" || s.Name() != c.provider {
			t.Errorf("%s: inbox: %+v, accepted %+v", name, got, accepted)
		}
		all := forms()
		attributes := map[string]string{}
		for n := 1; ; n++ {
			prefix := fmt.Sprintf("MessageAttributes.entry.%d.", n)
			if !all[len(all)-1].Has(prefix + "Name") {
				break
			}
			attributes[all[len(all)-1].Get(prefix+"Name")] = all[len(all)-1].Get(prefix + "Value.StringValue")
		}
		c.want["AWS.SNS.SMS.SMSType"] = "Transactional"
		if !maps.Equal(attributes, c.want) {
			t.Errorf("%s: attributes %v, want %v", name, attributes, c.want)
		}
		if logged.Len() != 0 {
			t.Errorf("%s: logged %s", name, logged)
		}
	}
}

// TestSNSClasses walks the whole table, and what is not in it, over HTTP.
func TestSNSClasses(t *testing.T) {
	in, base, forms := snsSimulator(t)
	type answer struct {
		status int
		code   string
	}
	want := map[answer]delivery.Class{
		// Codes that the table lacks are judged by their status.
		{400, "Strange"}: delivery.Rejected, {401, "Strange"}: delivery.Configuration, {403, "Strange"}: delivery.Configuration,
		{404, "Strange"}: delivery.Configuration, {429, "Strange"}: delivery.Transient, {500, "Strange"}: delivery.Ambiguous,
		{502, "Strange"}: delivery.Ambiguous, {503, "Strange"}: delivery.Transient,
		// What matters most, apart from the table that the rest is taken from.
		{400, "InvalidParameter"}: delivery.Rejected, {403, "AuthorizationError"}: delivery.Configuration, {400, "Throttling"}: delivery.Transient,
		{500, "InternalError"}: delivery.Ambiguous, {400, "KMSAccessDenied"}: delivery.Configuration, {400, "OptedOut"}: delivery.Rejected,
	}
	for code, v := range snsCodes {
		want[answer{418, code}] = v.class
	}
	s, logged := newTestSNS(t, snsConfig(base))
	for a, class := range want {
		name := fmt.Sprint(a)
		in.SetFaults(inbox.FaultRule{Fault: inbox.Fault{
			Status: a.status, Code: a.code, Message: "It is wrong: " + snsNumber + " (415-555-0123), " + snsText + ".", RetryAfter: 7 * time.Second,
		}})
		_, err := s.Send(t.Context(), snsMessage())
		e := expectSNSError(t, name, err, class, a.code, logged)
		if wait := 7 * time.Second; (e.RetryAfter == wait) != (class == delivery.Transient) {
			t.Errorf("%s: retry after %v", name, e.RetryAfter)
		}
	}
	if n := len(forms()); n != len(want) {
		t.Errorf("%d requests for %d messages: something was sent again", n, len(want))
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 || !strings.Contains(logged.String(), "code=Strange") {
		t.Errorf("logged %d lines, want one of the strange code: %s", n, logged)
	}
	if n := len(in.List(inbox.Filter{})); n != 0 {
		t.Errorf("%d messages in the inbox", n)
	}
}

func TestSNSSaysWhatWasRefused(t *testing.T) {
	in, base, forms := snsSimulator(t)
	s, logged := newTestSNS(t, snsConfig(base))
	for said, reason := range map[string]string{
		"Invalid parameter: PhoneNumber Reason: " + snsNumber + " is not valid to publish to": "the number cannot be reached from the account's region",
		"Invalid parameter: PhoneNumber Reason: " + snsNumber + " is opted out":               "recipient opted out",
		"Invalid parameter: AWS.SNS.SMS.SenderID Reason: Shop is not valid":                   "the sender is refused",
		"Invalid parameter: Message too long":                                                 "message text refused",
		"Something else":                                                                      "message refused",
	} {
		in.SetFaults(inbox.FaultRule{Fault: inbox.Fault{Code: "InvalidParameter", Message: said}})
		_, err := s.Send(t.Context(), snsMessage())
		if e := expectSNSError(t, said, err, delivery.Rejected, "InvalidParameter", logged); e.Reason != reason {
			t.Errorf("%s: %q, want %q", said, e.Reason, reason)
		}
	}

	in.ClearFaults()
	sent := len(forms())
	for name, change := range map[string]func(*delivery.Message){
		"expired":         func(m *delivery.Message) { m.ExpiresAt = snsNow },
		"about to expire": func(m *delivery.Message) { m.ExpiresAt = snsNow.Add(999 * time.Millisecond) },
		"no such sender":  func(m *delivery.Message) { m.Sender = "My Shop" },
	} {
		m := snsMessage()
		change(m)
		_, err := s.Send(t.Context(), m)
		expectSNSError(t, name, err, delivery.Rejected, "", logged)
	}
	if n := len(forms()) - sent; n != 0 {
		t.Errorf("%d requests that should not have been made", n)
	}
}

func TestSNSCredentialsAreRefused(t *testing.T) {
	_, base, _ := snsSimulator(t)
	for code, change := range map[string]func(*SNSConfig){
		"InvalidClientTokenId":  func(c *SNSConfig) { c.AccessKeyID = "AKIAXXXXXXXXXXXXXXXX" },
		"SignatureDoesNotMatch": func(c *SNSConfig) { c.SecretAccessKey = "b" + snsSecret[1:] },
	} {
		c := snsConfig(base)
		change(&c)
		s, logged := newTestSNS(t, c)
		_, err := s.Send(t.Context(), snsMessage())
		expectSNSError(t, code, err, delivery.Configuration, code, logged)
	}
}

func TestSNSWithoutAnAnswer(t *testing.T) {
	in, base, forms := snsSimulator(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		base   string
		ctx    context.Context
		fault  inbox.Fault
		class  delivery.Class
		reason string
		stored int
	}{
		"dropped":            {base, t.Context(), inbox.Fault{Drop: true}, delivery.Ambiguous, "the connection broke before an answer came", 0},
		"taken, and dropped": {base, t.Context(), inbox.Fault{AcceptThenDrop: true}, delivery.Ambiguous, "the connection broke before an answer came", 1},
		"late":               {base, t.Context(), inbox.Fault{Delay: time.Minute}, delivery.Ambiguous, "no answer in time", 0},
		"nobody there":       {"http://" + closed.Addr().String(), t.Context(), inbox.Fault{}, delivery.Transient, "could not connect", 0},
		"ended before":       {base, over, inbox.Fault{}, delivery.Transient, "could not connect", 0},
	} {
		in.Clear()
		in.SetFaults(inbox.FaultRule{Fault: c.fault})
		before := len(forms())
		config := snsConfig(c.base)
		config.Timeout = 5 * time.Second
		if c.fault.Delay > 0 {
			config.Timeout = 300 * time.Millisecond
		}
		s, logged := newTestSNS(t, config)
		logged.Reset() // that a base URL is in clear
		_, err := s.Send(c.ctx, snsMessage())
		if e := expectSNSError(t, name, err, c.class, "", logged); e.Reason != c.reason {
			t.Errorf("%s: %q, want %q", name, e.Reason, c.reason)
		}
		want := 1
		if c.class == delivery.Transient {
			want = 0
		}
		if got := len(forms()) - before; got != want {
			t.Errorf("%s: %d requests, want %d", name, got, want)
		}
		if c.fault.AcceptThenDrop && len(in.List(inbox.Filter{})) != c.stored {
			t.Errorf("%s: the message is not in the inbox", name)
		}
	}
}

func TestSNSAnswersThatCannotBeRead(t *testing.T) {
	page := "<html>" + snsText + snsNumber + "</html>"
	for _, c := range []struct {
		name, body string
		status     int
		class      delivery.Class
		code       string
	}{
		{"page with 200", page, 200, delivery.Ambiguous, ""},
		{"nothing with 200", "", 200, delivery.Ambiguous, ""},
		{"no id", "<PublishResponse><PublishResult></PublishResult></PublishResponse>", 200, delivery.Ambiguous, ""},
		{"cut short", "<PublishResponse><PublishResult><MessageId>94f20ce6", 200, delivery.Ambiguous, ""},
		{"endless", "<PublishResponse><!--" + strings.Repeat("x", maxAnswerBody) + "-->", 200, delivery.Ambiguous, ""},
		{"endless refusal", strings.Repeat("x", maxAnswerBody+1), 400, delivery.Rejected, "HTTP 400"},
		{"page with 400", page, 400, delivery.Rejected, "HTTP 400"},
		{"page with 403", page, 403, delivery.Configuration, "HTTP 403"},
		{"page with 404", page, 404, delivery.Configuration, "HTTP 404"},
		{"page with 429", page, 429, delivery.Transient, "HTTP 429"},
		{"page with 502", page, 502, delivery.Ambiguous, "HTTP 502"},
		{"nothing with 503", "", 503, delivery.Transient, "HTTP 503"},
		{"JSON with 500", `{"code":"InternalError"}`, 500, delivery.Ambiguous, "HTTP 500"},
		{"elsewhere", "", 307, delivery.Configuration, "HTTP 307"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				t.Error("a redirect was followed")
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		}))
		s, logged := newTestSNS(t, snsConfig(server.URL))
		_, err := s.Send(t.Context(), snsMessage())
		expectSNSError(t, c.name, err, c.class, c.code, logged)
		s.Close()
		server.Close()
	}
}

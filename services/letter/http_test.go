package letter

import (
	"bytes"
	"context"
	"errors"
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
)

const testToken = "t0ken.of-the_print~service="

func testHTTP(t *testing.T, target string, change ...func(*HTTPConfig)) *HTTP {
	t.Helper()
	c := HTTPConfig{URL: target, Token: testToken, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return testIssued }}
	for _, f := range change {
		f(&c)
	}
	h, err := NewHTTP(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// answering returns the address of a print service that answers every letter so.
func answering(t *testing.T, status int, header http.Header, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for k, v := range header {
			w.Header()[k] = v
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestHTTPPosts(t *testing.T) {
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"id":"letter-17","state":"queued"}`)
	}))
	defer server.Close()
	m := testLetter()
	accepted, err := testHTTP(t, server.URL+"/v1/letters?account=7").Send(t.Context(), m)
	if err != nil || accepted.Reference != "letter-17" {
		t.Fatalf("%+v, %v", accepted, err)
	}
	if got.Method != http.MethodPost || got.RequestURI != "/v1/letters?account=7" || !bytes.Equal(body, m.Document) {
		t.Errorf("%s %s with %q", got.Method, got.RequestURI, body)
	}
	if got.ContentLength != int64(len(m.Document)) {
		t.Errorf("Content-Length %d", got.ContentLength)
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer " + testToken, "Content-Type": "application/pdf", "Idempotency-Key": testReference, "Accept": "application/json",
	} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
}

func TestHTTPStatuses(t *testing.T) {
	for status, class := range map[int]delivery.Class{
		301: delivery.Configuration, 307: delivery.Configuration,
		400: delivery.Permanent, 413: delivery.Permanent, 415: delivery.Permanent, 422: delivery.Permanent,
		401: delivery.Configuration, 402: delivery.Configuration, 403: delivery.Configuration, 404: delivery.Configuration, 405: delivery.Configuration,
		408: delivery.Transient, 409: delivery.Transient, 425: delivery.Transient, 429: delivery.Transient, 503: delivery.Transient,
		500: delivery.Ambiguous, 502: delivery.Ambiguous, 504: delivery.Ambiguous, 599: delivery.Ambiguous,
	} {
		base := answering(t, status, http.Header{"Retry-After": {"120"}}, `{"id":"x","error":"Jane Doe, code 1234 567 890, is unknown"}`)
		_, err := testHTTP(t, base).Send(t.Context(), testLetter())
		e := expectError(t, err, class)
		wait := time.Duration(0)
		if class == delivery.Transient {
			wait = 2 * time.Minute
		}
		if e.RetryAfter != wait || !strings.HasPrefix(e.Code, "HTTP ") {
			t.Errorf("%d: wait %v, code %q", status, e.RetryAfter, e.Code)
		}
	}
}

func TestHTTPAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		id     string // "" for an unreadable answer
	}{
		"created":           {201, `{"id":"a"}`, "a"},
		"more than an id":   {200, `{"id":"a","pages":1}`, "a"},
		"no content":        {204, ``, ""},
		"no id":             {200, `{}`, ""},
		"an empty id":       {200, `{"id":""}`, ""},
		"an id of a number": {200, `{"id":1234}`, ""},
		"not JSON":          {200, `<html>Jane Doe 1234 567 890</html>`, ""},
		"cut off":           {200, `{"id":"a`, ""},
		"two objects":       {200, `{"id":"a"}{"id":"b"}`, ""},
		"endless":           {200, `{"id":"a","x":"` + strings.Repeat("x", maxHTTPBody) + `"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			accepted, err := testHTTP(t, answering(t, c.status, nil, c.body)).Send(t.Context(), testLetter())
			if c.id != "" {
				if err != nil || accepted.Reference != c.id {
					t.Errorf("%+v, %v", accepted, err)
				}
				return
			}
			expectError(t, err, delivery.Ambiguous)
		})
	}
}

// TestHTTPFollowsNoRedirect: neither the letter nor the token goes where an answer points.
func TestHTTPFollowsNoRedirect(t *testing.T) {
	var reached atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer other.Close()
	base := answering(t, http.StatusTemporaryRedirect, http.Header{"Location": {other.URL}}, "")
	_, err := testHTTP(t, base).Send(t.Context(), testLetter())
	expectError(t, err, delivery.Configuration)
	if reached.Load() {
		t.Error("the redirect was followed")
	}
}

// TestHTTPBrokenConnections: before the service can have the letter it was certainly not sent, afterwards nobody knows.
func TestHTTPBrokenConnections(t *testing.T) {
	t.Run("nobody listens", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		_, err = testHTTP(t, "http://"+l.Addr().String()).Send(t.Context(), testLetter())
		expectError(t, err, delivery.Transient)
	})
	t.Run("no such host", func(t *testing.T) {
		_, err := testHTTP(t, "http://print.invalid/?key="+testToken).Send(t.Context(), testLetter())
		expectError(t, err, delivery.Transient)
	})
	t.Run("hung up on", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		}))
		defer server.Close()
		_, err := testHTTP(t, server.URL).Send(t.Context(), testLetter())
		expectError(t, err, delivery.Ambiguous)
	})
	silent := func(t *testing.T) (string, chan struct{}) {
		arrived, release := make(chan struct{}, 1), make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			arrived <- struct{}{}
			<-release
		}))
		t.Cleanup(func() { close(release); server.Close() })
		return server.URL, arrived
	}
	t.Run("no answer in time", func(t *testing.T) {
		base, _ := silent(t)
		_, err := testHTTP(t, base, func(c *HTTPConfig) { c.Timeout = 50 * time.Millisecond }).Send(t.Context(), testLetter())
		expectError(t, err, delivery.Ambiguous)
	})
	t.Run("given up", func(t *testing.T) {
		base, arrived := silent(t)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		_, err := testHTTP(t, base).Send(ctx, testLetter())
		expectError(t, err, delivery.Ambiguous)
	})
}

func TestHTTPRefusesMessages(t *testing.T) {
	var asked atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	defer server.Close()
	for _, change := range []func(*delivery.Message){
		func(m *delivery.Message) { m.ExpiresAt = testIssued },
		func(m *delivery.Message) { m.Document = nil },
		func(m *delivery.Message) { m.Reference = "a\r\nX-Forged: 1" },
	} {
		m := testLetter()
		change(m)
		_, err := testHTTP(t, server.URL).Send(t.Context(), m)
		expectError(t, err, delivery.Permanent)
	}
	if asked.Load() {
		t.Error("the service was asked")
	}
}

func TestNewHTTPRefuses(t *testing.T) {
	good := HTTPConfig{URL: "https://print.example/letters", Token: testToken}
	if _, err := NewHTTP(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*HTTPConfig){
		"no URL":               func(c *HTTPConfig) { c.URL = "" },
		"no host":              func(c *HTTPConfig) { c.URL = "https:///letters" },
		"another scheme":       func(c *HTTPConfig) { c.URL = "ftp://print.example" },
		"a user":               func(c *HTTPConfig) { c.URL = "https://me:pw@print.example" },
		"no token":             func(c *HTTPConfig) { c.Token = "" },
		"a line in the token":  func(c *HTTPConfig) { c.Token = testToken + "\n" },
		"a negative time-out":  func(c *HTTPConfig) { c.Timeout = -1 },
		"negative connections": func(c *HTTPConfig) { c.Connections = -1 },
	} {
		c := good
		change(&c)
		if _, err := NewHTTP(c); err == nil || strings.Contains(err.Error(), testToken) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestHTTPWarnsOfClearText(t *testing.T) {
	for target, warned := range map[string]bool{"http://print.example": true, "https://print.example": false, "http://127.0.0.1:1": false, "http://localhost": false} {
		var log bytes.Buffer
		if _, err := NewHTTP(HTTPConfig{URL: target, Token: testToken, Logger: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "clear text"); got != warned || strings.Contains(log.String(), testToken) {
			t.Errorf("%s: logged %q", target, &log)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-1": 0, "0": 0, "60": time.Minute, "99999999": maxRetryAfter,
		"Sat, 21 Nov 2026 17:05:00 GMT": 5 * time.Minute, "Sat, 21 Nov 2026 16:00:00 GMT": 0, "Sat, 21 Nov 2099 16:00:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(header, testIssued); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

// A DNS answer that cannot come names the host in its cause, and nothing of the URL's query.
func TestUnansweredHidesTheURL(t *testing.T) {
	_, err := testHTTP(t, "http://127.0.0.1:1/?key="+testToken).Send(t.Context(), testLetter())
	e := expectError(t, err, delivery.Transient)
	if e.Err == nil || errors.Is(e, context.Canceled) {
		t.Errorf("cause %v", e.Err)
	}
}

package inbox_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/otpost/otpost/pkg/inbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	accountSID = "AC00112233445566778899aabbccddeeff"
	authToken  = "0123456789abcdef0123456789abcdef"
)

// serve starts an inbox over HTTP and stops both with the test.
func serve(t *testing.T, cfg inbox.Config) (*inbox.Inbox, *httptest.Server) {
	t.Helper()
	cfg.TwilioAccountSID, cfg.TwilioAuthToken = accountSID, authToken
	in := inbox.New(cfg)
	server := httptest.NewServer(in.Handler())
	t.Cleanup(func() {
		in.Close()
		server.CloseClientConnections() // those of pages that stay open
		server.Close()
	})
	return in, server
}

// do sends a request with headers given as name, value, … and returns the answer with its body read.
func do(t *testing.T, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       10 * time.Second,
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(content)
}

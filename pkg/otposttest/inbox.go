package otposttest

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/inbox"
)

// A Mailbox is an inbox with its providers on loopback addresses.
type Mailbox struct {
	*inbox.Inbox
	URL        string // of the page and the API, "http://127.0.0.1:…"
	TwilioURL  string // in the place of https://api.twilio.com
	SMTP       string // host and port; takes any credentials, without TLS
	AccountSID string // of the simulated Twilio
	AuthToken  string
}

// Inbox starts an inbox that ends with the test.
func Inbox(t testing.TB) *Mailbox {
	t.Helper()
	in := inbox.New(inbox.Config{Logger: Logger(t).Logger})
	m := &Mailbox{Inbox: in}
	m.AccountSID, m.AuthToken = in.TwilioCredentials()

	web, mail := listen(t), listen(t)
	m.URL = "http://" + web.Addr().String()
	m.TwilioURL, m.SMTP = m.URL+"/twilio", mail.Addr().String()

	server := &http.Server{Handler: in.Handler(), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(web) // ends by Shutdown
	}()
	ctx, stop := context.WithCancel(context.Background())
	mailed := make(chan error, 1)
	go func() { mailed <- in.ServeSMTP(ctx, mail) }()

	t.Cleanup(func() {
		in.Close()
		closing, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := server.Shutdown(closing); err != nil {
			t.Errorf("stop the inbox: %v", err)
		}
		<-served
		stop()
		if err := <-mailed; err != nil {
			t.Errorf("stop the inbox's mail server: %v", err)
		}
	})
	return m
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

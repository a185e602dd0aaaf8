package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/otpost/otpost/pkg/inbox"
)

const (
	loopback = "127.0.0.1"
	// headerTimeout keeps a client that says nothing from holding a connection. There is no limit on writing: the inbox's live page stays open.
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	closeGrace    = 2 * time.Second // for requests in hand at Close
)

// startListeners takes the ports that this process serves itself and starts serving.
func (s *Sandbox) startListeners(ctx context.Context) (err error) {
	for _, l := range []struct {
		listener  *net.Listener
		name      string
		port, def int
	}{
		{&s.http, "HTTP", s.cfg.HTTPPort, DefaultHTTPPort},
		{&s.inboxHTTP, "the inbox", s.cfg.InboxPort, DefaultInboxPort},
		{&s.smtp, "SMTP", s.cfg.SMTPPort, DefaultSMTPPort},
		{&s.shopHTTP, "the shop", s.cfg.ShopPort, DefaultShopPort},
	} {
		if *l.listener, err = s.listen(ctx, l.name, s.preferred(l.port, l.def)); err != nil {
			return err
		}
	}
	s.inbox = inbox.New(inbox.Config{
		Logger: s.log, TwilioAccountSID: s.secrets.Twilio.AccountSID, TwilioAuthToken: s.secrets.Twilio.AuthToken,
		VonageKey: s.secrets.Vonage.Key, VonageSecret: s.secrets.Vonage.Secret, VonageSignatureSecret: s.secrets.Vonage.Signature,
		SMTPUser: s.secrets.SMTP.User, SMTPPassword: s.secrets.SMTP.Password,
	})
	s.HandleHTTP(nil)
	if s.cfg.OutsideGateway {
		if err := s.http.Close(); err != nil { // its address is kept for who will listen there
			return fmt.Errorf("sandbox: leave the HTTP edge's port: %w", err)
		}
	} else {
		s.serveHTTP("HTTP", s.http, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.handler.Load()).ServeHTTP(w, r) }))
	}
	s.serveHTTP("the inbox", s.inboxHTTP, s.inbox.Handler())
	s.onClose(func(context.Context) error { s.inbox.Close(); return nil }) // ends live pages, for which the server would wait
	s.serveSMTP()
	return s.writeProviders()
}

// HandleHTTP has the HTTP edge's address serve a gateway, beside the page at "/" that says what runs here; nil has it say that none runs. It may be called
// at any time.
func (s *Sandbox) HandleHTTP(gateway http.Handler) {
	h := s.welcome(gateway)
	s.handler.Store(&h)
}

// preferred is the port to try first; 0 means a free one.
func (s *Sandbox) preferred(port, fallback int) int {
	switch {
	case s.cfg.Free:
		return 0
	case port == 0:
		return fallback
	}
	return port
}

// listen takes a port of the loopback address, or a free one where that is taken. Close gives it back.
func (s *Sandbox) listen(ctx context.Context, name string, port int) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) && port != 0 {
		if l, err = config.Listen(ctx, "tcp", net.JoinHostPort(loopback, "0")); err == nil {
			s.hasMoved(name, port, portOf(l))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("sandbox: listen for %s: %w", name, err)
	}
	s.onClose(func(context.Context) error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) { // whoever served it has closed it
			return err
		}
		return nil
	})
	return l, nil
}

func (s *Sandbox) hasMoved(name string, from, to int) {
	s.moved = append(s.moved, fmt.Sprintf("port %d is taken, %s listens on %d instead", from, name, to))
}

// serveHTTP serves until Close.
func (s *Sandbox) serveHTTP(name string, l net.Listener, h http.Handler) {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // clients that break off are no news
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("serve %s: %w", name, err))
		}
	}()
	s.onClose(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, closeGrace)
		defer cancel()
		err := server.Shutdown(ctx)
		if err != nil {
			err = server.Close()
		}
		<-served
		return err
	})
}

// serveSMTP serves until Close.
func (s *Sandbox) serveSMTP() {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := s.inbox.ServeSMTP(ctx, s.smtp); err != nil {
			s.fail(fmt.Errorf("serve SMTP: %w", err))
		}
	}()
	s.onClose(func(context.Context) error {
		cancel()
		<-served
		return nil
	})
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

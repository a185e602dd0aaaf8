package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of an HTTP connection. They keep a slow or idle client from holding one for ever.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	closeTimeout  = 5 * time.Second // for requests in hand when the server is told to stop
	headerBytes   = 16 << 10
)

// A Server serves HTTP as a component of a process. Set its fields before the component starts.
type Server struct {
	Name    string       // names the server in logs and errors, for instance "health"
	Listen  string       // host and port; port 0 takes a free one
	Handler http.Handler // what is served
	Logger  *slog.Logger // slog.Default if nil

	listener net.Listener
}

// Component returns the server as a part of a process. It logs the address, with the port that was taken, once it is started.
func (s *Server) Component() Component {
	return Component{Name: s.Name, Start: s.start, Run: s.run}
}

func (s *Server) start(ctx context.Context) error {
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return err // names the address
	}
	s.listener = l
	s.Logger.Info("listening", "server", s.Name, "listen", l.Addr().String())
	return nil
}

func (s *Server) run(ctx context.Context) error {
	server := &http.Server{
		Handler:           s.Handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug), // clients that break off are no news
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving %s: %w", s.Listen, err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		s.Logger.Warn("closing connections in use", "server", s.Name, "after", closeTimeout)
		if err := server.Close(); err != nil {
			return fmt.Errorf("closing: %w", err)
		}
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", s.Listen, err)
	}
	return nil
}

package sandbox

import (
	"context"
	"net/http"
	"time"

	"github.com/otpost/otpost/services/sandbox/shop"
)

// startShop serves the demo shop, which reaches otpost over the JSON API as any app does.
func (s *Sandbox) startShop(context.Context) error {
	at := s.Addresses()
	demo, _ := s.App(DemoApp)
	transport := &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: idleTimeout} // its own, so that Close leaves no connection open
	app, err := shop.New(shop.Config{
		PublicURL: at.Shop, OtpostURL: at.HTTP, PagesURL: at.Pages, APIKey: demo.APIKey, InboxURL: at.Inbox, File: s.shopFile(),
		HTTP: &http.Client{Transport: transport, Timeout: 10 * time.Second}, Logger: s.log.With("app", DemoApp),
	})
	if err != nil {
		return err
	}
	s.onClose(func(context.Context) error { transport.CloseIdleConnections(); return nil })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = app.Run(ctx) // returns nil
	}()
	s.onClose(func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	s.serveHTTP("the shop", s.shopHTTP, app)
	return nil
}

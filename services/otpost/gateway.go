package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/otpost/otpost/pkg/bus"
	"github.com/otpost/otpost/pkg/lifecycle"
	"github.com/otpost/otpost/services/gateway"
	"github.com/otpost/otpost/services/gateway/callback"
	"github.com/otpost/otpost/services/gateway/desk"
	"github.com/otpost/otpost/services/gateway/webhook"
)

type gatewayCmd struct {
	workerFlags
	gatewayFlags
}

// gatewayFlags say where the HTTP edge is and what it believes.
type gatewayFlags struct {
	Listen             string        `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Where HTTP is served. Encryption is the proxy's before it."`
	PublicURL          string        `name:"public-url" required:"" placeholder:"URL" help:"Where people reach the pages, such as https://auth.example. Links are made of it, and pages answer under no other host."`
	TrustedProxies     []string      `placeholder:"CIDR,…" help:"Proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8."`
	Desk               bool          `default:"true" negatable:"" help:"Serve the support desk at /support."`
	WebhookConcurrency int           `default:"128" help:"Posts to webhooks at once."`
	WebhookTimeout     time.Duration `default:"10s" help:"How long a webhook may take to answer."`
	Callbacks          string        `type:"path" placeholder:"FILE" help:"YAML file of the providers that tell receipts to /callbacks/<provider>, with the secrets that they sign with."`
}

// Run is the main of otpost gateway.
func (c *gatewayCmd) Run(r *run) error {
	return runWorker(r, bus.RoleGateway, c.workerFlags, c.build)
}

func (c *gatewayCmd) build(p parts) (runner, error) {
	g, err := c.gateway(p)
	if err != nil {
		return nil, err
	}
	server := &lifecycle.Server{Name: "http", Listen: c.Listen, Handler: g.Handler(), Logger: p.log}
	return &gatewayWorker{Gateway: g, server: server.Component()}, nil
}

// gateway makes the HTTP edge without a server of its own. Receipts are taken from the providers of --callbacks and those given here.
func (c *gatewayCmd) gateway(p parts) (*gateway.Gateway, error) {
	public, err := url.Parse(c.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("--public-url: must be an origin such as https://auth.example")
	}
	cfg := gateway.Config{
		DB: p.db, Bus: p.bus, Keys: p.keys, Metrics: p.metrics, Logger: p.log, Now: time.Now, Public: public, SweepBy: time.Minute,
		Webhook: webhook.Config{Concurrency: c.WebhookConcurrency, Timeout: c.WebhookTimeout},
	}
	if c.Callbacks != "" {
		sources, err := callback.ReadFile(c.Callbacks)
		if err != nil {
			return nil, fmt.Errorf("--callbacks: %w", err)
		}
		cfg.Callbacks = sources
	}
	for _, s := range c.TrustedProxies {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("--trusted-proxies: %q must be a network such as 10.0.0.0/8", s)
		}
		cfg.Proxies = append(cfg.Proxies, prefix.Masked())
	}
	if c.Desk {
		cfg.Desk = desk.OverNATS(c.NATSURL, c.NATSCA, p.log)
	}
	g, err := gateway.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("--%w", err)
	}
	return g, nil
}

// gatewayWorker serves for as long as the gateway works.
type gatewayWorker struct {
	*gateway.Gateway
	server lifecycle.Component
}

// Prepare takes the address.
func (w *gatewayWorker) Prepare(ctx context.Context) error { return w.server.Start(ctx) }

// Run works until ctx ends: first no request is taken any more, then what goes on beside them ends.
func (w *gatewayWorker) Run(ctx context.Context) error {
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	done := make(chan error, 1)
	go func() { done <- w.Gateway.Run(behind) }()
	serving, end := context.WithCancel(ctx)
	defer end()
	served := make(chan error, 1)
	go func() { served <- w.server.Run(serving) }()
	select {
	case err := <-done: // it has failed: nobody is served by half a gateway
		end()
		return errors.Join(err, <-served)
	case err := <-served:
		stop()
		return errors.Join(err, <-done)
	}
}

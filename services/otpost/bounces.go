package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otpost/otpost/services/email"
)

// bounceFlags say where mails come back to that could not be delivered.
type bounceFlags struct {
	BounceIMAP     string        `name:"bounce-imap" placeholder:"URL" help:"Mailbox that bounces come to, such as imaps://bounces@mail.example/INBOX; none is read where it is not given."`
	BouncePassword string        `secret:"" help:"Password of the mailbox's user."`
	BounceCA       string        `name:"bounce-ca" type:"path" placeholder:"FILE" help:"PEM file of the authority that signed the certificate of the mailbox's server."`
	BounceEvery    time.Duration `default:"30s" help:"How often the mailbox is looked into."`
	BounceDelete   bool          `help:"Delete bounces once they are recorded; otherwise they are marked as read."`
}

// with returns w, and beside it what reads the mailbox, if there is one.
func (f bounceFlags) with(p parts, w runner) (runner, error) {
	if f.BounceIMAP == "" {
		if f.BouncePassword != "" || f.BounceCA != "" || f.BounceDelete {
			return nil, errors.New("--bounce-imap: is missing beside other --bounce-… flags")
		}
		return w, nil
	}
	cfg := email.BouncesConfig{
		URL: f.BounceIMAP, Password: f.BouncePassword, Every: f.BounceEvery, Delete: f.BounceDelete,
		Publish: p.bus.Publish, Metrics: p.metrics, Logger: p.log, Now: time.Now,
	}
	if f.BounceCA != "" {
		pem, err := os.ReadFile(f.BounceCA)
		if err != nil {
			return nil, fmt.Errorf("--bounce-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--bounce-ca: %s holds no certificate", f.BounceCA)
		}
	}
	b, err := email.NewBounces(cfg)
	if err != nil {
		return nil, flagged(err, "URL:", "--bounce-imap:", "Password:", "--bounce-password:", "Every:", "--bounce-every:")
	}
	return &bounceWorker{runner: w, bounces: b}, nil
}

// bounceWorker is a worker with the mailbox that its mails come back to.
type bounceWorker struct {
	runner
	bounces *email.Bounces
}

// Prepare prepares the worker, if it has something to do before it can run.
func (w *bounceWorker) Prepare(ctx context.Context) error {
	if p, ok := w.runner.(preparer); ok {
		return p.Prepare(ctx)
	}
	return nil
}

// Run works until ctx ends. Trouble with the mailbox never ends it.
func (w *bounceWorker) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var both errgroup.Group
	both.Go(func() error { return w.bounces.Run(ctx) })
	both.Go(func() error {
		defer stop()
		return w.runner.Run(ctx)
	})
	return both.Wait()
}

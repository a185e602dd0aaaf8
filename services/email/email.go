// Package email is the worker that hands codes and notices to mail relays over SMTP. What the worker promises stands in package delivery.
package email

import (
	"fmt"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
)

// New returns the worker of the channel email. Channel, Providers, Render and RenderNotice of cfg are set here.
func New(cfg delivery.Config, providers ...delivery.Provider) (*delivery.Worker, error) {
	catalog, err := message.New()
	if err != nil {
		return nil, fmt.Errorf("email: %w", err)
	}
	cfg.Words.Serve(catalog)
	cfg.Channel, cfg.Providers = otp.Email, providers
	cfg.Render = func(in message.Input) (delivery.Message, error) {
		m, err := catalog.Email(in)
		return delivery.Message{Subject: m.Subject, Text: m.Text, HTML: m.HTML, Locale: m.Locale}, err
	}
	cfg.RenderNotice = func(in message.NoticeInput) (delivery.Message, error) {
		m, err := catalog.NoticeEmail(in)
		return delivery.Message{Subject: m.Subject, Text: m.Text, HTML: m.HTML, Locale: m.Locale}, err
	}
	return delivery.NewWorker(cfg)
}

// Package sms is the worker that hands codes and notices to SMS providers. A provider is one file of this package; what the worker promises stands in
// package delivery.
package sms

import (
	"fmt"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
)

// New returns the worker of the channel sms. Channel, Providers, Render and RenderNotice of cfg are set here.
func New(cfg delivery.Config, providers ...delivery.Provider) (*delivery.Worker, error) {
	catalog, err := message.New()
	if err != nil {
		return nil, fmt.Errorf("sms: %w", err)
	}
	cfg.Channel, cfg.Providers = otp.SMS, providers
	cfg.Render = func(in message.Input) (delivery.Message, error) {
		m, err := catalog.SMS(in)
		return delivery.Message{Text: m.Text, Locale: m.Locale}, err
	}
	cfg.RenderNotice = func(in message.NoticeInput) (delivery.Message, error) {
		m, err := catalog.NoticeSMS(in)
		return delivery.Message{Text: m.Text, Locale: m.Locale}, err
	}
	return delivery.NewWorker(cfg)
}

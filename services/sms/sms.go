// Package sms is the worker that hands codes and notices to whoever reaches phones: by SMS, by a call that speaks, by WhatsApp. A provider is one file of
// this package, or a few; what the worker promises stands in package delivery.
package sms

import (
	"fmt"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
)

// New returns the worker of one channel that reaches phones: sms, voice or whatsapp. Channel, Providers, Render and RenderNotice of cfg are set here. A call
// carries codes only: a notice says too much to be listened to.
func New(cfg delivery.Config, channel otp.Channel, providers ...delivery.Provider) (*delivery.Worker, error) {
	catalog, err := message.New()
	if err != nil {
		return nil, fmt.Errorf("sms: %w", err)
	}
	write := map[otp.Channel]func(message.Input) (message.SMSMessage, error){
		otp.SMS: catalog.SMS, otp.Voice: catalog.Voice, otp.WhatsApp: catalog.WhatsApp,
	}[channel]
	if write == nil {
		return nil, fmt.Errorf("sms: the channel %q does not reach phones", channel)
	}
	cfg.Words.Serve(catalog)
	cfg.Channel, cfg.Providers, cfg.RenderNotice = channel, providers, nil
	cfg.Render = func(in message.Input) (delivery.Message, error) {
		m, err := write(in)
		return delivery.Message{Text: m.Text, Locale: m.Locale}, err
	}
	if channel != otp.Voice {
		cfg.RenderNotice = func(in message.NoticeInput) (delivery.Message, error) {
			m, err := catalog.NoticeSMS(in)
			return delivery.Message{Text: m.Text, Locale: m.Locale}, err
		}
	}
	return delivery.NewWorker(cfg)
}

package sms

import (
	"encoding/json"
	"fmt"
	"time"

	twilioapi "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/otpost/otpost/pkg/delivery"
)

// whatsAppPrefix marks a number as an address of WhatsApp (Twilio, channel addresses).
const whatsAppPrefix = "whatsapp:"

// NewTwilioWhatsApp checks c and returns a provider of WhatsApp messages, as NewTwilio does one of SMS.
func NewTwilioWhatsApp(c TwilioConfig) (*Twilio, error) {
	t, err := newTwilio(c, "twilio-whatsapp", twilioWhatsApp)
	if err != nil {
		return nil, err
	}
	t.create, t.life = createWhatsApp, minValidity*time.Second
	return t, nil
}

// createWhatsApp asks for a message: of the content template with the code filled in, where there is a template and a code, else of the text.
func createWhatsApp(t *Twilio, x *exchange, m *delivery.Message, left time.Duration) (creation, error) {
	to, validity := whatsAppPrefix+m.To, validityPeriod(left)
	p := twilioapi.CreateMessageParams{To: &to, MessagingServiceSid: t.service, StatusCallback: t.callbackOf(m), ValidityPeriod: &validity}
	if sender := t.sender(m, phoneNumber); sender != nil {
		from := whatsAppPrefix + *sender
		p.From = &from
	}
	if t.content != nil && m.Code != "" {
		variables, err := json.Marshal(map[string]string{"1": m.Code})
		if err != nil {
			return creation{}, fmt.Errorf("twilio: writing the template's variables: %w", err)
		}
		filled := string(variables)
		p.ContentSid, p.ContentVariables = t.content, &filled
	} else {
		p.Body = &m.Text
	}
	made, err := twilioapi.NewApiService(&x.handler).CreateMessage(&p)
	if err != nil {
		return creation{}, err
	}
	return creation{made.Sid, made.ErrorCode}, nil
}

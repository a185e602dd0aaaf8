package sandbox

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/postgres"
	"github.com/otpost/otpost/pkg/route"
)

// This file tells the workers of the simulated providers that reach phones, in the files that production uses as well: --providers of otpost sms and
// --callbacks of otpost gateway.

// ProvidersFile is where the providers of otpost sms stand.
func (s *Sandbox) ProvidersFile() string { return filepath.Join(s.dir, "providers.yaml") }

// CallbacksFile is where it stands who tells the gateway of messages.
func (s *Sandbox) CallbacksFile() string { return filepath.Join(s.dir, "callbacks.yaml") }

type yamlMap = map[string]any

// writeProviders writes both files: Twilio for SMS, calls and WhatsApp, and Vonage as a second provider of SMS. Prices are made up.
func (s *Sandbox) writeProviders() error {
	box, edge, p := s.Addresses().Inbox, s.Addresses().Pages, s.Providers()
	twilio := func(name, channel string, cost float64) yamlMap {
		return yamlMap{
			"name": name, "channel": channel, "kind": "twilio", "cost": yamlMap{"default": cost},
			"twilio": yamlMap{
				"account_sid": p.TwilioAccountSID, "auth_token": p.TwilioAuthToken, "from": []string{p.TwilioFrom}, "base_url": box + "/at/" + name + "/twilio",
				"callback": edge + "/callbacks/" + name,
			},
		}
	}
	vonage := s.secrets.Vonage
	providers := yamlMap{"providers": []yamlMap{
		twilio("twilio", "sms", 0.0079),
		{
			"name": "vonage", "channel": "sms", "kind": "vonage", "cost": yamlMap{"default": 0.0081},
			"vonage": yamlMap{
				"api_key": vonage.Key, "api_secret": vonage.Secret, "from": "Demo shop", "base_url": box + "/vonage", "callback": edge + "/callbacks/vonage",
			},
		},
		twilio("twilio-voice", "voice", 0.014),
		twilio("twilio-whatsapp", "whatsapp", 0.0084),
	}}
	callbacks := yamlMap{"callbacks": []yamlMap{
		{"name": "twilio", "kind": "twilio", "auth_token": p.TwilioAuthToken},
		{"name": "twilio-voice", "kind": "twilio", "auth_token": p.TwilioAuthToken},
		{"name": "twilio-whatsapp", "kind": "twilio", "auth_token": p.TwilioAuthToken},
		{"name": "vonage", "kind": "vonage", "signature_secret": vonage.Signature, "signature_method": "sha256"},
	}}
	for path, doc := range map[string]yamlMap{s.ProvidersFile(): providers, s.CallbacksFile(): callbacks} {
		text, err := yaml.Marshal(doc)
		if err == nil {
			err = writeFile(path, text)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// EnsureRoute has Twilio alone carry short messages where nobody has set a route for all apps, so that what is tried out with one provider's faults and magic
// numbers shows what that provider does. `otpost route set` brings in the second one. The worker that has the providers must have entered them; without it
// there is nothing to do.
func (s *Sandbox) EnsureRoute(ctx context.Context) error {
	store := postgres.NewRoutes(s.db)
	all, err := store.Routes(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.AppID == 0 && r.Channel == otp.SMS && r.Country == "" {
			return nil
		}
	}
	known, err := store.Providers(ctx)
	if err != nil || !slices.ContainsFunc(known, func(p postgres.ProviderRow) bool { return p.Channel == otp.SMS && p.Name == "twilio" }) {
		return err
	}
	return store.Set(ctx, time.Now(), postgres.Route{Route: route.Route{Channel: otp.SMS, Policy: route.Fixed, Providers: []string{"twilio"}}})
}

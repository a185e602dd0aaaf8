package sms

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twilio/twilio-go/client"

	"github.com/otpost/otpost/pkg/otp"
)

var (
	sidPattern        = regexp.MustCompile(`^[A-Z]{2}[0-9A-Za-z]{32}$`)
	secretPattern     = regexp.MustCompile(`^[0-9A-Za-z]+$`) // twilio-go refuses others at every request
	numberPattern     = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	senderPattern     = regexp.MustCompile(`^(\+[1-9][0-9]{6,14}|[0-9]{3,8})$`)
	senderNamePattern = regexp.MustCompile(`^[0-9A-Za-z &+_-]{1,11}$`)
	letterPattern     = regexp.MustCompile(`[A-Za-z]`)
	languagePattern   = regexp.MustCompile(`^[a-z]{2,3}(-[A-Z]{2})?$`)
	voicePattern      = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)
)

// A twilioKind says what a channel of Twilio's has of its own.
type twilioKind struct {
	valid   func(string) bool
	form    string // of a valid sender, for people
	service bool   // a messaging service may choose
	content bool   // there are content templates
	voices  bool   // there are voices
}

var (
	twilioSMS = twilioKind{
		func(s string) bool {
			return senderPattern.MatchString(s) || senderNamePattern.MatchString(s) && letterPattern.MatchString(s)
		},
		"numbers in E.164, short codes or names of up to 11 characters with a letter", true, false, false,
	}
	twilioWhatsApp = twilioKind{phoneNumber, "numbers in E.164", true, true, false}
	twilioVoice    = twilioKind{phoneNumber, "numbers in E.164", false, false, true}
)

func phoneNumber(s string) bool { return numberPattern.MatchString(s) }

// newTwilio makes what the channels share: all but the request.
func newTwilio(c TwilioConfig, name string, kind twilioKind) (*Twilio, error) {
	t := &Twilio{name: c.Name, account: c.AccountSID, timeout: c.Timeout, log: c.Logger, now: c.Now}
	if t.name == "" {
		t.name = name
	}
	if !otp.ValidProvider(t.name) {
		return nil, errors.New(`twilio: Name must be 1 to 32 of a-z, 0-9 and "-", beginning with a letter or digit`)
	}
	if err := checkSID("AccountSID", "AC", c.AccountSID); err != nil {
		return nil, err
	}
	var err error
	if t.credentials, err = twilioCredentials(c); err != nil {
		return nil, err
	}
	if err := t.setSenders(c, kind); err != nil {
		return nil, err
	}
	if err := t.setSpecial(c, kind); err != nil {
		return nil, err
	}
	if err := t.setURLs(c); err != nil {
		return nil, err
	}
	switch {
	case c.Timeout < 0:
		return nil, errors.New("twilio: Timeout must not be negative")
	case c.Timeout == 0:
		t.timeout = defaultTwilioTimeout
	}
	switch {
	case c.Connections < 0:
		return nil, errors.New("twilio: Connections must not be negative")
	case c.Connections == 0:
		c.Connections = defaultTwilioConnections
	}
	if t.log == nil {
		t.log = slog.Default()
	}
	if t.now == nil {
		t.now = time.Now
	}
	if t.base != nil && t.base.Scheme != "https" && !loopback(t.base.Hostname()) {
		t.log.Warn("twilio: credentials and codes travel in clear text to the base URL", "host", t.base.Host)
	}
	t.transport = twilioTransport(c.Connections)
	return t, nil
}

func (t *Twilio) setSenders(c TwilioConfig, kind twilioKind) error {
	switch {
	case !kind.service && c.MessagingServiceSID != "":
		return errors.New("twilio: MessagingServiceSID: a messaging service cannot make calls; set From")
	case !kind.service && len(c.From) == 0:
		return errors.New("twilio: From must be set")
	case (len(c.From) == 0) == (c.MessagingServiceSID == ""):
		return errors.New("twilio: exactly one of From and MessagingServiceSID must be set")
	case c.MessagingServiceSID != "":
		if err := checkSID("MessagingServiceSID", "MG", c.MessagingServiceSID); err != nil {
			return err
		}
		t.service = &c.MessagingServiceSID
		return nil
	}
	for i, from := range c.From {
		if !kind.valid(from) {
			return fmt.Errorf("twilio: From must be %s", kind.form)
		}
		if slices.Contains(c.From[:i], from) {
			return errors.New("twilio: From has a sender twice")
		}
	}
	t.from = slices.Clone(c.From)
	return nil
}

// setSpecial takes what one channel alone knows.
func (t *Twilio) setSpecial(c TwilioConfig, kind twilioKind) error {
	switch {
	case c.ContentSID != "" && !kind.content:
		return errors.New("twilio: ContentSID is for WhatsApp only")
	case len(c.Voices) > 0 && !kind.voices:
		return errors.New("twilio: Voices are for calls only")
	}
	if c.ContentSID != "" {
		if err := checkSID("ContentSID", "HX", c.ContentSID); err != nil {
			return err
		}
		t.content = &c.ContentSID
	}
	for language, voice := range c.Voices {
		if !languagePattern.MatchString(language) || !voicePattern.MatchString(voice) {
			return errors.New(`twilio: Voices must name a voice for each language, as "cs-CZ": "Google.cs-CZ-Standard-A"`)
		}
	}
	t.voices = maps.Clone(c.Voices)
	return nil
}

func (t *Twilio) setURLs(c TwilioConfig) error {
	var err error
	if c.BaseURL != "" {
		if t.base, err = absoluteURL("BaseURL", c.BaseURL); err != nil {
			return err
		}
		t.base.Path = strings.TrimRight(t.base.Path, "/")
	}
	if c.Callback != "" {
		if _, err := absoluteURL("Callback", c.Callback); err != nil {
			return err
		}
		t.callback = strings.TrimRight(c.Callback, "/")
	}
	return nil
}

func twilioCredentials(c TwilioConfig) (*client.Credentials, error) {
	switch {
	case c.AuthToken != "" && (c.APIKey != "" || c.APISecret != ""):
		return nil, errors.New("twilio: either AuthToken or APIKey with APISecret may be set, not both")
	case c.AuthToken != "":
		if !secretPattern.MatchString(c.AuthToken) {
			return nil, errors.New("twilio: AuthToken must consist of letters and digits")
		}
		return client.NewCredentials(c.AccountSID, c.AuthToken), nil
	case c.APIKey == "" && c.APISecret == "":
		return nil, errors.New("twilio: AuthToken, or APIKey with APISecret, must be set")
	}
	if err := checkSID("APIKey", "SK", c.APIKey); err != nil {
		return nil, err
	}
	if !secretPattern.MatchString(c.APISecret) {
		return nil, errors.New("twilio: APISecret must consist of letters and digits")
	}
	return client.NewCredentials(c.APIKey, c.APISecret), nil
}

func checkSID(field, prefix, sid string) error {
	if !sidPattern.MatchString(sid) || !strings.HasPrefix(sid, prefix) {
		return fmt.Errorf("twilio: %s must be %q and 32 letters and digits", field, prefix)
	}
	return nil
}

func absoluteURL(field, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "" {
		return nil, fmt.Errorf("twilio: %s must be an absolute http or https URL", field)
	}
	if u.RawQuery != "" || u.ForceQuery || u.User != nil {
		return nil, fmt.Errorf("twilio: %s must have no query and no user", field)
	}
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

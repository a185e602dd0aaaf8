package sms

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twilio/twilio-go/client"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/inbox"
)

// twilioServer starts the simulated Twilio and returns it with its address.
func twilioServer(t *testing.T) (*inbox.Inbox, string) {
	t.Helper()
	in := inbox.New(inbox.Config{TwilioAccountSID: testAccount, TwilioAuthToken: testToken})
	server := httptest.NewServer(in.Handler())
	t.Cleanup(func() { in.Close(); server.Close() })
	return in, server.URL
}

var twilioChannels = map[string]func(TwilioConfig) (*Twilio, error){
	inbox.SMS: NewTwilio, inbox.Voice: NewTwilioVoice, inbox.WhatsApp: NewTwilioWhatsApp,
}

// newChannel returns the provider of a channel for the simulated Twilio at base, and what it logs.
func newChannel(t *testing.T, channel, base string, change ...func(*TwilioConfig)) (*Twilio, *safeBuffer) {
	t.Helper()
	var logged safeBuffer
	c := TwilioConfig{
		AccountSID: testAccount, AuthToken: testToken, From: []string{"+15005550006"}, BaseURL: base, Timeout: 2 * time.Second,
		Logger: slog.New(slog.NewJSONHandler(&logged, nil)), Now: func() time.Time { return testNow },
	}
	for _, f := range change {
		f(&c)
	}
	tw, err := twilioChannels[channel](c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tw.Close)
	return tw, &logged
}

// Every class of error, over each channel.
func TestTwilioChannelsClasses(t *testing.T) {
	for channel := range twilioChannels {
		in, server := twilioServer(t)
		for _, c := range []struct {
			fault inbox.Fault
			class delivery.Class
			code  string
		}{
			{inbox.Fault{Drop: true}, delivery.Ambiguous, ""},
			{inbox.Fault{AcceptThenDrop: true}, delivery.Ambiguous, ""},
			{inbox.Fault{Delay: time.Minute}, delivery.Ambiguous, ""},
			{inbox.Fault{Status: 500}, delivery.Ambiguous, "20500"},
			{inbox.Fault{Status: 429, RetryAfter: 7 * time.Second}, delivery.Transient, "20429"},
			{inbox.Fault{Status: 503, Code: "20503"}, delivery.Transient, "20503"},
			{inbox.Fault{Code: "21217"}, delivery.Permanent, "21217"},
			{inbox.Fault{Code: "63024"}, delivery.Permanent, "63024"},
			{inbox.Fault{Code: "20003"}, delivery.Configuration, "20003"},
			{inbox.Fault{Code: "21210"}, delivery.Configuration, "21210"},
			{inbox.Fault{Code: "21215"}, delivery.Rejected, "21215"},
			{inbox.Fault{Code: "21610"}, delivery.Rejected, "21610"},
		} {
			tw, logged := newChannel(t, channel, server+"/at/primary/twilio", func(config *TwilioConfig) {
				if c.fault.Delay > 0 {
					config.Timeout = 100 * time.Millisecond
				}
			})
			in.SetFaults(inbox.FaultRule{Provider: "primary", To: testNumber, Fault: c.fault})
			_, err := tw.Send(t.Context(), testMessage())
			if e := expectError(t, err, c.class, c.code, logged); e.RetryAfter != c.fault.RetryAfter {
				t.Errorf("%s, %+v: retry after %v", channel, c.fault, e.RetryAfter)
			}
		}
		in.ClearFaults()
		tw, logged := newChannel(t, channel, server+"/twilio", func(c *TwilioConfig) { c.AuthToken = strings.ToUpper(testToken) })
		_, err := tw.Send(t.Context(), testMessage())
		expectError(t, err, delivery.Configuration, "20003", logged)
	}
}

// What is wrong with a sender that the app chose is the app's trouble; the same of the provider's own stops everything.
func TestTwilioBlamesTheSender(t *testing.T) {
	_, server := twilioServer(t)
	tw, logged := newChannel(t, inbox.SMS, server+"/twilio")
	m := testMessage()
	m.Sender = "+15005550007"
	_, err := tw.Send(t.Context(), m)
	expectError(t, err, delivery.Rejected, "21606", logged)
	tw, logged = newChannel(t, inbox.SMS, server+"/twilio", func(c *TwilioConfig) { c.From = []string{"+15005550007"} })
	_, err = tw.Send(t.Context(), testMessage())
	expectError(t, err, delivery.Configuration, "21606", logged)
}

// What comes of a message is told to the callback's address with the token of the message at its end, signed over that address.
func TestTwilioCallbacks(t *testing.T) {
	type told struct {
		path, status, code string
		genuine            bool
	}
	calls := make(chan told, 16)
	var public string
	callback := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		validator := client.NewRequestValidator(testToken)
		code := form.Get("ErrorCode") + form.Get("SipResponseCode")
		calls <- told{
			r.URL.Path, form.Get("MessageStatus") + form.Get("CallStatus"), code,
			validator.ValidateBody(public+r.URL.Path, body, r.Header.Get("X-Twilio-Signature")),
		}
	}))
	defer callback.Close()
	public = callback.URL
	in, server := twilioServer(t)
	path := "/callbacks/twilio/AbC-_9"
	for _, c := range []struct {
		channel, to string
		fault       inbox.Fault
		want        []told
	}{
		{inbox.SMS, testNumber, inbox.Fault{}, []told{{path, "sent", "", true}, {path, "delivered", "", true}}},
		{inbox.SMS, "+15005550010", inbox.Fault{}, []told{{path, "sent", "", true}, {path, "undelivered", "30003", true}}},
		{
			inbox.SMS, testNumber,
			inbox.Fault{Reversed: true, Repeat: 1, ReceiptDelay: 20 * time.Millisecond},
			[]told{{path, "delivered", "", true}, {path, "delivered", "", true}, {path, "sent", "", true}, {path, "sent", "", true}},
		},
		{inbox.WhatsApp, "+15005550017", inbox.Fault{}, []told{{path, "sent", "", true}, {path, "undelivered", "63024", true}}},
		{inbox.Voice, testNumber, inbox.Fault{}, []told{{path, "in-progress", "", true}, {path, "completed", "200", true}}},
		{inbox.Voice, "+15005550015", inbox.Fault{}, []told{{path, "busy", "", true}}},
		{inbox.Voice, "+15005550016", inbox.Fault{}, []told{{path, "no-answer", "", true}}},
		{inbox.Voice, testNumber, inbox.Fault{Outcome: "failed", OutcomeCode: "603"}, []told{{path, "failed", "603", true}}},
	} {
		in.SetFaults(inbox.FaultRule{Fault: c.fault})
		tw, _ := newChannel(t, c.channel, server+"/twilio", func(config *TwilioConfig) { config.Callback = public + "/callbacks/twilio" })
		m := testMessage()
		m.To = c.to
		if _, err := tw.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		var got []told
		for range c.want {
			select {
			case one := <-calls:
				got = append(got, one)
			case <-time.After(10 * time.Second):
				t.Fatalf("%s to %s: only %+v was told", c.channel, c.to, got)
			}
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(told{})); diff != "" {
			t.Errorf("%s to %s (-want +got):\n%s", c.channel, c.to, diff)
		}
	}

	// Nobody is told of what is lost, of what has no token, and of what has nowhere to be told to.
	in.SetFaults(inbox.FaultRule{To: testNumber, Fault: inbox.Fault{Lost: true}})
	told1, _ := newChannel(t, inbox.SMS, server+"/twilio", func(config *TwilioConfig) { config.Callback = public + "/callbacks/twilio" })
	told2, _ := newChannel(t, inbox.Voice, server+"/twilio")
	shown := len(in.List(inbox.Filter{}))
	for i, tw := range []*Twilio{told1, told1, told2} {
		m := testMessage()
		m.To = []string{testNumber, "+14155550101", "+14155550102"}[i]
		if i > 0 {
			m.Token = ""
		}
		if _, err := tw.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	in.Close() // ends what is told
	if n := len(in.List(inbox.Filter{})) - shown; n != 2 || len(calls) != 0 {
		t.Errorf("%d messages are shown, %d receipts were told", n, len(calls))
	}
}

// A call says the text three times, in the language of the text, and rings no longer than the code lives.
func TestTwilioCalls(t *testing.T) {
	in, server := twilioServer(t)
	var seen url.Values
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen, _ = url.ParseQuery(string(body))
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		r.Host = strings.TrimPrefix(server, "http://")
		in.Handler().ServeHTTP(w, r)
	}))
	defer proxy.Close()
	tw, logged := newChannel(t, inbox.Voice, proxy.URL+"/twilio", func(c *TwilioConfig) {
		c.Callback, c.Voices = "http://127.0.0.1:9/callbacks/voice/", map[string]string{"cs-CZ": "Google.cs-CZ-Standard-A"}
	})
	if tw.Name() != "twilio-voice" {
		t.Errorf("the name is %s", tw.Name())
	}
	m := testMessage()
	m.Text, m.ExpiresAt = `Kód <&">: 4, 9, 3, 8, 1, 7.`, testNow.Add(20*time.Second)
	accepted, err := tw.Send(t.Context(), m)
	if err != nil || !strings.HasPrefix(accepted.Reference, "CA") {
		t.Fatalf("Send = %+v, %v", accepted, err)
	}
	say := `<Pause length="1"/><Say language="cs-CZ" voice="Google.cs-CZ-Standard-A">Kód &lt;&amp;&#34;&gt;: 4, 9, 3, 8, 1, 7.</Say>`
	want := url.Values{
		"To": {testNumber}, "From": {"+15005550006"}, "Timeout": {"20"}, "TimeLimit": {"20"},
		"StatusCallback": {"http://127.0.0.1:9/callbacks/voice/AbC-_9"}, "StatusCallbackEvent": {"answered", "completed"},
		"Twiml": {"<Response>" + strings.Repeat(say, 3) + "</Response>"},
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("the form (-want +got):\n%s", diff)
	}
	list := in.List(inbox.Filter{Channel: inbox.Voice})
	if len(list) != 1 || list[0].Text != strings.Repeat(m.Text+"\n", 2)+m.Text || list[0].Code() != "493817" || list[0].Reference != accepted.Reference {
		t.Errorf("the inbox has %+v", list)
	}

	m.ExpiresAt = testNow.Add(time.Hour)
	m.Text = strings.Repeat("x", 1500) // fits in twice, not in three times
	_, err = tw.Send(t.Context(), m)
	if err != nil || strings.Count(seen.Get("Twiml"), "<Say") != 2 || seen.Get("Timeout") != "25" || seen.Get("TimeLimit") != "120" {
		t.Errorf("a long text: %v, %.200v", err, seen)
	}
	m.Text = strings.Repeat("x", 2000)
	_, err = tw.Send(t.Context(), m)
	expectError(t, err, delivery.Rejected, "", logged)
	m = testMessage()
	m.ExpiresAt = testNow.Add(minCallLife - time.Millisecond)
	_, err = tw.Send(t.Context(), m)
	expectError(t, err, delivery.Rejected, "", logged)
	if n := in.Sent("twilio"); n != 2 {
		t.Errorf("Twilio took %d calls", n)
	}
}

func TestSayLanguage(t *testing.T) {
	for locale, want := range map[string]string{
		"en": "en-US", "cs": "cs-CZ", "de": "de-DE", "es": "es-ES", "fr": "fr-FR", "it": "it-IT", "ja": "ja-JP", "pl": "pl-PL",
		"en-GB": "en-GB", "de-AT": "de-DE", "fr-CA": "fr-CA", "": "en-US", "tlh": "en-US",
	} {
		if got := sayLanguage(locale); got != want {
			t.Errorf("%s is spoken as %s, want %s", locale, got, want)
		}
	}
}

// A code goes into the approved template; what has none, and everything without a template, goes as text.
func TestTwilioWhatsApp(t *testing.T) {
	in, server := twilioServer(t)
	template := func(c *TwilioConfig) { c.ContentSID = "HX0123456789abcdef0123456789abcdef" }
	service := func(c *TwilioConfig) { c.From, c.MessagingServiceSID = nil, "MG0123456789abcdef0123456789abcdef" }
	for i, c := range []struct {
		change       []func(*TwilioConfig)
		code, sender string
		from, text   string
	}{
		{nil, "493817", "", "+15005550006", testText},
		{nil, "493817", "+420601234567", "+420601234567", testText},
		{nil, "493817", "Shop", "+15005550006", testText},
		{[]func(*TwilioConfig){template}, "493817", "", "+15005550006", "493817 is your verification code."},
		{[]func(*TwilioConfig){template}, "", "", "+15005550006", testText},
		{[]func(*TwilioConfig){service, template}, "493817", "", "MG0123456789abcdef0123456789abcdef", "493817 is your verification code."},
	} {
		tw, _ := newChannel(t, inbox.WhatsApp, server+"/at/wa/twilio", c.change...)
		m := testMessage()
		m.To, m.Code, m.Sender = fmt.Sprintf("+1415555020%d", i), c.code, c.sender
		accepted, err := tw.Send(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		got := in.List(inbox.Filter{To: m.To})
		if len(got) != 1 || got[0].Channel != inbox.WhatsApp || got[0].Provider != "wa" || got[0].From != c.from || got[0].Text != c.text ||
			got[0].Reference != accepted.Reference || got[0].Code() != "493817" {
			t.Errorf("%d: the inbox has %+v", i, got)
		}
	}
}

func TestNewTwilioChannelsNameTheWrongField(t *testing.T) {
	good := TwilioConfig{AccountSID: testAccount, AuthToken: testToken, From: []string{"+15005550006"}}
	for _, c := range []struct {
		channel, field string
		change         func(*TwilioConfig)
	}{
		{inbox.Voice, "From", func(c *TwilioConfig) { c.From = nil }},
		{inbox.Voice, "From", func(c *TwilioConfig) { c.From = []string{"Shop"} }},
		{inbox.Voice, "MessagingServiceSID", func(c *TwilioConfig) { c.MessagingServiceSID = "MG0123456789abcdef0123456789abcdef" }},
		{inbox.Voice, "ContentSID", func(c *TwilioConfig) { c.ContentSID = "HX0123456789abcdef0123456789abcdef" }},
		{inbox.Voice, "Voices", func(c *TwilioConfig) { c.Voices = map[string]string{"cs-CZ": `x"/><Dial>+1900</Dial>`} }},
		{inbox.Voice, "Voices", func(c *TwilioConfig) { c.Voices = map[string]string{"cz": ""} }},
		{inbox.WhatsApp, "From", func(c *TwilioConfig) { c.From = []string{"12345"} }},
		{inbox.WhatsApp, "ContentSID", func(c *TwilioConfig) { c.ContentSID = "verification" }},
		{inbox.WhatsApp, "Voices", func(c *TwilioConfig) { c.Voices = map[string]string{"cs-CZ": "woman"} }},
		{inbox.SMS, "Voices", func(c *TwilioConfig) { c.Voices = map[string]string{"cs-CZ": "woman"} }},
	} {
		config := good
		c.change(&config)
		if _, err := twilioChannels[c.channel](config); err == nil || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: error %v, want one that names %s", c.channel, err, c.field)
		}
	}
}

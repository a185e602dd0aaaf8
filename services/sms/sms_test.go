package sms

import (
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
)

// The worker has words for both: codes of every purpose, and notices.
func TestWhatTheWorkerWrites(t *testing.T) {
	w, err := New(delivery.Config{}, otp.SMS, &Twilio{})
	if err != nil {
		t.Fatal(err)
	}
	if w.Channel != otp.SMS || len(w.Providers) != 1 {
		t.Errorf("a worker of %s with %d providers", w.Channel, len(w.Providers))
	}
	texts := map[string]bool{}
	for _, purpose := range []message.Purpose{message.Login, message.AddFactor, message.ResetAddress, message.Recovery} {
		m, err := w.Render(message.Input{Purpose: purpose, App: "Shop", Code: "271828", Locale: "cs", Life: 5 * time.Minute, Origin: "https://shop.example"})
		if err != nil || !strings.HasPrefix(m.Text, "271828") || m.Locale != "cs" || texts[m.Text] {
			t.Errorf("%s: %q in %q, %v", purpose, m.Text, m.Locale, err)
		}
		texts[m.Text] = true
	}
	m, err := w.RenderNotice(message.NoticeInput{App: "Shop", Locale: "cs", Notice: otp.NoticeFactorAdded, At: time.Now(), Factor: otp.FactorTOTP})
	if err != nil || !strings.HasPrefix(m.Text, "Shop") || m.Locale != "cs" || m.Subject != "" || m.HTML != "" {
		t.Errorf("a notice: %+v, %v", m, err)
	}
	if m, err := w.RenderNotice(message.NoticeInput{App: "Shop", Notice: "newsletter", At: time.Now()}); err == nil {
		t.Errorf("what is no notice became %q", m.Text)
	}
}

// The three channels say the same in their own ways: none but SMS has a line for the phone, and a call has the digits apart and no notices.
func TestWhatTheChannelsWrite(t *testing.T) {
	in := message.Input{Purpose: message.Login, App: "Shop", Code: "271828", Locale: "de", Life: 5 * time.Minute, Origin: "https://shop.example"}
	for channel, want := range map[otp.Channel]struct{ has, lacks string }{
		otp.SMS:      {"@shop.example #271828", "2, 7"},
		otp.WhatsApp: {"271828", "@shop.example"},
		otp.Voice:    {"2, 7, 1, 8, 2, 8", "271828"},
	} {
		w, err := New(delivery.Config{}, channel, &Twilio{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := w.Render(in)
		if err != nil || !strings.Contains(m.Text, want.has) || strings.Contains(m.Text, want.lacks) || m.Locale != "de" {
			t.Errorf("%s: %q in %q, %v", channel, m.Text, m.Locale, err)
		}
		if w.Channel != channel || (w.RenderNotice == nil) != (channel == otp.Voice) {
			t.Errorf("%s: a worker of %s, with notices %t", channel, w.Channel, w.RenderNotice != nil)
		}
	}
	if _, err := New(delivery.Config{}, otp.Email, &Twilio{}); err == nil {
		t.Error("a worker of phones for email")
	}
}

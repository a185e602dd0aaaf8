package email

import (
	"mime"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
)

// A notice goes out as a mail like that of a code; sent again, it has the same Message-ID, so that mail programs show it once.
func TestNoticeOnTheWire(t *testing.T) {
	s := (&server{secure: NoTLS}).start(t)
	p := provider(t, s)
	w, err := New(delivery.Config{}, p)
	if err != nil {
		t.Fatal(err)
	}
	if w.Channel != otp.Email || len(w.Providers) != 1 {
		t.Errorf("a worker of %s with %d providers", w.Channel, len(w.Providers))
	}
	m, err := w.RenderNotice(message.NoticeInput{
		App: "Krámek", Locale: "cs", Notice: otp.NoticeRecoveryBegun, At: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC), CancelCode: "27182818",
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Reference, m.To = "0199-1", "jane.roe@example.com"
	mustSend(t, p, &m)
	mustSend(t, p, &m)
	if n := s.count(); n != 2 {
		t.Fatalf("%d mails came", n)
	}
	for _, r := range s.all() {
		h := headers(t, r.text)
		if h.Get("Message-Id") != "<0199-1@shop.example>" || h.Get("Auto-Submitted") != "auto-generated" || h.Get("Content-Language") != "cs" {
			t.Errorf("the header is %v", h)
		}
		if !strings.HasPrefix(h.Get("Content-Type"), "multipart/alternative") {
			t.Errorf("its content type is %q", h.Get("Content-Type"))
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
		if err != nil || subject != m.Subject || strings.Contains(subject, "27182818") {
			t.Errorf("its subject is %q, %v", subject, err)
		}
	}
	if !strings.Contains(m.Text, "27182818") || !strings.Contains(m.HTML, "27182818") {
		t.Error("a part lacks the code that stops the recovery")
	}
	code, err := w.Render(message.Input{Purpose: message.Recovery, App: "Krámek", Code: "314159", Locale: "cs", Life: 24 * time.Hour})
	if err != nil || !strings.Contains(code.Text, "314159") || code.Subject == m.Subject {
		t.Errorf("a code of a recovery: %+v, %v", code, err)
	}
}

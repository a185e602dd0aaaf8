package letter

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
)

const testAddress = `{"name":"Jane Doe","line1":"1600 Main St","city":"Springfield","region":"OR","postal_code":"97477","country":"US"}`

func testWriter(t *testing.T, japanese bool) (*writer, *logBuffer) {
	t.Helper()
	catalog, err := message.New()
	if err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	return &writer{
		opts: Options{Sender: "Shop Inc. · 100 Market St · San Francisco CA 94105", SenderCountry: "US"}, fonts: testFonts(t, japanese),
		catalog: catalog, log: slog.New(slog.NewTextHandler(&log, nil)),
	}, &log
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// testRecovery is a code of a recovery and its message, as the delivery core hands them over.
func testRecovery(address, locale string) (message.Input, *delivery.Message) {
	id := otp.ChallengeID(testIssued, [32]byte{1})
	return message.Input{Purpose: message.Recovery, App: "Shop", Code: "1234567890", Locale: locale, Life: 21 * 24 * time.Hour},
		&delivery.Message{Reference: fmt.Sprintf("%s-1", id), App: "shop", To: address, ExpiresAt: testIssued.Add(21 * 24 * time.Hour)}
}

func TestCompleteWritesTheLetter(t *testing.T) {
	needJapanese(t)
	w, _ := testWriter(t, true)
	for locale, want := range map[string]string{"en": "en", "cs-CZ": "cs", "de": "de", "es": "es", "fr": "fr", "it": "it", "ja-JP": "ja", "pl": "pl", "tlh": "en", "": "en"} {
		t.Run(locale, func(t *testing.T) {
			in, m := testRecovery(testAddress, locale)
			if err := w.complete(in, m); err != nil {
				t.Fatal(err)
			}
			if m.Locale != want {
				t.Errorf("locale %q, want %q", m.Locale, want)
			}
			page := read(t, m.Document)
			text := solid(page.text())
			for _, part := range []string{"Jane Doe", "1600 Main St", "SPRINGFIELD OR 97477", "1234 567 890", "Shop Inc. · 100 Market St · San Francisco CA 94105"} {
				if !strings.Contains(text, solid(part)) {
					t.Errorf("the letter lacks %q", part)
				}
			}
			if strings.Contains(text, "UNITEDSTATES") {
				t.Error("the letter names the country that it is posted in")
			}
		})
	}
}

// TestCompleteIsRepeatable: a letter that is made again days later, in another process, is the same to the octet.
func TestCompleteIsRepeatable(t *testing.T) {
	first, _ := testWriter(t, false)
	second, _ := testWriter(t, false)
	in, m := testRecovery(testAddress, "cs")
	if err := first.complete(in, m); err != nil {
		t.Fatal(err)
	}
	again := *m
	again.Document, in.Life = nil, in.Life-72*time.Hour
	if err := second.complete(in, &again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Document, m.Document) {
		t.Error("the second letter differs from the first")
	}
}

// TestCompleteWithoutJapaneseFont: the letter goes out in English, and that is logged once and tells nothing of whom it is for.
func TestCompleteWithoutJapaneseFont(t *testing.T) {
	w, log := testWriter(t, false)
	for range 2 {
		in, m := testRecovery(testAddress, "ja")
		if err := w.complete(in, m); err != nil {
			t.Fatal(err)
		}
		if m.Locale != "en" {
			t.Errorf("locale %q", m.Locale)
		}
		english, e := testRecovery(testAddress, "en")
		e.Reference = m.Reference
		if err := w.complete(english, e); err != nil || !bytes.Equal(e.Document, m.Document) {
			t.Errorf("it is not the English letter (%v)", err)
		}
	}
	if said := log.b.String(); strings.Count(said, "no Japanese font") != 1 || strings.Contains(said, "Jane") || strings.Contains(said, "1234") {
		t.Errorf("logged %q", said)
	}
}

func TestCompleteRefuses(t *testing.T) {
	w, log := testWriter(t, false)
	for name, change := range map[string]func(*message.Input, *delivery.Message){
		"no address":       func(_ *message.Input, m *delivery.Message) { m.To = "" },
		"an email address": func(_ *message.Input, m *delivery.Message) { m.To = "jane@example.com" },
		"a name in Japanese": func(_ *message.Input, m *delivery.Message) {
			m.To = strings.Replace(testAddress, "Jane Doe", "山田太郎", 1)
		},
		"no reference":          func(_ *message.Input, m *delivery.Message) { m.Reference = "" },
		"an id without time":    func(_ *message.Input, m *delivery.Message) { m.Reference = uuid.Nil.String() + "-1" },
		"expired before issued": func(_ *message.Input, m *delivery.Message) { m.ExpiresAt = testIssued },
		"no code":               func(in *message.Input, _ *delivery.Message) { in.Code = "" },
		"a login":               func(in *message.Input, _ *delivery.Message) { in.Purpose = message.Login },
		"a new factor":          func(in *message.Input, _ *delivery.Message) { in.Purpose = message.AddFactor },
	} {
		t.Run(name, func(t *testing.T) {
			in, m := testRecovery(testAddress, "en")
			change(&in, m)
			err := w.complete(in, m)
			if err == nil || m.Document != nil {
				t.Fatalf("a letter was written (%v)", err)
			}
			for _, secret := range []string{"Jane", "jane", "1600", "97477", "山田", "1234567890", "1234 567 890"} {
				if strings.Contains(err.Error(), secret) || strings.Contains(log.b.String(), secret) {
					t.Errorf("error or log tell %q: %v", secret, err)
				}
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for name, opts := range map[string]Options{
		"no sender":               {},
		"a sender of two lines":   {Sender: "Shop\nMain St"},
		"a very long sender":      {Sender: strings.Repeat("x", maxSender+1)},
		"a sender not to print":   {Sender: "株式会社ショップ"},
		"no such country":         {Sender: "Shop", SenderCountry: "USA"},
		"no such font":            {Sender: "Shop", JapaneseFont: "/nowhere.ttf"},
		"a font that is not one":  {Sender: "Shop", JapaneseFont: "/dev/null"},
		"a country in lower case": {Sender: "Shop", SenderCountry: "us"},
	} {
		if _, err := New(delivery.Config{}, &Spool{}, opts); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestNewSetsTheChannel(t *testing.T) {
	w, err := New(delivery.Config{}, &Spool{}, Options{Sender: "Shop"})
	if err != nil {
		t.Fatal(err)
	}
	if w.Channel != otp.Letter || len(w.Providers) != 1 || w.Render == nil || w.Complete == nil || w.RenderNotice != nil {
		t.Errorf("the worker is %+v", w.Config)
	}
}

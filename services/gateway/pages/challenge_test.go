package pages

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// What a page says of a way to answer, and of an end, is found by its name only when it comes to that.
func TestTextsOfQuestions(t *testing.T) {
	t.Parallel()
	texts, err := web.LoadTexts(web.Files(), files)
	if err != nil {
		t.Fatal(err)
	}
	en := texts.Locale("en")
	for w := range wayIcons {
		ids := []string{"challenge.lead_" + string(w), "challenge.way_" + string(w), "common.kind_" + string(w)}
		if w.sent() {
			ids = append(ids, "challenge.help_"+string(w), "challenge.instead_"+string(w))
		}
		for _, id := range ids {
			if !en.Has(id) {
				t.Errorf("there is no text %s", id)
			}
		}
	}
	for _, ch := range otp.Channels() {
		if wayIcons[way(ch)] == "" {
			t.Errorf("there is no picture of %s", ch)
		}
	}
	for _, kind := range otp.FactorKinds() {
		if wayIcons[way(kind)] == "" {
			t.Errorf("there is no picture of %s", kind)
		}
	}
	ends := []string{event.ResultUnknown}
	for _, s := range []otp.State{otp.Verified, otp.Expired, otp.Exhausted, otp.Superseded, otp.Cancelled, otp.Locked, otp.Undeliverable} {
		ends = append(ends, string(s))
	}
	for _, end := range ends {
		if !en.Has("challenge.ended_"+end) || !en.Has("challenge.ended_"+end+"_title") {
			t.Errorf("there is no text for a challenge that is %s", end)
		}
	}
}

func TestNamesOfBrowsers(t *testing.T) {
	t.Parallel()
	texts, err := web.LoadTexts(web.Files(), files)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ agent, want string }{
		{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36 Edg/139.0.0.0", "Edge on Windows"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15", "Safari on macOS"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 CriOS/139.0 Mobile/15E148 Safari/604.1", "Chrome on iPhone"},
		{"Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Mobile Safari/537.36", "Chrome on Android"},
		{"curl/8.14 (Linux)", "Linux"},
		{"<script>alert(1)</script>", "A browser"},
		{"", "A browser"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/challenge", nil)
		r.Header.Set("User-Agent", c.agent)
		v := &visit{r: r, locale: texts.Locale("en")}
		if got := v.browser(); got != c.want {
			t.Errorf("%q is %q, want %q", c.agent, got, c.want)
		}
	}
}

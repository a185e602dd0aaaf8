package pages

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/postgres"
)

// A result is added to an address with nothing else changed: apps may have signed what is there.
func TestWhatIsAddedToAnAddress(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://shop.example":                         "https://shop.example?otpost_result=a-_b",
		"https://shop.example/in":                      "https://shop.example/in?otpost_result=a-_b",
		"https://shop.example/in?":                     "https://shop.example/in?otpost_result=a-_b",
		"https://shop.example/in?z=1&a=%20;b&a&&=":     "https://shop.example/in?z=1&a=%20;b&a&=&otpost_result=a-_b",
		"https://shop.example/?otpost_result=old&x=1":  "https://shop.example/?x=1&otpost_result=a-_b",
		"https://shop.example/?x&otpost%5Fresult=old":  "https://shop.example/?x&otpost_result=a-_b",
		"https://shop.example/?otpost_result=&x=https": "https://shop.example/?x=https&otpost_result=a-_b",
	} {
		got := withQuery(address, "otpost_result", "a-_b")
		u, err := url.Parse(got)
		if got != want || err != nil || len(u.Query()["otpost_result"]) != 1 || u.Host != "shop.example" {
			t.Errorf("%s leads to %s, want %s", address, got, want)
		}
	}
	if got, want := withQuery("https://shop.example/?a=1", "otpost_page", "a&b=c#d"), "https://shop.example/?a=1&otpost_page=a%26b%3Dc%23d"; got != want {
		t.Errorf("a value that looks like more is added as %s", got)
	}
}

// What a form names as the page to come back to is a page of ours, whoever reads it.
func TestPathsToComeBackTo(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"/settings", "/settings/recovery/remove", "/setup/code/resend"} {
		if !pathForm.MatchString(good) {
			t.Errorf("%s is no page", good)
		}
	}
	for _, bad := range []string{
		"", "/", "//evil.example", "///evil", "/\\evil", "/\tevil", "/\t/evil.example", "/\n/evil", "/settings\n", "https://evil.example", "/settings?x", "/settings#x", "/..", "/a/../b", "/%2f",
		"javascript:alert(1)", "/p/token-1", "/settings/", "/Settings", "settings",
	} {
		if pathForm.MatchString(bad) {
			t.Errorf("%q is a page", bad)
		}
	}
}

// A visit that asks too much waits; others do not, and after a while it may go on.
func TestLimitsOfAVisit(t *testing.T) {
	t.Parallel()
	l, now := newLimits(), time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	one, other := uuid.New(), uuid.New()
	passed := func(visit uuid.UUID, method string, tries int) (n int) {
		for range tries {
			wait, ok := l.take(now, visit, method)
			if ok {
				n++
			} else if wait <= 0 {
				t.Fatal("it is not told how long to wait")
			}
		}
		return n
	}
	if n := passed(one, http.MethodPost, 100); n != postsAMinute {
		t.Errorf("%d posts passed", n)
	}
	if n := passed(one, http.MethodGet, 500); n != requestsAMinute-100 {
		t.Errorf("then %d looks passed", n)
	}
	if n := passed(other, http.MethodPost, 10); n != 10 {
		t.Errorf("of another visit %d posts passed", n)
	}
	now = now.Add(10 * time.Second)
	if n := passed(one, http.MethodPost, 100); n != 10 {
		t.Errorf("after ten seconds %d posts passed", n)
	}
	l.prune(now.Add(30 * time.Second))
	if len(l.by) != 1 {
		t.Errorf("%d visits are counted after half a minute", len(l.by))
	}
	if l.prune(now.Add(2 * time.Minute)); len(l.by) != 0 {
		t.Errorf("%d visits are counted after two minutes", len(l.by))
	}
}

// A logo is a picture in the page's own text: nothing is loaded for it from anywhere, and whatever its bytes are they stay within it.
func TestLogosAreData(t *testing.T) {
	t.Parallel()
	if got := logo(postgres.AppPages{}); got != "" {
		t.Errorf("of no logo: %s", got)
	}
	for kind, bytes := range map[string]string{"image/png": "\x89PNG\r\n\x1a\n", "image/svg+xml": `<svg onload="alert(1)"><image href="https://evil.example/x"/></svg>`} {
		got, want := string(logo(postgres.AppPages{Logo: []byte(bytes), LogoType: kind})), "data:"+kind+";base64,"
		if len(got) <= len(want) || got[:len(want)] != want || !onlyBase64(got[len(want):]) {
			t.Errorf("of a logo: %s", got)
		}
	}
}

func onlyBase64(s string) bool {
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '+', r == '/', r == '=':
		default:
			return false
		}
	}
	return true
}

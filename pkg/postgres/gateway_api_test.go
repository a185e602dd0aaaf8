package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// newKey stores a key of an app and returns its id and digest.
func newKey(t *testing.T, keys *postgres.AppKeys, app int, now, expires time.Time) (uuid.UUID, [32]byte) {
	t.Helper()
	d, ok := otp.APIKeyDigest(otp.NewAPIKey())
	if !ok {
		t.Fatal("a new key is no key")
	}
	id, err := keys.Create(t.Context(), now, app, "a label", d, expires)
	if err != nil {
		t.Fatal(err)
	}
	return id, d
}

func TestAppKeys(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	shop, other := db.App(t, "shop").ID, db.App(t, "other").ID
	operator, gateway := postgres.NewAppKeys(db.Role("operator")), postgres.NewAppKeys(db.Role("gateway"))
	now := time.Date(2026, 11, 21, 17, 0, 42, 0, time.UTC)

	if _, err := gateway.ByDigest(t.Context(), [32]byte{1}); !errors.Is(err, postgres.ErrNoKey) {
		t.Errorf("of no key: %v", err)
	}
	forever, d := newKey(t, operator, shop, now, time.Time{})
	if _, err := operator.Create(t.Context(), now, other, "", d, time.Time{}); !errors.Is(err, postgres.ErrKeyTaken) {
		t.Errorf("the same key for another app: %v", err)
	}
	for label, expires := range map[string]time.Time{strings.Repeat("l", 65): {}, "line\nbreak": {}, "late": now} {
		if _, err := operator.Create(t.Context(), now, shop, label, [32]byte{2}, expires); err == nil {
			t.Errorf("a key labelled %q that expires %v was made", label, expires)
		}
	}
	k, err := gateway.ByDigest(t.Context(), d)
	if err != nil || k.ID != forever || k.AppID != shop || k.Label != "a label" || !k.Good(now.AddDate(100, 0, 0)) || !k.LastUsedAt.IsZero() {
		t.Errorf("found %+v, %v", k, err)
	}

	// Uses are told to the minute, and never back.
	for _, at := range []time.Duration{0, 10 * time.Second, 2 * time.Minute, time.Minute} {
		if err := gateway.Used(t.Context(), now.Add(at), forever); err != nil {
			t.Fatal(err)
		}
	}
	if k, _ = gateway.ByDigest(t.Context(), d); !k.LastUsedAt.Equal(time.Date(2026, 11, 21, 17, 2, 0, 0, time.UTC)) {
		t.Errorf("last used at %v", k.LastUsedAt)
	}

	// Rotation: what would last longer ends with the overlap, nothing is prolonged, another app's is left alone.
	soon, _ := newKey(t, operator, shop, now, now.Add(time.Hour))
	gone, _ := newKey(t, operator, shop, now, time.Time{})
	foreign, foreignDigest := newKey(t, operator, other, now, time.Time{})
	if err := operator.Revoke(t.Context(), now, shop, gone); err != nil {
		t.Fatal(err)
	}
	fresh, ended, err := operator.Rotate(t.Context(), now, shop, "new", [32]byte{3}, now.Add(24*time.Hour))
	if err != nil || ended != 1 {
		t.Fatalf("rotated: %d ended, %v", ended, err)
	}
	list, err := operator.List(t.Context(), shop)
	if err != nil {
		t.Fatal(err)
	}
	good := func(after time.Duration) (ids []uuid.UUID) {
		for _, k := range list {
			if k.Good(now.Add(after)) {
				ids = append(ids, k.ID)
			}
		}
		return ids
	}
	for after, want := range map[time.Duration][]uuid.UUID{
		0: {forever, soon, fresh}, time.Hour: {forever, fresh}, 24*time.Hour - 1: {forever, fresh}, 24 * time.Hour: {fresh},
	} {
		slices.SortFunc(want, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
		got := good(after)
		slices.SortFunc(got, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
		if !slices.Equal(got, want) {
			t.Errorf("after %s good are %v, not %v", after, got, want)
		}
	}
	if k, err := gateway.ByDigest(t.Context(), foreignDigest); err != nil || !k.Good(now.AddDate(1, 0, 0)) {
		t.Errorf("another app's key is %+v, %v", k, err)
	}

	// Only the app's own can be revoked, and the first time counts.
	if err := operator.Revoke(t.Context(), now, shop, foreign); !errors.Is(err, postgres.ErrNoKey) {
		t.Errorf("another app's was revoked: %v", err)
	}
	if err := operator.Revoke(t.Context(), now.Add(time.Hour), shop, gone); err != nil {
		t.Errorf("revoked twice: %v", err)
	}
	list, _ = operator.List(t.Context(), shop)
	if i := slices.IndexFunc(list, func(k postgres.AppKey) bool { return k.ID == gone }); i < 0 || !list[i].RevokedAt.Equal(now) || list[i].Good(now) {
		t.Errorf("the revoked one is %+v", list[i])
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	app := db.App(t, "shop").ID
	operator, gateway := postgres.NewPages(db.Role("operator")), postgres.NewPages(db.Role("gateway"))
	now := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	if _, err := gateway.Get(t.Context(), app); !errors.Is(err, postgres.ErrNoPages) {
		t.Errorf("of no pages: %v", err)
	}
	if err := operator.Remove(t.Context(), app); !errors.Is(err, postgres.ErrNoPages) {
		t.Errorf("no pages were removed: %v", err)
	}
	svg := []byte("<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>")
	for _, p := range []postgres.AppPages{
		{AppID: app, ReturnURLs: []string{"https://shop.example"}},
		{AppID: app, ReturnURLs: []string{"https://shop.example/a/", "http://localhost:8081"}, Accent: "#0a7d4f", Logo: svg, LogoType: postgres.LogoSVG},
		{AppID: app, ReturnURLs: []string{"http://[::1]:8081/"}, Accent: "#0a7d4f"},
	} {
		if err := operator.Set(t.Context(), now, p); err != nil {
			t.Fatal(err)
		}
		p.UpdatedAt = now
		if got, err := gateway.Get(t.Context(), app); err != nil || fmt.Sprint(got.ReturnURLs, got.Accent, got.LogoType, string(got.Logo)) !=
			fmt.Sprint(p.ReturnURLs, p.Accent, p.LogoType, string(p.Logo)) || !got.UpdatedAt.Equal(now) {
			t.Errorf("set %+v, got %+v, %v", p, got, err)
		}
	}
	if err := operator.Remove(t.Context(), app); err != nil {
		t.Error(err)
	}
}

func TestPagesAreChecked(t *testing.T) {
	png := []byte("\x89PNG\r\n\x1a\n and so on")
	good := postgres.AppPages{ReturnURLs: []string{"https://shop.example"}, Accent: "#0a7d4f", Logo: png, LogoType: postgres.LogoPNG}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for word, change := range map[string]func(*postgres.AppPages){
		"accent":               func(p *postgres.AppPages) { p.Accent = "#0A7D4F" },
		"accent: ":             func(p *postgres.AppPages) { p.Accent = "red" },
		"accent: must":         func(p *postgres.AppPages) { p.Accent = "#0a7d4f;" },
		"logo: must be a PNG":  func(p *postgres.AppPages) { p.Logo = []byte("<html><svg></svg></html>") },
		"logo: must be a PNG ": func(p *postgres.AppPages) { p.LogoType = postgres.LogoSVG },
		"logo: must be a pic":  func(p *postgres.AppPages) { p.Logo = append(png, make([]byte, postgres.MaxLogo)...) },
		"logo":                 func(p *postgres.AppPages) { p.LogoType = "" },
		"return-url":           func(p *postgres.AppPages) { p.ReturnURLs = nil },
		"return-url: must":     func(p *postgres.AppPages) { p.ReturnURLs = make([]string, 33) },
	} {
		p := good
		if change(&p); p.Check() == nil || !strings.HasPrefix(p.Check().Error(), strings.TrimSpace(word)) {
			t.Errorf("%s: %v", word, p.Check())
		}
	}
	for _, u := range []string{
		"", "shop.example", "//shop.example", "ftp://shop.example", "javascript:alert(1)", "http://shop.example", "http://localhost.example", "http://127.0.0.1.example",
		"https://user@shop.example", "https://shop.example?x", "https://shop.example/#x", "https://shop.example/a/../b/", "https://shop.example\\", "https://*.shop.example",
		"https://shop.example:0", "https://shop.example:65536", "https://shop.example:", "https://shop..example", "https://shop.example/a b", "https://ſhop.example",
		"https://[::1", "http://0.0.0.0", "http://10.0.0.1", "data:text/html,x",
	} {
		p := good
		if p.ReturnURLs = []string{u}; p.Check() == nil {
			t.Errorf("%q may be allowed", u)
		}
	}
	for _, u := range []string{
		"https://shop.example/", "https://shop.example:8443/a/", "http://localhost", "http://localhost:8081/a", "http://shop.localhost/", "http://127.0.0.1:8081", "http://127.1.2.3",
		"http://[::1]:8081/", "https://xn--bcher-kva.example",
	} {
		p := good
		if p.ReturnURLs = []string{u}; p.Check() != nil {
			t.Errorf("%q may not be allowed: %v", u, p.Check())
		}
	}
}

// TestReturnURLs tries to lead somewhere else, as an attacker would who may choose a part of the address.
func TestReturnURLs(t *testing.T) {
	origin := []string{"https://shop.example"}
	below := []string{"https://shop.example/auth/", "https://shop.example/done"}
	local := []string{"http://localhost:8081", "https://[2001:db8::1]/"}
	for _, c := range []struct {
		allowed []string
		url     string
		want    bool
	}{
		{origin, "https://shop.example", true},
		{origin, "https://shop.example/", true},
		{origin, "https://shop.example/a/b?next=https://evil.example/../x&y=%2F#", false}, // a fragment, if an empty one
		{origin, "https://shop.example/a/b?next=https://evil.example/../x&y=%2F", true},
		{origin, "https://SHOP.example:443/", true},
		{origin, "https://shop.example:0443/", true},
		{origin, "https://shop.example:8443/", false},
		{origin, "https://shop.example:/", false},
		{origin, "http://shop.example/", false},
		{origin, "http://shop.example:443/", false},
		{origin, "https://shop.example.evil/", false},
		{origin, "https://shop.example.evil.example/", false},
		{origin, "https://evilshop.example/", false},
		{origin, "https://evil.example/shop.example/", false},
		{origin, "https://www.shop.example/", false},
		{origin, "https://shop.example@evil.example/", false},
		{origin, "https://shop.example:443@evil.example/", false},
		{origin, "https://user@shop.example/", false},
		{origin, "https://shop.example%40evil.example/", false},
		{origin, "https://shop.example%2eevil.example/", false},
		{origin, "https://shop.example\\@evil.example/", false},
		{origin, "https://shop.example\\.evil.example/", false},
		{origin, "https:\\\\shop.example/", false},
		{origin, "https:/shop.example/", false},
		{origin, "https:shop.example/", false},
		{origin, "https:///shop.example/", false},
		{origin, "//shop.example/", false},
		{origin, "/\\evil.example", false},
		{origin, "https://evil.example#https://shop.example/", false},
		{origin, "https://evil.example?https://shop.example/", false},
		{origin, "https://evil.example\thttps://shop.example/", false},
		{origin, " https://shop.example/", false},
		{origin, "https://shop.example/\r\nSet-Cookie: a=b", false},
		{origin, "https://shop.example\x00.evil.example/", false},
		{origin, "https://shop.example./", false},
		{origin, "https://shop.example。evil.example/", false},
		{origin, "https://ｓhop.example/", false},
		{origin, "javascript://shop.example/%0aalert(1)", false},
		{origin, "data:text/html,https://shop.example", false},
		{origin, "HTTPS://shop.example/", false}, // nobody writes it so by right
		{origin, "https://shop.example//evil.example", false},
		{origin, "https://shop.example/a//b", false},
		{origin, "https://shop.example/..//evil.example", false},
		{origin, "https://shop.example/%2f%2fevil.example", false},
		{origin, "https://shop.example/%5cevil.example", false},
		{origin, "https://shop.example/" + strings.Repeat("a", 2000), false},
		{origin, "", false},
		{below, "https://shop.example/auth/", true},
		{below, "https://shop.example/auth/back", true},
		{below, "https://shop.example/auth/back?x=/../", true},
		{below, "https://shop.example/auth/a%20b", true},
		{below, "https://shop.example/auth", false},
		{below, "https://shop.example/authentic", false},
		{below, "https://shop.example/auth.evil/", false},
		{below, "https://shop.example/AUTH/", false},
		{below, "https://shop.example/auth/../admin", false},
		{below, "https://shop.example/auth/..", false},
		{below, "https://shop.example/auth/./x", false},
		{below, "https://shop.example/auth/%2e%2e/admin", false},
		{below, "https://shop.example/auth/%2E./admin", false},
		{below, "https://shop.example/auth/..;/admin", false},
		{below, "https://shop.example/auth/..%2fadmin", false},
		{below, "https://shop.example/auth/..%5cadmin", false},
		{below, "https://shop.example/auth/%252e%252e/admin", false},
		{below, "https://shop.example/auth/%00", false},
		{below, "https://shop.example/auth%2f", false},
		{below, "https://shop.example/%61uth/", false},
		{below, "https://shop.example/auth/%zz", false},
		{below, "https://shop.example/done", true},
		{below, "https://shop.example/done?otpost=1", true},
		{below, "https://shop.example/done/", false},
		{below, "https://shop.example/done/x", false},
		{below, "https://shop.example/done.html", false},
		{below, "https://shop.example/", false},
		{below, "https://shop.example", false},
		{local, "http://localhost:8081/a", true},
		{local, "http://localhost/", false},
		{local, "https://localhost:8081/", false},
		{local, "http://127.0.0.1:8081/", false},
		{local, "http://localhost:8081.evil.example/", false},
		{local, "https://[2001:db8:0::1]/x", true},
		{local, "https://[2001:db8::2]/", false},
		{local, "https://[2001:db8::1%25eth0]/", false},
		{nil, "https://shop.example/", false},
	} {
		if got := (postgres.AppPages{ReturnURLs: c.allowed}).AllowsReturn(c.url); got != c.want {
			t.Errorf("%v: %q is %v", c.allowed, c.url, got)
		}
	}
	if (postgres.AppPages{ReturnURLs: []string{"https://shop.example/"}}).AllowsReturn("https://shop.example") != true {
		t.Error("an origin with a slash does not allow the one without")
	}
}

func TestARequestIsClaimedOnceAndAnsweredAlike(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	s := postgres.NewHTTPRequests(db.Role("gateway"))
	now := time.Date(2026, 11, 21, 17, 0, 0, 123456000, time.UTC)
	r := postgres.HTTPRequest{AppID: 1, Key: [32]byte{1}, Request: [32]byte{2}}
	another := postgres.HTTPRequest{AppID: 1, Key: [32]byte{1}, Request: [32]byte{3}}
	until := now.Add(10 * time.Second)
	claim := func(r postgres.HTTPRequest, at time.Time) (*postgres.RequestClaim, postgres.HTTPAnswer, error) {
		return s.Claim(t.Context(), at, r, at.Add(10*time.Second))
	}
	first, _, err := claim(r, now)
	if err != nil || first == nil {
		t.Fatal(err)
	}
	if c, _, err := claim(r, until.Add(-time.Microsecond)); c != nil || !errors.Is(err, postgres.ErrRequestBusy) {
		t.Errorf("while under way: %v, %v", c, err)
	}
	if c, _, err := claim(another, now); c != nil || !errors.Is(err, postgres.ErrRequestAnother) {
		t.Errorf("another request while under way: %v, %v", c, err)
	}
	if c, _, err := claim(postgres.HTTPRequest{AppID: 2, Key: r.Key, Request: r.Request}, now); c == nil || err != nil {
		t.Errorf("another app's: %v, %v", c, err)
	}

	// Whoever died on the way blocks nobody for longer than the claim lives, and what they do later counts no more.
	second, _, err := claim(r, until.Add(700)) // to the nanosecond, which Postgres does not keep
	if err != nil || second == nil {
		t.Fatalf("after the claim has expired: %v", err)
	}
	if err := s.Answer(t.Context(), first, postgres.HTTPAnswer{Status: 500, Sealed: []byte("late")}, until.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if c, _, err := claim(r, until); c != nil || !errors.Is(err, postgres.ErrRequestBusy) {
		t.Errorf("the first has taken the second's claim away: %v, %v", c, err)
	}
	if err := s.Answer(t.Context(), second, postgres.HTTPAnswer{Status: 200, Sealed: []byte("answer")}, until.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if c, a, err := claim(r, until.Add(24*time.Hour-time.Microsecond)); c != nil || err != nil || a.Status != 200 || string(a.Sealed) != "answer" {
		t.Errorf("once answered: %v, %+v, %v", c, a, err)
	}
	if c, _, err := claim(another, until); c != nil || !errors.Is(err, postgres.ErrRequestAnother) {
		t.Errorf("another request once answered: %v, %v", c, err)
	}
	if err := s.Release(t.Context(), second); err != nil { // an answer stays
		t.Fatal(err)
	}
	third, _, err := claim(another, until.Add(24*time.Hour))
	if err != nil || third == nil {
		t.Fatalf("after a day: %v", err)
	}
	if err := s.Release(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	if c, _, err := claim(r, until.Add(24*time.Hour)); c == nil || err != nil {
		t.Errorf("after it was released: %v", err)
	}
	if n, err := s.Sweep(t.Context(), now.Add(20*time.Second)); n != 1 || err != nil { // the other app's
		t.Errorf("swept %d, %v", n, err)
	}
	if n := otposttest.Get[int](t, db, "SELECT count(*) FROM http_requests"); n != 1 {
		t.Errorf("%d are left", n)
	}
}

// TestRequestsAtOnce holds that of the same request many times at once one is carried out.
func TestRequestsAtOnce(t *testing.T) {
	t.Parallel()
	s := postgres.NewHTTPRequests(otposttest.Postgres(t).Role("gateway"))
	now := time.Now()
	for i := range byte(5) {
		var won atomic.Int32
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				c, _, err := s.Claim(t.Context(), now, postgres.HTTPRequest{AppID: 1, Key: [32]byte{i}}, now.Add(time.Minute))
				switch {
				case c != nil:
					won.Add(1)
				case !errors.Is(err, postgres.ErrRequestBusy):
					t.Errorf("who lost got %v", err)
				}
			})
		}
		if all.Wait(); won.Load() != 1 {
			t.Errorf("%d claimed the request", won.Load())
		}
	}
}

package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/otpost/otpost/pkg/event"
)

// ErrNoPages says that an app has no pages: its operator has not said where they may lead back to.
var ErrNoPages = errors.New("the app has no pages")

// Bounds of what is kept of an app's pages.
const (
	MaxLogo       = 64 << 10 // bytes
	maxReturnURLs = 32
)

// Kinds of pictures that a logo may be. An SVG is shown by <img> alone, where it runs no script and loads nothing.
const (
	LogoPNG = "image/png"
	LogoSVG = "image/svg+xml"
)

// AppPages is how an app's pages look, and where they may lead back to.
type AppPages struct {
	AppID      int
	Accent     string // "#rrggbb" in lower case; empty for the house's own
	Logo       []byte // at most MaxLogo bytes; nil for none
	LogoType   string // LogoPNG or LogoSVG; empty without a logo
	ReturnURLs []string
	UpdatedAt  time.Time
}

var accentForm = regexp.MustCompile(`^#[0-9a-f]{6}$`)

// Check returns an error that names the first field that is wrong.
//
// Each of ReturnURLs is an origin ("https://shop.example"), which allows every path of it; or an origin and a path that ends with "/", which allows what lies
// below that; or an origin and any other path, which allows that one. It is of https, or of http on this machine.
func (p AppPages) Check() error {
	if p.Accent != "" && !accentForm.MatchString(p.Accent) {
		return errors.New("accent: must be a colour such as #0a7d4f")
	}
	if (len(p.Logo) > 0) != (p.LogoType != "") || len(p.Logo) > MaxLogo {
		return fmt.Errorf("logo: must be a picture of at most %d KiB", MaxLogo>>10)
	}
	if len(p.Logo) > 0 && LogoKind(p.Logo) != p.LogoType {
		return errors.New("logo: must be a PNG or SVG file")
	}
	if n := len(p.ReturnURLs); n < 1 || n > maxReturnURLs {
		return fmt.Errorf("return-url: must be given, at most %d times", maxReturnURLs)
	}
	for _, s := range p.ReturnURLs {
		u, ok := parsePlace(s)
		switch {
		case !ok:
			return fmt.Errorf("return-url: %q must be a URL such as https://shop.example/ or https://shop.example/signed-in/", s)
		case strings.Contains(s, "?"):
			return fmt.Errorf("return-url: %q must be without a query; every query is allowed", s)
		case u.scheme != "https" && !u.local:
			return fmt.Errorf("return-url: %q must be of https; http is for localhost only", s)
		}
	}
	return nil
}

// LogoKind tells by its beginning what a picture is; empty for what is no logo.
func LogoKind(b []byte) string {
	text := bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")):
		return LogoPNG
	case bytes.HasPrefix(text, []byte("<svg")), bytes.HasPrefix(text, []byte("<?xml")) && bytes.Contains(text, []byte("<svg")):
		return LogoSVG
	}
	return ""
}

// AllowsReturn reports whether pages may lead to a URL. Scheme, host and port must be those of an allowed one, and the path the same or, segment by segment,
// below it. What servers and browsers read in different ways is refused, whatever is allowed: dots that climb, slashes and backslashes in disguise.
func (p AppPages) AllowsReturn(to string) bool {
	u, ok := parsePlace(to)
	if !ok {
		return false
	}
	for _, s := range p.ReturnURLs {
		allowed, ok := parsePlace(s)
		if !ok || allowed.scheme != u.scheme || allowed.host != u.host || allowed.port != u.port {
			continue
		}
		switch {
		case allowed.path == "", allowed.path == u.path:
			return true
		case allowed.path == "/" && u.path == "": // a browser asks for the same
			return true
		case strings.HasSuffix(allowed.path, "/") && strings.HasPrefix(u.path, allowed.path):
			return true
		}
	}
	return false
}

// A place is a URL in parts that compare.
type place struct {
	scheme string
	host   string // in lower case; of IPv6 in its short form
	port   int    // the scheme's own where none is given
	path   string // escaped, as it was given; empty for none
	local  bool   // of this machine
}

// parsePlace reads a URL that event.CheckURL lets pass and that nobody can read in another way.
func parsePlace(s string) (place, bool) {
	if event.CheckURL(s) != "" {
		return place{}, false
	}
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Opaque != "" || u.Fragment != "" || u.Hostname() == "" || !plainPath(u.EscapedPath()) {
		return place{}, false
	}
	p := place{scheme: u.Scheme, host: strings.ToLower(u.Hostname()), path: u.EscapedPath()}
	switch port := u.Port(); {
	case port != "":
		if p.port, err = strconv.Atoi(port); err != nil || p.port < 1 || p.port > 65535 {
			return place{}, false
		}
	case strings.HasSuffix(u.Host, ":"):
		return place{}, false
	case p.scheme == "https":
		p.port = 443
	default:
		p.port = 80
	}
	if strings.Contains(p.host, "..") {
		return place{}, false
	}
	if ip, err := netip.ParseAddr(p.host); err == nil {
		p.host, p.local = ip.String(), ip.IsLoopback()
	} else {
		p.local = p.host == "localhost" || strings.HasSuffix(p.host, ".localhost") // RFC 6761, section 6.3
	}
	return p, true
}

// plainPath refuses segments that climb or stand still ("." and ".." in any spelling), empty segments, and what decodes to a slash, a backslash, a percent sign
// or a control character.
func plainPath(escaped string) bool {
	path, err := url.PathUnescape(escaped)
	if err != nil || strings.ContainsFunc(path, func(r rune) bool { return r == '\\' || r == '%' || r < ' ' || r == 0x7f }) ||
		strings.Count(path, "/") != strings.Count(escaped, "/") || strings.Contains(path, "//") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." { // some servers cut parameters off first
			return false
		}
	}
	return true
}

// Pages is the store of how apps' pages look. The gateway may read it; the operator's role may write.
type Pages struct{ db *DB }

// NewPages returns the store.
func NewPages(db *DB) *Pages { return &Pages{db} }

// Set writes an app's pages whole.
func (s *Pages) Set(ctx context.Context, now time.Time, p AppPages) error {
	if err := p.Check(); err != nil {
		return err
	}
	var logo []byte
	if len(p.Logo) > 0 {
		logo = p.Logo
	}
	if _, err := s.db.x.ExecContext(ctx, query("app_pages_set"), p.AppID, p.Accent, logo, p.LogoType, texts(p.ReturnURLs), now); err != nil {
		return fmt.Errorf("set pages: %w", err)
	}
	return nil
}

// Get returns an app's pages, or ErrNoPages.
func (s *Pages) Get(ctx context.Context, app int) (AppPages, error) {
	var row struct {
		AppID      int            `db:"app_id"`
		Accent     string         `db:"accent"`
		Logo       []byte         `db:"logo"`
		LogoType   string         `db:"logo_type"`
		ReturnURLs pq.StringArray `db:"return_urls"`
		UpdatedAt  time.Time      `db:"updated_at"`
	}
	if err := s.db.x.GetContext(ctx, &row, query("app_pages_get"), app); err != nil {
		if missing(err) {
			return AppPages{}, ErrNoPages
		}
		return AppPages{}, fmt.Errorf("get pages: %w", err)
	}
	return AppPages{AppID: row.AppID, Accent: row.Accent, Logo: row.Logo, LogoType: row.LogoType, ReturnURLs: row.ReturnURLs, UpdatedAt: row.UpdatedAt}, nil
}

// Remove takes an app's pages away, or returns ErrNoPages.
func (s *Pages) Remove(ctx context.Context, app int) error {
	res, err := s.db.x.ExecContext(ctx, query("app_pages_remove"), app)
	if err != nil {
		return fmt.Errorf("remove pages: %w", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return ErrNoPages
	}
	return nil
}

package otposttest

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// A Browser is a browser without scripts: it keeps cookies, follows redirects, and fills in and sends the forms of the page that it is on.
type Browser struct {
	t      testing.TB
	client *http.Client
	URL    *url.URL // of the page
	Status int
	Header http.Header
	Body   []byte
	root   *html.Node
	Stop   func(*url.URL) bool // a redirect to such an address is not followed: URL is then where it leads, and there is no page
	Locale string              // Accept-Language
}

// NewBrowser returns a browser with an empty memory. It trusts every certificate: it is for servers of the test.
func NewBrowser(t testing.TB) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // see above
	t.Cleanup(transport.CloseIdleConnections)
	return &Browser{t: t, client: &http.Client{
		Jar: browserJar{jar}, Transport: transport, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// A browserJar sends Secure cookies to this machine's own name without encryption too, as browsers do (W3C Secure Contexts, section 3.1).
type browserJar struct{ jar http.CookieJar }

// SetCookies keeps what a page sets.
func (j browserJar) SetCookies(at *url.URL, cookies []*http.Cookie) {
	j.jar.SetCookies(secured(at), cookies)
}

// Cookies are what a page is sent.
func (j browserJar) Cookies(at *url.URL) []*http.Cookie { return j.jar.Cookies(secured(at)) }

func secured(at *url.URL) *url.URL {
	if at.Hostname() != "localhost" {
		return at
	}
	u := *at
	u.Scheme = "https"
	return &u
}

// Forget drops a cookie of the page's host: of a session, as a browser does that is closed.
func (b *Browser) Forget(name string) {
	b.client.Jar.SetCookies(b.URL, []*http.Cookie{{Name: name, Path: "/", Secure: true, MaxAge: -1}})
}

// Cookies are those that a page at the address would be sent.
func (b *Browser) Cookies(at *url.URL) []*http.Cookie { return b.client.Jar.Cookies(at) }

// Open goes to an address, absolute or seen from the page, as a link does.
func (b *Browser) Open(address string) {
	b.t.Helper()
	b.request(http.MethodGet, b.resolve(address), nil)
}

// Post sends a form that no page has served.
func (b *Browser) Post(address string, form url.Values, header ...string) {
	b.t.Helper()
	b.request(http.MethodPost, b.resolve(address), form, header...)
}

func (b *Browser) resolve(address string) *url.URL {
	b.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		b.t.Fatalf("open %s: %v", address, err)
	}
	if b.URL != nil {
		u = b.URL.ResolveReference(u)
	}
	return u
}

func (b *Browser) request(method string, u *url.URL, form url.Values, header ...string) {
	b.t.Helper()
	for range 10 {
		var body io.Reader
		if method == http.MethodPost {
			body = strings.NewReader(form.Encode())
		}
		req, err := http.NewRequestWithContext(b.t.Context(), method, u.String(), body)
		if err != nil {
			b.t.Fatal(err)
		}
		if body != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", u.Scheme+"://"+u.Host)
			req.Header.Set("Sec-Fetch-Site", "same-origin")
		}
		for i := 0; i+1 < len(header); i += 2 {
			if header[i] == "Host" {
				req.Host = header[i+1]
				continue
			}
			req.Header.Set(header[i], header[i+1])
		}
		if b.Locale != "" {
			req.Header.Set("Accept-Language", b.Locale)
		}
		res, err := b.client.Do(req)
		if err != nil {
			b.t.Fatalf("%s %s: %v", method, u.Path, err)
		}
		b.Body, err = io.ReadAll(io.LimitReader(res.Body, 4<<20))
		_ = res.Body.Close()
		if err != nil {
			b.t.Fatalf("%s %s: %v", method, u.Path, err)
		}
		b.URL, b.Status, b.Header, b.root = u, res.StatusCode, res.Header, nil
		to := res.Header.Get("Location")
		if res.StatusCode < 300 || res.StatusCode > 399 || to == "" {
			return
		}
		if u, err = u.Parse(to); err != nil {
			b.t.Fatalf("%s leads to %q: %v", b.URL.Path, to, err)
		}
		if b.Stop != nil && b.Stop(u) {
			b.URL, b.Body = u, nil
			return
		}
		method, form, header = http.MethodGet, nil, nil
	}
	b.t.Fatalf("%s: redirects go round in a circle", u.Path)
}

// At fails the test unless the page has this path.
func (b *Browser) At(path string) {
	b.t.Helper()
	if b.URL.Path != path {
		b.t.Fatalf("the browser is at %s (%d), want %s\n%s", b.URL.Path, b.Status, path, b.Text())
	}
}

// Says fails the test unless each of the texts is on the page.
func (b *Browser) Says(texts ...string) {
	b.t.Helper()
	for _, want := range texts {
		if !strings.Contains(b.Text(), want) {
			b.t.Fatalf("%s (%d) does not say %q:\n%s", b.URL.Path, b.Status, want, b.Text())
		}
	}
}

// Text is what the page says, without scripts and styles, in one line an element.
func (b *Browser) Text() string {
	var out strings.Builder
	walk(b.dom(), func(n *html.Node) bool {
		if n.Type == html.ElementNode && (n.Data == "script" || n.Data == "style" || n.Data == "head") {
			return false
		}
		if n.Type == html.TextNode {
			if s := strings.Join(strings.Fields(n.Data), " "); s != "" {
				out.WriteString(s + "\n")
			}
		}
		return true
	})
	return out.String()
}

// Fill sends the form whose action is the given path, with the page's own hidden fields and choices, the given values, as its button would. A name of a value
// must be a field of the form.
func (b *Browser) Fill(action string, values map[string]string) {
	b.t.Helper()
	forms := b.Forms(action)
	if len(forms) == 0 {
		b.t.Fatalf("%s (%d) has no form for %s:\n%s", b.URL.Path, b.Status, action, b.Text())
	}
	b.Send(forms[0], values)
}

// Send sends a form of the page.
func (b *Browser) Send(f Form, values map[string]string) {
	b.t.Helper()
	send := url.Values{}
	maps.Copy(send, f.Values)
	for name, value := range values {
		if !slices.Contains(f.Fields, name) {
			b.t.Fatalf("the form for %s of %s has no field %q; it has %v", f.Action, b.URL.Path, name, f.Fields)
		}
		send.Set(name, value)
	}
	b.request(http.MethodPost, b.resolve(f.Action), send)
}

// A Form is one that is posted.
type Form struct {
	Action string
	Values url.Values // as the page has filled it in
	Fields []string   // all names
	Attr   map[string]string
}

// Forms are the posted forms of the page with an action; all of them where it is empty.
func (b *Browser) Forms(action string) []Form {
	b.t.Helper()
	var out []Form
	walk(b.dom(), func(n *html.Node) bool {
		if n.Type != html.ElementNode || n.Data != "form" || !strings.EqualFold(attr(n, "method"), "post") {
			return true
		}
		to := attr(n, "action")
		if to == "" {
			to = b.URL.Path
		}
		if action != "" && to != action {
			return false
		}
		f := Form{Action: to, Values: url.Values{}, Attr: map[string]string{}}
		for _, a := range n.Attr {
			f.Attr[a.Key] = a.Val
		}
		walk(n, func(n *html.Node) bool { f.add(n); return true })
		out = append(out, f)
		return false
	})
	return out
}

// add takes a field into the form.
func (f *Form) add(n *html.Node) {
	name := attr(n, "name")
	if n.Type != html.ElementNode || name == "" {
		return
	}
	switch n.Data {
	case "input":
		f.Fields = append(f.Fields, name)
		if kind := attr(n, "type"); kind == "checkbox" || kind == "radio" {
			if !hasAttr(n, "checked") {
				return
			}
		}
		f.Values.Set(name, attr(n, "value"))
	case "textarea":
		f.Fields = append(f.Fields, name)
		f.Values.Set(name, textOf(n))
	case "select":
		f.Fields = append(f.Fields, name)
		first := true
		walk(n, func(o *html.Node) bool {
			if o.Type == html.ElementNode && o.Data == "option" && (first || hasAttr(o, "selected")) {
				f.Values.Set(name, attr(o, "value"))
				first = false
			}
			return true
		})
	case "button":
		f.Fields = append(f.Fields, name) // its value is the caller's to give: a form may have several
	}
}

// Links are the addresses of the page's links.
func (b *Browser) Links() []string {
	var out []string
	walk(b.dom(), func(n *html.Node) bool {
		if n.Type == html.ElementNode && n.Data == "a" {
			out = append(out, attr(n, "href"))
		}
		return true
	})
	return out
}

// Element returns the text of the element with an id; it fails the test where there is none.
func (b *Browser) Element(id string) string {
	b.t.Helper()
	var found *html.Node
	walk(b.dom(), func(n *html.Node) bool {
		if n.Type == html.ElementNode && attr(n, "id") == id {
			found = n
		}
		return found == nil
	})
	if found == nil {
		b.t.Fatalf("%s has no element #%s:\n%s", b.URL.Path, id, b.Text())
	}
	return textOf(found)
}

func (b *Browser) dom() *html.Node {
	if b.root == nil {
		root, err := html.Parse(bytes.NewReader(b.Body))
		if err != nil {
			panic(fmt.Sprintf("parse %s: %v", b.URL, err)) // a reader of bytes does not fail
		}
		b.root = root
	}
	return b.root
}

// walk visits a node and, where fn says so, what is in it.
func walk(n *html.Node, fn func(*html.Node) bool) {
	if !fn(n) {
		return
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		walk(c, fn)
	}
}

func textOf(n *html.Node) string {
	var out strings.Builder
	walk(n, func(n *html.Node) bool {
		if n.Type == html.TextNode {
			out.WriteString(n.Data)
		}
		return true
	})
	return strings.TrimSpace(out.String())
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func hasAttr(n *html.Node, key string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
}

// Insecure returns a client that trusts every certificate: it is for servers of the test.
func Insecure() *http.Client {
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // see above
		Timeout:   20 * time.Second,
	}
}

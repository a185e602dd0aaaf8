package inbox

import (
	"embed"
	"fmt"
	"html/template"
	"maps"
	"mime"
	"net/http"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed assets/inbox.css assets/inbox.js assets/icon.svg
var assets embed.FS

//go:embed assets/page.html
var pageSource string

var page = template.Must(template.New("page").Parse(pageSource))

// pageMessages is how many messages the page shows; programs page through the API.
const pageMessages = 100

// liveRetry is how long a live page waits before it connects again.
const liveRetry = time.Second

type pageData struct {
	Host         string // of this inbox, as the reader named it
	Total, Shown int
	Cards        []card
	Faults       []FaultRule
	Magic        []magicGroup
}

// A magicGroup is what one simulated provider is made to fail by.
type magicGroup struct {
	Provider string
	List     []Magic
	AnyHost  bool // the addresses are local parts, good at any domain
}

func magicGroups() []magicGroup {
	return []magicGroup{
		{Provider: "Twilio", List: MagicNumbers()},
		{Provider: "Vonage", List: VonageMagicNumbers()},
		{Provider: "SNS", List: snsMagic()},
		{Provider: "Mail servers", List: MagicMailboxes(), AnyHost: true},
	}
}

// card is a message as the page shows it.
type card struct {
	Message
	Badge, Sender, Code string
	Stamp, Day, Clock   string
	Before, After       string // the text around the code; Before is all of it when the text does not show the code
	CodeInText          bool
}

var badges = map[string]string{SMS: "SMS", Voice: "Call", WhatsApp: "WhatsApp", Email: "Email"}

// snsMagic words what the simulated SNS does with magic numbers: it knows errors by name only.
func snsMagic() []Magic {
	var list []Magic
	for _, to := range slices.Sorted(maps.Keys(magicSNS)) {
		list = append(list, Magic{to, fmt.Sprintf("%s (%d)", magicSNS[to].Code, magicSNS[to].Status)})
	}
	return list
}

func newCard(m Message) card {
	c := card{
		Message: m, Badge: badges[m.Channel], Sender: m.From, Code: m.Code(), Before: m.Text,
		Stamp: m.At.Format(timeLayout), Day: m.At.Local().Format("2 Jan"), Clock: m.At.Local().Format("15:04:05"),
	}
	if m.Channel == Email {
		c.Sender = senderName(m)
	}
	if before, after, ok := strings.Cut(m.Text, c.Code); ok && c.Code != "" {
		c.Before, c.After, c.CodeInText = before, after, true
	}
	return c
}

// senderName is the From header as a mail program shows it: the name where there is one, beside the address.
func senderName(m Message) string {
	parser := mail.AddressParser{WordDecoder: &words}
	if from, err := parser.ParseList(m.Header.Get("From")); err == nil && len(from) > 0 && from[0].Name != "" {
		return fmt.Sprintf("%s <%s>", from[0].Name, from[0].Address)
	}
	return m.From
}

func (in *Inbox) servePage(w http.ResponseWriter, r *http.Request) {
	messages := in.List(Filter{Limit: pageMessages})
	data := pageData{
		Host: r.Host, Total: in.store.count(), Shown: len(messages),
		Faults: in.Faults(), Magic: magicGroups(),
	}
	for _, m := range messages {
		data.Cards = append(data.Cards, newCard(m))
	}
	var b strings.Builder
	if err := page.Execute(&b, data); err != nil {
		in.log.Error("rendering the inbox page", "error", err)
		writeProblem(w, http.StatusInternalServerError, "", "the page could not be rendered")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(b.String()))
}

// serveHTML serves an email's HTML to the sandboxed frame on the page. It has an address of its own, not a srcdoc, because a srcdoc
// inherits the page's policy, which would strip the mail of its inline styles. Its own policy makes it an origin of its own without
// script, forms or requests, however it is opened.
func (in *Inbox) serveHTML(w http.ResponseWriter, r *http.Request) {
	m, ok := in.Get(r.PathValue("id"))
	if !ok || m.HTML == "" {
		writeProblem(w, http.StatusNotFound, "", "no such message, or it has no HTML")
		return
	}
	w.Header().Set("Content-Security-Policy",
		"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(m.HTML))
}

// serveEvents tells a live page of every change (WHATWG HTML, section 9.2, server-sent events). It ends with the request or with Close.
func (in *Inbox) serveEvents(w http.ResponseWriter, r *http.Request) {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	for first := true; ; first = false {
		changed := in.Changed()
		event := "event: change\ndata: " + strconv.Itoa(in.store.count()) + "\n\n"
		if first {
			// The page may have been rendered before this stream began, so the first event also says "look".
			event = fmt.Sprintf("retry: %d\n%s", liveRetry.Milliseconds(), event)
		}
		if _, err := w.Write([]byte(event)); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-in.ctx.Done():
			return
		}
	}
}

func serveAssets() http.Handler {
	// The types are named because a machine's own table may know them otherwise, and nosniff then refuses them.
	for extension, kind := range map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"} {
		_ = mime.AddExtensionType(extension, kind)
	}
	files := http.FileServerFS(assets)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") || strings.HasSuffix(r.URL.Path, ".html") {
			http.NotFound(w, r)
			return
		}
		files.ServeHTTP(w, r)
	})
}

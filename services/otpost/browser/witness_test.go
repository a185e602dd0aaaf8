package browser

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A witness sees what the browser asks for and what it complains of.
type witness struct {
	p      *person
	mu     sync.Mutex
	faults []string
}

// watch begins before the first page.
func watch(p *person) *witness {
	p.t.Helper()
	w := &witness{p: p}
	if err := chromedp.Listen(p.ctx, w.see); err != nil {
		p.t.Fatal(err)
	}
	p.do("watch the browser", command(network.Enable, network.EnableParams{}), command(log.Enable, cdp.Empty{}))
	return w
}

func (w *witness) see(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		at, err := url.Parse(e.Request.URL)
		if err != nil || !slices.Contains([]string{"data", "about", "blob"}, at.Scheme) && !slices.Contains([]string{"localhost", "127.0.0.1"}, at.Hostname()) {
			w.note("a request left this machine: " + e.Request.URL)
		}
	case *log.EventEntryAdded:
		// An answer that says that a field is wrong has the status 422, and Chromium takes note of it as of any other above 399.
		answered := e.Entry.Source == log.EntrySourceNetwork && strings.Contains(e.Entry.Text, "responded with a status of 4")
		if e.Entry.Level != log.EntryLevelInfo && e.Entry.Level != log.EntryLevelVerbose && (!answered || strings.Contains(e.Entry.URL, "/static/")) {
			w.note(fmt.Sprintf("the browser complains: %s (%s)", e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		w.note("a script failed: " + e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			w.note(fmt.Sprintf("a script complains: %v", e.Args))
		}
	}
}

func (w *witness) note(fault string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.faults, fault) {
		w.faults = append(w.faults, fault)
	}
}

// take returns what was noted, and forgets it.
func (w *witness) take() (faults []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	faults, w.faults = w.faults, nil
	return faults
}

func (w *witness) judge() {
	for _, fault := range w.take() {
		w.p.t.Error(fault)
	}
}

// Those who judge all pages see what they are there for.
func TestJudges(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	p.open(system.Pages + "/settings").says("There is nothing open here")
	for _, c := range []struct{ act, fault string }{
		{`document.body.append(Object.assign(document.createElement("script"), {textContent: "1"}))`, "Content Security Policy"},
		{`document.body.append(Object.assign(document.createElement("img"), {src: "https://shop.example/pixel.gif"}))`, "Content Security Policy"},
		{`setTimeout(() => { throw new Error("broken") })`, "a script failed"},
		{`console.error("broken")`, "a script complains"},
		{`location.href = "https://shop.example/"`, "left this machine"},
	} {
		p.do("do harm", chromedp.Evaluate[chromedp.Void](c.act+"; 0"))
		p.until(c.fault, func() (bool, error) {
			faults := strings.Join(p.witness.take(), "\n")
			return strings.Contains(faults, c.fault), fmt.Errorf("noted: %s", faults)
		})
	}
	p.until("the browser to have given up", func() (bool, error) {
		at, _ := ask[string](p, "address")
		return strings.HasPrefix(at, "chrome-error:"), nil
	})
	p.open(system.Pages + "/settings").says("There is nothing open here")
	p.witness.take()
	world := p.axe(nil)
	p.do("make the heading pale", chromedp.Evaluate[chromedp.Void](`document.querySelector("h1").style.color = "#eee"; 0`))
	if found, _ := p.violations(nil, world, ""); len(found) != 1 || !strings.Contains(found[0], "color-contrast") {
		t.Errorf("axe-core found %q", found)
	}
	p.do("hide the language", chromedp.Evaluate[chromedp.Void](`document.documentElement.removeAttribute("lang"); 0`))
	if found, _ := p.violations(nil, world, ""); len(found) != 2 {
		t.Errorf("axe-core found %q", found)
	}
}

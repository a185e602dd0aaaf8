package browser

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// A person sits in front of a browser with a profile of its own, and finds things by what stands there. Every act waits for what it needs.
type person struct {
	t       *testing.T
	ctx     context.Context
	email   string
	phone   string
	way     string // "" where scripts run, "off" where they do not
	lang    string
	seen    map[string]bool // messages that have been read
	witness *witness
}

// password is that of all people, at the shop.
const password = "correct horse battery"

// patience is how long a person waits for anything. The machine may be busy with many other tests.
const patience = 20 * time.Second

var (
	people atomic.Int64
	names  = strings.Fields("ann ben cora dan eva finn gina hugo ida jan kim leo mia noa oli pia quinn rosa sam tess uma vera wim xena yara zoe")
)

type option func(*person)

// speaks sets the language that the browser asks for.
func speaks(lang string) option { return func(p *person) { p.lang = lang } }

// scriptsOff turns scripts off.
func scriptsOff(p *person) { p.way = "off" }

// newPerson opens a browser with a fresh profile. Whatever it asked of others than this machine, and whatever its console complained of, fails the test.
func newPerson(t *testing.T, options ...option) *person {
	t.Helper()
	sources()
	n := people.Add(1)
	p := &person{t: t, lang: "en", seen: map[string]bool{}, phone: fmt.Sprintf("+14155550%03d", 100+n)}
	p.email = fmt.Sprintf("user%d@example.com", n)
	if int(n) <= len(names) {
		p.email = names[n-1] + "@example.com"
	}
	for _, o := range options {
		o(p)
	}
	ctx, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p.ctx = ctx
	p.witness = watch(p)
	p.do("prepare the browser",
		chromedp.EmulateViewport(1280, 900),
		command(emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: chromium.agent, AcceptLanguage: p.lang}),
		command(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}),
		command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: p.way == "off"}),
		p.scheme("light"))
	t.Cleanup(func() {
		if t.Failed() {
			p.tell()
		}
		p.witness.judge()
	})
	return p
}

// sources looks at all that the command is built of. The go command remembers what a test has looked at, and takes no result from its cache once that is
// another; it cannot know what a test builds.
var sources = sync.OnceFunc(func() {
	for _, dir := range []string{"pkg", "services", "schemas"} {
		_ = filepath.WalkDir(filepath.Join("..", "..", "..", dir), func(path string, _ fs.DirEntry, _ error) error {
			_, err := os.Stat(path)
			return err
		})
	}
})

// command is a command of the protocol as an act in a sequence of others.
func command[P, R any](cmd cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, cmd, params)
		return err
	})
}

func (p *person) scheme(which string) chromedp.Action[chromedp.Void] {
	return command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: which}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
}

func (p *person) do(what string, acts ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, acts...); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

//go:embed testdata/kit.js
var kit string

// ask runs one of the functions of kit.js on the page.
func ask[T any](p *person, function string, args ...any) (T, error) {
	var none T
	list, err := json.Marshal(append([]any{}, args...))
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](fmt.Sprintf("(%s).%s(...%s)", kit, function, list)))
}

// must asks for what there is no reason to wait for.
func must[T any](p *person, function string, args ...any) T {
	p.t.Helper()
	v, err := ask[T](p, function, args...)
	if err != nil {
		p.t.Fatalf("%s%v: %v", function, args, err)
	}
	return v
}

// until waits until a condition holds; while it does not, it says why. A page that is just being left answers nothing, and is asked again.
func (p *person) until(what string, holds func() (bool, error)) {
	p.t.Helper()
	var last error
	for deadline := time.Now().Add(patience); ; time.Sleep(25 * time.Millisecond) {
		ok, err := holds()
		if ok {
			return
		}
		if err != nil {
			last = err
		}
		if time.Now().After(deadline) || p.ctx.Err() != nil {
			p.t.Fatalf("waited in vain: %s (%v)", what, last)
		}
	}
}

// open goes to an address.
func (p *person) open(address string) *person {
	p.t.Helper()
	p.do("open "+address, chromedp.Navigate(address))
	return p
}

// back is the browser's button.
func (p *person) back() *person {
	p.t.Helper()
	p.do("go back", chromedp.NavigateBack())
	return p
}

// at waits until the page of a path is there, another one than that on which the last click was.
func (p *person) at(path string) *person {
	p.t.Helper()
	var where string
	p.until("to be at "+path, func() (bool, error) {
		w, err := ask[string](p, "where")
		if w != "" {
			where = w
		}
		if err == nil && w != path {
			err = fmt.Errorf("at %s", where)
		}
		return err == nil, err
	})
	p.look()
	return p
}

// says waits until each of the texts stands on the page.
func (p *person) says(texts ...string) *person {
	p.t.Helper()
	for _, text := range texts {
		p.until(fmt.Sprintf("to read %q", text), func() (bool, error) {
			missing, err := ask[string](p, "reads", text)
			return err == nil && missing == "", err
		})
	}
	p.look()
	return p
}

// silent sees that none of the texts stands on the page.
func (p *person) silent(texts ...string) *person {
	p.t.Helper()
	have := p.text()
	for _, text := range texts {
		if strings.Contains(have, text) {
			p.t.Errorf("%s says %q", p.url().Path, text)
		}
	}
	return p
}

// text is what can be read on the page.
func (p *person) text() string {
	p.t.Helper()
	return must[string](p, "text")
}

func (p *person) url() *url.URL {
	p.t.Helper()
	at, err := url.Parse(must[string](p, "address"))
	if err != nil {
		p.t.Fatal(err)
	}
	return at
}

// A spot is where something is on the screen, in CSS pixels, and why it cannot be used.
type spot struct {
	X     float64 `json:"x"`
	Y     float64 `json:"y"`
	Fault string  `json:"fault"`
	Kind  string  `json:"kind"`
}

// find waits until a link, button or field is there, can be seen and is not covered.
func (p *person) find(function string, args ...any) spot {
	p.t.Helper()
	var s spot
	p.until(fmt.Sprintf("for %s%v", function, args), func() (bool, error) {
		var err error
		if s, err = ask[spot](p, function, args...); err == nil && s.Fault != "" {
			err = fmt.Errorf("%s", s.Fault)
		}
		return err == nil, err
	})
	return s
}

// click clicks on the link or button with a text: its whole name, or how that begins. The page has to be left before at looks at where it is.
func (p *person) click(text string) *person {
	p.t.Helper()
	s := p.find("clickable", text)
	p.do("click on "+text, chromedp.MouseClickXY(s.X, s.Y))
	return p
}

// doubleClick does so with both clicks at once, as impatient people do.
func (p *person) doubleClick(text string) *person {
	p.t.Helper()
	s := p.find("clickable", text)
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	for n := range 2 {
		if err := chromedp.Do(ctx, chromedp.MouseClickXY(s.X, s.Y, chromedp.ClickCount(n+1))); err != nil {
			p.t.Fatal(err)
		}
	}
	return p
}

// fill types into the field with a label, in place of what was there.
func (p *person) fill(label, value string) *person {
	p.t.Helper()
	s := p.find("field", label)
	p.do("fill "+label, chromedp.MouseClickXY(s.X, s.Y))
	if s.Kind == "select" {
		must[bool](p, "choose", label, value)
		return p
	}
	must[bool](p, "selected", label)
	p.do("type", command(input.InsertText, input.InsertTextParams{Text: value}))
	return p
}

// tick clicks on the box with a label.
func (p *person) tick(label string) *person {
	p.t.Helper()
	s := p.find("field", label)
	p.do("tick "+label, chromedp.MouseClickXY(s.X, s.Y))
	return p
}

// enter fills in a code and sends it, unless the page has done so by itself on the last digit.
func (p *person) enter(label, code string) *person {
	p.t.Helper()
	p.find("field", label)
	must[bool](p, "typing")
	p.fill(label, code)
	sent, err := ask[bool](p, "sent", label)
	if err == nil && !sent {
		p.press(enter)
	}
	return p
}

// A key is one that does something other than type.
type key input.DispatchKeyEventParams

var (
	tab       = key{Key: "Tab", Code: "Tab", WindowsVirtualKeyCode: 9}
	enter     = key{Key: "Enter", Code: "Enter", WindowsVirtualKeyCode: 13, Text: "\r"}
	space     = key{Key: " ", Code: "Space", WindowsVirtualKeyCode: 32, Text: " "}
	escape    = key{Key: "Escape", Code: "Escape", WindowsVirtualKeyCode: 27}
	selectAll = key{Key: "a", Code: "KeyA", WindowsVirtualKeyCode: 65, Modifiers: ctrl, Commands: []string{"selectAll"}}
	pasteKey  = key{Key: "v", Code: "KeyV", WindowsVirtualKeyCode: 86, Modifiers: ctrl, Commands: []string{"paste"}}
)

const ctrl = 2

// press presses a key. What is typed by it goes with the key in one message, so that Chromium leaves it out where the key does something else, as it does
// for a real keyboard: Enter on a link that leads to a field does not send the field's form.
func (p *person) press(what key) *person {
	p.t.Helper()
	down := input.DispatchKeyEventParams(what)
	down.Type, down.UnmodifiedText = input.DispatchKeyEventTypeKeyDown, down.Text
	if down.Text == "" {
		down.Type = input.DispatchKeyEventTypeRawKeyDown
	}
	up := input.DispatchKeyEventParams(what)
	up.Type, up.Text, up.Commands = input.DispatchKeyEventTypeKeyUp, "", nil
	p.do("press a key", command(input.DispatchKeyEvent, down), command(input.DispatchKeyEvent, up))
	return p
}

// tell says where the person was when the test failed, and leaves a picture of it.
func (p *person) tell() {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	text, _ := ask[string](p, "text")
	at, _ := ask[string](p, "address")
	p.t.Logf("%s was at %s, where it says:\n%s", p.email, at, text)
	shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return
	}
	dir := filepath.Join(os.TempDir(), "otpost-browser-failures")
	path := filepath.Join(dir, strings.ReplaceAll(p.t.Name(), "/", "-")+".png")
	if os.MkdirAll(dir, 0o700) == nil && os.WriteFile(path, shot, 0o600) == nil {
		p.t.Logf("a picture of it is in %s", path)
	}
}

// downloads makes the browser keep what is saved in a folder.
func (p *person) downloads() (dir string) {
	p.t.Helper()
	dir = p.t.TempDir()
	p.do("choose the folder for downloads", command(browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir, BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	}))
	return dir
}

// saved waits for the file of backup codes and returns what is in it.
func (p *person) saved(dir string) (text string) {
	p.t.Helper()
	p.until("for the file", func() (bool, error) {
		files, err := filepath.Glob(filepath.Join(dir, "*-backup-codes.txt"))
		if err != nil || len(files) == 0 {
			return false, err
		}
		b, err := os.ReadFile(files[0])
		text = string(b)
		return err == nil && text != "", err
	})
	return text
}

// printed is the page on paper, as a PDF.
func (p *person) printed() []byte {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	pdf, err := chromedp.Call(ctx, page.PrintToPDF, page.PrintToPDFParams{})
	if err != nil {
		p.t.Fatal(err)
	}
	return pdf.Data
}

package browser

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// axe-core is the judge of what people need who do not see, hear or move as others do (https://github.com/dequelabs/axe-core).
//
//go:embed testdata/axe-core/axe.min.js
var axe string

// Whatever a person comes to is looked at once, whoever comes first: by axe-core, for sideways scrolling on a phone, and for a picture if one is wanted.
var (
	looked sync.Map // by state
	shots  sync.Map // how many pictures there are of a path in a language, by name: *int
)

// look looks at the page if nobody has done so before. A page is told from others by its path, its heading, its language, and whether it says what is wrong.
func (p *person) look() {
	p.t.Helper()
	state, err := ask[[]string](p, "state")
	if err != nil || len(state) == 0 || state[1] == "" || state[1] == "blank" {
		return // it is being left already
	}
	dir := os.Getenv("OTPOST_SCREENSHOTS")
	name := strings.Join(append(state[1:4:4], state[0]), "|")
	if _, before := looked.LoadOrStore(name, true); !before && p.way != "off" && !p.judge(state) {
		looked.Delete(name) // the next one who comes to it looks
	}
	if dir == "" {
		return
	}
	if _, before := shots.LoadOrStore(strings.Join(state, "|"), true); !before {
		p.shoot(dir, state)
	}
}

// A violation is what axe-core found.
type violation struct {
	ID     string   `json:"id"`
	Impact string   `json:"impact"`
	Help   string   `json:"help"`
	Where  []string `json:"where"`
}

// judge runs axe-core in the light and, for what depends on colours, in the dark; in a world of its own, where the page's policy of contents is no obstacle.
// What is said in another language is built alike, and may only be longer. It returns false where the page has gone on by itself meanwhile, as one does that waits.
func (p *person) judge(state []string) bool {
	p.t.Helper()
	if p.lang == "en" {
		world := p.axe(state)
		light, there := p.violations(state, world, "")
		for _, v := range light {
			p.t.Errorf("%v in the light: %s", state, v)
		}
		if !there {
			return false
		}
		p.do("ask for the dark", p.scheme("dark"))
		dark, there := p.violations(state, world, `, runOnly: ["color-contrast", "link-in-text-block"]`)
		for _, v := range dark {
			p.t.Errorf("%v in the dark: %s", state, v)
		}
		p.do("ask for the light", p.scheme("light"))
		if !there {
			return false
		}
	}
	p.do("look at it on a small phone", chromedp.EmulateViewport(320, 640)) // WCAG 2.2, success criterion 1.4.10
	if over := must[float64](p, "wide"); over > 0 {
		p.t.Errorf("%v is %v pixels wider than a screen of 320", state, over)
	}
	p.do("look at it as before", chromedp.EmulateViewport(1280, 900))
	return true
}

// axe loads axe-core into a world beside the page's own.
func (p *person) axe(state []string) runtime.ExecutionContextID {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	tree, err := chromedp.Call(ctx, page.GetFrameTree, cdp.Empty{})
	if err != nil {
		p.t.Fatalf("load axe-core at %v: %v", state, err)
	}
	world, err := chromedp.Call(ctx, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: tree.FrameTree.Frame.ID, WorldName: "axe"})
	if err != nil {
		p.t.Fatalf("load axe-core at %v: %v", state, err)
	}
	res, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{ContextID: world.ExecutionContextID, Expression: axe + "; true"})
	if err != nil || res.ExceptionDetails != nil {
		p.t.Fatalf("load axe-core at %v: %v %v", state, err, res.ExceptionDetails)
	}
	return world.ExecutionContextID
}

// violations are those that axe-core calls serious or critical. there is false where the page has gone.
func (p *person) violations(state []string, world runtime.ExecutionContextID, rules string) (serious []string, there bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	yes := true
	res, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{
		ContextID: world, ReturnByValue: &yes, AwaitPromise: &yes,
		Expression: fmt.Sprintf(`axe.run(document, {resultTypes: ["violations"]%s}).then((r) => JSON.stringify(r.violations.map((v) =>
			({id: v.id, impact: v.impact, help: v.help, where: v.nodes.map((n) => n.html + "\n  " + n.failureSummary)}))))`, rules),
	})
	if err == nil && res.ExceptionDetails != nil {
		err = errors.New(res.ExceptionDetails.Exception.Description)
	}
	var text string
	if err == nil {
		err = json.Unmarshal([]byte(res.Result.Value), &text)
	}
	var found []violation
	if err == nil {
		err = json.Unmarshal([]byte(text), &found)
	}
	if err != nil && len(state) > 1 && state[1] == "/recovery/waiting" && strings.Contains(err.Error(), "context") { // the world ended with the page
		return nil, false
	}
	if err != nil {
		p.t.Fatalf("axe-core at %v: %v", state, err)
	}
	for _, v := range found {
		if v.Impact == "serious" || v.Impact == "critical" {
			serious = append(serious, fmt.Sprintf("%s (%s, %s):\n%s", v.Help, v.ID, v.Impact, strings.Join(v.Where, "\n")))
		}
	}
	return serious, true
}

// shoot takes pictures of the page: on a phone and on a desk, in the light and in the dark.
func (p *person) shoot(dir string, state []string) {
	p.t.Helper()
	whose := "pages"
	if "http://"+state[0] == system.Shop {
		whose = "shop"
	}
	if strings.HasPrefix(state[1], "/p/") {
		state[1] = "/p" // a link's token
	}
	name := whose + strings.ReplaceAll(strings.TrimSuffix(state[1], "/"), "/", "-") + strings.ReplaceAll(strings.TrimRight(" "+state[3], " "), " ", "-")
	name = strings.ReplaceAll(name, "--", "-")
	n, _ := shots.LoadOrStore("n "+name+state[4], new(int))
	*n.(*int)++
	if *n.(*int) > 1 {
		name += fmt.Sprintf("-%d", *n.(*int))
	}
	if p.way == "off" {
		name += "-noscript"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // pictures
		p.t.Fatal(err)
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, size := range []struct {
			name          string
			width, height int64
		}{{"phone", 390, 844}, {"desk", 1280, 900}} {
			p.do("look at it so", p.scheme(scheme), chromedp.EmulateViewport(size.width, size.height))
			ctx, cancel := context.WithTimeout(p.ctx, patience)
			yes := true
			height := must[float64](p, "tall")
			shot, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{
				CaptureBeyondViewport: &yes, Clip: &page.Viewport{Width: float64(size.width), Height: max(height, float64(size.height)), Scale: 1},
			})
			cancel()
			if err != nil {
				p.t.Fatal(err)
			}
			path := filepath.Join(dir, fmt.Sprintf("%s.%s.%s.%s.png", name, state[4], size.name, scheme))
			if err := os.WriteFile(path, shot.Data, 0o644); err != nil { //nolint:gosec // a picture
				p.t.Fatal(err)
			}
		}
	}
	p.do("look at it as before", p.scheme("light"), chromedp.EmulateViewport(1280, 900))
}

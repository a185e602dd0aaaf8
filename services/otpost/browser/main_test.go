package browser

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
)

// One system and one browser serve all tests; each test is a person of its own, in a browser profile of its own.
var (
	system   endpoints
	chromium struct {
		ctx   context.Context
		agent string // what it says it is, as one that people sit in front of does
	}
)

// endpoints are where the system is, as .otpost/endpoints.json says it to everybody.
type endpoints struct {
	HTTP     string `json:"http"`
	Inbox    string `json:"inbox"`
	Shop     string `json:"shop"`
	Database string `json:"database"` // as the owner
	App      struct {
		Name   string `json:"name"`
		APIKey string `json:"api_key"`
	} `json:"app"`
	Pages string `json:"pages"` // where people reach the pages
	dir   string
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	for _, tool := range []string{"chromium", "zbarimg", "oathtool", "pdftotext"} { // what people look, scan and read with
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			fmt.Fprintf(os.Stderr, "%s is not there, and CI must have it: scripts/setup tests installs it\n", tool)
			return 1
		}
		fmt.Fprintf(os.Stderr, "the tests in a browser are left out: there is no %s (scripts/setup tests installs it)\n", tool)
		return 0
	}
	dir, err := os.MkdirTemp("", "otpost-browser-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if os.Geteuid() == 0 { // Postgres refuses root and is run as another user, who has to get in
		_ = os.Chmod(dir, 0o711) //nolint:gosec // see above
	}
	stop, err := up(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	end, err := startChromium("chromium", filepath.Join(dir, "profile"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "start chromium:", err)
		return 1
	}
	defer end()
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = f.Value.Set("3") // people mostly wait
	}
	return m.Run()
}

// up builds and starts the command, and returns once it has said where everything is.
func up(dir string) (stop func(), err error) {
	binary := os.Getenv("OTPOST_BROWSER_BINARY") // of a release, say; else what the tree has
	if binary == "" {
		binary = filepath.Join(dir, "otpost")
		if err := build(binary); err != nil {
			return nil, err
		}
	}
	home := filepath.Join(dir, "otpost-up")
	args := []string{"up", "--no-show", "--dir", home}
	for _, flag := range []string{"--http-port", "--nats-port", "--inbox-port", "--smtp-port", "--shop-port"} {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		args = append(args, flag, strconv.Itoa(port))
	}
	cmd := exec.Command(binary, args...)
	log, err := os.Create(filepath.Join(dir, "up.txt"))
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start otpost up: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(40 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = log.Close()
	}
	path := filepath.Join(home, "endpoints.json")
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(path)
		if err == nil {
			if err = json.Unmarshal(text, &system); err == nil {
				system.dir = home
				return stop, nil
			}
		}
		select {
		case err := <-ended:
			said, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("otpost up ended: %w\n%s", err, said)
		default:
		}
		if time.Now().After(deadline) {
			stop()
			said, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("otpost up is not there after two minutes: %w\n%s", err, said)
		}
	}
}

func build(binary string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", binary, "github.com/otpost/otpost/services/otpost")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build otpost: %w\n%s", err, out)
	}
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// startChromium starts the browser. It asks nobody on the network for anything.
func startChromium(program, profile string) (stop func(), err error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.UserDataDir(profile), chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-gpu", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"), chromedp.WindowSize(1280, 900))
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(ctx)
	stop = func() { cancel(); end() }
	if err := chromedp.Do(ctx); err != nil {
		stop()
		return nil, err
	}
	version, err := chromedp.CallBrowser(ctx, browser.GetVersion, cdp.Empty{})
	if err != nil {
		stop()
		return nil, err
	}
	chromium.ctx, chromium.agent = ctx, strings.ReplaceAll(version.UserAgent, "Headless", "")
	return stop, nil
}

// A message is one that the inbox has.
type message struct {
	ID      string `json:"id"`
	Channel string `json:"channel"`
	To      string `json:"to"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// messages are what the inbox has for an address, newest first.
func messages(ctx context.Context, to string) ([]message, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, system.Inbox+"/api/messages?to="+url.QueryEscape(to), http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(string(body)))
	}
	var list []message
	return list, json.Unmarshal(body, &list)
}

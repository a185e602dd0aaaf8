package sandbox

import (
	"embed"
	"encoding/json"
	"html/template"
	"net/http"
	"path/filepath"
	"strings"
)

//go:embed welcome/style.css
var welcomeFiles embed.FS

//go:embed welcome/page.html
var welcomeSource string

var welcomePage = template.Must(template.New("welcome").Parse(welcomeSource))

// welcomeData is what the page and its JSON say: where things are, and no secret.
type welcomeData struct {
	Addresses
	App       string
	Endpoints string // path of endpoints.json
}

// welcome serves the first page of the HTTP edge's address: what runs here and how to use it; as JSON where that is asked for. All other paths are the
// gateway's.
func (s *Sandbox) welcome(gateway http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		data := welcomeData{Addresses: s.Addresses(), App: DemoApp, Endpoints: filepath.Join(s.dir, endpointsName)}
		if strings.Contains(r.Header.Get("Accept"), "application/json") {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]string{ // fails only when the caller has gone
				"shop": data.Shop, "http": data.HTTP, "pages": data.Pages, "nats": data.NATS,
				"inbox": data.Inbox, "smtp": data.SMTP, "twilio": data.Twilio, "endpoints": data.Endpoints,
			})
			return
		}
		var b strings.Builder
		if err := welcomePage.Execute(&b, data); err != nil {
			s.log.Error("rendering the welcome page", "error", err)
			http.Error(w, "the page could not be rendered", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(b.String()))
	})
	mux.HandleFunc("GET /welcome.css", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8") // a machine's own table may know it otherwise, and nosniff then refuses it
		http.ServeFileFS(w, r, welcomeFiles, "welcome/style.css")
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	if gateway == nil {
		gateway = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "the gateway does not run, or not yet", http.StatusServiceUnavailable)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "" {
			gateway.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

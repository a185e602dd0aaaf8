package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed static templates locales
var files embed.FS

// Files are the texts and templates that all pages share.
func Files() fs.FS { return files }

// types are what static files are served as: a machine's own table may know them otherwise.
var types = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png"}

// version is part of the address of every static file, so that a browser may keep it for as long as it is this one.
var version = func() string {
	h := sha256.New()
	_ = fs.WalkDir(files, "static", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b, _ := fs.ReadFile(files, p)
			h.Write([]byte(p))
			h.Write(b)
		}
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:12]
}()

func staticURL(name string) string { return "/static/" + version + "/" + name }

// Static serves scripts, styles and pictures below /static/.
func Static() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/static/"), "/")
		kind, ok := types[path.Ext(name)]
		body, err := fs.ReadFile(files, "static/"+path.Clean("/" + name)[1:])
		if err != nil || !ok {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", kind)
		if strings.HasPrefix(r.URL.Path, staticURL("")) {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		_, _ = w.Write(body) //nolint:gosec // a file of ours
	})
}

// icon is one of the house's pictures, drawn with the colour of the text around it. It says nothing to a screen reader: words stand beside it.
func icon(name string) template.HTML {
	shape, ok := icons[name]
	if !ok {
		return ""
	}
	svg := `<svg class="icon" viewBox="0 0 24 24" width="24" height="24" fill="none" stroke="currentColor" stroke-width="1.75" ` +
		`stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">` + shape + `</svg>`
	return template.HTML(svg) //nolint:gosec // of the table below
}

// icons are drawn on a field of 24.
var icons = map[string]string{
	"app": `<rect x="6" y="2.5" width="12" height="19" rx="2.5"/><path d="M10.5 18.5h3"/><circle cx="12" cy="10" r="3"/><path d="M12 8.6V10l1 .8"/>`,
	"text": `<path d="M4 5.5h16a1.5 1.5 0 0 1 1.5 1.5v9a1.5 1.5 0 0 1-1.5 1.5h-8L7 21v-3.5H4A1.5 1.5 0 0 1 2.5 16V7A1.5 1.5 0 0 1 4 5.5z"/>` +
		`<path d="M7.5 10h9M7.5 13.5h5"/>`,
	"call": `<path d="M6.5 3h3l1.8 4.5L9 9.2a13 13 0 0 0 5.8 5.8l1.7-2.3 4.5 1.8v3a2.5 2.5 0 0 1-2.7 2.5` +
		`C10.5 19.4 4.6 13.5 4 5.7A2.5 2.5 0 0 1 6.5 3z"/>`,
	"chat": `<path d="M12 2.5a9.5 9.5 0 0 0-8.2 14.2L2.5 21.5l4.8-1.3A9.5 9.5 0 1 0 12 2.5z"/>` +
		`<path d="M8 12v.2M12 12v.2M16 12v.2"/>`,
	"email":  `<rect x="2.5" y="5" width="19" height="14" rx="2"/><path d="m3.5 7 8.5 6 8.5-6"/>`,
	"key":    `<circle cx="8" cy="12" r="4.5"/><path d="M12.5 12H21.5v3.5M17.5 12v2.5"/><circle cx="7" cy="12" r=".6"/>`,
	"codes":  `<path d="M6 2.5h9l4.5 4.5v14.5H6z"/><path d="M14.5 2.5V7.5h5M9 12h7M9 15.5h7M9 8.5h2.5"/>`,
	"shield": `<path d="M12 2.5 4 5.5v6c0 5 3.400 8.5 8 10 4.600-1.5 8-5 8-10v-6z"/><path d="m8.5 12 2.5 2.5 4.5-5"/>`,
	"check":  `<circle cx="12" cy="12" r="9.5"/><path d="m7.5 12.300 3 3 6-6.600"/>`,
	"alert":  `<path d="M12 3 1.800 20.5h20.400z"/><path d="M12 9.5v5M12 17.300v.2"/>`,
	"wait":   `<circle cx="12" cy="12" r="9.5"/><path d="M12 6.5V12l3.5 2.5"/>`,
	"device": `<rect x="3" y="4" width="18" height="12.5" rx="1.5"/><path d="M8.5 20.5h7M12 16.5v4"/>`,
	"letter": `<path d="M3 9.5 12 3l9 6.5V20.5H3z"/><path d="m3 9.5 9 6 9-6"/>`,
	"next":   `<path d="m9 5 7 7-7 7"/>`,
	"back":   `<path d="m15 5-7 7 7 7"/>`,
	"out":    `<path d="M14 4h6v6M20 4l-9 9M18 14v6H4V6h6"/>`,
	"lock":   `<rect x="4.5" y="10.5" width="15" height="11" rx="2"/><path d="M8 10.5V7a4 4 0 0 1 8 0v3.5"/>`,
	"copy":   `<rect x="8.5" y="8.5" width="12" height="12" rx="2"/><path d="M15.5 8.5V5.5a2 2 0 0 0-2-2h-8a2 2 0 0 0-2 2v8a2 2 0 0 0 2 2h3"/>`,
	"save":   `<path d="M12 3.5V15M7.5 10.5 12 15l4.5-4.5M4 16.5V19a1.5 1.5 0 0 0 1.5 1.5h13A1.5 1.5 0 0 0 20 19v-2.5"/>`,
	"print": `<path d="M7 8.5V3h10v5.5M7 17H4.5A1.5 1.5 0 0 1 3 15.5V10a1.5 1.5 0 0 1 1.5-1.5h15A1.5 1.5 0 0 1 21 10v5.5` +
		`a1.5 1.5 0 0 1-1.5 1.5H17M7 14h10v7H7z"/>`,
	"globe":  `<circle cx="12" cy="12" r="9.5"/><path d="M2.5 12h19M12 2.5c3 3 4 6 4 9.5s-1 6.500-4 9.5c-3-3-4-6-4-9.5s1-6.500 4-9.5z"/>`,
	"person": `<circle cx="12" cy="8" r="4.5"/><path d="M3.5 21c1-4.5 4.5-6.5 8.5-6.5s7.5 2 8.5 6.5"/>`,
}

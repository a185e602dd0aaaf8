package inbox

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const maxLimit = 10_000

// Handler serves the page (/), the JSON API (/api/messages, /api/faults and /api/counts), the simulated providers (/twilio, which stands for
// https://api.twilio.com, and the others' own paths), these once more below /at/<name>, where each counts as the provider of that name, and /healthz.
// It refuses changes that another site's page asks for, and, on a connection to a loopback address, every request that names a host other than this
// machine: that is a page elsewhere whose name was rebound to it.
func (in *Inbox) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", in.servePage)
	mux.HandleFunc("POST /clear", func(w http.ResponseWriter, r *http.Request) {
		in.Clear()
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /messages/{id}/html", in.serveHTML)
	mux.HandleFunc("GET /events", in.serveEvents)
	mux.Handle("GET /assets/", serveAssets())
	mux.HandleFunc("GET /api/messages", in.serveList)
	mux.HandleFunc("DELETE /api/messages", func(w http.ResponseWriter, _ *http.Request) {
		in.Clear()
		w.WriteHeader(http.StatusNoContent)
	})
	in.routeFaults(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "ok")
	})
	in.routeProviders(mux)
	named := http.NewServeMux()
	in.routeProviders(named)
	mux.Handle("/at/{name}/", atName(named))

	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusForbidden, "", "a page of another origin may not change the inbox")
	}))
	guarded := sameOrigin.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setSecurityHeaders(w.Header())
		if onLoopback(r) && !loopbackHost(hostname(r.Host)) {
			writeProblem(w, http.StatusForbidden, "", "this inbox answers to localhost and loopback addresses only")
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// routeProviders adds the simulated providers that speak HTTP.
func (in *Inbox) routeProviders(mux *http.ServeMux) {
	in.routeTwilio(mux)
	in.routeVonage(mux)
	in.routeWebhook(mux)
	in.routeSNS(mux)
}

var providerName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// atName takes the prefix /at/<name> off the path and lets nameOf know of the name. The request's RequestURI keeps it.
func atName(providers http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		if !providerName.MatchString(name) {
			writeProblem(w, http.StatusNotFound, "", "a provider's name has up to 32 small letters, digits and hyphens, and no hyphen first")
			return
		}
		http.StripPrefix("/at/"+name, providers).ServeHTTP(w, r.WithContext(withName(r.Context(), name)))
	})
}

func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-src 'self'; "+
		"img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// onLoopback reports whether the request's connection ends at a loopback address. A request without one never was on a network.
func onLoopback(r *http.Request) bool {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

func (in *Inbox) serveList(w http.ResponseWriter, r *http.Request) {
	f, field, err := parseFilter(r.URL.Query())
	if err != nil {
		writeProblem(w, http.StatusBadRequest, field, fmt.Sprintf("%s: %v", field, err))
		return
	}
	writeJSON(w, http.StatusOK, in.List(f))
}

// parseFilter reads a query; an error comes with the name of the field that it is about.
func parseFilter(q url.Values) (f Filter, field string, err error) {
	f.To, f.Channel, f.Provider = q.Get("to"), q.Get("channel"), q.Get("provider")
	if strings.HasPrefix(f.To, " ") {
		f.To = "+" + f.To[1:] // a number whose "+" the caller did not escape; no address begins with a space
	}
	if f.Channel != "" && !slices.Contains(channels, f.Channel) {
		return f, "channel", fmt.Errorf("%q is none of %s", f.Channel, strings.Join(channels, ", "))
	}
	if f.After, err = ParseAfter(q.Get("after")); err != nil {
		return f, "after", err
	}
	if limit := q.Get("limit"); limit != "" {
		if f.Limit, err = strconv.Atoi(limit); err != nil || f.Limit < 1 || f.Limit > maxLimit {
			return f, "limit", fmt.Errorf("%q is not a whole number from 1 to %d", limit, maxLimit)
		}
	}
	return f, "", nil
}

// writeProblem answers with a problem (RFC 9457); field, when not empty, names the query's field at fault.
func writeProblem(w http.ResponseWriter, status int, field, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Field  string `json:"field,omitempty"`
	}{"about:blank", http.StatusText(status), status, detail, field})
}

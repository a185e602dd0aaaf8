// Package callback takes in what providers tell of deliveries afterwards: POST /callbacks/<provider>[/<token>].
//
// What it promises: nothing is believed that does not bear the provider's signature, made over the address that the operator has configured, never over one
// that the request names. A provider is told that its receipt was taken once the stream has it, and to come again otherwise. What is told twice is passed
// on once, or does no harm: the challenge worker takes the receipts of a delivery forwards only. Nothing of a body is logged.
package callback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/otpost/otpost/pkg/bounce"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/telemetry"
)

// Config is what the handler is made of.
type Config struct {
	Sources   []Source
	PublicURL *url.URL // where providers reach the gateway: scheme, host and port
	Publish   Publish
	Metrics   *telemetry.Metrics
	Logger    *slog.Logger
	Now       func() time.Time
}

// Publish passes a report on and returns once the stream has it. id is the same whenever a provider tells the same again.
type Publish func(ctx context.Context, id string, r event.Report) error

// Prefix is the path below which providers tell their receipts.
const Prefix = "/callbacks/"

// Bounds of what is taken.
const (
	maxForm     = 32 << 10 // bytes of a receipt
	concurrency = 64       // receipts in hand; what comes above waits
	readers     = 256      // bodies that are being read; a body is read before its signature can be checked, so anybody's counts
	waitForSlot = time.Second
	readIn      = 5 * time.Second // a body
	publishIn   = 5 * time.Second // until the stream has acknowledged
	againIn     = 5 * time.Second // when a provider should come again
)

// What a callback may come to, beside a report. Handlers return them; answer says them over HTTP.
var (
	errSignature = errors.New("the signature does not fit")
	errStage     = errors.New("a stage that says nothing new")    // such as "sending": taken, and passed on to nobody
	errUnknown   = errors.New("a state that is not in the table") // providers add some; it is for operators to see, and no error
	errTooLong   = errors.New("too long")
)

// malformed says in a few words of our own what is wrong with a request.
type malformed string

func (m malformed) Error() string { return string(m) }

// A kind is a way to tell receipts. receive verifies a request and reads it; the report it returns lacks the provider's name and the time. It must not
// answer and not log. A request of GET has no body.
type kind interface {
	receive(r *request) (event.Report, error)
}

// A request is one callback, as far as it was read.
type request struct {
	*http.Request
	source *Source
	token  string // of the path; empty where it has none. Only Twilio signs it: others name the message in what they sign
	body   []byte
	now    time.Time
}

// Handler serves the callbacks of the configured providers.
type Handler struct {
	Config
	sources map[string]*Source
	readers chan struct{}
	slots   chan struct{}
}

var _ http.Handler = (*Handler)(nil)

// New returns a Handler, or the first source that is wrong.
func New(cfg Config) (*Handler, error) {
	h := &Handler{Config: cfg, sources: map[string]*Source{}, readers: make(chan struct{}, readers), slots: make(chan struct{}, concurrency)}
	for _, s := range cfg.Sources {
		if h.sources[s.Name] != nil {
			return nil, fmt.Errorf("provider %q: is named twice", s.Name)
		}
		if s.URL == "" {
			s.URL = strings.TrimSuffix(cfg.PublicURL.String(), "/") + Prefix + s.Name
		}
		if err := s.prepare(); err != nil {
			return nil, fmt.Errorf("provider %q: %w", s.Name, err)
		}
		h.sources[s.Name] = &s
	}
	return h, nil
}

// tokenForm is that of the tokens that channel workers make, in base64url.
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)

// ServeHTTP takes one callback.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, token, tokened := strings.Cut(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	source := h.sources[name]
	if source == nil || tokened && !tokenForm.MatchString(token) {
		http.NotFound(w, r)
		h.count("none", "unknown_provider")
		return
	}
	if r.Method != http.MethodPost && (r.Method != http.MethodGet || !source.takesGet()) {
		w.Header().Set("Allow", source.methods())
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		h.count(name, "malformed")
		return
	}
	req := &request{Request: r, source: source, token: token, now: h.Now()}
	err := h.read(w, req)
	if err == nil {
		err = h.take(req)
	}
	h.answer(w, req, err)
}

// read reads the body in one of the places for readers: what strangers make the gateway hold in memory has an end.
func (h *Handler) read(w http.ResponseWriter, r *request) error {
	done, err := enter(r.Context(), h.readers)
	if err != nil {
		return err
	}
	defer done()
	conn := http.NewResponseController(w)
	if conn.SetReadDeadline(time.Now().Add(readIn)) == nil { // nobody keeps a place by sending slowly
		defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	}
	return r.read(w)
}

// enter takes a place, waiting a moment for one; done gives it back.
func enter(ctx context.Context, places chan struct{}) (done func(), err error) {
	wait := time.NewTimer(waitForSlot)
	defer wait.Stop()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
	case <-wait.C:
	}
	return nil, errBusy
}

// read reads the body within its bounds.
func (r *request) read(w http.ResponseWriter) error {
	limit := int64(maxForm)
	if r.source.Kind == DSN {
		limit = bounce.MaxSize
	}
	if r.Method == http.MethodGet {
		limit = 0
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return errTooLong
	}
	if err != nil {
		return malformed("the body cannot be read")
	}
	r.body = body
	return nil
}

// errBusy says that the report could not be taken or passed on, for now.
var errBusy = errors.New("the report could not be taken, or not be passed on")

// take verifies and passes on one callback that was read. Slots are taken here and not before, so that nobody holds one by sending slowly.
func (h *Handler) take(r *request) error {
	done, err := enter(r.Context(), h.slots)
	if err != nil {
		return err
	}
	defer done()
	report, err := r.source.kind.receive(r)
	if err != nil {
		return err
	}
	report.Provider, report.At = r.source.Name, r.now
	report.Reference, report.Code, report.Reason = short(report.Reference), short(report.Code), short(report.Reason)
	if report.Token != "" && !tokenForm.MatchString(report.Token) {
		return malformed("the token is none")
	}
	if report.Token == "" && report.Delivery == "" && report.Reference == "" {
		return malformed("it names no message")
	}
	if _, err := event.ParseReport(report.Encode()); err != nil { // the rest has been checked: it is the sender's text that is at fault
		return malformed("a field is out of bounds")
	}
	ctx, cancel := context.WithTimeout(r.Context(), publishIn)
	defer cancel()
	if err := h.Publish(ctx, ID(report), report); err != nil {
		h.Logger.Warn("a provider's receipt could not be passed on, it is asked to come again", "provider", r.source.Name, "error", err)
		return errBusy
	}
	return nil
}

// ID names what a report says: what is told again has the same, and the stream keeps the first of them.
func ID(r event.Report) string {
	what := r.Token
	if what == "" {
		what = r.Delivery
	}
	if what == "" {
		what = url.QueryEscape(r.Reference) // a header's value is to be plain
	}
	return r.Provider + "/" + what + "/" + string(r.State)
}

// answer says what became of a callback, and counts it.
func (h *Handler) answer(w http.ResponseWriter, r *request, err error) {
	result, status, text := "taken", http.StatusNoContent, ""
	m, isMalformed := errors.AsType[malformed](err)
	switch {
	case err == nil:
	case errors.Is(err, errStage):
		result = "stage"
	case errors.Is(err, errUnknown):
		result = "unknown_state"
	case errors.Is(err, errSignature):
		result, status = "signature", http.StatusForbidden
	case errors.Is(err, errTooLong):
		result, status = "malformed", http.StatusRequestEntityTooLarge
	case isMalformed:
		result, status, text = "malformed", http.StatusBadRequest, string(m)
	default:
		result, status = "unavailable", http.StatusServiceUnavailable
		w.Header().Set("Retry-After", strconv.Itoa(int(againIn.Seconds())))
	}
	h.count(r.source.Name, result)
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	if text == "" {
		text = http.StatusText(status)
	}
	http.Error(w, text, status)
}

func (h *Handler) count(provider, result string) {
	h.Metrics.Callbacks.WithLabelValues(provider, result).Inc()
}

// maxSaid bounds, in characters, what is kept of a provider's text.
const maxSaid = 100

// short makes of what a provider says something that can be stored and told: valid, printable, short.
func short(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if r := []rune(s); len(r) > maxSaid {
		s = string(r[:maxSaid])
	}
	return s
}

// failed returns a report of a mishap.
func failed(state otp.DeliveryState, code, reason string, permanent bool) event.Report {
	return event.Report{State: state, Code: code, Reason: reason, Permanent: permanent}
}

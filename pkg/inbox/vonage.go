package inbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// ProviderVonage is the name of the simulated Vonage where it is addressed by none.
const ProviderVonage = "vonage"

// Bounds of the SMS API (https://developer.vonage.com/en/api/sms).
const (
	minVonageTTL      = 20_000      // milliseconds
	maxVonageTTL      = 604_800_000 // milliseconds
	maxVonageRef      = 100         // characters of client-ref
	maxVonageCallback = 100         // characters
	maxVonageText     = 3200        // characters
	vonageClockSkew   = 5 * time.Minute
)

var msisdn = regexp.MustCompile(`^\+?[1-9][0-9]{6,14}$`)

// vonageMagic are recipients that make the simulated Vonage fail, whatever the sender. Where one means the same, it is Twilio's test number.
var vonageMagic = []struct {
	Magic
	fault Fault
}{
	{Magic{"+15005550001", "parameter not valid (status 3)"}, Fault{Code: "3"}},
	{Magic{"+15005550002", "number prefix not understood (status 6)"}, Fault{Code: "6"}},
	{Magic{"+15005550003", "sender not allowed there (status 15)"}, Fault{Code: "15"}},
	{Magic{"+15005550004", "number barred (status 7)"}, Fault{Code: "7"}},
	{Magic{"+15005550009", "number out of use (status 33)"}, Fault{Code: "33"}},
	{Magic{"+15005550010", "accepted, then not delivered (err-code 3)"}, Fault{Outcome: statusUndelivered, OutcomeCode: "3"}},
	{Magic{"+15005550011", "accepted, then rejected by the carrier (err-code 6)"}, Fault{Outcome: statusFailed, OutcomeCode: "6"}},
	{Magic{"+15005550012", "accepted, then never a receipt"}, Fault{Outcome: outcomeNone}},
	{Magic{"+15005550013", "throttled (status 1, for two seconds)"}, Fault{Code: "1", RetryAfter: 2 * time.Second}},
	{Magic{"+15005550014", "out of order (503)"}, Fault{Status: 503}},
}

// VonageMagicNumbers lists the numbers that make the simulated Vonage fail.
func VonageMagicNumbers() []Magic {
	list := make([]Magic, len(vonageMagic))
	for i, m := range vonageMagic {
		list[i] = m.Magic
	}
	return list
}

// VonageCredentials returns the API key and secret that the simulated Vonage asks for.
func (in *Inbox) VonageCredentials() (key, secret string) {
	return in.cfg.VonageKey, in.cfg.VonageSecret
}

// routeVonage adds the SMS API under /vonage, which stands for https://rest.nexmo.com.
func (in *Inbox) routeVonage(mux *http.ServeMux) {
	mux.HandleFunc("POST /vonage/sms/json", in.sendVonage)
}

func (in *Inbox) sendVonage(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		refuseVonage(w, http.StatusOK, "3", "Invalid message params")
		return
	}
	form, name := r.PostForm, in.nameOf(r, ProviderVonage)
	if status, text := in.checkVonage(r, form); status != "" {
		refuseVonage(w, http.StatusOK, status, text)
		return
	}
	to := "+" + strings.TrimPrefix(form.Get("to"), "+")
	fault := in.fault(name, to)
	if fault.None() {
		for _, m := range vonageMagic {
			if m.Address == to {
				fault = m.fault
			}
		}
	}
	in.pause(fault.Delay, r.Context().Done())
	switch {
	case fault.Drop:
		in.refused(name)
		panic(http.ErrAbortHandler) // net/http closes the connection and says nothing
	case fault.refuses():
		in.refused(name)
		writeVonageFault(w, form, fault)
		return
	}

	text := form.Get("text")
	if form.Get("type") != "unicode" {
		text = strings.Map(gsmOrQuestion, text)
	}
	parts, err := strconv.Atoi(segments(text))
	if err != nil {
		parts = 1
	}
	ids := make([]string, parts)
	for i := range ids {
		ids[i] = uuid.NewString()
	}
	in.took(name, to, text)
	if !fault.Lost {
		in.Add(Message{Channel: SMS, Provider: name, From: form.Get("from"), To: to, Text: text, Reference: ids[0]})
	}
	in.followVonage(name, form, ids, fault)
	if fault.AcceptThenDrop {
		panic(http.ErrAbortHandler)
	}
	messages := make([]map[string]string, parts)
	for i, id := range ids {
		messages[i] = map[string]string{
			"to": strings.TrimPrefix(to, "+"), "message-id": id, "status": "0", "remaining-balance": "3.14159265", "message-price": "0.03330000",
			"network": vonageNetwork, "client-ref": form.Get("client-ref"),
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"message-count": strconv.Itoa(parts), "messages": messages})
}

// vonageNetwork is the network that every number here is of: the one that the ITU keeps for tests (ITU-T E.212, annex A).
const vonageNetwork = "00101"

// gsmOrQuestion is what becomes of a character in a message of the type text.
func gsmOrQuestion(r rune) rune {
	if strings.ContainsRune(gsm7+gsm7Extension, r) {
		return r
	}
	return '?'
}

// checkVonage judges a request as Vonage does before it takes a message; an empty status means that all is well.
func (in *Inbox) checkVonage(r *http.Request, form url.Values) (status, text string) {
	if status, text = in.checkVonageCredentials(r, form); status != "" {
		return status, text
	}
	for _, name := range []string{"to", "from", "text"} {
		if form.Get(name) == "" {
			return "2", "Missing " + name + " param"
		}
	}
	from, kind := form.Get("from"), form.Get("type")
	switch {
	case !msisdn.MatchString(form.Get("to")):
		return "3", fmt.Sprintf("Invalid value for param: to (%s)", form.Get("to"))
	case !msisdn.MatchString(from) && !shortCode.MatchString(from) && !(alphaID.MatchString(from) && letter.MatchString(from)):
		return "15", "Illegal Sender Address - rejected"
	case kind != "" && kind != "text" && kind != "unicode":
		return "3", "Invalid value for param: type"
	case utf8.RuneCountInString(form.Get("text")) > maxVonageText:
		return "12", "The message is too long"
	case utf8.RuneCountInString(form.Get("client-ref")) > maxVonageRef:
		return "3", "Invalid value for param: client-ref"
	}
	if ttl := form.Get("ttl"); ttl != "" {
		if ms, err := strconv.Atoi(ttl); err != nil || ms < minVonageTTL || ms > maxVonageTTL {
			return "3", "Invalid value for param: ttl"
		}
	}
	if callback := form.Get("callback"); callback != "" {
		u, err := url.Parse(callback)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || utf8.RuneCountInString(callback) > maxVonageCallback {
			return "23", "Invalid callback URL"
		}
	}
	return "", ""
}

// checkVonageCredentials takes the key and secret by HTTP Basic (RFC 7617) or as fields of the form, or the key and a signature.
func (in *Inbox) checkVonageCredentials(r *http.Request, form url.Values) (status, text string) {
	same := func(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
	key, secret, basic := r.BasicAuth()
	if !basic {
		key, secret = form.Get("api_key"), form.Get("api_secret")
	}
	sig := form.Get("sig")
	switch {
	case sig != "" && (basic || secret != ""):
		return "32", "Signature And API Secret Disallowed"
	case key == "":
		return "2", "Missing api_key"
	case !same(key, in.cfg.VonageKey):
		return "4", "Bad Credentials"
	case sig == "" && !same(secret, in.cfg.VonageSecret):
		return "4", "Bad Credentials"
	case sig == "":
		return "", ""
	}
	at, err := strconv.ParseInt(form.Get("timestamp"), 10, 64)
	age := in.cfg.Now().Sub(time.Unix(at, 0)).Abs()
	if in.cfg.VonageSignatureSecret == "" || err != nil || age > vonageClockSkew ||
		!same(strings.ToUpper(sig), VonageSignature(in.cfg.VonageSignatureSecret, form)) {
		return "14", "Invalid Signature"
	}
	return "", ""
}

// VonageSignature is the value of sig for the parameters of a request, in upper case; without regard to a sig among them. It is the HMAC with SHA-256,
// keyed with the signature secret, of "&name=value" for each parameter in the order of names, where _ stands for each & and = of a value.
// See https://developer.vonage.com/en/getting-started/concepts/signing-messages.
func VonageSignature(secret string, params url.Values) string {
	mac := hmac.New(sha256.New, []byte(secret))
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if name == "sig" {
			continue
		}
		_, _ = io.WriteString(mac, "&"+name+"="+strings.NewReplacer("&", "_", "=", "_").Replace(params.Get(name)))
	}
	return strings.ToUpper(hex.EncodeToString(mac.Sum(nil)))
}

// vonageText words a status as Vonage does, or worse: the address stands in it, because a sender must not log it either there or here.
func vonageText(status string, form url.Values, f Fault) string {
	to := form.Get("to")
	switch status {
	case "1":
		return fmt.Sprintf("Throughput Rate Exceeded - please wait [ %d ] and retry", max(f.RetryAfter.Milliseconds(), 1))
	case "3":
		return fmt.Sprintf("Invalid value for param: to (%s)", to)
	case "4":
		return "Bad Credentials"
	case "5":
		return "Internal Error"
	case "6":
		return "Unroutable message to " + to + " - rejected"
	case "7":
		return "Number barred: " + to
	case "15":
		return "Illegal Sender Address - rejected"
	case "33":
		return "Number De-activated: " + to
	default:
		return "Message to " + to + " was refused: " + form.Get("text")
	}
}

// writeVonageFault refuses with a status of Vonage's, in an answer of HTTP status 200 unless the fault asks for another; or, where the fault has only the
// latter, as what stands before the API would.
func writeVonageFault(w http.ResponseWriter, form url.Values, f Fault) {
	if f.RetryAfter > 0 && f.Status != 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	if f.Code == "" {
		message := f.Message
		if message == "" {
			message = "The message to " + form.Get("to") + " was not processed"
		}
		writeProblem(w, f.Status, "", message)
		return
	}
	if f.Status == 0 {
		f.Status = http.StatusOK
	}
	if f.Message == "" {
		f.Message = vonageText(f.Code, form, f)
	}
	refuseVonage(w, f.Status, f.Code, f.Message)
}

func refuseVonage(w http.ResponseWriter, httpStatus int, status, text string) {
	writeJSON(w, httpStatus, map[string]any{
		"message-count": "1",
		"messages":      []map[string]string{{"status": status, "error-text": text}},
	})
}

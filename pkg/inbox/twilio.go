package inbox

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of the Messages API.
const (
	maxBodyCharacters = 1600
	maxValidityPeriod = 36_000 // seconds
	maxFormBytes      = 64 << 10
)

var (
	e164       = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	shortCode  = regexp.MustCompile(`^[0-9]{3,8}$`)
	alphaID    = regexp.MustCompile(`^[A-Za-z0-9 +\-_&]{1,11}$`) // with a letter in it
	letter     = regexp.MustCompile(`[A-Za-z]`)
	serviceSID = regexp.MustCompile(`^MG[0-9a-fA-F]{32}$`)
)

// poolNumber is the sender that the simulated messaging services pick: Twilio's test number that passes every check.
const poolNumber = "+15005550006"

// routeTwilio adds the Messages API of version 2010-04-01 under /twilio, which stands for https://api.twilio.com.
func (in *Inbox) routeTwilio(mux *http.ServeMux) {
	const account = "/twilio/2010-04-01/Accounts/{account}/"
	mux.HandleFunc(account+"Messages.json", in.authenticated(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			methodNotAllowed(w, http.MethodPost)
			return
		}
		in.createMessage(w, r)
	}))
	mux.HandleFunc(account+"Messages/{message}", in.authenticated(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			methodNotAllowed(w, http.MethodGet, http.MethodHead)
			return
		}
		in.fetchMessage(w, r)
	}))
	mux.HandleFunc("/twilio/", func(w http.ResponseWriter, r *http.Request) { twilioNotFound(w, r) })
}

// methodNotAllowed answers as Twilio does and names what is allowed (RFC 9110, section 15.5.6).
func methodNotAllowed(w http.ResponseWriter, allowed ...string) {
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeTwilioError(w, http.StatusMethodNotAllowed, 20004, "Method not allowed")
}

func twilioNotFound(w http.ResponseWriter, r *http.Request) {
	writeTwilioError(w, http.StatusNotFound, 20404,
		fmt.Sprintf("The requested resource %s was not found", strings.TrimPrefix(r.URL.Path, "/twilio")))
}

// authenticated asks for the account SID and its auth token, or an API key and its secret (HTTP Basic, RFC 7617).
func (in *Inbox) authenticated(next http.HandlerFunc) http.HandlerFunc {
	same := func(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
	return func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		byToken := same(user, in.cfg.TwilioAccountSID) && same(password, in.cfg.TwilioAuthToken)
		byKey := in.cfg.TwilioAPIKey != "" && in.cfg.TwilioAPISecret != "" &&
			same(user, in.cfg.TwilioAPIKey) && same(password, in.cfg.TwilioAPISecret)
		if !(byToken || byKey) || r.PathValue("account") != in.cfg.TwilioAccountSID {
			w.Header().Set("WWW-Authenticate", `Basic realm="Twilio API"`)
			writeTwilioError(w, http.StatusUnauthorized, 20003, "Authenticate")
			return
		}
		next(w, r)
	}
}

func (in *Inbox) createMessage(w http.ResponseWriter, r *http.Request) {
	n := in.counts.twilioRequests.Add(1)
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		writeTwilioError(w, http.StatusBadRequest, 20001, "The request body cannot be read as a form")
		return
	}
	form := r.PostForm
	if code, message := checkForm(form); code != 0 {
		writeTwilioError(w, http.StatusBadRequest, code, message)
		return
	}
	fault := in.twilioFault(TwilioRequest{
		N: n, AccountSID: r.PathValue("account"), To: form.Get("To"), From: form.Get("From"),
		MessagingServiceSID: form.Get("MessagingServiceSid"), Body: form.Get("Body"), Form: form,
	})
	in.pause(fault.Delay, r.Context().Done())
	switch {
	case fault.DropConnection:
		panic(http.ErrAbortHandler) // net/http closes the connection and says nothing
	case fault.Status != 0:
		writeTwilioFault(w, form, fault)
		return
	}

	sent := in.newTwilioMessage(form)
	in.ledger.add(sent)
	from := sent.From
	if from == "" {
		from = sent.MessagingServiceSID
	}
	in.Add(Message{Channel: SMS, Provider: ProviderTwilio, From: from, To: sent.To, Text: sent.Body, Reference: sent.SID})
	in.counts.twilioMessages.Add(1)
	resource := sent.resource() // before settling changes it
	in.follow(sent, form.Get("StatusCallback"), fault)
	if fault.AcceptThenDrop {
		panic(http.ErrAbortHandler)
	}
	writeTwilioJSON(w, http.StatusCreated, resource)
}

func (in *Inbox) fetchMessage(w http.ResponseWriter, r *http.Request) {
	sid, isJSON := strings.CutSuffix(r.PathValue("message"), ".json")
	sent, known := in.ledger.get(sid)
	if !isJSON || !known {
		twilioNotFound(w, r)
		return
	}
	writeTwilioJSON(w, http.StatusOK, sent.resource())
}

// checkForm judges the fields that Twilio judges before it takes a message; code 0 means that all is well.
func checkForm(form url.Values) (code int, message string) {
	to, from, service, body := form.Get("To"), form.Get("From"), form.Get("MessagingServiceSid"), form.Get("Body")
	switch {
	case to == "":
		return 21604, "A 'To' phone number is required."
	case !e164.MatchString(to):
		return 21211, twilioText(21211, form)
	case from == "" && service == "":
		return 21603, "A 'From' phone number is required."
	case service != "" && !serviceSID.MatchString(service):
		return 21701, "The Messaging Service does not exist"
	case from != "" && !e164.MatchString(from) && !shortCode.MatchString(from) && !(alphaID.MatchString(from) && letter.MatchString(from)):
		return 21212, twilioText(21212, form)
	case body == "" && !form.Has("MediaUrl") && !form.Has("ContentSid"):
		return 21602, "Message body is required."
	case utf8.RuneCountInString(body) > maxBodyCharacters:
		return 21617, fmt.Sprintf("The concatenated message body exceeds the %d character limit.", maxBodyCharacters)
	}
	if v := form.Get("ValidityPeriod"); form.Has("ValidityPeriod") {
		if s, err := strconv.Atoi(v); err != nil || s < 1 || s > maxValidityPeriod {
			return 21624, fmt.Sprintf("The ValidityPeriod %s is invalid. It must be between 1 and %d.", v, maxValidityPeriod)
		}
	}
	if v := form.Get("StatusCallback"); v != "" {
		if u, err := url.Parse(v); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return 21609, fmt.Sprintf("The StatusCallback URL %s is not a valid URL.", v)
		}
	}
	return 0, ""
}

// twilioText words an error as Twilio does, address and all, because a sender must not log it either there or here.
func twilioText(code int, form url.Values) string {
	to, from := form.Get("To"), form.Get("From")
	switch code {
	case 20003:
		return "Authenticate"
	case 20429:
		return "Too Many Requests"
	case 21211:
		return fmt.Sprintf("Invalid 'To' Phone Number: %s", to)
	case 21212:
		return fmt.Sprintf("Invalid From Number (caller ID): %s", from)
	case 21408:
		return fmt.Sprintf("Permission to send an SMS has not been enabled for the region indicated by the 'To' number: %s", to)
	case 21606:
		return fmt.Sprintf("The 'From' phone number provided (%s) is not a valid message-capable Twilio phone number for this destination", from)
	case 21610:
		return "Attempt to send to unsubscribed recipient"
	case 21611:
		return fmt.Sprintf("This 'From' number (%s) has exceeded the maximum number of queued messages", from)
	case 21612:
		return fmt.Sprintf("The 'To' phone number: %s, is not currently reachable using the 'From' phone number: %s via SMS.", to, from)
	case 21614:
		return fmt.Sprintf("'To' number is not a valid mobile number: %s", to)
	default:
		return "An internal server error has occurred"
	}
}

func writeTwilioFault(w http.ResponseWriter, form url.Values, f TwilioFault) {
	if f.Code == 0 {
		switch f.Status {
		case http.StatusTooManyRequests:
			f.Code = 20429
		case http.StatusUnauthorized:
			f.Code = 20003
		default:
			f.Code = 20500
		}
	}
	if f.Message == "" {
		f.Message = twilioText(f.Code, form)
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	writeTwilioError(w, f.Status, f.Code, f.Message)
}

// writeTwilioError writes the error body of API version 2010-04-01, which twilio-go reads into client.TwilioRestError.
func writeTwilioError(w http.ResponseWriter, status, code int, message string) {
	writeTwilioJSON(w, status, struct {
		Code     int    `json:"code"`
		Message  string `json:"message"`
		MoreInfo string `json:"more_info"`
		Status   int    `json:"status"`
	}{code, message, fmt.Sprintf("https://www.twilio.com/docs/errors/%d", code), status})
}

func writeTwilioJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails only when the caller has gone
}

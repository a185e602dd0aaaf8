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
	contentSID = regexp.MustCompile(`^HX[0-9a-fA-F]{32}$`)
)

// whatsAppPrefix marks an address of WhatsApp, on both sides.
const whatsAppPrefix = "whatsapp:"

// poolNumber is the sender that the simulated messaging services pick: Twilio's test number that passes every check.
const poolNumber = "+15005550006"

// routeTwilio adds the Messages and Calls APIs of version 2010-04-01 under /twilio, which stands for https://api.twilio.com.
func (in *Inbox) routeTwilio(mux *http.ServeMux) {
	const account = "/twilio/2010-04-01/Accounts/{account}/"
	for _, kind := range []struct {
		path, prefix string
		create       http.HandlerFunc
	}{{"Messages", messagePrefix, in.createMessage}, {"Calls", callPrefix, in.createCall}} {
		mux.HandleFunc(account+kind.path+".json", in.authenticated(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				methodNotAllowed(w, http.MethodPost)
				return
			}
			kind.create(w, r)
		}))
		mux.HandleFunc(account+kind.path+"/{sid}", in.authenticated(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				methodNotAllowed(w, http.MethodGet, http.MethodHead)
				return
			}
			in.fetchTwilio(w, r, kind.prefix)
		}))
	}
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
	n, name := in.counts.twilioRequests.Add(1), in.nameOf(r, ProviderTwilio)
	form, ok := in.twilioForm(w, r, name, checkMessage)
	if !ok {
		return
	}
	fault := in.messageFault(name, TwilioRequest{
		N: n, AccountSID: r.PathValue("account"), To: form.Get("To"), From: form.Get("From"),
		MessagingServiceSID: form.Get("MessagingServiceSid"), Body: form.Get("Body"), Form: form,
	})
	if in.refuseTwilio(w, r, name, form, fault) {
		return
	}
	sent := in.newTwilioMessage(form)
	from, to, text, channel := sent.From, sent.To, sent.Body, SMS
	if from == "" {
		from = sent.MessagingServiceSID
	}
	if number, ok := strings.CutPrefix(to, whatsAppPrefix); ok {
		from, to, channel = strings.TrimPrefix(from, whatsAppPrefix), number, WhatsApp
	}
	if form.Has("ContentSid") {
		text = fillTemplate(form.Get("ContentVariables"))
	}
	in.counts.twilioMessages.Add(1)
	in.takeTwilio(w, taken{
		what:    sent,
		message: Message{Channel: channel, Provider: name, From: from, To: to, Text: text, Reference: sent.SID},
		target:  form.Get("StatusCallback"),
		steps:   messageSteps(fault),
		fault:   fault,
	})
}

// twilioForm reads and judges the form of a request; what is wrong with it has been answered when ok is false.
func (in *Inbox) twilioForm(w http.ResponseWriter, r *http.Request, name string, check func(url.Values) (int, string)) (form url.Values, ok bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		in.refused(name)
		writeTwilioError(w, http.StatusBadRequest, 20001, "The request body cannot be read as a form")
		return nil, false
	}
	if code, message := check(r.PostForm); code != 0 {
		in.refused(name)
		writeTwilioError(w, http.StatusBadRequest, code, message)
		return nil, false
	}
	return r.PostForm, true
}

// refuseTwilio does what a fault has in store before anything is taken, and reports whether that was all.
func (in *Inbox) refuseTwilio(w http.ResponseWriter, r *http.Request, name string, form url.Values, fault Fault) bool {
	in.pause(fault.Delay, r.Context().Done())
	switch {
	case fault.Drop:
		in.refused(name)
		panic(http.ErrAbortHandler) // net/http closes the connection and says nothing
	case fault.refuses():
		in.refused(name)
		writeTwilioFault(w, form, fault)
		return true
	}
	return false
}

// taken is a message or a call that Twilio took.
type taken struct {
	what    twilioResource
	message Message // as the inbox shows it
	target  string  // where its states are told; "" for nowhere
	steps   []step  // the states that it goes through
	fault   Fault
}

// takeTwilio puts into the inbox what was taken, settles what becomes of it and answers.
func (in *Inbox) takeTwilio(w http.ResponseWriter, t taken) {
	in.ledger.add(t.what)
	in.took(t.message.Provider, t.message.To, t.message.Text)
	if !t.fault.Lost {
		in.Add(t.message)
	}
	resource := t.what.resource() // before settling changes it
	in.follow(t)
	if t.fault.AcceptThenDrop {
		panic(http.ErrAbortHandler)
	}
	writeTwilioJSON(w, http.StatusCreated, resource)
}

// fetchTwilio shows what became of a message or a call, whose SIDs begin with prefix.
func (in *Inbox) fetchTwilio(w http.ResponseWriter, r *http.Request, prefix string) {
	sid, isJSON := strings.CutSuffix(r.PathValue("sid"), ".json")
	what, known := in.ledger.get(sid)
	if !isJSON || !known || !strings.HasPrefix(sid, prefix) {
		twilioNotFound(w, r)
		return
	}
	writeTwilioJSON(w, http.StatusOK, what.resource())
}

// checkMessage judges the fields that Twilio judges before it takes a message; code 0 means that all is well.
func checkMessage(form url.Values) (code int, message string) {
	to, toWhatsApp := strings.CutPrefix(form.Get("To"), whatsAppPrefix)
	from, fromWhatsApp := strings.CutPrefix(form.Get("From"), whatsAppPrefix)
	service, body := form.Get("MessagingServiceSid"), form.Get("Body")
	switch {
	case to == "":
		return 21604, "A 'To' phone number is required."
	case !e164.MatchString(to):
		return 21211, twilioText(21211, form)
	case from == "" && service == "":
		return 21603, "A 'From' phone number is required."
	case service != "" && !serviceSID.MatchString(service):
		return 21701, "The Messaging Service does not exist"
	case from != "" && toWhatsApp != fromWhatsApp:
		return 21910, "Invalid From and To pair. From and To should be of the same channel"
	case fromWhatsApp && !e164.MatchString(from):
		return 63007, "Twilio could not find a Channel with the specified From address"
	case from != "" && !e164.MatchString(from) && !shortCode.MatchString(from) && !(alphaID.MatchString(from) && letter.MatchString(from)):
		return 21212, twilioText(21212, form)
	case body == "" && !form.Has("MediaUrl") && !form.Has("ContentSid"):
		return 21602, "Message body is required."
	case form.Has("ContentSid") && !contentSID.MatchString(form.Get("ContentSid")):
		return 21655, "The ContentSid is Invalid"
	case form.Has("ContentVariables") && !form.Has("ContentSid"):
		return 21654, "ContentSid Required"
	case form.Has("ContentVariables") && fillTemplate(form.Get("ContentVariables")) == "":
		return 21656, "The ContentVariables Parameter is invalid"
	case utf8.RuneCountInString(body) > maxBodyCharacters:
		return 21617, fmt.Sprintf("The concatenated message body exceeds the %d character limit.", maxBodyCharacters)
	}
	if v := form.Get("ValidityPeriod"); form.Has("ValidityPeriod") {
		if s, err := strconv.Atoi(v); err != nil || s < 1 || s > maxValidityPeriod {
			return 21624, fmt.Sprintf("The ValidityPeriod %s is invalid. It must be between 1 and %d.", v, maxValidityPeriod)
		}
	}
	return checkCallback(form)
}

func checkCallback(form url.Values) (code int, message string) {
	if v := form.Get("StatusCallback"); v != "" {
		if u, err := url.Parse(v); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return 21609, fmt.Sprintf("The StatusCallback URL %s is not a valid URL.", v)
		}
	}
	return 0, ""
}

// fillTemplate is the text of every content template here, which is WhatsApp's for codes: variable 1 is the code. Empty when the variables are not what
// Twilio takes: a JSON object of texts, none of them empty.
func fillTemplate(variables string) string {
	var values map[string]string
	if err := json.Unmarshal([]byte(variables), &values); err != nil || values["1"] == "" {
		return ""
	}
	return values["1"] + " is your verification code."
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
	case 21210:
		return fmt.Sprintf("The source phone number provided, %s, is not yet verified for your account.", from)
	case 21214:
		return fmt.Sprintf("The phone number you are attempting to call, %s, cannot be reached.", to)
	case 21215:
		return fmt.Sprintf("Account not authorized to call %s. Perhaps you need to enable some international permissions.", to)
	case 21216:
		return fmt.Sprintf("Account not allowed to call %s", to)
	case 21217:
		return fmt.Sprintf("Phone number does not appear to be valid: %s", to)
	default:
		return "An internal server error has occurred"
	}
}

func writeTwilioFault(w http.ResponseWriter, form url.Values, f Fault) {
	code, err := strconv.Atoi(f.Code)
	if err != nil {
		switch f.Status {
		case http.StatusTooManyRequests:
			code = 20429
		case http.StatusUnauthorized:
			code = 20003
		case http.StatusServiceUnavailable:
			code = 20503
		default:
			code = 20500
		}
	}
	if f.Status == 0 {
		switch code {
		case 20003, 20403, 20404, 20429, 20500, 20503, 20504: // named for their status
			f.Status = code % 1000
		default:
			f.Status = http.StatusBadRequest
		}
		if code == 20003 {
			f.Status = http.StatusUnauthorized
		}
	}
	if f.Message == "" {
		f.Message = twilioText(code, form)
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	writeTwilioError(w, f.Status, code, f.Message)
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

package inbox

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Bounds of the Calls API.
const (
	maxTwiMLCharacters = 4000
	maxRingSeconds     = 600
)

// The states of a call. Those after in-progress end it.
const (
	callQueued     = "queued"
	callInitiated  = "initiated"
	callRinging    = "ringing"
	callInProgress = "in-progress"
	callCompleted  = "completed"
	callBusy       = "busy"
	callNoAnswer   = "no-answer"
	callFailed     = "failed"
	callCanceled   = "canceled"
)

// twilioCall is a call on Twilio's side. Its exported fields never change; the rest is guarded by mu.
type twilioCall struct {
	SID, AccountSID, To, From string
	Created                   time.Time

	now     func() time.Time
	mu      sync.Mutex
	status  string
	updated time.Time
}

func (in *Inbox) createCall(w http.ResponseWriter, r *http.Request) {
	name := in.nameOf(r, ProviderTwilio)
	form, ok := in.twilioForm(w, r, name, checkCall)
	if !ok {
		return
	}
	said, err := spoken(form.Get("Twiml"))
	if err != nil { // Twilio finds out during the call; here nobody would
		in.refused(name)
		writeTwilioError(w, http.StatusBadRequest, 12100, "Document parse failure: "+err.Error())
		return
	}
	fault := in.callFault(name, form.Get("To"), form.Get("From"))
	if in.refuseTwilio(w, r, name, form, fault) {
		return
	}
	now := in.cfg.Now()
	call := &twilioCall{
		SID: newSID(callPrefix), AccountSID: in.cfg.TwilioAccountSID, To: form.Get("To"), From: form.Get("From"), Created: now,
		now: in.cfg.Now, status: callQueued, updated: now,
	}
	in.takeTwilio(w, taken{
		what:    call,
		message: Message{Channel: Voice, Provider: name, From: call.From, To: call.To, Text: said, Reference: call.SID},
		target:  form.Get("StatusCallback"),
		steps:   callSteps(fault, form["StatusCallbackEvent"]),
		fault:   fault,
	})
}

// checkCall judges the fields that Twilio judges before it takes a call; code 0 means that all is well.
func checkCall(form url.Values) (code int, message string) {
	to, from, twiml := form.Get("To"), form.Get("From"), form.Get("Twiml")
	switch {
	case to == "":
		return 21201, "No 'To' number is specified"
	case !e164.MatchString(to):
		return 21217, twilioText(21217, form)
	case from == "":
		return 21213, "The 'From' number is required."
	case !e164.MatchString(from):
		return 21212, twilioText(21212, form)
	case twiml == "":
		return 21205, "Url parameter is required." // or Twiml, which is all that this simulation can carry out
	case utf8.RuneCountInString(twiml) > maxTwiMLCharacters:
		return 20001, fmt.Sprintf("Twiml must not have more than %d characters", maxTwiMLCharacters)
	}
	for _, field := range []struct {
		name string
		max  int
	}{{"Timeout", maxRingSeconds}, {"TimeLimit", 86_400}} {
		if v := form.Get(field.name); v != "" {
			if s, err := strconv.Atoi(v); err != nil || s < 1 || s > field.max {
				return 20001, fmt.Sprintf("%s %s is invalid. It must be between 1 and %d.", field.name, v, field.max)
			}
		}
	}
	for event := range callEvents(form["StatusCallbackEvent"]) {
		if !slices.Contains([]string{"initiated", "ringing", "answered", "completed"}, event) {
			return 21626, fmt.Sprintf("StatusCallbackEvent %s is not valid", event)
		}
	}
	return checkCallback(form)
}

// callEvents are the events that a caller wants to hear of, each in a field of its own or several in one; without any it is the end.
func callEvents(fields []string) map[string]bool {
	events := map[string]bool{}
	for _, field := range fields {
		for _, event := range strings.Fields(field) {
			events[event] = true
		}
	}
	if len(events) == 0 {
		events["completed"] = true
	}
	return events
}

// callSteps are the states of a call after queued. The fault's outcome is "undelivered" for a call that nobody took, with a code that says why ("busy",
// "canceled", "failed"; else it is no answer), and "failed" for one that did not get through. A number as code is told as SIP's.
func callSteps(f Fault, asked []string) []step {
	end, sip := callCompleted, 0
	switch f.Outcome {
	case statusUndelivered:
		end = callNoAnswer
		if slices.Contains([]string{callBusy, callCanceled, callFailed}, f.OutcomeCode) {
			end = f.OutcomeCode
		}
	case statusFailed:
		end = callFailed
	}
	if code, err := strconv.Atoi(f.OutcomeCode); err == nil && end != callCompleted {
		sip = code
	}
	events := callEvents(asked)
	steps := []step{{callInitiated, 0, events["initiated"]}}
	if end != callFailed {
		steps = append(steps, step{callRinging, 0, events["ringing"]})
	}
	if end == callCompleted {
		steps = append(steps, step{callInProgress, 0, events["answered"]})
	}
	return append(steps, step{end, sip, events["completed"]})
}

func (c *twilioCall) sid() string { return c.SID }

func (c *twilioCall) advance(status string, _ int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status, c.updated = status, c.now()
}

// resource is the call as the API shows it, in the fields of twilio-go's ApiV2010Call.
func (c *twilioCall) resource() map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	status := c.status
	if status == callInitiated { // in callbacks only
		status = callQueued
	}
	return map[string]any{
		"account_sid":  c.AccountSID,
		"api_version":  twilioAPIVersion,
		"date_created": rfc2822(c.Created),
		"date_updated": rfc2822(c.updated),
		"direction":    "outbound-api",
		"from":         c.From,
		"sid":          c.SID,
		"status":       status,
		"to":           c.To,
		"uri":          "/2010-04-01/Accounts/" + c.AccountSID + "/Calls/" + c.SID + ".json",
	}
}

func (c *twilioCall) callbackForm(n int, told step) url.Values {
	form := url.Values{
		"AccountSid": {c.AccountSID}, "ApiVersion": {twilioAPIVersion}, "From": {c.From}, "To": {c.To}, "Caller": {c.From}, "Called": {c.To},
		"CallSid": {c.SID}, "CallStatus": {told.status}, "Direction": {"outbound-api"}, "CallbackSource": {"call-progress-events"},
		"SequenceNumber": {strconv.Itoa(n)}, "Timestamp": {rfc2822(c.now())},
	}
	if told.status == callCompleted {
		form.Set("CallDuration", "20")
		form.Set("SipResponseCode", "200")
	}
	if told.code != 0 {
		form.Set("SipResponseCode", strconv.Itoa(told.code))
	}
	return form
}

var sayLanguage = regexp.MustCompile(`^[a-z]{2,3}(-[A-Z][A-Za-z]{1,3})?$`)

// spoken is what TwiML says, a line for each <Say>. It knows <Say> and <Pause>, the verbs of a call that only tells something, and nothing else.
func spoken(twiml string) (string, error) {
	var lines []string
	var open []string
	decoder := xml.NewDecoder(strings.NewReader(twiml))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", errors.New("not well-formed")
		}
		switch token := token.(type) {
		case xml.StartElement:
			switch path := strings.Join(append(open, token.Name.Local), "/"); path {
			case "Response", "Response/Pause":
			case "Response/Say":
				lines = append(lines, "")
				for _, a := range token.Attr {
					if a.Name.Local == "language" && !sayLanguage.MatchString(a.Value) {
						return "", fmt.Errorf("Say has no language %q", a.Value)
					}
				}
			default:
				return "", fmt.Errorf("%s is not known here", path)
			}
			open = append(open, token.Name.Local)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) == 2 && open[1] == "Say" {
				lines[len(lines)-1] += string(token)
			}
		}
	}
	if len(lines) == 0 {
		return "", errors.New("nothing is said")
	}
	return strings.Join(lines, "\n"), nil
}

package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What follows is the app's side of the wire, written as a stranger would write it: none of otpost's own types, only nats.go, HTTP and JSON.

type loginEvent struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Time        string    `json:"time"`
	Data        loginData `json:"data"`
}

type loginData struct {
	User    string  `json:"user"`
	Session string  `json:"session"`
	Channel string  `json:"channel"`
	To      *demoTo `json:"to,omitempty"`
}

type demoTo struct {
	SMS   string `json:"sms,omitempty"`
	Email string `json:"email,omitempty"`
}

func newLoginEvent(user, channel string, to demoTo) loginEvent {
	e := loginEvent{
		SpecVersion: "1.0", ID: "login-" + rand.Text(), Source: "https://shop.example", Type: "otpost.login.requested.v1",
		Time: time.Now().UTC().Format(time.RFC3339Nano), Data: loginData{User: user, Session: "session-" + rand.Text(), Channel: channel},
	}
	if to != (demoTo{}) {
		e.Data.To = &to
	}
	return e
}

type verifyRequest struct {
	Challenge string `json:"challenge"`
	Session   string `json:"session"`
	Code      string `json:"code"`
	Request   string `json:"request,omitempty"`
}

type verifyReply struct {
	Result string   `json:"result"`
	AMR    []string `json:"amr"`
}

// received is an event from otpost with the time at which it came.
type received struct {
	Type string `json:"type"`
	Time string `json:"time"`
	Data struct {
		User      string `json:"user"`
		Login     string `json:"login"`
		Challenge string `json:"challenge"`
		To        string `json:"to"`
		Digits    int    `json:"digits"`
		ExpiresAt string `json:"expires_at"`
		Provider  string `json:"provider"`
		Reason    string `json:"reason"`
		Message   string `json:"message"`
	} `json:"data"`
	at time.Time
}

// name is the event's name, as its subject ends.
func (r received) name() string {
	return strings.TrimSuffix(strings.TrimPrefix(r.Type, "otpost."), ".v1")
}

// validFor says how long the code of challenge.issued is good.
func (r received) validFor() string {
	from, err1 := time.Parse(time.RFC3339, r.Time)
	until, err2 := time.Parse(time.RFC3339, r.Data.ExpiresAt)
	if err1 != nil || err2 != nil {
		return "valid until " + r.Data.ExpiresAt
	}
	return fmt.Sprintf("valid %.0f min", until.Sub(from).Minutes())
}

// appClient is the app.
type appClient struct {
	name  string
	nc    *nats.Conn
	js    jetstream.JetStream
	inbox string // URL
	http  *http.Client

	mu      sync.Mutex
	events  []received
	changed chan struct{} // closed at the next event
}

// connectApp connects and subscribes to the app's events.
func connectApp(access AppAccess, inbox string) (*appClient, error) {
	a := &appClient{name: access.Name, inbox: inbox, http: &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}, changed: make(chan struct{})}
	opts := []nats.Option{nats.Name("otpost demo app"), nats.Timeout(5 * time.Second)}
	if access.NATSUser != "" {
		opts = append(opts, nats.UserInfo(access.NATSUser, access.NATSPassword))
	}
	var err error
	if a.nc, err = nats.Connect(access.NATSURL, opts...); err != nil {
		return nil, fmt.Errorf("connect to NATS as app %s: %w", access.Name, err)
	}
	if a.js, err = jetstream.New(a.nc); err == nil {
		_, err = a.nc.Subscribe(a.subject("event.>"), a.hear)
	}
	if err == nil {
		err = a.nc.FlushTimeout(5 * time.Second) // the server has the subscription
	}
	if err != nil {
		a.close()
		return nil, fmt.Errorf("subscribe to the events of app %s: %w", access.Name, err)
	}
	return a, nil
}

func (a *appClient) close() {
	a.nc.Close()
	a.http.CloseIdleConnections()
}

func (a *appClient) subject(tail string) string { return "otpost.app." + a.name + "." + tail }
func (a *appClient) loginSubject() string       { return a.subject("login") }

func (a *appClient) hear(m *nats.Msg) {
	r := received{at: time.Now()}
	if json.Unmarshal(m.Data, &r) != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, r)
	close(a.changed)
	a.changed = make(chan struct{})
}

// bad are the events after which a login cannot succeed.
var bad = []string{"challenge.skipped", "challenge.refused", "challenge.undeliverable", "challenge.failed", "challenge.ended"}

// await returns the first event of one of the names about a login. It fails when ctx ends or the login has failed.
func (a *appClient) await(ctx context.Context, login string, names ...string) (received, error) {
	r, err := a.awaitAny(ctx, func(r received) bool {
		return r.Data.Login == login && (slices.Contains(names, r.name()) || slices.Contains(bad, r.name()))
	})
	switch {
	case err != nil:
		return received{}, fmt.Errorf("no %s: %w", strings.Join(names, " or "), err)
	case !slices.Contains(names, r.name()):
		return received{}, errors.New(strings.TrimRight(fmt.Sprintf("%s came instead: %s %s", r.name(), r.Data.Reason, r.Data.Message), " :"))
	}
	return r, nil
}

// awaitAny returns the first event that is wanted, however long ago it came. It fails when ctx ends.
func (a *appClient) awaitAny(ctx context.Context, wanted func(received) bool) (received, error) {
	for {
		a.mu.Lock()
		events, changed := a.events, a.changed
		a.mu.Unlock()
		if i := slices.IndexFunc(events, wanted); i >= 0 {
			return events[i], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return received{}, ctx.Err()
		}
	}
}

// publish returns when JetStream has stored the event.
func (a *appClient) publish(ctx context.Context, e loginEvent) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	_, err = a.js.Publish(ctx, a.loginSubject(), body, jetstream.WithRetryAttempts(20))
	return err
}

// A requestError is an error reply.
type requestError struct{ Code, Message string }

func (e *requestError) Error() string { return e.Code + ": " + e.Message }

// request asks for a verb until somebody answers. An error reply comes back as a *requestError.
func (a *appClient) request(ctx context.Context, verb string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		m, err := a.nc.RequestWithContext(attempt, a.subject("rpc."+verb), text)
		cancel()
		if err == nil {
			var failure struct {
				Error *struct{ Code, Message string } `json:"error"`
			}
			if json.Unmarshal(m.Data, &failure) == nil && failure.Error != nil {
				return nil, &requestError{failure.Error.Code, failure.Error.Message}
			}
			return m.Data, nil
		}
		// Nobody serves the verb yet, or it was asked in the instant of a reload, or the one who was asked is gone.
		if !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return nil, err
		}
	}
}

// call asks for a verb and reads the reply.
func (a *appClient) call(ctx context.Context, verb string, body, reply any) error {
	ctx, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	text, err := a.request(ctx, verb, body)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if err := json.Unmarshal(text, reply); err != nil {
		return fmt.Errorf("%s: read the reply: %w", verb, err)
	}
	return nil
}

// verify asks whether a code is right. The request's id makes it safe to ask twice.
func (a *appClient) verify(ctx context.Context, challenge, session, code string) (verifyReply, error) {
	ctx, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	text, err := a.request(ctx, "verify", verifyRequest{Challenge: challenge, Session: session, Code: code, Request: rand.Text()})
	if err != nil {
		return verifyReply{}, err
	}
	var r verifyReply
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read the verdict: %w", err)
	}
	return r, nil
}

// readInbox returns the code of the newest message to an address that came after a time.
func (a *appClient) readInbox(ctx context.Context, channel, to string, after time.Time, digits int) (string, error) {
	query := url.Values{"channel": {channel}, "to": {to}, "after": {after.UTC().Format(time.RFC3339Nano)}}.Encode()
	code := regexp.MustCompile(`(?:^|\D)(\d{` + strconv.Itoa(digits) + `})(?:\D|$)`)
	for {
		messages, err := a.inboxMessages(ctx, query)
		if err != nil {
			return "", err
		}
		for _, m := range messages {
			if found := code.FindStringSubmatch(m.Text); found != nil {
				return found[1], nil
			}
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return "", fmt.Errorf("%d messages in the inbox, none with a code of %d digits: %w", len(messages), digits, err)
		}
	}
}

// mailedCode is a code as the text of an email has it: on a line of its own.
var mailedCode = regexp.MustCompile(`(?m)^\s+(\d{6})\s*$`)

// readMail returns the code of the newest email to an address that came after a time and whose subject says what it is for. Notices, which come to the same
// address, have other subjects.
func (a *appClient) readMail(ctx context.Context, to string, after time.Time, purpose string) (string, error) {
	query := url.Values{"channel": {"email"}, "to": {to}, "after": {after.UTC().Format(time.RFC3339Nano)}}.Encode()
	for {
		messages, err := a.inboxMessages(ctx, query)
		if err != nil {
			return "", err
		}
		for _, m := range messages {
			if found := mailedCode.FindStringSubmatch(m.Text); found != nil && strings.Contains(m.Subject, purpose) {
				return found[1], nil
			}
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return "", fmt.Errorf("%d messages in the inbox, none with a %s: %w", len(messages), purpose, err)
		}
	}
}

// inboxMessage is what the inbox tells of a message, as far as it matters here.
type inboxMessage struct{ Subject, Text string }

// inboxMessages returns the messages that a query selects, newest first.
func (a *appClient) inboxMessages(ctx context.Context, query string) ([]inboxMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.inbox+"/api/messages?"+query, nil)
	if err != nil {
		return nil, err
	}
	res, err := a.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read the inbox: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read the inbox: it answers %s", res.Status)
	}
	var messages []inboxMessage
	if err := json.NewDecoder(res.Body).Decode(&messages); err != nil {
		return nil, fmt.Errorf("read the inbox: %w", err)
	}
	return messages, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

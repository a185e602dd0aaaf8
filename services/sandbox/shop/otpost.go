package shop

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// otpost speaks the JSON API. Every request is a POST below /v1 with the app's key; a refusal is a problem document (RFC 9457).
type otpost struct {
	url, key string
	http     *http.Client
}

const (
	// askWithin bounds one try: a person waits for the page.
	askWithin = 8 * time.Second
	maxAnswer = 1 << 20
)

func newOtpost(url, key string, client *http.Client) *otpost {
	if client == nil {
		client = &http.Client{
			Timeout:       askWithin,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the key is for one address
		}
	}
	return &otpost{url: strings.TrimSuffix(url, "/") + "/v1/", key: key, http: client}
}

// A problem is otpost's refusal. Branch on Code; Detail is for the log, not for shoppers.
type problem struct {
	Status     int    `json:"status"`
	Code       string `json:"code"`
	Detail     string `json:"detail"`
	RetryAfter int    `json:"retry_after"` // seconds
}

func (p *problem) Error() string { return fmt.Sprintf("otpost: %d %s: %s", p.Status, p.Code, p.Detail) }

// hasCode reports whether err is a problem of that code.
func hasCode(err error, code string) bool {
	p, ok := errors.AsType[*problem](err)
	return ok && p.Code == code
}

// lost reports whether the answer may have been lost on its way, or the request too: whether it was carried out, nobody knows.
func lost(err error) bool {
	p, ok := errors.AsType[*problem](err)
	return !ok || p.Status == http.StatusBadGateway || p.Status == http.StatusServiceUnavailable || p.Status == http.StatusGatewayTimeout
}

// call asks for a verb, and once more if no answer came. Both tries carry the same Idempotency-Key (and a login the same id), so that otpost does the
// thing once and answers the second try as it answered the first: a page's result that was redeemed is not lost with the answer.
func (o *otpost) call(ctx context.Context, verb string, request, reply any) error {
	return o.callAs(ctx, verb, rand.Text(), request, reply)
}

func (o *otpost) callAs(ctx context.Context, verb, idempotencyKey string, request, reply any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode %s: %w", verb, err)
	}
	err = o.try(ctx, verb, idempotencyKey, body, reply)
	if err != nil && lost(err) && ctx.Err() == nil {
		err = o.try(ctx, verb, idempotencyKey, body, reply)
	}
	return err
}

func (o *otpost) try(ctx context.Context, verb, idempotencyKey string, body []byte, reply any) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+verb, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	req.Header.Set("Authorization", "Bearer "+o.key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", idempotencyKey)
	res, err := o.http.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err) // the error names the URL, which holds no secret
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: read the answer: %w", verb, err)
	}
	if res.StatusCode/100 != 2 {
		p := &problem{}
		_ = json.Unmarshal(answer, p) // what is between here and otpost may answer in another form
		p.Status = res.StatusCode
		return fmt.Errorf("%s: %w", verb, p)
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(answer, reply); err != nil {
		return fmt.Errorf("%s: read the answer: %w", verb, err)
	}
	return nil
}

// loginRequest asks whether a login, or a purchase, needs a second factor.
type loginRequest struct {
	ID          string       `json:"id"` // the same id again is the same login, whatever was lost in between
	User        string       `json:"user"`
	Session     string       `json:"session"`
	Locale      string       `json:"locale,omitempty"`
	Client      *client      `json:"client,omitempty"`
	Device      string       `json:"device,omitempty"` // the browser's token, where the user chose to trust it
	Transaction *transaction `json:"transaction,omitempty"`
}

type client struct {
	IP        string `json:"ip,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
}

type transaction struct {
	Amount string `json:"amount"`
	Payee  string `json:"payee"`
}

type loginReply struct {
	Outcome    string `json:"outcome"` // issued, skipped or refused
	Challenge  string `json:"challenge"`
	Reason     string `json:"reason"`
	RetryAfter int    `json:"retry_after"`
	Device     string `json:"device"` // the token from now on
}

// pageRequest asks for a link into otpost's pages.
type pageRequest struct {
	User              string `json:"user"`
	Session           string `json:"session"`
	Page              string `json:"page"`
	Challenge         string `json:"challenge,omitempty"` // with page challenge only
	Account           string `json:"account,omitempty"`   // what the pages call the user
	Locale            string `json:"locale,omitempty"`
	ReturnURL         string `json:"return_url"`
	ReauthenticateURL string `json:"reauthenticate_url,omitempty"`
	ReauthenticatedAt string `json:"reauthenticated_at,omitempty"`
}

// pageResult is what a visit to otpost's pages came to.
type pageResult struct {
	Page      string   `json:"page"`
	Outcome   string   `json:"outcome"`
	User      string   `json:"user"`
	Session   string   `json:"session"`
	Challenge string   `json:"challenge"`
	AMR       []string `json:"amr"`
	Device    string   `json:"device"` // present when the user chose to trust this browser
}

// factors is what the account page shows of the second factor.
type factors struct {
	Factors []struct {
		Kind  string `json:"kind"`
		Label string `json:"label"`
		State string `json:"state"`
	} `json:"factors"`
	Activated       bool `json:"activated"`
	BackupCodesLeft int  `json:"backup_codes_left"`
}

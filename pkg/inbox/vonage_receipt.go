package inbox

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Ways in which an account of Vonage has its delivery receipts sent (Config.VonageReceiptMethod).
const (
	VonageGET      = "GET"       // in the query
	VonagePOST     = "POST"      // as a form
	VonagePOSTJSON = "POST-JSON" // as a JSON object of texts
)

// followVonage tells of each part of a message: accepted by the carrier, then how it ended.
func (in *Inbox) followVonage(name string, form url.Values, ids []string, f Fault) {
	target := form.Get("callback")
	if target == "" {
		target = in.cfg.VonageReceiptURL
	}
	if wanted, err := strconv.ParseBool(form.Get("status-report-req")); err == nil && !wanted {
		return
	}
	status, code := "delivered", "0"
	switch f.Outcome {
	case statusUndelivered:
		status, code = "failed", "1" // unknown
	case statusFailed:
		status, code = "rejected", "6" // taken for spam by the carrier
	}
	if f.OutcomeCode != "" && code != "0" {
		code = f.OutcomeCode
	}
	for _, id := range ids {
		in.tell(name, id, target, f, []receipt{in.vonageReceipt(form, id, "accepted", "0"), in.vonageReceipt(form, id, status, code)})
	}
}

// vonageReceipt makes a delivery receipt (https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts), signed if the account has a secret for it.
func (in *Inbox) vonageReceipt(form url.Values, id, status, code string) receipt {
	now := in.cfg.Now().UTC()
	params := url.Values{
		"msisdn": {strings.TrimPrefix(form.Get("to"), "+")}, "to": {form.Get("from")}, "network-code": {vonageNetwork}, "messageId": {id},
		"price": {"0.03330000"}, "status": {status}, "scts": {now.Format("0601021504")}, "err-code": {code}, "api-key": {in.cfg.VonageKey},
		"message-timestamp": {now.Format("2006-01-02 15:04:05")},
	}
	if ref := form.Get("client-ref"); ref != "" {
		params.Set("client-ref", ref)
	}
	return receipt{status, func(ctx context.Context, target string) (*http.Request, error) {
		if in.cfg.VonageSignatureSecret != "" {
			params.Set("timestamp", strconv.FormatInt(in.cfg.Now().Unix(), 10))
			params.Set("nonce", uuid.NewString())
			params.Set("sig", VonageSignature(in.cfg.VonageSignatureSecret, params))
		}
		switch in.cfg.VonageReceiptMethod {
		case VonageGET:
			u, err := url.Parse(target)
			if err != nil {
				return nil, err
			}
			query := u.Query()
			for name := range params {
				query.Set(name, params.Get(name))
			}
			u.RawQuery = query.Encode()
			return http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
		case VonagePOSTJSON:
			flat := make(map[string]string, len(params))
			for name := range params {
				flat[name] = params.Get(name)
			}
			body, err := json.Marshal(flat)
			if err != nil {
				return nil, err
			}
			return postRequest(ctx, target, "application/json", body)
		default:
			return postRequest(ctx, target, "application/x-www-form-urlencoded", []byte(params.Encode()))
		}
	}}
}

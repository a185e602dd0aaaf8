package callback

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/otpost/otpost/pkg/bounce"
	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
)

// signedWithin is how far the time of a signature may be off (Standard Webhooks 1.0.0, "Verifying webhook authenticity").
const signedWithin = 5 * time.Minute

// A signed verifies Standard Webhooks with any of its secrets.
type signed []*standardwebhooks.Webhook

func newSigned(s *Source) (signed, error) {
	var all signed
	for _, secret := range s.Secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil {
			return nil, errors.New(`secret: must be base64, with "whsec_" before it or without`) // the cause would quote of the secret
		}
		if len(key) < 24 || len(key) > 64 { // so the standard asks
			return nil, fmt.Errorf("secret: must be of 24 to 64 bytes, not %d", len(key))
		}
		w, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil, errors.New("secret: is none")
		}
		all = append(all, w)
	}
	if s.Method != "" {
		return nil, errors.New("signature_method: is of kind vonage only")
	}
	return all, nil
}

// verify checks the signature of a body, and that it is of now by our clock.
func (s signed) verify(r *request) error {
	seconds, err := strconv.ParseInt(r.Header.Get(standardwebhooks.HeaderWebhookTimestamp), 10, 64)
	if off := r.now.Sub(time.Unix(seconds, 0)); err != nil || off > signedWithin || off < -signedWithin {
		return errSignature
	}
	for _, w := range s {
		if w.VerifyIgnoringTimestamp(r.body, r.Header) == nil {
			return nil
		}
	}
	return errSignature
}

// webhookKind reads receipts of a provider that speaks otpost's own form.
type webhookKind struct{ signed }

var _ kind = (*webhookKind)(nil)

// A receipt is the body. It names the message by its token, which came with it, or by its id at otpost.
type receipt struct {
	Token     string            `json:"token"`
	Delivery  string            `json:"delivery"`
	Reference string            `json:"reference"` // the provider's own id
	State     otp.DeliveryState `json:"state"`
	Code      string            `json:"code"`
	Reason    string            `json:"reason"`
	Permanent bool              `json:"permanent"`
	At        time.Time         `json:"at"` // by the provider's clock, for its own records: here counts when it came
}

func (k *webhookKind) receive(r *request) (event.Report, error) {
	if err := k.verify(r); err != nil {
		return event.Report{}, err
	}
	if _, err := r.is(jsonType); err != nil {
		return event.Report{}, err
	}
	var in receipt
	if err := json.Unmarshal(r.body, &in, json.RejectUnknownMembers(true)); err != nil {
		return event.Report{}, malformed("the body is no receipt: token or delivery, reference, state, code, reason, permanent, at")
	}
	report := event.Report{Token: in.Token, Reference: in.Reference, State: in.State}
	if in.Delivery != "" {
		delivery, _, _, ok := bounce.Reference(in.Delivery)
		if !ok || delivery != in.Delivery {
			return event.Report{}, malformed("delivery: is none")
		}
		report.Delivery = delivery
	}
	switch in.State {
	case otp.DeliveryAccepted, otp.DeliveryDelivered:
	case otp.DeliveryUndelivered, otp.DeliveryFailed:
		report.Code, report.Reason, report.Permanent = in.Code, in.Reason, in.Permanent
	case "":
		return event.Report{}, malformed("state: is missing")
	default:
		return event.Report{}, errUnknown
	}
	return report, nil
}

// dsnKind reads delivery status notifications that a relay passes on as they are.
type dsnKind struct{ signed }

var _ kind = (*dsnKind)(nil)

func (k *dsnKind) receive(r *request) (event.Report, error) {
	if err := k.verify(r); err != nil {
		return event.Report{}, err
	}
	if _, err := r.is(mailType); err != nil {
		return event.Report{}, err
	}
	b, err := bounce.Parse(r.body)
	switch {
	case errors.Is(err, bounce.ErrNone):
		return event.Report{}, errStage // what else comes to that mailbox is nobody's
	case err != nil:
		return event.Report{}, malformed("the notification cannot be read")
	case b.Challenge == uuid.Nil:
		return event.Report{}, errStage // of a mail of somebody else's
	}
	report := event.Report{Delivery: b.Delivery}
	switch b.Action {
	case bounce.Failed:
		report.State, report.Code, report.Reason, report.Permanent = otp.DeliveryUndelivered, b.Status, b.Reason, b.Permanent
	case bounce.Delivered:
		report.State = otp.DeliveryDelivered
	default: // on its way still, or gone where nobody reports
		return event.Report{}, errStage
	}
	return report, nil
}

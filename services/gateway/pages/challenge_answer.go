package pages

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// answer takes an answer. What has no form of one is sent back before it costs an attempt.
func (q *question) answer(ctx context.Context) error {
	s, over, err := q.standing(ctx)
	if err != nil {
		return err
	}
	if over != "" {
		return q.ended(ctx, over)
	}
	ask, wrong := q.request(s)
	if len(wrong) > 0 {
		return q.render(ctx, 0, wrong)
	}
	r, err := call[event.VerifyReply](ctx, q.visit, event.VerbVerify, ask)
	switch {
	case reason(err) == otp.Invalid: // what the key said cannot be read
		return q.render(ctx, 0, q.wrong(q.field(s), "challenge.unreadable"))
	case err != nil:
		return err
	}
	wait := time.Duration(r.RetryAfter) * time.Second
	switch r.Result {
	case string(otp.Verified):
		return q.answered(ctx, r)
	case event.ResultWrong:
		if r.AttemptsLeft == 0 {
			return q.again(ctx)
		}
		id := "challenge.wrong"
		if q.by(s) == byKey {
			id = "challenge.wrong_key"
		}
		return q.render(ctx, wait, q.wrong(q.field(s), id, "Count", r.AttemptsLeft))
	case string(otp.Locked):
		if wait > 0 {
			return q.render(ctx, wait, q.wrong(q.field(s), "challenge.too_many"))
		}
		return q.ended(ctx, string(otp.Locked))
	}
	return q.again(ctx) // it has ended meanwhile
}

// field is the field that an error of the answer stands at; none where there is nothing to type.
func (q *question) field(s event.StatusReply) string {
	if q.by(s) == byKey {
		return ""
	}
	return "code"
}

// request makes a request of the form. The transaction is the one that the page has shown: a challenge never changes its own.
func (q *question) request(s event.StatusReply) (ask event.VerifyRequest, wrong []web.FieldError) {
	ask = event.VerifyRequest{Challenge: q.id, Session: q.row.Session, Transaction: s.Transaction, Request: q.form("request")}
	if _, err := uuid.Parse(ask.Request); err != nil {
		ask.Request = uuid.NewString()
	}
	if q.trust(s) > 0 && q.form("trust") != "" {
		ask.TrustDevice = &event.TrustDevice{Label: q.browser()}
	}
	if q.by(s) == byKey {
		credential := jsontext.Value(q.form("credential"))
		if len(credential) > event.MaxCredential || !credential.IsValid() || credential.Kind() != '{' {
			return ask, q.wrong("", "challenge.unreadable")
		}
		ask.Credential = credential
		return ask, nil
	}
	code := q.form("code")
	value, form, words := otp.ParseAnswer(code)
	switch {
	case code == "":
		return ask, q.wrong("code", "challenge.empty")
	case words != "":
		return ask, q.wrong("code", "challenge.form")
	case form == otp.FormDigits && string(q.by(s)) == s.Channel && s.Digits > 0 && len(value) != s.Digits:
		return ask, q.wrong("code", "challenge.form_digits", "Count", s.Digits)
	}
	ask.Code = value
	return ask, nil
}

// resend has the code sent once more, over the channel that it was last sent over.
func (q *question) resend(ctx context.Context) error {
	wrong, err := q.send(ctx, "")
	if err != nil || wrong == nil {
		return err
	}
	return q.render(ctx, 0, wrong)
}

// send has the code sent over a channel and leads back to the question. What it returns says why it could not be sent.
func (q *question) send(ctx context.Context, channel string) ([]web.FieldError, error) {
	_, err := call[event.ResendReply](ctx, q.visit, event.VerbResend, event.ResendRequest{Challenge: q.id, Session: q.row.Session, Channel: channel})
	switch p, _ := errors.AsType[*otp.Problem](err); reason(err) {
	case "":
		if err != nil {
			return nil, err
		}
		*q.way, q.state.Flash = "", "challenge.sent"
		return nil, q.goTo(ctx, q.path)
	case otp.RateLimited:
		if p.RetryAfter > 0 {
			return q.wrong("", "challenge.resend_soon", "Time", q.span(p.RetryAfter)), nil
		}
		return q.wrong("", "challenge.resend_none"), nil
	case otp.ChallengeEnded, otp.UnknownChallenge:
		return nil, q.again(ctx)
	case otp.Invalid, otp.BlockedDestination: // there is no address for it
		return q.wrong("", "challenge.resend_not"), nil
	}
	return nil, err
}

// waysData is for the choice of another way.
type waysData struct {
	Path    string
	Ways    []otherWay
	Recover bool
}

// An otherWay is one more way to answer.
type otherWay struct {
	Kind way
	Icon string
}

// ways shows the other ways to answer.
func (q *question) ways(ctx context.Context) error { return q.renderWays(ctx, nil) }

func (q *question) renderWays(ctx context.Context, wrong []web.FieldError) error {
	s, over, err := q.standing(ctx)
	if err != nil {
		return err
	}
	if over != "" {
		return q.ended(ctx, over)
	}
	d := waysData{Path: q.path, Recover: q.recoverable()}
	for _, w := range others(s, q.by(s)) {
		d.Ways = append(d.Ways, otherWay{Kind: w, Icon: wayIcons[w]})
	}
	return q.show(ctx, "challenge/ways", d, wrong)
}

// choose takes another way: what is sent is sent, for anything else the page asks.
func (q *question) choose(ctx context.Context) error {
	s, over, err := q.standing(ctx)
	if err != nil {
		return err
	}
	if over != "" {
		return q.ended(ctx, over)
	}
	chosen, now := way(q.form("way")), q.by(s)
	switch {
	case string(chosen) == s.Channel:
		*q.way = ""
	case chosen != now && !slices.Contains(others(s, now), chosen):
		return q.renderWays(ctx, q.wrong("", "challenge.way_gone"))
	case chosen.sent():
		wrong, err := q.send(ctx, string(chosen))
		if err != nil || wrong == nil {
			return err
		}
		return q.renderWays(ctx, wrong)
	default:
		*q.way = string(chosen)
	}
	return q.goTo(ctx, q.path)
}

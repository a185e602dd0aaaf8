package pages

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// A question is a challenge that the user is asked to answer: that of a login, or one before an act that weakens the account. What its page shows is asked of
// the workers each time, so that a challenge that has ended elsewhere, in another tab or by the app, shows its end.
type question struct {
	*visit
	path     string     // of its page; what belongs to it lies below
	id       string     // of the challenge
	way      *string    // how the user wants to answer; empty for how the challenge asks
	trusts   bool       // the browser may be trusted with the answer
	proves   bool       // it stands before an act, and not before a login
	refused  otp.Reason // why there is no challenge; empty where there is one
	until    time.Time  // when to ask for one again
	answered func(ctx context.Context, r event.VerifyReply) error
}

// questionRoutes adds the pages of a question. find returns nil where the visit has none.
func (p *Pages) questionRoutes(path string, find func(*visit) *question) {
	with := func(h func(*question, context.Context) error) handler {
		return func(ctx context.Context, v *visit) error {
			q := find(v)
			if q == nil {
				http.Redirect(v.w, v.r, first[v.row.Page], http.StatusSeeOther)
				return nil
			}
			if q.refused != "" {
				return q.refusal(ctx)
			}
			return h(q, ctx)
		}
	}
	p.get(path, with((*question).ask))
	p.post(path, with((*question).answer))
	p.get(path+"/resend", with((*question).again))
	p.post(path+"/resend", with((*question).resend))
	p.get(path+"/ways", with((*question).ways))
	p.post(path+"/ways", with((*question).choose))
}

// again leads to the question.
func (q *question) again(context.Context) error {
	http.Redirect(q.w, q.r, q.path, http.StatusSeeOther)
	return nil
}

// standing asks where the challenge stands. over is why it cannot be answered any more, as a state of challenges or "unknown"; empty while it can.
func (q *question) standing(ctx context.Context) (s event.StatusReply, over string, err error) {
	s, err = call[event.StatusReply](ctx, q.visit, event.VerbStatus, event.StatusRequest{Challenge: q.id})
	switch {
	case reason(err) == otp.UnknownChallenge:
		return s, event.ResultUnknown, nil
	case err != nil:
		return s, "", err
	case s.User != q.row.User || s.Session != q.row.Session: // the app has mixed up its users: nothing of another one is shown
		return event.StatusReply{}, event.ResultUnknown, nil
	case s.State != string(otp.Open):
		return s, s.State, nil
	}
	return s, "", nil
}

// by is how the user answers: as they wish where that is possible, else as the challenge asks.
func (q *question) by(s event.StatusReply) way {
	if *q.way != "" && slices.Contains(s.Methods, *q.way) {
		return way(*q.way)
	}
	return way(s.Channel)
}

// trust is for how long the browser is trusted where the user wishes it; zero for not at all. What a user is asked to agree to is asked in any browser.
func (q *question) trust(s event.StatusReply) time.Duration {
	if !q.trusts || s.Transaction != nil {
		return 0
	}
	return q.app.Policy.Factors.DeviceLife
}

// trustText asks whether to trust the browser for a time.
func (q *question) trustText(life time.Duration) string {
	const day = 24 * time.Hour
	if life < 2*day && life != day {
		return q.t("challenge.trust_hours", "Count", int((life+time.Hour-1)/time.Hour))
	}
	return q.t("challenge.trust", "Count", int(life/day))
}

// recoverable reports whether the app lets its users recover an account.
func (v *visit) recoverable() bool {
	for _, methods := range v.app.Policy.Factors.RecoveryMethods {
		if len(methods) > 0 {
			return true
		}
	}
	return false
}

// A countdown is a sentence that names a time to come. Scripts count it down in place of Words.
type countdown struct {
	Before, Words, After string
	Seconds              int
}

// countdown says a text that names a time as "Time".
func (v *visit) countdown(id string, d time.Duration) countdown {
	const mark = "\uE000"
	before, after, _ := strings.Cut(v.t(id, "Time", mark), mark)
	return countdown{Before: before, Words: v.span(d), After: after, Seconds: otp.Seconds(d)}
}

// questionData is what the page of a question shows.
type questionData struct {
	Path        string
	Proves      bool
	By          way    // how the user answers
	Lead        string // of the text that says what to do
	Instead     string // of the text that says why the code did not come as it was announced; empty where it did
	To          string // masked; of a code that was sent
	Digits      int    // of the code, where that is known
	Request     string // names this form, so that it counts once however often it is sent
	Transaction *otp.Transaction
	Life        countdown  // until the challenge ends
	Wait        *countdown // until the next answer is taken
	Trust       string     // asks whether to trust the browser, and says for how long; empty for not at all
	Trusted     bool       // the user has asked for that
	Sent        bool       // the way is a code that was sent
	Resend      bool       // it can be sent again
	ResendWait  *countdown
	Failed      bool   // it could not be delivered
	Others      bool   // there are other ways
	Options     string // for the security key
	Unusable    bool   // the security key cannot be used now
}

// ask shows the question.
func (q *question) ask(ctx context.Context) error { return q.render(ctx, 0, nil) }

// render shows the question, or how it has ended. wait is how long no answer is taken.
func (q *question) render(ctx context.Context, wait time.Duration, wrong []web.FieldError) error {
	s, over, err := q.standing(ctx)
	if err != nil {
		return err
	}
	if over != "" {
		return q.ended(ctx, over)
	}
	d := questionData{
		Path: q.path, Proves: q.proves, By: q.by(s), Request: uuid.NewString(), Transaction: s.Transaction, Others: len(others(s, q.by(s))) > 0 || q.recoverable(),
		Trusted: q.form("trust") != "", Lead: "challenge.lead_" + string(q.by(s)),
	}
	life := event.ParseTime(s.ExpiresAt).Sub(q.p.Now())
	if trust := q.trust(s); trust > 0 {
		d.Trust = q.trustText(trust)
	}
	if string(d.By) == s.Channel {
		d.Digits, d.Sent = s.Digits, d.By.sent()
	}
	d.Life = q.countdown("challenge.life", life)
	if d.Sent {
		d.Life = q.countdown("challenge.life_code", life)
		d.To, d.Resend, d.Failed = s.To, s.SendsLeft > 0, undelivered(s)
		if d.By == way(otp.Voice) && called(s) {
			d.Lead += "_over"
		}
		if !d.Failed {
			d.Instead = instead(s)
		}
		if d.Resend && s.ResendAfter > 0 {
			c := q.countdown("challenge.resend_wait", time.Duration(s.ResendAfter)*time.Second)
			d.ResendWait = &c
		}
	}
	if wait > 0 {
		c := q.countdown("challenge.wait", wait)
		d.Wait = &c
	}
	if d.By == byKey {
		switch err := q.begin(ctx, &d); reason(err) {
		case "":
			if err != nil {
				return err
			}
		case otp.NoFactorLeft, otp.NotAllowed:
			d.Unusable = true
		case otp.ChallengeEnded, otp.UnknownChallenge:
			return q.ended(ctx, string(otp.Expired))
		default:
			return err
		}
	}
	return q.show(ctx, "challenge/question", d, wrong, func(p *web.Page) { p.Path = q.path })
}

// begin asks what the security key is to sign. It makes what it was asked for before worthless, and serves one answer.
func (q *question) begin(ctx context.Context, d *questionData) error {
	r, err := call[event.WebAuthnBeginReply](ctx, q.visit, event.VerbWebAuthnBegin, event.WebAuthnBeginRequest{Challenge: q.id, Session: q.row.Session})
	d.Options = string(r.Options)
	return err
}

// endedData is what is shown of a challenge that has ended.
type endedData struct {
	Path    string
	Proves  bool
	Icon    string
	Title   string // a text's name
	Text    string // a text's name
	Next    string // of the text that says what the user can do
	Again   bool   // another one may be asked for here
	Wait    *countdown
	Recover bool
}

// ended says how the challenge has ended and what the user can do.
func (q *question) ended(ctx context.Context, over string) error {
	text := "challenge.ended_" + over
	if !q.locale.Has(text) { // a state that this version does not know
		text = "challenge.ended_" + event.ResultUnknown
	}
	d := endedData{Path: q.path, Proves: q.proves, Icon: "alert", Title: text + "_title", Text: text, Next: "challenge.next"}
	if q.proves {
		d.Next, d.Again = "challenge.next_prove", true
	}
	switch otp.State(over) {
	case otp.Expired, otp.Superseded, otp.Cancelled:
		d.Icon = "wait"
	case otp.Verified:
		d.Icon = "check"
	case otp.Locked:
		d.Next, d.Again = "challenge.next_locked", false
	}
	if !q.locale.Has(d.Text) { // a state that this version does not know
		d.Title, d.Text = "challenge.ended_unknown_title", "challenge.ended_unknown"
	}
	return q.show(ctx, "challenge/ended", d, nil, func(p *web.Page) { p.Path, p.Back = q.path, "" })
}

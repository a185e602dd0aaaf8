package pages

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/services/gateway/web"
)

// This file takes the proofs of a recovery. The worker counts, compares and decides; the password of a moment ago goes with each proof, so that a recovery
// which was begun in another browser can be carried on here.

// A recoveryWay is a proof that could be given.
type recoveryWay struct {
	Method string
	To     string // masked; empty for what is not sent
	State  string // name of the text that tells of its code
	Failed bool   // the code could not be delivered
	Given  bool
	Again  bool // it was given, but perhaps in another browser
}

// recoveryWaysData is for the page that lists them.
type recoveryWaysData struct {
	Ways      []recoveryWay
	Lead      string // name of the text that says what is missing
	Elsewhere bool   // what was given may have been given in another browser
	ExpiresAt string
}

// recoveryWays lists the proofs, given and missing.
func (p *Pages) recoveryWays(ctx context.Context, v *visit) error {
	now, err := v.recovery(ctx)
	if err != nil {
		return err
	}
	if now.State != string(otp.RecoveryProving) {
		return v.lead(recoveryAt(now))
	}
	return v.show(ctx, "recovery/prove", v.recoveryProofs(now), nil)
}

// recoveryAt is the page of a recovery's state.
func recoveryAt(r event.RecoveryReply) string {
	switch otp.RecoveryState(r.State) {
	case otp.RecoveryProving:
		return "/recovery/prove"
	case otp.RecoveryWaiting:
		return "/recovery/waiting"
	}
	return "/recovery"
}

func (v *visit) recoveryProofs(now event.RecoveryReply) recoveryWaysData {
	data := recoveryWaysData{ExpiresAt: now.ExpiresAt, Lead: "recovery.prove_two"}
	own := v.own(now)
	data.Elsewhere = !own && len(now.Proven) > 0
	add := func(w recoveryWay) {
		w.Given = slices.Contains(now.Proven, w.Method)
		w.Again = w.Given && !own
		data.Ways = append(data.Ways, w)
	}
	coded := false
	for _, m := range now.Methods {
		state, failed := v.recoveryCodeState(m)
		add(recoveryWay{Method: m.Method, To: m.To, State: state, Failed: failed})
		coded = coded || slices.Contains(now.Proven, m.Method)
	}
	if now.Passphrase || slices.Contains(now.Proven, string(otp.ProofPassphrase)) {
		add(recoveryWay{Method: string(otp.ProofPassphrase), State: "recovery.way_passphrase"})
	}
	if now.BackupCode || slices.Contains(now.Proven, string(otp.ProofBackupCode)) {
		add(recoveryWay{Method: string(otp.ProofBackupCode), State: "recovery.way_backup"})
	}
	switch {
	case !own || len(now.Proven) == 0:
	case coded:
		data.Lead = "recovery.prove_more"
	default:
		data.Lead = "recovery.prove_code"
	}
	return data
}

// recoveryCodeState says what became of a code.
func (v *visit) recoveryCodeState(m event.RecoveryMethodInfo) (text string, failed bool) {
	if at, err := time.Parse(time.RFC3339, m.ExpiresAt); err == nil && !v.p.Now().Before(at) {
		return "recovery.way_expired", false
	}
	switch otp.DeliveryState(m.State) {
	case otp.DeliveryUndelivered, otp.DeliveryFailed:
		return "recovery.way_failed", true
	case otp.DeliveryExpired:
		return "recovery.way_expired", false
	}
	if m.Method == string(otp.ProofLetter) {
		return "recovery.way_letter", false
	}
	return "recovery.way_sent", false
}

// recoveryChoose remembers which proof is to be given.
func (p *Pages) recoveryChoose(ctx context.Context, v *visit) error {
	method := v.form("method")
	now, err := v.recovery(ctx)
	if err != nil {
		return err
	}
	if now.State != string(otp.RecoveryProving) {
		return v.lead(recoveryAt(now))
	}
	if !slices.ContainsFunc(v.recoveryProofs(now).Ways, func(w recoveryWay) bool { return w.Method == method && (!w.Given || w.Again) }) {
		return v.lead("/recovery/prove")
	}
	v.following(now.Recovery).Method = method
	return v.goTo(ctx, "/recovery/code")
}

// recoveryProofData is for the page that takes one proof.
type recoveryProofData struct {
	Method  string
	To      string     // masked; empty for what is not sent
	Digits  int        // of a code; 0 for what is no code of digits
	Expired bool       // of a code that was sent
	Expires string     // in how long it does
	Left    int        // how often it may be sent again
	Wait    *countdown // until then; nil for now
}

// Digits of codes, as they are sent: a letter's has more, since there is time to guess while it travels.
const (
	recoveryDigits       = 6
	recoveryLetterDigits = 10
)

// Complete is what a browser may fill in: a code that came, and nothing that the user keeps elsewhere.
func (d recoveryProofData) Complete() string {
	if d.Digits > 0 {
		return "one-time-code"
	}
	return "off"
}

// recoveryCode asks for the proof that was chosen.
func (p *Pages) recoveryCode(ctx context.Context, v *visit) error { return v.recoveryForm(ctx, nil) }

func (v *visit) recoveryForm(ctx context.Context, wrong []web.FieldError) error {
	now, err := v.recovery(ctx)
	if err != nil {
		return err
	}
	if now.State != string(otp.RecoveryProving) || !v.followed(now) || v.state.Recovery.Method == "" {
		return v.lead(recoveryAt(now))
	}
	data := recoveryProofData{Method: v.state.Recovery.Method}
	for _, m := range now.Methods {
		if m.Method != data.Method {
			continue
		}
		data.To, data.Digits, data.Left = m.To, recoveryDigits, m.SendsLeft
		if m.Method == string(otp.ProofLetter) {
			data.Digits = recoveryLetterDigits
		}
		if at, err := time.Parse(time.RFC3339, m.ExpiresAt); err == nil {
			left := at.Sub(v.p.Now())
			data.Expired, data.Expires = left <= 0, v.span(left)
		}
		if m.RetryAfter > 0 {
			wait := v.countdown("recovery.resend_in", time.Duration(m.RetryAfter)*time.Second)
			data.Wait = &wait
		}
	}
	return v.show(ctx, "recovery/code", data, wrong, func(page *web.Page) { page.Path = "/recovery/code" })
}

// recoveryProve gives a proof.
func (p *Pages) recoveryProve(ctx context.Context, v *visit) error {
	f := v.state.Recovery
	if f == nil || f.Method == "" {
		return v.lead("/recovery")
	}
	reply, err := call[event.RecoveryProveReply](ctx, v, event.VerbRecoveryProve, event.RecoveryProveRequest{
		Recovery: f.ID, Session: v.row.Session, Method: f.Method, Code: v.form("code"), Client: v.client(), Reauthenticated: v.reauthenticated(),
	})
	if err != nil {
		return v.recoveryNotProven(ctx, err)
	}
	if reply.Result != event.ResultProven {
		if reply.State != string(otp.RecoveryProving) {
			f.Exhausted = true
			return v.goTo(ctx, recoveryAt(reply.RecoveryReply))
		}
		return v.recoveryForm(ctx, v.recoveryWrong(reply))
	}
	f.Own, f.Method = true, ""
	switch otp.RecoveryState(reply.State) {
	case otp.RecoveryProving:
		v.state.Flash = "recovery.flash_proven"
	case otp.RecoveryWaiting, otp.RecoveryCompleted:
		f.Whole = true
	case otp.RecoveryCancelled: // it was right, and the last that this recovery took
		f.Exhausted = true
	}
	return v.goTo(ctx, recoveryAt(reply.RecoveryReply))
}

// recoveryWrong says how many are left, and how long to wait.
func (v *visit) recoveryWrong(reply event.RecoveryProveReply) []web.FieldError {
	text := v.t("recovery.wrong", "Count", reply.AttemptsLeft)
	if reply.RetryAfter > 0 {
		text += " " + v.t("recovery.wrong_wait", "Time", v.span(time.Duration(reply.RetryAfter)*time.Second))
	}
	return []web.FieldError{{Field: "code", Text: text}}
}

// recoveryNotProven says why a proof was not even compared.
func (v *visit) recoveryNotProven(ctx context.Context, err error) error {
	f := v.state.Recovery
	problem, _ := errors.AsType[*otp.Problem](err)
	switch reason(err) {
	case otp.Invalid:
		return v.recoveryForm(ctx, v.wrong("code", "recovery.wrong_form"))
	case otp.RateLimited:
		return v.recoveryForm(ctx, v.wrong("code", "recovery.wrong_wait", "Time", v.recoveryWait(problem)))
	case otp.AccountLocked:
		return v.recoveryForm(ctx, v.wrong("", "recovery.error_locked", "App", v.app.DisplayName))
	case otp.Conflict: // given before, in this session: so the recovery is this session's
		f.Own, f.Method, v.state.Flash = true, "", "recovery.flash_given"
		return v.goTo(ctx, "/recovery/prove")
	case otp.NotAllowed:
		f.Method = ""
		return v.goTo(ctx, "/recovery/prove")
	case otp.UnknownRecovery:
		if !f.Own && !v.fresh() { // it may be another session's, which takes the password
			return v.needPassword(event.PageRecovery)
		}
		return v.lead("/recovery")
	case otp.ApprovalRequired:
		return v.lead("/recovery")
	}
	return err
}

// recoveryResend sends the code once more.
func (p *Pages) recoveryResend(ctx context.Context, v *visit) error {
	f := v.state.Recovery
	if f == nil || !otp.ProofKind(f.Method).IsCode() {
		return v.lead("/recovery/prove")
	}
	_, err := call[event.ResendReply](ctx, v, event.VerbRecoveryResend, event.RecoveryResendRequest{Recovery: f.ID, Session: v.row.Session, Method: f.Method})
	problem, _ := errors.AsType[*otp.Problem](err)
	switch reason(err) {
	case "":
		if err != nil {
			return err
		}
	case otp.RateLimited:
		if problem.RetryAfter > 0 {
			return v.recoveryForm(ctx, v.wrong("", "recovery.resend_soon", "Time", v.recoveryWait(problem)))
		}
		return v.recoveryForm(ctx, v.wrong("", "recovery.resend_none"))
	case otp.UnknownRecovery: // it is over, or another session's: that one alone may have codes sent
		return v.recoveryForm(ctx, v.wrong("", "recovery.resend_elsewhere"))
	case otp.Conflict, otp.NotAllowed, otp.ApprovalRequired:
		return v.lead("/recovery")
	default:
		return err
	}
	f.Own, v.state.Flash = true, "recovery.flash_resent"
	return v.goTo(ctx, "/recovery/code")
}

package shop

import (
	"context"
	"net/http"
	"time"
)

// signOut ends this session. otpost hears of it, and no longer trusts the browser that was used in it. Who is half signed in gets out this way, too.
func (s *Shop) signOut(v *visit) {
	s.sessions.end(v.cookie)
	dropCookie(v.w, sessionCookie)
	if v.session.state == full { // nothing was trusted in half a sign-in, and a browser that cannot finish one keeps what it had
		s.tell(v, newSignal("session.signed_out", map[string]any{"user": v.session.user, "session": v.session.id}))
	}
	note(v, "signed_out")
	v.redirect("/")
}

// signOutEverywhere ends all sessions of the user and the trust in all their browsers. The request acts at once, the signal for certain: it is kept until
// otpost has taken it.
func (s *Shop) signOutEverywhere(v *visit) {
	s.sessions.endUser(v.session.user, "")
	dropCookie(v.w, sessionCookie)
	dropCookie(v.w, deviceCookie)
	s.tell(v, newSignal("session.signed_out", map[string]any{"user": v.session.user}))
	ctx, cancel := context.WithTimeout(v.r.Context(), signalPatience)
	defer cancel()
	request := map[string]any{"user": v.session.user, "session": v.session.id, "all": true}
	if err := s.otpost.call(ctx, "device.revoke", request, nil); err != nil {
		s.log.Warn("revoking trusted browsers; the signal will", "error", err)
	}
	note(v, "signed_out_everywhere")
	v.redirect("/")
}

func (s *Shop) changePasswordForm(v *visit) { s.show(v, http.StatusOK, "change-password", form{}) }

// changePassword takes the old password and a new one. All other sessions of the user end, half signed-in ones too, and no browser is trusted any more.
func (s *Shop) changePassword(v *visit) {
	who, right := s.passwordAgain(v, "change-password", form{})
	if !right {
		return
	}
	fresh := v.r.PostForm.Get("new-password")
	if fault := faultOfPassword(fresh, who.Email); fault != "" {
		s.show(v, http.StatusUnprocessableEntity, "change-password", form{NewFault: fault})
		return
	}
	if err := s.users.setPassword(v.r.Context(), who.ID, fresh); err != nil {
		s.broken(v, err)
		return
	}
	with := v.session
	with.passwordAt = s.now()
	s.sessions.endUser(who.ID, v.cookie)
	v.signedIn(s.sessions.replace(v.cookie, with))
	dropCookie(v.w, deviceCookie)
	s.sendNow(v)
	note(v, "password_changed")
	v.redirect("/account")
}

func (s *Shop) deleteForm(v *visit) { s.show(v, http.StatusOK, "delete", form{}) }

// deleteAccount deletes the user here, and by the signal what otpost keeps of them.
func (s *Shop) deleteAccount(v *visit) {
	who, right := s.passwordAgain(v, "delete", form{})
	if !right {
		return
	}
	if err := s.users.remove(who.ID); err != nil {
		s.broken(v, err)
		return
	}
	s.sessions.endUser(who.ID, "")
	s.orders.forget(who.ID)
	dropCookie(v.w, sessionCookie)
	dropCookie(v.w, deviceCookie)
	s.sendNow(v)
	note(v, "deleted")
	v.redirect("/")
}

// signalPatience is how long a person waits for otpost to take a signal. After that it is sent without them.
const signalPatience = 2 * time.Second

// tell keeps a signal and tries to send it.
func (s *Shop) tell(v *visit, what signal) {
	if err := s.users.tell(what); err != nil {
		s.log.Error("keeping a signal for otpost", "signal", what.Name, "error", err)
		return
	}
	s.sendNow(v)
}

// sendNow sends what waits, so that it acts before the person's next step where otpost is there.
func (s *Shop) sendNow(v *visit) {
	ctx, cancel := context.WithTimeout(v.r.Context(), signalPatience)
	defer cancel()
	s.sendSignals(ctx)
	select {
	case s.kick <- struct{}{}: // for what is left
	default:
	}
}

// sendSignals sends the signals that wait, oldest first, until one is not taken. Two who send at the same time do no harm: otpost tells repeats by the id.
func (s *Shop) sendSignals(ctx context.Context) {
	for _, what := range s.users.signals() {
		err := s.otpost.callAs(ctx, "signals/"+what.Name, what.ID, what.Data, nil)
		if err != nil && !hasCode(err, "invalid") { // what otpost will never take holds up nothing
			if ctx.Err() == nil {
				s.log.Warn("a signal waits for otpost", "signal", what.Name, "error", err)
			}
			return
		}
		if err != nil {
			s.log.Error("otpost refuses a signal", "signal", what.Name, "error", err)
		}
		if err := s.users.told(what.ID); err != nil {
			s.log.Error("forgetting a signal", "error", err)
			return
		}
	}
}

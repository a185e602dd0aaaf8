package shop

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

func (s *Shop) signUpForm(v *visit) { s.show(v, http.StatusOK, "sign-up", form{}) }

// signUp makes an account and signs it in: a new user has no second factor that could be asked for. Who sees that an address is taken learns that somebody
// shops here; a shop that minds sends a link to the address and answers everybody alike.
func (s *Shop) signUp(v *visit) {
	f := form{Email: v.r.PostForm.Get("email")}
	email, ok := readEmail(f.Email)
	if !ok {
		f.EmailFault = "Enter an email address, such as ann@example.com."
	}
	password := v.r.PostForm.Get("password")
	f.PasswordFault = faultOfPassword(password, email)
	if f.EmailFault+f.PasswordFault != "" {
		s.show(v, http.StatusUnprocessableEntity, "sign-up", f)
		return
	}
	if wait := s.limits.address.take(v.ip()); wait > 0 { // each costs a slow hash and a line in the file
		s.tooMany(v, "sign-up", f, wait)
		return
	}
	who, err := s.users.add(v.r.Context(), email, password, s.now())
	switch {
	case errors.Is(err, errTaken):
		f.EmailFault = "There is an account with this address. Sign in instead?"
		s.show(v, http.StatusUnprocessableEntity, "sign-up", f)
		return
	case err != nil:
		s.broken(v, err)
		return
	}
	v.signedIn(s.sessions.replace(v.cookie, session{
		state: full, id: "session-" + rand.Text(), user: who.ID, passwordAt: s.now(), amr: []string{"pwd"}, skipped: "no_factor",
	}))
	v.redirect("/welcome")
}

// signInForm is there for who is signed in, too: they may be somebody else.
func (s *Shop) signInForm(v *visit) { s.show(v, http.StatusOK, "sign-in", form{}) }

// signIn looks at the password and asks otpost for the rest. Unknown addresses and wrong passwords are answered alike, and as slowly.
func (s *Shop) signIn(v *visit) {
	f := form{Email: v.r.PostForm.Get("email")}
	account := strings.ToLower(strings.TrimSpace(f.Email))
	if wait := s.limits.take(account, v.ip()); wait > 0 {
		s.tooMany(v, "sign-in", f, wait)
		return
	}
	email, _ := readEmail(f.Email)
	who, right, err := s.users.check(v.r.Context(), email, v.r.PostForm.Get("password"))
	if err != nil {
		s.broken(v, err)
		return
	}
	if !right {
		f.Fault = "The email address or the password is not right."
		s.show(v, http.StatusUnprocessableEntity, "sign-in", f)
		return
	}
	s.limits.give(account, v.ip())
	s.begin(v, who, session{state: half, id: "session-" + rand.Text(), user: who.ID, passwordAt: s.now(), amr: []string{"pwd"}})
}

// begin asks otpost whether this sign-in needs a second factor. The session is half signed in until the answer is there, and stays so when none comes: it
// fails closed. A new cookie is given at this step and at the next, so that no cookie from before a step is worth anything after it.
func (s *Shop) begin(v *visit, who user, with session) {
	device := deviceOf(v.r)
	login := loginRequest{
		ID: "login-" + rand.Text(), User: who.ID, Session: with.id, Locale: locale(v.r), Device: device,
		Client: &client{IP: v.ip(), UserAgent: userAgent(v.r)},
	}
	var reply loginReply
	if err := s.otpost.call(v.r.Context(), "login", login, &reply); err != nil {
		s.log.Error("asking otpost for a second factor", "error", err)
		s.unavailable(v, err)
		return
	}
	switch reply.Outcome {
	case "issued":
		with.challenge = reply.Challenge
		v.signedIn(s.sessions.replace(v.cookie, with))
		v.session = with
		s.openPage(v, "challenge")
	case "skipped":
		with.state, with.skipped = full, reply.Reason
		if reply.Reason == "trusted_device" {
			s.renewDevice(v, with, device, reply.Device)
		}
		v.signedIn(s.sessions.replace(v.cookie, with))
		v.redirect("/account")
	default: // refused, and whatever a later version may answer: nobody gets in by what is not understood
		s.show(v, http.StatusForbidden, "sign-in", form{Email: who.Email, Fault: refusal(reply.Reason, reply.RetryAfter)})
	}
}

// renewDevice keeps the new token of a trusted browser. When the answer that held it was lost, the repeated login cannot bring it again, because otpost
// keeps only a digest: the old token, which serves for some seconds more, is changed for another one.
func (s *Shop) renewDevice(v *visit, with session, old, fresh string) {
	if fresh == "" {
		var reply struct {
			Device string `json:"device"`
		}
		request := map[string]string{"user": with.user, "session": with.id, "device": old}
		if err := s.otpost.call(v.r.Context(), "device.renew", request, &reply); err != nil {
			s.log.Warn("renewing the token of a trusted browser", "error", err)
			dropCookie(v.w, deviceCookie) // do not try the old one again: that would be taken for theft
			return
		}
		fresh = reply.Device
	}
	keepDevice(v.w, fresh)
}

// secondStep is where a half signed-in browser waits: who left otpost's pages goes on or starts again.
func (s *Shop) secondStep(v *visit) {
	if v.session.state == full {
		v.redirect("/account")
		return
	}
	s.show(v, http.StatusOK, "second-step", nil)
}

// continueSecondStep leads to the pages again: for the open challenge, or where that has ended for a new one.
func (s *Shop) continueSecondStep(v *visit) {
	who, ok := s.users.get(v.session.user)
	if v.session.state == full || !ok {
		v.redirect("/account")
		return
	}
	var status struct {
		State string `json:"state"`
	}
	err := s.otpost.call(v.r.Context(), "status", map[string]string{"challenge": v.session.challenge, "session": v.session.id}, &status)
	if err == nil && status.State == "open" {
		s.openPage(v, "challenge")
		return
	}
	s.beginAgain(v, who)
}

// beginAgain asks otpost anew in the same session: after a challenge has ended, and after a recovery.
func (s *Shop) beginAgain(v *visit, who user) {
	with := v.session
	with.challenge, with.buying = "", ""
	s.begin(v, who, with)
}

// returnPath is where otpost's pages lead back to.
const returnPath = "/return"

// comeBack redeems what a visit to otpost's pages came to. The ticket in the address was carried by a browser and may be anybody's: somebody may lead a
// victim here with a ticket of their own. So the outcome counts only if it is about the user and the session of this browser, and the challenge that it
// was sent away with.
func (s *Shop) comeBack(v *visit) {
	ticket := v.r.URL.Query().Get("otpost_result")
	if v.session.state == anonymous || ticket == "" {
		v.redirect("/account") // shows the way in
		return
	}
	var result pageResult
	if err := s.otpost.call(v.r.Context(), "page-results", map[string]string{"result": ticket}, &result); err != nil {
		s.log.Warn("redeeming the result of a page", "error", err)
		if lost(err) {
			s.unavailable(v, err)
			return
		}
		note(v, "stale") // used, too old, or made up
		v.redirect("/account")
		return
	}
	same := subtle.ConstantTimeCompare([]byte(result.User), []byte(v.session.user)) & subtle.ConstantTimeCompare([]byte(result.Session), []byte(v.session.id))
	if same != 1 {
		s.log.Warn("a result of another session was brought here")
		note(v, "foreign")
		v.redirect("/account")
		return
	}
	decided := result.Page == "challenge" && (result.Outcome == "verified" || result.Outcome == "failed")
	switch {
	case decided && (v.session.challenge == "" || subtle.ConstantTimeCompare([]byte(result.Challenge), []byte(v.session.challenge)) != 1):
		note(v, "stale") // the proof of one thing is not that of another
		v.redirect("/account")
	case v.session.buying != "" && result.Page == "challenge":
		s.confirmed(v, result)
	case v.session.state == half && decided:
		s.answered(v, result)
	case v.session.state == half && (result.Outcome == "cancelled" || result.Outcome == "done"):
		v.redirect("/second-step")
	case v.session.state == half:
		// The factors are others now: a recovery has taken effect. Whether a second factor is still needed, otpost says.
		if who, ok := s.users.get(v.session.user); ok {
			s.beginAgain(v, who)
		}
	default:
		note(v, result.Outcome)
		v.redirect("/account")
	}
}

// answered ends a sign-in by what became of its challenge.
func (s *Shop) answered(v *visit, result pageResult) {
	if result.Outcome != "verified" {
		s.sessions.end(v.cookie)
		dropCookie(v.w, sessionCookie)
		note(v, "failed")
		v.redirect("/sign-in")
		return
	}
	cookie, ok := s.sessions.promote(v.cookie, result.Challenge, func(with *session) {
		with.amr = append(slices.Clone(with.amr), result.AMR...)
	})
	if ok { // otherwise another request of this browser was quicker
		v.signedIn(cookie)
		keepDevice(v.w, result.Device)
	}
	v.redirect("/account")
}

// localeForm is a language tag as otpost takes it (BCP 47).
var localeForm = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}$`)

// locale is the language that the browser prefers, for otpost's pages and messages. Browsers name the best one first.
func locale(r *http.Request) string {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, _, _ := strings.Cut(part, ";")
		if tag = strings.TrimSpace(tag); localeForm.MatchString(tag) {
			return tag
		}
	}
	return ""
}

// userAgent is what the browser says it is, within what otpost takes.
func userAgent(r *http.Request) string {
	text := strings.ToValidUTF8(r.UserAgent(), "")
	return string([]rune(text)[:min(1024, len([]rune(text)))])
}

// page asks otpost for a link into its pages.
func (s *Shop) page(ctx context.Context, v *visit, who user, page string) (link string, err error) {
	request := pageRequest{
		User: who.ID, Session: v.session.id, Page: page, Account: shortened(who.Email, 64), Locale: locale(v.r),
		ReturnURL: s.cfg.PublicURL + returnPath, ReauthenticateURL: s.cfg.PublicURL + "/password",
		ReauthenticatedAt: v.session.passwordAt.UTC().Format(time.RFC3339),
	}
	if page == "challenge" {
		request.Challenge = v.session.challenge
	}
	var reply struct {
		URL string `json:"url"`
	}
	if err := s.otpost.call(ctx, "page-sessions", request, &reply); err != nil {
		return "", err
	}
	u, err := url.Parse(reply.URL)
	if err != nil || u.Scheme+"://"+u.Host != s.cfg.PagesURL {
		return "", errors.New("otpost leads to another address than its pages'")
	}
	return reply.URL, nil
}

// openPage leads the browser into otpost's pages.
func (s *Shop) openPage(v *visit, page string) {
	who, ok := s.users.get(v.session.user)
	if !ok {
		v.redirect("/sign-in")
		return
	}
	link, err := s.page(v.r.Context(), v, who, page)
	if err != nil {
		s.log.Error("opening a page of otpost", "page", page, "error", err)
		s.unavailable(v, err)
		return
	}
	v.redirect(link)
}

func shortened(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// refusal says in the shop's words why a login must not go on.
func refusal(reason string, retryAfter int) string {
	wait := time.Duration(retryAfter) * time.Second
	switch reason {
	case "rate_limited", "too_many":
		return "There were too many sign-ins. Try again in " + inWords(cmp.Or(wait, time.Minute)) + "."
	case "locked":
		return "The second step is locked after too many wrong codes. Write to us to have it opened."
	case "blocked_destination", "no_factor":
		return "There is no second factor that a code can be sent to. Write to us for help."
	}
	if wait > 0 {
		return "You cannot sign in right now. Try again in " + inWords(wait) + "."
	}
	return "You cannot sign in right now. Try again in a while."
}

package shop

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

func (s *Shop) welcome(v *visit) { s.show(v, http.StatusOK, "welcome", nil) }

// accountView is what the account page shows.
type accountView struct {
	Email   string
	Number  string // what support asks for
	Since   string
	Known   bool // otpost has answered
	On      bool // logins ask for a second factor
	Factors []string
	Codes   int // backup codes left
	Skipped string
	AMR     []string
	Orders  []order
}

// account shows where the account stands. It works without otpost, but for the state of the second factor.
func (s *Shop) account(v *visit) {
	who, _ := s.users.get(v.session.user)
	view := accountView{
		Email: who.Email, Number: who.ID, Since: who.Since.Format("2 January 2006"), Skipped: v.session.skipped,
		AMR: proofs(v.session.amr), Orders: s.orders.of(who.ID),
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), 3*time.Second)
	defer cancel()
	var have factors
	if err := s.otpost.call(ctx, "factor.list", map[string]string{"user": who.ID}, &have); err != nil {
		s.log.Warn("asking otpost for the factors", "error", err)
	} else {
		view.Known, view.On, view.Codes = true, have.Activated, have.BackupCodesLeft
		for _, f := range have.Factors {
			if f.State != "active" {
				continue
			}
			if name := kindName(f.Kind); !slices.Contains(view.Factors, name) {
				view.Factors = append(view.Factors, name)
			}
		}
	}
	s.show(v, http.StatusOK, "account", view)
}

func kindName(kind string) string {
	switch kind {
	case "totp":
		return "authenticator app"
	case "sms":
		return "text message"
	case "email":
		return "email"
	case "webauthn":
		return "security key"
	case "hotp", "yubikey":
		return "hardware token"
	}
	return kind
}

// proofs puts method references (RFC 8176) into words.
func proofs(amr []string) []string {
	var out []string
	for _, a := range amr {
		switch a {
		case "pwd":
			out = append(out, "password")
		case "otp":
			out = append(out, "one-time code")
		case "sms":
			out = append(out, "text message")
		case "email":
			out = append(out, "email")
		case "pop":
			out = append(out, "security key")
		case "user": // somebody touched the key
		default:
			out = append(out, a)
		}
	}
	return out
}

// pages that the shop leads to by itself, or after asking for the password. A form names one of these or none.
var (
	fromAccount       = []string{"setup", "settings"}
	afterPassword     = []string{"setup", "settings", "backup_codes", "deactivate", "recovery"}
	afterHalfPassword = []string{"recovery"} // who has not shown the second factor may only recover it
)

// security leads into otpost's pages: to set up a second factor, or to the settings.
func (s *Shop) security(v *visit) {
	page := v.r.PostForm.Get("page")
	if !slices.Contains(fromAccount, page) {
		s.notFound(v)
		return
	}
	s.openPage(v, page)
}

// passwordForm asks for the password anew: otpost's pages send the browser here, with the page to go back to, when it was entered too long ago for what the
// user wants to do. Who is half signed in may come too, from the way back in for who has lost the phone.
func (s *Shop) passwordForm(v *visit) {
	page, ok := askedPage(v, v.r.URL.Query().Get("otpost_page"))
	if !ok {
		s.notFound(v)
		return
	}
	who, _ := s.users.get(v.session.user)
	s.show(v, http.StatusOK, "password", form{Email: who.Email, Page: page})
}

func (s *Shop) password(v *visit) {
	page, ok := askedPage(v, v.r.PostForm.Get("page"))
	if !ok {
		s.notFound(v)
		return
	}
	if _, right := s.passwordAgain(v, "password", form{Page: page}); !right {
		return
	}
	now := s.now()
	s.sessions.change(v.cookie, func(with *session) bool {
		with.passwordAt = now
		return true
	})
	v.session.passwordAt = now
	if page == "" {
		v.redirect("/account")
		return
	}
	s.openPage(v, page)
}

// askedPage checks the page that a request names; "" is none, for who only enters the password.
func askedPage(v *visit, page string) (string, bool) {
	allowed := afterPassword
	if v.session.state == half {
		allowed = afterHalfPassword
	}
	return page, page == "" || slices.Contains(allowed, page)
}

// passwordAgain looks at the password of a form by who is signed in, and shows the form again where it is not theirs.
func (s *Shop) passwordAgain(v *visit, page string, f form) (who user, right bool) {
	who, _ = s.users.get(v.session.user)
	f.Email = who.Email
	if wait := s.limits.take(who.Email, v.ip()); wait > 0 {
		s.tooMany(v, page, f, wait)
		return who, false
	}
	_, right, err := s.users.check(v.r.Context(), who.Email, v.r.PostForm.Get("password"))
	switch {
	case err != nil:
		s.broken(v, err)
		return who, false
	case !right:
		f.PasswordFault = "This is not your password."
		s.show(v, http.StatusUnprocessableEntity, page, f)
		return who, false
	}
	s.limits.give(who.Email, v.ip())
	return who, true
}

// list joins names as people do.
func list(names []string) string {
	switch n := len(names); n {
	case 0:
		return ""
	case 1:
		return names[0]
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}

package event

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/otpost/otpost/pkg/otp"
)

// This file is the hosted pages, which an app sends its users to and hears of over HTTP only: none of these messages has a subject.

// What is asked about pages, the last part of the path: POST /v1/page-sessions and /v1/page-results.
const (
	PathPageSessions = "page-sessions"
	PathPageResults  = "page-results"
)

// The pages that a visit begins with.
const (
	PageSetup       = "setup"        // add a factor
	PageChallenge   = "challenge"    // answer a challenge
	PageSettings    = "settings"     // factors, devices, recovery, activity
	PageBackupCodes = "backup_codes" // see them, or make new ones
	PageDeactivate  = "deactivate"   // have no second factor any more
	PageRecovery    = "recovery"     // get back in after losing the factors
)

// PageNames returns the pages of this version.
func PageNames() []string {
	return []string{PageSetup, PageChallenge, PageSettings, PageBackupCodes, PageDeactivate, PageRecovery}
}

// What a visit came to.
const (
	OutcomeVerified    = "verified"    // of a challenge: it was answered rightly, and the login may go on
	OutcomeFailed      = "failed"      // of a challenge: it ended without a right answer
	OutcomeCancelled   = "cancelled"   // the user left
	OutcomeEnrolled    = "enrolled"    // of setup: there is a new factor
	OutcomeDone        = "done"        // of settings and backup_codes: the user has finished
	OutcomeDeactivated = "deactivated" // the user has no second factor any more
	OutcomeRecovered   = "recovered"   // the old factors are gone; the user may set up new ones
)

// Bounds of the messages about pages.
const (
	MaxURL    = 2000 // bytes of an address that pages lead to
	maxResult = 512  // characters of a result's token
)

// PageSessionRequest begins a user's visit to the hosted pages. It is answered by PageSessionReply.
type PageSessionRequest struct {
	Owner
	Page            string `json:"page"`
	Challenge       string `json:"challenge,omitzero"`          // of page challenge, and of no other: the challenge to answer
	Account         string `json:"account,omitzero"`            // what pages and authenticators call the user; at most MaxLabel characters
	Locale          string `json:"locale,omitzero"`             // BCP 47; without one the browser's
	ReturnURL       string `json:"return_url"`                  // where the visit ends; one that the app's operator has allowed
	Reauthenticate  string `json:"reauthenticate_url,omitzero"` // where the app asks for the password anew; one that the operator has allowed
	Reauthenticated string `json:"reauthenticated_at,omitzero"` // when the app last saw the password
}

// PageSessionReply is the way to the pages. The link opens once.
type PageSessionReply struct {
	URL       string `json:"url"`
	ExpiresAt string `json:"expires_at"` // of the link; the visit itself lives longer
}

// PageResultRequest redeems what the browser brought back from a visit, once. It is answered by PageResultReply.
type PageResultRequest struct {
	Result string `json:"result"`
}

// PageResultReply is what a visit came to. User and Session MUST be those of the browser's own session at the app before the app trusts the outcome: anybody
// can be led to the return address with a result of somebody else's.
type PageResultReply struct {
	Page       string   `json:"page"`
	Outcome    string   `json:"outcome"`
	User       string   `json:"user"`
	Session    string   `json:"session"`
	Challenge  string   `json:"challenge,omitzero"`   // of page challenge
	Factor     string   `json:"factor,omitzero"`      // of verified: the kind of factor
	AMR        []string `json:"amr,omitzero"`         // of verified
	VerifiedAt string   `json:"verified_at,omitzero"` // of verified
	Device     string   `json:"device,omitzero"`      // of verified: the token of the browser, where it is trusted from now on
}

func (r *PageSessionRequest) check() *otp.Problem {
	return first(r.Owner.check(), oneOf("page", r.Page, PageNames()...), r.checkChallenge(), optionalText("account", r.Account, MaxLabel),
		checkLocale("locale", r.Locale), needURL("return_url", r.ReturnURL), optionalURL("reauthenticate_url", r.Reauthenticate),
		optionalTime("reauthenticated_at", r.Reauthenticated))
}

func (r *PageSessionRequest) checkChallenge() *otp.Problem {
	if r.Page == PageChallenge {
		return needUUID("challenge", &r.Challenge)
	}
	if r.Challenge != "" {
		return otp.InvalidField("challenge", "must be given for the page challenge only")
	}
	return nil
}

func (r *PageResultRequest) check() *otp.Problem { return needText("result", r.Result, maxResult) }

// urlForm is an absolute http or https URL (RFC 3986, section 3) without user information and without a fragment. It holds printable ASCII only and no
// backslash, which browsers read as a slash, so that nothing that follows it reads another host in it than this does. The group is the address of an IPv6
// host.
var urlForm = regexp.MustCompile(`^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[([0-9A-Fa-f:.]{2,45})\])(:[0-9]{1,5})?` +
	`(/([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?(\?([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$`)

// CheckURL reports what is wrong with an address that pages may lead to, empty for nothing. Whether an app may name it is not asked here.
func CheckURL(s string) (words string) {
	switch m := urlForm.FindStringSubmatch(s); {
	case s == "":
		return "must not be empty"
	case len(s) > MaxURL:
		return fmt.Sprintf("must have at most %d characters", MaxURL)
	case m == nil:
		return "must be an http or https URL without user name, fragment and unescaped characters"
	case m[3] != "":
		if ip, err := netip.ParseAddr(m[3]); err != nil || !ip.Is6() || strings.Contains(m[3], "%") {
			return "must name an IPv6 address between its brackets"
		}
	}
	return ""
}

func needURL(field, value string) *otp.Problem {
	if w := CheckURL(value); w != "" {
		return otp.InvalidField(field, w)
	}
	return nil
}

func optionalURL(field, value string) *otp.Problem {
	if value == "" {
		return nil
	}
	return needURL(field, value)
}

package event

import (
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/otpost/otpost/pkg/otp"
)

// VerbCheck is the internal verb of CheckRequest: otpost.internal.check.
const VerbCheck = "check"

// CheckRequest asks the verification worker whether a code is one of the user's factors' now; inside otpost only. It takes the code, and an attempt of
// the account's budget. It is answered by CheckReply.
type CheckRequest struct {
	App     string `json:"app"`
	User    string `json:"user"`
	Session string `json:"session"`
	Code    string `json:"code"`
}

// CheckReply is the verdict.
type CheckReply struct {
	OK         bool   `json:"ok"`
	Locked     bool   `json:"locked,omitzero"`      // the account is, and the code was not looked at
	Factor     string `json:"factor,omitzero"`      // of a right code, the factor's id; empty for a backup code
	Kind       string `json:"kind,omitzero"`        // of a right code
	RetryAfter int    `json:"retry_after,omitzero"` // seconds until the next answer may be given
}

// ParseCheckReply reads the verdict of the internal verb check.
func ParseCheckReply(body []byte) (CheckReply, error) {
	var r CheckReply
	if err := json.Unmarshal(body, &r, strict); err != nil {
		return r, fmt.Errorf("parse check reply: %w", err)
	}
	return r, nil
}

func (r *CheckRequest) check() *otp.Problem {
	return first(needApp(r.App), needID("user", r.User), needID("session", r.Session), needAnswer("code", &r.Code))
}

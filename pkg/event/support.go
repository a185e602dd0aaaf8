package event

import "github.com/otpost/otpost/pkg/otp"

// The verbs of support, on subjects of their own: otpost.support.<agent>.rpc.<verb>. Who asks is the subject's agent and nothing that a request says.
const (
	SupportFind    = "find"
	SupportBegin   = "begin"
	SupportApprove = "approve"
	SupportRefuse  = "refuse"
	SupportCancel  = "cancel"
	SupportStatus  = "status"
)

// maxSupportReason is the most characters of the reason that an agent gives.
const maxSupportReason = 200

// SupportUserRequest names a user to a support verb: find, answered by SupportFindReply, and status, answered by RecoveryReply.
type SupportUserRequest struct {
	App  string `json:"app"`
	User string `json:"user"`
}

// SupportBeginRequest begins a reset for a user. It is answered by RecoveryReply.
type SupportBeginRequest struct {
	App     string   `json:"app"`
	User    string   `json:"user"`
	Reason  string   `json:"reason"`           // for the audit; at most 200 characters
	Methods []string `json:"methods,omitzero"` // of email, phone, letter, none twice; all that the user has where none is named
	Locale  string   `json:"locale,omitzero"`
}

// SupportRecoveryRequest names a recovery: approve, refuse and cancel. It is answered by RecoveryReply.
type SupportRecoveryRequest struct {
	App      string `json:"app"`
	Recovery string `json:"recovery"`
}

// SupportFindReply is what a support agent sees of a user. Of an unknown user it is empty.
type SupportFindReply struct {
	Factors         []FactorInfo     `json:"factors"`
	Activated       bool             `json:"activated"`
	BackupCodesLeft int              `json:"backup_codes_left"`
	Preferences     PreferencesReply `json:"preferences"`
	Locked          bool             `json:"locked"`
	RetryAfter      int              `json:"retry_after"`       // seconds until the next answer may be given
	Recovery        RecoveryReply    `json:"recovery"`          // the latest
	Devices         int              `json:"devices"`           // how many are trusted now
	BegunBy         string           `json:"begun_by,omitzero"` // of a recovery under way: the agent who has begun it; none where the user has
	Reason          string           `json:"reason,omitzero"`   // of one that an agent has begun: what that agent has given
}

// Tenant names the app that the request is about.
func (r *SupportUserRequest) Tenant() string { return r.App }

// Tenant names the app that the request is about.
func (r *SupportBeginRequest) Tenant() string { return r.App }

// Tenant names the app that the request is about.
func (r *SupportRecoveryRequest) Tenant() string { return r.App }

func (r *SupportUserRequest) check() *otp.Problem {
	return first(needApp(r.App), needID("user", r.User))
}

func (r *SupportBeginRequest) check() *otp.Problem {
	return first(needApp(r.App), needID("user", r.User), needText("reason", r.Reason, maxSupportReason),
		eachOnce("methods", r.Methods, recoveryMethods...), checkLocale("locale", r.Locale))
}

func (r *SupportRecoveryRequest) check() *otp.Problem {
	return first(needApp(r.App), needUUID("recovery", &r.Recovery))
}

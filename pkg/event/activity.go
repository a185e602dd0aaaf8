package event

import (
	"regexp"

	"github.com/otpost/otpost/pkg/otp"
)

// VerbActivityList is the verb of what was done with a user's factors.
const VerbActivityList = "activity.list"

// Bounds of one page of activity.
const (
	MaxActivity     = 100 // lines
	DefaultActivity = 20  // lines, where none is asked for
)

// An Action is something that was done with a user's factors and that means something to the user. The audit knows more, for operators.
type Action string

// The actions that a user is shown. Logins are none of them, only what was done with factors, and what may be an attack.
const (
	DidAddFactor          Action = "factor.added"
	DidRemoveFactor       Action = "factor.removed"
	DidRenameFactor       Action = "factor.renamed"
	DidPreferFactor       Action = "factor.preferred"
	DidResyncFactor       Action = "factor.resynced"
	DidSuspendFactor      Action = "factor.suspended"
	DidRefuseFactor       Action = "factor.refused" // a wrong code came for one that was to be added
	DidAcknowledgeCodes   Action = "backup_codes.acknowledged"
	DidViewCodes          Action = "backup_codes.viewed"
	DidRegenerateCodes    Action = "backup_codes.regenerated"
	DidUseCode            Action = "backup_code.used"
	DidTrustDevice        Action = "device.trusted"
	DidRevokeDevice       Action = "device.revoked"
	DidDeactivate         Action = "deactivate.confirmed"
	DidLockAccount        Action = "account.locked"
	DidUnlockAccount      Action = "account.unlocked"
	DidChangePreferences  Action = "recovery.preferences_changed"
	DidBeginRecovery      Action = "recovery.begun"
	DidApproveRecovery    Action = "recovery.approved"
	DidRefuseRecovery     Action = "recovery.refused"
	DidProveRecovery      Action = "recovery.proven"
	DidFailRecovery       Action = "recovery.wrong" // a wrong proof
	DidTakeOverRecovery   Action = "recovery.taken_over"
	DidAwaitRecovery      Action = "recovery.waiting"
	DidCompleteRecovery   Action = "recovery.completed"
	DidCancelRecovery     Action = "recovery.cancelled"
	DidRefuseCancellation Action = "recovery.cancel_refused" // a wrong code came to cancel with
	DidExpireRecovery     Action = "recovery.expired"
)

// Actions returns every action that a user is shown.
func Actions() []Action {
	return []Action{
		DidAddFactor, DidRemoveFactor, DidRenameFactor, DidPreferFactor, DidResyncFactor, DidSuspendFactor, DidRefuseFactor, DidAcknowledgeCodes, DidViewCodes,
		DidRegenerateCodes, DidUseCode, DidTrustDevice, DidRevokeDevice, DidDeactivate, DidLockAccount, DidUnlockAccount, DidChangePreferences, DidBeginRecovery,
		DidApproveRecovery, DidRefuseRecovery, DidProveRecovery, DidFailRecovery, DidTakeOverRecovery, DidAwaitRecovery, DidCompleteRecovery, DidCancelRecovery,
		DidRefuseCancellation, DidExpireRecovery,
	}
}

// ByOperator is who did it where the installation's operator did; the others are those of a recovery.
const ByOperator = "operator"

// EndedExhausted is the reason of a recovery that was cancelled after too many wrong proofs.
const EndedExhausted = "exhausted"

// ActivityListRequest asks what was done with a user's factors. It is answered by ActivityListReply.
type ActivityListRequest struct {
	User    string `json:"user"`
	Session string `json:"session,omitzero"` // marks what was done in this one
	Limit   int    `json:"limit,omitzero"`   // most lines; 0 for DefaultActivity
	Before  string `json:"before,omitzero"`  // of the last reply, for what is older
}

// ActivityListReply is one page, newest first.
type ActivityListReply struct {
	Activity []ActivityInfo `json:"activity"`
	Before   string         `json:"before,omitzero"` // opaque; where there is more
}

// ActivityInfo is one thing that was done. It holds no id, no address, and of an agent only that it was one.
type ActivityInfo struct {
	At     string `json:"at"`
	Action string `json:"action"`
	By     string `json:"by"`              // one of the By constants
	Here   bool   `json:"here,omitzero"`   // in the session that asks
	Kind   string `json:"kind,omitzero"`   // of factor.added, .removed, .suspended and .refused
	Method string `json:"method,omitzero"` // of recovery.proven and .wrong: the proof
	How    string `json:"how,omitzero"`    // of backup_codes.acknowledged: saved, printed or copied
	Reason string `json:"reason,omitzero"` // of factor.removed and .suspended, device.revoked, recovery.cancelled
	Left   *int   `json:"left,omitzero"`   // of backup_code.used: how many are unused
}

// pageMark is the form of what pages are marked with.
var pageMark = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

func (r *ActivityListRequest) check() *otp.Problem {
	p := first(needID("user", r.User), optionalID("session", r.Session))
	switch {
	case p != nil:
		return p
	case r.Limit < 0 || r.Limit > MaxActivity:
		return otp.InvalidField("limit", "must be 1 to 100")
	case r.Before != "" && !pageMark.MatchString(r.Before):
		return otp.InvalidField("before", "must be as the last reply gave it")
	}
	return nil
}

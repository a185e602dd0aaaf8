package event

// The events of the life of factors.
const (
	FactorAdded            Name = "factor.added"
	FactorRemoved          Name = "factor.removed"
	FactorSuspended        Name = "factor.suspended"
	BackupCodeUsed         Name = "backup_code.used"
	BackupCodesRegenerated Name = "backup_codes.regenerated"
	DeviceTrusted          Name = "device.trusted"
	DeviceRevoked          Name = "device.revoked"
	Deactivated            Name = "deactivated"
	RecoveryBegun          Name = "recovery.begun"
	RecoveryApproved       Name = "recovery.approved"
	RecoveryProven         Name = "recovery.proven"
	RecoveryWaiting        Name = "recovery.waiting"
	RecoveryCompleted      Name = "recovery.completed"
	RecoveryCancelled      Name = "recovery.cancelled"
	RecoveryExpired        Name = "recovery.expired"
	RecoveryRefused        Name = "recovery.refused"
	UserErased             Name = "user.erased"
)

// FactorData is the data of factor.added, factor.removed and factor.suspended.
type FactorData struct {
	User    string `json:"user"`
	Session string `json:"session,omitzero"` // in which it happened, where it did in one
	Login   string `json:"login,omitzero"`   // of suspended: the login at which it was seen
	Factor  string `json:"factor"`           // its id
	Kind    string `json:"kind"`
	Label   string `json:"label,omitzero"`
	To      string `json:"to,omitzero"`     // masked
	Reason  string `json:"reason,omitzero"` // of removed: one of the Removed constants; of suspended: SuspendedCloned
}

// Why a factor is gone or suspended.
const (
	RemovedByHand      = "removed" // by the user or the operator; another factor is left
	RemovedDeactivated = "deactivated"
	RemovedRecovery    = "recovery"
	RemovedErased      = "erased" // with the user
	SuspendedCloned    = "cloned" // its counter went back: there may be a copy
)

// BackupCodeUsedData is the data of backup_code.used.
type BackupCodeUsedData struct {
	User    string `json:"user"`
	Session string `json:"session,omitzero"`
	Login   string `json:"login,omitzero"` // where it answered a challenge
	Left    int    `json:"left"`
}

// BackupCodesData is the data of backup_codes.regenerated.
type BackupCodesData struct {
	User    string `json:"user"`
	Session string `json:"session,omitzero"`
	Left    int    `json:"left"`
}

// DeviceData is the data of device.trusted and device.revoked.
type DeviceData struct {
	User      string `json:"user"`
	Session   string `json:"session,omitzero"` // in which it happened, where it did in one
	Login     string `json:"login,omitzero"`   // of trusted, and of revoked where a login showed the theft
	Device    string `json:"device"`           // its id
	Label     string `json:"label,omitzero"`
	ExpiresAt string `json:"expires_at,omitzero"` // of trusted
	Reason    string `json:"reason,omitzero"`     // of revoked: one of the Revoked constants
}

// Why a device is trusted no more.
const (
	RevokedStolen          = "stolen" // a token came that had been replaced
	RevokedSignedOut       = "signed_out"
	RevokedPasswordChanged = "password_changed"
	RevokedErased          = "erased"
	RevokedFactorsChanged  = "factors_changed"
	RevokedRecovery        = "recovery"
	RevokedByHand          = "by_hand"
	RevokedReplaced        = "replaced" // by newer ones: a user may have so many only
)

// DeactivatedData is the data of deactivated: the user has no second factor any more, of their own will.
type DeactivatedData struct {
	User    string `json:"user"`
	Session string `json:"session"`
}

// RecoveryData is the data of all recovery events.
type RecoveryData struct {
	User        string   `json:"user"`
	Session     string   `json:"session,omitzero"`
	Recovery    string   `json:"recovery"`
	By          string   `json:"by,omitzero"`           // of begun, approved, cancelled and refused: one of the By constants
	Proof       string   `json:"proof,omitzero"`        // of proven: the one that was given
	Proven      []string `json:"proven,omitzero"`       // of proven, waiting and completed: all so far
	EffectiveAt string   `json:"effective_at,omitzero"` // of waiting and completed
	ExpiresAt   string   `json:"expires_at,omitzero"`   // of begun, approved and proven: proofs are taken until then
}

// Who acted on a recovery.
const (
	ByUser    = "user" // by a session of theirs, or by the code that cancels
	ByApp     = "app"
	BySupport = "support"
	BySystem  = "system"
)

// ErasedData is the data of user.erased.
type ErasedData struct {
	User string `json:"user"`
}

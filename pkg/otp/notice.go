package otp

import "slices"

// A Notice names what a user is told of over every confirmed email address and number, and the app by an event. No notice carries a code that lets anybody in;
// those of a recovery carry one that stops it.
type Notice string

// The notices.
const (
	NoticeFactorAdded        Notice = "factor_added"
	NoticeFactorRemoved      Notice = "factor_removed"
	NoticeFactorSuspended    Notice = "factor_suspended" // it may have been copied
	NoticeBackupCodeUsed     Notice = "backup_code_used"
	NoticeBackupCodesLow     Notice = "backup_codes_low"         // BackupCodesLow or fewer are left
	NoticeBackupCodesRenewed Notice = "backup_codes_regenerated" // the old ones are void
	NoticeBackupCodesViewed  Notice = "backup_codes_viewed"      // those that are left were shown again
	NoticeDeviceTrusted      Notice = "device_trusted"
	NoticeDevicesRevoked     Notice = "devices_revoked"
	NoticeRecoveryBegun      Notice = "recovery_begun"   // with a code to cancel it
	NoticeRecoveryProven     Notice = "recovery_proven"  // one proof of it was given
	NoticeRecoveryWaiting    Notice = "recovery_waiting" // all proofs were given; it takes effect at a time that the notice tells
	NoticeRecoveryCompleted  Notice = "recovery_completed"
	NoticeRecoveryCancelled  Notice = "recovery_cancelled"
	NoticeAccountLocked      Notice = "account_locked"
	NoticeDeactivated        Notice = "deactivated" // the user has no second factor any more
	NoticePreferencesChanged Notice = "preferences_changed"
)

// Notices returns every notice, in the order in which a factor lives.
func Notices() []Notice {
	return []Notice{
		NoticeFactorAdded, NoticeFactorRemoved, NoticeFactorSuspended,
		NoticeBackupCodeUsed, NoticeBackupCodesLow, NoticeBackupCodesRenewed, NoticeBackupCodesViewed,
		NoticeDeviceTrusted, NoticeDevicesRevoked,
		NoticeRecoveryBegun, NoticeRecoveryProven, NoticeRecoveryWaiting, NoticeRecoveryCompleted, NoticeRecoveryCancelled,
		NoticeAccountLocked, NoticeDeactivated, NoticePreferencesChanged,
	}
}

// Valid reports whether n is one of them.
func (n Notice) Valid() bool { return slices.Contains(Notices(), n) }

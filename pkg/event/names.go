package event

import "strings"

// Names returns the events of this version.
func Names() []Name {
	return []Name{
		ChallengeIssued, ChallengeSkipped, ChallengeRefused, ChallengeSent, ChallengeDelivered, ChallengeUndeliverable, ChallengeVerified, ChallengeFailed,
		ChallengeEnded, AccountLocked, FactorAdded, FactorRemoved, FactorSuspended, BackupCodeUsed, BackupCodesRegenerated, DeviceTrusted, DeviceRevoked,
		Deactivated, RecoveryBegun, RecoveryApproved, RecoveryProven, RecoveryWaiting, RecoveryCompleted, RecoveryCancelled, RecoveryExpired, RecoveryRefused,
		UserErased, AlarmRaised,
	}
}

// EventOf returns the app and the name of an event by its subject; ok is false for any other subject.
func EventOf(subject string) (app string, name Name, ok bool) {
	app, ok = AppOf(subject)
	tail, found := strings.CutPrefix(subject, EventSubject(app, ""))
	return app, Name(tail), ok && found && tail != ""
}

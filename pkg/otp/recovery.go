package otp

import (
	"slices"
	"time"
)

// A ProofKind is something that a user recovers an account with.
type ProofKind string

// The kinds of proof. The first three are codes that otpost sends, each over a method of its own; their names are those of the methods.
const (
	ProofEmail      ProofKind = "email"
	ProofPhone      ProofKind = "phone"
	ProofLetter     ProofKind = "letter"
	ProofPassphrase ProofKind = "passphrase"
	ProofBackupCode ProofKind = "backup_code"
)

// RecoveryMethods returns the methods over which a code can be sent.
func RecoveryMethods() []ProofKind { return []ProofKind{ProofEmail, ProofPhone, ProofLetter} }

// IsCode reports whether the proof is a code that was sent.
func (k ProofKind) IsCode() bool { return slices.Contains(RecoveryMethods(), k) }

// Valid reports whether k is a kind of proof.
func (k ProofKind) Valid() bool { return k.IsCode() || k == ProofPassphrase || k == ProofBackupCode }

// ProofsComplete reports whether what was proven suffices: codes by two different methods, or a code and the passphrase or a backup code (NIST
// SP 800-63B-4, section 4.2.2.2). A proof given twice is one proof, and no number of proofs without a sent code suffices.
func ProofsComplete(proven []ProofKind) bool {
	codes := 0
	for _, k := range RecoveryMethods() {
		if slices.Contains(proven, k) {
			codes++
		}
	}
	return codes >= 2 || codes == 1 && (slices.Contains(proven, ProofPassphrase) || slices.Contains(proven, ProofBackupCode))
}

// How long a code of a recovery lives at most, by method (NIST SP 800-63B-4, section 4.2.1.2).
const (
	phoneLife     = 10 * time.Minute
	emailLife     = 24 * time.Hour
	letterLife    = 21 * 24 * time.Hour // to an address within the contiguous United States
	farLetterLife = 30 * 24 * time.Hour // to any other
)

// MethodLife returns how long a code sent over a method lives; zero for a proof that is not sent. country (ISO 3166-1 alpha-2) and region (of the United
// States, two letters) are those of a letter's address, upper case.
func MethodLife(kind ProofKind, country, region string) time.Duration {
	switch kind {
	case ProofPhone:
		return phoneLife
	case ProofEmail:
		return emailLife
	case ProofLetter:
		if (Address{Country: country, Region: region}).Contiguous() {
			return letterLife
		}
		return farLetterLife
	}
	return 0
}

// A RecoveryState is where a recovery stands. A user has at most one that has not ended, and what has ended stays so.
type RecoveryState string

// The states of a recovery.
const (
	RecoveryApproval  RecoveryState = "approval"  // begun by support; a second agent has to approve it before anything is sent
	RecoveryProving   RecoveryState = "proving"   // proofs are being given
	RecoveryWaiting   RecoveryState = "waiting"   // proven; takes effect after the waiting time, in which whoever was told can cancel it
	RecoveryCompleted RecoveryState = "completed" // factors, devices and backup codes are void
	RecoveryCancelled RecoveryState = "cancelled" // by the user, the app, support, or whoever had the code that cancels
	RecoveryExpired   RecoveryState = "expired"   // not approved or not proven in time
	RecoveryRefused   RecoveryState = "refused"   // by the second agent
)

// recoveryMoves says what may follow upon what. Completed has no way to it but through the proofs; a waiting recovery is proven and does not
// expire: it takes effect or is cancelled.
var recoveryMoves = map[RecoveryState][]RecoveryState{
	RecoveryApproval: {RecoveryProving, RecoveryRefused, RecoveryCancelled, RecoveryExpired},
	RecoveryProving:  {RecoveryWaiting, RecoveryCompleted, RecoveryCancelled, RecoveryExpired},
	RecoveryWaiting:  {RecoveryCompleted, RecoveryCancelled},
}

// BeginRecovery returns the first state. Only support's recoveries wait for an approval, and those only where the policy asks for one.
func BeginRecovery(bySupport, approval bool) RecoveryState {
	if bySupport && approval {
		return RecoveryApproval
	}
	return RecoveryProving
}

// Ended reports whether the state is final.
func (s RecoveryState) Ended() bool { return len(recoveryMoves[s]) == 0 }

// CanBecome reports whether next may follow upon s. No state follows upon itself.
func (s RecoveryState) CanBecome(next RecoveryState) bool {
	return slices.Contains(recoveryMoves[s], next)
}

// Proven returns the state that follows when proven is all that was proven so far: of a recovery that is proving it is Waiting, or Completed where there
// is no waiting time, once the proofs are complete; otherwise it stays where it is.
func (s RecoveryState) Proven(proven []ProofKind, wait time.Duration) RecoveryState {
	switch {
	case s != RecoveryProving || !ProofsComplete(proven):
		return s
	case wait > 0:
		return RecoveryWaiting
	default:
		return RecoveryCompleted
	}
}

package message

import "fmt"

// A Purpose is what a code is for. The values are those of delivery commands.
type Purpose string

// The purposes. A code that approves a transaction is one of a login: it has the transaction beside it.
const (
	Login        Purpose = "login"         // also when it is empty
	AddFactor    Purpose = "add_factor"    // to show that a number or address can be added as a second factor
	Recovery     Purpose = "recovery"      // one of the proofs by which a user's two-step sign-in is reset
	ResetAddress Purpose = "reset_address" // to show that a number or address can be set as the one for recovery
)

// A wording is what a code of one purpose is written with.
type wording struct {
	subject, sms, heading, intro, ignore phraseID

	// webOTP tells whether a short message may end with the WebOTP line. A recovery must not be helped along by a browser that fills the
	// code in before anybody has read what it is for, and neither must the setting of an address that recoveries will trust.
	webOTP bool
}

var (
	wordingLogin        = wording{subject, smsLogin, headingLogin, introLogin, ignoreLogin, true}
	wordingTransaction  = wording{subject, smsTransaction, headingTransaction, introTransaction, ignoreTransaction, true}
	wordingAddFactor    = wording{subjectAddFactor, smsAddFactor, headingAddFactor, introAddFactor, ignoreAddFactor, true}
	wordingRecovery     = wording{subjectRecovery, smsRecovery, headingRecovery, introRecovery, ignoreRecovery, false}
	wordingResetAddress = wording{subjectResetAddress, smsResetAddress, headingResetAddress, introResetAddress, ignoreResetAddress, false}
)

func (in *Input) wording() (*wording, error) {
	if in.Purpose == "" || in.Purpose == Login {
		if in.Transaction != nil {
			return &wordingTransaction, nil
		}
		return &wordingLogin, nil
	}
	if in.Transaction != nil {
		return nil, fmt.Errorf("%w: a code for %.40q has a transaction", ErrInput, string(in.Purpose))
	}
	switch in.Purpose {
	case AddFactor:
		return &wordingAddFactor, nil
	case Recovery:
		return &wordingRecovery, nil
	case ResetAddress:
		return &wordingResetAddress, nil
	default:
		return nil, fmt.Errorf("%w: no words for a code for %.40q", ErrInput, string(in.Purpose))
	}
}

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
	template                                    string // the purpose of an app's own words, see [Template]
	subject, sms, voice, heading, intro, ignore phraseID

	// secret are the words of a short message not to share the code: the longer ones where there is room for them.
	secret phraseID

	// weakens tells of codes that can take a second factor away, now or later. A recovery must not be helped along by a browser or an app
	// that fills the code in before anybody has read what it is for, and neither must the setting of an address that recoveries will trust.
	// Nor does an app's policy take the words not to share such a code away.
	weakens bool
}

var (
	wordingLogin = wording{
		"login", subject, smsLogin, voiceLogin, headingLogin, introLogin, ignoreLogin, smsSecret, false,
	}
	wordingTransaction = wording{
		"transaction", subject, smsTransaction, voiceTransaction, headingTransaction, introTransaction, ignoreTransaction, smsSecret, false,
	}
	wordingAddFactor = wording{
		"add_factor", subjectAddFactor, smsAddFactor, voiceAddFactor, headingAddFactor, introAddFactor, ignoreAddFactor, smsSecretBrief, false,
	}
	wordingRecovery = wording{
		"recovery", subjectRecovery, smsRecovery, voiceRecovery, headingRecovery, introRecovery, ignoreRecovery, smsSecret, true,
	}
	wordingResetAddress = wording{
		"reset_address", subjectResetAddress, smsResetAddress, voiceResetAddress, headingResetAddress, introResetAddress, ignoreResetAddress, smsSecretBrief, true,
	}
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

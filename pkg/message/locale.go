package message

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"

	"github.com/otpost/otpost/pkg/otp"
)

// A locale is one catalog, compiled: phrases cut at their placeholders, and words with a number in them, chosen among the plural forms
// by go-i18n (CLDR) once for every number that can occur.
type locale struct {
	name    string // BCP 47
	phrases [phraseCount]phrase
	family  map[string]phrase // the rest, by the name in the catalog: one of familyNames
	counts  [countCount][]string
}

// A phraseID names a message of the catalogs.
type phraseID int

const (
	subject phraseID = iota
	subjectAddFactor
	subjectRecovery
	subjectResetAddress
	smsLogin
	smsTransaction
	smsAddFactor
	smsRecovery
	smsResetAddress
	smsSecret
	smsSecretBrief
	voiceLogin
	voiceTransaction
	voiceAddFactor
	voiceRecovery
	voiceResetAddress
	preheader
	headingLogin
	introLogin
	ignoreLogin
	headingTransaction
	introTransaction
	ignoreTransaction
	headingAddFactor
	introAddFactor
	ignoreAddFactor
	headingRecovery
	introRecovery
	ignoreRecovery
	headingResetAddress
	introResetAddress
	ignoreResetAddress
	labelAmount
	labelPayee
	keepSecret

	labelWhen
	labelFactor
	labelName
	labelReason
	quoted
	quotedSMS
	list
	detailSMS
	adviceSMS
	adviceEmail
	cancelSMS
	cancelIntro
	cancelAfter
	leftNone

	firstDay
	dateLong
	moment
	momentSMS

	letterSubject
	letterSalutation
	letterWhy
	letterHow
	letterCodeLabel
	letterUntil
	letterKeep
	letterNotYou
	letterRegards
	phraseCount
)

var phraseNames = [phraseCount]string{
	"subject", "subject_add_factor", "subject_recovery", "subject_reset_address",
	"sms_login", "sms_transaction", "sms_add_factor", "sms_recovery", "sms_reset_address", "sms_secret", "sms_secret_brief",
	"voice_login", "voice_transaction", "voice_add_factor", "voice_recovery", "voice_reset_address",
	"preheader",
	"heading_login", "intro_login", "ignore_login",
	"heading_transaction", "intro_transaction", "ignore_transaction",
	"heading_add_factor", "intro_add_factor", "ignore_add_factor",
	"heading_recovery", "intro_recovery", "ignore_recovery",
	"heading_reset_address", "intro_reset_address", "ignore_reset_address",
	"label_amount", "label_payee", "keep_secret",

	"label_when", "label_factor", "label_name", "label_reason",
	"quoted", "quoted_sms", "list", "detail_sms",
	"advice_sms", "advice_email", "cancel_sms", "cancel_intro", "cancel_after", "left_none",

	"first_day", "date", "moment", "moment_sms",

	"letter_subject", "letter_salutation", "letter_why", "letter_how", "letter_code_label",
	"letter_until", "letter_keep", "letter_not_you", "letter_regards",
}

// familyNames returns the names of the messages that exist once for each member of a closed set, so that a new notice or kind of factor
// without words in every language is refused by [New].
func familyNames() (names []string) {
	for _, n := range otp.Notices() {
		names = append(names, noticeName(n, "sms"), noticeName(n, "heading"), noticeName(n, "body"))
	}
	for _, k := range append(otp.FactorKinds(), otp.FactorBackupCode) {
		names = append(names, factorName(k))
	}
	for _, r := range Reasons() {
		names = append(names, reasonName(r))
	}
	for m := time.January; m <= time.December; m++ {
		names = append(names, monthName(m))
	}
	return names
}

func noticeName(n otp.Notice, part string) string { return "notice_" + string(n) + "_" + part }
func factorName(k otp.FactorKind) string          { return "factor_" + string(k) }
func reasonName(reason string) string             { return "reason_" + reason }
func monthName(m time.Month) string               { return "month_" + strconv.Itoa(int(m)) }

// A countID names a message with plural forms.
type countID int

const (
	expiresMinutes countID = iota
	expiresHours
	expiresDays
	leftCodes
	countCount
)

// The largest numbers told. What lives longer is told as maxDays, never as longer than it is.
const (
	maxMinutes = 59
	maxHours   = 48
	maxDays    = 60
	maxLeft    = 20
)

// counts are the messages with plural forms, and the largest number that each is compiled for.
var counts = [countCount]struct {
	name string
	most int
}{{"expires", maxMinutes}, {"expires_hours", maxHours}, {"expires_days", maxDays}, {"left", maxLeft}}

func compile(bundle *i18n.Bundle, tag language.Tag) (*locale, error) {
	l := &locale{name: tag.String(), family: make(map[string]phrase)}
	localizer := i18n.NewLocalizer(bundle, tag.String())
	// An error comes also when go-i18n found only the English message or only the "other" form: both would be a gap in this catalog.
	localize := func(config *i18n.LocalizeConfig) (string, error) {
		s, err := localizer.Localize(config)
		if err != nil {
			return "", fmt.Errorf("message %q: %w", config.MessageID, err)
		}
		return s, nil
	}
	read := func(name string) (phrase, error) {
		marked, err := localize(&i18n.LocalizeConfig{MessageID: name, TemplateData: markers})
		if err != nil {
			return nil, err
		}
		p, err := cut(marked)
		if err != nil {
			return nil, fmt.Errorf("message %q: %w", name, err)
		}
		return p, nil
	}
	var err error
	for id, name := range phraseNames {
		if l.phrases[id], err = read(name); err != nil {
			return nil, err
		}
	}
	for _, name := range familyNames() {
		if l.family[name], err = read(name); err != nil {
			return nil, err
		}
	}
	for id, c := range counts {
		l.counts[id] = make([]string, c.most+1) // by the number; 0 is not used
		for n := 1; n <= c.most; n++ {
			if l.counts[id][n], err = localize(&i18n.LocalizeConfig{MessageID: c.name, PluralCount: n}); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// sameShape checks l against English, which is the first of the locales compiled before it: the same placeholders in each message, the
// code first in every short message with one, where phones look for it, and the app's name first in every notice, so that none begins
// with digits. With that no short message can begin with what a user or a payee supplied.
func (l *locale) sameShape(before []*locale) error {
	for _, id := range [...]phraseID{smsLogin, smsTransaction, smsAddFactor, smsRecovery, smsResetAddress} {
		if !l.phrases[id].beginsWith(code) {
			return fmt.Errorf("message %q: does not begin with the code", phraseNames[id])
		}
	}
	for _, n := range otp.Notices() {
		if name := noticeName(n, "sms"); !l.family[name].beginsWith(app) {
			return fmt.Errorf("message %q: does not begin with the app", name)
		}
	}
	if len(before) == 0 {
		return nil
	}
	english := before[0]
	for id, p := range l.phrases {
		if !slices.Equal(p.fields(), english.phrases[id].fields()) {
			return fmt.Errorf("message %q: has not the placeholders of the English one", phraseNames[id])
		}
	}
	for name, p := range l.family {
		if !slices.Equal(p.fields(), english.family[name].fields()) {
			return fmt.Errorf("message %q: has not the placeholders of the English one", name)
		}
	}
	return nil
}

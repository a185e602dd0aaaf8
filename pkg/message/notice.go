package message

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/otpost/otpost/pkg/otp"
)

// A NoticeInput is something that happened to a user's second factors, on its way to the user. What a notice does not tell of is left
// out, whether it is given or not.
type NoticeInput struct {
	App      string         // the app's name for people; cut after MaxName characters
	Locale   string         // BCP 47, as the app or the user asked; may be empty or unknown
	Fallback string         // BCP 47, the app's default, used when Locale matches no catalog; English is the last resort
	Notice   otp.Notice     // what happened
	At       time.Time      // when; shown to the minute, in UTC
	Factor   otp.FactorKind // the kind of factor that it happened to; may be empty
	Label    string         // the user's name for the factor or device, cut after MaxLabel characters; may be empty
	Reason   string         // of devices_revoked: one of Reasons, or empty

	Left       int       // of backup_code_used and backup_codes_low: the backup codes left, 0 to 20
	Effective  time.Time // of recovery_waiting: when the reset takes effect
	CancelCode string    // of recovery_begun, recovery_proven and recovery_waiting: the digits that stop the reset; empty for none
}

// MaxLabel is the most characters of a user's label that a notice shows.
const MaxLabel = 32

// Reasons returns the reasons that devices are revoked for.
func Reasons() []string {
	return []string{"stolen", "signed_out", "password_changed", "erased", "factors_changed", "recovery", "by_hand"}
}

// NoticeSMS renders a notice as one line that begins with the app's name. A code in it, which stops a recovery, stands unbroken after
// the words that say so, and no WebOTP line follows: no phone is to offer it where somebody signs in. The error wraps [ErrInput] and
// holds no code.
func (c *Catalog) NoticeSMS(in NoticeInput) (SMSMessage, error) {
	l := c.locale(in.Locale, in.Fallback)
	v, err := in.values(l)
	if err != nil {
		return SMSMessage{}, err
	}
	v[when] = l.momentSMS(in.At)
	if in.Notice == otp.NoticeRecoveryWaiting {
		v[effective] = l.momentSMS(in.Effective)
	}
	if v[label] != "" {
		v[label] = l.phrases[quotedSMS].fill(&v)
	}
	v[detail] = l.detail(&v)
	v[advice] = l.phrases[adviceSMS].fill(&v)
	if v[cancel] != "" {
		v[advice] = l.phrases[cancelSMS].fill(&v)
	}
	return SMSMessage{Text: l.family[noticeName(in.Notice, "sms")].fill(&v), Locale: l.name}, nil
}

// NoticeEmail renders a notice as an email with the look of one with a code. The error wraps [ErrInput] and holds no code.
func (c *Catalog) NoticeEmail(in NoticeInput) (EmailMessage, error) {
	l := c.locale(in.Locale, in.Fallback)
	v, err := in.values(l)
	if err != nil {
		return EmailMessage{}, err
	}
	v[when] = l.moment(in.At)
	if in.Notice == otp.NoticeRecoveryWaiting {
		v[effective] = l.moment(in.Effective)
	}
	if v[label] != "" {
		v[label] = l.phrases[quoted].fill(&v)
	}
	fill := func(id phraseID) string { return l.phrases[id].fill(&v) }
	heading, body := l.family[noticeName(in.Notice, "heading")].fill(&v), l.family[noticeName(in.Notice, "body")].fill(&v)
	p := page{Lang: l.name, Subject: heading, Preheader: body, Heading: heading, Words: []string{body}, Last: fill(adviceEmail)}
	for _, r := range [...]struct {
		label phraseID
		value field
	}{{labelWhen, when}, {labelFactor, factor}, {labelName, label}, {labelReason, reason}} {
		if v[r.value] != "" {
			p.Rows = append(p.Rows, row{fill(r.label), v[r.value]})
		}
	}
	if v[cancel] != "" {
		p.Words, p.Code = append(p.Words, fill(cancelIntro)), v[cancel]
		p.Notes, p.Last = []string{fill(keepSecret)}, fill(cancelAfter)
	}
	return c.email(&p)
}

// values checks the input and makes what people supplied fit to stand in a message; times and the label are worded by who shows them.
func (in *NoticeInput) values(l *locale) (v values, err error) {
	if !in.Notice.Valid() {
		return v, fmt.Errorf("%w: no words for a notice of %.40q", ErrInput, string(in.Notice))
	}
	if v[app], err = appName(in.App); err != nil {
		return v, err
	}
	if in.At.IsZero() {
		return v, fmt.Errorf("%w: the notice has no time", ErrInput)
	}
	if in.Factor != "" {
		words, ok := l.family[factorName(in.Factor)]
		if !ok {
			return v, fmt.Errorf("%w: no words for a factor of the kind %.40q", ErrInput, string(in.Factor))
		}
		v[factor] = words.fill(&v)
	}
	v[label] = shorten(clean(unlink(in.Label)), MaxLabel)

	switch in.Notice {
	case otp.NoticeDevicesRevoked:
		if in.Reason == "" {
			break
		}
		if !slices.Contains(Reasons(), in.Reason) {
			return v, fmt.Errorf("%w: no words for the reason %.40q", ErrInput, in.Reason)
		}
		v[reason] = l.family[reasonName(in.Reason)].fill(&v)
	case otp.NoticeBackupCodeUsed, otp.NoticeBackupCodesLow:
		switch {
		case in.Left < 0 || in.Left > maxLeft:
			return v, fmt.Errorf("%w: %d backup codes left, not 0 to %d", ErrInput, in.Left, maxLeft)
		case in.Left == 0:
			v[left] = l.phrases[leftNone].fill(&v)
		default:
			v[left] = l.counts[leftCodes][in.Left]
		}
	case otp.NoticeRecoveryBegun, otp.NoticeRecoveryProven, otp.NoticeRecoveryWaiting:
		if in.Notice == otp.NoticeRecoveryWaiting && in.Effective.IsZero() {
			return v, fmt.Errorf("%w: the notice has no time at which the recovery takes effect", ErrInput)
		}
		if in.CancelCode != "" && !digits(in.CancelCode) {
			return v, fmt.Errorf("%w: the code to cancel is not %d to %d digits", ErrInput, otp.MinDigits, otp.MaxDigits)
		}
		v[cancel] = in.CancelCode
	}
	return v, nil
}

// detail joins what is known of the factor or devices in brackets; it is empty when nothing is.
func (l *locale) detail(v *values) string {
	var joined string
	for _, f := range [...]field{factor, label, reason} {
		switch {
		case v[f] == "":
		case joined == "":
			joined = v[f]
		default:
			joined = l.phrases[list].fill(&values{first: joined, second: v[f]})
		}
	}
	if joined == "" {
		return ""
	}
	return l.phrases[detailSMS].fill(&values{detail: joined})
}

// maxLabelDigits is the most digits of a label that a notice shows: fewer than any number that can be called from afar.
const maxLabelDigits = 4

// unlink takes from a label what phones and mail programs make links of, numbers to call among them, and what would end its quotation. Who adds a factor
// to somebody else's account chooses the label, and the notice must not carry an address of theirs to the victim.
func unlink(s string) string {
	digits := 0
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			digits++
		}
		switch {
		case unicode.IsDigit(r) && digits > maxLabelDigits: // "iPhone 15", "Pixel 9", "2026" stay
			return -1
		case strings.ContainsRune("./\\:@．。｡／：＠﹫", r): // what joins the parts of a site's name, a path or an address
			return ' '
		case r != '’' && unicode.Is(unicode.Quotation_Mark, r):
			return '\''
		default:
			return r
		}
	}, s)
}

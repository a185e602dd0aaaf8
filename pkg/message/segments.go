package message

import "unicode/utf8"

// An Encoding is an alphabet that an SMS travels in (3GPP TS 23.038).
type Encoding string

// The encodings. GSM7 is the default alphabet with its extension table, seven bits a character; UCS2 has all others, 16 bits each, and is sent as UTF-16.
const (
	GSM7 Encoding = "GSM-7"
	UCS2 Encoding = "UCS-2"
)

// What one message of 140 octets holds, alone and as a part of a longer one, where six octets are taken by the header that says which part it is
// (3GPP TS 23.040, section 9.2.3.24.1).
const (
	gsmAlone, gsmPart = 160, 153
	ucsAlone, ucsPart = 70, 67
)

// Characters of the default alphabet, and those that take an escape before them, which makes two septets (3GPP TS 23.038, sections 6.2.1 and 6.2.1.1).
const (
	gsmBasic = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§" +
		"¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsmExtension = "\f^{}\\[~]|€"
)

// septets holds what each character takes in the GSM alphabet; what is not there is not in it.
var septets = func() map[rune]int {
	m := make(map[rune]int, utf8.RuneCountInString(gsmBasic)+len(gsmExtension))
	for _, r := range gsmBasic {
		m[r] = 1
	}
	for _, r := range gsmExtension {
		m[r] = 2
	}
	return m
}()

// inGSM reports whether every character of s is in the GSM alphabet or its extension.
func inGSM(s string) bool {
	for _, r := range s {
		if septets[r] == 0 {
			return false
		}
	}
	return true
}

// Segments tells how an SMS goes out: in which encoding, how many units that takes (septets of GSM7, 16-bit units of UCS2), and in how many messages, each of
// which is paid for. A part never ends within a character: neither between an escape and what it escapes nor within a surrogate pair, so the last units of a
// part may stay empty. National tables (3GPP TS 23.038, section 6.2.1.2) are not reckoned with: providers do not use them. An empty text is one message.
func Segments(text string) (encoding Encoding, units, segments int) {
	encoding, alone, part := GSM7, gsmAlone, gsmPart
	width := func(r rune) int { return septets[r] }
	if !inGSM(text) {
		encoding, alone, part = UCS2, ucsAlone, ucsPart
		width = func(r rune) int {
			if r > 0xffff {
				return 2
			}
			return 1
		}
	}
	segments = 1
	filled := 0 // units of the last part
	for _, r := range text {
		n := width(r)
		units += n
		if filled += n; filled > part {
			segments, filled = segments+1, n
		}
	}
	if units <= alone {
		segments = 1
	}
	return encoding, units, segments
}

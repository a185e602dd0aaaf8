package delivery

// A twilioCode is what an error code of Twilio means for a delivery.
type twilioCode struct {
	class  Class
	reason string
}

// twilioCodes sorts the codes that a message or a call can come to, from Twilio's dictionary of errors (https://www.twilio.com/docs/api/errors) and, for
// the 63000s of WhatsApp, from its list of what they stand for (https://www.twilio.com/docs/whatsapp/api/error-code-mapping). Most of the 20000s refuse a
// request; the 30000s and 63000s mostly come with a status callback, of a message that Twilio had taken first, and rarely at once.
//
// Permanent is only what is wrong with the number whoever sends to it. What Twilio may not or cannot do about a sound number is Rejected: another
// provider has other contracts, senders and filters. Configuration is only what stops every message of the account. Twilio adds codes and splits old
// ones: the table is never complete.
var twilioCodes = map[int]twilioCode{
	// The account.
	10001: {Configuration, "account is not active"},
	10002: {Configuration, "trial account does not support this"},
	20003: {Configuration, "credentials refused"},
	20005: {Configuration, "account is not active"},
	20006: {Configuration, "access denied"},
	20008: {Configuration, "test credentials may not do this"},
	20403: {Configuration, "account is suspended or closed"},
	20404: {Configuration, "account or resource not found"},
	21219: {Configuration, "trial account may reach verified numbers only"},
	21222: {Configuration, "account SID or API key has illegal characters"}, // said by twilio-go itself
	21224: {Configuration, "auth token or API secret has illegal characters"},
	21608: {Configuration, "account may reach verified numbers only"},
	21609: {Configuration, "status callback is not a valid URL"},
	30002: {Configuration, "account is suspended"},
	30037: {Configuration, "outbound messaging is disabled for the account"},
	63038: {Rejected, "account exceeded its messages of the day"}, // goes on by itself when the day is over
	70051: {Configuration, "credentials lack the permission to send"},

	// The service's state.
	10004: {Transient, "too many calls at once"},
	14107: {Transient, "too many messages between two numbers"},
	20429: {Transient, "too many requests"},
	20500: {Ambiguous, "internal error at Twilio"},
	20503: {Transient, "service unavailable"},
	20504: {Ambiguous, "time-out inside Twilio"},
	21611: {Transient, "the sender's queue is full"},
	21730: {Transient, "under maintenance"},
	30001: {Transient, "queue overflow"},
	30008: {Transient, "delivery failed for an unknown reason"},
	30017: {Transient, "congestion in the carrier's network"},
	30022: {Transient, "rate limit of the carriers exceeded"},
	30410: {Ambiguous, "the carrier did not answer in time"},
	63010: {Transient, "internal error of the channel"},
	63012: {Transient, "the channel's provider is out of order"},
	63017: {Transient, "rate limit exceeded"},
	63018: {Transient, "rate limit of the channel exceeded"},
	30020: {Transient, "internal failure at Twilio"},
	30021: {Transient, "internal failure at Twilio"},
	63023: {Transient, "failure of the channel"},

	// The sender, whoever is written to.
	21210: {Configuration, "sender is not verified"},
	21212: {Configuration, "sender is not a valid number"},
	21213: {Configuration, "sender is missing"},
	21267: {Configuration, "trial account may not send from a name"},
	21601: {Configuration, "sender cannot send messages"},
	21603: {Configuration, "sender is missing"},
	21606: {Configuration, "sender cannot send messages"},
	21660: {Configuration, "sender belongs to another account"},
	21661: {Configuration, "sender cannot send SMS"},
	21701: {Configuration, "messaging service does not exist"},
	21704: {Configuration, "messaging service has no senders"},
	21705: {Configuration, "messaging service is invalid"},
	21711: {Configuration, "sender does not belong to the messaging service"},
	63007: {Configuration, "sender is not set up for the channel"},
	63008: {Configuration, "the channel is set up wrongly"},
	63020: {Configuration, "the channel's account needs an operator"},

	// The sender, with the country or carrier of this recipient: others may be reached from it.
	21408: {Rejected, "the number's region is not enabled for the account"},
	21612: {Rejected, "number cannot be reached from this sender"},
	21659: {Rejected, "sender is not a Twilio number, or a short code of another country"},
	21703: {Rejected, "messaging service has no sender for this message"},
	30018: {Rejected, "the carrier asks for a registered sender"},
	30023: {Rejected, "the carrier's messages of the day are used up"},
	30024: {Rejected, "sender is not set up at the carrier"},
	30027: {Rejected, "the carrier's messages of the day are used up"},
	30032: {Rejected, "toll-free sender is not verified"},
	30033: {Rejected, "the sender's campaign is suspended"},
	30034: {Rejected, "sender is not registered for US long-code messaging"},
	30035: {Rejected, "sender is still being set up"},
	21203: {Rejected, "calls abroad are not enabled for the account"},
	21215: {Rejected, "calls to the number's region are not enabled for the account"},
	21216: {Rejected, "calls to the number are blocked by Twilio"},

	// The recipient, whom Twilio does not reach.
	21214: {Rejected, "number cannot be reached by Twilio"},
	21266: {Rejected, "recipient and sender are the same"},
	21610: {Rejected, "recipient opted out of this sender"},
	30003: {Rejected, "handset is switched off or out of reach"},
	30004: {Rejected, "recipient or carrier blocks the message"},
	30450: {Rejected, "blocked by Twilio as suspicious traffic"},
	30453: {Rejected, "blocked by Twilio"},
	30454: {Rejected, "blocked by Twilio"},
	63014: {Rejected, "recipient blocked the sender"},

	// The number itself.
	21201: {Permanent, "recipient is missing"},
	21202: {Permanent, "number is a premium one"},
	21211: {Permanent, "not a valid phone number"},
	21217: {Permanent, "not a valid phone number"},
	21265: {Permanent, "number is a short code"},
	21421: {Permanent, "not a valid phone number"},
	21604: {Permanent, "recipient is missing"},
	21614: {Permanent, "not a mobile number"},
	21635: {Permanent, "number is a landline"},
	30005: {Permanent, "number is unknown or not in service"},
	30006: {Permanent, "number is a landline or its carrier is unreachable"},
	63003: {Permanent, "number is not on the channel"},
	63024: {Permanent, "number is not on the channel"},

	// The message.
	12100: {Rejected, "call's instructions cannot be read"},
	21602: {Rejected, "message has no text"},
	21605: {Rejected, "message is too long"},
	21617: {Rejected, "message is too long"},
	21618: {Rejected, "message text cannot be sent"},
	21619: {Rejected, "message has no text"},
	21624: {Rejected, "validity period is out of bounds"},
	21655: {Configuration, "content template does not exist"},
	21656: {Rejected, "content template's variables are wrong"},
	30007: {Rejected, "filtered by the carrier or by Twilio"},
	30019: {Rejected, "message is too large for the carrier"},
	30036: {Rejected, "validity period ended before it was sent"},
	30038: {Rejected, "filtered because it holds a code"},
	63005: {Rejected, "the channel did not accept the content"},
	63006: {Rejected, "the channel cannot show the content"},
	63013: {Rejected, "against the channel's policy"},
	63015: {Rejected, "recipient has not joined the sandbox"},
	63016: {Configuration, "free text outside a session: a content template is needed"},
	63019: {Rejected, "the channel could not take the media"},
	63021: {Rejected, "the channel does not accept the content"},
	63022: {Rejected, "the channel refused the message"},
	63027: {Configuration, "content template does not exist in the language"},
	63028: {Configuration, "content template has another number of variables"},
	63032: {Rejected, "withheld by the channel for this recipient"},
	63049: {Rejected, "withheld by the channel for this recipient"},
}

// TwilioClass says what an error code of Twilio means: what may be done about it and a short reason, for operators and events. known is false for a code
// that the table lacks; class and reason are then nothing.
func TwilioClass(code int) (class Class, reason string, known bool) {
	c, known := twilioCodes[code]
	return c.class, c.reason, known
}

// TwilioReason says what the ErrorCode of a status callback means: a short reason and whether the number itself is at fault, so that no provider of the
// channel will reach it. known is false for a code that the table lacks, which is no fault of the number's.
func TwilioReason(code int) (reason string, permanent, known bool) {
	class, reason, known := TwilioClass(code)
	return reason, class == Permanent, known
}

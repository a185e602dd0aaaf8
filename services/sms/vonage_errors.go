package sms

import "github.com/otpost/otpost/pkg/delivery"

// vonageStatuses sorts the statuses that Vonage gives to a part of a message that it does not take, from its list of the SMS API's errors
// (https://developer.vonage.com/en/api-errors/sms) and, where that has gaps, from earlier editions of it (13, 16, 19 and 20).
//
// Rejected is whatever depends on this message and its destination: another provider judges for itself. So is 15, because a sender that is refused for one
// country serves others, and 3, because it says that a parameter is wrong without a dependable word on which. Only a number that is out of use is the
// address's own fault.
var vonageStatuses = map[string]verdict{
	"1":  {delivery.Transient, "too many requests"},
	"2":  {delivery.Configuration, "a parameter is missing"},
	"3":  {delivery.Rejected, "a parameter is not valid"},
	"4":  {delivery.Configuration, "credentials refused"},
	"5":  {delivery.Ambiguous, "internal error at Vonage"},
	"6":  {delivery.Rejected, "message or number prefix not understood"},
	"7":  {delivery.Rejected, "number is barred at Vonage"},
	"8":  {delivery.Configuration, "account is suspended"},
	"9":  {delivery.Configuration, "account is out of credit"},
	"10": {delivery.Transient, "too many connections"},
	"11": {delivery.Configuration, "account is not enabled for the SMS API"},
	"12": {delivery.Rejected, "message is too long"},
	"13": {delivery.Transient, "communication failure inside Vonage"},
	"14": {delivery.Configuration, "signature refused"},
	"15": {delivery.Rejected, "sender is not allowed for the destination"},
	"16": {delivery.Rejected, "time to live is not valid"},
	"19": {delivery.Configuration, "account lacks a facility that the request uses"},
	"20": {delivery.Rejected, "message class is not valid"},
	"22": {delivery.Rejected, "network code is not valid"},
	"23": {delivery.Configuration, "callback is not a valid URL"},
	"29": {delivery.Configuration, "account may send to listed numbers only"},
	"32": {delivery.Configuration, "a signed request may not carry the API secret"},
	"33": {delivery.Permanent, "number is out of use"},
}

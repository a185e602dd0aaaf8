package callback

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
)

// The document's tables of what providers tell are what the gateway makes of it.
func TestDocumentedReceipts(t *testing.T) {
	told := func(s otp.DeliveryState) string {
		if s == "" {
			return "nothing: a stage on the way"
		}
		return string(s)
	}
	rows := [][]string{{"provider", "says", "which is"}}
	for _, of := range []struct {
		provider string
		states   map[string]otp.DeliveryState
	}{{"Twilio, SMS and WhatsApp", twilioStates}, {"Twilio, calls", calls()}, {"Vonage", vonageStates}} {
		says := map[otp.DeliveryState]string{}
		for _, s := range slices.Sorted(maps.Keys(of.states)) {
			state := of.states[s]
			if says[state] != "" {
				says[state] += ", "
			}
			says[state] += "`" + s + "`"
		}
		for _, state := range []otp.DeliveryState{otp.DeliveryDelivered, otp.DeliveryUndelivered, otp.DeliveryFailed, otp.DeliveryAccepted, ""} {
			if says[state] != "" {
				rows = append(rows, []string{of.provider, says[state], told(state)})
			}
		}
	}
	otposttest.Table(t, "docs/delivery.md", "receipts", rows)
}

func calls() map[string]otp.DeliveryState {
	out := map[string]otp.DeliveryState{}
	for status, c := range twilioCalls {
		out[status] = c.state
	}
	return out
}

func TestDocumentedVonageCodes(t *testing.T) {
	rows := [][]string{{"err-code", "meaning", "class", "what follows"}}
	byNumber := func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return cmp.Compare(x, y)
	}
	for _, code := range slices.SortedFunc(maps.Keys(vonageCodes), byNumber) {
		c, class := vonageCodes[code], "rejected" // as the challenge worker takes every report of a mishap that is not the address's fault
		if c.permanent {
			class = "permanent"
		}
		rows = append(rows, []string{code, c.reason, class, otposttest.WhatFollows(t, class)})
	}
	otposttest.Table(t, "docs/delivery.md", "vonage-receipts", rows)
}

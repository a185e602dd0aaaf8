package delivery

import (
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/otpost/otpost/pkg/otposttest"
)

// Who looks up why a code did not arrive reads in the document what the code does.
func TestDocumentedTwilioCodes(t *testing.T) {
	rows := [][]string{{"code", "meaning", "class", "what follows"}}
	for _, code := range slices.Sorted(maps.Keys(twilioCodes)) {
		c := twilioCodes[code]
		rows = append(rows, []string{strconv.Itoa(code), c.reason, c.class.String(), otposttest.WhatFollows(t, c.class.String())})
	}
	otposttest.Table(t, "docs/delivery.md", "twilio", rows)
}

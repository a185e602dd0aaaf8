package sms

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/otposttest"
)

// These tests hold the tables of errors in the document to what the providers do.

const document = "docs/delivery.md"

func documented(t *testing.T, what string, v verdict) []string {
	t.Helper()
	return []string{what, v.reason, v.class.String(), otposttest.WhatFollows(t, v.class.String())}
}

func TestDocumentedVonageStatuses(t *testing.T) {
	rows := [][]string{{"status", "meaning", "class", "what follows"}}
	byNumber := func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return cmp.Compare(x, y)
	}
	for _, status := range slices.SortedFunc(maps.Keys(vonageStatuses), byNumber) {
		rows = append(rows, documented(t, status, vonageStatuses[status]))
	}
	otposttest.Table(t, document, "vonage", rows)
}

func TestDocumentedSNSCodes(t *testing.T) {
	rows := [][]string{{"code", "meaning", "class", "what follows"}}
	for _, code := range slices.Sorted(maps.Keys(snsCodes)) {
		v, _ := judgeSNS(400, code, "")
		rows = append(rows, documented(t, "`"+code+"`", v))
	}
	otposttest.Table(t, document, "sns", rows)
}

// What the two tables of HTTP's statuses say alike stands in one row.
func TestDocumentedHTTPStatuses(t *testing.T) {
	type class struct{ twilio, others string }
	var order []class
	statuses := map[class][]string{}
	for _, status := range []int{301, 302, 307, 308, 400, 401, 402, 403, 404, 405, 407, 408, 409, 410, 413, 422, 425, 429, 500, 502, 503, 504} {
		c := class{judgeStatus(status).class.String(), judgeHTTP(status).class.String()}
		if statuses[c] == nil {
			order = append(order, c)
		}
		statuses[c] = append(statuses[c], strconv.Itoa(status))
	}
	rows := [][]string{{"status", "Twilio", "Vonage, SNS, webhook"}}
	for _, c := range order {
		rows = append(rows, []string{strings.Join(statuses[c], ", "), c.twilio, c.others})
	}
	otposttest.Table(t, document, "http", rows)
}

// What comes to no answer is the same for all of them.
func TestDocumentedSilence(t *testing.T) {
	rows := [][]string{{"what happened", "meaning", "class", "what follows"}}
	for _, c := range []struct {
		what   string
		err    error
		handed bool
	}{
		{"no connection", errors.New("refused"), false},
		{"no connection within the time-out", context.DeadlineExceeded, false},
		{"the request was on its way, no answer within the time-out", context.DeadlineExceeded, true},
		{"the request was on its way, the connection broke", errors.New("reset"), true},
	} {
		e := unanswered(c.err, c.handed)
		rows = append(rows, documented(t, c.what, verdict{e.Class, e.Reason}))
	}
	e := delivery.AsError(errors.New("of any other type"))
	rows = append(rows, documented(t, "anything that nobody foresaw", verdict{e.Class, e.Reason}))
	otposttest.Table(t, document, "silence", rows)
}

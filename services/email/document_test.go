package email

import (
	"context"
	"crypto/tls"
	"io"
	"net/textproto"
	"testing"

	"github.com/otpost/otpost/pkg/otposttest"
)

// The document's table of a relay's replies is what failure makes of them.
func TestDocumentedReplies(t *testing.T) {
	reply := func(code int, text string) error { return &textproto.Error{Code: code, Msg: text} }
	rows := [][]string{{"what the relay says or does", "reason in the delivery's row", "class", "what follows"}}
	for _, c := range []struct {
		what string
		at   stage
		err  error
	}{
		{"cannot be reached", stageConnect, context.DeadlineExceeded},
		{"its certificate does not verify", stageTLS, &tls.CertificateVerificationError{}},
		{"offers no STARTTLS where it is required", stageTLS, errNoStartTLS},
		{"554 to the connection", stageGreeting, reply(554, "no")},
		{"535 to the password", stageAuth, reply(535, "5.7.8 no")},
		{"550 to MAIL (the sender)", stageMail, reply(550, "5.1.0 no")},
		{"450 to RCPT (greylisting)", stageRcpt, reply(450, "4.7.1 later")},
		{"550 5.1.1 to RCPT (no such mailbox)", stageRcpt, reply(550, "5.1.1 no")},
		{"550 5.1.8 to RCPT (the sender's domain)", stageRcpt, reply(550, "5.1.8 no")},
		{"552 5.2.2 to RCPT (mailbox full)", stageRcpt, reply(552, "5.2.2 full")},
		{"550 5.7.1 to RCPT (policy)", stageRcpt, reply(550, "5.7.1 no")},
		{"550 5.7.1 to RCPT that names relaying", stageRcpt, reply(550, "5.7.1 relaying denied")},
		{"421 at any time", stageData, reply(421, "4.3.2 bye")},
		{"554 to the message", stageReply, reply(554, "5.6.0 no")},
		{"554 5.7.1 to the message (taken for spam)", stageReply, reply(554, "5.7.1 spam")},
		{"hangs up before the message is complete", stageText, io.EOF},
		{"hangs up, or says nothing, after the message", stageReply, io.EOF},
	} {
		e := failure(c.at, c.err)
		rows = append(rows, []string{c.what, e.Reason, e.Class.String(), otposttest.WhatFollows(t, e.Class.String())})
	}
	otposttest.Table(t, "docs/delivery.md", "smtp", rows)
}

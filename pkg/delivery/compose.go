package delivery

import (
	"fmt"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
)

// This file makes a message of a command. The address that is opened here and the code that is derived here are in memory only; no error has them.

// A Renderer writes the message of a command for a code. It fills all but To, Reference, App and ExpiresAt.
type Renderer func(in message.Input) (Message, error)

// A NoticeRenderer is the same for a notice.
type NoticeRenderer func(in message.NoticeInput) (Message, error)

// A Completer fills in what depends on where and when a message goes: on a letter the address stands, and the date. in is what the message was rendered
// of, and in m all is set but Document. What it makes must follow from the two, without in.Life, which passes, so that a message that is made again is
// the same. Its error holds neither the address nor the code. It is not called for notices.
type Completer func(in message.Input, m *Message) error

// compose opens the destination, derives the code and renders the message.
func (w *Worker) compose(cmd event.Command) (Message, error) {
	to, err := w.Keys.OpenDestination(string(w.Channel.Address()), cmd.App, cmd.User, Purpose, cmd.To)
	if err != nil {
		return Message{}, fmt.Errorf("open destination: %w", err)
	}
	code, err := w.code(cmd)
	if err != nil {
		return Message{}, fmt.Errorf("derive code: %w", err)
	}
	if cmd.Purpose == event.PurposeNotice {
		return w.notice(cmd, code, to)
	}
	in := message.Input{
		Purpose: message.Purpose(cmd.Purpose), App: cmd.AppName, Code: code, Locale: cmd.Locale, Fallback: cmd.Fallback,
		Life: cmd.ExpiresAt.Sub(w.Now()), Origin: cmd.Origin, Transaction: cmd.Transaction, AppKey: cmd.App, Hash: cmd.Hash, Style: message.Style(cmd.Style),
	}
	m, err := w.Render(in)
	if err != nil {
		return Message{}, fmt.Errorf("render message: %w", err)
	}
	address(&m, cmd, to)
	m.Code = code
	if cmd.OfChallenge() {
		if m.Token, err = w.Keys.SealReceipt(cmd.Challenge, cmd.Attempt); err != nil {
			return Message{}, fmt.Errorf("make receipt token: %w", err)
		}
	}
	if w.Complete != nil {
		if err := w.Complete(in, &m); err != nil {
			return Message{}, fmt.Errorf("complete message: %w", err)
		}
	}
	return m, nil
}

// address says of a message where it goes and which one it is.
func address(m *Message, cmd event.Command, to string) {
	m.Reference, m.App, m.To, m.ExpiresAt = cmd.Reference(), cmd.App, to, cmd.ExpiresAt
	m.Sender, m.Country = cmd.Sender, cmd.Country
}

// code derives the command's code; it is empty for a notice without one. Challenges and ceremonies have keysets of their own, so that whoever answers for
// the ones cannot make a code of the others.
func (w *Worker) code(cmd event.Command) (string, error) {
	id, ok := cmd.CodeOf()
	if !ok {
		return "", nil
	}
	keyset := w.Keys.CeremonyPRF
	if cmd.OfChallenge() {
		keyset = w.Keys.CodePRF
	}
	prf, err := keyset(cmd.Key)
	if err != nil {
		return "", err
	}
	return otp.DeriveCode(prf, otp.CodeInput{App: cmd.App, Challenge: id, Nonce: cmd.Nonce, Transaction: cmd.Transaction, Digits: cmd.Digits})
}

// notice renders a notice; code is the one that stops what it tells of, empty for none.
func (w *Worker) notice(cmd event.Command, code, to string) (Message, error) {
	if w.RenderNotice == nil {
		return Message{}, fmt.Errorf("no notice goes over the channel %s", w.Channel)
	}
	n := cmd.Notice
	m, err := w.RenderNotice(message.NoticeInput{
		App: cmd.AppName, Locale: cmd.Locale, Fallback: cmd.Fallback, Notice: n.Notice, At: n.At, Factor: n.Factor, Label: n.Label, Reason: n.Reason,
		Left: n.Left, Effective: n.Effective, CancelCode: code,
	})
	if err != nil {
		return Message{}, fmt.Errorf("render notice: %w", err)
	}
	address(&m, cmd, to)
	return m, nil
}

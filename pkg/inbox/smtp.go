package inbox

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Bounds of the mail server.
const (
	maxMessageBytes = 1 << 20
	maxRecipients   = 100
	smtpTimeout     = 5 * time.Minute // RFC 5321, section 4.5.3.2.7
	smtpGrace       = time.Second     // what a transaction under way gets at shutdown
)

// ServeSMTP accepts mail for any address on l until ctx ends (RFC 5321), then closes l, lets transactions under way finish for up to a
// second, closes what is left and returns nil. It takes l over and returns an error only when accepting fails before ctx ends.
//
// A rule of faults strikes a recipient. It refuses at RCPT; all else happens once the content was read, so that a caller who hears nothing
// cannot know what became of the message, as it is with a request over HTTP.
func (in *Inbox) ServeSMTP(ctx context.Context, l net.Listener) error {
	return in.ServeSMTPAs(ctx, ProviderSMTP, l)
}

// ServeSMTPAs is ServeSMTP for a relay of another name, by which faults and counts know it: each relay has a listener of its own.
func (in *Inbox) ServeSMTPAs(ctx context.Context, name string, l net.Listener) error {
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &mailSession{in: in, name: name, conn: c, stop: ctx.Done()}, nil
	}))
	server.Domain = mailDomain
	server.EnableDSN = true // RFC 3461
	server.MaxMessageBytes = maxMessageBytes
	server.MaxRecipients = maxRecipients
	server.TLSConfig = in.cfg.SMTPTLS
	server.AllowInsecureAuth = in.cfg.SMTPTLS == nil
	server.ReadTimeout, server.WriteTimeout = smtpTimeout, smtpTimeout
	server.EnableSMTPUTF8 = true
	server.ErrorLog = smtpLog{in}

	tracked := &trackedListener{Listener: l, accepted: func() { in.counts.smtpConnections.Add(1) }, open: make(map[net.Conn]struct{})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(tracked) }()
	select {
	case err := <-served:
		l.Close()
		tracked.each(func(c net.Conn) { c.Close() })
		_ = server.Shutdown(context.Background()) // waits for the sessions; the listener's error is the one that counts
		return fmt.Errorf("accepting mail connections: %w", err)
	case <-ctx.Done():
	}

	// Accepting ends first, so that no connection slips in behind the sweep. Shutdown then waits for connections but ends none: idle ones
	// are told by a deadline, stubborn ones are closed after the grace.
	l.Close()
	<-served
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Shutdown(context.Background()) // only the second closing of l can fail
	}()
	tracked.each(func(c net.Conn) { _ = c.SetReadDeadline(time.Now()) })
	grace := time.NewTimer(smtpGrace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		tracked.each(func(c net.Conn) { c.Close() })
		<-done
	}
	return nil
}

// A mailSession is one client's dialogue. The server calls it from one goroutine at a time.
type mailSession struct {
	in            *Inbox
	name          string // the provider's
	conn          *smtp.Conn
	stop          <-chan struct{} // ends delays
	authenticated bool
	from          string
	options       smtp.MailOptions
	to            []recipient
}

var _ smtp.AuthSession = (*mailSession)(nil)

var errAuthRequired = &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"} // RFC 4954, section 6

func (s *mailSession) authRequired() bool {
	return s.in.cfg.SMTPUser != "" || s.in.cfg.SMTPPassword != ""
}

func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *mailSession) Auth(mechanism string) (sasl.Server, error) {
	if mechanism != sasl.Plain {
		return nil, smtp.ErrAuthUnknownMechanism
	}
	return sasl.NewPlainServer(func(identity, user, password string) error {
		same := func(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
		ok := same(user, s.in.cfg.SMTPUser) && same(password, s.in.cfg.SMTPPassword) && (identity == "" || identity == user)
		if s.authRequired() && !ok {
			return smtp.ErrAuthFailed
		}
		s.authenticated = true
		return nil
	}), nil
}

func (s *mailSession) Mail(from string, options *smtp.MailOptions) error {
	if s.authRequired() && !s.authenticated {
		return errAuthRequired
	}
	hook := s.in.smtpHook(SMTPRequest{Stage: StageMail, N: s.in.counts.smtpMail.Add(1), From: from})
	if err := s.strike(hook); err != nil {
		return err
	}
	s.Reset()
	s.from = from
	if options != nil {
		s.options = *options
	}
	return nil
}

func (s *mailSession) Rcpt(to string, options *smtp.RcptOptions) error {
	asked := recipient{address: to}
	if options != nil {
		asked.options = *options
	}
	hook := s.in.smtpHook(SMTPRequest{
		Stage: StageRcpt, N: s.in.counts.smtpRcpt.Add(1), From: s.from, To: append(s.addresses(), to),
	})
	if hook == nil {
		asked.fault = s.in.mailFault(s.name, to)
		if asked.fault.refuses() {
			hook = asked.fault.refusal()
		}
	}
	if err := s.strike(hook); err != nil {
		return err
	}
	s.to = append(s.to, asked)
	return nil
}

func (s *mailSession) addresses() []string {
	list := make([]string, len(s.to), len(s.to)+1)
	for i, r := range s.to {
		list[i] = r.address
	}
	return list
}

func (s *mailSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		if refusal, ok := errors.AsType[*smtp.SMTPError](err); ok { // too large, or the client went away in mid-content
			s.in.refused(s.name)
			return refusal
		}
		return fmt.Errorf("reading the content: %w", err)
	}
	m, err := parseMail(bytes.NewReader(raw))
	if err != nil {
		s.in.refused(s.name)
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "Content refused: " + oneLine(err.Error())}
	}
	m.Provider = s.name
	if m.From == "" {
		m.From = s.from
	}
	hook := s.in.smtpHook(SMTPRequest{Stage: StageData, N: s.in.counts.smtpData.Add(1), From: s.from, To: s.addresses(), Message: m})
	if hook == nil {
		hook = s.atContent()
	}
	if err := s.strike(hook); err != nil {
		return err
	}
	arrived := s.in.cfg.Now()
	for _, to := range s.to {
		m.To = to.address
		if !to.fault.Lost {
			s.in.Add(m)
		}
		s.in.took(s.name, m.To, m.Subject+"\x00"+m.Text)
		s.in.bounceLater(outgoing{provider: s.name, from: s.from, options: s.options, to: to, raw: raw, arrived: arrived})
	}
	s.in.counts.smtpTransactions.Add(1)
	if hook.AcceptThenDrop {
		return s.drop()
	}
	return nil
}

// atContent is what the recipients' faults do to the transaction as a whole, which has one reply: the longest delay, and whatever one of them asks for.
func (s *mailSession) atContent() *SMTPFault {
	var whole SMTPFault
	for _, to := range s.to {
		whole.Delay = max(whole.Delay, to.fault.Delay)
		whole.DropConnection = whole.DropConnection || to.fault.Drop
		whole.AcceptThenDrop = whole.AcceptThenDrop || to.fault.AcceptThenDrop
	}
	return &whole
}

// refusal is the reply that a refusing fault means to a mail server. A status that is no refusal over SMTP, or none, follows the enhanced code, and what has
// neither is permanent.
func (f Fault) refusal() *SMTPFault {
	reply := &SMTPFault{Delay: f.Delay, Code: f.Status, Message: f.Message}
	if parts := enhancedCode.FindStringSubmatch(f.Code); parts != nil && parts[1] != "2" {
		for i := range reply.EnhancedCode {
			reply.EnhancedCode[i], _ = strconv.Atoi(parts[1+i]) // at most three digits
		}
	}
	switch {
	case reply.Code >= 400:
	case reply.EnhancedCode[0] == 4 || reply.Code != 0:
		reply.Code = 451
	default:
		reply.Code = 550
	}
	return reply
}

func (s *mailSession) Reset() { s.from, s.options, s.to = "", smtp.MailOptions{}, nil }

func (s *mailSession) Logout() error { return nil }

// strike does what a fault asks for; an error is the reply that refuses the command. Nil is no fault.
func (s *mailSession) strike(f *SMTPFault) error {
	if f == nil {
		return nil
	}
	s.in.pause(f.Delay, s.stop)
	if f.DropConnection {
		s.in.refused(s.name)
		return s.drop()
	}
	if f.Code == 0 {
		return nil
	}
	s.in.refused(s.name)
	reply := &smtp.SMTPError{Code: f.Code, EnhancedCode: smtp.EnhancedCode(f.EnhancedCode), Message: f.Message}
	if f.EnhancedCode == [3]int{} {
		reply.EnhancedCode = smtp.EnhancedCode{f.Code / 100, 0, 0}
	}
	if reply.Message == "" {
		reply.Message = "Refused by a simulated fault"
	}
	return reply
}

// drop closes the connection below TLS, so that not even a close_notify leaves; the error that it returns has nowhere to go.
func (s *mailSession) drop() error {
	conn := s.conn.Conn()
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	conn.Close()
	return &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Connection dropped"}
}

// oneLine keeps an error from breaking the reply's line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// smtpLog passes on what the server library has to say, which is about connections and not about mail.
type smtpLog struct{ in *Inbox }

func (l smtpLog) Printf(format string, v ...any) {
	l.in.log.Debug("mail server", "message", fmt.Sprintf(format, v...))
}

func (l smtpLog) Println(v ...any) {
	l.in.log.Debug("mail server", "message", strings.TrimSpace(fmt.Sprintln(v...)))
}

// trackedListener knows its open connections.
type trackedListener struct {
	net.Listener
	accepted func()
	mu       sync.Mutex
	open     map[net.Conn]struct{}
}

func (l *trackedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.accepted()
	tracked := &trackedConn{Conn: conn, list: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[tracked] = struct{}{}
	return tracked, nil
}

// each calls f for every open connection.
func (l *trackedListener) each(f func(net.Conn)) {
	l.mu.Lock()
	conns := make([]net.Conn, 0, len(l.open))
	for c := range l.open {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		f(c)
	}
}

type trackedConn struct {
	net.Conn
	list *trackedListener
}

func (c *trackedConn) Close() error {
	c.list.mu.Lock()
	delete(c.list.open, c)
	c.list.mu.Unlock()
	return c.Conn.Close()
}

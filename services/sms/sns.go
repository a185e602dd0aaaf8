package sms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/smithy-go"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/otp"
)

// SNSConfig says which identity sends from which region and sender, and how.
//
// The keys are given and not searched for. The chain that AWS's tools have, of files, variables and the machine's own role, would let the place where a
// worker runs decide who sends and who pays, and would bring five more services' clients along. What the identity needs is one permission: sns:Publish.
type SNSConfig struct {
	Name string // of the provider in events, rows and metrics; default "sns"

	Region          string // such as "eu-central-1"; not all of them send SMS
	AccessKeyID     string
	SecretAccessKey string

	// From is a number in E.164 or a short code of the account (origination number), or a name of up to 11 letters, digits and hyphens, of which one is a
	// letter (sender id); "" leaves it to the account's settings. Message.Sender goes before it.
	From string
	// MaxPrice is what one message may cost at most, in US dollars: SNS takes a dearer one and does not send it. 0 leaves it to the account's limit.
	MaxPrice float64

	// BaseURL is where the API stands; "" for AWS's own in the region. Anything but https is for one's own machine: codes travel with every request.
	BaseURL     string
	Timeout     time.Duration // of one send from the first byte to the last; bounded by the caller's context as well; default 10 s
	Connections int           // open at most, and kept open while idle; default 64
	Logger      *slog.Logger  // default slog.Default()
	Now         func() time.Time
}

const (
	maxSNSPrice = 100 // US dollars; no SMS costs as much
	maxSNSName  = 11  // characters of a sender id

	// Reserved names of attributes that SNS reads of an SMS.
	snsType          = "AWS.SNS.SMS.SMSType"
	snsSenderID      = "AWS.SNS.SMS.SenderID"
	snsMaxPrice      = "AWS.SNS.SMS.MaxPrice"
	snsOrigination   = "AWS.MM.SMS.OriginationNumber"
	snsTransactional = "Transactional" // sent for reliability, not for price
)

// SNS sends SMS through AWS's Simple Notification Service. It is safe for concurrent use.
//
// SNS posts no receipts: what became of a message, and that somebody had opted out, stands in the account's CloudWatch logs alone. A route must not
// wait for it to confirm. Nor can SNS be told when a message is worth nothing any more, and it has no idempotency key for numbers: an Ambiguous error
// may stand for a message that is on its way, and sending it again may deliver it twice.
type SNS struct {
	name      string
	from      string
	maxPrice  string // "" for none
	client    *sns.Client
	limits    httpLimits
	transport *http.Transport
	strange   sync.Map // codes unknown to snsCodes that have been logged
}

var _ delivery.Provider = (*SNS)(nil)

var (
	regionPattern    = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+){1,3}-[1-9][0-9]?$`)
	accessKeyPattern = regexp.MustCompile(`^[0-9A-Z]{16,128}$`)
	awsSecretPattern = regexp.MustCompile(`^[0-9A-Za-z/+=]{16,128}$`)
	snsNumberPattern = regexp.MustCompile(`^(\+[1-9][0-9]{6,14}|[0-9]{3,8})$`)
	snsNamePattern   = regexp.MustCompile(`^[0-9-]*[A-Za-z][0-9A-Za-z-]*$`)
)

// NewSNS checks c and returns a provider. It sends nothing; wrong credentials show at the first send. Its error names the field at fault and quotes no
// secret.
func NewSNS(c SNSConfig) (*SNS, error) {
	s := &SNS{name: c.Name, from: c.From, limits: httpLimits{c.Timeout, c.Connections, c.Logger, c.Now}}
	if s.name == "" {
		s.name = "sns"
	}
	switch {
	case !otp.ValidProvider(s.name):
		return nil, errors.New("sns: Name must have 1 to 32 of a-z, 0-9 and -, and begin with a letter or digit")
	case !regionPattern.MatchString(c.Region):
		return nil, errors.New("sns: Region must be the code of an AWS region, such as eu-central-1")
	case !accessKeyPattern.MatchString(c.AccessKeyID):
		return nil, errors.New("sns: AccessKeyID must have 16 or more capital letters and digits")
	case !awsSecretPattern.MatchString(c.SecretAccessKey):
		return nil, errors.New("sns: SecretAccessKey must have 16 or more letters, digits, /, + and =")
	case c.From != "" && !validSNSSender(c.From):
		return nil, errors.New("sns: From must be a number in E.164, a short code or a name of up to 11 letters, digits and hyphens with a letter")
	case !(c.MaxPrice >= 0 && c.MaxPrice <= maxSNSPrice): // also of what is no number
		return nil, fmt.Errorf("sns: MaxPrice must be between 0 and %d US dollars", maxSNSPrice)
	}
	if c.MaxPrice > 0 {
		s.maxPrice = strconv.FormatFloat(c.MaxPrice, 'f', -1, 64)
	}
	if err := s.limits.check("sns"); err != nil {
		return nil, err
	}
	var base *string
	if c.BaseURL != "" {
		u, err := baseURL("BaseURL", c.BaseURL)
		if err != nil {
			return nil, fmt.Errorf("sns: %w", err)
		}
		if inClear(u) {
			s.limits.log.Warn("sns: codes travel in clear text to the base URL", "host", u.Host)
		}
		base = aws.String(u.String())
	}
	s.transport = newTransport(s.limits.connections)
	s.client = sns.New(sns.Options{
		Region:       c.Region,
		BaseEndpoint: base,
		Credentials:  credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, ""),
		Retryer:      aws.NopRetryer{}, // whether to send again is not the client's to say
	})
	return s, nil
}

func validSNSSender(sender string) bool {
	return snsNumberPattern.MatchString(sender) || snsNamePattern.MatchString(sender) && len(sender) <= maxSNSName
}

// Name returns the provider's name.
func (s *SNS) Name() string { return s.name }

// Close closes idle connections. Sends under way go on; call it when there are none.
func (s *SNS) Close() { s.transport.CloseIdleConnections() }

// Send publishes a message to a number.
//
// Errors are *delivery.Error. Nothing was sent when no connection could be had (Transient); from the moment that one carries the request until a readable
// answer is in, the outcome is unknown (Ambiguous); an answer is judged by SNS's code (see snsCodes). A message whose sender SNS cannot have is Rejected,
// unsent.
func (s *SNS) Send(ctx context.Context, m *delivery.Message) (delivery.Accepted, error) {
	if m.ExpiresAt.Sub(s.limits.now()) < minLife {
		return delivery.Accepted{}, expiring()
	}
	attributes, ok := s.attributes(m)
	if !ok {
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Rejected, Reason: "the provider cannot send from the sender that the app wants"}
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.timeout)
	defer cancel()
	x := &snsExchange{transport: s.transport}
	out, err := s.client.Publish(ctx, &sns.PublishInput{PhoneNumber: &m.To, Message: &m.Text, MessageAttributes: attributes},
		func(o *sns.Options) { o.HTTPClient = x })
	switch {
	case x.status == 0:
		return delivery.Accepted{}, x.unanswered(ctx, err)
	case x.status < 200 || x.status > 299:
		return delivery.Accepted{}, s.refused(x, err, m)
	case err != nil || aws.ToString(out.MessageId) == "":
		return delivery.Accepted{}, &delivery.Error{Class: delivery.Ambiguous, Reason: "unreadable answer", Err: err}
	}
	return delivery.Accepted{Reference: *out.MessageId}, nil
}

// attributes says how the message is to be sent; false when its sender is none for SNS.
func (s *SNS) attributes(m *delivery.Message) (map[string]types.MessageAttributeValue, bool) {
	value := func(kind, v string) types.MessageAttributeValue {
		return types.MessageAttributeValue{DataType: &kind, StringValue: &v}
	}
	all := map[string]types.MessageAttributeValue{snsType: value("String", snsTransactional)}
	if s.maxPrice != "" {
		all[snsMaxPrice] = value("Number", s.maxPrice)
	}
	sender := m.Sender
	if sender == "" {
		sender = s.from
	}
	switch {
	case sender == "":
	case !validSNSSender(sender):
		return nil, false
	case snsNumberPattern.MatchString(sender):
		all[snsOrigination] = value("String", sender)
	default:
		all[snsSenderID] = value("String", sender)
	}
	return all, true
}

// refused turns an error answer into a delivery error.
func (s *SNS) refused(x *snsExchange, cause error, m *delivery.Message) *delivery.Error {
	var code, said string
	if refusal, ok := errors.AsType[smithy.APIError](cause); ok && refusal.ErrorCode() != unknownSNSCode {
		code, said = refusal.ErrorCode(), refusal.ErrorMessage()
	}
	v, known := judgeSNS(x.status, code, said)
	e := &delivery.Error{Class: v.class, Reason: v.reason, Code: code}
	if code == "" {
		e.Code = "HTTP " + strconv.Itoa(x.status)
	} else {
		e.Err = fmt.Errorf("sns: HTTP status %d, code %s: %s", x.status, code, withoutPrivate(said, m))
	}
	if v.class == delivery.Transient {
		e.RetryAfter = retryAfter(x.retryAfter, s.limits.now())
	}
	if !known {
		if _, logged := s.strange.LoadOrStore(code, true); !logged {
			s.limits.log.Warn("sns answered with a code that is not in the table", "code", code, "status", x.status, "class", v.class)
		}
	}
	return e
}

// A snsExchange is the HTTP client of one request: it sends, and keeps what was learned that the SDK's errors do not tell. It follows no redirect.
type snsExchange struct {
	transport http.RoundTripper

	// handed is true from the moment that the transport gives the request to a connection. See post, which does the same.
	handed     atomic.Bool
	err        error  // why there is no answer
	status     int    // of the answer; 0 until its header is in
	retryAfter string // the answer's header
}

// Do sends req and reads the answer whole, so that its connection can be used again.
func (x *snsExchange) Do(req *http.Request) (*http.Response, error) {
	res, err := x.transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { x.handed.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { x.handed.Store(true) },
	})))
	if err != nil {
		x.err = &url.Error{Op: req.Method, URL: req.URL.Redacted(), Err: err} // as an http.Client has it; the SDK looks for it
		return nil, x.err
	}
	defer res.Body.Close()
	x.status, x.retryAfter = res.StatusCode, res.Header.Get("Retry-After")
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBody+1))
	if err == nil && len(body) > maxAnswerBody {
		err = fmt.Errorf("the answer is longer than %d octets", maxAnswerBody)
	}
	if err != nil {
		return nil, fmt.Errorf("sns: read the answer: %w", err)
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// unanswered describes a request that got no answer; cause is what the SDK made of it.
func (x *snsExchange) unanswered(ctx context.Context, cause error) *delivery.Error {
	switch {
	case x.err != nil:
		return unanswered(x.err, x.handed.Load())
	case ctx.Err() != nil:
		return unanswered(ctx.Err(), false)
	default: // the SDK could not make a request of it
		return &delivery.Error{Class: delivery.Configuration, Reason: "the request could not be made", Err: cause}
	}
}

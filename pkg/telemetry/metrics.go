package telemetry

import (
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry returns a registry of the process's own, with what Go and the operating system tell of the process, and
// otpost_build_info{version,revision,goversion}, which is always 1.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(),
	)
	return reg
}

func buildInfo() prometheus.Collector {
	version, revision := "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "otpost_build_info",
		Help:        "The build of this process; the value is always 1.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}

// Other is the value that a label gets in place of one outside its bounds.
const Other = "other"

// maxValues bounds how many values a label without a closed list may take in the life of a process. Each value makes a time series that
// is never freed, so a label must not follow what users or apps choose: no app, user, address or error text.
const maxValues = 32

// Metrics are what otpost counts of its own work. Every label is bounded: channel and outcome to the lists given below, the others to
// the first 32 values that they take; what lies outside is counted as [Other].
type Metrics struct {
	// Messages (otpost_messages_total{stream,outcome}) counts messages by what became of them. stream is the JetStream stream;
	// outcome is done, retry, drop or dead.
	Messages *prometheus.CounterVec

	// BatchSize (otpost_batch_size{stream}) is how many messages a worker took at once.
	BatchSize *prometheus.HistogramVec

	// BatchSeconds (otpost_batch_seconds{stream}) is the time from taking a batch to having settled its last message.
	BatchSeconds *prometheus.HistogramVec

	// Challenges (otpost_challenges_total{result}) counts what login events came to: issued, skipped, refused; and how challenges
	// ended: verified, expired, exhausted, superseded, cancelled, locked, undeliverable.
	Challenges *prometheus.CounterVec

	// Deliveries (otpost_deliveries_total{channel,provider,result}) counts hand-overs to providers and their receipts. channel is sms, voice,
	// whatsapp, email or letter; provider is a name from the configuration; result is accepted, delivered, undelivered, failed, unconfirmed, expired.
	Deliveries *prometheus.CounterVec

	// DeliveriesUnsure (otpost_deliveries_unsure_total{channel,provider}) counts deliveries that are sent once more because nobody knows whether they went
	// out: a worker died, or a provider's answer was lost. provider is none where it is not known.
	DeliveriesUnsure *prometheus.CounterVec
	// ReceiptSeconds (otpost_receipt_seconds{channel,provider,state}) is how long after a provider took a message its receipt came: state is delivered,
	// undelivered or failed.
	ReceiptSeconds *prometheus.HistogramVec
	// Failovers (otpost_failovers_total{channel,provider,why}) counts deliveries that another took the place of: channel and provider are those that were
	// left; why is refused, lost, undelivered or late.
	Failovers *prometheus.CounterVec
	// StrayReceipts (otpost_stray_receipts_total{provider,why}) counts receipts of deliveries that are not there (unknown), that are another provider's
	// (other_provider), or that another has taken the place of (late).
	StrayReceipts *prometheus.CounterVec

	// DeliverySeconds (otpost_delivery_seconds{channel,provider}) is how long a provider took to accept or refuse a message.
	DeliverySeconds *prometheus.HistogramVec

	// ProviderBreaker (otpost_provider_breaker{channel,provider}) is 0 where messages go to the provider, 2 where it fails and rests, 1 where one message
	// tries whether it works again. ProviderWithheld (otpost_provider_withheld_total{channel,provider,reason}) counts messages that it was not asked to
	// take; reason is rate or breaker.
	ProviderBreaker  *prometheus.GaugeVec
	ProviderWithheld *prometheus.CounterVec

	// LoginSeconds (otpost_login_seconds{channel}) is the time from a login event to a provider's acceptance of its code: what a user
	// waits for, without the provider's own part.
	LoginSeconds *prometheus.HistogramVec

	// Verifications (otpost_verifications_total{result}) counts answers: verified, wrong, expired, exhausted, superseded, cancelled,
	// locked, unknown.
	Verifications *prometheus.CounterVec

	// VerificationSeconds (otpost_verification_seconds) is the time from receiving an answer to having replied to it.
	VerificationSeconds prometheus.Histogram

	// Requests (otpost_requests_total{verb,result}) counts the requests that were answered, but login and verify, which have metrics of their own. verb is as
	// in the subject, of support with "support." before it and of other workers with "internal."; result is ok, or the reason why not.
	Requests *prometheus.CounterVec

	// Notices (otpost_notices_waiting) is how many notices wait to be written, and NoticeAge (otpost_notices_oldest_seconds) for how long the
	// oldest of them has waited, 0 where there is none. Recoveries (otpost_recoveries{state}) is how many are under way; state is approval,
	// proving or waiting. Every enrolment worker tells of all of them: take the highest, not the sum. Other roles tell of none.
	Notices    prometheus.Gauge
	NoticeAge  prometheus.Gauge
	Recoveries *prometheus.GaugeVec

	// WebhookEvents (otpost_webhook_events_total{result}) counts events posted to webhooks by what came of it: delivered, failed (it is tried again), dead
	// (it was given up), gone (the target wants no more, the webhook is disabled). WebhookEventsWaiting (otpost_webhook_events_waiting) is how many wait to be
	// taken; every gateway tells of all of them: take the highest, not the sum.
	WebhookEvents        *prometheus.CounterVec
	WebhookEventsWaiting prometheus.Gauge

	// HTTPRequests (otpost_http_request_seconds{route,status}) is the time from receiving a request to having answered it. route is api, pages, support or
	// static; status is the class, such as 2xx.
	HTTPRequests *prometheus.HistogramVec

	// APIRequests (otpost_api_requests_total{result}) counts the requests of apps over HTTP. result is ok, or the code of the problem.
	APIRequests *prometheus.CounterVec

	// Callbacks (otpost_callbacks_total{provider,result}) counts what providers told of deliveries. provider is a name from the configuration, or none; result is
	// taken (passed on), stage (nothing new in it), unknown_state (not in our table: look), signature, malformed, unavailable (to come again), unknown_provider.
	Callbacks *prometheus.CounterVec

	// Workers (otpost_worker{role}) is 1 for each role that the process plays.
	Workers *prometheus.GaugeVec
}

// The closed lists of labels, and the results that the wire names, whose series exist from the start so that a rate over them is 0 and
// not absent until the first one happens.
var (
	channels      = []string{"sms", "voice", "whatsapp", "email", "letter"}
	outcomes      = []string{"done", "retry", "drop", "dead"}
	challenges    = []string{"issued", "skipped", "refused", "verified", "expired", "exhausted", "superseded", "cancelled", "locked", "undeliverable"}
	withheld      = []string{"rate", "breaker"}
	recoveries    = []string{"approval", "proving", "waiting"}
	callbacks     = []string{"taken", "stage", "unknown_state", "signature", "malformed", "unavailable", "unknown_provider"}
	webhookEvents = []string{"delivered", "failed", "dead", "gone"}
	verifications = []string{"verified", "wrong", "expired", "exhausted", "superseded", "cancelled", "locked", "unknown"}
)

// Buckets in seconds: short ones for what happens in the house, longer ones for what waits for a provider.
var (
	houseSeconds    = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	providerSeconds = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	receiptSeconds  = []float64{.1, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 900}
)

// NewMetrics registers the metrics with reg. It panics if they are registered there already, which is a fault in the program.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		Messages:     counter("otpost_messages_total", "Messages by what became of them.", first("stream"), oneOf("outcome", outcomes)),
		BatchSize:    histogram("otpost_batch_size", "Messages taken at once.", prometheus.ExponentialBuckets(1, 2, 11), first("stream")),
		BatchSeconds: histogram("otpost_batch_seconds", "Seconds from taking a batch to having settled it.", houseSeconds, first("stream")),
		Challenges:   counter("otpost_challenges_total", "What login events came to, and how challenges ended.", first("result")),
		Deliveries: counter("otpost_deliveries_total", "Hand-overs to providers, and their receipts.",
			oneOf("channel", channels), first("provider"), first("result")),
		DeliveriesUnsure: counter("otpost_deliveries_unsure_total", "Deliveries that are sent once more because nobody knows whether they went out.",
			oneOf("channel", channels), first("provider")),
		ReceiptSeconds: histogram("otpost_receipt_seconds", "Seconds from a provider's acceptance to its receipt.", receiptSeconds,
			oneOf("channel", channels), first("provider"), first("state")),
		Failovers:     counter("otpost_failovers_total", "Deliveries that another took the place of.", oneOf("channel", channels), first("provider"), first("why")),
		StrayReceipts: counter("otpost_stray_receipts_total", "Receipts that belong to no delivery that waits for them.", first("provider"), first("why")),
		DeliverySeconds: histogram("otpost_delivery_seconds", "Seconds that a provider took to answer.", providerSeconds,
			oneOf("channel", channels), first("provider")),
		LoginSeconds: histogram("otpost_login_seconds", "Seconds from a login event to a provider's acceptance of its code.", providerSeconds,
			oneOf("channel", channels)),
		Verifications: counter("otpost_verifications_total", "Answers by their result.", first("result")),
		VerificationSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "otpost_verification_seconds", Help: "Seconds from receiving an answer to having replied.", Buckets: houseSeconds,
		}),
	}
	m.ProviderBreaker = gauges("otpost_provider_breaker", "Whether a provider is sent messages: 0 yes, 1 one tries it, 2 it rests.",
		oneOf("channel", channels), first("provider"))
	m.ProviderWithheld = counter("otpost_provider_withheld_total", "Messages that a provider was not asked to take, by the reason.",
		oneOf("channel", channels), first("provider"), oneOf("reason", withheld))
	m.Requests = counter("otpost_requests_total", "Requests that were answered, by their result; without login and verify.", first("verb"), first("result"))
	m.Notices = gauge("otpost_notices_waiting", "Notices that wait to be written.")
	m.NoticeAge = gauge("otpost_notices_oldest_seconds", "Seconds that the oldest notice has waited to be written; 0 where there is none.")
	m.Recoveries = gauges("otpost_recoveries", "Recoveries under way, by state.", oneOf("state", recoveries))
	m.WebhookEvents = counter("otpost_webhook_events_total", "Events posted to webhooks, by what came of it.", oneOf("result", webhookEvents))
	m.WebhookEventsWaiting = gauge("otpost_webhook_events_waiting", "Events that wait to be taken by webhooks.")
	m.HTTPRequests = histogram("otpost_http_request_seconds", "Seconds from receiving an HTTP request to having answered it.", houseSeconds,
		first("route"), first("status"))
	m.APIRequests = counter("otpost_api_requests_total", "Requests of apps over HTTP, by their result.", first("result"))
	m.Callbacks = counter("otpost_callbacks_total", "What providers told of deliveries, by what came of it.", first("provider"), oneOf("result", callbacks))
	m.Workers = gauges("otpost_worker", "Roles that this process plays; the value is always 1.", first("role"))
	for _, result := range challenges {
		m.Challenges.WithLabelValues(result)
	}
	for _, result := range verifications {
		m.Verifications.WithLabelValues(result)
	}
	for _, result := range webhookEvents {
		m.WebhookEvents.WithLabelValues(result)
	}
	reg.MustRegister(m.Messages, m.BatchSize, m.BatchSeconds, m.Challenges, m.Deliveries, m.DeliverySeconds, m.DeliveriesUnsure, m.ReceiptSeconds, m.Failovers,
		m.StrayReceipts, m.ProviderBreaker, m.ProviderWithheld, m.LoginSeconds,
		m.Verifications, m.VerificationSeconds, m.Requests, m.Notices, m.NoticeAge, m.Recoveries, m.WebhookEvents, m.WebhookEventsWaiting,
		m.HTTPRequests, m.APIRequests, m.Callbacks, m.Workers)
	return m
}

func counter(name, help string, labels ...prometheus.ConstrainedLabel) *prometheus.CounterVec {
	return prometheus.V2.NewCounterVec(prometheus.CounterVecOpts{
		CounterOpts:    prometheus.CounterOpts{Name: name, Help: help},
		VariableLabels: prometheus.ConstrainedLabels(labels),
	})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func gauges(name, help string, labels ...prometheus.ConstrainedLabel) *prometheus.GaugeVec {
	return prometheus.V2.NewGaugeVec(prometheus.GaugeVecOpts{
		GaugeOpts:      prometheus.GaugeOpts{Name: name, Help: help},
		VariableLabels: prometheus.ConstrainedLabels(labels),
	})
}

func histogram(name, help string, buckets []float64, labels ...prometheus.ConstrainedLabel) *prometheus.HistogramVec {
	return prometheus.V2.NewHistogramVec(prometheus.HistogramVecOpts{
		HistogramOpts:  prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets},
		VariableLabels: prometheus.ConstrainedLabels(labels),
	})
}

// oneOf bounds a label to a closed list.
func oneOf(name string, values []string) prometheus.ConstrainedLabel {
	return prometheus.ConstrainedLabel{Name: name, Constraint: func(v string) string {
		if slices.Contains(values, v) {
			return v
		}
		return Other
	}}
}

// first bounds a label to the first maxValues words that it takes. What is not a word of letters, digits, "_", "-" and "." of at most
// 48 characters is no value for a label: an address or an error text that strayed here.
func first(name string) prometheus.ConstrainedLabel {
	var mu sync.RWMutex
	seen := map[string]bool{}
	return prometheus.ConstrainedLabel{Name: name, Constraint: func(v string) string {
		mu.RLock()
		known := seen[v]
		mu.RUnlock()
		if known {
			return v
		}
		if !isWord(v) {
			return Other
		}
		mu.Lock()
		defer mu.Unlock()
		if !seen[v] && len(seen) >= maxValues {
			return Other
		}
		seen[v] = true
		return v
	}}
}

func isWord(v string) bool {
	if v == "" || len(v) > 48 {
		return false
	}
	letters := false
	for _, r := range v {
		switch {
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			letters = true
		case r >= '0' && r <= '9', r == '_', r == '-', r == '.':
		default:
			return false
		}
	}
	return letters // digits alone would be a code or a phone number
}

package telemetry_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/otpost/otpost/pkg/telemetry"
)

func TestLoggerRedacts(t *testing.T) {
	const leak = "LEAK-4711"
	hidden := []slog.Attr{
		slog.String("code", leak), slog.String("Code", leak), slog.Any("codes", []string{leak}), slog.String("to", leak),
		slog.String("address", leak), slog.String("nonce", leak), slog.String("secret", leak), slog.String("password", leak),
		slog.String("token", leak), slog.String("nats_password", leak), slog.String("twilioAuthToken", leak), slog.String("api-key", leak),
		slog.String("app_api_key", leak), slog.String("Authorization", leak), slog.String("totp_secret", leak), slog.String("phone", leak),
		slog.String("backup_code", leak), slog.String("smsCode", leak),
		slog.Group("to", "sms", leak, "email", leak), slog.Group("request", slog.String("code", leak)),
		slog.Group("secret", slog.Group("inner", "value", leak)),
	}
	shown := []slog.Attr{
		slog.String("challenge", "seen"), slog.Int("status_code", 503), slog.String("error", "seen"), slog.String("stream", "seen"),
		slog.String("remote_address", "seen"), slog.String("total", "seen"), slog.String("listen", "seen"),
	}
	for _, format := range []string{"text", "json"} {
		for _, with := range []bool{false, true} {
			for _, a := range append(hidden, shown...) {
				var out bytes.Buffer
				log, err := telemetry.NewLogger(&out, format, "info")
				if err != nil {
					t.Fatal(err)
				}
				if with {
					log.With(a).Info("message")
				} else {
					log.Info("message", a)
				}
				line := out.String()
				if strings.Contains(line, leak) {
					t.Errorf("%s leaks: %s", format, line)
				}
				if strings.Contains(fmt.Sprint(a), "seen") && (!strings.Contains(line, "seen") || strings.Contains(line, "redacted")) {
					t.Errorf("%s hides what is harmless: %s", format, line)
				}
			}
		}
	}
}

func TestLoggerFormatAndLevel(t *testing.T) {
	for _, tt := range []struct{ format, level, want string }{
		{"text", "warn", "level=WARN"}, {"json", "WARN", `"level":"WARN"`},
	} {
		var out bytes.Buffer
		log, err := telemetry.NewLogger(&out, tt.format, tt.level)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("low")
		log.Warn("high")
		if strings.Contains(out.String(), "low") || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%s %s: %s", tt.format, tt.level, out.String())
		}
	}
	for _, bad := range [][2]string{{"xml", "info"}, {"text", "loud"}, {"text", ""}} {
		if _, err := telemetry.NewLogger(&bytes.Buffer{}, bad[0], bad[1]); err == nil {
			t.Errorf("NewLogger accepts %q", bad)
		}
	}
}

func TestMetricsAreRegisteredAndSound(t *testing.T) {
	reg := telemetry.NewRegistry()
	m := telemetry.NewMetrics(reg)
	m.Messages.WithLabelValues("OTPOST_LOGINS", "done").Add(3)
	m.BatchSize.WithLabelValues("OTPOST_LOGINS").Observe(3)
	m.BatchSeconds.WithLabelValues("OTPOST_LOGINS").Observe(.004)
	m.Deliveries.WithLabelValues("sms", "twilio", "accepted").Inc()
	m.DeliverySeconds.WithLabelValues("sms", "twilio").Observe(.2)
	m.LoginSeconds.WithLabelValues("sms").Observe(.3)
	m.Requests.WithLabelValues("factor.begin", "ok").Inc()
	m.Recoveries.WithLabelValues("waiting").Set(1)
	m.Workers.WithLabelValues("sms").Set(1)

	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range families {
		got[f.GetName()] = true
	}
	for _, name := range []string{
		"otpost_messages_total", "otpost_batch_size", "otpost_batch_seconds", "otpost_challenges_total", "otpost_deliveries_total",
		"otpost_delivery_seconds", "otpost_login_seconds", "otpost_verifications_total", "otpost_verification_seconds",
		"otpost_requests_total", "otpost_notices_waiting", "otpost_notices_oldest_seconds", "otpost_recoveries", "otpost_worker",
		"otpost_webhook_events_total", "otpost_webhook_events_waiting",
		"otpost_build_info", "go_goroutines",
	} {
		if !got[name] {
			t.Errorf("no metric %s", name)
		}
	}
	if n := testutil.CollectAndCount(m.Verifications); n != 8 {
		t.Errorf("%d results of verifications exist from the start, want the 8 of the wire", n)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "otpost_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if v := testutil.ToFloat64(m.Messages.WithLabelValues("OTPOST_LOGINS", "done")); v != 3 {
		t.Errorf("messages = %v", v)
	}
}

func TestLabelsAreBounded(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.NewRegistry())
	for i := range 1000 {
		m.Deliveries.WithLabelValues("sms", fmt.Sprintf("provider-%d", i), "accepted").Inc()
	}
	if n := testutil.CollectAndCount(m.Deliveries); n != 33 { // 32 and "other"
		t.Errorf("1000 providers make %d series", n)
	}
	if v := testutil.ToFloat64(m.Deliveries.WithLabelValues("sms", telemetry.Other, "accepted")); v != 968 {
		t.Errorf("other providers counted %v times", v)
	}
	for _, stray := range []string{"user@example.com", "+14155550100", "14155550100", "dial tcp: refused", "", strings.Repeat("a", 49)} {
		m.Verifications.WithLabelValues(stray).Inc()
	}
	m.Recoveries.WithLabelValues("alice's").Set(1)
	if v := testutil.ToFloat64(m.Recoveries.WithLabelValues(telemetry.Other)); v != 1 {
		t.Errorf("recoveries of an unknown state are %v, want them as other", v)
	}
	m.Messages.WithLabelValues("S", "exploded").Inc()
	if v := testutil.ToFloat64(m.Verifications.WithLabelValues(telemetry.Other)); v != 6 {
		t.Errorf("stray results counted %v times as other", v)
	}
	if v := testutil.ToFloat64(m.Messages.WithLabelValues("S", telemetry.Other)); v != 1 {
		t.Errorf("an outcome outside the list counted %v times as other", v)
	}
}

func BenchmarkCount(b *testing.B) {
	m := telemetry.NewMetrics(telemetry.NewRegistry())
	b.ReportAllocs()
	for b.Loop() {
		m.Deliveries.WithLabelValues("sms", "twilio", "accepted").Inc()
	}
}

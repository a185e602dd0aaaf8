package limit

import (
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/event"
	"github.com/otpost/otpost/pkg/postgres"
)

func TestMoney(t *testing.T) {
	for micro, want := range map[int64]string{0: "0.00", 7_900: "0.0079", 25_000_000: "25.00", 1_500_001: "1.500001", 100_000: "0.10"} {
		if got := money(micro); got != want {
			t.Errorf("%d is %s, want %s", micro, got, want)
		}
	}
}

// An alarm is known by its day, so that the same one is told once.
func TestAlarm(t *testing.T) {
	at := time.Date(2026, 11, 21, 23, 59, 0, 0, time.FixedZone("", -3600)) // the 22nd in UTC
	r := postgres.Raised{Limit: postgres.Limit{Of: "US"}, Spent: 800_000, At: at}
	r.Limit.Bound.Day = 1_000_000
	e := Alarm("demo", r)
	a, ok := e.Data.(event.Alarm)
	if !ok || a.Alarm != event.AlarmSpendWarning || a.Spent != "0.80" || a.Cap != "1.00" || a.Country != "US" || a.Until != "2026-11-23T00:00:00.000Z" {
		t.Errorf("the warning is %+v", e.Data)
	}
	if !strings.HasSuffix(e.ID, "/2026-11-22") || e.App != "demo" || e.Name != event.AlarmRaised {
		t.Errorf("its event is %+v", e)
	}
	r.Reached = true
	if again := Alarm("demo", r); again.ID == e.ID {
		t.Error("the warning and the alarm have one id")
	}
}

package delivery_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/otpost/otpost/pkg/delivery"
	"github.com/otpost/otpost/pkg/message"
	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// What an operator sets is what the next message says; what is not fit is told once; and while the database is away the last words serve on.
func TestWordsReachTheCatalogs(t *testing.T) {
	t.Parallel()
	db, log := otposttest.Postgres(t), otposttest.Logger(t)
	app := db.App(t, "shop")
	operator := postgres.NewTemplates(db.Role("operator"))
	ctx := t.Context()
	catalogs := [2]*message.Catalog{}
	for i := range catalogs {
		var err error
		if catalogs[i], err = message.New(); err != nil {
			t.Fatal(err)
		}
	}
	pool := db.Role("sms")
	words := delivery.NewWords(postgres.NewTemplates(pool), log.Logger)
	words.Serve(catalogs[0])

	text := func(c *message.Catalog, name string) string {
		t.Helper()
		m, err := c.SMS(message.Input{AppKey: name, App: "Shop", Code: "123456", Locale: "en", Life: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return m.Text
	}
	set := func(purpose, text string) {
		t.Helper()
		if err := operator.Set(ctx, time.Now(), app.ID, postgres.Template{Channel: otp.SMS, Purpose: purpose, Text: text}); err != nil {
			t.Fatal(err)
		}
		if err := words.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
	}
	set("login", "One {{code}}")
	if got := text(catalogs[0], "shop"); got != "One 123456" {
		t.Errorf("%q", got)
	}
	if got := text(catalogs[0], "bank"); !strings.HasPrefix(got, "123456 is your Shop code.") {
		t.Errorf("another app says %q", got)
	}
	words.Serve(catalogs[1])
	if got := text(catalogs[1], "shop"); got != "One 123456" {
		t.Errorf("a catalog that comes later says %q", got)
	}
	set("login", "Two {{code}}")
	for _, c := range catalogs {
		if got := text(c, "shop"); got != "Two 123456" {
			t.Errorf("after a change %q", got)
		}
	}
	set("recovery", "no code")
	if err := words.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if got := text(catalogs[0], "shop"); got != "Two 123456" || strings.Count(log.Logs(), "not fit") != 1 {
		t.Errorf("beside an unfit one %q, and the log has %s", got, log.Logs())
	}

	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	if err := operator.Set(ctx, time.Now(), app.ID, postgres.Template{Channel: otp.SMS, Purpose: "login", Text: "Three {{code}}"}); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- words.Run(running) }()
	otposttest.Eventually(t, "the words that were set before the start", func() bool { return text(catalogs[0], "shop") == "Three 123456" })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	pool.Close()
	if err := words.Refresh(ctx); err == nil {
		t.Error("a closed database was read")
	}
	if got := text(catalogs[0], "shop"); got != "Three 123456" {
		t.Errorf("without the database %q", got)
	}
	var none *delivery.Words
	none.Serve(catalogs[0])
}

package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/otpost/otpost/pkg/otp"
	"github.com/otpost/otpost/pkg/otposttest"
	"github.com/otpost/otpost/pkg/postgres"
)

// Words and senders are written by the operator alone, and read by those who need them.
func TestAppsHaveTheirOwnWordsAndSenders(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	ctx, now := t.Context(), time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	operator := postgres.NewTemplates(db.Role("operator"))
	ids := map[string]int{}
	for _, name := range []string{"shop", "bank"} {
		id, err := postgres.NewApps(db.Role("operator")).Create(ctx, postgres.App{Name: name, DisplayName: name, Locale: "en", Policy: otp.DefaultPolicy()})
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = id
	}
	set := func(app string, w postgres.Template) {
		t.Helper()
		if err := operator.Set(ctx, now, ids[app], w); err != nil {
			t.Fatal(err)
		}
	}
	set("shop", postgres.Template{Channel: otp.SMS, Purpose: "login", Text: "old {{code}}"})
	set("shop", postgres.Template{Channel: otp.SMS, Purpose: "login", Text: "{{code}}"})
	set("shop", postgres.Template{Channel: otp.SMS, Purpose: "login", Locale: "de", Text: "de {{code}}"})
	set("bank", postgres.Template{Channel: otp.Email, Purpose: "transaction", Subject: "s", Text: "t", HTML: "h"})

	want := []postgres.Template{
		{App: "bank", Channel: otp.Email, Purpose: "transaction", Subject: "s", Text: "t", HTML: "h"},
		{App: "shop", Channel: otp.SMS, Purpose: "login", Text: "{{code}}"},
		{App: "shop", Channel: otp.SMS, Purpose: "login", Locale: "de", Text: "de {{code}}"},
	}
	ignored := cmpopts.IgnoreFields(postgres.Template{}, "UpdatedAt")
	for _, role := range []string{"sms", "email"} {
		all, err := postgres.NewTemplates(db.Role(role)).All(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, all, ignored); diff != "" {
			t.Errorf("%s reads (-want +got):\n%s", role, diff)
		}
		if err := postgres.NewTemplates(db.Role(role)).Set(ctx, now, ids["shop"], want[1]); err == nil {
			t.Errorf("%s may write words", role)
		}
	}
	if _, err := postgres.NewTemplates(db.Role("verification")).All(ctx); err == nil {
		t.Error("verification may read words")
	}
	if err := operator.Remove(ctx, ids["shop"], otp.SMS, "login", ""); err != nil {
		t.Fatal(err)
	}
	if err := operator.Remove(ctx, ids["shop"], otp.SMS, "login", ""); !errors.Is(err, postgres.ErrNoTemplate) {
		t.Errorf("removed twice: %v", err)
	}
	if list, err := operator.List(ctx, ids["shop"]); err != nil || len(list) != 1 || list[0].Locale != "de" || !list[0].UpdatedAt.Equal(now) {
		t.Errorf("the rest: %+v, %v", list, err)
	}

	for _, s := range []postgres.Sender{
		{Channel: otp.SMS, Country: "CZ", Sender: "OLD"},
		{Channel: otp.SMS, Country: "CZ", Sender: "SHOP"},
		{Channel: otp.SMS, Sender: "+12025550123"},
		{Channel: otp.Voice, Country: "US", Sender: "+12025550124"},
	} {
		if err := operator.SetSender(ctx, now, ids["shop"], s); err != nil {
			t.Fatal(err)
		}
	}
	senders, err := postgres.NewTemplates(db.Role("challenge")).Senders(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		app     string
		channel otp.Channel
		country string
		want    string
	}{
		{"shop", otp.SMS, "CZ", "SHOP"},
		{"shop", otp.SMS, "DE", "+12025550123"},
		{"shop", otp.SMS, "", "+12025550123"},
		{"shop", otp.Voice, "US", "+12025550124"},
		{"shop", otp.Voice, "CZ", ""},
		{"bank", otp.SMS, "CZ", ""},
	} {
		if got := senders.Of(tt.app, tt.channel, tt.country); got != tt.want {
			t.Errorf("%s, %s to %q: %q, want %q", tt.app, tt.channel, tt.country, got, tt.want)
		}
	}
	if _, err := postgres.NewTemplates(db.Role("sms")).Senders(ctx); err == nil {
		t.Error("sms may read senders; commands name them")
	}
	if err := operator.RemoveSender(ctx, ids["shop"], otp.SMS, "CZ"); err != nil {
		t.Fatal(err)
	}
	if err := operator.RemoveSender(ctx, ids["shop"], otp.SMS, "CZ"); !errors.Is(err, postgres.ErrNoSender) {
		t.Errorf("removed twice: %v", err)
	}
	if list, err := operator.ListSenders(ctx, ids["shop"]); err != nil || len(list) != 2 || list[0].Sender != "+12025550123" || list[1].Channel != otp.Voice {
		t.Errorf("the rest: %+v, %v", list, err)
	}
}

func TestSenderCheck(t *testing.T) {
	for _, s := range []postgres.Sender{
		{Channel: otp.SMS, Country: "CZ", Sender: "SHOP"},
		{Channel: otp.SMS, Sender: "My Shop"},
		{Channel: otp.SMS, Sender: "ABCDEFGHIJK"},
		{Channel: otp.SMS, Sender: "A"},
		{Channel: otp.SMS, Sender: "24SHOP"},
		{Channel: otp.SMS, Sender: "12345"},
		{Channel: otp.SMS, Sender: "+420601123456"},
		{Channel: otp.WhatsApp, Sender: "+420601123456"},
		{Channel: otp.Voice, Country: "US", Sender: "+15005550006"},
	} {
		if err := s.Check(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for field, list := range map[string][]postgres.Sender{
		"channel: ": {{Channel: otp.Email, Sender: "SHOP"}, {Sender: "SHOP"}},
		"country: ": {{Channel: otp.SMS, Country: "cz", Sender: "SHOP"}, {Channel: otp.SMS, Country: "XX", Sender: "SHOP"}, {Channel: otp.SMS, Country: "*", Sender: "SHOP"}},
		"sender: ": {
			{Channel: otp.SMS},
			{Channel: otp.SMS, Sender: "ABCDEFGHIJKL"},
			{Channel: otp.SMS, Sender: "OBCHŮDEK"},
			{Channel: otp.SMS, Sender: " SHOP"},
			{Channel: otp.SMS, Sender: "SHOP "},
			{Channel: otp.SMS, Sender: "12"},
			{Channel: otp.SMS, Sender: "123456789"},
			{Channel: otp.SMS, Sender: "1-2"},
			{Channel: otp.SMS, Sender: "+0123456789"},
			{Channel: otp.SMS, Sender: "SHOP\n"},
			{Channel: otp.SMS, Sender: "shop.cz"},
			{Channel: otp.Voice, Sender: "SHOP"},
			{Channel: otp.WhatsApp, Sender: "12345"},
		},
	} {
		for _, s := range list {
			if err := s.Check(); err == nil || !strings.HasPrefix(err.Error(), field) {
				t.Errorf("%+v: %v, want %q", s, err, field)
			}
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/otposttest"
)

func TestTemplateCommands(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator")}}
	sh.ok("app", "create", "shop", "--display-name=The Shop", "--origin=https://shop.example", "--locale=de")
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	says := func(out string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("it does not say %q:\n%s", w, out)
			}
		}
	}

	// otpost's own words, before there are others
	out := sh.ok("template", "try", "shop", "--channel=sms", "--locale=en")
	says(out, "123456 is your The Shop code. It expires in 5 minutes. Do not share it with anyone.\n\n@shop.example #123456\n")
	has(t, out, "encoding", "GSM-7")
	has(t, out, "units", "106")
	has(t, out, "segments", "1")
	out = sh.ok("template", "try", "shop", "--channel=sms", "--locale=cs", "--purpose=transaction", "--payee=Ořech")
	says(out, "39.99 EUR", "Ořech")
	has(t, out, "encoding", "UCS-2")
	has(t, out, "segments", "2")
	says(sh.ok("template", "try", "shop", "--channel=sms", "--locale=en", "--hash=FA+9qCX9VSu"), "anyone.\n\nFA+9qCX9VSu\n")
	says(sh.ok("template", "try", "shop", "--channel=voice", "--locale=cs"), "1, 2, 3, 4, 5, 6.")
	says(sh.ok("template", "try", "shop", "--channel=whatsapp", "--purpose=recovery"), "Wiederherstellungscode")
	says(sh.ok("template", "try", "shop", "--channel=email", "--locale=en"), "Subject: 123456 is your The Shop code\n", "--- HTML\n<!doctype html>")
	sh.fails(1, []string{"newsletter"}, "template", "try", "shop", "--channel=sms", "--purpose=newsletter")

	// tried, and not set
	out = sh.ok("template", "try", "shop", "--channel=sms", "--text={{app}}: {{code}}. {{expires}}")
	says(out, "The Shop: 123456. Der Code ist 5 Minuten gültig.\n\n@shop.example #123456\n")
	if out := sh.ok("template", "list", "shop"); strings.Count(out, "\n") != 1 {
		t.Errorf("trying set something:\n%s", out)
	}

	// set, for all languages and for one
	out = sh.ok("template", "set", "shop", "--channel=sms", "--text={{app}}: {{code}}. {{expires}}")
	says(out, "The Shop: 123456. Der Code ist 5 Minuten gültig.", "\nset; within three seconds")
	sh.ok("template", "set", "shop", "--channel=sms", "--locale=en", "--text-file="+file("en.txt", "{{code}} for {{app}}\n"))
	sh.ok("template", "set", "shop", "--channel=email", "--purpose=transaction", "--subject={{app}}", "--text-file="+file("mail.txt", "{{amount}} to {{payee}}\n\n{{code}}\n"),
		"--html-file="+file("mail.html", "<p>{{amount}} to {{payee}}: <b>{{code}}</b></p>\n"))
	says(sh.ok("template", "try", "shop", "--channel=sms", "--locale=en"), "123456 for The Shop\n\n@")
	says(sh.ok("template", "try", "shop", "--channel=sms", "--locale=fr"), "The Shop: 123456. Ce code expire dans 5 minutes.\n\n@")
	says(sh.ok("template", "try", "shop", "--channel=email", "--purpose=transaction"), "Subject: The Shop\n\n39.99 EUR to Corner Books Ltd\n\n123456\n", "<b>123456</b>")
	out = sh.ok("template", "list", "shop")
	says(out, "{{amount}} to {{payee}} {{code}}\n", "{{code}} for {{app}}\n")
	if strings.Count(out, "\n") != 4 {
		t.Errorf("list:\n%s", out)
	}
	if out := sh.ok("template", "show", "shop", "--channel=sms"); out != "{{app}}: {{code}}. {{expires}}\n" {
		t.Errorf("show:\n%s", out)
	}
	says(sh.ok("template", "show", "shop", "--channel=email", "--purpose=transaction"), "Subject: {{app}}\n\n{{amount}} to {{payee}}\n\n{{code}}\n\n--- HTML\n<p>")

	// refused when set, with the reason
	for words, flags := range map[string][]string{
		"--text: unknown variable {{kode}}":             {"--channel=sms", "--text={{kode}}"},
		"--text: {{code}} is missing":                   {"--channel=sms", "--text=hello"},
		"--text: must not be empty":                     {"--channel=sms"},
		"--text: takes up to 5 segments":                {"--channel=sms", "--text={{code}} " + strings.Repeat("a", 590)},
		"--text: must have no link":                     {"--channel=email", "--text={{code}} https://shop.example"},
		"--subject: only an email":                      {"--channel=sms", "--text={{code}}", "--subject=x"},
		"--html-file: <a> is not allowed":               {"--channel=email", "--text={{code}}", "--html-file=" + file("a.html", "<a href='x'>{{code}}</a>")},
		"--locale: must be one of":                      {"--channel=sms", "--text={{code}}", "--locale=tlh"},
		"--locale: must be given for a call":            {"--channel=voice", "--text={{code}}"},
		"--purpose: notices are worded by otpost":       {"--channel=sms", "--text={{code}}", "--purpose=factor_added"},
		"--purpose: must be one of login":               {"--channel=sms", "--text={{code}}", "--purpose=newsletter"},
		"--text-file: give no --text":                   {"--channel=sms", "--text={{code}}", "--text-file=" + file("x.txt", "x")},
		"otpost template set: --text-file: unknown var": {"--channel=sms", "--text-file=" + file("z.txt", "{{kode}}")},
		"--text-file: open":                             {"--channel=sms", "--text-file=" + filepath.Join(t.TempDir(), "none")},
		"--text-file: must be a text in UTF-8":          {"--channel=sms", "--text-file=" + file("y.txt", "{{code}} \xff")},
		"--text: {{amount}} or {{payee}} is missing":    {"--channel=whatsapp", "--purpose=transaction", "--text={{code}}"},
		"--text: only a transaction has {{amount}} an":  {"--channel=sms", "--text={{code}} {{amount}}"},
	} {
		sh.fails(1, []string{words}, append([]string{"template", "set", "shop"}, flags...)...)
	}
	sh.fails(1, []string{"--text: unknown variable"}, "template", "try", "shop", "--channel=sms", "--text={{kode}}")
	sh.fails(2, []string{"--channel"}, "template", "set", "shop", "--channel=pigeon", "--text={{code}}")
	sh.fails(1, []string{"ghost"}, "template", "list", "ghost")

	says(sh.ok("template", "remove", "shop", "--channel=sms", "--locale=en"), "otpost's own words")
	sh.fails(1, []string{"shop: the app has no words"}, "template", "remove", "shop", "--channel=sms", "--locale=en")
	sh.fails(1, []string{"shop: the app has no words"}, "template", "show", "shop", "--channel=sms", "--locale=en")
	says(sh.ok("template", "try", "shop", "--channel=sms", "--locale=en"), "The Shop: 123456. It expires in 5 minutes.\n\n@")
}

func TestSenderCommands(t *testing.T) {
	t.Parallel()
	db := otposttest.Postgres(t)
	sh := shell{t, map[string]string{"OTPOST_DATABASE_URL": db.URL("operator")}}
	sh.ok("app", "create", "shop")
	if out := sh.ok("sender", "set", "shop", "--country=CZ", "--sender=SHOP"); out != "sms of app shop to CZ comes from SHOP\n" {
		t.Errorf("it says %q", out)
	}
	sh.ok("sender", "set", "shop", "--sender=+12025550123")
	sh.ok("sender", "set", "shop", "--channel=voice", "--country=US", "--sender=+12025550124")
	out := sh.ok("sender", "list", "shop")
	has(t, out, "sms", "-", "+12025550123")
	has(t, out, "sms", "CZ", "SHOP")
	has(t, out, "voice", "US", "+12025550124")
	for words, flags := range map[string][]string{
		"--country: must be the code of a country":     {"--country=Czechia", "--sender=SHOP"},
		"--sender: must be a number such as":           {"--country=CZ", "--sender=A name too long"},
		"--sender: must be a number such as +12025550": {"--channel=whatsapp", "--sender=SHOP"},
	} {
		sh.fails(1, []string{words}, append([]string{"sender", "set", "shop"}, flags...)...)
	}
	sh.fails(2, []string{"--sender"}, "sender", "set", "shop")
	sh.ok("sender", "remove", "shop", "--country=CZ")
	sh.fails(1, []string{"shop: the app has no sender"}, "sender", "remove", "shop", "--country=CZ")
}

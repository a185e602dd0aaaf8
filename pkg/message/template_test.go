package message

import (
	"slices"
	"strings"
	"testing"

	"github.com/otpost/otpost/pkg/otp"
)

func own1(channel otp.Channel, purpose, text string) Template {
	t := Template{Channel: channel, Purpose: purpose, Text: text}
	if channel == otp.Voice {
		t.Locale = "en"
	}
	return t
}

func TestTemplatesThatAreTaken(t *testing.T) {
	c := newCatalog(t)
	for name, tmpl := range map[string]Template{
		"sms":                own1(otp.SMS, "login", "SHOP: your code is {{code}}. {{expires}}"),
		"code at once":       own1(otp.SMS, "login", "{{code}}"),
		"spaces in braces":   own1(otp.SMS, "login", "{{ code }} ({{ app }})"),
		"transaction":        own1(otp.SMS, "transaction", "{{code}}: {{amount}} to {{payee}}"),
		"own host":           own1(otp.SMS, "login", "Shop.example: {{code}}"),
		"an address":         own1(otp.SMS, "login", "{{code}} help: tom@shop.example"),
		"recovery":           own1(otp.WhatsApp, "recovery", "{{code}} resets your sign-in at {{app}}."),
		"voice":              own1(otp.Voice, "login", "This is {{app}}. {{code}}."),
		"email":              {Channel: otp.Email, Purpose: "login", Subject: "{{code}} for {{app}}", Text: "Your code:\n\n{{code}}\n\n{{expires}}\n"},
		"email of DOS":       {Channel: otp.Email, Purpose: "login", Text: "Your code:\r\n\r\n{{code}}\r\n"},
		"html":               {Channel: otp.Email, Purpose: "login", Text: "{{code}}", HTML: `<h1 style="color:#333">{{app}}</h1><p>Code: <b>{{code}}</b><br>{{expires}}</p><hr/>`},
		"html table":         {Channel: otp.Email, Purpose: "add_factor", Text: "{{code}}", HTML: `<table role="presentation" width="100%"><tr><td align=center>{{code}}</td></tr></table>`},
		"one language":       {Channel: otp.SMS, Purpose: "login", Locale: "de", Text: "{{code}} ist der Code für {{app}}. {{expires}}"},
		"Japanese":           {Channel: otp.SMS, Purpose: "transaction", Locale: "ja", Text: "{{code}}。{{amount}} を {{payee}} へ"},
		"percent and braces": own1(otp.SMS, "login", "100 % {yours}: {{code}}"),
	} {
		if err := c.Check(tmpl, Limits{App: "Shop", Origin: "https://shop.example", Digits: 6}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTemplatesThatAreRefused(t *testing.T) {
	c := newCatalog(t)
	sms := func(text string) Template { return own1(otp.SMS, "login", text) }
	html := func(body string) Template {
		return Template{Channel: otp.Email, Purpose: "login", Text: "{{code}}", HTML: body}
	}
	for name, tt := range map[string]struct {
		tmpl Template
		want string // the error begins with it or has it
	}{
		"letter":                  {own1(otp.Letter, "recovery", "{{code}}"), "channel: "},
		"notice":                  {own1(otp.SMS, string(otp.NoticeFactorAdded), "{{app}}"), "purpose: notices"},
		"purpose":                 {own1(otp.SMS, "newsletter", "{{code}}"), "purpose: must be one of login, "},
		"locale":                  {Template{Channel: otp.SMS, Purpose: "login", Locale: "nl", Text: "{{code}}"}, "locale: must be one of en, "},
		"voice of no language":    {Template{Channel: otp.Voice, Purpose: "login", Text: "{{code}}"}, "locale: "},
		"subject of an SMS":       {Template{Channel: otp.SMS, Purpose: "login", Subject: "x", Text: "{{code}}"}, "subject: only"},
		"HTML of an SMS":          {Template{Channel: otp.SMS, Purpose: "login", HTML: "<p>x</p>", Text: "{{code}}"}, "html: only"},
		"nothing":                 {sms(" "), "text: must not be empty"},
		"no code":                 {sms("Hello from {{app}}"), "text: {{code}} is missing"},
		"unknown variable":        {sms("{{code}} {{user}}"), "text: unknown variable {{user}}"},
		"Go template":             {sms("{{.Code}}"), "text: unknown variable {{.Code}}"},
		"open braces":             {sms("{{code}} {{app"), `text: has "{{"`},
		"closing braces":          {sms("{{code}} app}}"), `text: has "}}"`},
		"two codes":               {sms("{{code}} {{code}}"), "text: {{code}} must stand there once"},
		"code in a word":          {sms("X{{code}}"), "text: {{code}} must stand by itself"},
		"digit after the code":    {sms("{{code}}0"), "text: {{code}} must stand by itself"},
		"a mark after the code":   {sms("{{code}}\u0301"), "text: {{code}} must stand by itself"},
		"a value after the code":  {sms("{{code}}{{app}}"), "text: {{code}} must stand by itself"},
		"a value before the code": {sms("{{app}}{{code}}"), "text: {{code}} must stand by itself"},
		"payment of a login":      {sms("{{code}} {{amount}}"), "text: only a transaction"},
		"no payee":                {own1(otp.SMS, "transaction", "{{code}}: {{amount}}"), "text: {{amount}} or {{payee}} is missing"},
		"no amount":               {own1(otp.Voice, "transaction", "{{code}}: {{payee}}"), "text: {{amount}} or {{payee}} is missing"},
		"payee first":             {own1(otp.SMS, "transaction", "{{payee}} {{amount}} {{code}}"), "text: must not begin"},
		"line break":              {sms("{{code}}\n{{app}}"), "text: must be one line"},
		"control character":       {sms("{{code}}\x07"), "text: has the character U+0007"},
		"bidi control":            {sms("{{code}} \u202eelpmaxe"), "text: has the character U+202E"},
		"zero width":              {sms("{{code}} a\u200bb"), "text: has the character U+200B"},
		"line separator":          {sms("{{code}}\u2028x"), "text: has the character U+2028"},
		"no UTF-8":                {sms("{{code}} \xff"), "text: has the character U+FFFD"},
		"link":                    {sms("{{code}} https://shop.example"), "text: must have no link"},
		"link in capitals":        {sms("{{code}} HTTP://shop.example"), "text: must have no link"},
		"link without scheme":     {sms("{{code}} www.shop.example"), "text: must have no link"},
		"link with a path":        {sms("{{code}} shop.example/login"), "text: must have no link"},
		"imitation":               {sms("{{code}} @evil.example #123"), `text: no word may begin with "@"`},
		"wide imitation":          {sms("＠evil.example {{code}}"), `text: no word may begin with "@"`},
		"too long":                {sms("{{code}} " + strings.Repeat("a", 600)), "text: takes up to 5 segments"},
		"too long in UCS-2":       {sms("{{code}} " + strings.Repeat("ě", 250)), "text: takes up to 5 segments"},
		"too long for WhatsApp":   {own1(otp.WhatsApp, "login", "{{code}} "+strings.Repeat("a", 1100)), "text: has up to"},
		"too long for a call":     {own1(otp.Voice, "login", "{{code}} "+strings.Repeat("a", 600)), "text: has up to"},
		"too long for any":        {own1(otp.Email, "login", "{{code}} "+strings.Repeat("a", 4000)), "text: has more than 4000"},
		"subject too long":        {Template{Channel: otp.Email, Purpose: "login", Subject: strings.Repeat("{{expires}} ", 3) + strings.Repeat("a", 100), Text: "{{code}}"}, "subject: has up to"},
		"subject of two lines":    {Template{Channel: otp.Email, Purpose: "login", Subject: "a\nBcc: b", Text: "{{code}}"}, "subject: must be one line"},
		"subject with a link":     {Template{Channel: otp.Email, Purpose: "login", Subject: "https://x", Text: "{{code}}"}, "subject: must have no link"},
		"recovery in the subject": {Template{Channel: otp.Email, Purpose: "recovery", Subject: "{{code}}", Text: "{{code}}"}, "subject: the code of a recovery"},
		"HTML without code":       {html("<p>Hello</p>"), "html: {{code}} is missing"},
		"script":                  {html("<script>alert(1)</script>{{code}}"), "html: <script> is not allowed: mail"},
		"img":                     {html("<p>{{code}}<img src=x></p>"), "html: <img> is not allowed: an email with a code fetches nothing"},
		"a":                       {html("<a href=x>{{code}}</a>"), "html: <a> is not allowed: an email with a code has no link"},
		"whole page":              {html("<html><body>{{code}}</body></html>"), "html: <html> is not allowed: give"},
		"svg":                     {html("<svg></svg>{{code}}"), "html: <svg> is not allowed"},
		"handler":                 {html("<p onclick=x>{{code}}</p>"), `html: <p> has the attribute "onclick"`},
		"background":              {html("<td background=x>{{code}}</td>"), `html: <td> has the attribute "background"`},
		"style that fetches":      {html(`<p style="background:URL(//evil.example/x)">{{code}}</p>`), "html: <p> has a style"},
		"style in escapes":        {html(`<p style="background:u\72l(x)">{{code}}</p>`), "html: <p> has a style"},
		"style in entities":       {html(`<p style="background:&#117;rl(x)">{{code}}</p>`), "html: <p> has a style"},
		"not closed":              {html("<p><b>{{code}}</p>"), "html: </p> closes nothing"},
		"not closed at the end":   {html("<p>{{code}}"), "html: <p> is not closed"},
		"closed by itself":        {html("<div/>{{code}}"), "html: <div/>"},
		"ends in a tag":           {html("{{code}}<p"), "html: "},
		"stray angle bracket":     {html("1 < 2 {{code}}"), `html: has a "<"`},
		"comment":                 {html("<!-- x -->{{code}}"), "html: must have no comment"},
		"doctype":                 {html("<!doctype html>{{code}}"), "html: must have no comment"},
		"value in a tag":          {html(`<p title="{{app}}">{{code}}</p>`), "html: a variable stands within a tag"},
		"value as a tag":          {html(`<{{app}}>{{code}}`), "html: "},
		"link in HTML":            {html(`<p>{{code}} https<b></b>://evil.example</p>`), "html: must have no link"},
		"link in an attribute":    {html(`<p title="https://evil.example">{{code}}</p>`), "html: <p title>: must have no link"},
		"hidden in an entity":     {html(`<p>{{code}} &#x202e;</p>`), "html: has the character U+202E"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Check(tt.tmpl, Limits{App: "Shop", Origin: "https://shop.example", Digits: 6})
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			depends := []string{"too long", "too long in UCS-2", "subject too long", "link without scheme"} // on the app's name and origin
			if err := c.SetOverrides(map[string][]Template{"shop": {tt.tmpl}}); !slices.Contains(depends, name) && err == nil {
				t.Error("it was put to use")
			}
		})
	}
}

// What mail programs and phones make a link of, or dial, or what a value could turn into one.
func TestLinksAreRefused(t *testing.T) {
	const link, at, beside, number, lone = "must have no link", `no word may begin with "@"`, "put a space", "must have no phone number", "stands alone on a line"
	c := newCatalog(t)
	for text, want := range map[string]string{
		"Visit evil.com now {{code}}":               link,
		"{{code}} login-shop.com?u=1":               link,
		"{{code}} evil.com:8080/x":                  link,
		"{{code}} evil.com#x":                       link,
		"{{code}} evil.com.":                        link,
		"{{code}} (evil.com)":                       link,
		"{{code}} evil.com-now":                     link,
		"{{code}} evil.com_now":                     link,
		"{{code}} EVIL.COM":                         link,
		"{{code}} evil.co.uk":                       link,
		"{{code}} пример.рф/путь":                   link,
		"{{code}} пример.рф":                        link,
		"{{code}} 例え.テスト":                           link,
		"{{code}} evil.xn--p1ai":                    link,
		"{{code}} evil．com":                         link,
		"{{code}} evil。com":                         link,
		"{{code}} evil·com":                         link, // which folds to a full stop
		"{{code}} 192.168.1.1/x":                    link,
		"{{code}} https:⁄⁄evil":                     link,
		"The code is {{code}}. It ends.Then a word": "after the full stop",
		"{{code}} tom@evil.com":                     link,
		"{{code}} shop.example/login":               link,
		"{{code}} shop.example:8080":                link,
		"{{code}} shop.example?u=1":                 link,
		"{{code}} shop.example.evil.com":            link,
		"{{code}} evil-shop.example":                link,
		"{{code}} my.shop.example":                  link,
		"{{code}} {{app}}shop.example":              link,
		"{{code}} shop.example{{app}}":              link,
		"{{code}} //shop.example":                   link,
		"{{code}} {{expires}}visit":                 link,
		"{{code}} evil.c{{app}}":                    link,
		"{{code}} (@evil.com #1)":                   at,
		"{{code}} '@evil":                           at,
		"{{code}} (@shop.example #1)":               at,
		"{{code}} {{app}}.com":                      link,
		"{{code}} {{app}}/x":                        beside,
		"{{code}} evil.{{app}}":                     beside,
		"{{code}} a/{{app}}":                        beside,
		"{{code}} {{app}}:80":                       beside,
		"{{code}} {{app}}?u":                        beside,
		"{{code}} a@{{app}}":                        beside,
		"{{code}} {{app}}@a":                        beside,
		"Code:{{code}}":                             beside,
		"{{code}}.{{expires}}":                      beside,
		"call +1 900 555 0100 {{code}}":             number,
		"{{code}} call 900-555-0100":                number,
		"{{code}} (900) 555.0100":                   number,
		"{{code}} 5550100":                          number,
		"{{code}} 555\u00a00100":                    number,
		"{{code}} ９００５５５０":                          number,
	} {
		mail := Template{Channel: otp.Email, Purpose: "login", Text: "{{code}}", HTML: "<p>" + text + "</p>"}
		for _, tmpl := range []Template{own1(otp.SMS, "login", text), mail} {
			err := c.Check(tmpl, Limits{App: "Shop", Origin: "https://shop.example", Digits: 6})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q: %v, want %q", tmpl.Channel, text, err, want)
			}
		}
	}
	for html, want := range map[string]string{
		"<p>{{code}} evil.com</p>":                       link,
		"<p>{{code}} evil&#46;com</p>":                   link,
		"<p>{{code}} evil.<b>com</b></p>":                link,
		"<p>{{code}} evil<wbr>.<u>com</u></p>":           link,
		"<p>{{code}} <span>evil</span>.<i>com</i></p>":   link,
		"<p>{{code}}</p><p title='evil.com'>x</p>":       link,
		"<p>{{code}} {{app}}<b>/x</b></p>":               beside,
		"<p>{{code}} 555<b>-0100</b></p>":                number,
		"<p>{{code}} 555\n0100</p>":                      number,
		"<p title='900 555 0100'>{{code}}</p>":           number,
		"<p>{{code}} (<b>@evil #1</b>)</p>":              at,
		"<p>{{code}} &#123;&#123;evil&#125;&#125; x</p>": "unknown variable",
	} {
		err := c.Check(Template{Channel: otp.Email, Purpose: "login", Text: "{{code}}", HTML: html}, Limits{App: "Shop", Origin: "https://shop.example"})
		if err == nil || !strings.HasPrefix(err.Error(), "html: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", html, err, want)
		}
	}
	for text, channel := range map[string]otp.Channel{
		"{{code}}\n{{payee}}\nfor {{amount}}":       otp.Email,
		"{{code}}\n{{amount}} - {{payee}}.\nThanks": otp.Email,
		"{{payee}}\n{{amount}} {{code}}":            otp.Email,
		"{{code}}\nfor {{amount}}\n\n» {{payee}}":   otp.Email,
	} {
		if err := c.Check(own1(channel, "transaction", text), Limits{}); err == nil || !strings.Contains(err.Error(), lone) {
			t.Errorf("%q: %v, want %q", text, err, lone)
		}
	}
}

// What looks a little like a link, and is none.
func TestWhatIsNoLinkIsTaken(t *testing.T) {
	c := newCatalog(t)
	for _, text := range []string{
		"reply to this SMS with {{code}}",
		"{{app}}: {{code}}. {{expires}}",
		"{{code}}: is it you? Yes: {{app}}.",
		"Your code ({{code}}.) for {{app}}! {{expires}}",
		`"{{code}}." {{app}}...`,
		"{{code}} is for shop.example.",
		"{{code}} (www: shop.example), {{app}}",
		"SHOP.EXAMPLE: {{code}}",
		"{{code}} tom@shop.example: ask us, e.g. in the evening, z.B. at 18.30, Nr.12",
		"{{code}} v1.2.3, 3.50 EUR, 24/7, 18:30",
		"{{code}} call 112, 158 or 155 in need",
		"{{code}}。次の確認コードです。有効期限",
		"{{code}} a@b",
		"S.r.o. Obchod a.s. {{code}}",
		"{{code}} {{expires}}, and more",
		"{{code}} Ends. Then goes on.",
	} {
		for _, tmpl := range []Template{
			own1(otp.SMS, "login", text), {Channel: otp.Email, Purpose: "login", Text: text, HTML: "<table><tr><td>" + text + "</td><td>{{app}}</td></tr></table>"},
		} {
			if err := c.Check(tmpl, Limits{App: "Shop", Origin: "https://shop.example", Digits: 6}); err != nil {
				t.Errorf("%s: %q: %v", tmpl.Channel, text, err)
			}
			setOwn(t, c, tmpl) // where the origin is not known
		}
	}
	for _, text := range []string{"{{code}}\nfor {{amount}}\nto {{payee}}", "{{code}} {{amount}}\n{{app}} {{payee}}", "{{amount}} to {{payee}}\n\n{{code}}\n"} {
		if err := c.Check(own1(otp.Email, "transaction", text), Limits{}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	style := `<p style="margin:0 0 16px 24px;font:12px/1.5 Arial;color:rgb(255,255,255);background:#33333380" width="100">{{code}}.</p><p>Then</p>`
	if err := c.Check(Template{Channel: otp.Email, Purpose: "login", Text: "{{code}}", HTML: style}, Limits{}); err != nil {
		t.Error(err)
	}
}

// Workers know no origin: a template that was set may name one host, which was the app's own, and nothing beside it.
func TestOneHostWhereTheOriginIsNotKnown(t *testing.T) {
	c := newCatalog(t)
	for text, want := range map[string]bool{
		"shop.example: {{code}}": true, "shop.example: {{code}} tom@shop.example": true, "shop.example: {{code}} evil.com": false,
		"{{code}} evil.com/x": false, "{{code}} evil.com:8080": false, "{{code}} пример.рф": false,
	} {
		if err := c.SetOverrides(map[string][]Template{"shop": {own1(otp.SMS, "login", text)}}); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The bound of four segments is reckoned with the app's own name, origin and digits, and in the language with the longest words.
func TestLengthIsReckonedForTheApp(t *testing.T) {
	c := newCatalog(t)
	fits := func(n int, lim Limits) bool {
		return c.Check(own1(otp.SMS, "login", "{{code}} "+strings.Repeat("a", n)+" {{app}}"), lim) == nil
	}
	most := func(lim Limits) (n int) {
		for fits(n+1, lim) {
			n++
		}
		return n
	}
	const room = 4*gsmPart - len("  ")
	if got, want := most(Limits{App: "Shop", Digits: 6}), room-4-6; got != want {
		t.Errorf("%d characters fit, want %d", got, want)
	}
	if got, want := most(Limits{}), room-MaxName-otp.MaxDigits; got != want {
		t.Errorf("%d characters fit beside the longest name, want %d", got, want)
	}
	if got, want := most(Limits{App: "Shop", Digits: 6, Origin: "https://shop.example"}), room-4-6-len("\n\n@shop.example #123456"); got != want {
		t.Errorf("%d characters fit above the WebOTP line, want %d", got, want)
	}
	if got, most := most(Limits{App: "Obchod ě", Digits: 6}), 4*ucsPart; got > most {
		t.Errorf("%d characters fit beside a name outside the GSM alphabet, more than %d", got, most)
	}
}

// FuzzTemplates: whatever an app may set renders, with every value in its place.
func FuzzTemplates(f *testing.F) {
	f.Add("{{code}} {{app}} {{expires}}", "<p>{{code}}</p>")
	f.Add("{{amount}}{{code}}", `<b title="{{code}}">`)
	c, err := New()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text, html string) {
		tmpl := Template{Channel: otp.Email, Purpose: "login", Text: text, HTML: html}
		if c.Check(tmpl, Limits{}) != nil {
			return
		}
		in := login("en")
		in.App, in.AppKey = "<b>&", "fuzz"
		if err := c.SetOverrides(map[string][]Template{"fuzz": {tmpl}}); err != nil {
			t.Fatal(err)
		}
		m, err := c.Email(in)
		if err != nil || !strings.Contains(m.Text, in.Code) || !strings.Contains(m.HTML, in.Code) || strings.Contains(m.HTML, in.App) && html != "" {
			t.Errorf("%q, %q: %+v, %v", text, html, m, err)
		}
		for _, bad := range []string{"<a ", "<img", "<script", "://"} {
			if strings.Contains(strings.ToLower(m.HTML), bad) {
				t.Errorf("%q, %q: HTML has %q", text, html, bad)
			}
		}
	})
}

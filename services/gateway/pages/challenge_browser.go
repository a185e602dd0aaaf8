package pages

import "strings"

// A mark is what tells something by a part of the User-Agent header.
type mark struct{ part, name string }

// Browsers and systems name themselves beside those that they want to be taken for: the first that fits is meant.
var (
	browsers = []mark{
		{"Edg", "Edge"},
		{"OPR/", "Opera"},
		{"Vivaldi/", "Vivaldi"},
		{"SamsungBrowser/", "Samsung Internet"},
		{"FxiOS/", "Firefox"},
		{"Firefox/", "Firefox"},
		{"CriOS/", "Chrome"},
		{"Chromium/", "Chromium"},
		{"Chrome/", "Chrome"},
		{"Safari/", "Safari"},
	}
	systems = []mark{
		{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"CrOS", "ChromeOS"}, {"Mac OS X", "macOS"}, {"Linux", "Linux"},
	}
)

func recognise(agent string, marks []mark) string {
	for _, m := range marks {
		if strings.Contains(agent, m.part) {
			return m.name
		}
	}
	return ""
}

// browser names the browser, so that its user can tell it from others: "Firefox on Linux". It uses fixed names only, and nothing else of what a request says.
func (v *visit) browser() string {
	agent := v.r.UserAgent()
	browser, system := recognise(agent, browsers), recognise(agent, systems)
	switch {
	case browser == "" && system == "":
		return v.t("challenge.device_unknown")
	case browser == "" || system == "":
		return browser + system
	}
	return v.t("challenge.device", "Browser", browser, "System", system)
}

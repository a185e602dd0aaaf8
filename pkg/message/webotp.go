package message

import (
	"fmt"
	"strings"
)

// WebOTPHost returns the host that the last line of an app's short messages names, for the app's web origin: scheme, host and
// perhaps a port, as in "https://shop.example" or "https://shop.example:8443"; one slash at the end is tolerated.
//
// The format "Origin-bound one-time codes delivered via SMS" (WICG, section 3) carries a host only. It always means the origin
// ("https", host, default port), so the port is dropped; a browser then treats the code as one for the same site. http is taken
// for the sake of development on one machine. A host in another script must be given in its ASCII form ("xn--…"), as origins
// are; a literal IPv6 address is refused. The error wraps [ErrInput]; check an app's origin with this when its configuration is read.
func WebOTPHost(origin string) (string, error) {
	host, ok := strings.CutPrefix(origin, "https://")
	if !ok {
		host, ok = strings.CutPrefix(origin, "http://")
	}
	host = strings.TrimSuffix(host, "/")
	if name, port, has := strings.Cut(host, ":"); has {
		host = name
		ok = ok && validPort(port)
	}
	if !ok || !validHost(host) {
		return "", fmt.Errorf("%w: %.100q is not a web origin", ErrInput, origin)
	}
	return strings.ToLower(host), nil
}

func validPort(s string) bool {
	if s == "" || len(s) > 5 {
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

// validHost reports whether s is a host name of letters, digits and hyphens (RFC 1123, section 2.1) or an IPv4 address. Nothing
// else may reach the line, which a blank or a line break would end.
func validHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			switch c := label[i]; {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
			default:
				return false
			}
		}
	}
	return true
}

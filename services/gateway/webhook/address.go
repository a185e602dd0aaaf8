package webhook

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// errAddress says that a target's address is one that must not be dialled. The check is made on the address itself, at each dial and after the name was looked
// up, so that no name, however it answers at other times, leads inside.
var errAddress = errors.New("its address is not allowed")

// A reach is what addresses a client may dial.
type reach int

const (
	public  reach = iota // those that are reachable by everybody
	private              // and private ones, of this machine included
)

// never are addresses where no app listens, and where a cloud keeps what its machines are (169.254.169.254).
var never = prefixes(
	"0.0.0.0/8",      // this network (RFC 1122, section 3.2.1.3)
	"169.254.0.0/16", // link-local (RFC 3927)
	"224.0.0.0/4",    // multicast (RFC 5771)
	"240.0.0.0/4",    // reserved, and broadcast (RFC 1112, section 4)
	"::/128",         // unspecified (RFC 4291, section 2.5.2)
	"fe80::/10",      // link-local (RFC 4291, section 2.5.6)
	"ff00::/8",       // multicast (RFC 4291, section 2.7)
	// and where clouds keep the same outside the link-local addresses:
	"fd00:ec2::254/128",  // Amazon
	"fd20:ce::254/128",   // Google
	"100.100.100.200/32", // Alibaba
)

// reserved are IPv4 addresses that are not public, by the IANA's registry of special-purpose addresses (RFC 6890).
var reserved = prefixes(
	"10.0.0.0/8",      // private (RFC 1918)
	"100.64.0.0/10",   // carrier-grade NAT (RFC 6598)
	"127.0.0.0/8",     // loopback (RFC 1122, section 3.2.1.3)
	"172.16.0.0/12",   // private (RFC 1918)
	"192.0.0.0/24",    // of protocols (RFC 6890, section 2.1)
	"192.0.2.0/24",    // documentation (RFC 5737)
	"192.88.99.0/24",  // relays of 6to4 (RFC 7526)
	"192.168.0.0/16",  // private (RFC 1918)
	"198.18.0.0/15",   // benchmarks (RFC 2544)
	"198.51.100.0/24", // documentation (RFC 5737)
	"203.0.113.0/24",  // documentation (RFC 5737)
)

// Of IPv6 only global unicast is public, without what stands for something else there. So NAT64 (64:ff9b::/96, 64:ff9b:1::/48), unique local addresses
// (fc00::/7), those with an IPv4 address in them (::ffff:0:0/96, ::/96) and whatever is assigned one day are not.
var (
	unicast  = netip.MustParsePrefix("2000::/3") // RFC 4291, section 2.5.4
	special6 = prefixes(
		"2001::/23",     // of protocols, Teredo among them (RFC 2928, RFC 4380)
		"2001:db8::/32", // documentation (RFC 3849)
		"2002::/16",     // 6to4 (RFC 3056)
		"3fff::/20",     // documentation (RFC 9637)
	)
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// allows reports whether a client of this reach may dial the address.
func (r reach) allows(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	if plain := a.Unmap(); within(never, plain) {
		return false
	}
	if r == private {
		return true
	}
	if a.Is4() {
		return !within(reserved, a)
	}
	return unicast.Contains(a) && !within(special6, a)
}

// control is a net.Dialer's: it sees the address that is dialled, just before it is.
func (r reach) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: it is no IP address", errAddress)
	}
	if !r.allows(to.Addr()) {
		return errAddress
	}
	return nil
}

// CheckHost returns an error where the host of a webhook's URL is an address that it may not have. Of a name nothing can be said beforehand.
func CheckHost(host string, allowPrivate bool) error {
	if a, err := netip.ParseAddr(host); err == nil && !reachOf(allowPrivate).allows(a) {
		return fmt.Errorf("%s: %w", host, errAddress)
	}
	return nil
}

func reachOf(allowPrivate bool) reach {
	if allowPrivate {
		return private
	}
	return public
}

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 16 << 10

// client returns a client for targets. It asks no proxy, whatever the environment says: a proxy would dial for it, and where the address is not checked.
func client(c Config, r reach) *http.Client {
	dialer := &net.Dialer{Timeout: c.Timeout, Control: r.control}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs},
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // nobody reads the answer
			MaxIdleConnsPerHost:    c.PerWebhook,
			MaxIdleConns:           c.Concurrency,
			IdleConnTimeout:        30 * time.Second,
			TLSHandshakeTimeout:    c.Timeout,
			MaxResponseHeaderBytes: maxHeader,
		},
		// A redirect is an answer that is not 2xx: the webhook's URL is the operator's to change, and nobody else's.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

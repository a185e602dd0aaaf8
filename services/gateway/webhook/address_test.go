package webhook

import (
	"errors"
	"net/http"
	"net/netip"
	"testing"
)

func TestReach(t *testing.T) {
	const (
		everybody = "everybody's"
		inside    = "inside"
		nobody    = "nobody's"
	)
	for address, want := range map[string]string{
		"93.184.216.34": everybody, "1.1.1.1": everybody, "9.255.255.255": everybody, "11.0.0.0": everybody, "100.63.255.255": everybody,
		"100.128.0.0": everybody, "172.15.255.255": everybody, "172.32.0.0": everybody, "192.0.1.0": everybody, "198.17.255.255": everybody,
		"198.20.0.0": everybody, "223.255.255.255": everybody, "2606:2800:220:1::1": everybody, "2001:4860:4860::8888": everybody, "2a00::1": everybody,

		"10.0.0.1": inside, "10.255.255.255": inside, "172.16.0.1": inside, "172.31.255.255": inside, "192.168.0.1": inside, "127.0.0.1": inside,
		"127.255.255.254": inside, "100.64.0.1": inside, "100.127.255.255": inside, "192.0.0.8": inside, "192.0.2.1": inside, "198.51.100.7": inside,
		"203.0.113.9": inside, "198.18.0.1": inside, "198.19.255.255": inside, "192.88.99.1": inside,
		"::1": inside, "fc00::1": inside, "fdff:ffff::1": inside, "::ffff:127.0.0.1": inside, "::ffff:10.0.0.1": inside, "::ffff:93.184.216.34": inside,
		"::127.0.0.1": inside, "64:ff9b::7f00:1": inside, "64:ff9b::5db8:d822": inside, "64:ff9b:1::a00:1": inside, "100::1": inside, "2001::1": inside,
		"2001:10::1": inside, "2001:20::1": inside, "2001:db8::1": inside, "2002:7f00:1::": inside, "3fff::1": inside, "fec0::1": inside, "5f00::1": inside, "4000::1": inside,

		"0.0.0.0": nobody, "0.1.2.3": nobody, "169.254.169.254": nobody, "169.254.0.1": nobody, "224.0.0.1": nobody, "239.255.255.255": nobody,
		"240.0.0.1": nobody, "255.255.255.255": nobody, "::": nobody, "fe80::1": nobody, "fe80::1%eth0": nobody, "febf::1": nobody, "ff02::1": nobody,
		"::ffff:169.254.169.254": nobody, "fd00:ec2::254": nobody, "fd20:ce::254": nobody, "100.100.100.200": nobody, "::ffff:0.0.0.0": nobody, "2a00::1%eth0": nobody,
	} {
		a := netip.MustParseAddr(address)
		got := nobody
		switch {
		case public.allows(a) && private.allows(a):
			got = everybody
		case private.allows(a):
			got = inside
		case public.allows(a):
			got = "public and not allowed inside"
		}
		if got != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
		at := netip.AddrPortFrom(a, 443).String()
		if err := public.control("tcp", at, nil); errors.Is(err, errAddress) == (want == everybody) {
			t.Errorf("dialling %s: %v", at, err)
		}
	}
	for _, strange := range []string{"", "localhost:80", "/var/run/docker.sock", "127.0.0.1"} {
		if err := public.control("unix", strange, nil); !errors.Is(err, errAddress) {
			t.Errorf("dialling %q: %v", strange, err)
		}
	}
	if public.allows(netip.Addr{}) || private.allows(netip.Addr{}) {
		t.Error("no address is allowed")
	}
}

func TestCheckHost(t *testing.T) {
	for host, allowed := range map[string][2]bool{ // without and with --allow-private
		"shop.example": {true, true}, "localhost": {true, true}, "93.184.216.34": {true, true}, "127.0.0.1": {false, true}, "::1": {false, true},
		"169.254.169.254": {false, false}, "0.0.0.0": {false, false},
	} {
		for i, private := range []bool{false, true} {
			if err := CheckHost(host, private); (err == nil) != allowed[i] {
				t.Errorf("%s, private %v: %v", host, private, err)
			}
		}
	}
}

func TestNoProxyIsAsked(t *testing.T) {
	for _, r := range []reach{public, private} {
		if tr, ok := client(Config{}, r).Transport.(*http.Transport); !ok || tr.Proxy != nil {
			t.Error("a proxy would dial where nothing is checked")
		}
	}
}

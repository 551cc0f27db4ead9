package node

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func nets(t testing.TB, list ...string) (p proxies) {
	t.Helper()
	for _, text := range list {
		n, ok := parseNet(text)
		if !ok {
			t.Fatalf("%s is no network", text)
		}
		p = append(p, n)
	}
	return p
}

// The walk, on what proxies, old gear and attackers write. The peer is 10.0.0.1, and 10.0.0.0/8,
// 192.0.2.1, fd00::/8 and fe80::/10 are trusted; headers are the lines of X-Forwarded-For.
func TestTheClientIsTheRightmostHopThatIsNoProxy(t *testing.T) {
	trusted := nets(t, "10.0.0.0/8", "192.0.2.1", "fd00::/8", "fe80::/10")
	many := strings.Repeat("10.0.0.9, ", 31)
	for _, c := range []struct {
		what, peer string
		headers    []string
		key        string
	}{
		{"no header", "10.0.0.1", nil, "10.0.0.1"},
		{"a proxy appended", "10.0.0.1", []string{"203.0.113.7"}, "203.0.113.7"},
		{"two proxies", "10.0.0.1", []string{"203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		{"the client wrote one itself", "10.0.0.1", []string{"1.1.1.1, 203.0.113.7"}, "203.0.113.7"},
		{"the client wrote a proxy's", "10.0.0.1", []string{"10.0.0.5, 203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		{"in a line of its own", "10.0.0.1", []string{"1.1.1.1", "203.0.113.7"}, "203.0.113.7"},
		{"lines and proxies", "10.0.0.1", []string{"1.1.1.1", "203.0.113.7, 192.0.2.1", "10.0.0.2"}, "203.0.113.7"},
		{"from no proxy", "203.0.113.9", []string{"1.1.1.1"}, "203.0.113.9"},
		{"all are proxies", "10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},

		{"spaces and tabs", "10.0.0.1", []string{" \t203.0.113.7 ,\t 10.0.0.2  "}, "203.0.113.7"},
		{"empty entries", "10.0.0.1", []string{"203.0.113.7,, ,10.0.0.2,", "", ","}, "203.0.113.7"},
		{"a port", "10.0.0.1", []string{"203.0.113.7:54321, 10.0.0.2:1"}, "203.0.113.7"},
		{"IPv6", "10.0.0.1", []string{"2001:db8:1:2:3:4:5:6"}, "2001:db8:1:2::/64"},
		{"IPv6 in brackets", "10.0.0.1", []string{"[2001:db8:1:2::9]"}, "2001:db8:1:2::/64"},
		{"IPv6 with a port", "10.0.0.1", []string{"[2001:db8:1:2::9]:443, [fd00::1]:80"}, "2001:db8:1:2::/64"},
		{"IPv6 with a zone", "10.0.0.1", []string{"fe80::1%eth0"}, "fe80::/64"},
		{"a proxy with a zone", "10.0.0.1", []string{"203.0.113.7, [fe80::1%eth0]:80"}, "203.0.113.7"},
		{"IPv4 in IPv6", "10.0.0.1", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		{"a proxy as IPv4 in IPv6", "::ffff:10.0.0.1", []string{"203.0.113.7, [::ffff:10.0.0.2]:80"}, "203.0.113.7"},

		{"a unix socket", "10.0.0.1", []string{"1.1.1.1, unix:, 10.0.0.2"}, "10.0.0.2"},
		{"unknown", "10.0.0.1", []string{"1.1.1.1, unknown"}, "10.0.0.1"},
		{"garbage the client wrote", "10.0.0.1", []string{"<script>, ;;, 203.0.113.7"}, "203.0.113.7"},
		{"a bad port", "10.0.0.1", []string{"203.0.113.7:99999"}, "10.0.0.1"},
		{"half a bracket", "10.0.0.1", []string{"[2001:db8::1"}, "10.0.0.1"},
		{"brackets around IPv4", "10.0.0.1", []string{"[203.0.113.7]"}, "10.0.0.1"},
		{"octal", "10.0.0.1", []string{"0203.0.113.7"}, "10.0.0.1"},
		{"quotes", "10.0.0.1", []string{`"203.0.113.7"`}, "10.0.0.1"},
		{"for=, of another header", "10.0.0.1", []string{"for=203.0.113.7"}, "10.0.0.1"},
		{"an entry of a kilobyte", "10.0.0.1", []string{"fe80::1%" + strings.Repeat("z", 1000)}, "10.0.0.1"},
		{"31 proxies", "10.0.0.1", []string{"203.0.113.7, " + many[:30*10] + "10.0.0.2"}, "203.0.113.7"},
		{"32 proxies", "10.0.0.1", []string{"203.0.113.7, " + many + "10.0.0.2"}, "10.0.0.9"},
		{"a flood of commas", "10.0.0.1", []string{"203.0.113.7" + strings.Repeat(",", 30_000)}, "203.0.113.7"},
	} {
		got := string(appendIP(nil, clientIP(netip.MustParseAddr(c.peer), c.headers, trusted)))
		if got != c.key {
			t.Errorf("%s: %.80q is %s, want %s", c.what, c.headers, got, c.key)
		}
	}
}

// referenceIP says the same as clientIP the slow way, by the older package net.
func referenceIP(peer string, headers []string, trusted []*net.IPNet) string {
	var hops []string
	for _, hop := range strings.Split(strings.Join(headers, ","), ",") {
		if hop = strings.Trim(hop, " \t"); hop != "" {
			hops = append(hops, hop)
		}
	}
	at := net.ParseIP(peer)
	for n := 0; len(hops) > 0 && n < maxHops; n++ {
		known := false
		for _, network := range trusted {
			known = known || network.Contains(at)
		}
		hop := hops[len(hops)-1]
		if host, _, err := net.SplitHostPort(hop); err == nil {
			hop = host
		} else if strings.HasPrefix(hop, "[") && strings.HasSuffix(hop, "]") {
			hop = hop[1 : len(hop)-1]
		}
		next := net.ParseIP(hop)
		if !known || next == nil {
			break
		}
		at, hops = next, hops[:len(hops)-1]
	}
	if at.To4() != nil {
		return at.String()
	}
	return (&net.IPNet{IP: at.Mask(net.CIDRMask(64, 128)), Mask: net.CIDRMask(64, 128)}).String()
}

// Whatever hops there are, the walk is the reference's; and whatever a client writes before what
// the proxies append, it changes nothing.
func TestTheWalkIsAsTheReferenceSaysAndNoSpoofTurnsIt(t *testing.T) {
	trusted := nets(t, "10.0.0.0/8", "fd00::/8", "127.0.0.1")
	var old []*net.IPNet
	for _, p := range trusted {
		_, n, err := net.ParseCIDR(p.String())
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, n)
	}
	address := rapid.SampledFrom([]string{"10.0.0.1", "10.1.2.3", "127.0.0.1", "fd00::1", "203.0.113.7", "203.0.113.8",
		"2001:db8::1", "2001:db8:0:1::1", "::ffff:10.0.0.7", "::ffff:203.0.113.9"})
	entry := rapid.Custom(func(t *rapid.T) string {
		a := address.Draw(t, "address")
		switch rapid.IntRange(0, 9).Draw(t, "dress") {
		case 0:
			a = net.JoinHostPort(a, "8443")
		case 1:
			a = rapid.SampledFrom([]string{"unknown", "unix:", "", " ", "1.2.3", "x:y:z"}).Draw(t, "garbage")
		case 2:
			if strings.Contains(a, ":") {
				a = "[" + a + "]"
			}
		}
		return rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "before") + a
	})
	lines := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(entry, 0, 20).Draw(t, "entries"), ",")
	}), 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		peer, headers := address.Draw(t, "peer"), lines.Draw(t, "headers")
		at := clientIP(netip.MustParseAddr(peer), headers, trusted)
		if got, want := string(appendIP(nil, at)), referenceIP(peer, headers, old); got != want {
			t.Fatalf("from %s, %q: %s, the reference says %s", peer, headers, got, want)
		}
		if spoofed := append(lines.Draw(t, "spoof"), headers...); !trusted.trust(at) {
			if now := clientIP(netip.MustParseAddr(peer), spoofed, trusted); now != at {
				t.Fatalf("from %s, %q: %v, but with %q before it %v", peer, headers, at, spoofed, now)
			}
		}
	})
}

func FuzzForwardedFor(f *testing.F) {
	f.Add("203.0.113.7, [fd00::1]:80", "1.1.1.1")
	f.Add("unix:,,fe80::1%a", "[::ffff:10.0.0.1]:")
	trusted := nets(f, "10.0.0.0/8", "fd00::/8")
	peer := netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, first, second string) {
		at := clientIP(peer, []string{first, second}, trusted)
		if !at.IsValid() || at.Is4In6() || at.Zone() != "" {
			t.Errorf("%q %q: %v", first, second, at)
		}
		if n := len(appendIP(nil, at)); n == 0 || n > 40 {
			t.Errorf("a key of %d bytes", n)
		}
		if !trusted.trust(at) && clientIP(peer, []string{"1.2.3.4", first + "," + second}, trusted) != at {
			t.Errorf("%q %q: %v is not what it is in one line, or a spoof turns it", first, second, at)
		}
	})
}

// A client sends what it likes, in whatever spelling: the key is the same.
func TestOneResourceHasOneKey(t *testing.T) {
	for uri, want := range map[string]string{
		"/v1/users/7":                           "/v1/users",
		"/v1/users?x=/a/b":                      "/v1/users",
		"/v1/users#x":                           "/v1/users",
		"//v1///users//":                        "/v1/users",
		"/./v1/x/../users":                      "/v1/users",
		"/v1/users/a/../../b":                   "/v1/b",
		"/v1/a/b/c/../../../users/%2e%2e/users": "/v1/users",
		"/../../v1/users":                       "/v1/users",
		"/%76%31/users":                         "/v1/users",
		"/v1%2Fusers":                           "/v1/users",
		"http://api.example/v1/users?q":         "/v1/users",
		"http://api.example":                    "/",
		"/v1/100%":                              "/v1/100%",
		"/":                                     "/",
		"?":                                     "/",
		"*":                                     "/*",
		"/v1":                                   "/v1",
	} {
		if got := string(appendPath(nil, uri, 2)); got != want {
			t.Errorf("%s: %s, want %s", uri, got, want)
		}
	}
}

func TestKeysOfPartsCannotBeMistakenForOthers(t *testing.T) {
	spec := parseKeySpec("header=X-User-ID+method+path=2")
	key := func(user, method, path string) string {
		r, err := http.NewRequest("GET", "http://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"X-User-Id": {user}, "X-Forwarded-Method": {method}, "X-Forwarded-Uri": {path}}
		b, err := spec.appendKey(nil, r, nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := key("alice", "GET", "/a/b/c?d"); got != "alice|GET|/a/b" {
		t.Error(got)
	}
	if got := key("a|GET|/b%", "BREW", "/"); got != "a%7CGET%7C/b%25|other|/" {
		t.Error(got)
	}
	if got := key("alice", "GET", "/"+strings.Repeat("a", 300)); len(got) != 32 {
		t.Errorf("a key of %d bytes is to be hashed: %s", len(got), got)
	}
	if key("alice", "GET", "/a\xff") == key("alice", "GET", "/a\xfe") {
		t.Error("what is not UTF-8 has one key")
	}
}

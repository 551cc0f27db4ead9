package node

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// What a file says of /v1/check: where limits find their keys, and which proxies to believe.

// keySchemas is one {…}, or a list of them whose parts together are the key.
type keySchemas []keySchema

func (keySchemas) orOne() {}

type keySchema struct {
	position
	Header at[string] `yaml:"header"`
	Hash   at[bool]   `yaml:"hash"`
	IP     at[bool]   `yaml:"ip"`
	Path   at[uint64] `yaml:"path"`
	Method at[bool]   `yaml:"method"`
	Global at[bool]   `yaml:"global"`
}

const maxProxies = 512

var headerName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// keySpec is the canonical text of a limit's key (keyspec.go), "" if it has none. Nodes compare
// definitions by it.
func (r *reader) keySpec(l *limitSchema, path string) string {
	var parts []string
	for i := range l.Key {
		k, at := &l.Key[i], path
		if len(l.Key) > 1 {
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		part := r.keyPart(k, at)
		if part != "" && slices.Contains(parts, part) {
			r.fail(k.position, "%s: %s a second time; write each part once", at, part)
		}
		if part == "global" && len(l.Key) > 1 {
			r.fail(k.position, "%s: global together with other parts; leave it out", at)
		}
		parts = append(parts, part)
	}
	if l.Key != nil && len(parts) == 0 || len(parts) > maxKeyParts {
		r.fail(l.position, "%s: %d parts; write 1 to %d", path, len(parts), maxKeyParts)
	}
	return strings.Join(parts, "+")
}

func (r *reader) keyPart(k *keySchema, path string) string {
	var specs []string
	if k.Header.set {
		specs = append(specs, "header="+k.Header.value)
		r.keyHeader(k, path)
	}
	if k.Path.set {
		if k.Path.good && (k.Path.value < 1 || k.Path.value > maxSegments) {
			r.fail(k.Path.pos, "%s.path: write how many segments of the path count, 1 to %d", path, maxSegments)
		}
		specs = append(specs, fmt.Sprintf("path=%d", k.Path.value))
	}
	for _, it := range []struct {
		on   bool
		spec string
	}{{k.IP.value, "ip"}, {k.Method.value, "method"}, {k.Global.value, "global"}} {
		if it.on {
			specs = append(specs, it.spec)
		}
	}
	if len(specs) != 1 {
		r.fail(k.position, "%s: write exactly one of {header: NAME}, {ip: true}, {path: SEGMENTS}, {method: true} and {global: true}, or a list of such", path)
		return ""
	}
	if k.Path.set && !k.Path.good {
		return ""
	}
	if k.Hash.value && !k.Header.set {
		r.fail(k.Hash.pos, "%s.hash: only a header is hashed; write {header: NAME, hash: true}", path)
	}
	if k.Hash.value {
		return specs[0] + ",hash"
	}
	return specs[0]
}

func (r *reader) keyHeader(k *keySchema, path string) {
	if !k.Header.good {
		return
	}
	name := strings.ToLower(k.Header.value)
	switch {
	case !headerName.MatchString(name):
		r.fail(k.Header.pos, "%s.header: %q; write the name of a request header, such as X-User-ID", path, k.Header.value)
	case name == "host":
		r.fail(k.Header.pos, "%s.header: Host is this node's own when a proxy asks; write X-Forwarded-Host", path)
	case name == "x-forwarded-for" || name == "x-real-ip" || name == "forwarded":
		r.warn(k.Header.pos, "%s.header: a client may send any %s, and so get around the limit; write {ip: true}, with trusted_proxies", path, k.Header.value)
	case !k.Hash.value && slices.Contains(secretHeaders, name):
		r.warn(k.Header.pos, "%s.header: %s holds a secret, and keys are gossiped, stored and shown; add hash: true", path, k.Header.value)
	}
}

var secretHeaders = []string{"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "apikey", "x-auth-token"}

// loopback is what is trusted where the file says nothing: a proxy on this machine.
func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")}
}

func (r *reader) proxies(list []at[string], otherwise []netip.Prefix) []netip.Prefix {
	if list == nil {
		return otherwise
	}
	if len(list) > maxProxies {
		r.fail(list[maxProxies].pos, "trusted_proxies: %d of them; write at most %d", len(list), maxProxies)
		return nil
	}
	nets := make([]netip.Prefix, 0, len(list))
	for i, a := range list {
		if !a.good {
			continue
		}
		net, ok := parseNet(a.value)
		if !ok {
			r.fail(a.pos, "trusted_proxies[%d]: %q; write an address or a network, such as 10.0.0.0/8", i, a.value)
		} else if net.Bits() == 0 {
			r.warn(a.pos, "trusted_proxies[%d]: %s trusts everybody, so each client may choose its address", i, a.value)
		}
		nets = append(nets, net)
	}
	return nets
}

// parseNet reads a network, or the network of one address. IPv4 within IPv6 becomes IPv4, as
// the addresses do that are looked for in it.
func parseNet(text string) (netip.Prefix, bool) {
	net, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return net, false
		}
		net = netip.PrefixFrom(a, a.BitLen())
	}
	if net.Addr().Is4In6() && net.Bits() >= 96 {
		net = netip.PrefixFrom(net.Addr().Unmap(), net.Bits()-96)
	}
	return net.Masked(), true
}

package node

import (
	"net/netip"
	"strings"
)

// Who a request comes from, when proxies stand between:
//
//	client ── proxy A ── proxy B ── this node
//	X-Forwarded-For:  what the client wrote, client's address, A's address     B is the peer
//
// Each proxy appends the address that it was called from, so the list is to be believed from
// its right end, and only for as long as those who wrote are trusted: the client's address is
// the rightmost that is no trusted proxy's. What a client wrote itself stands to the left of it
// and is never looked at.
//
// Why not X-Real-IP and Forwarded: nothing in X-Real-IP tells who wrote it, the proxy or the
// client; and none of the proxies in cmd/openclaw-edge/deploy writes Forwarded unasked.

const (
	maxHops = 32 // of trusted proxies; what stands before them is not looked at
	maxHop  = 64 // bytes of one entry: an IPv6 address with brackets, zone and port has fewer
)

// proxies are the networks whose word is taken for whom they speak for.
type proxies []netip.Prefix

func (p proxies) trust(a netip.Addr) bool {
	for _, net := range p {
		if net.Contains(a) {
			return true
		}
	}
	return false
}

// clientIP walks from the peer inwards. The walk ends before an entry that is no address
// ("unknown", "unix:", garbage): the trusted proxy that wrote it has to answer for it.
func clientIP(peer netip.Addr, forwarded []string, trusted proxies) netip.Addr {
	at := plainAddr(peer)
	for i, hops := len(forwarded)-1, 0; i >= 0; i-- {
		for rest, more := forwarded[i], true; more; {
			var entry string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, entry = rest[:comma], rest[comma+1:]
			} else {
				entry, more = rest, false
			}
			if entry = strings.Trim(entry, " \t"); entry == "" {
				continue // lists may have empty entries, RFC 9110
			}
			if hops == maxHops || !trusted.trust(at) {
				return at
			}
			next, ok := parseHop(entry)
			if !ok {
				return at
			}
			at = next
			hops++
		}
	}
	return at
}

// parseHop reads an entry: an address, in brackets or not, with a port or not.
func parseHop(entry string) (netip.Addr, bool) {
	if len(entry) > maxHop {
		return netip.Addr{}, false
	}
	if bare, ok := strings.CutSuffix(entry, "]"); ok && bare != "" && bare[0] == '[' {
		a, err := netip.ParseAddr(bare[1:])
		return plainAddr(a), err == nil && a.Is6()
	}
	if a, err := netip.ParseAddr(entry); err == nil {
		return plainAddr(a), true
	}
	with, err := netip.ParseAddrPort(entry)
	return plainAddr(with.Addr()), err == nil
}

// plainAddr gives one address one form: IPv4 in IPv6 is IPv4, and a zone says only by which
// link it came.
func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// appendIP is the key of an address. A subscriber of IPv6 has a /64 at least, and would
// otherwise have 2⁶⁴ keys.
func appendIP(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		return a.AppendTo(b)
	}
	return netip.PrefixFrom(a, 64).Masked().AppendTo(b)
}

package node

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/openclaw/edge/crdt"
)

// keySpec is where /v1/check finds in a request what a limit limits. Its text is that of
// crdt.Definition.Key, parts joined by '+':
//
//	header=X-User-ID          the header's value, alice
//	header=Authorization,hash SHA-256 of it, the first 128 bits in hex; of the credentials alone,
//	                          as "Bearer" may be written in any case
//	ip                        203.0.113.7; 2001:db8:1:2::/64
//	path=2                    the first two segments of the path, cleaned: /v1/users
//	method                    GET
//	global                    the word: all requests share one bucket
//
// The key of one part is what stands there, so that /v1/take and /v1/buckets name the same
// bucket. Several are joined by '|', which is written %7C within them (and % is %25). A key that
// could not be one, over 255 bytes or not UTF-8, is hashed: nobody gets around a limit, or an
// error out of a proxy, by sending a strange one.
type keySpec struct {
	parts   []keyPart
	unknown bool // a newer version's
}

type keyPart struct {
	kind     keyKind
	header   string // canonical
	hash     bool
	segments int
}

type keyKind uint8

const (
	keyHeader keyKind = iota
	keyIP
	keyPath
	keyMethod
	keyGlobal
)

const (
	maxKeyParts = 3
	maxSegments = 16
)

func parseKeySpec(text string) (k keySpec) {
	if text == "" {
		return k
	}
	for part := range strings.SplitSeq(text, "+") {
		name, value, _ := strings.Cut(part, "=")
		var p keyPart
		switch name {
		case "header":
			value, p.hash = strings.CutSuffix(value, ",hash")
			p.kind, p.header = keyHeader, textproto.CanonicalMIMEHeaderKey(value)
		case "ip":
			p.kind = keyIP
		case "path":
			n, err := strconv.ParseUint(value, 10, 8)
			if err != nil || n < 1 || n > maxSegments {
				return keySpec{unknown: true}
			}
			p.kind, p.segments = keyPath, int(n)
		case "method":
			p.kind = keyMethod
		case "global":
			p.kind = keyGlobal
		default:
			return keySpec{unknown: true}
		}
		k.parts = append(k.parts, p)
	}
	return k
}

// appendKey appends r's key to b, which is empty. The error says what the request, or the
// limit, lacks; it never repeats what the request holds.
func (k *keySpec) appendKey(b []byte, r *http.Request, trusted proxies) ([]byte, error) {
	switch {
	case k.unknown:
		return b, &Refusal{http.StatusNotImplemented, "the cluster's definition of this limit has a key that this node's version does not know; upgrade the node"}
	case len(k.parts) == 0:
		return b, refuse("this limit does not say what its key is; write key: {header: X-User-ID}, or {ip: true}, in its config, or ask /v1/take/LIMIT/KEY")
	}
	var err error
	for i := range k.parts {
		if i > 0 {
			b = append(b, '|')
		}
		start := len(b)
		if b, err = k.parts[i].append(b, r, trusted); err != nil {
			return b, err
		}
		if len(k.parts) > 1 && bytes.ContainsAny(b[start:], "|%") {
			b = append(b[:start], partEscape.Replace(string(b[start:]))...)
		}
	}
	if len(b) > crdt.MaxKey || !utf8.Valid(b) {
		b = appendHash(b[:0], b)
	}
	return b, nil
}

var partEscape = strings.NewReplacer("%", "%25", "|", "%7C")

func (p *keyPart) append(b []byte, r *http.Request, trusted proxies) ([]byte, error) {
	switch p.kind {
	case keyIP:
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return b, refuse("the peer has no IP address; ask over TCP")
		}
		return appendIP(b, clientIP(peer.Addr(), r.Header["X-Forwarded-For"], trusted)), nil
	case keyPath:
		uri, err := forwarded(r, "X-Original-Uri", "X-Forwarded-Uri")
		return appendPath(b, uri, p.segments), err
	case keyMethod:
		method, err := forwarded(r, "X-Original-Method", "X-Forwarded-Method")
		return append(b, methodLabel(method)...), err
	case keyGlobal:
		return append(b, "global"...), nil
	}
	value, err := single(r, p.header)
	if err == nil && value == "" {
		err = refuse("the header %s is missing: the limit counts by it; send it, and see that the proxy passes it on", p.header)
	}
	if p.header == "Authorization" || p.header == "Proxy-Authorization" {
		if i := strings.IndexAny(value, " \t"); i > 0 {
			value = strings.TrimLeft(value[i:], " \t")
		}
	}
	if p.hash {
		var room [256]byte
		return appendHash(b, append(room[:0], value...)), err
	}
	return append(b, value...), err
}

// single is a header's only value. A second one is refused: whichever counted, a client could
// make the application read the other.
func single(r *http.Request, header string) (string, error) {
	switch values := r.Header[header]; len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	default:
		return "", refuse("the header %s stands %d times; send it once", header, len(values))
	}
}

// forwarded is what a proxy says of the request that it asks for, in either of two headers. Some
// proxies write one, some the other, and pass the client's own on: so both have to agree.
func forwarded(r *http.Request, a, b string) (string, error) {
	one, err := single(r, a)
	if err != nil {
		return "", err
	}
	other, err := single(r, b)
	switch {
	case err != nil:
		return "", err
	case one == "" && other == "":
		return "", refuse("%s is missing: the limit counts by it; have the proxy set it (or %s)", a, b)
	case one != "" && other != "" && one != other:
		return "", refuse("%s and %s differ; have the proxy set one, and clear the other", a, b)
	}
	return cmp.Or(one, other), nil
}

// appendHash appends 32 hex digits, as `printf %s "$KEY" | sha256sum | cut -c-32` prints. It
// has no secret, so that every node and its operator come to the same: whoever reads buckets
// can try guesses, but an API key is not guessed.
func appendHash(b, value []byte) []byte {
	sum := sha256.Sum256(value)
	return hex.AppendEncode(b, sum[:16])
}

// appendPath appends the first n segments of a request's target, so that one resource has one
// key however it is spelt: decoded, without query, empty segments, "." and "..".
func appendPath(b []byte, uri string, n int) []byte {
	if i := strings.IndexAny(uri, "?#"); i >= 0 {
		uri = uri[:i]
	}
	if _, rest, absolute := strings.Cut(uri, "://"); absolute && uri[0] != '/' {
		_, uri, _ = strings.Cut(rest, "/")
	}
	if decoded, err := url.PathUnescape(uri); err == nil {
		uri = decoded
	}
	var begins [maxSegments]int // in b, of the first n segments
	empty, depth := len(b), 0
	for segment := range strings.SplitSeq(uri, "/") {
		switch segment {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				depth = 0
			} else if depth < n {
				b = b[:begins[depth]]
			}
		default:
			if depth < n {
				begins[depth] = len(b)
				b = append(append(b, '/'), segment...)
			}
			depth++
		}
	}
	if len(b) == empty {
		b = append(b, '/')
	}
	return b
}

package node

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/openclaw/edge/crdt"
)

// noStore is for answers that are not what the next request would get. Shared, never written to.
var noStore = []string{"no-store"}

// check is GET and POST /v1/check/{limit}, which proxies ask before they pass a request on: nginx
// by auth_request, Traefik by forwardAuth, Caddy by forward_auth (cmd/openclaw-edge/deploy). It
// takes from the bucket of the key that the limit's config says to look for in the request;
// the answer is a take's without its body: 200 or 429.
//
// A request without such a key is refused with 400, as a take without one is: one bucket for
// all that send none would let them throttle each other, and no bucket would be a way around.
// The request's body is not read: a proxy need not send it.
func (s *server) check(w http.ResponseWriter, r *http.Request, rest string) int {
	limit, err := pathText(r, rest)
	if err != nil || limit == "" || strings.Contains(limit, "/") {
		return s.refuse(w, badRequest("the path is /v1/check/LIMIT; the key comes from the request, as the limit's config says"))
	}
	cost, err := checkCost(r)
	if err != nil {
		return s.refuse(w, err)
	}
	var room [crdt.MaxKey + 1]byte
	key := room[:0]
	if l := s.node.force.Load().byName[limit]; l != nil { // else Take says so
		if key, err = l.asks.appendKey(key, r, s.node.cfg.TrustedProxies); err != nil {
			return s.refuse(w, err)
		}
	}
	d, err := s.node.Take(limit, string(key), cost)
	if err != nil {
		return s.refuse(w, err)
	}
	h := w.Header()
	h["Cache-Control"] = noStore
	setRateLimit(h, &d)
	status := http.StatusOK
	if !d.Allowed {
		status = http.StatusTooManyRequests
	}
	w.WriteHeader(status)
	return status
}

// checkCost is ?cost=5, or what the header named by ?cost_header=X-Tokens says, if it is there;
// else 1. The header is named by who configures the proxy, not by this node's config, and
// there is none by default: a client that sets it could drain a bucket that it shares.
func checkCost(r *http.Request) (int64, error) {
	if r.URL.RawQuery == "" {
		return 1, nil
	}
	cost, err := tokenCount(r.URL.RawQuery, "cost")
	if err != nil {
		return 0, err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || !query.Has("cost_header") {
		return cost, err
	}
	name := query.Get("cost_header")
	if !headerName.MatchString(name) {
		return 0, badRequest("cost_header: write the name of a request header, such as ?cost_header=X-Tokens")
	}
	value, err := single(r, textproto.CanonicalMIMEHeaderKey(name))
	if err != nil || value == "" {
		return cost, err
	}
	if cost, err = parseTokens(value); err != nil {
		return 0, badRequest("the header " + name + err.Error())
	}
	return cost, nil
}

package client

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"time"
	"unicode/utf8"
)

// Middleware lets a request pass to next if the node allows it. The node's RateLimit fields are
// set on every answer that it decided, so that clients can pace themselves.
//
// A request that its client has given up meanwhile is not passed on, whatever OnFailure says.
// Without a Limit there is nothing to ask for: Middleware panics, when the server is put together.
func (c *Client) Middleware(next http.Handler) http.Handler {
	if c.cfg.Limit == "" {
		panic("client: Middleware needs Config.Limit")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := c.cfg.Key(r)
		if key == "" {
			problem(w, problemBody{Status: http.StatusBadRequest, Detail: "the request does not say whose it is, and requests are limited by client"})
			return
		}
		res, err := c.Take(r.Context(), c.cfg.Limit, fitting(key), c.cfg.Cost)
		switch {
		case r.Context().Err() != nil:
			return // nobody is there to read an answer
		case err != nil:
			c.complain(err)
			if c.cfg.OnFailure == FailOpen {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Retry-After", "1")
			problem(w, problemBody{
				Type: reducedCapacity, Status: http.StatusServiceUnavailable,
				Detail: "the rate limiter does not answer, and nothing passes without it; try again in a second",
			})
		case res.Allowed:
			res.setHeader(w.Header())
			next.ServeHTTP(w, r)
		default:
			res.setHeader(w.Header())
			problem(w, problemBody{
				Type: quotaExceeded, Status: http.StatusTooManyRequests, Violated: []string{res.Limit},
				Detail: fmt.Sprintf("too many requests; try again in %s s", res.retryAfter),
			})
		}
	})
}

// setHeader spells the names as the draft does, not as Go would (Ratelimit).
func (r *Result) setHeader(h http.Header) {
	for name, value := range map[string]string{"RateLimit-Policy": r.policy, "RateLimit": r.state, "Retry-After": r.retryAfter} {
		if value != "" {
			h[name] = []string{value}
		}
	}
}

// complain says that requests are not limited, or not served, for want of a decision.
func (c *Client) complain(err error) {
	now, last := time.Now().UnixNano(), c.said.Load()
	if last != 0 && now-last < int64(10*time.Second) || !c.said.CompareAndSwap(last, now) {
		return
	}
	fate := "refused"
	if c.cfg.OnFailure == FailOpen {
		fate = "admitted without a limit"
	}
	c.cfg.Logger.Error("rate limiter: no decision", "requests", fate, "node", c.base, "limit", c.cfg.Limit, "err", err)
}

// peer is the address of whoever opened the connection: behind a proxy, the proxy. Who has one
// address of IPv6 has the /64 around it.
func peer(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	addr := at.Addr().Unmap().WithZone("")
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().String()
	}
	return addr.String()
}

const maxKey = 255 // bytes that a node takes

// fitting is a key that the node takes: else a stranger with a header of a kilobyte would make
// every call fail, and FailOpen would admit him.
func fitting(key string) string {
	if len(key) <= maxKey && utf8.ValidString(key) {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// problemBody is RFC 9457; the types are those of draft-ietf-httpapi-ratelimit-headers.
type problemBody struct {
	Type     string   `json:"type"`
	Title    string   `json:"title"`
	Status   int      `json:"status"`
	Detail   string   `json:"detail"`
	Violated []string `json:"violated-policies,omitempty"`
}

const (
	quotaExceeded   = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	reducedCapacity = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

func problem(w http.ResponseWriter, p problemBody) {
	if p.Title = http.StatusText(p.Status); p.Type == "" {
		p.Type = "about:blank" // the status says it all
	}
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	w.Write(append(body, '\n'))
}

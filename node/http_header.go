package node

import (
	"net/http"
	"strconv"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/openclaw/edge/crdt"
)

// The response fields of draft-ietf-httpapi-ratelimit-headers-11, all of them here: the next
// revision may rename r and t.
//
//	RateLimit-Policy: "per-user";q=100;w=10     capacity; seconds in which it refills
//	RateLimit: "per-user";r=99;t=0              tokens left; seconds until the cost fits
//	Retry-After: 1                              429 only; never earlier than t
//
// Names are set as written here, not as Go would spell them (Ratelimit): HTTP does not
// care, people who read `curl -i` do.

// face is what never changes about a limit in force in its answers, rendered once.
type face struct {
	policy []string // the whole RateLimit-Policy field
	item   string   // of the RateLimit field, up to the number of tokens left
	limit  string   // of a take's body: from "limit" up to the key
	terms  string   // of a take's body: capacity and refill rate, up to the value of retry_after_ms
	envoy  *ratelimitv3.RateLimitResponse_RateLimit
}

func newFace(d crdt.Definition) face {
	name := `"` + d.Name + `"` // no quote needs escaping: see limitName
	capacity, window := wholeTokens(d.Capacity), ceilSeconds(d.Rate.Time(d.Capacity))
	return face{
		policy: []string{name + ";q=" + strconv.FormatInt(capacity, 10) + ";w=" + strconv.FormatInt(window, 10)},
		envoy:  envoyLimit(d.Name, capacity, window),
		item:   name + ";r=",
		limit:  `,"limit":` + name + `,"key":`,
		terms: `,"capacity":` + string(appendTokens(nil, d.Capacity)) +
			`,"refill_rate":` + string(appendRate(nil, d.Rate)) + `,"retry_after_ms":`,
	}
}

// setRateLimit sets the fields for one decision.
func setRateLimit(h http.Header, d *Decision) {
	var room [96]byte
	h["RateLimit-Policy"] = d.Limit.face.policy
	h["RateLimit"] = []string{string(appendRateLimit(room[:0], d))}
	if !d.Allowed {
		h["Retry-After"] = []string{strconv.FormatInt(retryAfter(d), 10)}
	}
}

// appendRateLimit is the decision's item of the RateLimit field.
func appendRateLimit(b []byte, d *Decision) []byte {
	b = append(b, d.Limit.face.item...)
	b = strconv.AppendInt(b, wholeTokens(d.Level), 10)
	b = append(b, ";t="...)
	return strconv.AppendInt(b, ceilSeconds(d.ResetAfter), 10)
}

func retryAfter(d *Decision) int64 {
	return max(1, ceilSeconds(d.ResetAfter), ceilSeconds(d.RetryAfter))
}

// wholeTokens is what a client can spend: whole, and never negative.
func wholeTokens(level crdt.Milli) int64 { return int64(max(0, level) / crdt.Token) }

func ceilSeconds(d time.Duration) int64 { return ceil(d, time.Second) }

// ceil is how many units cover d.
func ceil(d, unit time.Duration) int64 {
	n := int64(d / unit)
	if d%unit > 0 {
		n++
	}
	return max(0, n)
}

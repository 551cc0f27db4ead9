package node

import (
	"net/http"
	"slices"
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
// With legacy_headers in the config, the older three besides, for clients that know no others:
//
//	X-RateLimit-Limit: 100                      capacity
//	X-RateLimit-Remaining: 99                   tokens left
//	X-RateLimit-Reset: 1                        seconds until the bucket is full
//
// Names are set as written here, not as Go would spell them (Ratelimit): HTTP does not
// care, people who read `curl -i` do.

// face is what never changes about a limit in force in its answers, rendered once.
type face struct {
	policy []string // the whole RateLimit-Policy field
	item   string   // of the RateLimit field, up to the number of tokens left
	limit  string   // of a take's body: from "limit" up to the key
	terms  string   // of a take's body: capacity and refill rate, up to the value of retry_after_ms
	legacy []string // the whole X-RateLimit-Limit field; nil: without those
	envoy  *ratelimitv3.RateLimitResponse_RateLimit
}

func newFace(d crdt.Definition, legacy bool) face {
	name := `"` + d.Name + `"` // no quote needs escaping: see limitName
	capacity, window := wholeTokens(d.Capacity), ceilSeconds(d.Rate.Time(d.Capacity))
	f := face{
		policy: []string{name + ";q=" + strconv.FormatInt(capacity, 10) + ";w=" + strconv.FormatInt(window, 10)},
		envoy:  envoyLimit(d.Name, capacity, window),
		item:   name + ";r=",
		limit:  `,"limit":` + name + `,"key":`,
		terms: `,"capacity":` + string(appendTokens(nil, d.Capacity)) +
			`,"refill_rate":` + string(appendRate(nil, d.Rate)) + `,"retry_after_ms":`,
	}
	if legacy {
		f.legacy = []string{strconv.FormatInt(capacity, 10)}
	}
	return f
}

// setRateLimit sets the fields for one decision.
func setRateLimit(h http.Header, d *Decision) {
	var room [96]byte
	f := &d.Limit.face
	h["RateLimit-Policy"] = f.policy
	h["RateLimit"] = []string{string(appendRateLimit(room[:0], d))}
	if !d.Allowed {
		h["Retry-After"] = []string{strconv.FormatInt(retryAfter(d), 10)}
	}
	if f.legacy != nil {
		setLegacy(h, d)
	}
}

// appendRateLimit is the decision's member of the RateLimit field.
func appendRateLimit(b []byte, d *Decision) []byte {
	b = append(b, d.Limit.face.item...)
	b = strconv.AppendInt(b, wholeTokens(d.Level), 10)
	b = append(b, ";t="...)
	return strconv.AppendInt(b, ceilSeconds(d.ResetAfter), 10)
}

func retryAfter(d *Decision) int64 {
	return max(1, ceilSeconds(d.ResetAfter), ceilSeconds(d.RetryAfter))
}

func setLegacy(h http.Header, d *Decision) {
	full := max(ceilSeconds(d.ResetAfter), ceilSeconds(d.Limit.Rate.Time(max(0, d.Limit.Capacity-d.Level))))
	h["X-RateLimit-Limit"] = d.Limit.face.legacy
	h["X-RateLimit-Remaining"] = []string{strconv.FormatInt(wholeTokens(d.Level), 10)}
	h["X-RateLimit-Reset"] = []string{strconv.FormatInt(full, 10)}
}

// maxListed is how many limits the fields of a batch name.
const maxListed = 8

// setRateLimits sets the fields for a batch that asks a few limits about one request. In one
// that asks a limit twice, of several keys, nothing would say which member is whose: it has none.
func setRateLimits(h http.Header, ds []Decision) {
	var policies, items []byte
	for i := range ds {
		d := &ds[i]
		twice := slices.ContainsFunc(ds[:i], func(o Decision) bool { return o.Limit.Name == d.Limit.Name })
		if twice || i == maxListed {
			return
		}
		if i > 0 {
			policies, items = append(policies, ", "...), append(items, ", "...)
		}
		policies, items = append(policies, d.Limit.face.policy[0]...), appendRateLimit(items, d)
	}
	h["RateLimit-Policy"], h["RateLimit"] = []string{string(policies)}, []string{string(items)}
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

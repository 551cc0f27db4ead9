package node

import (
	"net/http"
	"strconv"
	"time"

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
}

func newFace(d crdt.Definition) face {
	name := `"` + d.Name + `"` // no quote needs escaping: see limitName
	return face{
		policy: []string{name + ";q=" + strconv.FormatInt(wholeTokens(d.Capacity), 10) +
			";w=" + strconv.FormatInt(ceilSeconds(d.Rate.Time(d.Capacity)), 10)},
		item:  name + ";r=",
		limit: `,"limit":` + name + `,"key":`,
		terms: `,"capacity":` + string(appendTokens(nil, d.Capacity)) +
			`,"refill_rate":` + string(appendRate(nil, d.Rate)) + `,"retry_after_ms":`,
	}
}

// setRateLimit sets the fields for one decision.
func setRateLimit(h http.Header, d *Decision) {
	f := &d.Limit.face
	t := ceilSeconds(d.ResetAfter)
	var room [96]byte
	b := append(room[:0], f.item...)
	b = strconv.AppendInt(b, wholeTokens(d.Level), 10)
	b = append(b, ";t="...)
	b = strconv.AppendInt(b, t, 10)
	h["RateLimit-Policy"] = f.policy
	h["RateLimit"] = []string{string(b)}
	if !d.Allowed {
		h["Retry-After"] = []string{strconv.FormatInt(max(1, t, ceilSeconds(d.RetryAfter)), 10)}
	}
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

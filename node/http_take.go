package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/openclaw/edge/crdt"
)

// maxTakes is how many takes one batch may hold.
const maxTakes = 1000

// take is POST /v1/take/{limit}/{key}?cost=1. All that can be wrong with the request is
// found before anything is taken.
func (s *server) take(w http.ResponseWriter, r *http.Request, rest string) int {
	limit, key, cost, err := bucketCall(w, r, rest, "cost")
	if err != nil {
		return s.refuse(w, err)
	}
	d, err := s.node.Take(limit, key, cost)
	if err != nil {
		return s.refuse(w, err)
	}
	return writeDecision(w, &d, key)
}

// writeDecision answers with the body of a take.
func writeDecision(w http.ResponseWriter, d *Decision, key string) int {
	h := w.Header()
	h["Content-Type"] = jsonType
	setRateLimit(h, d)
	status := http.StatusOK
	if !d.Allowed {
		status = http.StatusTooManyRequests
	}
	w.WriteHeader(status)
	b := buffers.Get().(*[]byte)
	*b = append(appendDecision((*b)[:0], d, key), '\n')
	w.Write(*b)
	buffers.Put(b)
	return status
}

// batch is the body of POST /v1/take. A missing cost is 1.
type batch struct {
	Takes []struct {
		Limit string `json:"limit"`
		Key   string `json:"key"`
		Cost  *int64 `json:"cost"`
	} `json:"takes"`
	Atomic bool `json:"atomic"`
}

const batchHelp = `write {"takes":[{"limit":"per-user","key":"alice","cost":1}],"atomic":false}`

// takeAll is POST /v1/take. It answers 200 if every take was allowed, else 429, with the
// body of each take in order: {"allowed":false,"takes":[…]}.
func (s *server) takeAll(w http.ResponseWriter, r *http.Request, _ string) int {
	requests, atomic, err := readBatch(w, r)
	if err != nil {
		return s.refuse(w, err)
	}
	decisions, err := s.node.TakeAll(requests, atomic)
	if err != nil {
		return s.refuse(w, err)
	}
	status, wait := http.StatusOK, int64(1)
	takes := []byte(`,"takes":[`)
	for i := range decisions {
		d := &decisions[i]
		if i > 0 {
			takes = append(takes, ',')
		}
		takes = appendDecision(takes, d, requests[i].Key)
		if !d.Allowed {
			status, wait = http.StatusTooManyRequests, max(wait, ceilSeconds(d.RetryAfter))
		}
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	setRateLimits(h, decisions)
	if status != http.StatusOK {
		h["Retry-After"] = []string{strconv.FormatInt(wait, 10)}
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"allowed\":%v%s]}\n", status == http.StatusOK, takes)
	return status
}

func readBatch(w http.ResponseWriter, r *http.Request) ([]Request, bool, error) {
	body, err := readBody(w, r)
	if err != nil {
		return nil, false, err
	}
	if !utf8.Valid(body) {
		return nil, false, badRequest("the body is not UTF-8; JSON has to be")
	}
	var in batch
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, false, badRequest(fmt.Sprintf("bad JSON (%v); %s", err, batchHelp))
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, false, badRequest("something follows the JSON object; " + batchHelp)
	}
	if n := len(in.Takes); n < 1 || n > maxTakes {
		return nil, false, badRequest(fmt.Sprintf("%d takes; send 1 to %d at once", n, maxTakes))
	}
	requests := make([]Request, len(in.Takes))
	for i, t := range in.Takes {
		cost := int64(1)
		if t.Cost != nil {
			cost = *t.Cost
		}
		requests[i] = Request{Limit: t.Limit, Key: t.Key, Cost: cost}
	}
	return requests, in.Atomic, nil
}

// credit is POST /v1/credit/{limit}/{key}?tokens=1.
func (s *server) credit(w http.ResponseWriter, r *http.Request, rest string) int {
	limit, key, tokens, err := bucketCall(w, r, rest, "tokens")
	if err != nil {
		return s.refuse(w, err)
	}
	d, err := s.node.Credit(limit, key, tokens)
	if err != nil {
		return s.refuse(w, err)
	}
	setRateLimit(w.Header(), &d)
	return reply(w, http.StatusOK, struct {
		Limit      string    `json:"limit"`
		Key        string    `json:"key"`
		Tokens     int64     `json:"tokens"` // asked for; a bucket holds no more than its capacity
		Remaining  int64     `json:"remaining"`
		Capacity   milli     `json:"capacity"`
		RefillRate perSecond `json:"refill_rate"`
	}{d.Limit.Name, key, tokens, wholeTokens(d.Level), milli(d.Limit.Capacity), perSecond{d.Limit.Rate}})
}

type slotBody struct {
	Node     string `json:"node"`
	Writer   string `json:"writer"`
	Taken    milli  `json:"taken"`
	Credited milli  `json:"credited"`
}

// bucket is GET /v1/buckets/{limit}/{key}: a look that takes nothing.
func (s *server) bucket(w http.ResponseWriter, r *http.Request, rest string) int {
	limit, key, err := bucketPath(r, rest)
	if err != nil {
		return s.refuse(w, err)
	}
	b, err := s.node.Look(limit, key)
	if err != nil {
		return s.refuse(w, err)
	}
	slots := make([]slotBody, len(b.Slots))
	for i, o := range b.Slots {
		slots[i] = slotBody{o.Node, o.Writer, milli(o.Taken), milli(o.Credited)}
	}
	setRateLimit(w.Header(), &Decision{Allowed: true, Limit: b.Limit, Level: b.Level, ResetAfter: s.node.patience(b.Limit, crdt.Token-b.Level)})
	return reply(w, http.StatusOK, struct {
		Limit      string     `json:"limit"`
		Key        string     `json:"key"`
		Tokens     int64      `json:"tokens"`
		Capacity   milli      `json:"capacity"`
		RefillRate perSecond  `json:"refill_rate"`
		Debt       milli      `json:"debt"`
		Slots      []slotBody `json:"slots"`
	}{b.Limit.Name, key, wholeTokens(b.Level), milli(b.Limit.Capacity), perSecond{b.Limit.Rate}, milli(b.Debt), slots})
}

// bucketCall reads a call on one bucket: its path, its amount of tokens, and a body that
// nobody looks at.
func bucketCall(w http.ResponseWriter, r *http.Request, rest, amount string) (limit, key string, n int64, err error) {
	if limit, key, err = bucketPath(r, rest); err != nil {
		return
	}
	if n, err = tokenCount(r.URL.RawQuery, amount); err != nil {
		return
	}
	if r.ContentLength != 0 {
		_, err = readBody(w, r)
	}
	return
}

// bucketPath splits {limit}/{key}. The split comes before the decoding, so that a key may
// hold slashes, written %2F. A bare one is refused: ".../alice/" would quietly be
// another bucket than ".../alice".
func bucketPath(r *http.Request, rest string) (limit, key string, err error) {
	limit, key, found := strings.Cut(rest, "/")
	switch {
	case limit == "":
		return "", "", badRequest("the limit is missing; the path ends in LIMIT/KEY")
	case !found || key == "":
		return "", "", badRequest("the key is missing; the path ends in LIMIT/KEY, and a key has 1 to 255 bytes")
	case strings.Contains(key, "/"):
		return "", "", badRequest("a bare slash in the key; write it as %2F")
	}
	if limit, err = pathText(r, limit); err == nil {
		key, err = pathText(r, key)
	}
	if err != nil || !utf8.ValidString(key) {
		return "", "", badRequest("the key is not percent-encoded UTF-8")
	}
	return limit, key, nil
}

// pathText decodes a part of r's path. Without a RawPath, net/url has done it, and no slash
// was among what it decoded.
func pathText(r *http.Request, part string) (string, error) {
	if r.URL.RawPath == "" {
		return part, nil
	}
	return url.PathUnescape(part)
}

// tokenCount reads a positive whole number of tokens from a query; absent, it is 1.
func tokenCount(query, name string) (int64, error) {
	if query == "" {
		return 1, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return 0, badRequest("the query cannot be read (" + err.Error() + "); write ?" + name + "=1")
	}
	list, given := values[name]
	if !given {
		return 1, nil
	}
	n, err := parseTokens(strings.Join(list, ",")) // of several, none counts
	if err != nil {
		return 0, badRequest(name + err.Error())
	}
	return n, nil
}

var errTokens = fmt.Errorf(" must be one whole number from 1 to %d", crdt.MaxCapacity/crdt.Token)

func parseTokens(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n == 0 || n > uint64(crdt.MaxCapacity/crdt.Token) {
		return 0, errTokens
	}
	return int64(n), nil
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBody {
		return nil, &http.MaxBytesError{Limit: maxBody}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	if err != nil && !errors.As(err, &large) {
		err = badRequest("the body ended early: " + err.Error())
	}
	return body, err
}

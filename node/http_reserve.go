package node

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
)

// reserve is POST /v1/reserve/{limit}/{key}?cost=1&ttl=60s: a take whose answer also has an id and
// expires_at; 429 with a take's body, and no reservation, if the bucket is dry.
func (s *server) reserve(w http.ResponseWriter, r *http.Request, rest string) int {
	limit, key, cost, err := bucketCall(w, r, rest, "cost")
	if err != nil {
		return s.refuse(w, err)
	}
	ttl, err := reserveTTL(r.URL.Query()["ttl"])
	if err != nil {
		return s.refuse(w, err)
	}
	out, err := s.node.Reserve(limit, key, cost, ttl)
	if err != nil {
		return s.refuse(w, err)
	}
	if !out.Take.Allowed {
		return writeDecision(w, &out.Take, key)
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	setRateLimit(h, &out.Take)
	body := fmt.Appendf(nil, `{"id":"%s","expires_at":"%s",`, out.ID, out.Expires.Format(time.RFC3339))
	w.Write(append(append(body, appendDecision(nil, &out.Take, key)[1:]...), '\n'))
	return http.StatusOK
}

func reserveTTL(given []string) (time.Duration, error) {
	if len(given) == 0 {
		return defaultReserveTTL, nil
	}
	ttl, err := time.ParseDuration(strings.Join(given, ",")) // of several, none counts
	if err != nil {
		return 0, badRequest(fmt.Sprintf("ttl must be one time with its unit, as in 90s or 5m, of %v to %v", minReserveTTL, maxReserveTTL))
	}
	return ttl, nil
}

// settle is POST /v1/settle/{id}?used=N: 200 with what is known of the reservation; 202 if this
// node has not heard of it yet, and has noted the settlement for when it has.
func (s *server) settle(w http.ResponseWriter, r *http.Request, rest string) int {
	id, used, err := settleCall(w, r, rest)
	if err != nil {
		return s.refuse(w, err)
	}
	out, err := s.node.Settle(id, used)
	if err != nil {
		return s.refuse(w, err)
	}
	if !out.Known {
		return reply(w, http.StatusAccepted, struct {
			ID    string `json:"id"`
			Used  int64  `json:"used"`
			Known bool   `json:"known"`
		}{id, used, false})
	}
	return reply(w, http.StatusOK, struct {
		ID       string `json:"id"`
		Limit    string `json:"limit"`
		Key      string `json:"key"`
		Reserved int64  `json:"reserved"`
		Used     int64  `json:"used"`
		Applied  bool   `json:"applied"`
		Again    bool   `json:"again"`
	}{id, out.Estimate.Limit, out.Estimate.Key, out.Estimate.Cost, used, out.Applied, out.Again})
}

func settleCall(w http.ResponseWriter, r *http.Request, rest string) (id string, used int64, err error) {
	if id, err = pathText(r, rest); err != nil {
		return "", 0, badRequest("the id is not percent-encoded; write what POST /v1/reserve answered")
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", 0, badRequest("the query cannot be read (" + err.Error() + "); write ?used=812")
	}
	used, err = strconv.ParseInt(strings.Join(values["used"], ","), 10, 64) // of several, none counts
	if err != nil || used < 0 || used > crdt.MaxUsed {
		return "", 0, badRequest(fmt.Sprintf("used must be one whole number from 0 to %d: how many tokens it really took, as in ?used=812", crdt.MaxUsed))
	}
	if r.ContentLength != 0 {
		_, err = readBody(w, r)
	}
	return id, used, err
}

package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	defaultTop = 10
	maxRanked  = 1000
	ballotHelp = `write {"vote":1,"rater":"alice"}: 1, -1, or 0 to withdraw; without a rater the vote is anonymous`
)

// ratingBody is one rating, alone and in a ranking.
type ratingBody struct {
	Subject string  `json:"subject"`
	Up      int64   `json:"up"`
	Down    int64   `json:"down"`
	Votes   int64   `json:"votes"` // up + down
	Score   int64   `json:"score"` // up - down
	Wilson  float64 `json:"wilson_lower_bound"`
}

func newRatingBody(r Rating) ratingBody {
	return ratingBody{r.Subject, r.Up, r.Down, r.Up + r.Down, r.Up - r.Down, r.Wilson}
}

// rate is POST /v1/ratings/{subject}: 200 with the rating as it is now, and whether this request
// changed it; or 429 with the body of a take, if the rater's bucket is dry.
func (s *server) rate(w http.ResponseWriter, r *http.Request, rest string) int {
	b, err := s.readBallot(w, r, rest)
	if err != nil {
		return s.refuse(w, err)
	}
	out, err := s.node.Rate(b)
	if err != nil {
		return s.refuse(w, err)
	}
	if !out.Take.Allowed {
		return writeDecision(w, &out.Take, b.Payer)
	}
	setRateLimit(w.Header(), &out.Take)
	return reply(w, http.StatusOK, struct {
		ratingBody
		Vote    int  `json:"vote"`
		Changed bool `json:"changed"`
	}{newRatingBody(out.Rating), b.Vote, out.Changed})
}

func (s *server) readBallot(w http.ResponseWriter, r *http.Request, rest string) (b Ballot, err error) {
	if b.Subject, err = subjectPath(r, rest); err != nil {
		return b, err
	}
	body, err := readBody(w, r)
	if err != nil {
		return b, err
	}
	if !utf8.Valid(body) {
		return b, badRequest("the body is not UTF-8; JSON has to be")
	}
	var in struct {
		Vote  *int   `json:"vote"`
		Rater string `json:"rater"`
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return b, badRequest(fmt.Sprintf("bad JSON (%v); %s", err, ballotHelp))
	}
	if _, err := dec.Token(); err != io.EOF {
		return b, badRequest("something follows the JSON object; " + ballotHelp)
	}
	if in.Vote == nil {
		return b, badRequest("the vote is missing; " + ballotHelp)
	}
	b.Vote, b.Rater, b.Payer = *in.Vote, in.Rater, in.Rater
	if b.Rater == "" {
		b.Once, b.Payer = strings.TrimSpace(r.Header.Get("Idempotency-Key")), raterAddress(r, s.node.cfg.TrustedProxies)
	}
	return b, nil
}

// raterAddress is whom an anonymous vote is charged to: the client's address as /v1/check finds it.
func raterAddress(r *http.Request, trusted proxies) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	return string(appendIP(nil, clientIP(peer.Addr(), r.Header["X-Forwarded-For"], trusted)))
}

// subjectPath reads {subject}; a slash in it is written %2F, as in the key of a bucket.
func subjectPath(r *http.Request, rest string) (string, error) {
	if strings.Contains(rest, "/") {
		return "", badRequest("a bare slash in the subject; write it as %2F")
	}
	subject, err := pathText(r, rest)
	if err != nil || !utf8.ValidString(subject) {
		return "", badRequest("the subject is not percent-encoded UTF-8")
	}
	return subject, (&Ballot{Subject: subject, Vote: 1}).check()
}

// rating is GET /v1/ratings/{subject}.
func (s *server) rating(w http.ResponseWriter, r *http.Request, rest string) int {
	subject, err := subjectPath(r, rest)
	if err != nil {
		return s.refuse(w, err)
	}
	return reply(w, http.StatusOK, newRatingBody(s.node.LookRating(subject)))
}

// ranking is GET /v1/ratings?top=10&prefix=.
func (s *server) ranking(w http.ResponseWriter, r *http.Request, _ string) int {
	top, prefix, err := rankingQuery(r.URL.RawQuery)
	if err != nil {
		return s.refuse(w, err)
	}
	list := s.node.TopRatings(top, prefix)
	out := make([]ratingBody, len(list))
	for i := range list {
		out[i] = newRatingBody(list[i])
	}
	return reply(w, http.StatusOK, struct {
		Ratings []ratingBody `json:"ratings"`
	}{out})
}

func rankingQuery(query string) (top int, prefix string, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return 0, "", badRequest("the query cannot be read (" + err.Error() + "); write ?top=10&prefix=coffee")
	}
	top = defaultTop
	if values.Has("top") {
		if top, err = strconv.Atoi(values.Get("top")); err != nil || top < 1 || top > maxRanked {
			return 0, "", badRequest(fmt.Sprintf("top must be one whole number from 1 to %d", maxRanked))
		}
	}
	return top, values.Get("prefix"), nil
}

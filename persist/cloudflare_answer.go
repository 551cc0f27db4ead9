package persist

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// answer is a successful one.
type answer struct {
	result json.RawMessage // nil or null where there is nothing to say, or into has it
	into   bool            // the request's into has the result
	cursor string          // of a listing: where it goes on; "": it does not
}

// envelope is what every answer comes in. The parts that may be wrong without harm are decoded
// apart.
type envelope struct {
	Success *bool           `json:"success"`
	Result  any             `json:"result"`
	Errors  json.RawMessage `json:"errors"`
	Info    json.RawMessage `json:"result_info"`
}

// open decodes body, its result into what is given where it fits, else as it stands: every pass
// over the 20 MB of a bulk get is a tenth of a second and more.
func open(body []byte, into any) (env envelope, a answer, ok bool) {
	if len(body) > maxAnswerBytes {
		return env, a, false
	}
	if into != nil {
		env.Result = into
		if json.Unmarshal(body, &env) == nil {
			a.into, a.cursor = true, env.cursor()
			return env, a, env.Success != nil
		}
	}
	env = envelope{Result: &a.result}
	ok = json.Unmarshal(body, &env) == nil && env.Success != nil
	a.cursor = env.cursor()
	return env, a, ok
}

// What codes of Cloudflare's errors mean. 7000 and 7003: no such route, or object in it.
var (
	deniedCodes        = []int{1000, 6003, 9103, 9106, 9109, 10000, 10023}
	misconfiguredCodes = []int{7000, 7003, 10006, 10010, 10012, 10013, 10042}
	rejectedCodes      = []int{10029, 10030, 10047}
	throttledCodes     = []int{971, 10429}
)

const (
	codeAbsent     = 10009 // no such key
	codeKeyRate    = 10022 // more than a write a second to one key
	codeDailyQuota = 10048 // the free plan's, until midnight

	retryAfter    = time.Minute // when a 429 does not say
	maxRetryAfter = time.Hour   // what is believed of a Retry-After
	keyPause      = time.Second // the time that a key takes one write

	checkToken = "check the token in the variable that token_env names (CF_API_TOKEN); it needs the right Account › Workers KV Storage › Edit on this account"
	checkIDs   = "check account_id, namespace_id and base_url"
)

// errKeyRate is in an error that says nothing of other keys, nor of the server.
var errKeyRate = errors.New("a key takes one write a second")

// judge says what an answer means. again: another try may bring a better one.
//
//	10048                      Throttled until midnight UTC
//	429 + 10022                Failed for a second, these keys only
//	429, 971, 10429            Throttled for Retry-After
//	413, 10029, 10030, 10047   Rejected
//	401, 403, 10000, 9109, …   Denied
//	404, 7003, 10013, …, 3xx   Misconfigured
//	408, 504, 524              Unknown: a gateway gave up waiting
//	5xx, no JSON, no success   Failed, worth another try unless Retry-After says when
//	other 4xx                  Failed: not known to be for ever, so nothing is dropped
func (c *Cloudflare) judge(r request, res *http.Response, body []byte) (answer, *Error, bool) {
	status := res.StatusCode
	env, a, isJSON := open(body, r.into)
	if status < 300 && isJSON && *env.Success {
		return a, nil, false
	}
	codes, said := env.failures()
	has := func(known ...int) bool {
		return slices.ContainsFunc(codes, func(code int) bool { return slices.Contains(known, code) })
	}
	say := func(kind Kind, advice string) *Error {
		what := fmt.Sprintf("HTTP %d", status)
		switch {
		case said != "":
			what += ", " + said
		case !isJSON:
			what += " with a body that is no answer of the API"
		}
		if advice != "" {
			what += ": " + advice
		}
		return c.failed(r.op, kind, errors.New(what))
	}
	now := time.Now()
	wait, named := parseRetryAfter(res.Header.Get("Retry-After"), now)
	e, again := (*Error)(nil), false
	switch {
	case has(codeDailyQuota):
		e = say(Throttled, "the daily quota of the free plan is used up; a paid plan has none")
		e.Until = now.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	case status == http.StatusTooManyRequests && has(codeKeyRate):
		e = say(Failed, "")
		e.Err, e.Until = fmt.Errorf("%w: %w", e.Err, errKeyRate), now.Add(keyPause)
	case status == http.StatusTooManyRequests, has(throttledCodes...):
		e = say(Throttled, "too many calls by this account, this token or this address")
		e.Until = now.Add(wait)
	case status == http.StatusRequestEntityTooLarge, status < 300 && len(body) > maxAnswerBytes:
		e = say(Rejected, "too large")
	case status < 500 && has(misconfiguredCodes...):
		e = say(Misconfigured, checkIDs)
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status < 500 && has(deniedCodes...):
		e = say(Denied, checkToken)
	case status < 500 && has(rejectedCodes...):
		e = say(Rejected, "")
	case status == http.StatusNotFound && has(codeAbsent):
		return answer{}, nil, false
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status >= 300 && status < 400:
		e = say(Misconfigured, checkIDs)
	case status == http.StatusRequestTimeout, status == http.StatusGatewayTimeout, status == 524:
		e = say(Unknown, "")
	case status >= 400 && status < 500:
		e = say(Failed, "")
	default:
		e, again = say(Failed, ""), true
		if named && status >= 500 {
			e.Until, again = now.Add(wait), false
		}
	}
	return answer{}, e, again
}

// failures is the codes of an answer's errors, and their text for people: the server's, so of
// limited length and of printable characters.
func (env envelope) failures() (codes []int, said string) {
	var list []struct {
		Code    json.Number `json:"code"`
		Message string      `json:"message"`
	}
	if json.Unmarshal(env.Errors, &list) != nil {
		return nil, ""
	}
	for _, f := range list {
		code, err := strconv.Atoi(f.Code.String())
		if err != nil {
			continue
		}
		codes = append(codes, code)
		if said == "" {
			said = fmt.Sprintf("code %d %q", code, printable(f.Message, 120))
		}
	}
	return codes, said
}

func printable(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}

// cursor is where a listing goes on. The documents name two places for it.
func (env envelope) cursor() string {
	var info struct {
		Cursor  string `json:"cursor"`
		Cursors struct {
			After string `json:"after"`
		} `json:"cursors"`
	}
	json.Unmarshal(env.Info, &info)
	if info.Cursor == "" {
		return info.Cursors.After
	}
	return info.Cursor
}

// parseRetryAfter reads the header's two forms, seconds or a date. named: there was one.
func parseRetryAfter(header string, now time.Time) (wait time.Duration, named bool) {
	header = strings.TrimSpace(header)
	if seconds, err := strconv.ParseFloat(header, 64); err == nil && seconds >= 0 {
		return time.Duration(min(max(seconds, 1), maxRetryAfter.Seconds()) * float64(time.Second)), true
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), time.Second), maxRetryAfter), true
	}
	return retryAfter, false
}

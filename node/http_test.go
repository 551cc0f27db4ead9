package node

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/leak"
)

// take100 is the contract's example: 100 tokens, so slow a refill that a test sees none.
func take100(t testing.TB) running {
	c := testConfig(t)
	c.Limits[0].Rate = mustRate(t, "100/h")
	return startNode(t, c)
}

func mustRate(t testing.TB, text string) crdt.Rate {
	t.Helper()
	r, err := crdt.ParseRate(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestATakeAnswersExactlyAsTheContractSays(t *testing.T) {
	n := startNode(t, testConfig(t))
	a := n.call(t, "POST", "/v1/take/per-user/alice", "")
	const body = `{"allowed":true,"limit":"per-user","key":"alice","cost":1,"remaining":99,"capacity":100,"refill_rate":10,"retry_after_ms":0,"backup":false}` + "\n"
	if a.StatusCode != 200 || a.body != body {
		t.Errorf("%s\n got %s\nwant %s", a.Status, a.body, body)
	}
	for name, want := range map[string]string{
		"Content-Type":     "application/json",
		"RateLimit-Policy": `"per-user";q=100;w=10`,
		"RateLimit":        `"per-user";r=99;t=0`,
		"Retry-After":      "",
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestTheHundredAndFirstTakeIsRefusedUntilItCouldSucceed(t *testing.T) {
	n := take100(t)
	for i := range 100 {
		if a := n.call(t, "POST", "/v1/take/per-user/alice", ""); a.StatusCode != 200 {
			t.Fatalf("take %d: %s", i+1, a.Status)
		}
	}
	a := n.call(t, "POST", "/v1/take/per-user/alice", "")
	var body struct {
		Allowed      bool  `json:"allowed"`
		Remaining    int64 `json:"remaining"`
		RetryAfterMS int64 `json:"retry_after_ms"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		t.Fatal(err)
	}
	var left, wait, retry int64
	fmt.Sscanf(a.Header.Get("RateLimit"), `"per-user";r=%d;t=%d`, &left, &wait)
	fmt.Sscan(a.Header.Get("Retry-After"), &retry)
	if a.StatusCode != 429 || body.Allowed || body.Remaining != 0 || left != 0 {
		t.Errorf("%s %s", a.Status, a.body)
	}
	if a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("a refused take has the take's body, not %s", a.Header.Get("Content-Type"))
	}
	if wait < 35 || wait > 36 || retry < wait || retry*1000 < body.RetryAfterMS {
		t.Errorf("t=%d, Retry-After %d, %d ms; a token takes 36 s", wait, retry, body.RetryAfterMS)
	}
}

func TestRateLimitFieldsRoundUpAndNeverGoNegative(t *testing.T) {
	limit := func(capacity crdt.Milli, rate string) *Limit {
		d := crdt.Definition{Name: "x", Capacity: capacity, Rate: mustRate(t, rate)}
		return &Limit{Definition: d, face: newFace(d, false)}
	}
	for _, c := range []struct {
		d                    Decision
		policy, field, retry string
	}{
		{Decision{Allowed: true, Limit: limit(100_000, "30"), Level: 99_999}, `"x";q=100;w=4`, `"x";r=99;t=0`, ""},
		{Decision{Limit: limit(1000, "1/d"), Level: -5000, RetryAfter: time.Nanosecond, ResetAfter: time.Nanosecond}, `"x";q=1;w=86400`, `"x";r=0;t=1`, "1"},
		{Decision{Limit: limit(1000, "1000000"), Level: 0, RetryAfter: 1001 * time.Millisecond, ResetAfter: 3 * time.Second}, `"x";q=1;w=1`, `"x";r=0;t=3`, "3"},
		{Decision{Limit: limit(5000, "1"), Level: 3000, RetryAfter: 2 * time.Second, ResetAfter: 2 * time.Second}, `"x";q=5;w=5`, `"x";r=3;t=2`, "2"},
		{Decision{Limit: limit(5000, "1"), Level: 3000}, `"x";q=5;w=5`, `"x";r=3;t=0`, "1"},
	} {
		w := httptest.NewRecorder()
		setRateLimit(w.Header(), &c.d)
		var wire strings.Builder // the names are not spelt as Go would, so Get does not find them
		w.Header().Write(&wire)
		want := "RateLimit: " + c.field + "\r\nRateLimit-Policy: " + c.policy + "\r\n"
		if c.retry != "" {
			want += "Retry-After: " + c.retry + "\r\n"
		}
		if wire.String() != want {
			t.Errorf("got\n%swant\n%s", wire.String(), want)
		}
	}
}

// Every refusal of the contract: its status, a detail that helps, and nothing taken.
func TestARefusedRequestSaysWhatToDoAndTakesNothing(t *testing.T) {
	n := take100(t)
	long := strings.Repeat("k", 256)
	big := strings.Repeat(" ", maxBody+1)
	many := `{"takes":[` + strings.Repeat(`{"limit":"per-user","key":"alice"},`, 1000) + `{"limit":"per-user","key":"alice"}]}`
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/v1/take/nope/alice", "", 404, "/v1/limits"},
		{"POST", "/v1/take/per-user/", "", 400, "key"},
		{"POST", "/v1/take/per-user", "", 400, "key"},
		{"POST", "/v1/take//alice", "", 400, "limit"},
		{"POST", "/v1/take/per-user/alice/", "", 400, "%2F"},
		{"POST", "/v1/take/per-user/" + long, "", 400, "255"},
		{"POST", "/v1/take/per-user/%FF", "", 400, "UTF-8"},
		{"POST", "/v1/take/per-user/alice?cost=0", "", 400, "whole number"},
		{"POST", "/v1/take/per-user/alice?cost=-1", "", 400, "whole number"},
		{"POST", "/v1/take/per-user/alice?cost=1.5", "", 400, "whole number"},
		{"POST", "/v1/take/per-user/alice?cost=1e1", "", 400, "whole number"},
		{"POST", "/v1/take/per-user/alice?cost=", "", 400, "whole number"},
		{"POST", "/v1/take/per-user/alice?cost=%2B1", "", 400, "whole number"},
		{"POST", "/v1/take/per-user/alice?cost=1&cost=1", "", 400, "one whole number"},
		{"POST", "/v1/take/per-user/alice?cost=99999999999999999999", "", 400, "whole number"},
		{"POST", "/v1/take/per-user/alice?cost=%zz", "", 400, "?cost=1"},
		{"POST", "/v1/take/per-user/alice?cost=101", "", 400, "capacity"},
		{"POST", "/v1/take/per-user/alice", big, 413, "1 MiB"},
		{"GET", "/v1/take/per-user/alice", "", 405, "POST"},
		{"DELETE", "/v1/buckets/per-user/alice", "", 405, "GET"},
		{"POST", "/v1/limits", "", 405, "GET"},
		{"BREW", "/v1/take", "", 405, "POST"},
		{"GET", "/", "", 404, "/v1/take"},
		{"GET", "/v1/limits/", "", 404, "/v1/limits"},
		{"GET", "/v1/nothing", "", 404, "/v1/take"},

		{"POST", "/v1/take", "", 400, `"takes"`},
		{"POST", "/v1/take", "{", 400, `"takes"`},
		{"POST", "/v1/take", "[]", 400, `"takes"`},
		{"POST", "/v1/take", `{"takes":[]}`, 400, "1 to 1000"},
		{"POST", "/v1/take", many, 400, "1 to 1000"},
		{"POST", "/v1/take", big, 413, "1 MiB"},
		{"POST", "/v1/take", `{"takes":[{"limit":"per-user","key":"alice"}]} {}`, 400, "follows"},
		{"POST", "/v1/take", `{"takes":[{"limit":"per-user","key":"alice","coast":1}]}`, 400, "coast"},
		{"POST", "/v1/take", `{"takes":[{"limit":"per-user","key":"alice","cost":1.5}]}`, 400, "cost"},
		{"POST", "/v1/take", `{"takes":[{"limit":"per-user","key":"alice"},{"limit":"per-user","key":"alice","cost":0}]}`, 400, "takes[1]"},
		{"POST", "/v1/take", `{"takes":[{"limit":"per-user","key":"alice"},{"limit":"nope","key":"alice"}]}`, 404, "takes[1]"},
		{"POST", "/v1/take", `{"takes":[{"limit":"per-user","key":"alice"},{"limit":"per-user","key":""}]}`, 400, "takes[1]"},
		{"POST", "/v1/take", `{"takes":[{"limit":"per-user","key":"alice"},{"limit":"per-user","key":"alice","cost":101}],"atomic":true}`, 400, "takes[1]"},
		{"POST", "/v1/take", `{"takes":[{"limit":"per-user","key":"al` + "\xff" + `"}]}`, 400, "UTF-8"},

		{"POST", "/v1/credit/nope/alice", "", 404, "/v1/limits"},
		{"POST", "/v1/credit/per-user/alice?tokens=0", "", 400, "tokens"},
		{"GET", "/v1/credit/per-user/alice", "", 405, "POST"},
		{"GET", "/v1/buckets/nope/alice", "", 404, "/v1/limits"},
		{"GET", "/v1/buckets/per-user/" + long, "", 400, "255"},
	} {
		a := n.call(t, c.method, c.path, c.body)
		name := fmt.Sprintf("%s %.60s %.80s", c.method, c.path, strings.TrimSpace(c.body))
		checkProblem(t, name, a, c.status, c.says)
		if c.status == 405 && !strings.Contains(a.Header.Get("Allow"), c.says) {
			t.Errorf("%s: Allow: %q", name, a.Header.Get("Allow"))
		}
		if b, err := n.Look("per-user", "alice"); err != nil || b.Level != 100*crdt.Token {
			t.Fatalf("%s took something: level %d, %v", name, b.Level, err)
		}
	}
}

func checkProblem(t *testing.T, name string, a answer, status int, says string) {
	t.Helper()
	var p problemBody
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Errorf("%s: %v in %s", name, err, a.body)
	}
	if a.StatusCode != status || p.Status != status || p.Title == "" || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: %s %s, want %d as problem+json", name, a.Status, a.body, status)
	}
	if !strings.Contains(p.Detail, says) {
		t.Errorf("%s: the detail %q does not speak of %q", name, p.Detail, says)
	}
}

func TestAChunkedBodyIsBoundedToo(t *testing.T) {
	n := take100(t)
	r, _ := http.NewRequest("POST", "http://"+n.http+"/v1/take/per-user/alice", io.LimitReader(endless{}, maxBody+1))
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if b, _ := n.Look("per-user", "alice"); resp.StatusCode != 413 || b.Level != 100*crdt.Token {
		t.Errorf("%s, level %d", resp.Status, b.Level)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// Two spellings of a key are one bucket, and no spelling escapes into another.
func TestKeysAreWhatTheyDecodeTo(t *testing.T) {
	n := take100(t)
	for path, key := range map[string]string{
		"alice": "alice", "%61lice2": "alice2", "a%2Fb": "a/b", "a%2fc": "a/c", "a+b": "a+b", "a%20b": "a b",
		"..": "..", "%2e": ".", "%2525": "%25", "x%25%2Fy": "x%/y", "%00": "\x00", "%22%5C": "\"\\", "%3Cé%3E": "<é>",
		"a%3Fcost=5": "a?cost=5", strings.Repeat("k", 255): strings.Repeat("k", 255),
	} {
		a := n.call(t, "POST", "/v1/take/per-user/"+path, "")
		var body struct {
			Key       string `json:"key"`
			Remaining int    `json:"remaining"`
		}
		if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Key != key || body.Remaining != 99 {
			t.Errorf("%s: %s %s, want the key %q", path, a.Status, a.body, key)
		}
		if b, err := n.Look("per-user", key); err != nil || b.Level/crdt.Token != 99 {
			t.Errorf("%s: bucket %q has %d, %v", path, key, b.Level, err)
		}
	}
}

func TestABatchAnswersEachTakeInOrder(t *testing.T) {
	n := take100(t)
	const two = `{"takes":[{"limit":"per-user","key":"alice","cost":60},{"limit":"per-user","key":"alice","cost":60},{"limit":"per-ip","key":"::1"}]%s}`
	a := n.call(t, "POST", "/v1/take", fmt.Sprintf(two, `,"atomic":true`))
	if b, _ := n.Look("per-user", "alice"); a.StatusCode != 429 || b.Level != 100*crdt.Token || strings.Contains(a.body, `"allowed":true`) {
		t.Errorf("atomic, and not all fit: %s, %s, and %d left", a.Status, a.body, b.Level)
	}
	a = n.call(t, "POST", "/v1/take", fmt.Sprintf(two, ""))
	var body struct {
		Allowed bool `json:"allowed"`
		Takes   []struct {
			Allowed      bool   `json:"allowed"`
			Limit        string `json:"limit"`
			Cost         int64  `json:"cost"`
			Remaining    int64  `json:"remaining"`
			RetryAfterMS int64  `json:"retry_after_ms"`
		} `json:"takes"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	if a.StatusCode != 429 || body.Allowed || len(body.Takes) != 3 {
		t.Fatalf("%s %s", a.Status, a.body)
	}
	first, second, third := body.Takes[0], body.Takes[1], body.Takes[2]
	if !first.Allowed || first.Remaining != 40 || second.Allowed || second.Remaining != 40 || second.RetryAfterMS == 0 ||
		!third.Allowed || third.Limit != "per-ip" || third.Cost != 1 {
		t.Errorf("%s", a.body)
	}
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if a = n.call(t, "POST", "/v1/take", `{"takes":[{"limit":"per-ip","key":"::2"}]}`); a.StatusCode != 200 || !strings.HasPrefix(a.body, `{"allowed":true,"takes":[{"allowed":true,`) {
		t.Errorf("%s %s", a.Status, a.body)
	}
}

func TestACreditGivesBackAndABucketShowsIt(t *testing.T) {
	n := startNode(t, func() Config {
		c := testConfig(t)
		c.Limits[0].Rate = mustRate(t, "1/d")
		return c
	}())
	n.call(t, "POST", "/v1/take/per-user/alice?cost=5", "")
	a := n.call(t, "POST", "/v1/credit/per-user/alice?tokens=3", "")
	if !strings.HasPrefix(a.body, `{"limit":"per-user","key":"alice","tokens":3,"remaining":98,"capacity":100,`) {
		t.Errorf("%s %s", a.Status, a.body)
	}
	a = n.call(t, "GET", "/v1/buckets/per-user/alice", "")
	var body struct {
		Tokens int64 `json:"tokens"`
		Debt   *json.Number
		Slots  []struct {
			Node, Writer    string
			Taken, Credited json.Number
		}
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Tokens != 98 || body.Debt == nil || len(body.Slots) != 1 ||
		body.Slots[0].Node != "edge-1" || body.Slots[0].Taken != "5" || body.Slots[0].Credited != "3" {
		t.Errorf("%v in %s", err, a.body)
	}
	if a = n.call(t, "GET", "/v1/buckets/per-user/nobody", ""); !strings.Contains(a.body, `"tokens":100,`) || !strings.Contains(a.body, `"slots":[]`) {
		t.Errorf("a key never seen: %s", a.body)
	}
	if a = n.call(t, "HEAD", "/v1/buckets/per-user/nobody", ""); a.StatusCode != 200 || a.body != "" {
		t.Errorf("HEAD: %s %s", a.Status, a.body)
	}
}

func TestTokensAreExactJSONNumbers(t *testing.T) {
	for m, want := range map[crdt.Milli]string{0: "0", 1: "0.001", 10: "0.01", 500: "0.5", -500: "-0.5", 99_000: "99", -12_250: "-12.25", 1_000_001: "1000.001"} {
		if b, err := json.Marshal(milli(m)); err != nil || string(b) != want {
			t.Errorf("%d: %s, %v, want %s", m, b, err, want)
		}
	}
}

func TestClusterAndLimitsHaveTheirBodies(t *testing.T) {
	n := startNode(t, testConfig(t))
	a := n.call(t, "GET", "/v1/cluster", "")
	for _, field := range []string{`"node":"edge-1"`, `"members":[{"node":"edge-1","region":"default","state":"alive","lag_ms":`, `"rtt_ms":`, `"clock_skew_ms":`,
		`"expected_members":`, `"reachable_members":`, `"policies":{`, `"quorum":{"speed":`, `"refill_paused":false`, `"ready":true`,
		`"store":{"fallback_active":false,"pending_segments":0,"last_snapshot":`} {
		if !strings.Contains(a.body, field) {
			t.Errorf("no %s in %s", field, a.body)
		}
	}
	a = n.call(t, "GET", "/v1/limits", "")
	if !strings.HasPrefix(a.body, `{"version":0,"limits":[{"name":"per-api-key","capacity":10000,"refill_rate":166.66666666666666,`) {
		t.Errorf("%s", a.body)
	}
}

// What serve starts, it ends: a test process that holds many nodes would drown otherwise.
func TestServingLeavesNothingBehind(t *testing.T) {
	defer leak.None(t, goleak.IgnoreCurrent())
	t.Run("a life", func(t *testing.T) {
		n := startNode(t, fileConfig(t, goodFile))
		n.call(t, "POST", "/v1/take/per-user/alice", "")
	})
}

func TestAnAddressInUseSaysWhichFlagToChange(t *testing.T) {
	n := startNode(t, testConfig(t))
	for flag, spoil := range map[string]func(*Config){
		"--http":         func(c *Config) { c.HTTP = n.http },
		"--metrics-port": func(c *Config) { fmt.Sscan(strings.TrimPrefix(n.metrics, "127.0.0.1:"), &c.MetricsPort) },
	} {
		c := testConfig(t)
		spoil(&c)
		other, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Run(t.Context()); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func FuzzPathAndQueryNeverPanic(f *testing.F) {
	f.Add("per-user/a%2Fb", "cost=1")
	f.Add("per-user/%FF", "cost=%zz&cost=1")
	f.Fuzz(func(t *testing.T, path, query string) {
		r, err := http.NewRequest("POST", "http://x/v1/take/"+path, nil)
		if err != nil {
			return
		}
		rest, _ := strings.CutPrefix(r.URL.EscapedPath(), "/v1/take/")
		if r.URL.RawPath == "" {
			rest, _ = strings.CutPrefix(r.URL.Path, "/v1/take/")
		}
		if _, key, err := bucketPath(r, rest); err == nil && key == "" {
			t.Error("an empty key")
		}
		if n, err := tokenCount(query, "cost"); err == nil && (n < 1 || n > 1e9) {
			t.Errorf("a cost of %d", n)
		}
	})
}

package node

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRatingsAnswerAsDocumented(t *testing.T) {
	n := startNode(t, testConfig(t))
	for _, c := range []struct{ method, path, body, want string }{
		{"GET", "/v1/ratings/coffee%2Flatte", "", `{"subject":"coffee/latte","up":0,"down":0,"votes":0,"score":0,"wilson_lower_bound":0}`},
		{"GET", "/v1/ratings", "", `{"ratings":[]}`},
		{"POST", "/v1/ratings/coffee%2Flatte", `{"vote":1,"rater":"alice"}`,
			`{"subject":"coffee/latte","up":1,"down":0,"votes":1,"score":1,"wilson_lower_bound":0.206549314,"vote":1,"changed":true}`},
		{"POST", "/v1/ratings/coffee%2Flatte", `{"vote":1,"rater":"alice"}`,
			`{"subject":"coffee/latte","up":1,"down":0,"votes":1,"score":1,"wilson_lower_bound":0.206549314,"vote":1,"changed":false}`},
		{"POST", "/v1/ratings/coffee%2Fmocha", `{"vote":-1}`,
			`{"subject":"coffee/mocha","up":0,"down":1,"votes":1,"score":-1,"wilson_lower_bound":0,"vote":-1,"changed":true}`},
		{"GET", "/v1/ratings?top=1", "", `{"ratings":[{"subject":"coffee/latte","up":1,"down":0,"votes":1,"score":1,"wilson_lower_bound":0.206549314}]}`},
		{"GET", "/v1/ratings?prefix=coffee/m&top=1000", "", `{"ratings":[{"subject":"coffee/mocha","up":0,"down":1,"votes":1,"score":-1,"wilson_lower_bound":0}]}`},
		{"POST", "/v1/ratings/coffee%2Flatte", `{"vote":0,"rater":"alice"}`,
			`{"subject":"coffee/latte","up":0,"down":0,"votes":0,"score":0,"wilson_lower_bound":0,"vote":0,"changed":true}`},
	} {
		if a := n.call(t, c.method, c.path, c.body); a.StatusCode != 200 || a.body != c.want+"\n" {
			t.Errorf("%s %s %s: %s\n got %s\nwant %s", c.method, c.path, c.body, a.Status, a.body, c.want)
		}
	}
	for range 2 { // a retry with its key counts once
		n.call(t, "POST", "/v1/ratings/tea", `{"vote":1}`, "Idempotency-Key", `"7f3a"`)
	}
	if a := n.call(t, "GET", "/v1/ratings/tea", ""); !strings.Contains(a.body, `"up":1,`) {
		t.Error(a.body)
	}
	a := call(t, "GET", "http://"+n.metrics+"/metrics", "")
	for _, want := range []string{
		"openclaw_ratings_subjects 3", "openclaw_ratings_votes 2",
		`openclaw_ratings_requests_total{result="counted"} 4`, `openclaw_ratings_requests_total{result="unchanged"} 2`,
		`openclaw_ratings_requests_total{result="limited"} 0`, `openclaw_ratings_refused_votes_total{reason="clock"} 0`,
		`openclaw_http_requests_total{method="POST",route="/v1/ratings/{subject}",status="200"} 6`,
		`openclaw_http_requests_total{method="POST",route="/v1/ratings/{subject}",status="429"} 0`,
	} {
		if !strings.Contains(a.body, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}

// Every vote takes one token of its rater, or of the address that an anonymous one comes from;
// whose bucket is dry gets the answer of a take, and nothing is recorded.
func TestAVoteTakesAToken(t *testing.T) {
	n := take100(t)
	n.call(t, "POST", "/v1/take/per-user/alice?cost=98", "")
	for i, want := range []int{200, 200, 429} {
		a := n.call(t, "POST", "/v1/ratings/latte", fmt.Sprintf(`{"vote":%d,"rater":"alice"}`, 1-i))
		if a.StatusCode != want {
			t.Fatalf("vote %d: %s %s", i, a.Status, a.body)
		}
		if left := fmt.Sprintf(`"per-user";r=%d;t=`, max(0, 1-i)); !strings.HasPrefix(a.Header.Get("RateLimit"), left) {
			t.Errorf("vote %d: RateLimit: %s", i, a.Header.Get("RateLimit"))
		}
		if want == 429 && (a.Header.Get("Retry-After") == "" || !strings.HasPrefix(a.body, `{"allowed":false,"limit":"per-user","key":"alice","cost":1,"remaining":0,`)) {
			t.Errorf("%v %s", a.Header, a.body)
		}
	}
	if a := n.call(t, "GET", "/v1/ratings/latte", ""); !strings.Contains(a.body, `"up":0,"down":0,`) {
		t.Errorf("after a refused vote: %s", a.body)
	}
	n.call(t, "POST", "/v1/ratings/latte", `{"vote":1}`)
	if a := n.call(t, "GET", "/v1/buckets/per-user/127.0.0.1", ""); !strings.Contains(a.body, `"tokens":99,`) {
		t.Errorf("the bucket of the address: %s", a.body)
	}
}

func TestRefusedRatingsSayWhatToDo(t *testing.T) {
	n := take100(t)
	const at = "/v1/ratings/latte"
	for _, c := range []struct {
		method, path, body string
		status             int
		detail             string
	}{
		{"POST", at, `{"vote":2,"rater":"a"}`, 400, "write 1, -1, or 0 to withdraw one"},
		{"POST", at, `{"vote":1.5}`, 400, "bad JSON"},
		{"POST", at, `{"rater":"a"}`, 400, "the vote is missing"},
		{"POST", at, `{"vote":1,"voter":"a"}`, 400, `unknown field \"voter\"`},
		{"POST", at, `{"vote":1}{}`, 400, "something follows"},
		{"POST", at, "{\"vote\":1,\"rater\":\"\xff\"}", 400, "not UTF-8"},
		{"POST", at, `{"vote":0}`, 400, "Idempotency-Key"},
		{"POST", at, `{"vote":1,"rater":"` + strings.Repeat("x", 256) + `"}`, 400, "the rater has 256 bytes"},
		{"POST", at, strings.Repeat(" ", maxBody+1), 413, "over 1 MiB"},
		{"POST", "/v1/ratings/", `{"vote":1}`, 400, "the subject has 0 bytes"},
		{"POST", "/v1/ratings/" + strings.Repeat("x", 256), `{"vote":1}`, 400, "the subject has 256 bytes"},
		{"GET", "/v1/ratings/" + strings.Repeat("x", 256), "", 400, "the subject has 256 bytes"},
		{"GET", "/v1/ratings/a/b", "", 400, "write it as %2F"},
		{"GET", "/v1/ratings/%ff", "", 400, "percent-encoded UTF-8"},
		{"GET", "/v1/ratings?top=0", "", 400, "from 1 to 1000"},
		{"GET", "/v1/ratings?top=1001", "", 400, "from 1 to 1000"},
		{"GET", "/v1/ratings?top=ten", "", 400, "from 1 to 1000"},
		{"DELETE", at, "", 405, "answers to GET, HEAD, POST only"},
		{"POST", "/v1/ratings", "", 405, "answers to GET, HEAD only"},
	} {
		a := n.call(t, c.method, c.path, c.body)
		if a.StatusCode != c.status || !strings.Contains(a.body, c.detail) || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %.40s %.40s: %s %s", c.method, c.path, c.body, a.Status, a.body)
		}
	}
	if a := n.call(t, "GET", "/v1/buckets/per-user/127.0.0.1", ""); !strings.Contains(a.body, `"tokens":100,`) {
		t.Errorf("a refused vote took something: %s", a.body)
	}
	if a := n.call(t, "GET", "/v1/ratings", ""); a.body != "{\"ratings\":[]}\n" {
		t.Error(a.body)
	}
}

func TestRatingsNeedALimitThatIsInForce(t *testing.T) {
	c := testConfig(t)
	c.RatingsLimit = "raters"
	s := newTestServer(t, c)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", "/v1/ratings/latte", strings.NewReader(`{"vote":1,"rater":"alice"}`)))
	var p problemBody
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 404 || !strings.Contains(p.Detail, "under ratings.limit") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for from, want := range map[string]string{"192.0.2.7:99": "192.0.2.7", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64", "[::ffff:192.0.2.7]:9": "192.0.2.7", "@": "unknown", "127.0.0.1:8": "203.0.113.9"} {
		r := httptest.NewRequest("POST", "/", nil)
		r.RemoteAddr = from
		r.Header.Set("X-Forwarded-For", "198.51.100.1, 203.0.113.9")
		if got := raterAddress(r, loopback()); got != want {
			t.Errorf("%s is charged as %s, want %s", from, got, want)
		}
	}
}

func TestRatingsLimitComesFromTheFile(t *testing.T) {
	const limits = "limits:\n- {name: a, capacity: 1, refill_rate: 1}\n"
	c, _, err := parseConfig("edge.yaml", []byte(limits+"ratings: {limit: a}\n"), someTime)
	if err != nil || c.RatingsLimit != "a" {
		t.Errorf("%q, %v", c.RatingsLimit, err)
	}
	if _, _, err = parseConfig("edge.yaml", []byte(limits+"ratings: {limit: b}\n"), someTime); err == nil || !strings.Contains(err.Error(), `3:18: ratings.limit: no limit is named "b"`) {
		t.Error(err)
	}
}

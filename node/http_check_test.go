package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openclaw/edge/crdt"
)

// checkServer has a limit for every kind of key, on a node that does not run: time stands still.
func checkServer(t testing.TB, adjust ...func(*Config)) *server {
	t.Helper()
	c := testConfig(t)
	c.TrustedProxies = nets(t, "10.0.0.0/8")
	c.Limits = nil
	for name, key := range map[string]string{
		"user": "header=X-User-ID", "api": "header=Authorization,hash", "token": "header=X-Token,hash", "ip": "ip",
		"path": "path=2", "all": "global", "route": "header=X-User-ID+method+path=1", "keyless": "", "newer": "ip+moon=full",
	} {
		c.Limits = append(c.Limits, crdt.Definition{Name: name, Capacity: 10 * crdt.Token, Rate: mustRate(t, "1"), MaxBuckets: 1000, Key: key})
	}
	for _, f := range adjust {
		f(&c)
	}
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask sends a check from a proxy at 10.0.0.1; headers are name, value, name, value.
func (s *server) ask(path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	r.RemoteAddr = "10.0.0.1:1234"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// taken is what Look finds taken from a key, in tokens.
func (s *server) taken(t testing.TB, limit, key string) (sum int) {
	t.Helper()
	b, err := s.node.Look(limit, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range b.Slots {
		sum += int(slot.Taken / crdt.Token)
	}
	return sum
}

func hashed(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])[:32]
}

func TestACheckTakesFromTheKeyThatTheLimitSays(t *testing.T) {
	s := checkServer(t)
	for _, c := range []struct {
		limit, key string
		headers    []string
	}{
		{"user", "alice", []string{"X-User-ID", "alice"}},
		{"user", "a b/c?", []string{"x-user-id", "a b/c?"}},
		{"user", hashed(strings.Repeat("x", 256)), []string{"X-User-ID", strings.Repeat("x", 256)}},
		{"user", hashed("\xff"), []string{"X-User-ID", "\xff"}},
		{"token", hashed("s3cret"), []string{"X-Token", "s3cret"}},
		{"token", hashed(strings.Repeat("x", 1000)), []string{"X-Token", strings.Repeat("x", 1000)}},
		{"api", hashed("s3cret"), []string{"Authorization", "Bearer s3cret"}},
		{"api", hashed("s3cret"), []string{"Authorization", "bEARER   s3cret"}},
		{"api", hashed("s3cret"), []string{"Authorization", "s3cret"}},
		{"ip", "203.0.113.7", []string{"X-Forwarded-For", "1.1.1.1, 203.0.113.7"}},
		{"ip", "203.0.113.7", []string{"X-Forwarded-For", "2.2.2.2", "X-Forwarded-For", "::ffff:203.0.113.7"}},
		{"ip", "2001:db8::/64", []string{"X-Forwarded-For", "2001:db8::1"}},
		{"ip", "10.0.0.1", []string{"X-Real-IP", "1.1.1.1", "Forwarded", "for=1.1.1.1"}},
		{"path", "/v1/users", []string{"X-Original-URI", "/v1/users/7?x"}},
		{"path", "/v1/users", []string{"X-Forwarded-Uri", "/v1//users"}},
		{"all", "global", nil},
		{"route", "alice|POST|/v1", []string{"X-User-ID", "alice", "X-Forwarded-Method", "POST", "X-Forwarded-Uri", "/v1/x"}},
		{"route", "alice|POST|/v1", []string{"X-User-ID", "alice", "X-Original-Method", "POST", "X-Original-URI", "/v1/y"}},
	} {
		before := s.taken(t, c.limit, c.key)
		if w := s.ask("/v1/check/"+c.limit, c.headers...); w.Code != 200 || w.Body.Len() > 0 {
			t.Errorf("%s %q: %d %s", c.limit, c.headers, w.Code, w.Body)
		}
		if after := s.taken(t, c.limit, c.key); after != before+1 {
			t.Errorf("%s %q: %d taken from %q, want %d", c.limit, c.headers, after, c.key, before+1)
		}
	}
}

// The answer on the wire, and the same bucket as a take's.
func TestACheckAnswersAsATakeWithoutItsBody(t *testing.T) {
	n := take100(t)
	for _, method := range []string{"GET", "POST"} {
		a := n.call(t, method, "/v1/check/per-user", "", "X-User-ID", "alice")
		if a.StatusCode != 200 || a.body != "" || a.ContentLength != 0 || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v %q", method, a.Response, a.body)
		}
	}
	take := n.call(t, "POST", "/v1/take/per-user/alice?cost=98", "")
	if !strings.Contains(take.body, `"remaining":0`) {
		t.Errorf("a take of what the checks left: %s", take.body)
	}
	a := n.call(t, "GET", "/v1/check/per-user", "", "X-User-ID", "alice")
	var left, wait, retry int64
	fmt.Sscanf(a.Header.Get("RateLimit"), `"per-user";r=%d;t=%d`, &left, &wait)
	fmt.Sscan(a.Header.Get("Retry-After"), &retry)
	if a.StatusCode != 429 || a.body != "" || a.ContentLength != 0 || left != 0 || wait < 35 || wait > 36 || retry < wait {
		t.Errorf("%v %q", a.Response, a.body)
	}
	if policy := a.Header.Get("RateLimit-Policy"); policy != `"per-user";q=100;w=3600` {
		t.Error(policy)
	}
	checkProblem(t, "DELETE", n.call(t, "DELETE", "/v1/check/per-user", ""), 405, "GET, POST only")
	page := call(t, "GET", "http://"+n.metrics+"/metrics", "")
	for _, line := range []string{`method="GET",route="/v1/check/{limit}",status="429"} 1`, `method="POST",route="/v1/check/{limit}",status="200"} 1`} {
		if !strings.Contains(page.body, line) {
			t.Errorf("no %s", line)
		}
	}
}

func TestARefusedCheckSaysWhatToDoAndTakesNothing(t *testing.T) {
	s := checkServer(t)
	alice := []string{"X-User-ID", "alice"}
	for _, c := range []struct {
		path    string
		headers []string
		status  int
		says    string
	}{
		{"/v1/check/user", nil, 400, "X-User-Id is missing"},
		{"/v1/check/user", []string{"X-User-ID", ""}, 400, "X-User-Id is missing"},
		{"/v1/check/user", []string{"X-User-ID", "alice", "X-User-ID", "bob"}, 400, "send it once"},
		{"/v1/check/api", nil, 400, "Authorization is missing"},
		{"/v1/check/path", nil, 400, "have the proxy set it"},
		{"/v1/check/path", []string{"X-Original-URI", "/a", "X-Forwarded-Uri", "/b"}, 400, "differ"},
		{"/v1/check/path", []string{"X-Original-URI", "/a", "X-Original-URI", "/b"}, 400, "send it once"},
		{"/v1/check/route", alice, 400, "X-Original-Method is missing"},
		{"/v1/check/keyless", alice, 400, "key: {header: X-User-ID}"},
		{"/v1/check/newer", alice, 501, "upgrade"},
		{"/v1/check/nope", alice, 404, "/v1/limits"},
		{"/v1/check/", alice, 400, "/v1/check/LIMIT"},
		{"/v1/check/user/alice", alice, 400, "/v1/check/LIMIT"},
		{"/v1/check", alice, 404, ""},
		{"/v1/check/user?cost=0", alice, 400, "whole number"},
		{"/v1/check/user?cost=11", alice, 400, "capacity"},
		{"/v1/check/user?cost_header=", alice, 400, "name of a request header"},
		{"/v1/check/user?cost_header=X-Cost", append(alice, "X-Cost", "-1"), 400, "X-Cost must be one whole number"},
		{"/v1/check/user?cost_header=X-Cost", append(alice, "X-Cost", "11"), 400, "capacity"},
		{"/v1/check/user?cost_header=X-Cost", append(alice, "X-Cost", "1", "X-Cost", "1"), 400, "send it once"},
	} {
		w := s.ask(c.path, c.headers...)
		checkProblem(t, c.path, answer{w.Result(), w.Body.String()}, c.status, c.says)
		if n := s.taken(t, "user", "alice"); n != 0 {
			t.Fatalf("%s %q took %d", c.path, c.headers, n)
		}
	}
}

func TestTheCostOfACheckIsThatOfWhoConfiguredTheProxy(t *testing.T) {
	s := checkServer(t)
	taken := 0
	for _, c := range []struct {
		query, header string
		cost          int
	}{{"", "", 1}, {"", "5", 1}, {"?cost=2", "", 2}, {"?cost=2", "5", 2}, {"?cost_header=x-cost", "", 1},
		{"?cost_header=X-Cost", "2", 2}, {"?cost=3&cost_header=X-Cost", "1", 1}} {
		headers := []string{"X-User-ID", "alice"}
		if c.header != "" {
			headers = append(headers, "X-Cost", c.header)
		}
		s.ask("/v1/check/user"+c.query, headers...)
		if taken += c.cost; s.taken(t, "user", "alice") != taken {
			t.Errorf("%s with X-Cost %s took %d, want %d", c.query, c.header, s.taken(t, "user", "alice")-taken+c.cost, c.cost)
		}
	}
}

// A secret is nowhere: not in the log at its most talkative, not in an answer, not in what is
// gossiped and stored, which is the table's keys.
func TestAnAPIKeyIsHashedBeforeItGoesAnywhere(t *testing.T) {
	var log bytes.Buffer
	s := checkServer(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	const secret = "sk-live-51HxyzSECRET"
	var said strings.Builder
	for range 11 { // the last one is refused
		w := s.ask("/v1/check/api", "Authorization", "Bearer "+secret)
		w.Result().Write(&said)
	}
	for _, headers := range [][]string{{"Authorization", secret, "Authorization", secret}, {"X-Token", secret, "X-Token", secret + "2"}} {
		s.ask("/v1/check/api", headers...).Result().Write(&said)
		s.ask("/v1/check/token", headers...).Result().Write(&said)
	}
	var keys []string
	for i := range s.node.table.shards {
		s.node.table.shards[i].each(func(e *entry, _ uint32) { keys = append(keys, e.key) })
	}
	if all := log.String() + said.String() + strings.Join(keys, " "); strings.Contains(all, secret) {
		t.Errorf("the secret is in %s", all)
	}
	if len(keys) != 1 || keys[0] != hashed(secret) || !strings.Contains(said.String(), "429") {
		t.Errorf("keys %q, answers %s", keys, said.String())
	}
}

func TestLegacyHeadersAreThereWhenAskedFor(t *testing.T) {
	for _, on := range []bool{false, true} {
		s := checkServer(t, func(c *Config) { c.LegacyHeaders = on })
		h := s.ask("/v1/check/user?cost=4", "X-User-ID", "alice").Header()
		var wire strings.Builder // the names are not spelt as Go would, so Get does not find them
		h.Write(&wire)
		want := "Cache-Control: no-store\r\nRateLimit: \"user\";r=6;t=0\r\nRateLimit-Policy: \"user\";q=10;w=10\r\n"
		if on {
			want += "X-RateLimit-Limit: 10\r\nX-RateLimit-Remaining: 6\r\nX-RateLimit-Reset: 4\r\n"
		}
		if wire.String() != want {
			t.Errorf("legacy %v:\n%swant\n%s", on, wire.String(), want)
		}
	}
}

func TestABatchAndALookHaveTheFieldsToo(t *testing.T) {
	n := take100(t)
	a := n.call(t, "POST", "/v1/take", `{"takes":[{"limit":"per-user","key":"alice","cost":2},{"limit":"per-ip","key":"::1"}]}`)
	if got := a.Header.Get("RateLimit") + " " + a.Header.Get("RateLimit-Policy"); got != `"per-user";r=98;t=0, "per-ip";r=299;t=0 "per-user";q=100;w=3600, "per-ip";q=300;w=10` {
		t.Error(got)
	}
	a = n.call(t, "POST", "/v1/take", `{"takes":[{"limit":"per-user","key":"alice"},{"limit":"per-user","key":"bob"}]}`)
	if got := a.Header.Get("RateLimit"); got != "" {
		t.Errorf("two keys of one limit: %s", got)
	}
	if got := n.call(t, "GET", "/v1/buckets/per-user/alice", "").Header.Get("RateLimit"); got != `"per-user";r=97;t=0` {
		t.Errorf("a look: %s", got)
	}
}

// What a file says of keys and proxies is what a check goes by; the text of a key is understood
// by those who get it from a peer.
func TestKeysAndProxiesOfTheFileAreUnderstood(t *testing.T) {
	const file = `
trusted_proxies: [10.1.2.3/8, 192.0.2.1, "::ffff:198.51.100.0/120", "2001:db8::1"]
legacy_headers: true
limits:
  - {name: a, capacity: 1, refill_rate: 1, key: [{header: X-API-Key, hash: true}, {method: true}, {path: 3}]}
  - {name: b, capacity: 1, refill_rate: 1, key: {path: 16}}
  - {name: c, capacity: 1, refill_rate: 1, key: [{ip: true}]}
`
	c, warnings, err := parseConfig("edge.yaml", []byte(file), someTime)
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	if got := fmt.Sprint(c.TrustedProxies); got != "[10.0.0.0/8 192.0.2.1/32 198.51.100.0/24 2001:db8::1/128]" || !c.LegacyHeaders {
		t.Error(got, c.LegacyHeaders)
	}
	for i, want := range []string{"header=X-API-Key,hash+method+path=3", "path=16", "ip"} {
		if got := c.Limits[i].Key; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if k := parseKeySpec(want); k.unknown || len(k.parts) != 1+strings.Count(want, "+") {
			t.Errorf("%s is %+v", want, k)
		}
	}
	for _, later := range []string{"moon", "path=0", "path=17", "path", "+", "ip+"} {
		if !parseKeySpec(later).unknown {
			t.Errorf("%q is taken for a key", later)
		}
	}
	c, _, err = parseConfig("edge.yaml", []byte("limits: [{name: a, capacity: 1, refill_rate: 1}]\ntrusted_proxies: []"), someTime)
	if err != nil || len(c.TrustedProxies) != 0 {
		t.Errorf("nobody is to be trusted: %v %v", c.TrustedProxies, err)
	}
}

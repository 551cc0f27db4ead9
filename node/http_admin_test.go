package node

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func newTestServer(t *testing.T, c Config) *server {
	t.Helper()
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

// operate asks for a harmless operator's call from peer.
func operate(s *server, peer string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/-/refill?paused=false", nil)
	r.RemoteAddr = peer
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestWithoutATokenOnlyThisMachineOperates(t *testing.T) {
	s := newTestServer(t, testConfig(t))
	for _, c := range []struct {
		name, peer string
		headers    []string
		status     int
	}{
		{"IPv4 loopback", "127.0.0.1:5000", nil, 200},
		{"IPv6 loopback", "[::1]:5000", nil, 200},
		{"IPv4 in IPv6", "[::ffff:127.0.0.1]:5000", nil, 200},
		{"another machine", "10.0.0.7:5000", nil, 403},
		{"no address at all", "@", nil, 403},
		{"behind a proxy", "127.0.0.1:5000", []string{"X-Forwarded-For", "10.0.0.7"}, 403},
		{"behind a standard proxy", "127.0.0.1:5000", []string{"Forwarded", "for=10.0.0.7"}, 403},
		{"a page in this machine's browser", "127.0.0.1:5000", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a token nobody asked for", "10.0.0.7:5000", []string{"Authorization", "Bearer x"}, 403},
	} {
		if w := operate(s, c.peer, c.headers...); w.Code != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.status)
		}
	}
}

func TestWithATokenOnlyItsHolderOperates(t *testing.T) {
	t.Setenv("TEST_ADMIN_TOKEN", "open sesame")
	c := testConfig(t)
	c.AdminTokenEnv = "TEST_ADMIN_TOKEN"
	s := newTestServer(t, c)
	for header, status := range map[string]int{
		"": 401, "Bearer": 401, "Bearer ": 401, "Bearer open": 401, "Bearer open sesame ": 401, "Basic open sesame": 401,
		"Bearer open sesame": 200, "bearer open sesame": 200,
	} {
		w := operate(s, "127.0.0.1:5000", "Authorization", header)
		if w.Code != status {
			t.Errorf("%q: %d, want %d", header, w.Code, status)
		}
		if w.Code == 401 && (w.Header().Get("WWW-Authenticate") != "Bearer" || strings.Contains(w.Body.String(), "sesame")) {
			t.Errorf("%q: %v %s", header, w.Header(), w.Body)
		}
	}
	if w := operate(s, "10.0.0.7:5000", "Authorization", "Bearer open sesame"); w.Code != 200 {
		t.Errorf("from another machine: %d", w.Code)
	}
}

// An empty token would let everybody in, or nobody.
func TestATokenVariableMustBeSet(t *testing.T) {
	t.Setenv("TEST_ADMIN_TOKEN", "")
	c := testConfig(t)
	c.AdminTokenEnv = "TEST_ADMIN_TOKEN"
	n, err := New(c)
	if err != nil {
		return // refused even earlier
	}
	if _, err := newServer(n); err == nil || !strings.Contains(err.Error(), "TEST_ADMIN_TOKEN") {
		t.Errorf("%v", err)
	}
}

func TestOperatorsMistakesAreAnsweredWithWhatToWrite(t *testing.T) {
	c := testConfig(t)
	c.Persist.Backend = BackendNone
	n := startNode(t, c)
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/-/refill", "", 400, "?paused=true"},
		{"POST", "/-/refill?paused=yes", "", 400, "?paused=true"},
		{"GET", "/-/refill?paused=true", "", 405, "POST"},
		{"POST", "/-/failover", "", 400, "?on=true"},
		{"POST", "/-/failover", `{"version":"3","alerts":[{"status":"firing"}]}`, 400, "version 4"},
		{"POST", "/-/failover", `{"version":"4","alerts":[]}`, 400, "alerts"},
		{"POST", "/-/failover", `{"version":"4","alerts":[{"status":"odd"}]}`, 400, "odd"},
		{"POST", "/-/failover?on=maybe", "", 400, "?on=true"},
		{"POST", "/-/failover", strings.Repeat(" ", maxBody+1), 413, "1 MiB"},
		{"POST", "/-/forget/", "", 400, "/v1/cluster"},
		{"POST", "/-/forget/a%2Fb", "", 400, "/v1/cluster"},
		{"POST", "/-/forget/edge-1?force=1", "", 400, "?force=true"},
		{"POST", "/-/snapshot", "", 503, "persist.kv.backend"},
		{"POST", "/-/reload", "", 409, "--config"},
		{"POST", "/-/nothing", "", 404, "/v1/take"},
	} {
		checkProblem(t, c.method+" "+c.path+" "+c.body[:min(40, len(c.body))], n.call(t, c.method, c.path, c.body), c.status, c.says)
	}
	if a := n.call(t, http.MethodPost, "/-/failover?on=true", ""); a.StatusCode != 200 {
		t.Errorf("%s %s", a.Status, a.body)
	}
}

package client_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/node/client"
	"github.com/openclaw/edge/testnet/certs"
)

// guard is a handler that counts what reaches it, behind the middleware.
func guard(t *testing.T, cfg client.Config) (ask func(set func(r *http.Request)) *httptest.ResponseRecorder, served *int) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Limit = "uploads"
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	served = new(int)
	h := c.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { *served++ }))
	return func(set func(r *http.Request)) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/", nil)
		if set != nil {
			set(r)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}, served
}

func user(name string) func(r *http.Request) {
	return func(r *http.Request) { r.Header.Set("X-User-ID", name) }
}

func userOf(r *http.Request) string { return r.Header.Get("X-User-ID") }

// field is a header field by the name that is on the wire, which net/http would spell otherwise.
func field(w *httptest.ResponseRecorder, name string) string {
	return strings.Join(w.Header()[name], "|")
}

// What the node decided arrives at the client: the fields, the status, and a problem that says when
// to come again. Whoever is limited, is: under any key, also one that no node takes as it is.
func TestTheNodesDecisionArrives(t *testing.T) {
	addr, stop := startNode()
	defer stop()
	ask, served := guard(t, client.Config{Addr: addr, Key: userOf, OnFailure: client.FailOpen})
	for _, key := range []string{"alice", "..", "a/b?c=%2F#d", strings.Repeat("long", 100), "no \xff UTF-8", "äö"} {
		*served = 0
		for range 2 {
			if w := ask(user(key)); w.Code != 200 || field(w, "RateLimit-Policy") != `"uploads";q=2;w=7200` || field(w, "RateLimit") == "" {
				t.Fatalf("%q: %d %v", key, w.Code, w.Header())
			}
		}
		w := ask(user(key))
		var p struct {
			Type, Title, Detail string
			Status              int
			Violated            []string `json:"violated-policies"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		wait := w.Header().Get("Retry-After")
		if w.Code != 429 || *served != 2 || wait == "" || field(w, "RateLimit") != `"uploads";r=0;t=`+wait {
			t.Errorf("%q: %d, %d served, %v", key, w.Code, *served, w.Header())
		}
		if w.Header().Get("Content-Type") != "application/problem+json" || p.Status != 429 || !strings.HasSuffix(p.Type, "#quota-exceeded") ||
			!strings.Contains(p.Detail, "try again in "+wait) || len(p.Violated) != 1 || p.Violated[0] != "uploads" {
			t.Errorf("%q: %s", key, w.Body)
		}
	}
	*served = 0
	if w := ask(nil); w.Code != 400 || *served > 0 {
		t.Errorf("nobody's request: %d, %d served", w.Code, *served)
	}
}

// Without a Key the peer is limited; who has many addresses of IPv6 is one peer.
func TestPeersAreLimitedByTheirNetwork(t *testing.T) {
	var key string
	ask, _ := guard(t, client.Config{Addr: "http://node", OnFailure: client.FailClosed, Transport: fakeNode(func(r *http.Request) (*http.Response, error) {
		key = strings.TrimPrefix(r.URL.Path, "/v1/take/uploads/")
		return answer(200, yes), nil
	})})
	for from, want := range map[string]string{
		"10.0.0.7:5000": "10.0.0.7", "[::ffff:10.0.0.7]:5000": "10.0.0.7",
		"[2001:db8:1:2:3::4]:5000": "2001:db8:1:2::/64", "[2001:db8:1:2:aaaa::]:1": "2001:db8:1:2::/64", "@": "@",
	} {
		if ask(func(r *http.Request) { r.RemoteAddr = from }); key != want {
			t.Errorf("%s: %s, want %s", from, key, want)
		}
	}
}

// A node that hangs costs its callers a few timeouts and not one each; when it is back, it is asked
// again within a second. What becomes of requests meanwhile is the choice made.
func TestADeadNodeCostsNoTimeoutEach(t *testing.T) {
	for choice, status := range map[client.Fallback]int{client.FailOpen: 200, client.FailClosed: 503} {
		synctest.Test(t, func(t *testing.T) {
			var log strings.Builder
			alive := false
			ask, served := guard(t, client.Config{
				Addr: "http://node", Key: userOf, OnFailure: choice, Timeout: 100 * time.Millisecond,
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
				Transport: fakeNode(func(r *http.Request) (*http.Response, error) {
					if !alive {
						return hangs(r)
					}
					return answer(200, yes), nil
				}),
			})
			began := time.Now()
			for range 1000 {
				if w := ask(user("alice")); w.Code != status {
					t.Fatal(w.Code, w.Body)
				}
			}
			if waited := time.Since(began); waited != 5*100*time.Millisecond {
				t.Errorf("a thousand requests waited %v for a dead node", waited)
			}
			if *served != 1000*btoi(choice == client.FailOpen) {
				t.Errorf("%d served", *served)
			}
			if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "no answer within 100ms") {
				t.Errorf("%d lines: %s", lines, log.String())
			}
			alive = true
			time.Sleep(time.Second + time.Millisecond)
			*served = 0
			if w := ask(user("alice")); w.Code != 200 || *served != 1 {
				t.Errorf("after the node came back: %d", w.Code)
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Clients that hang up are none of the node's failures, and are not served without a limit.
func TestAbandonedRequestsDoNotCountAgainstTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		ask, served := guard(t, client.Config{Addr: "http://node", Key: userOf, OnFailure: client.FailOpen, Transport: fakeNode(func(r *http.Request) (*http.Response, error) {
			asked++
			time.Sleep(10 * time.Millisecond)
			if r.Context().Err() != nil {
				return nil, r.Context().Err()
			}
			return answer(200, yes), nil
		})})
		for range 20 {
			ask(func(r *http.Request) {
				user("alice")(r)
				ctx, cancel := context.WithTimeout(r.Context(), time.Millisecond)
				t.Cleanup(cancel)
				*r = *r.WithContext(ctx)
			})
		}
		if *served > 0 {
			t.Errorf("%d requests that nobody waited for were served", *served)
		}
		if ask(user("alice")); asked != 21 || *served != 1 {
			t.Errorf("the node was asked %d times, %d served", asked, *served)
		}
	})
}

// What answers and is no node, or no longer knows the limit, has not decided: it is as OnFailure
// says, and the log says why.
func TestAnswersThatAreNoDecision(t *testing.T) {
	for body, status := range map[string]int{
		`{"detail":"unknown limit \"uploads\": GET /v1/limits lists those in force"}`: 404,
		`{"detail":"7 tokens are more than the capacity"}`:                            400,
		"<html>": 200, "{}": 200, `{"allowed":true,"limit":"uploads"}`: 429, "": 500, "moved": 302,
	} {
		var log strings.Builder
		ask, served := guard(t, client.Config{
			Addr: "http://node", Key: userOf, OnFailure: client.FailClosed, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Transport: fakeNode(func(*http.Request) (*http.Response, error) { return answer(status, body), nil }),
		})
		w := ask(user("alice"))
		if w.Code != 503 || *served > 0 || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "temporary-reduced-capacity") {
			t.Errorf("%d %s: %d %v %s", status, body, w.Code, w.Header(), w.Body)
		}
		why := http.StatusText(status)
		if p := strings.Split(body, `\"`); status == 404 || status == 400 {
			why = strings.TrimPrefix(p[0], `{"detail":"`)[:10]
		}
		if !strings.Contains(log.String(), why) {
			t.Errorf("%d %s: %s", status, body, log.String())
		}
	}
}

// Connections are kept: two hundred requests, one connection.
func TestConnectionsArePooled(t *testing.T) {
	var opened atomic.Int32
	pooled := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, yes) }))
	pooled.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	pooled.Start()
	defer pooled.Close()
	ask, served := guard(t, client.Config{Addr: pooled.URL + "/", Key: userOf, OnFailure: client.FailClosed, Timeout: 5 * time.Second})
	for range 200 {
		ask(user("alice"))
	}
	if n := opened.Load(); n != 1 || *served != 200 {
		t.Errorf("%d connections, %d served", n, *served)
	}
}

// A node with a client_ca decides for who has a certificate of it, over connections that are kept;
// to anybody else it is a node that does not answer.
func TestANodeAsksWhoWeAre(t *testing.T) {
	ours, other, dir := certs.New(t, "ours"), certs.New(t, "a stranger's"), t.TempDir()
	files := node.TLS{Cert: dir + "/node.pem", Key: dir + "/node.key", ClientCA: dir + "/ca.pem"}
	cert, key := ours.Issue(2, time.Hour)
	for path, text := range map[string]string{files.Cert: cert, files.Key: key, files.ClientCA: ours.PEM} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr, stop := startNodeWith(files)
	defer stop()
	addr = strings.Replace(addr, "http:", "https:", 1)
	for name, c := range map[string]struct {
		tls    *tls.Config
		status int
	}{"ours": {ours.Client(ours), 200}, "nobody": {ours.Client(nil), 503}, "a stranger": {ours.Client(other), 503}, "who does not trust it": {other.Client(ours), 503}, "the system's": {nil, 503}} {
		var log strings.Builder
		ask, served := guard(t, client.Config{Addr: addr, TLS: c.tls, Key: userOf, OnFailure: client.FailClosed, Timeout: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if w := ask(user(name)); w.Code != c.status || *served != btoi(c.status == 200) || (log.Len() > 0) != (c.status == 503) {
			t.Errorf("%s: %d, %d served, %s", name, w.Code, *served, log.String())
		}
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	for want, cfg := range map[string]client.Config{
		"write http://HOST:PORT":    {Addr: "127.0.0.1:8080", OnFailure: client.FailOpen},
		"choose FailOpen or":        {Addr: "http://127.0.0.1:8080"},
		"for an Addr of https":      {Addr: "http://127.0.0.1:8080", OnFailure: client.FailOpen, TLS: &tls.Config{}},
		"a Transport brings its":    {Addr: "https://127.0.0.1:8080", OnFailure: client.FailOpen, TLS: &tls.Config{}, Transport: http.DefaultTransport},
		"Timeout and MaxConns are ": {Addr: "http://127.0.0.1:8080", OnFailure: client.FailOpen, Timeout: -1},
	} {
		if _, err := client.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	c, err := client.New(client.Config{Addr: "http://127.0.0.1:8080", OnFailure: client.FailOpen})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a middleware without a limit")
		}
	}()
	c.Middleware(nil)
}

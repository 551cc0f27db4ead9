package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// proxy is how a proxy with a configuration under deploy/ is started.
type proxy struct {
	program, file string
	args          func(dir string) []string
	byAddress     string // what in the file makes it ask per-ip for everything; "": /public/ does
	wrong         int    // its answer when the node does not know the limit
}

var proxied = []proxy{
	{program: "nginx", file: "nginx.conf", wrong: 500,
		args: func(dir string) []string { return []string{"-c", filepath.Join(dir, "main.conf"), "-p", dir} }},
	{program: "haproxy", file: "haproxy.cfg", byAddress: "check/per-user", wrong: 500,
		args: func(dir string) []string { return []string{"-db", "-f", filepath.Join(dir, "haproxy.cfg")} }},
	{program: "caddy", file: "Caddyfile", byAddress: "check/per-user", wrong: 500,
		args: func(dir string) []string {
			return []string{"run", "--adapter", "caddyfile", "--config", filepath.Join(dir, "Caddyfile")}
		}},
}

// The shipped configurations as they stand, with other addresses in them, in the real programs, in
// front of a small API.
func TestShippedConfigurationsOfProxies(t *testing.T) {
	for _, p := range proxied {
		t.Run(p.program, func(t *testing.T) {
			binary, err := exec.LookPath(p.program)
			if err != nil {
				t.Skipf("%v; apt-get install nginx-light haproxy caddy", err)
			}
			w := newProxied(t, &p, binary)
			w.start()
			w.limitsByHeader()
			w.passesEverythingOn()
			w.letsNobodyChooseTheLimit()
			if p.byAddress != "" {
				w.stop()
				w.replace(p.byAddress, "check/per-ip")
				w.start()
			}
			w.limitsByAddress()
			w.saysWhenTheLimitIsUnknown()
			w.failsOpen()
		})
	}
}

// Three requests a user, then 429; every answer says where the user stands.
func (w *proxiedAPI) limitsByHeader() {
	w.Helper()
	c := from("127.0.0.2")
	for i := range 5 {
		r := w.call(c, "GET", "/orders", "", "X-User-ID", "alice")
		status, field := 200, fmt.Sprintf(`"per-user";r=%d;`, max(0, 2-i))
		if i > 2 {
			status = 429
		}
		if r.status != status || !strings.HasPrefix(r.header.Get("RateLimit"), field) || r.header.Get("RateLimit-Policy") != `"per-user";q=3;w=259200` {
			w.Errorf("request %d: %+v, want %d and %s", i, r, status, field)
		}
		if retry := r.header.Get("Retry-After"); (retry != "") != (status == 429) {
			w.Errorf("request %d: Retry-After %q", i, retry)
		}
	}
	if r := w.call(c, "GET", "/orders", "", "X-User-ID", "bob"); r.status != 200 {
		w.Errorf("bob, of whom nothing was taken: %+v", r)
	}
	if r := w.call(c, "GET", "/orders", ""); r.status != 400 {
		w.Errorf("without a key: %+v", r)
	}
}

// What is asked of the API reaches it whole, and its own errors stay its own.
func (w *proxiedAPI) passesEverythingOn() {
	w.Helper()
	body := strings.Repeat("a body ", 10_000)
	r := w.call(from("127.0.0.2"), "POST", "/orders/7?a=b%2Fc&d", body, "X-User-ID", "carol")
	if r.status != 200 || r.body != "POST /orders/7?a=b%2Fc&d "+body {
		w.Errorf("%d %v %.100s", r.status, r.header, r.body)
	}
	for path, status := range map[string]int{"/broken": 500, "/forbidden": 403} {
		if r := w.call(from("127.0.0.2"), "GET", path, "", "X-User-ID", "carol"); r.status != status || r.body != "GET "+path+" " {
			w.Errorf("%s: %+v", path, r)
		}
	}
}

// Nothing in a request turns the check into another one.
func (w *proxiedAPI) letsNobodyChooseTheLimit() {
	w.Helper()
	c := from("127.0.0.2")
	for i := range 4 {
		path := []string{"/?cost=3", "/?cost_header=X-Cost", "/v1/check/per-ip", "/openclaw_check"}[i]
		r := w.call(c, "GET", path, "", "X-User-ID", "dave", "X-Cost", "3")
		if i == 3 && w.program == "nginx" {
			if r.status != 404 {
				w.Errorf("nginx's own location: %+v", r)
			}
		} else if want := []int{200, 200, 200, 429}[i]; r.status != want {
			w.Errorf("%s: %+v, want %d", path, r, want)
		}
	}
}

// A client has its bucket whatever it writes into X-Forwarded-For; another client has another.
func (w *proxiedAPI) limitsByAddress() {
	w.Helper()
	spoofs := [][]string{nil, {"X-Forwarded-For", "203.0.113.1"}, {"X-Forwarded-For", "203.0.113.2, 127.0.0.1"},
		{"X-Forwarded-For", "203.0.113.3", "X-Forwarded-For", "127.0.0.1"},
		{"X-Real-IP", "203.0.113.4", "Forwarded", "for=203.0.113.4"}, {"X-Forwarded-For", "garbage"}}
	for i, headers := range spoofs {
		r := w.call(from("127.0.0.2"), "GET", "/public/x", "", headers...)
		if want := map[bool]int{true: 200, false: 429}[i < 3]; r.status != want || !strings.HasPrefix(r.header.Get("RateLimit"), `"per-ip";`) {
			w.Errorf("request %d with %q: %+v, want %d", i, headers, r, want)
		}
	}
	if r := w.call(from("127.0.0.3"), "GET", "/public/x", ""); r.status != 200 {
		w.Errorf("another client: %+v", r)
	}
}

// A mistake in the configuration is no reason to let everybody through unnoticed.
func (w *proxiedAPI) saysWhenTheLimitIsUnknown() {
	w.Helper()
	name := map[bool]string{true: "per-ip", false: "per-user"}[w.byAddress != ""]
	w.stop()
	w.replace(name, "misspelt")
	w.start()
	if r := w.call(from("127.0.0.4"), "GET", "/", "", "X-User-ID", "erin"); r.status != w.wrong {
		w.Errorf("a limit that is not there: %+v, want %d", r, w.wrong)
	}
	w.stop()
	w.replace("misspelt", name)
	w.start()
}

// The choice that the files document.
func (w *proxiedAPI) failsOpen() {
	w.Helper()
	w.stopNode()
	fastest := patience // of five: the machine may be busy
	for range 5 {
		began := time.Now()
		r := w.call(from("127.0.0.2"), "POST", "/public/x?y", "body", "X-User-ID", "alice")
		if r.status != 200 || r.body != "POST /public/x?y body" {
			w.Errorf("without a node: %+v", r)
		}
		fastest = min(fastest, time.Since(began))
	}
	if fastest > 2*time.Second {
		w.Errorf("without a node: after %v", fastest)
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/certs"
	"github.com/openclaw/edge/testnet/program"
)

func TestMain(m *testing.M) {
	os.Setenv("EDGE_TOKEN", "s3cret") // of the node in admin.txtar
	testscript.Main(m, map[string]func(){"openclawctl": main})
}

// The scripts of testdata/script are the command's documentation too. One with an edge.yaml has a
// node, at OPENCLAW_ADDR, and its certificates if that has tls; one with a canned.json has at CANNED a server that gives those answers.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("OPENCLAW_ADDR", "127.0.0.1:1") // nobody listens there; never the developer's own node
			if config, err := os.ReadFile(filepath.Join(env.WorkDir, "edge.yaml")); err == nil {
				if strings.Contains(string(config), "\ntls:") {
					certify(env.T().(testing.TB), env.WorkDir)
				}
				_, at := startNode(env.T().(testing.TB), env.WorkDir, env.Defer)
				env.Setenv("OPENCLAW_ADDR", at.HTTP)
			}
			if raw, err := os.ReadFile(filepath.Join(env.WorkDir, "canned.json")); err == nil {
				env.Setenv("CANNED", canned(env.T().(testing.TB), raw, env.Defer))
			}
			return nil
		},
	})
}

// certify writes the certificates of an authority: a node's, a client's, and one that has run out;
// and those of a stranger, who has an authority of his own.
func certify(t testing.TB, dir string) {
	ours, other := certs.New(t, "ours"), certs.New(t, "a stranger's")
	files := map[string]string{"ca.pem": ours.PEM, "other-ca.pem": other.PEM}
	issue := func(name string, a *certs.Authority, good time.Duration) {
		files[name+".pem"], files[name+".key"] = a.Issue(2, good)
	}
	issue("node", ours, time.Hour)
	issue("client", ours, time.Hour)
	issue("late", ours, -time.Minute)
	issue("stranger", other, time.Hour)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// startNode runs a node with dir's edge.yaml, and waits until it is ready.
func startNode(t testing.TB, dir string, whenDone func(func())) (*node.Node, node.Addresses) {
	t.Helper()
	c, _, err := node.ReadConfig(filepath.Join(dir, "edge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c.HTTP, c.GRPC, c.Gossip, c.MetricsPort = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", 0
	c.DataDir, c.Logger = filepath.Join(dir, "data"), slog.New(slog.DiscardHandler)
	bound := make(chan node.Addresses, 1)
	c.Started = func(a node.Addresses) { bound <- a }
	n, err := node.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	whenDone(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the node: %v", err)
		}
	})
	select {
	case at := <-bound:
		eventually(t, "the node is ready", func() bool { ok, _ := n.Ready(); return ok })
		return n, at
	case err := <-done:
		done <- err
		t.Fatalf("the node ended early: %v", err)
		panic("unreachable")
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not within 20 s: %s", what)
}

// canned serves {"GET /path?query": {"status": 200, "body": …}}; a body that is text is no JSON.
func canned(t testing.TB, raw []byte, whenDone func(func())) string {
	var answers map[string]struct {
		Status int             `json:"status"`
		Body   json.RawMessage `json:"body"`
	}
	if err := json.Unmarshal(raw, &answers); err != nil {
		t.Fatal("canned.json: ", err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := answers[r.Method+" "+r.RequestURI]
		if !ok {
			t.Errorf("no canned answer to %s %s", r.Method, r.RequestURI)
		}
		var text string
		if json.Unmarshal(a.Body, &text) == nil {
			a.Body = []byte(text)
		}
		w.WriteHeader(a.Status)
		w.Write(a.Body)
	}))
	whenDone(s.Close)
	return s.URL
}

const oneLimit = "node: edge-1\nlimits: [{name: pool, capacity: 1000000, refill_rate: 1}]\n"

// top shows who is being served, again and again, until it is interrupted.
func TestTopShowsWhoIsServed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "edge.yaml"), []byte(oneLimit), 0o600); err != nil {
		t.Fatal(err)
	}
	n, at := startNode(t, dir, t.Cleanup)
	ctx, interrupt := context.WithCancel(t.Context())
	var out, errs program.Output
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"top", "--addr", at.HTTP, "-n", "1"}, &out, &errs) }()
	eventually(t, "two views of who is hot", func() bool {
		n.Take("pool", "busy \x1b[31m", 3)
		n.Take("pool", "idle", 1)
		return strings.Count(out.String(), "HOT") >= 2
	})
	interrupt()
	if code := <-ended; code != 0 || errs.String() != "" {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	if s := out.String(); !strings.Contains(s, `pool/"busy \x1b[31m"`) || strings.Contains(s, "idle") || strings.Contains(s, "\x1b") {
		t.Errorf("one hot key was asked for, and nothing that a terminal acts on:\n%s", s)
	}
}

// On a terminal, a watch keeps to its line, and top to its page.
func TestATerminalIsWrittenOver(t *testing.T) {
	var out bytes.Buffer
	s := &session{out: &out, live: true}
	(&takeCmd{}).line(s, "allowed")
	(&topAnswer{Node: "edge-1"}).view(s, time.Unix(0, 0))
	if got := out.String(); !strings.HasPrefix(got, "\r\x1b[K") || strings.Count(got, "\x1b[H\x1b[J") != 1 {
		t.Errorf("%q", got)
	}
}

// Ctrl-C ends a watch with a summary and exit status 0; the node's absence for a while does not.
func TestAWatchOutlivesItsNode(t *testing.T) {
	var mu sync.Mutex
	down := false
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, `{"allowed":true,"limit":"pool","key":"alice","remaining":9,"capacity":10,"refill_rate":1}`)
	}))
	defer s.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self) // under the name that TestMain knows it is the command
	cmd.Args = []string{"openclawctl", "take", "pool", "alice", "--watch", "--every=10ms", "--addr=" + s.URL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	until := func(what string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), what) {
				return
			}
		}
		t.Fatalf("it ended before it said %q", what)
	}
	for _, d := range []bool{false, true, false} {
		mu.Lock()
		down = d
		mu.Unlock()
		until(map[bool]string{false: "allowed: pool/alice has 9 of 10", true: "failed:  http://"}[d])
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	until(" allowed, 0 refused, ")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestNearestIsWhatWasMeant(t *testing.T) {
	names := []string{"per-user", "per-ip", "per-api-key"}
	for typed, want := range map[string]string{"per-usr": "per-user", "peruser": "per-user", "per_ip": "per-ip", "per-apikey": "per-api-key", "uploads": "", "x": "", "": ""} {
		if got := nearest(typed, names); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		d    int
	}{{"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"same", "same", 0}} {
		if got := distance(c.a, c.b); got != c.d {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.d)
		}
	}
}

func TestRatesAreShort(t *testing.T) {
	for want, perSecond := range map[string]float64{
		"10/s": 10, "2.5/s": 2.5, "10000/min": 10000.0 / 60, "1/h": 1.0 / 3600, "1.5/day": 1.5 / 86400, "0/s": 0, "1000000/s": 1e6, "0.142/s": 0.1417, "2.31e-06/s": 0.2 / 86400,
	} {
		if got := rate(perSecond); got != want {
			t.Errorf("%v: %s, want %s", perSecond, got, want)
		}
	}
}

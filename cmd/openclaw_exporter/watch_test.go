package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestAWholeClusterIsOneGroup(t *testing.T) {
	c := newTown(t, "a", "b", "c")
	c.shows("split_groups", "1")
	c.still("nodes", "3")
	c.still("node_answering", `{node="a",target="@a"} 1`, `{node="b",target="@b"} 1`, `{node="c",target="@c"} 1`)
	c.still("node_ready", `{node="a",target="@a"} 1`, `{node="b",target="@b"} 1`, `{node="c",target="@c"} 1`)
	c.still("node_group", `{node="a",target="@a"} 1`, `{node="b",target="@b"} 1`, `{node="c",target="@c"} 1`)
	c.agree()
}

// agree says that nobody disagrees, and that is all.
func (c *town) agree() {
	c.t.Helper()
	var want []string
	for _, about := range []string{"members", "limits"} {
		for _, f := range c.nodes {
			want = append(want, `{about="`+about+`",node="`+f.name+`",target="@`+f.name+`"} 0`)
		}
	}
	c.still("node_disagrees", want...)
}

// The dead are members still: both sides of a split name the same ones.
func TestASplitIsSeenAndIsNoDisagreement(t *testing.T) {
	c := newTown(t, "a", "b", "c", "d", "e")
	c.cut("a d", "b c e")
	c.shows("split_groups", "2")
	c.still("node_group", `{node="b",target="@b"} 1`, `{node="c",target="@c"} 1`, `{node="e",target="@e"} 1`,
		`{node="a",target="@a"} 2`, `{node="d",target="@d"} 2`)
	c.agree()
	c.cut("a", "b c", "d e")
	c.shows("split_groups", "3")
	c.cut("a b c d e")
	c.shows("split_groups", "1")
}

func TestACrashIsNoSplit(t *testing.T) {
	c := newTown(t, "a", "b", "c")
	c.shows("split_groups", "1")
	c.nodes[2].server.Close()
	c.cut("a b")
	c.shows("split_groups", "1")
	c.still("node_answering", `{node="a",target="@a"} 1`, `{node="b",target="@b"} 1`, `{node="c",target="@c"} 0`)
	c.still("node_group", `{node="a",target="@a"} 1`, `{node="b",target="@b"} 1`)
	for _, f := range c.nodes[:2] {
		f.server.Close()
	}
	c.shows("split_groups", "0")
}

// Before it ever answered a node has no name, after that it keeps it.
func TestWhoNeverAnsweredHasNoName(t *testing.T) {
	c := newTown(t, "a", "b")
	c.nodes[1].handler = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }
	c.shows("node_answering", `{node="a",target="@a"} 1`, `{node="",target="@b"} 0`)
	c.nodes[1].handler = nil
	c.shows("node_answering", `{node="a",target="@a"} 1`, `{node="b",target="@b"} 1`)
}

func TestALinkHasTwoEnds(t *testing.T) {
	c := newTown(t, "a", "b", "c")
	c.nodes[0].reaches = []string{"c"} // a and b hear each other through c only
	c.nodes[1].reaches = []string{"c"}
	c.shows("split_groups", "1")
	c.nodes[0].reaches = []string{"b", "c"} // one way: a hears both, nobody hears a
	c.cut("b c")
	c.shows("split_groups", "2")
}

func TestASlowNodeDelaysNobody(t *testing.T) {
	c := newTown(t, "a", "b", "c")
	c.w.timeout = 200 * time.Millisecond
	c.nodes[1].handler = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	begin := time.Now()
	c.shows("node_answering", `{node="a",target="@a"} 1`, `{node="",target="@b"} 0`, `{node="c",target="@c"} 1`)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("a round of %v, with a timeout of %v", took, c.w.timeout)
	}
	if n := c.w.targets[1].polls[resultTimeout].Load(); n != 1 {
		t.Errorf("%d timeouts", n)
	}
	c.still("split_groups", "1")
}

// What no node says is counted, and never shown.
func TestWhatIsNoNodeIsRefused(t *testing.T) {
	for what, h := range map[string]http.HandlerFunc{
		"another page":     http.NotFound,
		"a redirect":       func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"no JSON":          func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
		"no name":          func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"limits":[]}`) },
		"a name of labels": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"node":"a\nb"}`) },
		"an endless body": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"node":"b","region":"`+strings.Repeat("x", maxBody)+`"}`)
		},
		"too many members": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"node":"b","members":[`+strings.Repeat(`{},`, maxMembers)+`{}]}`)
		},
	} {
		c := newTown(t, "a", "b")
		c.nodes[1].handler = h
		c.shows("node_answering", `{node="a",target="@a"} 1`, `{node="",target="@b"} 0`)
		if n := c.w.targets[1].polls[resultRefused].Load(); n != 1 {
			t.Errorf("%s: not refused", what)
		}
	}
}

func TestTheOddOneIsNamed(t *testing.T) {
	c := newTown(t, "a", "b", "c")
	limits := c.nodes[1].limits
	c.nodes[1].limits = strings.Replace(limits, `"drift":false`, `"drift":true`, 1) // about its file
	c.shows("split_groups", "1")
	c.agree()
	c.nodes[1].limits = strings.Replace(limits, "100", "1000", 1)
	c.nodes[2].members = []string{"b", "c"}
	c.shows("node_disagrees",
		`{about="members",node="a",target="@a"} 0`, `{about="members",node="b",target="@b"} 0`, `{about="members",node="c",target="@c"} 1`,
		`{about="limits",node="a",target="@a"} 0`, `{about="limits",node="b",target="@b"} 1`, `{about="limits",node="c",target="@c"} 0`)
	c.nodes[0].limits = strings.Replace(limits, `"version":1`, `"version":2`, 1) // three sayings: nobody is right
	c.shows("node_disagrees",
		`{about="members",node="a",target="@a"} 0`, `{about="members",node="b",target="@b"} 0`, `{about="members",node="c",target="@c"} 1`,
		`{about="limits",node="a",target="@a"} 1`, `{about="limits",node="b",target="@b"} 1`, `{about="limits",node="c",target="@c"} 1`)
}

func TestMistakesInNodesAreNamed(t *testing.T) {
	for _, nodes := range [][]string{nil, {"edge-1:8080"}, {"ftp://edge-1"}, {"http://"}, {"http://a:1", "http://a:1/"}, {"http://u:p@a:1"}, make([]string, maxNodes+1)} {
		if _, err := newExporter(config{nodes: nodes, interval: time.Second, timeout: time.Second}); err == nil {
			t.Errorf("%q is accepted", nodes)
		}
	}
	if _, err := newExporter(config{nodes: []string{"http://a:1"}, timeout: time.Second}); err == nil {
		t.Error("an interval of 0 is accepted")
	}
}

// From listening to the last goroutine gone; what it serves passes promtool.
func TestItRunsAndEnds(t *testing.T) {
	c := newTown(t, "a", "b")
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	addr := make(chan string, 1)
	e, err := newExporter(config{nodes: []string{c.nodes[0].server.URL, c.nodes[1].server.URL}, host: "127.0.0.1",
		interval: 100 * time.Millisecond, timeout: time.Second, log: slog.New(slog.DiscardHandler), started: func(a string) { addr <- a }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	base := "http://" + <-addr
	body := get(t, base+"/metrics")
	for end := time.Now().Add(10 * time.Second); !strings.Contains(body, "\nopenclaw_exporter_split_groups 1\n"); body = get(t, base+"/metrics") {
		if time.Now().After(end) {
			t.Fatal(body)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if promtool, err := exec.LookPath("promtool"); err == nil {
		check := exec.Command(promtool, "check", "metrics")
		check.Stdin = strings.NewReader(body)
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v: %s", err, out)
		}
	}
	problems, err := testutil.CollectAndLint(e.watcher)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

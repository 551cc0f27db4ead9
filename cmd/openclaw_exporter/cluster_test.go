package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// town is a cluster of nodes that say what they are told to.
type town struct {
	t     *testing.T
	nodes []*fake
	w     *watcher
	page  http.Handler
}

// fake is one node. What it says is changed between rounds only.
type fake struct {
	name    string
	reaches []string // besides itself
	members []string
	limits  string
	handler http.HandlerFunc // in the place of all this
	server  *httptest.Server
}

func newTown(t *testing.T, names ...string) *town {
	c := &town{t: t}
	var targets []string
	for _, name := range names {
		f := &fake{name: name, reaches: names, members: names, limits: `{"version":1,"limits":[{"name":"per-user","capacity":100,"drift":false}]}`}
		f.server = httptest.NewServer(f)
		t.Cleanup(f.server.Close)
		c.nodes = append(c.nodes, f)
		targets = append(targets, f.server.URL)
	}
	e, err := newExporter(config{nodes: targets, interval: time.Second, timeout: time.Second, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c.w, c.page = e.watcher, e.handler()
	return c
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case f.handler != nil:
		f.handler(w, r)
	case r.URL.Path == "/v1/limits":
		fmt.Fprint(w, f.limits)
	case r.URL.Path == "/v1/cluster":
		type member struct {
			Node  string `json:"node"`
			State string `json:"state"`
		}
		var members []member
		for _, m := range f.members {
			state := "unreachable"
			if m == f.name || slices.Contains(f.reaches, m) {
				state = "alive"
			}
			members = append(members, member{m, state})
		}
		json.NewEncoder(w).Encode(map[string]any{"node": f.name, "ready": true, "members": members})
	default:
		http.NotFound(w, r)
	}
}

// cut makes the sides unable to hear each other.
func (c *town) cut(sides ...string) {
	for _, side := range sides {
		for _, f := range c.nodes {
			if slices.Contains(strings.Fields(side), f.name) {
				f.reaches = strings.Fields(side)
			}
		}
	}
}

// shows compares what the next round exports of a metric with "VALUE name…" lines.
func (c *town) shows(metric string, want ...string) {
	c.t.Helper()
	c.w.look(c.t.Context())
	c.still(metric, want...)
}

// still is shows without another round.
func (c *town) still(metric string, want ...string) {
	c.t.Helper()
	for i, line := range want {
		for _, f := range c.nodes {
			line = strings.ReplaceAll(line, "@"+f.name, strings.TrimPrefix(f.server.URL, "http://"))
		}
		want[i] = line
	}
	page := httptest.NewRecorder()
	c.page.ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	var got []string
	for line := range strings.Lines(page.Body.String()) {
		if rest, ok := strings.CutPrefix(line, "openclaw_exporter_"+metric); ok && !strings.HasPrefix(rest, "_") {
			got = append(got, strings.TrimSpace(rest))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.t.Errorf("%s:\n%s\nwant:\n%s", metric, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

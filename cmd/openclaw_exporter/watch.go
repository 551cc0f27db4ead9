package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxBody    = 1 << 20 // of an answer: some thousand members
	maxMembers = 1024    // as many as a roster has
)

// name is the shape of a node's name: it becomes a label.
var name = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

// target is one node as it is asked.
type target struct {
	base  *url.URL
	label string // HOST:PORT
	node  string // the name that it last gave; "": none yet
	up    bool   // as last logged
	polls [results]atomic.Uint64
}

// result is what came of asking a node; a label of openclaw_exporter_polls_total.
type result int

const (
	resultOK      result = iota
	resultTimeout        // took longer than --timeout
	resultFailed         // no connection, or it broke
	resultRefused        // answered, but not with what a node answers
	results
)

func (r result) String() string { return [...]string{"ok", "timeout", "failed", "refused"}[r] }

// answer is what a node said, or why it did not.
type answer struct {
	node    string
	ready   bool
	alive   map[string]bool // members that it reaches, itself included
	members string          // the names of its roster, as one comparable value
	limits  string          // its limits and their version, the same
	took    time.Duration
	result  result
	err     error
}

// round is one look at everybody. Nobody changes it once published.
type round struct {
	at      time.Time
	names   []string // by target: the last one known
	answers []answer // by target
	found   finding
}

// watcher asks all targets, again and again. run's goroutine owns the targets' names.
type watcher struct {
	targets  []*target
	interval time.Duration
	timeout  time.Duration
	client   *http.Client
	log      *slog.Logger
	newest   atomic.Pointer[round] // nil before the first
	groups   int                   // as last logged
}

func newTarget(u *url.URL) *target { return &target{base: u, label: u.Host, up: true} }

func newWatcher(c *config, targets []*target) *watcher {
	return &watcher{
		targets: targets, interval: c.interval, timeout: c.timeout, log: c.log, groups: 1,
		client: &http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, MaxConnsPerHost: 2, IdleConnTimeout: time.Minute,
				MaxResponseHeaderBytes: 64 << 10,
			},
			// A node never redirects: who does is none.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// run looks at once, then every interval, until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	defer w.client.CloseIdleConnections()
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look asks everybody at the same time, so that a slow node delays nobody's answer.
func (w *watcher) look(ctx context.Context) {
	r := &round{names: make([]string, len(w.targets)), answers: make([]answer, len(w.targets))}
	var all sync.WaitGroup
	for i, t := range w.targets {
		all.Go(func() { r.answers[i] = w.ask(ctx, t) })
	}
	all.Wait()
	if ctx.Err() != nil {
		return // cut short by our own end: says nothing of the nodes
	}
	for i, t := range w.targets {
		a := &r.answers[i]
		if a.err == nil {
			t.node = a.node
		}
		r.names[i] = t.node
		t.polls[a.result].Add(1)
		if up := a.err == nil; up != t.up {
			t.up = up
			w.log.Warn("node", "target", t.label, "node", t.node, "answers", up, "error", a.err)
		}
	}
	r.found = judge(r.answers)
	if g := len(r.found.groups); g != w.groups {
		w.groups = g
		w.log.Warn("cluster", "groups", g)
	}
	r.at = time.Now()
	w.newest.Store(r)
}

// ask makes both calls within one timeout.
func (w *watcher) ask(ctx context.Context, t *target) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	begin := time.Now()
	a.err = w.cluster(ctx, t, &a)
	if a.err == nil {
		a.limits, a.err = w.limits(ctx, t)
	}
	a.took = time.Since(begin)
	var no *refused
	switch {
	case a.err == nil:
	case errors.As(a.err, &no):
		a.result = resultRefused
	case ctx.Err() != nil:
		a.result = resultTimeout
	default:
		a.result = resultFailed
	}
	return a
}

// refused is an answer that no node gives.
type refused struct{ why string }

func (r *refused) Error() string { return r.why }

func (w *watcher) get(ctx context.Context, t *target, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base.JoinPath(path).String(), nil)
	if err != nil {
		return err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &refused{fmt.Sprintf("%s: answered %s; is this the API of a node (--http), and not its metrics?", path, resp.Status)}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return err
	}
	if len(body) > maxBody {
		return &refused{fmt.Sprintf("%s: an answer of more than %d bytes", path, maxBody)}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return &refused{fmt.Sprintf("%s: %v", path, err)}
	}
	return nil
}

// cluster reads GET /v1/cluster. Members come sorted by name.
func (w *watcher) cluster(ctx context.Context, t *target, a *answer) error {
	var c struct {
		Node    string `json:"node"`
		Ready   bool   `json:"ready"`
		Members []struct {
			Node  string `json:"node"`
			State string `json:"state"`
		} `json:"members"`
	}
	if err := w.get(ctx, t, "/v1/cluster", &c); err != nil {
		return err
	}
	if !name.MatchString(c.Node) || len(c.Members) > maxMembers {
		return &refused{fmt.Sprintf("/v1/cluster: a node called %.40q with %d members", c.Node, len(c.Members))}
	}
	a.node, a.ready, a.alive = c.Node, c.Ready, map[string]bool{c.Node: true}
	names := make([]string, len(c.Members))
	for i, m := range c.Members {
		names[i] = m.Node
		if m.State == "alive" {
			a.alive[m.Node] = true
		}
	}
	a.members = strings.Join(names, " ")
	return nil
}

// limits reads GET /v1/limits. drift is about a node's own file, so nodes may differ in it.
func (w *watcher) limits(ctx context.Context, t *target) (string, error) {
	var l struct {
		Version uint64           `json:"version"`
		Limits  []map[string]any `json:"limits"`
	}
	if err := w.get(ctx, t, "/v1/limits", &l); err != nil {
		return "", err
	}
	for _, limit := range l.Limits {
		delete(limit, "drift")
	}
	text, err := json.Marshal(l) // maps by key: equal limits give equal texts
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return string(sum[:]), nil
}

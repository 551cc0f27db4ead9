package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/memnet"
)

// Whose bucket it is is no label: among nine nodes, with three limits, a node that holds a million
// buckets exports the very series of one that holds ten, and so do its peers. A limit more has series
// of its own, or the count would count nothing.
func TestAMillionBucketsAddNoSeries(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		definition := func(name string) crdt.Definition {
			return crdt.Definition{Name: name, Capacity: 100 * crdt.Token, Rate: mustRate(t, "1/h"), MaxBuckets: 500_000}
		}
		limits := []crdt.Definition{definition("a"), definition("b"), definition("c")}
		nodes, stop := nine(t, net, limits)
		take := func(from, to int) {
			for i := from; i < to; i++ {
				limit, key := limits[i%3].Name, "key-"+strconv.Itoa(i)
				if i < 10 || i%1000 == 0 { // by HTTP, which counts requests
					answer := httptest.NewRecorder()
					nodes[0].ServeHTTP(answer, httptest.NewRequest("POST", "/v1/take/"+limit+"/"+key, nil))
					if answer.Code != 200 {
						t.Fatal(i, answer.Code, answer.Body)
					}
				} else if d, err := nodes[0].node.Take(limit, key, 1); err != nil || !d.Allowed {
					t.Fatal(i, d, err)
				}
			}
		}
		take(0, 10)
		time.Sleep(10 * time.Second) // frames of all to all, and acknowledgements
		var few []map[string]bool
		for i, n := range nodes {
			few = append(few, series(t, n))
			if live := n.node.Stats().Limits[0].Live; live != 4 {
				t.Errorf("node %d holds %d buckets of a", i, live)
			}
		}
		for i := 1; i < 9; i++ {
			if !few[0][fmt.Sprintf(`openclaw_gossip_frames_received_total{peer="edge-%d"}`, i)] {
				t.Errorf("no series of peer %d, so nine nodes are not counted", i)
			}
		}
		take(10, 1_000_000) // at one instant: gossip has no time to carry them
		if s := nodes[0].node.Stats(); s.Limits[0].Live+s.Limits[1].Live+s.Limits[2].Live != 1_000_000 {
			t.Errorf("not a million live buckets: %+v", s.Limits)
		}
		for i, n := range nodes {
			sameSeries(t, i, few[i], series(t, n))
		}
		stop()
	})
}

// nine starts nine nodes on one network; stop ends them as a crash does, without the last words that
// would carry a million changes.
func nine(t *testing.T, net *memnet.Network, limits []crdt.Definition) (nodes []*server, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 9)
	addr := func(i int) string { return fmt.Sprintf("10.0.0.%d:7946", i+1) }
	for i := range 9 {
		transport, err := net.Listen(addr(i))
		if err != nil {
			t.Fatal(err)
		}
		cfg := DefaultConfig()
		cfg.Node, cfg.DataDir, cfg.NoListen, cfg.Transport, cfg.Gossip = fmt.Sprint("edge-", i), "", true, transport, addr(i)
		cfg.Tick, cfg.Limits, cfg.LimitsVersion, cfg.Logger = 50*time.Millisecond, limits, 1, slog.New(slog.DiscardHandler)
		if i > 0 {
			cfg.Join = []string{addr(0)}
		}
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s, err := newServer(n)
		if err != nil {
			t.Fatal(err)
		}
		go func() { ended <- n.Run(ctx) }()
		nodes = append(nodes, s)
	}
	for i, s := range nodes {
		eventually(t, fmt.Sprint("ready, node ", i), func() bool { ok, _ := s.node.Ready(); return ok && s.node.Cluster().ReachableMembers == 9 })
	}
	return nodes, func() {
		for i := range 9 {
			for j := range i {
				net.Cut(addr(i), addr(j))
			}
		}
		cancel()
		for range 9 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	}
}

// series are those of a scrape: everything but comments and values.
func series(t *testing.T, s *server) map[string]bool {
	t.Helper()
	answer := httptest.NewRecorder()
	s.metrics.handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if answer.Code != 200 {
		t.Fatal(answer.Code, answer.Body)
	}
	all := make(map[string]bool)
	for line := range strings.Lines(answer.Body.String()) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), "} "); ok {
			all[name+"}"] = true
		} else if name, _, ok := strings.Cut(line, " "); ok && name != "#" {
			all[name] = true
		}
	}
	return all
}

func sameSeries(t *testing.T, node int, few, many map[string]bool) {
	t.Helper()
	if len(few) < 100 || len(many) != len(few) {
		t.Errorf("node %d: %d series with ten keys, %d with a million", node, len(few), len(many))
	}
	for name := range many {
		if !few[name] {
			t.Errorf("node %d: new: %.200s", node, name)
			break
		}
	}
}

package compare

import (
	"context"
	"log/slog"
	"strconv"
	"testing"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
)

// ours is a running node, alone in its cluster: the refill daemon moves the
// clock, and gossip drains what changed, while takes are measured.
func ours(tb testing.TB, r rules, keys []string) take {
	perSecond := strconv.Itoa(r.perSecond)
	if r.perSecond == 0 {
		perSecond = "1/h"
	}
	rate, err := crdt.ParseRate(perSecond)
	if err != nil {
		tb.Fatal(err)
	}
	cfg := node.DefaultConfig()
	cfg.Node, cfg.DataDir = "edge-1", ""
	cfg.HTTP, cfg.GRPC, cfg.Gossip, cfg.MetricsPort = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", 0
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Limits = []crdt.Definition{{
		Name: "bench", Capacity: crdt.Milli(r.capacity) * crdt.Token, Rate: rate, MaxBuckets: 2_000_000,
	}}
	started := make(chan struct{})
	cfg.Started = func(node.Addresses) { close(started) }
	n, err := node.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	select {
	case <-started:
	case err := <-ended:
		tb.Fatalf("the node ended: %v", err)
	}
	return func(i int) bool {
		d, err := n.Take("bench", keys[i], 1)
		return d.Allowed && err == nil
	}
}

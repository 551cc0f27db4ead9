package node

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/persist"
)

const million = 1_000_000

// millionNode is a node with a million buckets that somebody took from.
func millionNode(b *testing.B) (*Node, []string) {
	n := quietNode(b, 1_000_000, "1", 2*million)
	keys := benchKeys(million)
	for i, k := range keys {
		n.refill.shown[crdt.Quorum].Add(1000)
		n.Take("bench", k, int64(1+i%100))
	}
	n.refill.inherit(crdt.Clock{"edge-1": n.refill.readings()}, time.Time{})
	return n, keys
}

// BenchmarkPackMillion is the node's part of a full round over a million buckets.
func BenchmarkPackMillion(b *testing.B) {
	n, _ := millionNode(b)
	g := &segments{n: n}
	all := make([]int, segmentCount)
	for i := range all {
		all[i] = i
	}
	b.ReportAllocs()
	bytes, payloads := 0, 0
	for b.Loop() {
		bytes, payloads = 0, 0
		if err := g.Pack(b.Context(), all, func(_ int, p []byte) error { bytes += len(p); payloads++; return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(bytes), "bytes/round")
	b.ReportMetric(float64(payloads), "values/round")
}

// BenchmarkRoundMillion is the whole of it, into a file: a full round, then a restore of it.
func BenchmarkRoundMillion(b *testing.B) {
	n, _ := millionNode(b)
	for i := 0; b.Loop(); i++ {
		path := filepath.Join(b.TempDir(), fmt.Sprint(i))
		began := time.Now()
		h, done := benchHybrid(b, n, path)
		if err := h.Snapshot(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/round")
		done()
		fresh := quietNode(b, 1_000_000, "1", 2*million)
		began = time.Now()
		h, done = benchHybrid(b, fresh, path)
		if _, err := h.Restore(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/restore")
		done()
		if got := fresh.force.Load().byName["bench"].buckets.Load(); got != million {
			b.Fatalf("%d buckets restored", got)
		}
	}
}

func benchHybrid(b *testing.B, n *Node, path string) (*persist.Hybrid, func()) {
	store, err := persist.OpenBolt(path, persist.BoltConfig{})
	if err != nil {
		b.Fatal(err)
	}
	h, err := persist.New(persist.Config{
		Cluster: "openclaw", Node: "edge-1", Incarnation: uint64(n.writer), Segments: segmentSpecs(), Primary: store, State: &segments{n: n},
	})
	if err != nil {
		b.Fatal(err)
	}
	return h, func() { store.Close() }
}

// BenchmarkTakeBesidePack is how long takes on a million buckets wait, with and without rounds.
func BenchmarkTakeBesidePack(b *testing.B) {
	n, keys := millionNode(b)
	all := make([]int, segmentCount)
	for i := range all {
		all[i] = i
	}
	for _, beside := range []bool{false, true} {
		b.Run(fmt.Sprintf("packing=%v", beside), func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				g := &segments{n: n}
				for beside && ctx.Err() == nil {
					g.Pack(ctx, all, func(int, []byte) error { return nil })
				}
			}()
			took := make([]time.Duration, 0, 1<<20)
			i := 0
			for b.Loop() {
				at := time.Now()
				n.Take("bench", keys[(i*7919)%million], 1)
				if took = append(took, time.Since(at)); len(took) == cap(took) {
					took = took[:0]
				}
				i++
			}
			cancel()
			<-ended
			slices.Sort(took)
			if len(took) > 0 {
				b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
				b.ReportMetric(float64(took[len(took)*999/1000].Nanoseconds()), "p999-ns")
			}
		})
	}
}

package node

import (
	"fmt"
	"log/slog"
	"math/rand"
	"sync/atomic"
	"testing"

	"github.com/openclaw/edge/crdt"
)

// quietNode is a node that is not run: its clock stands still.
func quietNode(t testing.TB, capacity int64, rate string, maxBuckets uint32) *Node {
	n := draftNode(t, capacity, rate, maxBuckets)
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	n.agree(n.file) // as a node that has founded its cluster
	return n
}

// draftNode knows nothing of a cluster.
func draftNode(t testing.TB, capacity int64, rate string, maxBuckets uint32) *Node {
	cfg := DefaultConfig()
	cfg.Node, cfg.DataDir = "edge-1", ""
	cfg.Logger = slog.New(slog.DiscardHandler)
	r, err := crdt.ParseRate(rate)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Limits = []crdt.Definition{{Name: "bench", Capacity: crdt.Milli(capacity) * crdt.Token, Rate: r, MaxBuckets: maxBuckets}}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func benchKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%012d", i)
	}
	return keys
}

// BenchmarkTake is the in-process take; testnet/compare has the same beside other limiters.
func BenchmarkTake(b *testing.B) {
	for _, keys := range []int{1, 10_000, 1_000_000} {
		n := quietNode(b, 1_000_000_000, "1000000", 2_000_000)
		names := benchKeys(keys)
		for _, k := range names {
			n.Take("bench", k, 1)
		}
		zipf := rand.NewZipf(rand.New(rand.NewSource(1)), 1.1, 1, uint64(keys-1)+1)
		order := make([]int, 1<<20)
		for i := range order {
			order[i] = int(zipf.Uint64()) % keys
		}
		b.Run(fmt.Sprintf("keys=%d/serial", keys), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				n.Take("bench", names[order[i&(1<<20-1)]], 1)
			}
		})
		b.Run(fmt.Sprintf("keys=%d/parallel", keys), func(b *testing.B) {
			b.ReportAllocs()
			var start atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				for i := int(start.Add(500_000)); pb.Next(); i++ {
					n.Take("bench", names[order[i&(1<<20-1)]], 1)
				}
			})
		})
	}
}

// A take of a known key allocates nothing, whatever the answer, also as the refill clock
// moves on.
func TestATakeAllocatesNothing(t *testing.T) {
	for rate, admits := range map[string]bool{"1000000": true, "1/d": false} {
		n := quietNode(t, 1000, rate, 100)
		n.Take("bench", "alice", 1000)
		(&replica{n: n}).Drain(nil)
		got := testing.AllocsPerRun(1000, func() {
			if admits {
				n.refill.shown[crdt.Quorum].Add(1000)
			}
			if d, err := n.Take("bench", "alice", 1); err != nil || d.Allowed != admits {
				t.Fatal(d, err)
			}
		})
		if got != 0 {
			t.Errorf("at a rate of %s: %v allocations", rate, got)
		}
	}
}

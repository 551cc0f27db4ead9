package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/memnet"
)

// Everything at once on three nodes: takes, batches, credits, looks, scrapes, reloads that
// change, remove and bring back limits, floods that evict, failover, pauses, and a node that
// comes and goes. The race detector is one judge; the other is that all hold the same once
// it is quiet.
func TestEverythingAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("short: some seconds of real time")
	}
	w := &world{t: t, net: memnet.New(1)}
	nodes := []*Node{w.start(0), w.start(1), w.start(2)}
	defer w.stopAll()
	for _, n := range nodes {
		eventually(t, "ready", func() bool { ok, _ := n.Ready(); return ok && n.Cluster().ReachableMembers == 3 })
	}
	ctx, rest := context.WithTimeout(context.Background(), 4*time.Second)
	var g sync.WaitGroup
	busy := func(pause time.Duration, do func(r *rand.Rand)) {
		g.Go(func() {
			r := rand.New(rand.NewPCG(1, 2))
			for ctx.Err() == nil {
				do(r)
				time.Sleep(pause)
			}
		})
	}
	for i, n := range nodes {
		for range 2 {
			busy(50*time.Microsecond, func(r *rand.Rand) { w.spend(n, r) })
		}
		busy(3*time.Millisecond, func(*rand.Rand) { n.Stats(); n.Cluster(); n.Limits() })
		busy(time.Millisecond, func(r *rand.Rand) { n.sweep(r.IntN(shards)) })
		busy(100*time.Millisecond, func(r *rand.Rand) { n.SetFailover(r.IntN(2) == 0); n.SetRefillPaused(r.IntN(4) == 0) })
		busy(time.Duration(40+i*7)*time.Millisecond, func(r *rand.Rand) {
			if err := n.Replace(w.limits(r), w.nextVersion()); err != nil {
				t.Error(err)
			}
		})
	}
	g.Go(func() { // the fourth comes and goes
		for ctx.Err() == nil {
			n := w.start(3)
			time.Sleep(300 * time.Millisecond)
			w.spend(n, rand.New(rand.NewPCG(3, 4)))
			w.stop(3)
		}
	})
	g.Wait()
	rest()
	for _, n := range nodes {
		n.SetFailover(false)
		n.SetRefillPaused(false)
	}
	if err := nodes[0].Replace(w.limits(nil), w.nextVersion()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one set of limits in force", func() bool {
		for _, n := range nodes {
			if _, v := n.Limits(); v != w.version || n.Drift("hot") && n == nodes[0] {
				return false
			}
		}
		return true
	})
	for i := range 30 {
		key := fmt.Sprint("key-", i)
		for _, n := range nodes { // whoever takes last tells what it has
			n.Take("hot", key, 1)
		}
	}
	eventually(t, "the same everywhere", func() bool { return w.agree(nodes, "hot", 30) })
}

// world starts and stops nodes on one network in memory.
type world struct {
	t   *testing.T
	net *memnet.Network

	mu      sync.Mutex
	version uint64
	ends    map[int]func()
}

func (w *world) start(i int) *Node {
	addr := func(i int) string { return fmt.Sprintf("10.0.0.%d:7946", i+1) }
	transport, err := w.net.Listen(addr(i))
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Node, cfg.DataDir, cfg.NoListen, cfg.Transport = fmt.Sprint("edge-", i), "", true, transport
	cfg.Gossip, cfg.Logger = addr(i), slog.New(slog.DiscardHandler)
	cfg.Limits, cfg.LimitsVersion = w.limits(nil), 1
	if i > 0 {
		cfg.Join = []string{addr(0)}
	} else {
		cfg.Join = nil
	}
	n, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends == nil {
		w.ends = make(map[int]func())
	}
	w.ends[i] = func() {
		stop()
		if err := <-done; err != nil {
			w.t.Errorf("edge-%d: %v", i, err)
		}
	}
	return n
}

func (w *world) stop(i int) {
	w.mu.Lock()
	end := w.ends[i]
	delete(w.ends, i)
	w.mu.Unlock()
	end()
}

func (w *world) stopAll() {
	for i := range w.ends {
		w.stop(i)
	}
}

func (w *world) nextVersion() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version = max(w.version, 1) + 1
	return w.version
}

// limits is one of many files; without r, the one that all begin and end with.
func (w *world) limits(r *rand.Rand) []crdt.Definition {
	rate := func(text string) crdt.Rate { return mustRate(w.t, text) }
	hot := crdt.Definition{Name: "hot", Capacity: 500 * crdt.Token, Rate: rate("100"), MaxBuckets: 10_000}
	cold := crdt.Definition{Name: "cold", Capacity: 50 * crdt.Token, Rate: rate("1000"), MaxBuckets: 300, Policy: crdt.Share,
		Backup: &crdt.Backup{Capacity: 10 * crdt.Token, Rate: rate("1")}}
	if r == nil {
		return []crdt.Definition{hot, cold}
	}
	hot.Capacity = crdt.Milli(100+r.IntN(900)) * crdt.Token
	hot.Rate = rate(fmt.Sprint(1 + r.IntN(500)))
	hot.Policy = crdt.Policy(r.IntN(crdt.Policies))
	cold.MaxBuckets = uint32(1 + r.IntN(500))
	if r.IntN(3) == 0 {
		fresh := cold
		fresh.Name = fmt.Sprint("new-", r.IntN(1000))
		return []crdt.Definition{hot, fresh}
	}
	return []crdt.Definition{hot, cold}
}

// spend is one request of any kind.
func (w *world) spend(n *Node, r *rand.Rand) {
	limit, key := "hot", fmt.Sprint("key-", r.IntN(30))
	if r.IntN(2) == 0 {
		limit, key = "cold", fmt.Sprint("stranger-", r.IntN(5000))
	}
	var err error
	switch r.IntN(8) {
	case 0:
		_, err = n.Credit(limit, key, 1)
	case 1:
		_, err = n.Look(limit, key)
	case 2, 3:
		var ds []Decision
		ds, err = n.TakeAll([]Request{{limit, key, 1}, {"hot", "key-1", 2}, {limit, key, 3}, {limit, key + "x", 1}}, true)
		for i := range ds {
			if ds[i].Allowed != ds[0].Allowed {
				w.t.Errorf("an atomic batch was taken in part")
			}
		}
	default:
		_, err = n.Take(limit, key, 1)
	}
	if err != nil && !errors.Is(err, ErrUnknownLimit) {
		w.t.Error(err)
	}
}

// agree tells whether all nodes hold the same slots and fill of every key.
func (w *world) agree(nodes []*Node, limit string, keys int) bool {
	state := func(n *Node, key string) (b crdt.Bucket) {
		l := n.force.Load().byName[limit]
		h := n.table.hash(uint16(l.Index), key)
		s := n.table.shard(h)
		s.mu.Lock()
		defer s.mu.Unlock()
		if e, _ := s.find(h, uint16(l.Index), key); e != nil {
			b = e.Clone()
		}
		return b
	}
	at := crdt.Instant(1 << 50)
	for i := range keys {
		key := fmt.Sprint("key-", i)
		var sums [3]uint64
		for j, n := range nodes {
			b := state(n, key)
			sums[j] = sumAt(&b, &n.force.Load().byName[limit].terms, at, 1)
		}
		if sums[0] != sums[1] || sums[0] != sums[2] {
			return false
		}
	}
	return true
}

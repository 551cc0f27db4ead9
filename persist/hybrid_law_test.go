package persist

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	lawSeed  = flag.Uint64("persist.seed", 0, "play the chaos of this seed alone")
	lawSeeds = flag.Uint64("persist.seeds", 50, "play the chaos of so many seeds")
)

// TestEverythingAcknowledgedIsRestored: nodes that share lagging and failing stores, killed and
// restarted at any moment, segments moving between them. Whatever stores acknowledged, a cluster
// that starts from nothing but them restores.
func TestEverythingAcknowledgedIsRestored(t *testing.T) {
	from, to := uint64(1), *lawSeeds
	if *lawSeed != 0 {
		from, to = *lawSeed, *lawSeed
	}
	for seed := from; seed <= to; seed++ {
		if err := chaos(t, seed); err != nil {
			t.Fatalf("%v (again: -persist.seed=%d)", err, seed)
		}
	}
}

// world is nodes over shared stores.
type world struct {
	kv, redis *memory
	random    *rand.Rand
	nodes     []*worldNode
	acked     content
}

type worldNode struct {
	name        string
	incarnation atomic.Uint64
	y           *toy
	h           *Hybrid
	disk        *memory
	stop        func()
	alive       atomic.Bool
	dead        atomic.Bool // its calls of stores do nothing any more
}

// mortal is a store in the hands of a node that may be killed.
type mortal struct {
	*memory
	n *worldNode
}

func (m mortal) Put(ctx context.Context, v []Value) error {
	if m.n.dead.Load() {
		return m.down(Failed)
	}
	return m.memory.Put(ctx, v)
}
func (m mortal) Delete(ctx context.Context, k []Entry) error {
	if m.n.dead.Load() {
		return m.down(Failed)
	}
	return m.memory.Delete(ctx, k)
}

func (w *world) start(n *worldNode) {
	n.incarnation.Store(w.random.Uint64())
	n.y = newToy(toySegments)
	n.alive.Store(true)
	n.dead.Store(false)
	n.y.pieces = w.random.IntN(3)
	n.y.owns = func(segment int) bool { return w.owner(segment) == n }
	cfg := toyConfig(n.y, nil, nil, nil)
	cfg.Node, cfg.Incarnation = n.name, n.incarnation.Load()
	cfg.Primary, cfg.Fallback, cfg.Disk = mortal{w.kv, n}, mortal{w.redis, n}, mortal{n.disk, n}
	cfg.ReconcileEvery = time.Minute
	cfg.Current = func(node string, incarnation uint64) bool {
		for _, n := range w.nodes {
			if n.name == node {
				return n.alive.Load() && n.incarnation.Load() == incarnation
			}
		}
		return false
	}
	n.h, _ = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		restore, done := context.WithTimeout(ctx, 20*time.Second)
		defer done()
		n.h.Restore(restore)
		n.h.Run(ctx)
	}()
	n.stop = func() { cancel(); <-over }
}

// kill ends a node in the midst of what it does.
func (w *world) kill(n *worldNode) {
	n.alive.Store(false)
	n.dead.Store(true)
	n.stop()
}

// owner is by rendezvous among the living.
func (w *world) owner(segment int) (best *worldNode) {
	for i, n := range w.nodes {
		if n.alive.Load() && (best == nil || (segment*7+i*5)%11 > 5) {
			best = n
		}
	}
	return best
}

// harvest notes what the stores acknowledged to the living.
func (w *world) harvest() {
	synctest.Wait()
	for _, n := range w.nodes {
		if n.alive.Load() && n.h.take(context.Background()) == nil {
			acknowledged(n.h, n.y, w.acked)
			n.h.release()
		}
	}
}

// weather is a store's faults for a while.
func (w *world) weather(m *memory) func(string, int) fault {
	kind, r := w.random.IntN(9), rand.New(rand.NewPCG(w.random.Uint64(), 5)) // m's lock guards it
	return func(op string, _ int) fault {
		switch e := m.down(Failed); {
		case kind < 3:
			return fault{}
		case kind == 3:
			return fault{err: e}
		case kind == 4 && op == "put":
			return fault{fails: func(string) *Error {
				if r.IntN(2) == 0 {
					return e
				}
				return nil
			}}
		case kind == 5 && (op == "put" || op == "delete"):
			return fault{lost: r.IntN(2) == 0}
		case kind == 6 && (op == "put" || op == "delete"):
			if r.IntN(2) == 0 {
				return fault{late: time.Duration(r.IntN(100)+1) * time.Second}
			}
		case kind == 7:
			return fault{hang: r.IntN(3) == 0}
		case kind == 8 && r.IntN(2) == 0:
			return fault{err: e}
		}
		return fault{}
	}
}

func chaos(t *testing.T, seed uint64) (lost error) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{kv: newMemory("kv", 60*time.Second), redis: newMemory("redis", 0), acked: content{}}
		w.random = rand.New(rand.NewPCG(seed, 3))
		random := rand.New(rand.NewPCG(seed, 4)) // kv's lock guards it
		w.kv.stale = func(string) time.Duration { return time.Duration(random.Int64N(int64(w.kv.lag))) }
		for _, name := range []string{"a", "b", "c"}[:1+seed%3] {
			w.nodes = append(w.nodes, &worldNode{name: name, disk: newMemory("disk", 0)})
		}
		for range 40 {
			w.step()
		}
		w.harvest()
		for _, n := range w.nodes {
			if n.alive.Load() {
				w.kill(n)
			}
		}
		w.kv.setFault(nil)
		w.redis.setFault(nil)
		y := newToy(toySegments)
		cfg := toyConfig(y, w.kv, w.redis, nil)
		cfg.Incarnation = 1
		if err := restored(t, cfg, y).lacks(w.acked); err != nil {
			lost = fmt.Errorf("seed %d: after restore %w", seed, err)
		}
	})
	return lost
}

// step is half a minute or so of the world.
func (w *world) step() {
	r := w.random
	n := w.nodes[r.IntN(len(w.nodes))]
	switch r.IntN(6) {
	case 0:
		w.kv.setFault(w.weather(w.kv))
	case 1:
		w.redis.setFault(w.weather(w.redis))
	case 2:
		if n.alive.Load() {
			w.kill(n)
		}
	case 3:
		if n.alive.Load() && r.IntN(2) == 0 {
			n.h.Snapshot(context.Background())
			n.alive.Store(false)
			n.stop()
		}
	}
	if n.h == nil || !n.alive.Load() && r.IntN(2) == 0 {
		w.start(n)
	}
	for range r.IntN(6) {
		for _, n := range w.nodes {
			if n.alive.Load() {
				for range r.IntN(3) {
					n.y.raise(r.IntN(toySegments), n.name, n.y.get(0, n.name)+r.IntN(1000))
				}
			}
		}
		time.Sleep(time.Duration(r.IntN(12000)) * time.Millisecond)
	}
	w.harvest()
}

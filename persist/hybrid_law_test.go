package persist

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

var lawSeed = flag.Uint64("persist.seed", 0, "play the chaos of this seed alone")

// TestEverythingAcknowledgedIsRestored: nodes that share lagging and failing stores, killed and
// restarted at any moment, segments moving between them. Whatever stores acknowledged, a cluster
// that starts from nothing but them restores.
func TestEverythingAcknowledgedIsRestored(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 20
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		if *lawSeed != 0 && seed != 1 {
			break
		}
		if *lawSeed != 0 {
			seed = *lawSeed
		}
		if err := chaos(t, seed, nil); err != nil {
			t.Fatalf("%v (again: -persist.seed=%d)", err, seed)
		}
	}
}

// world is nodes over shared stores.
type world struct {
	kv, redis *memory
	random    *rand.Rand
	nodes     []*worldNode
	incarnate uint64
	acked     content
	break_    func(h *Hybrid) // makes a rule wrong
}

type worldNode struct {
	name        string
	incarnation uint64
	y           *toy
	h           *Hybrid
	disk        *memory
	stop        func()
	alive       bool
	dead        bool // its calls of stores do nothing any more
}

// mortal is a store in the hands of a node that may be killed.
type mortal struct {
	*memory
	n *worldNode
}

func (m mortal) Put(ctx context.Context, v []Value) error {
	if m.n.dead {
		return m.down(Failed)
	}
	return m.memory.Put(ctx, v)
}
func (m mortal) Delete(ctx context.Context, k []Entry) error {
	if m.n.dead {
		return m.down(Failed)
	}
	return m.memory.Delete(ctx, k)
}

func (w *world) start(n *worldNode) {
	w.incarnate++
	*n = worldNode{name: n.name, disk: n.disk, alive: true, incarnation: w.random.Uint64(), y: newToy(toySegments)}
	n.y.pieces = w.random.IntN(3)
	n.y.owns = func(segment int) bool { return w.owner(segment) == n }
	cfg := toyConfig(n.y, nil, nil, nil)
	cfg.Node, cfg.Incarnation = n.name, n.incarnation
	cfg.Primary, cfg.Fallback, cfg.Disk = mortal{w.kv, n}, mortal{w.redis, n}, mortal{n.disk, n}
	cfg.ReconcileEvery = time.Minute
	cfg.Current = func(node string, incarnation uint64) bool {
		for _, n := range w.nodes {
			if n.name == node {
				return n.alive && n.incarnation == incarnation
			}
		}
		return false
	}
	n.h, _ = New(cfg)
	if w.break_ != nil {
		w.break_(n.h)
	}
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
	n.alive, n.dead = false, true
	n.stop()
}

// owner is by rendezvous among the living.
func (w *world) owner(segment int) (best *worldNode) {
	for i, n := range w.nodes {
		if n.alive && (best == nil || (segment*7+i*5)%11 > 5) {
			best = n
		}
	}
	return best
}

// harvest notes what the stores acknowledged to the living.
func (w *world) harvest() {
	synctest.Wait()
	for _, n := range w.nodes {
		if n.alive && n.h.take(context.Background()) == nil {
			acknowledged(n.h, n.y, w.acked)
			n.h.release()
		}
	}
}

// weather is a store's faults for a while.
func (w *world) weather(m *memory) func(string, int) fault {
	r := w.random
	kind := r.IntN(9)
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

func chaos(t *testing.T, seed uint64, broken func(*Hybrid)) (lost error) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{kv: newMemory("kv", 60*time.Second), redis: newMemory("redis", 0), acked: content{}, break_: broken}
		w.random = rand.New(rand.NewPCG(seed, 3))
		w.kv.stale = func(string) time.Duration { return time.Duration(w.random.Int64N(int64(w.kv.lag))) }
		for _, name := range []string{"a", "b", "c"}[:1+seed%3] {
			w.nodes = append(w.nodes, &worldNode{name: name, disk: newMemory("disk", 0)})
		}
		for range 40 {
			w.step()
		}
		w.harvest()
		for _, n := range w.nodes {
			if n.alive {
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
		if n.alive {
			w.kill(n)
		}
	case 3:
		if n.alive && r.IntN(2) == 0 {
			n.h.Snapshot(context.Background())
			n.alive = false
			n.stop()
		}
	}
	if n.h == nil || !n.alive && r.IntN(2) == 0 {
		w.start(n)
	}
	for range r.IntN(6) {
		for _, n := range w.nodes {
			if n.alive {
				for range r.IntN(3) {
					n.y.raise(r.IntN(toySegments), n.name, n.y.get(0, n.name)+r.IntN(1000))
				}
			}
		}
		time.Sleep(time.Duration(r.IntN(12000)) * time.Millisecond)
	}
	w.harvest()
}

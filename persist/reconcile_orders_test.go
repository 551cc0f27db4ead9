package persist

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The scheduler that tries all orders. Actors are nodes that follow a script; each call of a
// store waits at a gate. Whenever all wait, the scheduler chooses who goes on, or who is killed,
// or that time passes; after the run it takes the next choice not yet taken, until there is none.

// actor is a node with a script.
type actor struct {
	*worldNode
	script   func(*actor)
	over     atomic.Bool
	killable bool
	kvFails  atomic.Bool
	free     func(store, op string) bool // calls that need not wait; nil: none
	stage    *stage
}

// gated is a store whose calls wait.
type gated struct {
	*memory
	a *actor
}

// waiting is a call at the gate.
type waiting struct {
	gated
	op string
	ch chan struct{}
}

func (g gated) pass(op string) error {
	if !g.a.dead.Load() && (g.a.free == nil || !g.a.free(g.name, op)) {
		w := &waiting{g, op, make(chan struct{})}
		g.a.stage.mu.Lock()
		g.a.stage.gate = append(g.a.stage.gate, w)
		g.a.stage.mu.Unlock()
		<-w.ch
	}
	if g.a.dead.Load() || g.a.kvFails.Load() && g.name == "kv" && op == "put" {
		return g.down(Failed)
	}
	return nil
}

func (g gated) Put(ctx context.Context, v []Value) error {
	if err := g.pass("put"); err != nil {
		return err
	}
	return g.memory.Put(ctx, v)
}

func (g gated) Get(ctx context.Context, k []Entry, each func(Value) error) error {
	if err := g.pass("get"); err != nil {
		return err
	}
	return g.memory.Get(ctx, k, each)
}

func (g gated) List(ctx context.Context, prefix string) ([]Entry, error) {
	if err := g.pass("list"); err != nil {
		return nil, err
	}
	return g.memory.List(ctx, prefix)
}

func (g gated) Delete(ctx context.Context, k []Entry) error {
	if err := g.pass("delete"); err != nil {
		return err
	}
	return g.memory.Delete(ctx, k)
}

// stage is one run: stores, actors, and what must not be lost.
type stage struct {
	kv, redis *memory
	actors    []*actor
	acked     content
	nap       time.Duration
	ticks     int // times that a minute may pass while somebody waits at the gate
	kills     int
	owner     func() *actor
	wrap      func(*stage, Store) Store // a wrong store
	spoil     func(*Hybrid)             // a wrong rule
	copies    bool                      // reconcile by copying
	lost      error

	mu   sync.Mutex // gate, acked, lost
	gate []*waiting
}

func (s *stage) add(name string, incarnation uint64, script func(*actor)) *actor {
	a := &actor{worldNode: &worldNode{name: name, y: newToy(toySegments)}, script: script, killable: true, stage: s}
	a.alive.Store(true)
	a.incarnation.Store(incarnation)
	a.y.owns = func(int) bool { return s.owner == nil || s.owner() == a }
	cfg := toyConfig(a.y, nil, nil, nil)
	cfg.Node, cfg.Incarnation = name, incarnation
	cfg.Segments = cfg.Segments[:1]
	cfg.Primary, cfg.Fallback = gated{s.kv, a}, gated{s.redis, a}
	if s.wrap != nil {
		cfg.Primary, cfg.Fallback = s.wrap(s, cfg.Primary), s.wrap(s, cfg.Fallback)
	}
	cfg.Current = func(node string, incarnation uint64) bool {
		return slices.ContainsFunc(s.actors, func(a *actor) bool {
			return a.alive.Load() && a.name == node && a.incarnation.Load() == incarnation
		})
	}
	a.h, _ = New(cfg)
	if s.spoil != nil {
		s.spoil(a.h)
	}
	s.actors = append(s.actors, a)
	return a
}

// round is one of a's, noting what was acknowledged.
func (s *stage) round(a *actor) {
	if a.h.Snapshot(context.Background()); !a.dead.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
		acknowledged(a.h, a.y, s.acked)
	}
}

func (s *stage) reconcile(a *actor) {
	switch {
	case a.dead.Load():
	case s.copies:
		copied(a.h)
	default:
		a.h.reconcile(context.Background())
	}
}

// play runs the actors by the choices given, then by the first there is; it returns what it
// chose, and of how many.
func (s *stage) play(choices []int) (taken, widths []int) {
	for _, a := range s.actors {
		go func() { a.script(a); a.over.Store(true) }()
	}
	for {
		synctest.Wait()
		s.judge("", contentOf(s.kv, s.redis), s.acked)
		options, over := s.options()
		if over {
			return taken, widths
		}
		choice := 0
		if len(options) > 1 {
			if len(taken) < len(choices) {
				choice = choices[len(taken)]
			}
			taken, widths = append(taken, choice), append(widths, len(options))
		}
		options[choice]()
	}
}

// judge notes the first loss.
func (s *stage) judge(where string, got, want content) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := got.lacks(want); err != nil && s.lost == nil {
		s.lost = fmt.Errorf("%s%w", where, err)
	}
}

// options is what may happen next: a call is done, its node is killed before it, time passes.
func (s *stage) options() (options []func(), over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.gate, func(a, b *waiting) int {
		return cmp.Or(cmp.Compare(slices.Index(s.actors, a.a), slices.Index(s.actors, b.a)), cmp.Compare(a.name, b.name))
	})
	busy, asleep := map[*actor]bool{}, false
	for i, w := range s.gate {
		pass := func() {
			s.mu.Lock()
			s.gate = slices.Delete(s.gate, i, i+1)
			s.mu.Unlock()
			close(w.ch)
		}
		options = append(options, pass)
		if w.a.killable && s.kills > 0 && !busy[w.a] {
			options = append(options, func() { s.kills--; w.a.alive.Store(false); w.a.dead.Store(true); pass() })
		}
		busy[w.a] = true
	}
	over = true
	for _, a := range s.actors {
		over = over && a.over.Load()
		asleep = asleep || !a.over.Load() && !busy[a]
	}
	switch {
	case asleep: // until it wakes
		options = append(options, func() { time.Sleep(s.nap + time.Second) })
	case s.ticks > 0 && !over:
		options = append(options, func() { s.ticks--; time.Sleep(71 * time.Second) })
	}
	return options, over
}

// explore plays every order of a scene; it returns how many there are, and what the first that
// loses something loses.
func explore(t *testing.T, scene func(*stage), wrong func(*stage)) (runs int, lost error) {
	var choices []int
	for {
		var taken, widths []int
		synctest.Test(t, func(t *testing.T) {
			s := &stage{kv: newMemory("kv", 60*time.Second), redis: newMemory("redis", 0), acked: content{}, nap: 70 * time.Second}
			if wrong != nil {
				wrong(s)
			}
			scene(s)
			if taken, widths = s.play(choices); s.lost == nil {
				s.lost = s.aftermath(t)
			}
			lost = s.lost
		})
		if runs++; lost != nil {
			return runs, fmt.Errorf("order %v: %w", taken, lost)
		}
		last := len(taken) - 1
		for last >= 0 && taken[last]+1 >= widths[last] {
			last--
		}
		if last < 0 {
			return runs, nil
		}
		choices = append(taken[:last:last], taken[last]+1)
	}
}

// aftermath is a new cluster that has nothing but the stores.
func (s *stage) aftermath(t *testing.T) error {
	y := newToy(toySegments)
	cfg := toyConfig(y, s.kv, s.redis, nil)
	cfg.Node = "z"
	return restored(t, cfg, y).lacks(s.acked)
}

// scenes, by name. Each is a few nodes for a few minutes.
var scenes = []struct {
	name string
	play func(*stage)
}{
	// A dead node's values are adopted while its last write to fallback is still on the way.
	{"adoption beside a late write of the dead", func(s *stage) {
		s.left("b", 7, 1, s.redis, 1)
		s.adopter("a", 4)
		s.actors = append(s.actors, s.late("b", 7))
	}},
	// A node falls back, recovers and falls back again, while another adopts what is left by it
	// when it is killed.
	{"adoption beside a living writer", func(s *stage) {
		b := s.add("b", 7, func(b *actor) {
			b.y.raise(0, "b", 1)
			b.kvFails.Store(true)
			s.round(b)
			b.kvFails.Store(false)
			s.round(b)
			b.y.raise(0, "b", 2)
			b.kvFails.Store(true)
			s.round(b)
		})
		b.free = func(store, op string) bool { return b.kvFails.Load() && store == "kv" && op == "put" } // changes nothing
		a := s.adopter("a", 3)
		s.kills = 1
		a.killable = false
		s.owner = func() *actor {
			if b.alive.Load() {
				return b
			}
			return a
		}
	}},
	// A node cleans up after itself, is killed anywhere, and KV still shows the old value.
	{"own reconcile", func(s *stage) {
		s.add("a", 7, func(a *actor) {
			a.y.raise(0, "a", 1)
			a.kvFails.Store(true)
			s.round(a)
			a.kvFails.Store(false)
			s.round(a)
			s.reconcile(a)
			a.y.raise(0, "a", 2)
			a.kvFails.Store(true)
			s.round(a)
			s.reconcile(a)
			time.Sleep(70 * time.Second)
			s.reconcile(a)
			a.kvFails.Store(false)
			s.round(a)
			time.Sleep(70 * time.Second)
			s.reconcile(a)
		})
		s.kills, s.ticks = 1, 1
	}},
	// A reader starts at any moment of an adoption.
	{"restore beside an adoption", func(s *stage) {
		s.left("b", 7, 1, s.redis, 1)
		s.left("b", 7, 2, s.kv, 2)
		a := s.adopter("a", 3)
		a.free = reads // c changes nothing
		c := s.add("c", 3, func(c *actor) {
			s.mu.Lock()
			want := maps.Clone(s.acked)
			s.mu.Unlock()
			c.h.Restore(context.Background())
			c.free = func(string, string) bool { return true }
			time.Sleep(settled)
			c.h.take(context.Background())
			c.h.nextRound = time.Now().Add(never) // Run's turn, without its rounds
			c.h.reread(context.Background())
			c.h.release()
			s.judge("restored beside: ", c.y.content(), want)
		})
		c.y.owns = func(int) bool { return false }
	}},
	// A reader that starts at any moment of an adoption and is quick about it needs no second
	// reading to have what fallback held.
	{"quick restore beside an adoption", func(s *stage) {
		s.left("b", 7, 1, s.redis, 1)
		s.nap = 10 * time.Second
		s.adopter("a", 10).free = reads
		s.add("c", 3, func(c *actor) {
			gated{s.redis, c}.pass("start")
			c.h.Restore(context.Background())
			s.judge("restored at once: ", c.y.content(), content{"0/b": 1})
		}).free = func(_, op string) bool { return op != "start" }
	}},
}

func reads(_, op string) bool { return op == "list" || op == "get" }

// left is what a writer left in a store when it died, seen by everybody or not yet.
func (s *stage) left(node string, incarnation, sequence uint64, m *memory, number int) Value {
	seg := Segment{Name: "00", Cluster: "toys", Node: node, Incarnation: incarnation, Sequence: sequence, Time: time.Now(),
		Payload: fmt.Appendf(nil, `{%q:%d}`, node, number)}
	data, _ := seg.Bytes()
	v := Value{Key: SegmentKey("rating_bucket", &seg), Version: sequence, Data: data}
	m.apply([]Value{v})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked.raise(0, node, number)
	return v
}

// late is a writer that is no member any more and whose last write comes through now.
func (s *stage) late(node string, incarnation uint64) *actor {
	a := &actor{worldNode: &worldNode{name: "late"}, stage: s}
	a.script = func(a *actor) {
		gated{s.redis, a}.pass("put")
		s.left(node, incarnation, 2, s.redis, 2)
	}
	return a
}

// adopter is a node that reconciles until nothing is left to do.
func (s *stage) adopter(name string, times int) *actor {
	return s.add(name, 1, func(a *actor) {
		for range times {
			s.reconcile(a)
			s.round(a)
			time.Sleep(s.nap)
		}
	})
}

func TestNoOrderLosesWhatWasAcknowledged(t *testing.T) {
	for _, scene := range scenes {
		begin := time.Now()
		runs, lost := explore(t, scene.play, nil)
		t.Logf("%s: %d orders in %v", scene.name, runs, time.Since(begin).Round(time.Millisecond))
		if lost != nil {
			t.Errorf("%s: %v", scene.name, lost)
		}
	}
}

// The same scenes condemn these rules.
func TestWrongRulesAreCondemned(t *testing.T) {
	for _, rule := range []struct {
		name, scene string
		wrong       func(*stage)
	}{
		{"delete from fallback without comparing the version", "adoption beside a late write of the dead", func(s *stage) {
			s.wrap = func(_ *stage, store Store) Store { return careless{store.(gated)} }
		}},
		{"delete what was joined before the own write is acknowledged", "adoption beside a late write of the dead", func(s *stage) {
			s.spoil = func(h *Hybrid) {
				h.mayDelete = func(r role, e Entry, k Key) (time.Time, bool) {
					f := h.targets[r].found[e.Key]
					return time.Time{}, !h.own(k) && f != nil && f.version == e.Version
				}
			}
		}},
		{"delete while primary may still show what was there before", "quick restore beside an adoption", func(s *stage) {
			s.spoil = func(h *Hybrid) {
				h.mayDelete = func(r role, e Entry, k Key) (time.Time, bool) {
					_, ok := h.deletable(r, e, k)
					return time.Time{}, ok
				}
			}
		}},
		{"delete own keys from fallback, whatever their version", "own reconcile", func(s *stage) {
			s.spoil = func(h *Hybrid) {
				h.mayDelete = func(r role, e Entry, k Key) (time.Time, bool) {
					ready, ok := h.deletable(r, e, k)
					return ready, ok || r == fallback && h.own(k) && h.segments[0].held[primary].last != 0
				}
			}
		}},
		{"copy bytes from fallback to primary, under the writer's key", "restore beside an adoption", func(s *stage) {
			s.spoil = func(h *Hybrid) { s.copies = true }
		}},
	} {
		t.Run(rule.name, func(t *testing.T) {
			for _, scene := range scenes {
				if scene.name != rule.scene {
					continue
				}
				runs, lost := explore(t, scene.play, rule.wrong)
				if lost == nil {
					t.Fatalf("%d orders, and nobody noticed", runs)
				}
				t.Logf("condemned after %d orders: %v", runs, lost)
			}
		})
	}
}

// careless deletes any version.
type careless struct{ gated }

func (c careless) Delete(ctx context.Context, keys []Entry) error {
	keys = slices.Clone(keys)
	for i := range keys {
		keys[i].Version = 0
	}
	return c.gated.Delete(ctx, keys)
}

// copied is the reconcile of the first design: the newest bytes in fallback go to primary under
// the same key, and leave fallback if they are still the same.
func copied(h *Hybrid) {
	ctx := context.Background()
	from, to := h.targets[fallback].store, h.targets[primary].store
	listed, _ := from.List(ctx, "rating_bucket:")
	var values []Value
	from.Get(ctx, listed, func(v Value) error { values = append(values, v); return nil })
	if len(values) > 0 && to.Put(ctx, values) == nil {
		from.Delete(ctx, listed)
	}
}

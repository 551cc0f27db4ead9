package process

import (
	"flag"
	"math/rand/v2"
	"net/http"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/kv"
)

var storesSeed = flag.Uint64("stores.seed", 0, "seed of the random kills; 0: a new one")

func seeded(t *testing.T) *rand.Rand {
	seed := *storesSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("again with -stores.seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// kill ends a node under load, perhaps with its disk, and starts it again.
func (s *site) kill(n *Node, wipe bool) {
	n.Kill()
	if wipe {
		n.Wipe()
	}
	n.Restart()
}

// Nodes are killed at any moment, one by one, with and without their disks, while KV comes and
// goes: what was acknowledged is never lost, and nothing is taken twice.
func TestNodesAreKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	s := newSite(t, siteOptions{})
	s.offer(60)
	time.Sleep(500 * time.Millisecond)
	lasts := 10 * time.Second
	if *long {
		lasts = 2 * time.Minute
	}
	kills, troubled := 0, false
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		if rng.IntN(2) == 0 {
			if troubled = !troubled; troubled {
				s.kv.Fault(kv.Fault{Kind: []kv.Kind{kv.Failure, kv.Lost, kv.Reset, kv.Partial}[rng.IntN(4)]})
			} else {
				s.kv.Heal()
			}
		}
		s.snapshot()
		time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
		s.kill(s.nodes[rng.IntN(3)], rng.IntN(2) == 0)
		kills++
		s.snapshot() // refused while the node restores, or acknowledged
		time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond)
	}
	s.kv.Heal()
	whole(t, s.nodes)
	s.stored(30 * time.Second)
	t.Logf("%d kills, %d snapshots acknowledged", kills, s.acked)
	s.loseAll()
	s.reborn(0)
	s.stored(20 * time.Second)
	s.loseAll()
	if err := s.redis.Do("FLUSHALL"); err != nil {
		t.Fatal(err)
	}
	s.reborn(0)
	s.thrifty()
}

// Nodes are killed again and again, as soon as they have called KV a few times: one of them, each
// in turn, all at once; with their disks or without. No start is given calls: all together make
// 3 a second from the beginning.
func TestKillsMakeNoCallMore(t *testing.T) {
	t.Parallel()
	first := time.Now()
	s := newSite(t, siteOptions{fresh: true})
	s.offer(60)
	time.Sleep(3 * time.Second) // a second's calls each, and some
	lasts := 24 * time.Second
	if *long {
		lasts = 10 * time.Minute
	}
	kills := 0
	for began := time.Now(); time.Since(began) < lasts; {
		victims := s.nodes[2:]
		switch n := int(time.Since(began) * 3 / lasts); n {
		case 1:
			victims = s.nodes[kills%3 : kills%3+1]
		case 2:
			victims = s.nodes
		}
		for _, n := range victims {
			n.Kill()
		}
		for _, n := range victims {
			if kills%2 == 1 {
				n.Wipe()
			}
			n.Restart()
			kills++
		}
		time.Sleep(1500 * time.Millisecond)
	}
	lasted := time.Since(first)
	t.Logf("%d kills in %v", kills, lasted.Round(time.Second))
	if calls, most := s.calls(), int(3*lasted.Seconds())+3; calls > most {
		t.Errorf("%d calls of KV, at most %d are allowed", calls, most)
	}
	s.thrifty()
}

// A node is killed at each step of its restore and its reconcile, one life after another: at its
// first call of KV, at its second, …, before the call is done or after. What it had half done
// harms nothing.
func TestANodeIsKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		done bool
	}{{"before the call is done", false}, {"after the call is done", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, siteOptions{})
			s.offer(60)
			s.down() // something for the fallback, which is to be brought to KV
			time.Sleep(time.Second)
			s.stored(15 * time.Second)
			s.up()
			victim := s.nodes[2]
			steps := 6
			if *long {
				steps = 24
			}
			for n := range steps {
				victim.Kill()
				victim.Wipe()
				calls, killed := make(chan string, 1), make(chan struct{})
				left := n
				var mu sync.Mutex
				s.doors[2].watch(func(r *http.Request, serve func()) {
					mu.Lock()
					left--
					last := left == -1
					mu.Unlock()
					if !last {
						serve()
						return
					}
					if c.done {
						serve()
					}
					calls <- r.Method + " " + path.Base(r.URL.Path)
					<-killed
				})
				victim.Restart()
				select {
				case call := <-calls:
					t.Logf("killed at call %d, %s", n+1, call)
				case <-time.After(60 * time.Second):
					t.Errorf("no call %d within a minute", n+1)
				}
				victim.Kill()
				close(killed)
				s.doors[2].watch(nil)
				victim.Restart()
				victim.Ready(20 * time.Second)
				s.snapshot()
			}
			whole(t, s.nodes)
			s.stored(30 * time.Second)
			s.loseAll()
			s.reborn(0)
			s.thrifty()
		})
	}
}

// All nodes are stopped with SIGTERM while KV hangs: they end in time, and their last snapshot
// has everything.
func TestACleanStopWhileKVHangs(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{})
	s.offer(60)
	time.Sleep(time.Second)
	s.kv.Fault(kv.Fault{Kind: kv.Hang})
	time.Sleep(time.Second)
	s.load.Stop()
	s.served()
	s.settled()
	for k := range s.owed {
		least, _ := s.load.Taken(k)
		s.owed[k] = float64(least)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for _, n := range s.nodes {
		wg.Go(func() {
			if err := n.Stop(); err != nil {
				t.Errorf("%s: %v", n.Node, err)
			}
		})
	}
	wg.Wait()
	t.Logf("all stopped after %v", time.Since(began).Round(time.Millisecond))
	for _, n := range s.nodes {
		n.Wipe()
	}
	s.kv.Heal()
	s.reborn(0)
}

package gossip_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/memnet"
)

var seeds = flag.Int("chaos", 12, "how many seeds of chaos")
var firstSeed = flag.Int("chaos-from", 1, "the first of them")

// TestChaosConverges: loss, duplicates, reordering, cuts of pairs and groups, one way and both, crashes
// and restarts, under load. When it is over, all nodes hold what everybody who lived on, or
// spoke before he died, had said.
func TestChaosConverges(t *testing.T) {
	for i := range *seeds {
		seed := int64(*firstSeed + i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			story(t, seed, 3+int(seed)%4, func(t *testing.T, c *cluster, ns []*node) {
				d := &demon{c: c, rng: rand.New(rand.NewPCG(uint64(seed), 7)), said: map[uint32]uint64{}}
				begin := time.Now()
				for range 30 {
					d.misdeed()
					for range 20 {
						d.load()
						time.Sleep(50 * time.Millisecond)
					}
				}
				c.net.HealAll()
				c.net.Default(memnet.Link{Delay: time.Millisecond})
				c.whole(len(ns))
				took := c.equal(15 * time.Second)
				for key, v := range d.said {
					if got := c.nodes[0].all()[key]; got < v {
						t.Errorf("%d was said of %d, %d is known", v, key, got)
					}
				}
				t.Logf("%v of chaos, equal %v after it", time.Since(begin)-took, took)
			})
		})
	}
}

type demon struct {
	c    *cluster
	rng  *rand.Rand
	next uint32
	said map[uint32]uint64 // by those who were not killed since
	by   map[*node]map[uint32]uint64
}

func (d *demon) load() {
	for _, n := range d.c.nodes {
		d.next++
		n.set(d.rng.Uint32N(200), uint64(d.next))
		n.set(1000+d.next, 1)
		d.note(n, 1000+d.next)
	}
}

// note remembers what n said; what it says while others hear nothing dies with it.
func (d *demon) note(n *node, key uint32) {
	if d.by == nil {
		d.by = map[*node]map[uint32]uint64{}
	}
	if d.by[n] == nil {
		d.by[n] = map[uint32]uint64{}
	}
	d.by[n][key] = 1
	d.said[key] = 1
}

func (d *demon) misdeed() {
	c, r := d.c, d.rng
	n, m := c.nodes[r.IntN(len(c.nodes))], c.nodes[r.IntN(len(c.nodes))]
	switch r.IntN(8) {
	case 0:
		c.net.Cut(n.addr, m.addr)
	case 1:
		c.net.CutOneWay(n.addr, m.addr)
	case 2:
		for _, o := range c.nodes {
			if o != n {
				c.net.Cut(n.addr, o.addr)
			}
		}
	case 3, 4:
		c.net.HealAll()
	case 5:
		c.net.Default(memnet.Link{Delay: time.Duration(r.IntN(100)) * time.Millisecond, Jitter: 20 * time.Millisecond,
			Loss: r.Float64() * 0.3, Duplicate: 0.1, Reorder: 0.2})
	case 6:
		d.restart(n)
	case 7:
	}
}

// restart kills n and starts it anew at its address, knowing only the others' addresses.
func (d *demon) restart(n *node) {
	for key := range d.by[n] {
		delete(d.said, key)
	}
	name := n.View().Self
	d.c.crash(n)
	cfg := d.c.config(0)
	cfg.Node, cfg.Seeds = name, nil
	for _, o := range d.c.nodes {
		cfg.Seeds = append(cfg.Seeds, o.addr)
	}
	cfg.FoundAfter = time.Hour
	d.c.start(n.addr, cfg)
}

package gossip_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/testnet/memnet"
)

var seeds = flag.Int("chaos", 6, "how many seeds of chaos")
var firstSeed = flag.Int("chaos-from", 1, "the first of them")

// TestChaosConverges: loss, duplicates, reordering, cuts of pairs and groups, one way and both,
// under load. Once it is over, all nodes hold the same, and no audit had to help.
func TestChaosConverges(t *testing.T) { chaos(t, 7, 0) }

// TestChaosWithCrashesConverges: nodes die and start anew as well. What a dying node told one
// peer alone may take an audit. What those said who lived on is known to all.
func TestChaosWithCrashesConverges(t *testing.T) { chaos(t, 8, 15*time.Second) }

func chaos(t *testing.T, misdeeds int, audit time.Duration) {
	for i := range *seeds {
		seed := int64(*firstSeed + i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, seed)
				defer c.stopAll()
				c.audit = audit
				n := 3 + int(seed)%4
				c.grow(n)
				d := &demon{c: c, rng: rand.New(rand.NewPCG(uint64(seed), 7)), misdeeds: misdeeds,
					said: map[uint32]bool{}, by: map[*node][]uint32{}}
				for range 30 {
					d.misdeed()
					for range 20 {
						d.load()
						time.Sleep(50 * time.Millisecond)
					}
				}
				c.net.HealAll()
				c.net.Default(memnet.Link{Delay: time.Millisecond})
				c.whole(n)
				took := c.equal(10*time.Second + 5*audit)
				known := c.nodes[0].all()
				for key := range d.said {
					if known[key] == 0 {
						t.Errorf("nobody knows %d any more", key)
					}
				}
				var repairs uint64
				for _, n := range c.nodes {
					repairs += n.Stats().Repairs
				}
				t.Logf("equal %v after the chaos, %d repairs", took, repairs)
			})
		})
	}
}

type demon struct {
	c        *cluster
	rng      *rand.Rand
	misdeeds int
	next     uint32
	said     map[uint32]bool // by those who were not killed since
	by       map[*node][]uint32
}

func (d *demon) load() {
	for _, n := range d.c.nodes {
		d.next++
		n.set(d.rng.Uint32N(200), uint64(d.next))
		n.set(1000+d.next, 1)
		d.said[1000+d.next] = true
		d.by[n] = append(d.by[n], 1000+d.next)
	}
}

func (d *demon) misdeed() {
	c, r := d.c, d.rng
	n, m := c.nodes[r.IntN(len(c.nodes))], c.nodes[r.IntN(len(c.nodes))]
	switch r.IntN(d.misdeeds) {
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
	case 7:
		d.restart(n)
	}
}

// restart kills n and starts it anew at its address, knowing only the others' addresses.
func (d *demon) restart(n *node) {
	for _, key := range d.by[n] {
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

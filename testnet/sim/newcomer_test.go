package sim_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/sim"
)

// Newcomers are cut off before they have heard of the cluster's limits, and serve by their own
// file. What they took counts when the cut heals, whatever their file and the cluster's say,
// and every node obeys the newest file then: as the successor of the cluster's set, which
// makes nobody forget what was taken.
func TestWhatANewcomerTookBehindACutCounts(t *testing.T) {
	before, after := limit("l", 100, "2"), limit("l", 100, "4")
	for name, s := range map[string]struct {
		file      crdt.Definition // of the newcomers
		version   uint64          // of it; the cluster's is 2
		newcomers int
	}{
		"older file":           {before, 1, 1},
		"older, less capacity": {limit("l", 80, "2"), 1, 1},
		"same file":            {after, 2, 1},
		"newer file":           {limit("l", 100, "3"), 3, 1},
		"two of them":          {limit("l", 100, "3"), 3, 2},
		"the majority":         {limit("l", 100, "3"), 3, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tune := func(cfg *node.Config) error {
				if strings.HasPrefix(cfg.Node, "late") {
					cfg.Limits, cfg.LimitsVersion = []crdt.Definition{s.file}, s.version
				}
				return nil
			}
			play(t, sim.Config{Seed: 19, Limits: []crdt.Definition{before}, Tune: tune}, func(t *testing.T, c *sim.Cluster) {
				c.Net.Default(delay(40 * time.Millisecond))
				whole(t, c, "a", "a", "a")
				c.Run(5*time.Second, nil)
				must(t, c.Reload(c.Machines[0], []crdt.Definition{after}))
				shared, own := judge.ID{Limit: "l", Key: "shared"}, judge.ID{Limit: "l", Key: "own"}
				c.Run(10*time.Second, []*sim.Flow{{ID: shared, PerSecond: 3, Even: true}})
				rest := c.Machines
				for i := range s.newcomers {
					c.AddNamed(fmt.Sprint("late", i), "a") // the lowest names: theirs to found, were there no cluster
				}
				late := c.Machines[3:]
				for _, m := range late {
					must(t, c.Start(m))
				}
				for _, m := range late {
					for m.Node.Cluster().ExpectedMembers < len(c.Machines) {
						c.Run(5*time.Millisecond, nil)
					}
				}
				c.Cut(late, rest)
				c.Run(30*time.Second, nil)
				for _, m := range late {
					if _, v := m.Node.Limits(); v != s.version {
						t.Fatalf("%s obeys version %d: nobody cut it off in time", m.Name, v)
					}
				}
				for i := range 40 {
					c.Ask(late, i, shared, 1)
					c.Ask(late, i, own, 1)
				}
				c.Run(5*time.Second, nil)
				c.Net.HealAll()
				c.Run(20*time.Second, nil)
				newest := after
				if s.version > 2 {
					newest = s.file
				}
				for _, m := range c.Machines {
					if ls, v := m.Node.Limits(); v != max(2, s.version) || ls[0].Rate != newest.Rate {
						t.Errorf("%s obeys version %d, %v a second", m.Name, v, ls[0].Rate.PerSecond())
					}
				}
				c.Look()
				obey(t, c, judge.Laws{Nodes: len(c.Machines), Delay: 500 * time.Millisecond, Cuts: 1, Frozen: time.Minute, Blind: s.newcomers, Apart: 50 * time.Millisecond, Whole: true})
			})
		})
	}
}

// Who alone is left of a cluster whose limits it never heard of makes its file the cluster's: the
// next newcomer finds one that it can agree with.
func TestWhoIsLeftFoundsAnew(t *testing.T) {
	for name, end := range map[string]func(c *sim.Cluster, dead, left *sim.Machine) error{
		"stopped": func(c *sim.Cluster, dead, left *sim.Machine) error { c.Stop(dead); return nil },
		"killed and forgotten": func(c *sim.Cluster, dead, left *sim.Machine) error {
			err := c.Crash(dead)
			c.Run(30*time.Second, nil)
			return errors.Join(err, left.Node.Forget(dead.Name, true))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, sim.Config{Seed: 20, Limits: []crdt.Definition{limit("l", 100, "1")}}, func(t *testing.T, c *sim.Cluster) {
				c.Net.Default(delay(40 * time.Millisecond))
				whole(t, c, "a")
				dead, left, next := c.Machines[0], c.Add("a"), c.Add("a")
				must(t, c.Start(left))
				for left.Node.Cluster().ExpectedMembers < 2 {
					c.Run(5*time.Millisecond, nil)
				}
				must(t, end(c, dead, left))
				c.Run(time.Minute, nil)
				id := judge.ID{Limit: "l", Key: "k"}
				c.Ask([]*sim.Machine{left}, 0, id, 30)
				must(t, c.Reload(left, []crdt.Definition{limit("l", 200, "1")}))
				c.Run(5*time.Second, nil)
				must(t, c.Start(next))
				c.Run(20*time.Second, nil)
				c.Ask([]*sim.Machine{next}, 0, id, 30)
				c.Run(5*time.Second, nil)
				c.Look()
				if n := len(c.Observed.Holdings[id]); n != 2 {
					t.Fatalf("%d nodes hold the key: %v", n, standing(c))
				}
				for _, m := range c.Up() {
					if _, v := m.Node.Limits(); v != 2 {
						t.Errorf("%s obeys version %d", m.Name, v)
					}
				}
				obey(t, c, judge.Laws{Nodes: 3, Delay: 500 * time.Millisecond, Apart: 50 * time.Millisecond, Blind: 1})
			})
		})
	}
}

// Of two who are left, each with a file of its own, one founds: nothing that either takes
// meanwhile is forgotten.
func TestOneOfTwoWhoAreLeftFounds(t *testing.T) {
	files := map[string]crdt.Definition{"n01": limit("l", 1000, "2"), "n02": limit("l", 1000, "3")}
	tune := func(cfg *node.Config) error {
		if file, ok := files[cfg.Node]; ok {
			cfg.Limits, cfg.LimitsVersion = []crdt.Definition{file}, uint64(cfg.Node[2]-'0')
		}
		return nil
	}
	play(t, sim.Config{Seed: 21, Limits: []crdt.Definition{limit("l", 1000, "1")}, Tune: tune}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(80 * time.Millisecond))
		whole(t, c, "a")
		dead, left := c.Machines[0], []*sim.Machine{c.Add("a"), c.Add("a")}
		for _, m := range left {
			must(t, c.Start(m))
		}
		for left[0].Node.Cluster().ExpectedMembers < 2 || left[1].Node.Cluster().ExpectedMembers < 2 {
			c.Run(5*time.Millisecond, nil)
		}
		c.Cut([]*sim.Machine{dead}, left)
		must(t, c.Crash(dead))
		c.Run(30*time.Second, nil)
		for i, m := range left {
			if _, v := m.Node.Limits(); v != uint64(i+1) {
				t.Fatalf("%s obeys version %d: it was not left in time", m.Name, v)
			}
		}
		id, from := judge.ID{Limit: "l", Key: "k"}, c.Now()
		forget := sim.Event{At: from + 10*time.Second, Do: func() {
			for _, m := range left {
				must(t, m.Node.Forget(dead.Name, true))
			}
		}}
		c.Run(20*time.Second, []*sim.Flow{{ID: id, PerSecond: 50, Even: true}}, forget)
		c.Run(5*time.Second, nil)
		c.Look()
		for _, m := range left {
			if _, v := m.Node.Limits(); v != 2 {
				t.Errorf("%s obeys version %d, of files of 1 and 2", m.Name, v)
			}
		}
		obey(t, c, judge.Laws{Nodes: 3, Delay: 500 * time.Millisecond, Apart: 50 * time.Millisecond, Blind: 2})
	})
}

package sim_test

import (
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/sim"
)

// A node under load is stopped, or killed, and comes back: the count of the cluster stays
// within three in a hundred of the ideal one.
func TestRestartUnderLoad(t *testing.T) {
	for _, s := range []struct {
		name   string
		end    func(c *sim.Cluster, m *sim.Machine) error
		missed bool
	}{
		{"stop", func(c *sim.Cluster, m *sim.Machine) error { c.Stop(m); return nil }, false},
		{"kill", (*sim.Cluster).Crash, true},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			play(t, sim.Config{Seed: 4, Limits: []crdt.Definition{limit("l", 100, "100")}}, func(t *testing.T, c *sim.Cluster) {
				c.Net.Default(delay(5 * time.Millisecond))
				whole(t, c, "a", "a", "a")
				c.Run(5*time.Second, nil)
				id := judge.ID{Limit: "l", Key: "k"}
				m, from := c.Machines[1], c.Now()
				c.Run(60*time.Second, []*sim.Flow{{ID: id, PerSecond: 900, Even: true}},
					sim.Event{At: from + 10*time.Second, Do: func() { must(t, s.end(c, m)) }},
					sim.Event{At: from + 14*time.Second, Do: func() { must(t, c.Start(m)) }})
				got := share(c, id, from, c.Now())
				t.Logf("admitted %.4f of the limit", got)
				if got < 0.97 || got > 1.03 {
					t.Errorf("admitted %.4f of the limit, want 0.97 to 1.03", got)
				}
				c.Run(10*time.Second, nil)
				c.Look()
				obey(t, c, judge.Laws{Nodes: 3, Delay: 150 * time.Millisecond, Apart: 50 * time.Millisecond, Whole: true})
			})
		})
	}
}

// A node that restarts behind a cut knows from its disk that it is one of three: under quorum
// it refills nothing.
func TestARestartInsideAMinority(t *testing.T) {
	limits := []crdt.Definition{limit("quorum", 100, "100"), limit("share", 100, "100")}
	limits[1].Policy = crdt.Share
	play(t, sim.Config{Seed: 5, Limits: limits}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(5 * time.Millisecond))
		whole(t, c, "a", "b", "c")
		c.Run(10*time.Second, nil)
		m, rest := c.Machines[2], c.Machines[:2]
		c.Cut([]*sim.Machine{m}, rest)
		must(t, c.Crash(m))
		c.Run(5*time.Second, nil)
		must(t, c.Start(m))
		from := c.Now()
		c.Run(time.Second, nil)
		before := own(m, "quorum")
		flows := []*sim.Flow{{ID: judge.ID{Limit: "quorum", Key: "k"}, PerSecond: 900, Even: true}, {ID: judge.ID{Limit: "share", Key: "k"}, PerSecond: 900, Even: true}}
		c.Run(60*time.Second, flows)
		if n := m.Node.Cluster().ExpectedMembers; n != 3 {
			t.Errorf("takes itself for one of %d, there are three", n)
		}
		if after := own(m, "quorum"); after != before {
			t.Errorf("a minority of one added %v to the quorum clock", after-before)
		}
		for _, f := range flows {
			got := share(c, f.ID, from, c.Now())
			t.Logf("%s: admitted %.4f of the limit", f.Limit, got)
			if got > 1.05 {
				t.Errorf("%s: admitted %.4f of the limit", f.Limit, got)
			}
		}
		c.Heal([]*sim.Machine{m}, rest)
		c.Run(20*time.Second, nil)
		c.Look()
		obey(t, c, judge.Laws{Nodes: 3, Delay: 500 * time.Millisecond, Cuts: 1, Frozen: time.Minute, Blind: 1, Apart: 50 * time.Millisecond, Whole: true})
	})
}

// The other two take a killed node's part over: after 1.5 leases the cluster refills in full.
func TestACrashIsTakenOver(t *testing.T) {
	play(t, sim.Config{Seed: 6, Limits: []crdt.Definition{limit("l", 100, "100")}}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(5 * time.Millisecond))
		whole(t, c, "a", "b", "c")
		c.Run(10*time.Second, nil)
		must(t, c.Crash(c.Machines[0]))
		lease := node.DefaultConfig().Lease
		c.Run(lease*3/2+time.Second, nil)
		for _, m := range c.Up() {
			if speed := m.Node.Cluster().Policies["quorum"].Speed; speed < 0.98 {
				t.Errorf("%s runs at %.3f of the rate, 1.5 leases and a second after the crash", m.Name, speed)
			}
		}
		from := c.Now()
		id := judge.ID{Limit: "l", Key: "k"}
		c.Run(20*time.Second, []*sim.Flow{{ID: id, PerSecond: 900, Even: true}})
		got := share(c, id, from, c.Now())
		t.Logf("admitted %.4f of the limit", got)
		if got < 0.95 || got > 1.05 {
			t.Errorf("admitted %.4f of the limit", got)
		}
		c.Run(time.Second, nil)
		c.Look()
		obey(t, c, judge.Laws{Nodes: 3, Delay: 300 * time.Millisecond, Apart: 50 * time.Millisecond})
	})
}

// Five machines with the same seeds and empty disks start together: one cluster comes of it.
func TestAllStartAtOnce(t *testing.T) {
	play(t, sim.Config{Seed: 7, Limits: []crdt.Definition{limit("l", 100, "100")}}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(5 * time.Millisecond))
		c.Add("a")
		must(t, c.Start(c.Machines[0])) // founds, and is forgotten about: what follows has seeds only
		c.Stop(c.Machines[0])
		c.Run(10*time.Second, nil)
		for range 5 {
			must(t, c.Start(c.Add("a")))
		}
		c.Run(30*time.Second, nil)
		for _, m := range c.Machines[1:] {
			if s := m.Node.Cluster(); s.ReachableMembers != 5 {
				t.Errorf("%s reaches %d of 5 members", m.Name, s.ReachableMembers)
			}
		}
		obey(t, c, judge.Laws{Whole: true})
	})
}

// own is a machine's own component of a refill clock.
func own(m *sim.Machine, policy string) time.Duration {
	return time.Duration(m.Node.Cluster().Policies[policy].OwnMS * float64(time.Millisecond))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

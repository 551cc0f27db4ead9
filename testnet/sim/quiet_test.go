package sim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/sim"
)

// Two rounds and the link's delay after the last take, all nodes hold the same.
func TestAllHoldTheSameWithinTwoRounds(t *testing.T) {
	const link = 80 * time.Millisecond
	play(t, sim.Config{Seed: 11, Limits: []crdt.Definition{limit("l", 100, "10")}}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(time.Millisecond))
		whole(t, c, "a", "a", "b", "b", "c")
		regional(c, delay(link))
		c.Run(5*time.Second, nil)
		var flows []*sim.Flow
		for k := range 60 {
			flows = append(flows, &sim.Flow{ID: judge.ID{Limit: "l", Key: fmt.Sprint(k)}, PerSecond: 5})
		}
		c.Run(10*time.Second, flows)
		time.Sleep(2*200*time.Millisecond + link)
		c.Look()
		v := obey(t, c, judge.Laws{Nodes: 5, Delay: 200*time.Millisecond + link, Apart: 20 * time.Millisecond, Whole: true})
		t.Logf("overdraft %.2f of the bound", v.Overdraft)
	})
}

// A paused refill daemon freezes what its own node sees, whatever its peers send; its part
// of the clocks goes on for the others' sake.
func TestAPausedDaemonFreezesItsNodeOnly(t *testing.T) {
	play(t, sim.Config{Seed: 12, Limits: []crdt.Definition{limit("l", 100, "100")}}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(5 * time.Millisecond))
		whole(t, c, "a", "a", "a")
		c.Run(5*time.Second, nil)
		m := c.Machines[0]
		m.Node.SetRefillPaused(true)
		c.Run(2*time.Second, nil)
		before := m.Node.Cluster().Policies["quorum"].ClockMS
		c.Run(20*time.Second, []*sim.Flow{{ID: judge.ID{Limit: "l", Key: "k"}, PerSecond: 300, Even: true}})
		if after := m.Node.Cluster().Policies["quorum"].ClockMS; after != before {
			t.Errorf("its R moved by %.1f ms", after-before)
		}
		for _, o := range c.Machines[1:] {
			if s := o.Node.Cluster().Policies["quorum"].Speed; s < 0.98 {
				t.Errorf("%s runs at %.2f of the rate", o.Name, s)
			}
		}
		m.Node.SetRefillPaused(false)
		c.Run(5*time.Second, nil)
		c.Look()
		obey(t, c, judge.Laws{Nodes: 3, Delay: 100 * time.Millisecond, Apart: 20 * time.Millisecond, Whole: true})
	})
}

// Keys that are taken from once, over links that lose a third of the packets: what was lost is
// sent again, though nothing else changes.
func TestWhatWasLostIsSentAgain(t *testing.T) {
	play(t, sim.Config{Seed: 13, Limits: []crdt.Definition{limit("l", 100, "1/m")}}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(5 * time.Millisecond))
		whole(t, c, "a", "b")
		c.Net.Default(memnet.Link{Delay: 5 * time.Millisecond, Loss: 0.3})
		var flows []*sim.Flow
		for k := range 200 {
			flows = append(flows, &sim.Flow{ID: judge.ID{Limit: "l", Key: fmt.Sprint(k)}, PerSecond: 0.3})
		}
		c.Run(5*time.Second, flows)
		c.Run(5*time.Second, nil)
		c.Look()
		obey(t, c, judge.Laws{Nodes: 2, Delay: 3 * time.Second, Apart: time.Second})
	})
}

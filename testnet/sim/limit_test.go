package sim_test

import (
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/sim"
)

// Three times as much as allowed is offered on each of the nodes; together they admit what
// one would.
func TestOneLimitOnManyNodes(t *testing.T) {
	wan := delay(80 * time.Millisecond)
	for _, s := range []struct {
		name        string
		capacity    int64
		rate        string
		regions     []string
		between     memnet.Link // of nodes in different regions
		least, most float64
	}{
		{"three nodes", 100, "100", []string{"a", "a", "a"}, wan, 0.97, 1.02},
		{"three regions, 80 ms apart", 100, "100", []string{"a", "b", "c"}, wan, 0.95, 1.05},
		{"nine nodes in three regions", 100, "100", []string{"a", "a", "a", "b", "b", "b", "c", "c", "c"}, wan, 0.95, 1.08},
		{"capacity of one", 1, "100", []string{"a", "a", "a"}, wan, 0.5, 1.05},
		{"capacity of one, three regions", 1, "100", []string{"a", "b", "c"}, wan, 0.5, 1.05},
		{"capacity of ten", 10, "100", []string{"a", "a", "a"}, wan, 0.8, 1.05},
		{"capacity of ten, three regions", 10, "100", []string{"a", "b", "c"}, wan, 0.8, 1.05},
		{"capacity of ten, nine nodes", 10, "100", []string{"a", "a", "a", "b", "b", "b", "c", "c", "c"}, wan, 0.5, 1.05},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			play(t, sim.Config{Seed: 1, Limits: []crdt.Definition{limit("l", s.capacity, s.rate)}}, func(t *testing.T, c *sim.Cluster) {
				c.Net.Default(delay(time.Millisecond))
				whole(t, c, s.regions...)
				regional(c, s.between)
				c.Run(5*time.Second, nil)
				id := sim.ID{Limit: "l", Key: "k"}
				from := c.Now()
				c.Run(20*time.Second, []*sim.Flow{{ID: id, PerSecond: 300 * float64(len(s.regions)), Even: true}})
				got := share(c, id, from, c.Now())
				t.Logf("admitted %.4f of the limit", got)
				if got < s.least || got > s.most {
					t.Errorf("admitted %.4f of the limit, want %.2f to %.2f", got, s.least, s.most)
				}
				time.Sleep(2 * time.Second)
				c.Look()
				v := obey(t, c, sim.Laws{Nodes: len(s.regions), Delay: 200*time.Millisecond + s.between.Delay, Apart: 100 * time.Millisecond})
				t.Logf("overdraft %.2f of the bound, clock %.4f", v.Overdraft, v.Growth)
			})
		})
	}
}

// regional gives all links between different regions the same settings.
func regional(c *sim.Cluster, link memnet.Link) {
	for _, a := range c.Machines {
		for _, b := range c.Machines {
			if a.Region != b.Region {
				c.Net.Link(a.Addr, b.Addr, link)
			}
		}
	}
}

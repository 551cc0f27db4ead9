package sim_test

import (
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
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
				id := judge.ID{Limit: "l", Key: "k"}
				from := c.Now()
				c.Run(20*time.Second, []*sim.Flow{{ID: id, PerSecond: 300 * float64(len(s.regions)), Even: true}})
				got := share(c, id, from, c.Now())
				t.Logf("admitted %.4f of the limit", got)
				if got < s.least || got > s.most {
					t.Errorf("admitted %.4f of the limit, want %.2f to %.2f", got, s.least, s.most)
				}
				time.Sleep(2 * time.Second)
				c.Look()
				v := obey(t, c, judge.Laws{Nodes: len(s.regions), Delay: 200*time.Millisecond + s.between.Delay, Apart: 100 * time.Millisecond})
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

// A key that only one node is asked for is limited exactly as by one bucket: to the token. The
// refill clock may be a tick off the real time that the ideal bucket goes by, so the load ends
// half-way between two tokens.
func TestAKeyOfOneNodeIsExactToTheToken(t *testing.T) {
	play(t, sim.Config{Seed: 1, Limits: []crdt.Definition{limit("l", 100, "10")}}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(time.Millisecond))
		whole(t, c, "a", "a", "a")
		c.Run(5*time.Second, nil)
		id := judge.ID{Limit: "l", Key: "k"}
		c.Run(20*time.Second+50*time.Millisecond, []*sim.Flow{{ID: id, PerSecond: 300, Even: true, Machines: c.Machines[1:2]}})
		admitted, _ := c.Observed.Admitted(id)
		ideal := c.Observed.Limits["l"].Admits(c.Observed.Takes[id])
		t.Logf("admitted %d, ideal %d", admitted, ideal)
		if admitted != ideal {
			t.Errorf("admitted %d tokens, one bucket admits %d", admitted, ideal)
		}
	})
}

// Traffic of 0.8 of the rate, spread over the nodes, is served, whatever the links are like.
func TestLawfulTrafficIsServed(t *testing.T) {
	for _, s := range []struct {
		name    string
		regions []string
		link    memnet.Link
	}{
		{"one region", []string{"a", "a", "a"}, delay(time.Millisecond)},
		{"80 ms apart", []string{"a", "b", "c"}, delay(80 * time.Millisecond)},
		{"150 ms apart, one packet in twenty lost", []string{"a", "b", "c"}, memnet.Link{Delay: 150 * time.Millisecond, Loss: 0.05}},
		{"150 ms apart, jitter, loss, duplicates, reordering", []string{"a", "a", "b", "b", "c", "c"},
			memnet.Link{Delay: 140 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.05, Duplicate: 0.05, Reorder: 0.05}},
		{"nine nodes in three regions, 150 ms apart", []string{"a", "a", "a", "b", "b", "b", "c", "c", "c"}, memnet.Link{Delay: 150 * time.Millisecond, Loss: 0.05}},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			play(t, sim.Config{Seed: 2, Limits: []crdt.Definition{limit("l", 50, "100")}}, func(t *testing.T, c *sim.Cluster) {
				c.Net.Default(delay(time.Millisecond))
				whole(t, c, s.regions...)
				regional(c, s.link)
				c.Run(5*time.Second, nil)
				flow := &sim.Flow{ID: judge.ID{Limit: "l", Key: "k"}, PerSecond: 80, Even: true}
				c.Run(time.Minute, []*sim.Flow{flow})
				v := obey(t, c, judge.Laws{Nodes: len(s.regions), Delay: 2 * time.Second,
					Lawful: map[string]bool{"l": true}, Refused: 0.001})
				t.Logf("refused %.4f %%", 100*v.Refused)
			})
		})
	}
}

// After an hour of lawful use on one node, another takes the key over, which never was asked
// for it: nothing lawful is refused, and no second full bucket is granted.
func TestAKeyFailsOverToAnotherNode(t *testing.T) {
	seldom := func(cfg *node.Config) error { // an hour is long
		cfg.RoundRegion, cfg.Tick = 200*time.Millisecond, 50*time.Millisecond
		return nil
	}
	play(t, sim.Config{Seed: 3, Limits: []crdt.Definition{limit("l", 100, "10")}, Tune: seldom}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(5 * time.Millisecond))
		whole(t, c, "a", "a", "a")
		id := judge.ID{Limit: "l", Key: "k"}
		c.Run(time.Hour, []*sim.Flow{{ID: id, PerSecond: 8, Even: true, Machines: c.Machines[:1]}})
		before, offered := c.Observed.Admitted(id)
		if before != offered {
			t.Errorf("%d of %d lawful requests refused", offered-before, offered)
		}
		c.Run(time.Minute, []*sim.Flow{{ID: id, PerSecond: 8, Even: true, Machines: c.Machines[1:2]}})
		if after, offered := c.Observed.Admitted(id); after != offered {
			t.Errorf("%d of %d lawful requests refused after the failover", offered-after, offered)
		}
		c.Run(10*time.Second, []*sim.Flow{{ID: id, PerSecond: 200, Even: true, Machines: c.Machines[1:2]}}) // drained here …
		was, _ := c.Observed.Admitted(id)
		c.Run(time.Second, []*sim.Flow{{ID: id, PerSecond: 200, Even: true, Machines: c.Machines[2:]}}) // … and asked there
		is, _ := c.Observed.Admitted(id)
		t.Logf("admitted %d tokens in the second after the failover of a dry key", is-was)
		if is-was > 11 {
			t.Errorf("a dry key was granted %d tokens within a second on the next node, the rate is 10", is-was)
		}
		obey(t, c, judge.Laws{Nodes: 3, Delay: 300 * time.Millisecond})
	})
}

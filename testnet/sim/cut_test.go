package sim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/sim"
)

// One of three is cut off, both ways or one way, for a while, with all three under load.
func TestOneOfThreeIsCutOff(t *testing.T) {
	for _, lasts := range []time.Duration{5 * time.Second, 20 * time.Second, 90 * time.Second} {
		for _, way := range []string{"both ways", "it hears nobody", "nobody hears it"} {
			t.Run(fmt.Sprintf("%v, %s", lasts, way), func(t *testing.T) {
				t.Parallel()
				cutStory(t, lasts, func(c *sim.Cluster, lone, rest []*sim.Machine) {
					switch way {
					case "both ways":
						c.Cut(lone, rest)
					case "it hears nobody":
						c.CutOneWay(rest, lone)
					default:
						c.CutOneWay(lone, rest)
					}
				}, true)
			})
		}
	}
}

// Only the link between two of three is cut: the third relays, and nobody loses authority.
func TestASingleLinkIsCutForAMinute(t *testing.T) {
	cutStory(t, time.Minute, func(c *sim.Cluster, lone, rest []*sim.Machine) { c.Cut(lone, rest[:1]) }, false)
}

// What the others added unheard, as far as it was extrapolated, is not taken back when the lease ends
// without them: else the share clock stands still on the cut-off side, of all moments then, until its
// own part has made up for it.
func TestTheShareClockGoesOnWhenTheLeaseEnds(t *testing.T) {
	limits := []crdt.Definition{limit("share", 100, "100")}
	limits[0].Policy = crdt.Share
	play(t, sim.Config{Seed: 8, Limits: limits}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(5 * time.Millisecond))
		whole(t, c, "a", "b", "c")
		c.Run(5*time.Second, nil)
		lone, rest := c.Machines[2:], c.Machines[:2]
		c.Cut(lone, rest)
		for range 200 {
			c.Run(50*time.Millisecond, nil)
			for _, m := range c.Machines {
				part := 1.0 / 3
				if m != lone[0] {
					part = 2.0 / 3
				}
				if s := m.Node.Cluster().Policies["share"].Speed; s < part-0.02 {
					t.Errorf("%v: %s runs at %.2f, though its side adds %.2f", c.Now(), m.Name, s, part)
				}
			}
		}
	})
}

// cutStory cuts the last of three machines off under load, heals, and lets it get whole.
func cutStory(t *testing.T, lasts time.Duration, cut func(c *sim.Cluster, lone, rest []*sim.Machine), minority bool) {
	limits := []crdt.Definition{limit("quorum", 100, "100"), limit("share", 100, "100")}
	limits[0].Backup = &crdt.Backup{Capacity: 10 * crdt.Token, Rate: limit("", 1, "1").Rate}
	limits[1].Policy = crdt.Share
	play(t, sim.Config{Seed: 8, Limits: limits}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(5 * time.Millisecond))
		whole(t, c, "a", "b", "c")
		c.Run(5*time.Second, nil)
		lease := node.DefaultConfig().Lease
		lone, rest := c.Machines[2:], c.Machines[:2]
		quorum, half := judge.ID{Limit: "quorum", Key: "k"}, judge.ID{Limit: "share", Key: "k"}
		flows := []*sim.Flow{{ID: quorum, PerSecond: 900, Even: true}, {ID: half, PerSecond: 900, Even: true}}
		from := c.Now()
		at := from + 5*time.Second
		c.Run(10*time.Second+lasts, flows,
			sim.Event{At: at, Do: func() { cut(c, lone, rest) }},
			sim.Event{At: at + lease + time.Second, Do: func() {
				s := lone[0].Node.Cluster().Policies["quorum"].Speed
				ready, why := lone[0].Node.Ready()
				if minority && (s > 0.2 || ready) {
					t.Errorf("cut off for lease + 1 s: speed %.2f, ready %v %s", s, ready, why)
				}
				if !minority && !ready {
					t.Errorf("a single link is cut, but: %s", why)
				}
			}},
			sim.Event{At: at + lease*3/2 + time.Second, Do: func() {
				for _, m := range rest {
					if s := m.Node.Cluster().Policies["quorum"].Speed; s < 0.98 && lasts > lease*3/2+time.Second {
						t.Errorf("%s runs at %.2f of the rate 1.5 leases + 1 s after the cut", m.Name, s)
					}
				}
			}},
			sim.Event{At: at + lasts, Do: c.Net.HealAll})
		for _, id := range []judge.ID{quorum, half} {
			got := share(c, id, from, c.Now())
			t.Logf("%s: admitted %.4f of the limit", id.Limit, got)
			if got > 1.05 {
				t.Errorf("%s: admitted %.4f of the limit", id.Limit, got)
			}
		}
		backup := 0
		for _, take := range c.Observed.Takes[quorum] {
			if take.Backup {
				backup++
			}
		}
		if minority && lasts > lease+2*time.Second && backup == 0 {
			t.Error("the backup bucket served nothing")
		}
		c.Run(5*time.Second, nil)
		for _, m := range c.Machines {
			for _, id := range []judge.ID{quorum, half} {
				if b, err := m.Node.Look(id.Limit, id.Key); err != nil || b.Level < b.Limit.Capacity {
					t.Errorf("%s %s: level %d, not full 5 s after the load ended", m.Name, id.Limit, b.Level)
				}
			}
		}
		c.Run(5*time.Second, nil) // ten seconds after the load, fifteen after the heal
		c.Look()
		v := obey(t, c, judge.Laws{Nodes: 3, Delay: 250 * time.Millisecond, Ahead: 150 * time.Millisecond, Cuts: 1, Frozen: lasts, Apart: 50 * time.Millisecond, Whole: true})
		t.Logf("overdraft %.2f of the bound, clocks at most %.4f", v.Overdraft, v.Growth)
	})
}

// Two nodes: each side of a cut goes on at half the rate.
func TestTwoNodesShareACut(t *testing.T) {
	play(t, sim.Config{Seed: 9, Limits: []crdt.Definition{limit("l", 100, "100")}}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(5 * time.Millisecond))
		whole(t, c, "a", "b")
		c.Run(5*time.Second, nil)
		id := judge.ID{Limit: "l", Key: "k"}
		from := c.Now()
		c.Run(40*time.Second, []*sim.Flow{{ID: id, PerSecond: 600, Even: true}},
			sim.Event{At: from + 10*time.Second, Do: func() { c.Cut(c.Machines[:1], c.Machines[1:]) }},
			sim.Event{At: from + 20*time.Second, Do: func() {
				for _, m := range c.Machines {
					if s := m.Node.Cluster().Policies["quorum"].Speed; s < 0.45 || s > 0.55 {
						t.Errorf("%s runs at %.2f of the rate, want half", m.Name, s)
					}
				}
			}},
			sim.Event{At: from + 30*time.Second, Do: c.Net.HealAll})
		got := share(c, id, from, c.Now())
		t.Logf("admitted %.4f of the limit", got)
		if got > 1.05 {
			t.Errorf("admitted %.4f of the limit", got)
		}
		c.Run(10*time.Second, nil)
		c.Look()
		obey(t, c, judge.Laws{Nodes: 2, Delay: 250 * time.Millisecond, Ahead: 150 * time.Millisecond, Cuts: 1, Frozen: 20 * time.Second, Apart: 50 * time.Millisecond, Whole: true})
	})
}

// Six are cut into halves; a newcomer on the side without the lowest name must not give that
// side a majority: the other has one.
func TestANewcomerMakesNoSecondMajority(t *testing.T) {
	play(t, sim.Config{Seed: 10, Limits: []crdt.Definition{limit("l", 100, "100")}}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(5 * time.Millisecond))
		whole(t, c, "a", "a", "a", "b", "b", "b")
		c.Run(5*time.Second, nil)
		newcomer := c.Add("b")
		c.Cut(c.Machines[:3], c.Machines[3:])
		c.Run(10*time.Second, nil)
		must(t, c.Start(newcomer))
		c.Run(30*time.Second, nil)
		c.Net.HealAll()
		c.Run(20*time.Second, nil)
		obey(t, c, judge.Laws{Whole: true})
	})
}

package sim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/sim"
)

// A new capacity, policy or rate comes while buckets are partly full, and some are in use:
// within one sweep every node has the same levels again, without a repair.
func TestANewDefinitionGivesEveryNodeTheSameLevels(t *testing.T) {
	for name, change := range map[string]func(d *crdt.Definition){
		"larger":  func(d *crdt.Definition) { d.Capacity = 1000 * crdt.Token },
		"smaller": func(d *crdt.Definition) { d.Capacity = 50 * crdt.Token },
		"policy":  func(d *crdt.Definition) { d.Policy = crdt.Share },
		"rate":    func(d *crdt.Definition) { d.Rate = limit("", 1, "100").Rate },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := limit("l", 100, "5")
			play(t, sim.Config{Seed: 12, Limits: []crdt.Definition{before}}, func(t *testing.T, c *sim.Cluster) {
				c.Net.Default(delay(80 * time.Millisecond))
				whole(t, c, "a", "b", "c")
				c.Run(5*time.Second, nil)
				for i := range 50 {
					for j, m := range c.Machines {
						for range i / 10 {
							m.Node.Take("l", fmt.Sprint("k", i), int64(3+5*j))
						}
					}
				}
				c.Run(2*time.Second, nil)
				after := before
				change(&after)
				must(t, c.Reload(c.Machines[1], []crdt.Definition{after}))
				for i := range 30 { // takes go on while the nodes change over, each in its turn
					c.Machines[i%3].Node.Take("l", fmt.Sprint("k", 20+i), 20)
					c.Run(50*time.Millisecond, nil)
				}
				c.Run(15*time.Second, nil) // a sweep over all shards
				for range 6 {
					c.Run(5*time.Second, nil)
					differ := 0
					for i := range 50 {
						var levels []crdt.Milli
						for _, m := range c.Machines {
							b, err := m.Node.Look("l", fmt.Sprint("k", i))
							must(t, err)
							levels = append(levels, b.Level)
						}
						slack := crdt.Milli(after.Rate.PerSecond() * 300) // the clocks are some 200 ms apart
						if levels[0] > levels[1]+slack || levels[1] > levels[0]+slack || levels[2] > levels[1]+slack || levels[1] > levels[2]+slack {
							differ++
							if differ == 1 {
								t.Log(c.Now(), "key", i, levels)
							}
						}
					}
					if differ > 0 {
						t.Errorf("%v: %d keys differ", c.Now(), differ)
					}
				}
				for _, m := range c.Machines {
					if s := m.Node.Stats(); s.Repairs > 0 {
						t.Errorf("%s: %d repairs", m.Name, s.Repairs)
					}
				}
			})
		})
	}
}

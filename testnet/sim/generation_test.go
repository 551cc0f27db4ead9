package sim_test

import (
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/sim"
)

// A bucket that is never full keeps a slot of every incarnation that took from it. Past 32
// dead ones it starts anew, with the level that it had, and the same one on every node.
func TestFortyRestartsLeaveNoFortySlots(t *testing.T) {
	l := limit("l", 1000, "1/h")
	coarse := func(cfg *node.Config) error { cfg.Tick = 50 * time.Millisecond; return nil }
	play(t, sim.Config{Seed: 11, Limits: []crdt.Definition{l}, Tune: coarse}, func(t *testing.T, c *sim.Cluster) {
		c.Net.Default(delay(5 * time.Millisecond))
		whole(t, c, "a", "a", "a")
		m := c.Machines[2]
		taken := crdt.Milli(0)
		most := 0
		for range 40 {
			if d, err := m.Node.Take("l", "k", 5); err != nil || !d.Allowed {
				t.Fatal(d, err)
			}
			taken += 5 * crdt.Token
			c.Run(time.Second, nil)
			c.Stop(m)
			for !m.Ended() {
				c.Run(100*time.Millisecond, nil)
			}
			must(t, c.Start(m))
			if !c.Settle(time.Minute) {
				t.Fatal("not whole after a restart", standing(c))
			}
			c.Run(20*time.Second, nil) // a sweep over all shards
			b, err := c.Machines[0].Node.Look("l", "k")
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, len(b.Slots))
		}
		t.Logf("at most %d slots", most)
		if most < 30 || most > 36 {
			t.Errorf("%d slots, want some 33 at most", most)
		}
		refilled := crdt.Milli(c.Now().Hours() * 1000)
		for _, m := range c.Machines {
			b, err := m.Node.Look("l", "k")
			if err != nil {
				t.Fatal(err)
			}
			if len(b.Slots) > 20 || b.Level < 1000*crdt.Token-taken || b.Level > 1000*crdt.Token-taken+refilled {
				t.Errorf("%s: %d slots, level %d, want %d to %d", m.Name, len(b.Slots), b.Level, 1000*crdt.Token-taken, 1000*crdt.Token-taken+refilled)
			}
		}
	})
}

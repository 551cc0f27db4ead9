package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/memnet"
)

// The daemon ticks as often as the quickest bucket needs, from a reload on too, and no idle
// node more often.
func TestTheDaemonTicksAsOftenAsTheLimitsNeed(t *testing.T) {
	quick := func(d crdt.Definition) crdt.Definition {
		d.Backup = &crdt.Backup{Capacity: crdt.Token, Rate: mustRate(t, "20")}
		return d
	}
	cases := []struct {
		what   string
		limits []crdt.Definition
		tick   time.Duration
	}{
		{"slow", []crdt.Definition{definition(t, "a", 1, "1/h")}, 20 * time.Millisecond},
		{"a quick one among slow ones", []crdt.Definition{definition(t, "a", 100, "1"), definition(t, "b", 10, "100")}, 12500 * time.Microsecond},
		{"a quicker one", []crdt.Definition{definition(t, "b", 10, "100"), definition(t, "c", 1, "100")}, 5 * time.Millisecond},
		{"the slow one again", []crdt.Definition{definition(t, "a", 100, "1")}, 20 * time.Millisecond},
		{"a quick backup", []crdt.Definition{quick(definition(t, "a", 100, "1"))}, 6250 * time.Microsecond},
	}
	synctest.Test(t, func(t *testing.T) {
		m := newLife(t, memnet.New(1), 1, t.TempDir())
		m.cfg.Tick = 0
		m.run()
		defer m.stop()
		for i, c := range cases {
			if err := m.Replace(c.limits, uint64(i+2)); err != nil {
				t.Fatalf("%s: %v", c.what, err)
			}
			time.Sleep(5 * time.Second)
			if got := tickSeen(m.Node); got < c.tick*9/10 || got > c.tick*11/10 {
				t.Errorf("%s: R moves every %v, want %v", c.what, got, c.tick)
			}
		}
	})
}

// tickSeen is how often R moves, in a second of looking.
func tickSeen(n *Node) time.Duration {
	moves, last := 0, n.refill.reading(crdt.Quorum)
	for range 10_000 {
		time.Sleep(100 * time.Microsecond)
		if now := n.refill.reading(crdt.Quorum); now != last {
			moves, last = moves+1, now
		}
	}
	return time.Second / time.Duration(max(1, moves))
}

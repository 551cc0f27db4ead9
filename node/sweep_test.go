package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// deliver sends a node what another one has of a key, as a frame would.
func deliver(t *testing.T, to, from *Node, key string) {
	t.Helper()
	var ids []uint32
	for i := range from.table.shards {
		from.table.shards[i].each(func(e *entry, place uint32) {
			if e.key == key {
				ids = append(ids, uint32(i)<<localBits|place)
			}
		})
	}
	payload, _ := (&replica{n: from}).Pack(nil, ids, 1<<20)
	if _, _, err := (&replica{n: to}).Unpack(payload, nil); err != nil {
		t.Fatal(err)
	}
}

// A flood makes a node forget a key again and again, whose bucket its peer keeps: each time
// it opens another slot. Slots that it has left behind are dead, though it lives.
func TestSlotsLeftBehindByAFloodStartANewGeneration(t *testing.T) {
	flooded, peer := quietNode(t, 100, "10", 1000), quietNode(t, 100, "10", 1000)
	flooded.settled.Store(true)
	peer.settled.Store(true)
	taken := 0
	for range 40 {
		d, err := flooded.Take("bench", "alice", 1)
		if err != nil || !d.Allowed {
			t.Fatal(d, err)
		}
		taken++
		deliver(t, peer, flooded, "alice")
		flooded.forgetAll()
	}
	b, _ := peer.Look("bench", "alice")
	if len(b.Slots) != taken || b.Level != crdt.Milli(100-taken)*crdt.Token {
		t.Fatalf("%d slots, level %d: a slot was written to twice", len(b.Slots), b.Level)
	}
	deliver(t, flooded, peer, "alice")
	v := &gossip.View{Self: "edge-1", Members: []gossip.Member{{Node: "edge-1", Writer: uint64(flooded.writer)}}}
	v.Phase = gossip.Synced
	flooded.refill.local.Store(1)
	flooded.noteWhole(v, &authority{reachable: 1})
	flooded.refill.local.Add(2 * int64(flooded.cfg.Lease))
	e, _ := flooded.entryOf("alice")
	if !flooded.mayRegenerate(v, e) {
		t.Errorf("%d slots, one of them in use, and no new generation", len(e.Slots()))
	}
	theNextWaits(t, flooded, v, e)
}

// A generation hides what its node has not heard of. So none starts before the node has finished
// its start and has reached every member for two leases; and again after each cut.
func theNextWaits(t *testing.T, n *Node, v *gossip.View, e *entry) {
	t.Helper()
	all, lease := &authority{reachable: 1}, int64(n.cfg.Lease)
	for _, c := range []struct {
		why   string
		wrong func() // what is not as it should be
		mend  func()
	}{
		{"a member is not reached", func() { all.reachable = 0 }, func() { all.reachable = 1 }},
		{"the first sync is not done", func() { v.Phase = gossip.Syncing }, func() { v.Phase = gossip.Synced }},
		{"the node has not settled", func() { n.settled.Store(false) }, func() { n.settled.Store(true) }},
	} {
		c.wrong()
		n.noteWhole(v, all)
		n.refill.local.Add(10 * lease)
		if n.mayRegenerate(v, e) {
			t.Errorf("%s, and a generation may start", c.why)
		}
		c.mend()
		n.noteWhole(v, all)
		n.refill.local.Add(2*lease - 1)
		n.noteWhole(v, all)
		if n.mayRegenerate(v, e) {
			t.Errorf("%s until just now, and a generation may start", c.why)
		}
		n.refill.local.Add(1)
		if !n.mayRegenerate(v, e) {
			t.Errorf("two leases after %s no generation may start", c.why)
		}
	}
}

// Serials are 32 bits for the life of a process: evictions in a flood must not use them up.
func TestAFloodDoesNotUseUpTheSerials(t *testing.T) {
	n := quietNode(t, 100, "1000000", 256)
	const strangers = 100_000
	for i := range strangers {
		n.Take("bench", fmt.Sprint("stranger-", i), 1)
		n.refill.shown[crdt.Quorum].Add(1e6)
	}
	evicted := n.Stats().Limits[0].EvictedMemory
	t.Logf("%d evictions, serial %d", evicted, n.serial.Load())
	if evicted < strangers/2 || uint64(n.serial.Load()) > evicted/16 {
		t.Errorf("%d evictions raised the serial to %d", evicted, n.serial.Load())
	}
}

// forgetAll evicts every bucket.
func (n *Node) forgetAll() {
	for i := range n.table.shards {
		s := &n.table.shards[i]
		s.each(func(e *entry, place uint32) { n.evict(s, n.force.Load().at(e), place) })
	}
}

func (n *Node) entryOf(key string) (*entry, uint32) {
	h := n.table.hash(0, key)
	return n.table.shard(h).find(h, 0, key)
}

// A limit that is nearly full of buckets makes room of the full ones, wherever they lie: the
// next stranger gets a bucket of its own.
func TestTheSweepMakesRoom(t *testing.T) {
	n := quietNode(t, 100, "10", 100)
	for i := range 100 {
		n.Take("bench", fmt.Sprint("old-", i), 1)
	}
	n.refill.shown[crdt.Quorum].Store(int64(time.Minute)) // all are full again
	for i := range shards {
		n.sweep(i)
	}
	for i := range 10 {
		n.Take("bench", fmt.Sprint("new-", i), 100)
	}
	if st := n.Stats().Limits[0]; st.Overflow != 0 || st.EvictedMemory == 0 {
		t.Errorf("%d of 10 strangers shared the overflow bucket; %d buckets made room", st.Overflow, st.EvictedMemory)
	}
}

package node

import (
	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// maxDeadSlots is how many slots that nobody writes to any more a bucket may keep before the
// key's owner starts a new generation.
const maxDeadSlots = 32

// sweep goes over one shard: it forgets buckets that the eviction rule calls absent and
// those of removed limits, converts what a new definition left, and starts generations.
func (n *Node) sweep(i int) {
	v := n.gossip.View()
	s := &n.table.shards[i]
	visit := func(e *entry, place uint32) {
		force := n.force.Load() // under the lock: see current
		l := force.at(e)
		if l == nil {
			force.counts[e.limit].Add(-1)
			n.retire(e)
			s.remove(place)
			return
		}
		r := crdt.Instant(l.shown.Load())
		if e.Epoch == l.terms.Epoch && e.Absent(&l.terms, r) {
			n.evict(s, l, place)
			s.tally[l.Index].evictedFull++
			return
		}
		if e.key != "" && l.buckets.Load() > int64(l.MaxBuckets)*7/8 && e.Full(&l.terms, r) {
			n.evict(s, l, place) // makes room before it is short: room looks into one shard only
			s.tally[l.Index].evictedMemory++
			return
		}
		n.renew(s, l, r, e, place)
		if len(e.Slots()) > maxDeadSlots && n.mayRegenerate(v, e) {
			e.Regenerate(&l.terms, r)
			s.touch(e, place)
		}
	}
	for from, more := uint32(0), true; more; from += stride {
		more = s.walk(from, visit)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.dropFullBackups(s)
}

// noteWhole keeps since when this node has finished its start and reached every member.
func (n *Node) noteWhole(v *gossip.View, a *authority) {
	whole := v.Phase == gossip.Synced && n.standing().ripe && a.reachable > 0 && a.reachable == len(v.Members)
	switch since := n.wholeSince.Load(); {
	case !whole && since != 0:
		n.wholeSince.Store(0)
	case whole && since == 0:
		n.wholeSince.Store(max(1, n.refill.local.Load()))
	}
}

// mayRegenerate tells whether too many of the bucket's slots are dead, every member has been
// reachable for two leases, and the key is this node's by rendezvous. A generation hides all that its
// node has not heard of: after a start, or a heal, that is more than the takes of one delay.
func (n *Node) mayRegenerate(v *gossip.View, e *entry) bool {
	if since := n.wholeSince.Load(); since == 0 || n.refill.local.Load()-since < 2*int64(n.cfg.Lease) {
		return false
	}
	newest := make(map[crdt.Writer]uint32) // a writer that forgot the bucket opens another slot
	for _, slot := range e.Slots() {
		if currentWriter(v, slot.Writer) {
			newest[slot.Writer] = max(newest[slot.Writer], slot.Serial)
		}
	}
	dead := len(e.Slots()) - len(newest)
	return dead > maxDeadSlots && owner(v, e.key) == n.cfg.Node
}

func currentWriter(v *gossip.View, w crdt.Writer) bool {
	for i := range v.Members {
		if v.Members[i].Writer == uint64(w) {
			return true
		}
	}
	return false
}

// owner is the member that answers for a key: rendezvous hashing, so that a change of
// membership moves only the keys of those who came or went.
func owner(v *gossip.View, key string) string {
	best, name := uint64(0), ""
	for i := range v.Members {
		if score := keyHash(v.Members[i].Node, key); name == "" || score > best {
			best, name = score, v.Members[i].Node
		}
	}
	return name
}

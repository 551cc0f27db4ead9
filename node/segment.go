package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
	"github.com/openclaw/edge/persist"
)

// Segments are what snapshots consist of: the set of limits, then buckets and votes in 64 parts each, by
// a hash that is the same on every node and for good (the table's own is seeded). A payload
// is a batch as peers send it; see segment_pack.go and segment_join.go.
const (
	segmentBits  = 6
	bucketSegs   = 1 << segmentBits
	limitsSeg    = 0                                      // of persist's numbers; bucket segment i is 1 + i
	segmentCount = firstReservationsSeg + reservationSegs // then those of votes and of reservations

	segmentPrefix = "rating_bucket" // of store keys
	limitsName    = "limits"
	segmentTTL    = 30 * 24 * time.Hour // of what nobody writes any more: nodes that are gone for good
)

func segmentSpecs() []persist.SegmentSpec {
	specs := []persist.SegmentSpec{{Name: limitsName, Prefix: segmentPrefix, TTL: segmentTTL, First: true}}
	for i := range bucketSegs {
		specs = append(specs, persist.SegmentSpec{Name: fmt.Sprintf("%02d", i), Prefix: segmentPrefix, TTL: segmentTTL})
	}
	return append(append(specs, votesSpecs()...), reservationsSpecs()...)
}

// segmentOf is the bucket segment of a key, 0 to 63.
func (l *Limit) segmentOf(key string) int {
	return int(mix(l.hash, xxhash.Sum64String(key)) >> (64 - segmentBits))
}

// changes is the set of bucket segments with a change that has no number yet. Whoever takes
// a place off a shard's dirty list, or learns a bucket, notes it here under the shard's lock:
// so a change is always either on such a list or here, and takes know nothing of segments.
type changes struct{ set atomic.Uint64 }

func (c *changes) note(segments uint64) {
	if segments != 0 {
		c.set.Or(segments)
	}
}

// all is noted when the limits change: every bucket may be another then.
func (c *changes) all() { c.set.Store(1<<bucketSegs - 1) }

// segments is the node as persist sees it (persist.State). One goroutine at a time calls it.
type segments struct {
	n *Node

	numbers [segmentCount]uint64
	newest  uint64    // number given out
	set     *crdt.Set // that the number of the limits' segment stands for

	packers [packAtOnce]crdt.Packer
	stride  [packStride]packed
	buf     []byte

	reader crdt.Unpacker
	past   past

	ratingReader crdt.RatingUnpacker
	ids          []uint32
}

// Changes numbers what has changed since the last call. What gossip drains between two calls
// may be numbered by both: a write too many, and none too few.
func (g *segments) Changes(dst []uint64) []uint64 {
	r := &g.n.reservations
	r.mu.Lock() // what changes both a bucket and a reservation is in both numbers, or in none
	defer r.mu.Unlock()
	set := g.n.dirtySegments()
	if force := g.n.force.Load().set; force != g.set {
		g.set = force
		g.newest++
		g.numbers[limitsSeg] = g.newest
	}
	if set != 0 {
		g.newest++
		for i := range bucketSegs {
			if set>>i&1 == 1 {
				g.numbers[1+i] = g.newest
			}
		}
	}
	if set := g.n.ratings.changed.set.Swap(0); set != 0 {
		g.newest++
		for i := range votesSegs {
			if set>>i&1 == 1 {
				g.numbers[firstVotesSeg+i] = g.newest
			}
		}
	}
	if set := r.changed.set.Swap(0); set != 0 {
		g.newest++
		for i := range reservationSegs {
			if set>>i&1 == 1 {
				g.numbers[firstReservationsSeg+i] = g.newest
			}
		}
	}
	return append(dst, g.numbers[:]...)
}

// dirtySegments is the noted segments, and those of places that gossip has not drained yet:
// they are on the lists of the shards, which are looked at first.
func (n *Node) dirtySegments() (set uint64) {
	for i := range n.table.shards {
		s := &n.table.shards[i]
		s.mu.Lock()
		for _, place := range s.dirty {
			set |= s.at(place).segmentBit()
		}
		s.mu.Unlock()
	}
	return set | n.changed.set.Swap(0)
}

// segmentBit is an entry's segment as a set; empty for one that is gone.
func (e *entry) segmentBit() uint64 {
	if !e.live() {
		return 0
	}
	return 1 << (e.segment - 1)
}

// Owns goes by rendezvous over the reachable members, this node among them.
func (g *segments) Owns(segment int) bool {
	return reachableOwner(g.n.gossip.View(), g.n.refill.state.Load(), segmentSpecNames[segment]) == g.n.cfg.Node
}

var segmentSpecNames = func() (names [segmentCount]string) {
	for i, spec := range segmentSpecs() {
		names[i] = spec.Name
	}
	return names
}()

// reachableOwner is the owner by rendezvous among the reachable members and this node. (Not by
// keyHash: of its scores one node may win half of all.)
func reachableOwner(v *gossip.View, a *authority, segment string) string {
	key := xxhash.Sum64String(segment)
	score := func(node string) uint64 { return mix(xxhash.Sum64String(node), key) }
	best, name := score(v.Self), v.Self
	for i := range min(len(v.Members), maxMembers) {
		m := &v.Members[i]
		if m.Node == v.Self || !a.reach.has(i) {
			continue
		}
		if s := score(m.Node); s > best || s == best && m.Node > name {
			best, name = s, m.Node
		}
	}
	return name
}

// mayWrite tells whether a writer may still put something into a store: whoever is not known
// to be gone. What this node knows may be old behind a cut, so that an incarnation counts as
// gone only on the word of a member that is reachable: the same node's newer one, or everybody
// for one that left.
func (n *Node) mayWrite(node string, incarnation uint64) bool {
	return n.mayWriteIn(n.gossip.View(), n.refill.state.Load(), node, incarnation)
}

func (n *Node) mayWriteIn(v *gossip.View, a *authority, node string, incarnation uint64) bool {
	if node == n.cfg.Node {
		return incarnation == uint64(n.writer)
	}
	for i := range min(len(v.Members), maxMembers) {
		if m := &v.Members[i]; m.Node == node {
			return m.Writer == incarnation || !a.reach.has(i)
		}
	}
	for i := range v.Known {
		if v.Known[i].Node == node { // left or forgotten
			return a.reachable < len(v.Members)
		}
	}
	return true // a stranger: of the same cluster perhaps, which has not met us yet
}

// hears tells whether what a writer holds comes here by gossip, now or when a cut is healed: a
// member's newest incarnation that this process has met, once the first sync is done. What the
// other side of a cut has stored is not for this one to know before: with it would come the time
// that they have spent, and both would spend it.
func (n *Node) hears(node string, incarnation uint64) bool {
	if !n.settled.Load() {
		return false
	}
	v := n.gossip.View()
	for i := range v.Members {
		if m := &v.Members[i]; m.Node == node {
			return m.Node != v.Self && m.Writer == incarnation && !m.ProvenAt.IsZero()
		}
	}
	return false
}

var _ persist.State = (*segments)(nil)

// Pack emits the payloads; some segments at a time, so that it never holds more than
// packAtOnce unfinished ones.
func (g *segments) Pack(ctx context.Context, which []int, emit func(segment int, payload []byte) error) error {
	g.n.reservations.hold(true)
	defer g.n.reservations.hold(false)
	var buckets, votes, reserved []int
	for _, i := range which {
		if i >= firstReservationsSeg {
			reserved = append(reserved, i)
			continue
		}
		if i >= firstVotesSeg {
			votes = append(votes, i)
			continue
		}
		if i != limitsSeg {
			buckets = append(buckets, i)
			continue
		}
		if !g.n.agreed.Load() {
			continue // see agree
		}
		g.packers[0].Reset()
		g.packers[0].Set(g.n.force.Load().set)
		if err := g.finish(0, limitsSeg, emit); err != nil {
			return err
		}
	}
	if err := g.packReservations(ctx, reserved, emit); err != nil {
		return err
	}
	for len(buckets) > 0 {
		k := min(packAtOnce, len(buckets))
		if err := g.packBuckets(ctx, buckets[:k], emit); err != nil {
			return err
		}
		buckets = buckets[k:]
	}
	return g.packVotes(ctx, votes, emit)
}

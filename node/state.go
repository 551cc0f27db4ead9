package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// replica is the node as gossip sees it: items to pack, payloads to join. Item 0 is the set
// of limits, every other one a bucket, votes or a reservation, by its place in its table. All of it runs on gossip's
// loop; buckets are reached under their shard's lock, one at a time.
type replica struct {
	n      *Node
	packer crdt.Packer
	reader crdt.Unpacker
	rounds int            // calls of Drain
	turns  map[string]int // by peer: whose clock component is next in its headers
	audit  auditIndex

	ratings      crdt.RatingPacker
	ratingReader crdt.RatingUnpacker
	scratch      []byte

	reservations      crdt.ReservationPacker
	reservationReader crdt.ReservationUnpacker
}

const setItem = 0

// drain appends the places changed since the last call, but for reservations.
func (p *replica) drain(ids []uint32) []uint32 {
	if p.n.setDirty.Swap(false) {
		ids = append(ids, setItem)
	}
	p.rounds++
	echo := p.rounds%echoRounds(max(1, p.n.refill.state.Load().reachable)) == 0
	for i := range p.n.table.shards {
		s := &p.n.table.shards[i]
		s.mu.Lock()
		if echo {
			s.tellEchoes()
		}
		segments := uint64(0)
		for _, place := range s.dirty {
			e := s.at(place)
			e.dirty = false
			segments |= e.segmentBit()
			ids = append(ids, uint32(i)<<localBits|place)
		}
		p.n.changed.note(segments)
		s.dirty = s.dirty[:0]
		if cap(s.dirty) > 256 { // a flood is over: do not keep its memory
			s.dirty = nil
		}
		s.mu.Unlock()
	}
	return p.drainRatings(ids)
}

// pack appends a payload with the leading items of ids.
func (p *replica) pack(dst []byte, ids []uint32, max int) ([]byte, int) {
	p.packer.Reset()
	p.ratings.Reset()
	covered := 0
	for _, id := range ids {
		if id == setItem {
			p.packSet()
		} else if !p.packItem(id, max) {
			break
		}
		covered++
	}
	return p.appendPayload(dst), covered
}

func (p *replica) packSet() {
	p.n.limitsMu.Lock()
	defer p.n.limitsMu.Unlock()
	if !p.n.agreed.Load() {
		return // so far only our file says so: it knows nothing of the epochs that the cluster is in
	}
	p.packer.Set(p.n.newest())
}

// packBucket adds a bucket, brought up to this node's reading; false if it does not fit.
func (p *replica) packBucket(id uint32, max int) bool {
	s := &p.n.table.shards[id>>localBits]
	s.mu.Lock()
	defer s.mu.Unlock()
	place := id & localMask
	if place == 0 || place >= s.next {
		return true
	}
	e := s.at(place)
	l := p.n.force.Load().at(e)
	if l == nil {
		return true
	}
	r := l.reading()
	p.n.renew(s, l, r, e, place)
	if e.Advance(&l.terms, r) {
		s.touch(e, place)
	}
	return p.addBucket(l.Name, e.key, &e.Bucket, r, max)
}

// at is the limit of a live entry; nil if the limit was removed.
func (f *inForce) at(e *entry) *Limit {
	if !e.live() || int(e.limit) >= len(f.byID) {
		return nil
	}
	return f.byID[e.limit]
}

// unpack joins a payload without reservations.
func (p *replica) unpack(payload []byte, ids []uint32) ([]uint32, int, error) {
	votes, payload, err := splitPayload(payload)
	if err != nil {
		return ids, 0, err
	}
	learnt := 0
	if votes != nil {
		if ids, learnt, err = p.joinRatings(votes, ids); err != nil || len(payload) == 0 {
			return ids, learnt, err
		}
	}
	if err := p.reader.Open(payload); err != nil {
		return ids, learnt, fmt.Errorf("node: %w", err)
	}
	if p.reader.Set != nil {
		p.n.adopt(p.reader.Set)
		ids = append(ids, setItem)
	}
	later := false
	for {
		e, err := p.reader.Next()
		if err != nil {
			return ids, learnt, fmt.Errorf("node: %w", err)
		}
		if e == nil {
			break
		}
		id, grew, err := p.n.join(e)
		if errors.Is(err, gossip.ErrLater) {
			later = true
			continue
		}
		if id != 0 {
			ids = append(ids, id)
		}
		if grew {
			learnt++
		}
	}
	if later {
		return ids, learnt, fmt.Errorf("node: limits not in force yet: %w", gossip.ErrLater)
	}
	return ids, learnt, nil
}

// join joins one received bucket. The id is 0 where nothing was kept.
func (n *Node) join(in *crdt.Entry) (id uint32, learnt bool, err error) {
	agreed := n.agreed.Load() // before the limits: see agree
	l := n.force.Load().byName[string(in.Limit)]
	switch known := l != nil && in.Bucket.Epoch == l.terms.Epoch; {
	case !known && in.Bucket.Epoch.Draft():
		return 0, false, nil // its sender tells it again when it knows the cluster's limits
	case !known && !agreed:
		return 0, false, gossip.ErrLater // what holds here is not the cluster's: its set comes first
	}
	if l == nil || in.Bucket.Epoch > l.terms.Epoch {
		if l = n.hasten(in); l == nil {
			if n.knows(in.Bucket.Epoch) {
				return 0, false, nil // of a limit that was removed
			}
			return 0, false, gossip.ErrLater
		}
	}
	theirs := &in.Bucket
	if theirs.Epoch < l.terms.Epoch {
		return 0, false, nil // its sender will convert it by itself
	}
	if !theirs.Plausible(&l.terms, n.refill.horizon(l.Policy, n.gossip.View().Phase == gossip.Synced)) {
		n.impossible.Add(1)
		return 0, false, nil
	}
	return n.keep(l, in, false)
}

// keep joins a bucket of the limit's epoch. One that came from a store is to be told to peers.
func (n *Node) keep(l *Limit, in *crdt.Entry, stored bool) (id uint32, learnt bool, err error) {
	theirs, r := &in.Bucket, l.reading()
	at := max(r, min(theirs.Mark, r+crdt.Instant(n.cfg.Doubt)))
	theirs.Advance(&l.terms, at)
	if theirs.Absent(&l.terms, at) {
		return 0, false, nil
	}
	key := string(in.Key)
	h := n.table.hash(uint16(l.Index), key)
	s := n.table.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := n.current(l); now.terms.Epoch != l.terms.Epoch {
		return 0, false, gossip.ErrLater // it has changed just now
	}
	e, place := s.find(h, uint16(l.Index), key)
	lacks := false
	if e == nil {
		if !n.room(s, l, key) {
			n.unkept.Add(1)
			return 0, false, nil
		}
		if e, place = s.insert(h, l, key, *theirs); e == nil {
			n.unkept.Add(1)
			return 0, false, nil
		}
		l.buckets.Add(1)
		learnt = true
	} else {
		n.renew(s, l, r, e, place)
		if e.Advance(&l.terms, at) {
			s.touch(e, place)
		}
		learnt, lacks = e.Join(theirs)
	}
	if lacks && !stored {
		n.echo(s, e, place)
	}
	if learnt {
		n.changed.note(e.segmentBit())
		if stored {
			s.touch(e, place)
		}
	}
	return uint32(shardNumber(h))<<localBits | place, learnt, nil
}

// maxEchoing is the largest cluster whose nodes answer at once with what a sender lacks. In
// larger ones most entries lack what is under way anyway, and the answers would multiply: they
// wait and go out together.
const maxEchoing = 8

// echo tells the sender of an entry, and maybe others, what it lacks. Slots would come to it
// anyhow; what the refill of two states made differ nobody else tells.
func (n *Node) echo(s *shard, e *entry, place uint32) {
	if n.refill.state.Load().reachable <= maxEchoing {
		s.touch(e, place)
		return
	}
	if s.echoes == nil {
		s.echoes = make(map[uint32]struct{})
	}
	s.echoes[place] = struct{}{}
}

// echoRounds is how many rounds of the region the echoes of a cluster of n wait.
func echoRounds(n int) int { return 4 * n }

// hasten puts a pending set in force early, as a peer's clock has already reached it, and
// returns the limit of the entry if that explains it.
func (n *Node) hasten(in *crdt.Entry) *Limit {
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	if n.pending == nil {
		return nil
	}
	t := n.pending.Find(in.Limit)
	if t == nil || t.Epoch < in.Bucket.Epoch {
		return nil
	}
	set := n.pending
	n.pending = nil
	n.activate(set)
	return n.force.Load().byName[in.Limit]
}

// knows tells whether the set in force is at least as new as an epoch.
func (n *Node) knows(e crdt.Epoch) bool {
	return n.force.Load().set.Version >= uint64(e>>16)
}

// Header appends what the refill daemons tell each other.
func (p *replica) Header(dst []byte, peer string) []byte {
	if p.turns == nil || len(p.turns) > maxMembers {
		p.turns = make(map[string]int)
	}
	p.turns[peer]++
	v := p.n.gossip.View()
	return p.n.refill.header(p.n.cfg.Node, peer, p.turns[peer], v, time.Now()).append(dst, p.n.cfg.Node)
}

// Heard takes a peer's header.
func (p *replica) Heard(node string, raw []byte, first bool) error {
	h, err := decodeHeader(raw, node)
	if err != nil {
		return err
	}
	return p.n.refill.hear(node, h, p.n.writerOf(node), time.Now())
}

// Agreed tells whether this node knows the cluster's limits.
func (p *replica) Agreed() bool { return p.n.agreed.Load() }

// Scan walks all items: the set first, then the buckets shard by shard, the ratings, the reservations.
func (p *replica) Scan(cursor uint64, ids []uint32, max int) ([]uint32, uint64) {
	if cursor == 0 {
		ids = append(ids, setItem)
		max--
		cursor = 1
	}
	if cursor >= reservationsFrom {
		return p.scanReservations(cursor, ids, max)
	}
	if cursor >= ratingsFrom {
		return p.scanRatings(cursor, ids, max)
	}
	for id := uint32(cursor); max > 0; {
		i := int(id >> localBits)
		s := &p.n.table.shards[i]
		s.mu.Lock()
		for ; id&localMask < s.next && max > 0; id++ {
			if place := id & localMask; place > 0 && s.at(place).live() {
				ids = append(ids, id)
				max--
			}
		}
		done := id&localMask >= s.next
		s.mu.Unlock()
		if done {
			if i+1 == shards {
				return p.scanRatings(ratingsFrom, ids, max)
			}
			id = uint32(i+1)<<localBits | 1
		}
		cursor = uint64(id)
	}
	return ids, cursor
}

package node

import (
	"fmt"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/persist"
)

// past is what has been restored and is not settled yet.
type past struct {
	sets   []*crdt.Set // met in stores: they explain buckets of earlier epochs
	later  [][]byte    // payloads with buckets that cannot be judged before the first sync
	bytes  int         // of those
	over   bool        // the first sync is done: all is judged at once
	newest time.Time
}

const (
	maxPastSets  = 16
	maxLater     = 64 << 20
	storedMargin = crdt.Instant(time.Hour) // of a mark beyond the clock of its segment
)

// Join takes in a segment of another writer: its clock, as that of the own disk would be, and
// what it holds, as if a peer had sent it. An error means that it can never be of use.
func (g *segments) Join(s *persist.Segment) error {
	k, err := decodeStoredClock(s.Clock)
	if err != nil {
		return err
	}
	g.joinClock(k, s.Time.Add(-g.n.cfg.WallAhead))
	if len(s.Payload) == 0 {
		return nil
	}
	if holdsReservations(s.Name) {
		return g.joinStoredReservations(s.Payload)
	}
	if holdsVotes(s.Name) {
		return g.joinVotes(s.Payload, s.Time)
	}
	horizon := g.horizon(k)
	unclear, err := g.joinPayload(s.Payload, horizon)
	switch {
	case err != nil:
		return err
	case unclear == 0:
	case g.past.over:
		return fmt.Errorf("node: %d buckets of limits or versions of limits that this node has not heard of", unclear)
	case g.past.bytes+len(s.Payload) > maxLater:
		return fmt.Errorf("node: %d buckets of limits that are not known yet, and no room to let them wait", unclear)
	default:
		g.past.later = append(g.past.later, append([]byte(nil), s.Payload...))
		g.past.bytes += len(s.Payload)
	}
	return nil
}

// joinClock takes components over as long as peers take any value for them, or there are none.
// Later they know them better; and a one-way cut is not to be bridged by a store.
func (g *segments) joinClock(k *storedClock, at time.Time) {
	n := g.n
	if n.settled.Load() && n.refill.state.Load().reachable > 1 && n.refill.age(time.Now()) > youth/2 {
		return
	}
	if now := time.Now(); at.After(now) {
		at = now // a wall clock that is ahead, theirs or ours was: no time has passed
	}
	n.refill.inherit(k.clock, at)
	if !at.Before(g.past.newest) {
		g.past.newest = at
		n.limitsMu.Lock()
		n.heirs = k.members
		n.limitsMu.Unlock()
	}
}

// horizon is readings that no honest mark of the segment lies beyond.
func (g *segments) horizon(k *storedClock) (c crdt.Components) {
	for p := range c {
		c[p] = max(k.clock.Sum(crdt.Policy(p)), g.n.refill.reading(crdt.Policy(p))) + storedMargin
	}
	return c
}

// joinPayload joins what it can, and counts the buckets that it cannot judge.
func (g *segments) joinPayload(payload []byte, horizon crdt.Components) (unclear int, err error) {
	if err := g.reader.Open(payload); err != nil {
		return 0, fmt.Errorf("node: %w", err)
	}
	if g.reader.Set != nil {
		g.n.inheritLimits(g.reader.Set)
		if len(g.past.sets) < maxPastSets {
			g.past.sets = append(g.past.sets, g.reader.Set)
		}
	}
	for {
		e, err := g.reader.Next()
		if e == nil || err != nil {
			if err != nil {
				err = fmt.Errorf("node: %w", err)
			}
			return unclear, err
		}
		if !g.joinBucket(e, horizon) {
			unclear++
		}
	}
}

// joinBucket joins one bucket; false: it cannot be judged now.
func (g *segments) joinBucket(in *crdt.Entry, horizon crdt.Components) bool {
	n := g.n
	l, draft := n.force.Load().byName[in.Limit], in.Bucket.Epoch.Draft()
	if l == nil || in.Bucket.Epoch != l.terms.Epoch {
		n.recognise(in)
		l = n.force.Load().byName[in.Limit]
	}
	switch {
	case l == nil && (draft || n.knows(in.Bucket.Epoch)) && g.past.over:
		return true // of a limit that was removed
	case l == nil, in.Bucket.Epoch > l.terms.Epoch && !draft:
		return false
	case in.Bucket.Epoch != l.terms.Epoch:
		if !g.past.over {
			return false
		}
		if !n.refill.isCold() || n.holds(l, string(in.Key)) {
			return true // what holds now was made from a state at least as new
		}
		g.convert(l, in)
	}
	if !in.Bucket.Plausible(&l.terms, horizon[l.Policy]) {
		n.impossible.Add(1)
		return true
	}
	if _, _, err := n.keep(l, in, true); err != nil { // the limits have changed just now
		return false
	}
	return true
}

// convert moves a bucket of an earlier epoch to the limit's, as renewLate does with those in
// the table.
func (g *segments) convert(l *Limit, in *crdt.Entry) {
	old := l.prev
	for _, set := range g.past.sets {
		if t := set.Find(in.Limit); t != nil && t.Epoch == in.Bucket.Epoch {
			old = t
		}
	}
	terms := l.terms
	if old != nil {
		terms = *old
	}
	terms.MaxDebt, terms.Idle = l.terms.MaxDebt, l.terms.Idle
	in.Bucket.Convert(&terms, &l.terms, min(l.began[terms.Policy], g.n.refill.reading(terms.Policy)), min(l.began[l.Policy], l.reading()))
}

// holds tells whether there is a bucket of the limit's epoch for the key.
func (n *Node) holds(l *Limit, key string) bool {
	h := n.table.hash(uint16(l.Index), key)
	s := n.table.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.find(h, uint16(l.Index), key)
	return e != nil
}

// inheritLimits takes the set that an earlier run obeyed, until the first sync: then the
// cluster's, or this node's file as its successor, comes in its place. The highest of those
// that are found holds.
func (n *Node) inheritLimits(set *crdt.Set) {
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	if n.settled.Load() || n.agreed.Load() || n.heritage != nil && !set.Supersedes(n.heritage) {
		return
	}
	if !n.nameable(set) {
		n.log.Error("limits of an earlier run refused", "err", errNames)
		return
	}
	n.heritage = set
	n.activate(set)
}

// recognise takes this node's own file for what an earlier run obeyed when a bucket was stored
// under it: the stores that have the set itself may be out of reach.
func (n *Node) recognise(in *crdt.Entry) {
	n.limitsMu.Lock()
	file, known := n.file, n.heritage != nil || n.agreed.Load()
	n.limitsMu.Unlock()
	if t := file.Find(in.Limit); !known && t != nil && t.Epoch == in.Bucket.Epoch {
		n.inheritLimits(file)
	}
}

// conclude judges what had to wait, now that the first sync is over and the cluster's limits are
// known; after it everything is
// judged at once. What no set explains is set aside: nobody will ask for it again.
func (g *segments) conclude() {
	g.past.over = true
	never := crdt.Components{crdt.Never, crdt.Never, crdt.Never} // the marks were compared before
	for _, payload := range g.past.later {
		unclear, err := g.joinPayload(payload, never)
		if err == nil && unclear > 0 {
			err = fmt.Errorf("node: %d buckets of limits or versions of limits that this node has not heard of", unclear)
		}
		if err != nil {
			g.n.keepAside("unexplained", payload, err)
		}
	}
	g.past.later, g.past.bytes = nil, 0
}

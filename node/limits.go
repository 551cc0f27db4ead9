package node

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/openclaw/edge/crdt"
)

// Limit is a limit in force. It is immutable: a reload, or a change of membership, puts
// another in its place.
type Limit struct {
	crdt.Definition
	Index int // of its counters and buckets; a name keeps its index for good

	hash    uint64 // of the name: for segments
	terms   crdt.Terms
	backup  crdt.Terms      // the backup's rate, if it has one
	prev    *crdt.Terms     // what held before terms' epoch; nil: nothing
	began   crdt.Components // readings at which terms' epoch began
	shown   *atomic.Int64   // the refill clock that its buckets live on
	buckets *atomic.Int64   // how many this node holds
	face    face
	asks    keySpec // where /v1/check finds the key

	offered crdt.Milli   // by refill on this node's reading, up to since
	since   crdt.Instant // a reading of shown
}

// inForce is the limits that hold now: swapped as one.
type inForce struct {
	set    *crdt.Set
	byName map[string]*Limit
	byID   []*Limit        // by Index; nil where a limit was removed
	counts []*atomic.Int64 // buckets held, by Index
	tick   time.Duration   // see tickOf
}

// activate puts a set in force. Caller holds limitsMu.
func (n *Node) activate(set *crdt.Set) {
	old := n.force.Load()
	next := &inForce{set: set, byName: make(map[string]*Limit, len(set.Limits)), tick: tickOf(set)}
	if old != nil {
		next.byID = make([]*Limit, len(old.byID))
	}
	for i := range set.Limits {
		terms := set.Limits[i]
		l := &Limit{Definition: terms.Definition, hash: xxhash.Sum64String(terms.Name), terms: terms, shown: &n.refill.shown[terms.Policy], face: newFace(terms.Definition, n.cfg.LegacyHeaders), asks: parseKeySpec(terms.Key)}
		if l.Backup != nil {
			l.backup.Pieces = []crdt.Piece{{Rate: l.Backup.Rate}}
		}
		l.Index = n.indexOf(terms.Name)
		l.buckets = n.counts[l.Index]
		l.since = n.refill.reading(terms.Policy)
		l.began = set.From
		if old != nil {
			if was := old.byName[terms.Name]; was != nil {
				l.offered = was.granted()
				if was.terms.Epoch == terms.Epoch {
					l.prev, l.began = was.prev, was.began
				} else {
					l.prev = &was.terms
				}
			}
		}
		n.bound(l)
		for len(next.byID) <= l.Index {
			next.byID = append(next.byID, nil)
		}
		next.byID[l.Index] = l
		next.byName[l.Name] = l
	}
	next.counts = n.counts
	n.growTallies(len(next.byID))
	n.force.Store(next)
	if old != nil && old.set.IsDraft() {
		n.leaveDraft(old)
	}
	n.changed.all() // buckets are converted, or gone
}

// leaveDraft converts what was taken under a draft to the limits in force, all of it at once, and
// tells it to the peers, most of whom took no notice of it. The clock may have been behind: nothing
// is paid for the time up to its present reading. Caller holds limitsMu.
func (n *Node) leaveDraft(old *inForce) {
	force := n.force.Load()
	n.table.walk(func(shard int, e *entry, place uint32) {
		l, was := force.at(e), old.at(e)
		if l == nil || was == nil || !e.Epoch.Draft() {
			return
		}
		e.Convert(&was.terms, &l.terms, 0, l.reading())
		n.table.shards[shard].touch(e, place)
	})
}

// The refill daemon ticks no more often than some limit needs: it is what wakes an idle node.
const (
	finestTick   = 5 * time.Millisecond
	coarsestTick = 20 * time.Millisecond
	ticksToFill  = 8 // at least: a bucket that fills whole within a tick wastes what is beyond
)

// tickOf is how often the refill daemon has to tick for a set of limits.
func tickOf(set *crdt.Set) time.Duration {
	tick := coarsestTick
	for i := range set.Limits {
		l := &set.Limits[i]
		tick = min(tick, l.Rate.Time(l.Capacity)/ticksToFill)
		if l.Backup != nil {
			tick = min(tick, l.Backup.Rate.Time(l.Backup.Capacity)/ticksToFill)
		}
	}
	return max(tick, finestTick)
}

// step is how often the refill daemon ticks now.
func (n *Node) step() time.Duration {
	if n.cfg.Tick > 0 {
		return n.cfg.Tick
	}
	return n.force.Load().tick
}

// granted is what refill has offered on this node since it settled, before the cap: what the
// clock jumped before, as the node heard of it, was offered by others.
func (l *Limit) granted() crdt.Milli {
	return l.offered + l.terms.Fill(l.since, crdt.Instant(l.shown.Load()))
}

// remake puts changed copies of the limits in the place of those in force. Caller holds
// limitsMu.
func (n *Node) remake(change func(l *Limit)) {
	old := n.force.Load()
	next := &inForce{set: old.set, tick: old.tick, byName: make(map[string]*Limit, len(old.byName)), byID: make([]*Limit, len(old.byID)), counts: old.counts}
	for i, l := range old.byID {
		if l == nil {
			continue
		}
		c := *l
		change(&c)
		next.byID[i], next.byName[c.Name] = &c, &c
	}
	n.force.Store(next)
}

// bound sets what depends on the membership: the debt that is forgiven, and whether idle
// buckets may go (not while a member is unreachable).
func (n *Node) bound(l *Limit) {
	if l.prev != nil {
		prev := *l.prev // takes read the old one
		l.prev = &prev
	}
	for _, t := range []*crdt.Terms{&l.terms, l.prev} {
		if t == nil {
			continue
		}
		members := max(n.members.count, 2)
		t.MaxDebt = crdt.Milli(members-1) * (t.Capacity + t.Fill(0, crdt.Instant(n.cfg.Lease)))
		t.Idle = t.IdleTTL()
		if n.members.unreachable {
			t.Idle = crdt.Never
		}
	}
}

// indexOf gives a name its index. Caller holds limitsMu.
func (n *Node) indexOf(name string) int {
	i, ok := n.indices[name]
	if !ok {
		i = len(n.indices)
		n.indices[name] = i
		n.counts = append(n.counts, new(atomic.Int64))
	}
	return i
}

func (n *Node) growTallies(limits int) {
	for i := range n.table.shards {
		s := &n.table.shards[i]
		s.mu.Lock()
		for len(s.tally) < limits {
			s.tally = append(s.tally, tally{})
		}
		s.mu.Unlock()
	}
}

// maxNames bounds how many names of limits a process ever gives an index: each costs 12 kB of
// counters.
const maxNames = 1 << 13

var errNames = fmt.Errorf("node: limits have had more than %d names since the start of this node: restart it", maxNames)

// nameable tells whether there is an index for every name of the set. Caller holds limitsMu.
func (n *Node) nameable(set *crdt.Set) bool {
	names := len(n.indices)
	for i := range set.Limits {
		if _, ok := n.indices[set.Limits[i].Name]; !ok {
			names++
		}
	}
	return names <= maxNames
}

// Limits is the limits in force, by index, and their version.
func (n *Node) Limits() ([]*Limit, uint64) {
	f := n.force.Load()
	var ls []*Limit
	for _, l := range f.byID {
		if l != nil {
			ls = append(ls, l)
		}
	}
	return ls, f.set.Version
}

// Drift tells whether this node's file disagrees with the definition in force.
func (n *Node) Drift(limit string) bool {
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	return n.file != nil && !n.file.SameLimit(n.newest(), limit)
}

// longestIdle is how long the longest-lived bucket is kept untouched: refill for more than
// that changes none.
func (f *inForce) longestIdle() time.Duration {
	longest := crdt.Instant(0)
	for _, l := range f.byID {
		if l != nil {
			longest = max(longest, l.IdleTTL())
		}
	}
	return time.Duration(longest)
}

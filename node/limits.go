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
	n.changed.all() // buckets are converted, or gone
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

// Replace proposes the limits of a newly read file to the cluster. They come into force
// if their version is higher than the set's in force; else drift shows.
func (n *Node) Replace(limits []crdt.Definition, version uint64) error {
	file, err := crdt.NewSet(version, limits, nil, crdt.Components{})
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	n.file, n.fileLimits = file, limits
	if n.settled.Load() {
		return n.propose(false)
	}
	return nil
}

// propose makes the file's set the successor of the one in force, if it is newer. It holds
// from the doubt after now, when every node will have heard.
//
// A node that starts alone was told by its file what to be, and by its past only which set its
// buckets obey: the file's set succeeds that one whatever its version says, and at once.
// Caller holds limitsMu.
func (n *Node) propose(alone bool) error {
	current := n.newest()
	version := n.file.Version
	switch newer := version > current.Version || version == current.Version && !n.file.Same(current) && n.file.Supersedes(current); {
	case newer:
	case alone && !n.file.Same(current):
		version = current.Version + 1
	default:
		return nil
	}
	from := n.refill.readings()
	if !alone {
		for p := range from {
			from[p] += crdt.Instant(n.cfg.Doubt)
		}
	}
	set, err := crdt.NewSet(version, n.fileLimits, current, from)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if !n.nameable(set) {
		return errNames
	}
	if alone {
		n.pending = nil
		n.activate(set)
		return nil
	}
	n.pending = set
	n.setDirty.Store(true)
	n.log.Info("limits proposed to the cluster", "version", set.Version)
	return nil
}

// newest is the set that will hold. Caller holds limitsMu.
func (n *Node) newest() *crdt.Set {
	if n.pending != nil {
		return n.pending
	}
	return n.force.Load().set
}

// adopt takes a set that a peer sent. Before the first sync the cluster's set always
// wins, as this node's own file then becomes its successor.
func (n *Node) adopt(set *crdt.Set) {
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	current := n.newest()
	switch {
	case !n.settled.Load() && !n.adopted.Load(), set.Supersedes(current):
		if !n.nameable(set) {
			n.log.Error("limits of the cluster refused", "err", errNames)
			return
		}
		n.adopted.Store(true)
		n.pending = set
		if !n.settled.Load() {
			n.activate(set)
			n.pending = nil
		}
	case current.Supersedes(set):
		n.setDirty.Store(true)
	}
}

// settle is called when the first sync is over and the refill clock is known: now this
// node's file counts. What was taken here before stood on a clock that was behind: its
// buckets are not paid for the difference.
func (n *Node) settle() {
	if n.settled.Load() {
		return
	}
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	force := n.force.Load()
	n.refill.owe(time.Now(), force.longestIdle(), n.gossip.View(), n.cfg.Lease, n.cfg.Doubt)
	for i := range n.table.shards {
		s := &n.table.shards[i]
		s.mu.Lock()
		s.each(func(e *entry, _ uint32) {
			if l := force.at(e); l != nil && n.onlyOurs(e) {
				e.Mark = max(e.Mark, crdt.Instant(l.shown.Load()))
			}
		})
		s.mu.Unlock()
	}
	n.remake(func(l *Limit) { l.offered, l.since = 0, n.refill.reading(l.Policy) })
	alone := len(n.gossip.View().Members) <= 1 && n.heirs <= 1
	if err := n.propose(alone); err != nil {
		n.log.Error("limits of the file not proposed", "err", err)
	}
	n.settled.Store(true) // last: who sees a ready node finds the limits that it is to have
	close(n.over)
}

// onlyOurs tells whether no other writer has a slot in the bucket: no peer has sent it.
func (n *Node) onlyOurs(e *entry) bool {
	for _, s := range e.Slots() {
		if s.Writer != n.writer {
			return false
		}
	}
	return len(e.Slots()) > 0 // without any it was converted or began a generation: its past was restored
}

// mature puts a pending set in force when its time has come. The open clock decides, as
// it never stands still; rates change at their own exact readings (crdt.Piece).
func (n *Node) mature() (changed bool) {
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	if n.pending == nil || n.refill.reading(crdt.Open) < n.pending.From[crdt.Open] {
		return false
	}
	set := n.pending
	n.pending = nil
	n.activate(set)
	n.log.Info("limits in force", "version", set.Version, "limits", len(set.Limits))
	return true
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

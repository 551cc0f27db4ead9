package node

import (
	"fmt"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

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
	switch {
	case !n.agreed.Load() && n.heritage == nil:
		if !n.nameable(file) {
			return errNames
		}
		n.activate(file.Draft())
	case n.settled.Load():
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

// adopt takes a set that a peer sent. While this node knows of none that the cluster obeys, it
// always wins, at once, and this node's own file becomes its successor: when the refill clock is
// known, too, which a cut left behind.
func (n *Node) adopt(set *crdt.Set) {
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	current, agreed := n.newest(), n.agreed.Load()
	switch {
	case !agreed, set.Supersedes(current):
		if !n.nameable(set) {
			n.log.Error("limits of the cluster refused", "err", errNames)
			return
		}
		if agreed {
			n.pending = set
			return
		}
		n.agree(set)
		if n.settled.Load() {
			n.log.Info("limits of the cluster in force", "version", set.Version, "limits", len(set.Limits))
			n.proposeAt = n.refill.local.Load() + int64(n.cfg.Lease)
		}
	case current.Supersedes(set):
		n.setDirty.Store(true)
	}
}

// agree puts the set in force that the cluster obeys: a peer's, or this node's as there is no
// other. Up to then a draft of the file holds here, or what an earlier run obeyed, and that set is
// told to no peer and put in no store. A draft goes on where a cut keeps the first sync from
// ending: what is taken meanwhile is counted when the cut is healed, as the conversion from a
// draft keeps the slots. Caller holds limitsMu.
func (n *Node) agree(set *crdt.Set) {
	n.activate(set)
	n.agreed.Store(true) // last: who sees it may drop what is of another epoch
	n.changed.all()      // the set may be stored
	if n.settled.Load() {
		close(n.over)
	}
}

// found makes the draft the cluster's limits, if there are none: every member is heard, none knows
// of any, and this one's name is the lowest. (Were some not heard, they might obey limits
// that all others would then forget. The missing come back, or are forgotten.)
func (n *Node) found(v *gossip.View) {
	if n.agreed.Load() || !v.Fetched || n.refill.state.Load().reachable < len(v.Members) || len(v.Members) > 0 && v.Members[0].Node != v.Self {
		return
	}
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	if !n.agreed.Load() && n.heritage == nil {
		n.agree(n.file)
		n.setDirty.Store(true)
	}
}

// proposeLate proposes the file when the set that the cluster obeys came after this node had settled.
func (n *Node) proposeLate() {
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	if n.proposeAt == 0 || n.refill.local.Load() < n.proposeAt {
		return
	}
	n.proposeAt = 0
	if err := n.propose(false); err != nil {
		n.log.Error("limits of the file not proposed", "err", err)
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
	if n.heritage != nil || n.agreed.Load() {
		n.agreed.Store(true)
		alone := len(n.gossip.View().Members) <= 1 && n.heirs <= 1
		if err := n.propose(alone); err != nil {
			n.log.Error("limits of the file not proposed", "err", err)
		}
	} else {
		n.log.Info("limits of this node's file hold here only, until the cluster's are known: every member is to be heard, or forgotten")
	}
	n.settled.Store(true) // last: who sees a ready node finds the limits that it is to have
	if n.agreed.Load() {
		close(n.over)
	}
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

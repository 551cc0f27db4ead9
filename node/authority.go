package node

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// grant is the part of the passing time that this node adds to its component of one refill
// clock: num/den of it.
type grant struct{ num, den int64 }

func (g grant) String() string {
	if g.num == 0 {
		return "0"
	}
	return fmt.Sprintf("%d/%d", g.num, g.den)
}

// authority is what a node may add to the refill clocks, and why.
type authority struct {
	grants    [crdt.Policies]grant
	reach     memberset // by index into View.Members: proven within the lease; self included
	covers    memberset // lost members whose quorum part this node adds a share of
	reachable int
	majority  bool
	single    bool // cluster of up to two: quorum means share
	shown     bool // every reachable member's newest frame shows this node reachable and uncovered
}

// memberset is a set of indices into View.Members.
type memberset [maxMembers / 64]uint64

const maxMembers = 1024

func (s *memberset) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *memberset) has(i int) bool { return s[i/64]>>(i%64)&1 == 1 }
func (s *memberset) len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}
func (s *memberset) union(o *memberset) {
	for i := range s {
		s[i] |= o[i]
	}
}

// report is what a peer's newest frame said about the others.
type report struct {
	writer        uint64
	roster        uint64 // of the sets below: void on a node with another roster
	reach, covers memberset
}

// authorise decides what this node may add. It is a pure function of the view, the reports
// of peers (by name), the time, and whether the node was established: had added before, and
// since then neither lost its majority, nor slept, nor was covered by others.
//
// A lost member's quorum part is shared among all that may cover it: den counts the members
// that this node or one of its reachable members reaches. Any two sides with a majority have a
// member in common, so each counts the other and the parts never add up to more than one.
// (Why not 1/(n·h) with h this node's own reachable members, as the design has it? With a cut
// link between two members and a third one dead, both count too few and add 7/6.)
func authorise(v *gossip.View, reports map[string]report, now time.Time, lease time.Duration, firstSeen func(node string) time.Time, established bool) authority {
	var a authority
	self := memberIndex(v)
	n := len(v.Members)
	if self < 0 || n > maxMembers {
		return a // not a member yet: nothing to add
	}
	for i := range v.Members {
		if i == self || now.Sub(v.Members[i].ProvenAt) < lease {
			a.reach.add(i)
		}
	}
	a.reachable = a.reach.len()
	a.majority = 2*a.reachable > n || 2*a.reachable == n && a.reach.has(0)
	a.single = n <= 2

	union := a.reach
	a.shown = true
	agreed := true // every reachable member's report is one that can be read
	covered := false
	var reported memberset // by a reachable member as reachable
	for i := range v.Members {
		m := &v.Members[i]
		if i == self || !a.reach.has(i) {
			continue
		}
		rep, ok := reports[m.Node]
		if !ok || rep.writer != m.Writer || rep.roster != v.Roster {
			a.shown, agreed = false, false
			continue
		}
		union.union(&rep.reach)
		reported.union(&rep.reach)
		covered = covered || rep.covers.has(self)
		a.shown = a.shown && rep.reach.has(self) && !rep.covers.has(self)
	}
	if a.reachable == 1 && n > 1 && now.Sub(firstSeen(v.Self)) < lease+lease/2 {
		a.shown = false // just started: whoever is there has not been heard yet
	}
	adding := a.shown || established && !covered

	lost := int64(0)
	for i := range v.Members {
		m := &v.Members[i]
		if a.reach.has(i) || reported.has(i) || !agreed {
			continue
		}
		proven := m.ProvenAt
		if proven.IsZero() {
			proven = firstSeen(m.Node)
		}
		if now.Sub(proven) >= lease+lease/2 {
			a.covers.add(i)
			lost++
		}
	}
	h := int64(union.len())
	if adding {
		own := grant{1, int64(n)}
		all := grant{h + lost, int64(n) * h}
		a.grants = [crdt.Policies]grant{crdt.Quorum: all, crdt.Share: own, crdt.Open: all}
		switch {
		case a.single:
			a.grants[crdt.Quorum] = own
		case !a.majority:
			a.grants[crdt.Quorum] = grant{}
		}
	}
	if !adding || !a.majority || a.single {
		// What it covers on the open clock alone is of no concern to the quorum's members.
		a.covers = memberset{}
	}
	return a
}

func memberIndex(v *gossip.View) int {
	for i := range v.Members {
		if v.Members[i].Node == v.Self {
			return i
		}
	}
	return -1
}

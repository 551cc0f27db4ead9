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

// authority is what a node may add to the refill clocks, and why. The sets hold indices into
// View.Members.
type authority struct {
	grants     [crdt.Policies]grant
	reach      memberset // proven within the lease; self included
	covers     memberset // lost members whose quorum part this node adds a share of
	confirmed  memberset // members that have a vote in the majority
	met        memberset // members that are known to know this node
	introduced bool      // all were, once
	reachable  int
	majority   bool
	single     bool // cluster of up to two: quorum means share
	shown      bool // every reachable member's newest frame shows this node reachable and uncovered
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
	writer                   uint64
	roster                   uint64 // of the sets below: void on a node with another roster
	reach, covers, confirmed memberset
}

// evidence is what a node's authority follows from.
type evidence struct {
	view        *gossip.View
	now         time.Time
	lease       time.Duration
	reports     map[string]report           // newest, by node
	since       func(node string) time.Time // when this process first knew of it
	established bool                        // has added before, and since then neither lost its majority, nor slept, nor was covered
	confirmed   map[string]bool             // as of the last decision
	met         map[string]bool
	introduced  bool
}

// authorise decides what a node may add. It is a pure function.
//
// A lost member's quorum part is shared among all that may cover it: den counts the members
// that this node or one of its reachable members reaches. Any two sides with a majority have a
// member in common, so each counts the other and the parts never add up to more than one.
// (Why not 1/(n·h) with h this node's own reachable members, as the design has it? With a cut
// link between two members and a third one dead, both count too few: five members, and 31/30 of the time is added.)
//
// A newcomer counts in n at once, but has no vote in the majority until a majority of those
// that have one is seen to know it: else one that joins the smaller half during a cut would
// make it a second majority. And it adds nothing before: to the share clock, which asks
// nobody for a majority, not before every member was once seen to know it. (Who joins later
// learns of it with the roster.)
func authorise(e evidence) authority {
	var a authority
	v := e.view
	self := memberIndex(v)
	n := len(v.Members)
	if self < 0 || n > maxMembers {
		return a // not a member yet: nothing to add
	}
	for i := range v.Members {
		m := &v.Members[i]
		if i == self || e.now.Sub(m.ProvenAt) < e.lease {
			a.reach.add(i)
		}
		if e.confirmed[m.Node] {
			a.confirmed.add(i)
		}
		if i == self || e.met[m.Node] {
			a.met.add(i)
		}
	}
	a.reachable = a.reach.len()
	a.single = n <= 2

	union, agreeing := a.reach, memberset{} // agreeing: reachable ones with our roster
	agreeing.add(self)
	a.shown = true
	covered := false
	var reported memberset // by a reachable member as reachable
	for i := range v.Members {
		m := &v.Members[i]
		if i == self || !a.reach.has(i) {
			continue
		}
		rep, ok := e.reports[m.Node]
		if !ok || rep.writer != m.Writer || rep.roster != v.Roster {
			a.shown = false
			continue
		}
		agreeing.add(i)
		a.met.add(i)
		a.confirmed.union(&rep.confirmed)
		union.union(&rep.reach)
		reported.union(&rep.reach)
		covered = covered || rep.covers.has(self)
		a.shown = a.shown && rep.reach.has(self) && !rep.covers.has(self)
	}
	if majorityOf(&a.confirmed, &agreeing) || agreeing.len() == n {
		for i := range v.Members {
			a.confirmed.add(i) // a majority has our roster, and so knows them all
		}
	}
	a.majority = majorityOf(&a.confirmed, &a.reach)
	if a.reachable == 1 && n > 1 && e.now.Sub(e.since(v.Self)) < e.lease+e.lease/2 {
		a.shown = false // just started: whoever is there has not been heard yet
	}

	a.introduced = e.introduced || a.met.len() == n

	lost := int64(0)
	for i := range v.Members {
		m := &v.Members[i]
		if a.reach.has(i) || reported.has(i) || agreeing != a.reach {
			continue
		}
		proven := m.ProvenAt
		if proven.IsZero() {
			proven = e.since(m.Node)
		}
		if e.now.Sub(proven) >= e.lease+e.lease/2 {
			a.covers.add(i)
			lost++
		}
	}
	adding := (a.shown || e.established && !covered) && a.confirmed.has(self)
	if adding {
		h := int64(union.len())
		all := grant{h + lost, int64(n) * h}
		a.grants = [crdt.Policies]grant{crdt.Quorum: all, crdt.Open: all}
		if a.introduced {
			a.grants[crdt.Share] = grant{1, int64(n)}
		}
		switch {
		case a.single:
			a.grants[crdt.Quorum] = a.grants[crdt.Share]
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

// majorityOf tells whether have holds more than half of the voters, or exactly half with
// the first by name.
func majorityOf(voters, have *memberset) bool {
	var both memberset
	first := -1
	for i := range voters {
		both[i] = voters[i] & have[i]
		if first < 0 && voters[i] != 0 {
			first = 64*i + bits.TrailingZeros64(voters[i])
		}
	}
	n, k := voters.len(), both.len()
	return 2*k > n || n > 0 && 2*k == n && both.has(first)
}

func memberIndex(v *gossip.View) int {
	for i := range v.Members {
		if v.Members[i].Node == v.Self {
			return i
		}
	}
	return -1
}

// names turns a set into the members' names.
func (s *memberset) names(v *gossip.View) map[string]bool {
	names := make(map[string]bool, s.len())
	for i := range v.Members {
		if s.has(i) {
			names[v.Members[i].Node] = true
		}
	}
	return names
}

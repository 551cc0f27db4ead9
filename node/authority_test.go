package node

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

const testLease = 3 * time.Second

// graph is a cluster with some links cut and some members dead, long enough ago for every
// lease to have run out.
type graph struct {
	n    int
	link [][]bool
	dead []bool
}

func (g *graph) hears(i, j int) bool { return i == j || !g.dead[i] && !g.dead[j] && g.link[i][j] }

// authorities is what each member decides in the steady state.
func (g *graph) authorities(established bool) []authority {
	now := time.Unix(1000, 0)
	views := make([]*gossip.View, g.n)
	for i := range views {
		views[i] = &gossip.View{At: now, Self: fmt.Sprintf("n%02d", i), Roster: 7, Phase: gossip.Synced}
		for j := range g.n {
			m := gossip.Member{Node: fmt.Sprintf("n%02d", j), Writer: uint64(j + 1), ProvenAt: now.Add(-time.Minute)}
			if g.hears(i, j) {
				m.ProvenAt = now.Add(-100 * time.Millisecond)
			}
			views[i].Members = append(views[i].Members, m)
		}
	}
	// Frames carry what the sender decided before; twice round is a steady state.
	as := make([]authority, g.n)
	for range 3 {
		next := make([]authority, g.n)
		for i := range g.n {
			reports := make(map[string]report)
			for j := range g.n {
				if i != j && g.hears(i, j) {
					reports[views[i].Members[j].Node] = report{writer: uint64(j + 1), roster: 7, reach: as[j].reach, covers: as[j].covers, confirmed: as[j].confirmed}
				}
			}
			next[i] = authorise(evidence{
				view: views[i], reports: reports, now: now, lease: testLease, since: func(string) time.Time { return now.Add(-time.Hour) },
				established: established, confirmed: names(views[i]), introduced: true,
			})
		}
		as = next
	}
	return as
}

// names are all members: everybody has a vote.
func names(v *gossip.View) map[string]bool {
	all := make(map[string]bool)
	for i := range v.Members {
		all[v.Members[i].Node] = true
	}
	return all
}

// total is what all living members together add to a clock.
func (g *graph) total(as []authority, p crdt.Policy) *big.Rat {
	sum := new(big.Rat)
	for i, a := range as {
		if gr := a.grants[p]; !g.dead[i] && gr.num > 0 {
			sum.Add(sum, big.NewRat(gr.num, gr.den))
		}
	}
	return sum
}

func drawGraph(t *rapid.T) *graph {
	g := &graph{n: rapid.IntRange(1, 9).Draw(t, "members")}
	g.dead = make([]bool, g.n)
	g.link = make([][]bool, g.n)
	for i := range g.link {
		g.link[i] = make([]bool, g.n)
		g.dead[i] = rapid.IntRange(0, 4).Draw(t, "dead") == 0
	}
	for i := range g.n {
		for j := range i {
			up := rapid.IntRange(0, 3).Draw(t, "link") > 0
			g.link[i][j], g.link[j][i] = up, up
		}
	}
	return g
}

// Whatever links are cut and whoever is dead, all members together never add more than
// the time that passes, under quorum and share.
func TestAllSidesTogetherNeverRefillMoreThanTheRate(t *testing.T) {
	one := big.NewRat(1, 1)
	rapid.Check(t, func(t *rapid.T) {
		g := drawGraph(t)
		as := g.authorities(true)
		for _, p := range []crdt.Policy{crdt.Quorum, crdt.Share} {
			if sum := g.total(as, p); sum.Cmp(one) > 0 {
				t.Fatalf("%v: together %v of the rate", p, sum)
			}
		}
	})
}

// A crash costs nothing: the living members, if they all hear each other and are a
// majority, add exactly the time that passes; so do all sides of a healthy cluster.
func TestAMajorityRefillsForItsDead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := drawGraph(t)
		alive := 0
		for i := range g.n {
			for j := range g.n {
				g.link[i][j] = true
			}
			if !g.dead[i] {
				alive++
			}
		}
		if 2*alive <= g.n || g.n == 2 && alive == 1 {
			t.Skip("no majority")
		}
		if sum := g.total(g.authorities(false), crdt.Quorum); sum.Cmp(big.NewRat(1, 1)) != 0 {
			t.Fatalf("together %v of the rate", sum)
		}
	})
}

func TestCutsByPolicy(t *testing.T) {
	cut := func(n int, groups ...[]int) *graph {
		g := &graph{n: n, dead: make([]bool, n), link: make([][]bool, n)}
		for i := range g.link {
			g.link[i] = make([]bool, n)
		}
		for _, group := range groups {
			for _, i := range group {
				for _, j := range group {
					g.link[i][j] = true
				}
			}
		}
		return g
	}
	for _, c := range []struct {
		name   string
		g      *graph
		grants [crdt.Policies][]string // of each member
	}{
		{"one of three cut off", cut(3, []int{0, 1}, []int{2}), [3][]string{
			{"1/2", "1/2", "0"}, {"1/3", "1/3", "1/3"}, {"1/2", "1/2", "1"}}},
		{"two in halves", cut(2, []int{0}, []int{1}), [3][]string{
			{"1/2", "1/2"}, {"1/2", "1/2"}, {"1", "1"}}},
		{"four in halves: the lowest name has it", cut(4, []int{0, 3}, []int{1, 2}), [3][]string{
			{"1/2", "0", "0", "1/2"}, {"1/4", "1/4", "1/4", "1/4"}, {"1/2", "1/2", "1/2", "1/2"}}},
		{"a single link of three", cut(3, []int{0, 1}, []int{1, 2}), [3][]string{
			{"1/3", "1/3", "1/3"}, {"1/3", "1/3", "1/3"}, {"1/3", "1/3", "1/3"}}},
		{"three ways", cut(5, []int{0, 1}, []int{2, 3}, []int{4}), [3][]string{
			{"0", "0", "0", "0", "0"}, {"1/5", "1/5", "1/5", "1/5", "1/5"}, {"1/2", "1/2", "1/2", "1/2", "1"}}},
	} {
		as := c.g.authorities(false)
		for p := range c.grants {
			for i, want := range c.grants[p] {
				got := "0"
				if gr := as[i].grants[p]; gr.num > 0 {
					got = big.NewRat(gr.num, gr.den).RatString()
				}
				if got != want {
					t.Errorf("%s: member %d adds %s to the %v clock, want %s", c.name, i, got, crdt.Policy(p), want)
				}
			}
		}
	}
}

// A newcomer, or a member that comes back, adds nothing while a peer still covers its part
// or does not show it; one that was there all along goes on.
func TestAReturningMemberWaitsUntilItIsShown(t *testing.T) {
	now := time.Unix(1000, 0)
	v := &gossip.View{Self: "b", Roster: 7, Members: []gossip.Member{
		{Node: "a", Writer: 1, ProvenAt: now}, {Node: "b", Writer: 2, ProvenAt: now}, {Node: "c", Writer: 3, ProvenAt: now}}}
	var all, notB, onlyB memberset
	for _, i := range []int{0, 1, 2} {
		all.add(i)
	}
	notB.add(0)
	notB.add(2)
	onlyB.add(1)
	shown := report{writer: 1, roster: 7, reach: all}
	other := report{writer: 3, roster: 7, reach: all}
	for _, c := range []struct {
		name        string
		a           report
		established bool
		adds        bool
	}{
		{"shown", shown, false, true},
		{"not shown", report{writer: 1, roster: 7, reach: notB}, false, false},
		{"covered", report{writer: 1, roster: 7, reach: all, covers: onlyB}, false, false},
		{"covered, though it was there all along", report{writer: 1, roster: 7, reach: all, covers: onlyB}, true, false},
		{"of another roster", report{writer: 1, roster: 8, reach: all}, false, false},
		{"of another roster, but it was there all along", report{writer: 1, roster: 8, reach: all}, true, true},
		{"said of an old incarnation", report{writer: 9, roster: 7, reach: all}, false, false},
	} {
		a := authorise(evidence{
			view: v, reports: map[string]report{"a": c.a, "c": other}, now: now, lease: testLease, since: func(string) time.Time { return now },
			established: c.established, confirmed: names(v), introduced: true,
		})
		if adds := a.grants[crdt.Quorum].num > 0; adds != c.adds {
			t.Errorf("%s: adds %v, want %v", c.name, adds, c.adds)
		}
	}
}

// Six members are cut in halves; the one with the lowest name has the majority. A newcomer
// that joins the other half does not make it a second one, and adds to no clock that both
// sides' limits depend on.
func TestANewcomerMakesNoSecondMajority(t *testing.T) {
	now := time.Unix(1000, 0)
	v := &gossip.View{Roster: 8}
	for i := range 7 { // n06 is new; n00, n01, n02 are behind the cut
		m := gossip.Member{Node: fmt.Sprintf("n%02d", i), Writer: uint64(i + 1), ProvenAt: now}
		if i < 3 {
			m.ProvenAt = now.Add(-time.Minute)
		}
		v.Members = append(v.Members, m)
	}
	var reach memberset
	reports := map[string]report{}
	for i := 3; i < 7; i++ {
		reach.add(i)
	}
	old := map[string]bool{}
	var confirmed memberset
	for i := range 6 {
		old[v.Members[i].Node] = true
		confirmed.add(i)
	}
	for i := 3; i < 7; i++ {
		reports[v.Members[i].Node] = report{writer: uint64(i + 1), roster: 8, reach: reach, confirmed: confirmed}
	}
	for i := 3; i < 7; i++ {
		v.Self = v.Members[i].Node
		e := evidence{view: v, reports: reports, now: now, lease: testLease, since: func(string) time.Time { return now.Add(-time.Hour) },
			established: i < 6, confirmed: old, introduced: i < 6}
		if i == 6 {
			e.confirmed = nil
		}
		a := authorise(e)
		if a.majority || a.grants[crdt.Quorum].num > 0 {
			t.Errorf("%s believes in a majority", v.Self)
		}
		if adds := a.grants[crdt.Share].num > 0; adds != (i < 6) {
			t.Errorf("%s adds to the share clock: %v", v.Self, adds)
		}
	}
}

// A lost member's part is taken over after one and a half leases, not earlier: it may go on
// adding for one lease, and half a one is the margin for delays.
func TestAPartIsTakenOverAfterOneAndAHalfLeases(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		silent time.Duration
		covers bool
	}{{testLease - 1, false}, {testLease, false}, {testLease + testLease/2 - 1, false}, {testLease + testLease/2, true}} {
		v := &gossip.View{Self: "a", Roster: 7, Members: []gossip.Member{
			{Node: "a", Writer: 1}, {Node: "b", Writer: 2, ProvenAt: now}, {Node: "c", Writer: 3, ProvenAt: now.Add(-c.silent)}}}
		var both memberset
		both.add(0)
		both.add(1)
		a := authorise(evidence{
			view: v, reports: map[string]report{"b": {writer: 2, roster: 7, reach: both}, "c": {writer: 3, roster: 7, reach: both}},
			now: now, lease: testLease, since: func(string) time.Time { return now.Add(-time.Hour) },
			established: true, confirmed: names(v), introduced: true,
		})
		if a.covers.has(2) != c.covers {
			t.Errorf("silent for %v: taken over is %v", c.silent, a.covers.has(2))
		}
	}
}

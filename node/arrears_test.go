package node

import (
	"os"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// restarted is one of five, as it was saved a minute ago; it reaches those in proven.
func restarted(proven int) *alone {
	a := &alone{now: time.Unix(1000, 0), view: &gossip.View{Self: "a", Roster: 7, Phase: gossip.Synced}}
	clock, voters := make(crdt.Clock), []string{"a", "b", "c", "d", "e"}
	for i, node := range voters {
		a.view.Members = append(a.view.Members, gossip.Member{Node: node, Writer: uint64(i + 1)})
		clock[node] = crdt.Components{1000, 1000, 1000}
	}
	a.init(knowledge{Clock: clock, Confirmed: voters, Introduced: true})
	a.past.at, a.past.began = a.now.Add(-time.Minute), a.now
	a.reach(proven)
	a.tick(0)
	a.owe(a.now, time.Hour, a.view, testLease, 600*time.Millisecond)
	return a
}

// reach has the first others answer from now on.
func (a *alone) reach(others int) {
	v := *a.view
	v.Members = append([]gossip.Member(nil), v.Members...)
	for i := range others {
		m := &v.Members[1+i]
		m.ProvenAt, m.HeardAt = a.now.Add(time.Hour), a.now.Add(time.Hour)
		a.hear(m.Node, &header{roster: 7, reach: memberset{1<<(others+1) - 1}, records: []clockRecord{{node: m.Node, clock: a.clock[m.Node]}}}, m.Writer, a.now)
	}
	a.view = &v
}

func (a *alone) ownGrowth() time.Duration {
	own, _ := a.own("a")
	return time.Duration(own[crdt.Open] - 1000)
}

// Who hears few does not know who ran: it may be behind a cut, or the links are bad.
func TestArrearsWaitForAMajority(t *testing.T) {
	a := restarted(1)
	for range 100 {
		a.tick(100 * time.Millisecond)
	}
	if grown := a.ownGrowth(); grown > 11*time.Second {
		t.Fatalf("with one of four others reachable: own component grew by %v in 10 s", grown)
	}
	before := a.ownGrowth()
	a.reach(2)
	a.tick(100 * time.Millisecond)
	if paid := a.ownGrowth() - before; paid < 12*time.Second || paid > 13*time.Second {
		t.Errorf("a majority that did not run either: %v paid, want a fifth of a minute", paid)
	}
}

// The time that the others lived through is not paid again, nor what faults cost them of it.
func TestNoArrearsBesideTheLiving(t *testing.T) {
	for _, ran := range []time.Duration{time.Minute, 35 * time.Second} { // of the minute, the open clock
		a := restarted(2)
		lived := a.clock["b"]
		lived[crdt.Open] += crdt.Instant(ran)
		a.clock.Join("b", lived)
		for range 100 {
			a.tick(100 * time.Millisecond)
		}
		if grown := a.ownGrowth(); grown > 11*time.Second {
			t.Errorf("the open clock ran for %v: own component grew by %v in 10 s", ran, grown)
		}
	}
}

// What others have paid before its eyes does not keep a node from paying its own part.
func TestEveryMemberPaysItsArrears(t *testing.T) {
	a := restarted(4)
	for i, m := range a.view.Members[1:] {
		paid := a.clock[m.Node]
		for p := range paid {
			paid[p] += crdt.Instant(12 * time.Second)
		}
		a.tick(100 * time.Millisecond)
		a.hear(m.Node, &header{roster: 7, reach: memberset{31}, records: []clockRecord{{node: m.Node, clock: paid}}}, m.Writer, a.now)
		if own := a.clock[m.Node]; own != paid {
			t.Fatalf("peer %d was not heard", i)
		}
	}
	before := a.ownGrowth()
	for range 60 {
		a.tick(100 * time.Millisecond)
	}
	if paid := a.ownGrowth() - before; paid < 12*time.Second || paid > 18*time.Second {
		t.Errorf("%v paid, want a fifth of a minute", paid)
	}
}

// A wall clock that went ahead while the node was down has seen a minute pass that was none: the
// clocks of the others tell. One of them alone that is behind does not take anything away.
func TestNoArrearsByAClockThatIsAhead(t *testing.T) {
	for behind, want := range map[int]time.Duration{4: 0, 3: 0, 1: 12 * time.Second} {
		a := restarted(4)
		for i := range behind {
			a.view.Members[1+i].Skew = -time.Minute
		}
		for range 100 {
			a.tick(100 * time.Millisecond)
		}
		if paid := a.ownGrowth() - 2*time.Second; paid < want-time.Second || paid > want+time.Second {
			t.Errorf("%d of four others say that the clock is a minute ahead: %v paid, want %v", behind, paid, want)
		}
	}
}

// The wall clock of the node, not the machine's, dates what it saves; what it reads back is on
// the machine's again.
func TestTheClockOnDiskIsDatedByTheNodesWallClock(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.NoListen, cfg.WallAhead = t.TempDir(), true, time.Hour
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.writeClock()
	raw, err := os.ReadFile(cfg.dataFile("clock"))
	onDisk, err := decodeClock(raw, err)
	if err != nil {
		t.Fatal(err)
	}
	if ahead := time.Until(onDisk.saved()); ahead < 59*time.Minute || ahead > 61*time.Minute {
		t.Errorf("dated %v ahead of the machine's clock, want an hour", ahead)
	}
	if k, ok := n.readClock(); !ok || time.Until(k.saved()).Abs() > time.Minute {
		t.Errorf("read back as %v", k.saved())
	}
}

package node

import (
	"context"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// alone is a refill daemon that is a cluster of one, at a time of its own.
type alone struct {
	refill
	now  time.Time
	view *gossip.View
}

func newAlone() *alone {
	a := &alone{now: time.Unix(1000, 0), view: &gossip.View{Self: "a", Phase: gossip.Synced, Members: []gossip.Member{{Node: "a", Writer: 1}}}}
	a.init(knowledge{Clock: make(crdt.Clock)})
	a.tick(0)
	return a
}

func (a *alone) tick(passed time.Duration) {
	a.now = a.now.Add(passed)
	a.refill.tick(a.now, a.view, testLease, 600*time.Millisecond)
}

// The clock of a cluster of one runs at exactly one second a second, however uneven the ticks.
func TestTheClockLosesNothingToUnevenTicks(t *testing.T) {
	a := newAlone()
	var sum time.Duration
	for i := range 10_000 {
		step := time.Duration(i%97)*time.Millisecond + time.Duration(i%13)
		sum += step
		a.tick(step)
	}
	for p := range crdt.Policies {
		if r := a.reading(crdt.Policy(p)); r != crdt.Instant(sum) {
			t.Errorf("%v clock at %v after %v", crdt.Policy(p), time.Duration(r), sum)
		}
	}
}

// Frames tell the own part as of now, not of the last tick, and no time counts twice; who slept
// waits for the tick, which knows.
func TestFramesTellTheClockAsOfNow(t *testing.T) {
	a := newAlone()
	told := func(passed time.Duration) time.Duration {
		a.now = a.now.Add(passed)
		return time.Duration(a.header("a", "b", 1, a.view, a.now).records[0].clock[crdt.Quorum])
	}
	a.tick(20 * time.Millisecond)
	for _, want := range []time.Duration{27 * time.Millisecond, 34 * time.Millisecond} {
		if got := told(7 * time.Millisecond); got != want {
			t.Errorf("frames tell %v, want %v", got, want)
		}
	}
	a.tick(6 * time.Millisecond)
	if got := told(10 * time.Second); got != 40*time.Millisecond {
		t.Errorf("after a sleep frames tell %v, want 40ms", got)
	}
	a.tick(0)
	if r := time.Duration(a.reading(crdt.Quorum)); r != 40*time.Millisecond+mostArrears || time.Duration(a.local.Load()) != 10*time.Second+40*time.Millisecond {
		t.Errorf("R at %v, the process's clock at %v", r, time.Duration(a.local.Load()))
	}
}

// A process that slept pays no arrears; a busy machine's delay of up to half a lease is none.
func TestWhoSleptPaysNoArrears(t *testing.T) {
	a := newAlone()
	for _, c := range []struct{ passed, added time.Duration }{
		{testLease / 2, testLease / 2}, {testLease/2 + 1, mostArrears}, {10 * time.Second, mostArrears},
	} {
		before := a.reading(crdt.Quorum)
		a.tick(c.passed)
		if added := time.Duration(a.reading(crdt.Quorum) - before); added != c.added {
			t.Errorf("%v asleep: %v added, want %v", c.passed, added, c.added)
		}
	}
}

// A paused daemon freezes what takes see, and its metric; its own part goes on meanwhile.
func TestAPauseFreezesWhatTakesSee(t *testing.T) {
	a := newAlone()
	a.tick(time.Second)
	a.paused.Store(true)
	for range 100 {
		a.tick(10 * time.Millisecond)
	}
	if r := a.reading(crdt.Quorum); r != crdt.Instant(time.Second) {
		t.Errorf("R at %v while paused", time.Duration(r))
	}
	if own, _ := a.own("a"); own[crdt.Quorum] != crdt.Instant(2*time.Second) {
		t.Errorf("own part at %v, want 2s", time.Duration(own[crdt.Quorum]))
	}
	if s := a.speedsNow()[crdt.Quorum]; s != 0 {
		t.Errorf("speed %v while paused", s)
	}
}

// A component that grew by more than time allows is refused with its whole frame.
func TestAnImpossibleClockIsRefused(t *testing.T) {
	a := newAlone()
	a.view = &gossip.View{Self: "a", Roster: 7, Phase: gossip.Synced, Members: []gossip.Member{{Node: "a", Writer: 1}, {Node: "b", Writer: 2, ProvenAt: a.now.Add(time.Hour)}}}
	a.tick(time.Millisecond)
	at := func(r time.Duration) *header {
		return &header{roster: 7, records: []clockRecord{{node: "b", clock: crdt.Components{crdt.Instant(r), crdt.Instant(r), crdt.Instant(r)}}}}
	}
	if err := a.hear("b", at(time.Hour), 2, a.now); err != nil {
		t.Fatalf("the first word of b: %v", err)
	}
	if err := a.hear("b", at(2*time.Hour), 2, a.now.Add(youth-time.Millisecond)); err != nil {
		t.Errorf("b restores its part of the clock, or pays its arrears: %v", err)
	}
	if err := a.hear("b", at(2*time.Hour+time.Second), 2, a.now.Add(youth)); err != nil {
		t.Error(err)
	}
	later := a.now.Add(youth + 10*time.Second)
	if err := a.hear("b", at(2*time.Hour+23*time.Second), 2, later); err == nil {
		t.Error("22 s in 10 s were believed")
	}
	if err := a.hear("b", at(2*time.Hour+21*time.Second), 2, later); err != nil {
		t.Errorf("20 s in 10 s, after a slow start: %v", err)
	}
}

// A backup bucket serves a dry bucket only while authority is lost or failover is on, and no
// more than its own capacity and rate.
func TestABackupServesOnlyInNeed(t *testing.T) {
	cfg := testConfig(t)
	rate, _ := crdt.ParseRate("1")
	cfg.Limits = []crdt.Definition{{Name: "bench", Capacity: 5 * crdt.Token, Rate: rate, MaxBuckets: 10, Backup: &crdt.Backup{Capacity: 3 * crdt.Token, Rate: rate}}}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.refill.state.Store(&authority{majority: true}) // of many, and not lost
	take := func(times int) (admitted, backup int) {
		for range times {
			d, err := n.Take("bench", "alice", 1)
			if err != nil {
				t.Fatal(err)
			}
			if d.Backup {
				backup++
			} else if d.Allowed {
				admitted++
			}
		}
		return admitted, backup
	}
	if admitted, backup := take(20); admitted != 5 || backup != 0 {
		t.Errorf("with authority: %d admitted, %d by backup", admitted, backup)
	}
	n.refill.state.Store(&authority{})
	if admitted, backup := take(20); admitted != 0 || backup != 3 {
		t.Errorf("without: %d admitted, %d by backup, want 3", admitted, backup)
	}
	n.refill.local.Add(int64(2 * time.Second))
	if _, backup := take(20); backup != 2 {
		t.Errorf("two seconds later: %d by backup, want 2", backup)
	}
	n.refill.state.Store(&authority{majority: true})
	n.refill.local.Add(int64(time.Minute))
	if _, backup := take(20); backup != 0 {
		t.Errorf("authority is back: %d by backup", backup)
	}
	n.SetFailover(true)
	if _, backup := take(20); backup != 3 {
		t.Errorf("failover: %d by backup, want 3", backup)
	}
}

// A node may be asked at any time: the race detector watches one that is asked while it reads its
// past from the disk.
func TestANodeMayBeAskedWhileItStarts(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.NoListen, cfg.Gossip = t.TempDir(), true, "127.0.0.1:0"
	for range 2 { // the second one finds a clock
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		for ready := false; !ready; ready, _ = n.Ready() {
			n.Cluster()
			n.Stats()
			if _, err := n.Take("per-user", "k", 1); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

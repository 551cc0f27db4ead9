package processes

import (
	"errors"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/world"
)

// wide is 20 ms one way between regions.
var wide = map[[2]string]time.Duration{{"eu", "us"}: 20 * time.Millisecond, {"us", "ap"}: 20 * time.Millisecond, {"eu", "ap"}: 20 * time.Millisecond}

// delay is of a round between regions and the wide link, and some for a busy machine.
const delay = 500 * time.Millisecond

// A region is cut off, for longer than a lease: its refill falls, it is not ready, its backup
// serves; the others refill in full; together they never refill more than the rate.
func TestARegionIsCutOff(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Limits: limited(t, crdt.Quorum), Delay: wide})
	load := hot("g", 200)
	run(t, w, second, load)
	do(t, w.Cut([]string{"eu-1"}, []string{"us-1", "ap-1"}))
	do(t, w.Cut([]string{"us-1", "ap-1"}, []string{"eu-1"}))
	since := w.Now()
	fell := until(t, w, lease+second, "eu's refill falls below 20 %", func() bool { return refill(w, "eu-1") < 0.2 }, load)
	until(t, w, since+lease+2*second-w.Now(), "eu says that it is not ready", func() bool { s := w.State("eu-1"); return s.Up && !s.Ready && s.Reason != "" }, load)
	run(t, w, max(0, since+lease-w.Now()), load)
	until(t, w, since+lease+lease/2+second-w.Now(), "us refills in full", func() bool { return refill(w, "us-1") > 0.97 }, load)
	full := w.Now() - since
	run(t, w, max(0, since+8*second-w.Now()), load)
	frozen := w.Now() - since
	do(t, w.Heal([]string{"eu-1"}, w.names()))
	whole := until(t, w, 15*second, "all refill in full", func() bool {
		for _, name := range w.names() {
			s := w.State(name)
			if !s.Ready || s.Cluster.ReachableMembers != 3 || refill(w, name) < 0.97 {
				return false
			}
		}
		return true
	}, load)
	t.Logf("eu below 20 %% after %v, us in full after %v, whole %v after the heal", fell, full, whole)
	if s := w.State("eu-1"); s.Takes["g"].Backup == 0 || s.Takes["g"].Allowed == 0 || s.Takes["g"].Rejected == 0 {
		t.Errorf("eu's takes: %+v", s.Takes)
	}
	judged(t, w, judge.Laws{Delay: delay, Cuts: 1, Frozen: frozen})
}

// Nothing arrives from a region that hears everything: that is a cut, too.
func TestARegionIsCutOffOneWay(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Limits: limited(t, crdt.Quorum), Delay: wide})
	load := hot("g", 200)
	run(t, w, second, load)
	do(t, w.Cut([]string{"ap-1"}, []string{"eu-1", "us-1"}))
	since := w.Now()
	fell := until(t, w, lease+second, "ap's refill falls below 20 %", func() bool { return refill(w, "ap-1") < 0.2 }, load)
	run(t, w, max(0, since+lease-w.Now()), load)
	until(t, w, since+lease+lease/2+second-w.Now(), "eu refills in full", func() bool { return refill(w, "eu-1") > 0.97 }, load)
	t.Logf("ap below 20 %% after %v, eu in full after %v", fell, w.Now()-since)
	frozen := w.Now() - since
	do(t, w.Heal([]string{"ap-1"}, w.names()))
	until(t, w, 15*second, "ap refills in full", func() bool { return refill(w, "ap-1") > 0.97 }, load)
	judged(t, w, judge.Laws{Delay: delay, Cuts: 1, Frozen: frozen})
}

// A node is killed under load, and started again on the disk that it left: what it had told is
// not lost, what it admits anew is its own, and it does not believe that it is a cluster of one.
func TestANodeIsKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Limits: limited(t, crdt.Quorum), Delay: wide})
	load := hot("g", 200)
	run(t, w, 2*second, load)
	do(t, w.Crash("us-1"))
	if s := w.State("us-1"); s.Up || s.Ready {
		t.Errorf("killed, and shows itself as %+v", s)
	}
	run(t, w, lease+lease/2+second, load)
	if r := refill(w, "eu-1"); r < 0.97 {
		t.Errorf("eu-1 has not taken over: it refills at %.2f", r)
	}
	do(t, w.Start("us-1"))
	until(t, w, 15*second, "us-1 is back", func() bool {
		s := w.State("us-1")
		return s.Ready && s.Cluster.ExpectedMembers == 3 && refill(w, "us-1") > 0.97
	}, load)
	run(t, w, second, load)
	do(t, w.Stop("ap-1"))
	until(t, w, 5*second, "ap-1 has stopped", func() bool { return !w.State("ap-1").Up }, load)
	do(t, w.Start("ap-1"))
	until(t, w, 15*second, "ap-1 is back", func() bool { return refill(w, "ap-1") > 0.97 }, load)
	run(t, w, second, load)
	judged(t, w, judge.Laws{Delay: delay})
	if _, crashed := w.Observed().Crashed[judge.Life{Machine: "us-1", Number: 1}]; !crashed || len(w.Observed().Crashed) != 1 {
		t.Errorf("one life was killed; noted are %v", w.Observed().Crashed)
	}
	lives := 0
	for _, l := range w.Observed().Writers {
		lives = max(lives, l.Number)
	}
	if lives != 2 || len(w.Observed().Writers) != 5 {
		t.Errorf("five lives took; known are %v", w.Observed().Writers)
	}
}

// What it cannot do it says, and does nothing.
func TestWhatItCannotDoItSays(t *testing.T) {
	w := start(t, Config{Regions: []world.Region{{Name: "eu", Nodes: 1}}})
	all := w.names()
	for name, err := range map[string]error{
		"skew":             w.Skew("eu-1", time.Second),
		"a slow Redis":     w.Fault("redis", "slow"),
		"an unknown fault": w.Fault("kv", "fire"),
		"an unknown store": w.Fault("s3", "down"),
		"a heavy load":     w.Run(second, []*world.Flow{hot("g", 5000)}),
	} {
		if !errors.Is(err, world.ErrCannot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"an unknown node":        w.Crash("eu-7"),
		"a loss of all and more": w.Link(all, all, memnet.Link{Loss: 1.1}),
		"running already":        w.Start("eu-1"),
		"an unknown link":        w.Cut(all, []string{"us-1"}),
		"an unknown taker":       w.Run(second, []*world.Flow{{Limit: "g", PerSecond: 1, Nodes: []string{"us-1"}}}),
		"an unknown limit":       w.Run(second, []*world.Flow{hot("h", 1)}),
	} {
		if err == nil || errors.Is(err, world.ErrCannot) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

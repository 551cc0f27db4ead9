package gossip_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/gossip"
	"github.com/openclaw/edge/testnet/memnet"
)

// story runs f on a cluster of n nodes in virtual time.
func story(t *testing.T, seed int64, n int, f func(t *testing.T, c *cluster, ns []*node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, seed)
		defer c.stopAll()
		f(t, c, c.grow(n))
	})
}

func TestNewsIsEverywhereWithinTwoRounds(t *testing.T) {
	story(t, 1, 3, func(t *testing.T, c *cluster, ns []*node) {
		for i, n := range ns {
			n.set(uint32(i), 7)
		}
		if took := c.equal(time.Second); took > 2*50*time.Millisecond+20*time.Millisecond {
			t.Errorf("took %v, want two rounds", took)
		}
		if got := len(ns[0].all()); got != 3 {
			t.Errorf("%d items, want 3", got)
		}
	})
}

func TestConvergesUnderLossDuplicatesAndReordering(t *testing.T) {
	for seed := range int64(6) {
		n := 3 + int(seed)%3
		t.Run(fmt.Sprintf("seed %d, %d nodes", seed, n), func(t *testing.T) {
			story(t, seed, n, func(t *testing.T, c *cluster, ns []*node) {
				c.net.Default(memnet.Link{Delay: 20 * time.Millisecond, Jitter: 30 * time.Millisecond,
					Loss: 0.05 * float64(1+seed), Duplicate: 0.1, Reorder: 0.2})
				for step := range 200 {
					for i, n := range ns {
						n.set(uint32(step%50), uint64(step*10+i))
						n.set(uint32(1000+step*10+i), 1)
					}
					time.Sleep(25 * time.Millisecond)
				}
				c.equal(8 * time.Second)
				for _, n := range ns {
					if r := n.Stats().Repairs; r != 0 {
						t.Errorf("%s: %d repairs", n.addr, r)
					}
					// Who holds all may not have been heard to say so yet.
					c.until(8*time.Second, "everything is acknowledged to "+n.addr, func() bool {
						return !slices.ContainsFunc(n.View().Members, func(m gossip.Member) bool { return m.Lag != 0 })
					})
				}
			})
		})
	}
}

func TestHealthyMeshRelaysNothing(t *testing.T) {
	story(t, 1, 4, func(t *testing.T, c *cluster, ns []*node) {
		c.net.Default(memnet.Link{Delay: 100 * time.Millisecond, Jitter: 10 * time.Millisecond})
		const steps, each = 100, 20
		for step := range steps {
			for i := range each {
				ns[0].set(uint32(step*each+i), 1)
			}
			time.Sleep(30 * time.Millisecond)
		}
		c.equal(2 * time.Second)
		if sent := ns[0].Stats().EntriesSent; sent < 3*steps*each || sent > 3*steps*each*11/10 {
			t.Errorf("the writer sent %d items, want some %d", sent, 3*steps*each)
		}
		for _, n := range ns[1:] {
			if sent := n.Stats().EntriesSent; sent > steps*each/20 {
				t.Errorf("%s relayed %d items", n.addr, sent)
			}
		}
	})
}

func TestLateJoinerGetsEverything(t *testing.T) {
	story(t, 2, 2, func(t *testing.T, c *cluster, ns []*node) {
		const items = 100_000 // five chunks
		for i := range items {
			ns[i%2].set(uint32(i), uint64(i+1))
		}
		c.equal(20 * time.Second)
		time.Sleep(5 * time.Second) // logs are trimmed: only a dump can bring it
		late := c.start(address(2), c.config(2))
		c.until(5*time.Second, "the late one is synced", func() bool { return late.View().Phase == gossip.Synced })
		if got := len(late.all()); got != items {
			t.Errorf("synced with %d items, want %d", got, items)
		}
		ns[0].set(7, 1<<40)
		c.equal(time.Second)
		time.Sleep(time.Second)
		if v := late.View(); v.PhaseNote != "first sync done, from a" {
			t.Errorf("then it went on: %q", v.PhaseNote)
		}
	})
}

func TestFirstSyncWaitsForEveryChunk(t *testing.T) {
	story(t, 2, 1, func(t *testing.T, c *cluster, ns []*node) {
		for i := range uint32(60_000) { // three chunks: the last may come before the first
			ns[0].set(i, 1)
		}
		time.Sleep(5 * time.Second)
		cfg := c.config(1)
		until := time.Now().Add(4 * time.Second)
		cfg.State.(*toy).later = func(key uint32) bool { return key == 0 && time.Now().Before(until) }
		late := c.start(address(1), cfg)
		c.until(10*time.Second, "it is synced", func() bool { return late.View().Phase == gossip.Synced })
		if got := len(late.all()); got != 60_000 {
			t.Errorf("synced with %d items", got)
		}
	})
}

func TestWhatADeadWriterLeftBeyondAGapIsAdopted(t *testing.T) {
	story(t, 3, 3, func(t *testing.T, c *cluster, ns []*node) {
		a := ns[1].member("a")
		item := []byte{0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 7}
		ns[1].Inject(gossip.Forge(gossip.Forgery{Cluster: "test", Node: "a", Writer: a.Writer, Counter: a.Counter, Payload: item}))
		time.Sleep(time.Second)
		if ns[1].all()[9] != 7 || ns[2].all()[9] != 0 {
			t.Fatal("b alone should have it by now")
		}
		c.equal(10 * time.Second)
	})
}

func TestWhatAForgottenWriterSaidIsRelayed(t *testing.T) {
	story(t, 3, 3, func(t *testing.T, c *cluster, ns []*node) {
		a, b := ns[0], ns[1]
		c.net.Cut(a.addr, ns[2].addr)
		c.net.Cut(b.addr, ns[2].addr)
		a.set(1, 1)
		time.Sleep(time.Second)
		c.crash(a)
		if err := b.Forget("a"); err != nil && !errors.Is(err, gossip.ErrUnknown) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		c.net.HealAll()
		c.equal(10 * time.Second)
		if b.all()[1] != 1 {
			t.Error("b does not have it itself")
		}
	})
}

func TestSingleLinkCutIsRelayedThroughTheThird(t *testing.T) {
	story(t, 3, 3, func(t *testing.T, c *cluster, ns []*node) {
		c.net.Cut(ns[0].addr, ns[1].addr)
		for step := range 100 {
			ns[0].set(uint32(step), 5)
			ns[1].set(uint32(1000+step), 5)
			time.Sleep(50 * time.Millisecond)
		}
		c.equal(time.Second)
		if ns[2].Stats().EntriesSent < 200 {
			t.Error("the third sent too little to have relayed")
		}
		c.net.Heal(ns[0].addr, ns[1].addr)
		time.Sleep(5 * time.Second)
		before := ns[2].Stats().EntriesSent
		ns[0].set(5000, 5)
		ns[1].set(5001, 5)
		c.equal(time.Second)
		time.Sleep(2 * time.Second)
		if after := ns[2].Stats().EntriesSent; after != before {
			t.Errorf("it goes on relaying after the heal: %d items", after-before)
		}
	})
}

func TestNinetySecondCutHealsByItself(t *testing.T) {
	story(t, 4, 3, func(t *testing.T, c *cluster, ns []*node) {
		c.net.Cut(ns[0].addr, ns[2].addr)
		c.net.Cut(ns[1].addr, ns[2].addr)
		for step := range 900 {
			for i, n := range ns {
				n.set(uint32(step), uint64(step+i))
				n.set(uint32(10_000*(i+1)+step), 1)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if got := len(ns[2].View().Members); got != 3 {
			t.Errorf("%d members during the cut, want 3", got)
		}
		c.net.HealAll()
		c.equal(2 * time.Second)
		c.until(15*time.Second, "memberlist sees everybody again", func() bool {
			return ns[0].Alive() == 3 && ns[1].Alive() == 3 && ns[2].Alive() == 3
		})
	})
}

func TestOneWayCutProvesNothingOnBothSides(t *testing.T) {
	story(t, 5, 2, func(t *testing.T, c *cluster, ns []*node) {
		c.net.CutOneWay(ns[0].addr, ns[1].addr)
		time.Sleep(time.Second)
		since := time.Now()
		time.Sleep(5 * time.Second)
		// b, who hears nothing, and a, whose frames arrive nowhere: neither has a proof from
		// after the cut. a still hears b.
		for i, n := range ns {
			if m := n.member(ns[1-i].View().Self); m.ProvenAt.After(since) {
				t.Errorf("%s: proven %v after the cut", n.View().Self, m.ProvenAt.Sub(since))
			}
		}
		if m := ns[0].member("b"); time.Since(m.HeardAt) > time.Second {
			t.Error("a should still hear b")
		}
		if m := ns[1].member("a"); time.Since(m.HeardAt) < 5*time.Second {
			t.Error("b should not hear a")
		}
		c.net.HealAll()
		c.until(time.Second, "proofs again", func() bool {
			return time.Since(ns[0].member("b").ProvenAt) < 300*time.Millisecond &&
				time.Since(ns[1].member("a").ProvenAt) < 300*time.Millisecond
		})
	})
}

func TestLinkIsMeasured(t *testing.T) {
	story(t, 6, 2, func(t *testing.T, c *cluster, ns []*node) {
		c.net.Default(memnet.Link{Delay: 80 * time.Millisecond})
		time.Sleep(5 * time.Second)
		m := ns[0].member("b")
		if m.RTT < 155*time.Millisecond || m.RTT > 175*time.Millisecond {
			t.Errorf("rtt %v, want 160ms", m.RTT)
		}
		if m.Skew.Abs() > 5*time.Millisecond {
			t.Errorf("skew %v, want 0", m.Skew)
		}
		c.net.CutOneWay(ns[1].addr, ns[0].addr)
		ns[0].set(1, 1)
		time.Sleep(2 * time.Second)
		if lag := ns[0].member("b").Lag; lag < 1900*time.Millisecond || lag > 2*time.Second {
			t.Errorf("lag %v, want 2s", lag)
		}
		c.net.HealAll()
		c.until(2*time.Second, "no lag", func() bool { return ns[0].member("b").Lag == 0 })
	})
}

func TestLagIsThatOfTheSlowestChange(t *testing.T) {
	story(t, 8, 2, func(t *testing.T, c *cluster, ns []*node) {
		for i := range 500 {
			ns[0].set(uint32(i), 1)
			time.Sleep(20 * time.Millisecond)
			if lag := ns[0].member("b").Lag; lag > 250*time.Millisecond {
				t.Fatalf("lag %v under steady load", lag)
			}
		}
	})
}

func TestNotYetComesAgain(t *testing.T) {
	story(t, 7, 2, func(t *testing.T, c *cluster, ns []*node) {
		until := time.Now().Add(3 * time.Second)
		ns[1].mu.Lock()
		ns[1].later = func(key uint32) bool { return key == 42 && time.Now().Before(until) }
		ns[1].mu.Unlock()
		ns[0].set(42, 9)
		time.Sleep(2 * time.Second)
		if got := ns[1].all()[42]; got != 0 {
			t.Fatalf("taken too early: %d", got)
		}
		if ns[0].member("b").Lag == 0 {
			t.Error("what was put off counts as acknowledged")
		}
		c.equal(4 * time.Second)
		if ns[1].Stats().FramesDropped["later"] == 0 {
			t.Error("not counted")
		}
	})
}

func TestLogsStayBounded(t *testing.T) {
	story(t, 9, 3, func(t *testing.T, c *cluster, ns []*node) {
		for _, n := range ns[:2] {
			c.net.Cut(n.addr, ns[2].addr)
		}
		for step := range 130 { // 2,600,000 changes of 20,000 items, and as many that b could relay
			for key := range uint32(20_000) {
				ns[0].set(key, uint64(step+1))
			}
			time.Sleep(time.Second)
		}
		for i, bound := range []int{60_000, 2_000_000} { // a's own log forgets what is superseded
			if listed := ns[i].Listed(); listed > bound {
				t.Errorf("%s lists %d changes", ns[i].addr, listed)
			}
		}
		if ns[1].Stats().FramesDropped["log"] == 0 {
			t.Error("what the bound cut off was not counted")
		}
		c.net.HealAll()
		c.equal(10 * time.Second)
	})
}

func TestWhoFellBelowTheLogsFetchesEverything(t *testing.T) {
	story(t, 9, 3, func(t *testing.T, c *cluster, ns []*node) {
		for _, n := range ns[:2] {
			c.net.Cut(n.addr, ns[2].addr)
		}
		for key := range uint32(1000) {
			ns[0].set(key, 3)
		}
		time.Sleep(10 * time.Second)
		ns[0].CutLogs()
		ns[1].CutLogs()
		c.net.HealAll()
		c.equal(5 * time.Second)
		c.until(time.Second, "it says so", func() bool {
			v := ns[2].View()
			return strings.Contains(v.PhaseNote, "again") && v.Phase == gossip.Synced
		})
		ns[0].set(5, 9)
		c.equal(time.Second)
		for _, n := range ns {
			if r := n.Stats().Repairs; r != 0 {
				t.Errorf("%d repairs", r)
			}
		}
	})
}

// Two that have only their own fetch from each other, once; then from one who has the
// cluster's, as soon as it is heard.
func TestWhoHasOnlyItsOwnFetchesFromWhoHasTheClusters(t *testing.T) {
	story(t, 11, 1, func(t *testing.T, c *cluster, ns []*node) {
		for i := 1; i < 3; i++ {
			cfg := c.config(i)
			cfg.State.(*toy).lonely = true
			ns = append(ns, c.start(address(i), cfg))
		}
		c.until(time.Second, "they have joined", func() bool { return len(ns[1].View().Members) == 3 && len(ns[2].View().Members) == 3 })
		for _, n := range ns[1:] {
			c.net.Cut(n.addr, address(0))
		}
		until := time.Now().Add(30 * time.Second)
		for time.Now().Before(until) {
			time.Sleep(100 * time.Millisecond)
			for _, n := range ns[1:] {
				if strings.Contains(n.View().PhaseNote, "again") {
					t.Fatalf("%s behind a cut: %s", n.addr, n.View().PhaseNote)
				}
			}
		}
		for _, n := range ns[1:] {
			if v := n.View(); !v.Fetched {
				t.Errorf("%s has not fetched what there is: %s", n.addr, v.PhaseNote)
			}
		}
		c.net.HealAll()
		for _, n := range ns[1:] {
			c.until(10*time.Second, "it fetches from a", func() bool {
				v := n.View()
				return v.Fetched && strings.Contains(v.PhaseNote, "from a")
			})
		}
	})
}

// With those who could have been asked gone there is nothing left to fetch.
func TestWhoIsLeftAloneHasFetchedAll(t *testing.T) {
	story(t, 12, 1, func(t *testing.T, c *cluster, ns []*node) {
		cfg := c.config(1)
		cfg.State.(*toy).lonely = true
		left := c.start(address(1), cfg)
		c.until(time.Second, "it has joined", func() bool { return len(left.View().Members) == 2 })
		c.crash(ns[0])
		time.Sleep(20 * time.Second)
		if v := left.View(); v.Fetched || v.Phase != gossip.Synced {
			t.Errorf("while a may come back: %+v", v)
		}
		if err := left.Forget("a"); err != nil {
			t.Fatal(err)
		}
		c.until(time.Second, "it has all there is", func() bool { return left.View().Fetched })
	})
}

func TestIdleFrameIsSmall(t *testing.T) {
	story(t, 10, 3, func(t *testing.T, c *cluster, ns []*node) {
		time.Sleep(2 * time.Second)
		before := ns[0].Stats()
		time.Sleep(10 * time.Second)
		after := ns[0].Stats()
		frames, bytes := after.FramesSent-before.FramesSent, after.BytesOut-before.BytesOut
		if frames < 395 || frames > 405 {
			t.Errorf("%d frames to two peers in 200 rounds", frames)
		}
		if each := bytes / frames; each > 130 {
			t.Errorf("%d bytes an idle frame", each)
		} else {
			t.Logf("%d bytes an idle frame, the toy's header of 5 included", each)
		}
	})
}

package gossip_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/gossip"
)

func TestBadFramesAreCountedAndHarmless(t *testing.T) {
	story(t, 1, 2, func(t *testing.T, c *cluster, ns []*node) {
		a, b := ns[0], ns[1].member("b")
		me := ns[0].member("a")
		good := gossip.Forgery{Cluster: "test", Node: "b", Writer: b.Writer, Counter: b.Counter, To: me.Writer, Seq: 1}
		with := func(change func(*gossip.Forgery)) []byte {
			f := good
			change(&f)
			return gossip.Forge(f)
		}
		for reason, frame := range map[string][]byte{
			"garbage":      []byte("hello"),
			"oversize":     make([]byte, 9<<20),
			"cluster":      with(func(f *gossip.Forgery) { f.Cluster = "other" }),
			"unknown":      with(func(f *gossip.Forgery) { f.Node = "z" }),
			"stale_writer": with(func(f *gossip.Forgery) { f.Writer, f.Counter = 5, 1 }),
			"echo":         with(func(f *gossip.Forgery) { f.Echo = 1 << 60 }),
			"refused":      with(func(f *gossip.Forgery) { f.Payload = []byte("odd") }),
		} {
			before := a.Stats().FramesDropped
			seen := a.View().Members
			a.Inject(frame)
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			for r, n := range a.Stats().FramesDropped {
				if want := before[r] + map[bool]uint64{true: 1}[r == reason]; n != want {
					t.Errorf("%s: %s counts %d, want %d", reason, r, n, want)
				}
			}
			if now := a.View().Members; len(now) != 2 || now[1].ProvenAt.Before(seen[1].ProvenAt) {
				t.Errorf("%s: %+v", reason, now)
			}
		}
		// These two are no fault of anybody's: an old frame, whose header is old news, and one
		// that acknowledges another writer than us.
		a.Inject(with(func(f *gossip.Forgery) { f.Seq = 0 }))
		a.Inject(with(func(f *gossip.Forgery) { f.To, f.Echo = 5, 1<<60 }))
		time.Sleep(100 * time.Millisecond)
		if a.bare != 0 {
			t.Errorf("%d old headers were taken", a.bare)
		}
		if m := a.member("b"); m.ProvenAt.After(time.Now()) {
			t.Error("what another writer was told is proof for us")
		}
		ns[1].set(1, 1)
		c.equal(time.Second)
	})
}

func TestInboxOverflowIsCountedAndRepaired(t *testing.T) {
	story(t, 2, 2, func(t *testing.T, c *cluster, ns []*node) {
		big := make([]byte, 8<<20)
		ns[0].Hold(func() {
			for range 20 {
				ns[0].Inject(big)
			}
		})
		ns[1].set(1, 1)
		c.equal(2 * time.Second)
		if d := ns[0].Stats().FramesDropped; d["queue"] != 16 || d["garbage"] != 4 {
			t.Errorf("%v", d)
		}
	})
}

func TestHeaderRefusedMeansFrameRefused(t *testing.T) {
	story(t, 3, 2, func(t *testing.T, c *cluster, ns []*node) {
		firsts := 0
		ns[0].mu.Lock()
		ns[0].hear = func(node string, first bool) error {
			if first {
				firsts++
			}
			return errors.New("no")
		}
		ns[0].mu.Unlock()
		time.Sleep(500 * time.Millisecond)
		ns[1].set(1, 1)
		time.Sleep(2 * time.Second)
		if len(ns[0].all()) != 0 {
			t.Error("its payload was taken")
		}
		if m := ns[0].member("b"); time.Since(m.ProvenAt) < time.Second || time.Since(m.HeardAt) < time.Second {
			t.Error("it proves something")
		}
		if firsts != 0 {
			t.Errorf("%d firsts of a writer that was heard before", firsts)
		}
		ns[0].mu.Lock()
		ns[0].hear = nil
		ns[0].mu.Unlock()
		c.equal(3 * time.Second)
	})
}

func TestHeardFirstOncePerWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 4)
		defer c.stopAll()
		firsts := map[string]int{}
		cfg := c.config(0)
		cfg.State.(*toy).hear = func(node string, first bool) error {
			if first {
				firsts[node]++
			}
			return nil
		}
		c.start(address(0), cfg)
		c.start(address(1), c.config(1))
		c.whole(2)
		c.crash(c.nodes[1])
		c.start(address(1), c.config(1))
		c.whole(2)
		if firsts["b"] != 2 {
			t.Errorf("b was first %d times, want once for each of its two writers", firsts["b"])
		}
	})
}

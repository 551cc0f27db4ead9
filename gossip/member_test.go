package gossip_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/gossip"
	"github.com/openclaw/edge/testnet/leak"
)

func TestRestartIsANewWriterOfTheSameMember(t *testing.T) {
	story(t, 1, 3, func(t *testing.T, c *cluster, ns []*node) {
		b := ns[1]
		b.set(1, 5)
		c.equal(time.Second)
		c.crash(b)
		again := c.start(b.addr, c.config(1))
		c.whole(3)
		c.equal(time.Second)
		if got := again.all()[1]; got != 5 {
			t.Errorf("the restarted node has %d, want what it said before: 5", got)
		}
		m := c.nodes[0].member("b")
		if m.Writer != again.View().Members[1].Writer || m.Counter < 4 {
			t.Errorf("a sees %+v", m)
		}
		again.set(2, 5)
		c.equal(time.Second)
	})
}

func TestDuplicateNameIsRefused(t *testing.T) {
	for _, withFile := range []bool{false, true} {
		story(t, 2, 2, func(t *testing.T, c *cluster, ns []*node) {
			cfg := c.config(1)
			cfg.RosterFile = filepath.Join(t.TempDir(), "roster")
			if withFile { // of a time when b was at the newcomer's address
				old := c.config(1)
				old.RosterFile, old.Seeds = cfg.RosterFile, nil
				c.crash(c.start(address(7), old))
			}
			late := c.start(address(7), cfg)
			c.nodes = c.nodes[:2]
			err := <-late.done
			if !errors.Is(err, gossip.ErrDuplicate) || !strings.Contains(err.Error(), "--node") {
				t.Errorf("got %v", err)
			}
			time.Sleep(5 * time.Second)
			c.whole(2)
			ns[1].set(1, 1)
			c.equal(time.Second)
		})
	}
}

func TestForgottenNodeHearsOfIt(t *testing.T) {
	story(t, 3, 3, func(t *testing.T, c *cluster, ns []*node) {
		for _, n := range ns[:2] {
			c.net.Cut(n.addr, ns[2].addr)
		}
		time.Sleep(10 * time.Second)
		if err := ns[0].Forget("c"); err != nil {
			t.Fatal(err)
		}
		if err := ns[0].Forget("a"); err == nil {
			t.Error("a forgot itself")
		}
		if err := ns[0].Forget("z"); !errors.Is(err, gossip.ErrUnknown) {
			t.Errorf("forgot a stranger: %v", err)
		}
		c.until(time.Second, "b forgets too", func() bool { return len(ns[1].View().Members) == 2 })
		if m := ns[1].member("c"); m.State != gossip.Forgotten {
			t.Errorf("b knows c as %v", m.State)
		}
		c.net.HealAll()
		lost := ns[2]
		c.nodes = ns[:2]
		begin := time.Now()
		if err := <-lost.done; !errors.Is(err, gossip.ErrForgotten) {
			t.Errorf("c ended with %v", err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("c heard of it after %v", took)
		}
		again := c.start(lost.addr, func() gossip.Config { cfg := c.config(2); cfg.Node = "c"; return cfg }())
		c.until(5*time.Second, "c is back, as a new one", func() bool { return again.View().Phase == gossip.Synced })
		c.whole(3)
	})
}

func TestForgottenNodeWithItsRosterFileIsTurnedAway(t *testing.T) {
	story(t, 4, 2, func(t *testing.T, c *cluster, ns []*node) {
		cfg := c.config(2)
		cfg.RosterFile = filepath.Join(t.TempDir(), "roster")
		n := c.start(address(2), cfg)
		c.whole(3)
		c.crash(n)
		if err := ns[0].Forget("c"); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it stays turned away
			again := c.config(2)
			again.RosterFile = cfg.RosterFile
			n = c.start(address(2), again)
			c.nodes = c.nodes[:2]
			if err := <-n.done; !errors.Is(err, gossip.ErrForgotten) {
				t.Fatalf("ended with %v", err)
			}
		}
	})
}

func TestRestartAloneIsNoClusterOfOne(t *testing.T) {
	story(t, 5, 2, func(t *testing.T, c *cluster, ns []*node) {
		cfg := c.config(2)
		cfg.RosterFile = filepath.Join(t.TempDir(), "roster")
		n := c.start(address(2), cfg)
		c.whole(3)
		c.crash(n)
		c.net.Cut(address(2), address(0))
		c.net.Cut(address(2), address(1))
		again := c.config(2)
		again.RosterFile = cfg.RosterFile
		n = c.start(address(2), again)
		if v := n.View(); len(v.Members) != 3 && len(v.Members) != 0 {
			t.Errorf("%d members at the start", len(v.Members))
		}
		c.until(4*time.Second, "it is in its roster of three", func() bool {
			return len(n.View().Members) == 3 && n.View().Phase == gossip.Syncing
		})
		c.until(12*time.Second, "it goes on alone", func() bool { return n.View().Phase == gossip.Synced })
		if v := n.View(); v.Founded || !strings.Contains(v.PhaseNote, "no member") {
			t.Errorf("%+v", v)
		}
		ns[0].set(1, 1)
		c.net.HealAll()
		c.whole(3)
		c.equal(5 * time.Second)
	})
}

func TestSeedsButNobodyThereFoundsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.stopAll()
		var ns []*node
		for i := range 3 { // all at once, each with the others as seeds
			cfg := c.config(i)
			cfg.Seeds = []string{address(0), address(1), address(2)}
			ns = append(ns, c.start(address(i), cfg))
		}
		time.Sleep(9 * time.Second)
		for _, n := range ns {
			if v := n.View(); v.Phase != gossip.Joining || len(v.Members) != 0 {
				t.Errorf("%s: %+v", n.addr, v)
			}
		}
		c.whole(3)
		founders := 0
		for _, n := range ns {
			if n.View().Founded {
				founders++
			}
		}
		if founders != 1 {
			t.Errorf("%d founders", founders)
		}
		ns[2].set(1, 1)
		c.equal(time.Second)
	})
}

func TestLeaverFlushesAndSaysSo(t *testing.T) {
	story(t, 7, 3, func(t *testing.T, c *cluster, ns []*node) {
		a := ns[0]
		a.set(1, 77)
		a.set(2, 77)
		if err := c.stop(a); err != nil {
			t.Fatal(err)
		}
		for _, n := range c.nodes {
			if n.all()[1] != 77 || n.all()[2] != 77 {
				t.Errorf("%s lacks the last words", n.addr)
			}
			if m := n.member("a"); m.State != gossip.Left {
				t.Errorf("%s sees a %v", n.addr, m.State)
			}
		}
		c.whole(2)
	})
}

func TestLinkOfALeaverIsFlushedThroughLoss(t *testing.T) {
	story(t, 8, 2, func(t *testing.T, c *cluster, ns []*node) {
		c.net.Default(lossy(0.3))
		for i := range uint32(500) {
			ns[1].set(i, 1)
		}
		c.stop(ns[1])
		if got := len(ns[0].all()); got != 500 {
			t.Errorf("%d of 500 arrived", got)
		}
	})
}

func TestStrangersAreCountedAndHarmless(t *testing.T) {
	key := func() []byte { b := make([]byte, 32); rand.Read(b); return b }
	ours := key()
	for name, strange := range map[string]struct {
		key    []byte
		label  string
		reason string
	}{
		"wrong key":   {key(), "test", "key"},
		"no key":      {nil, "test", "key"},
		"wrong label": {ours, "other", "label"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 9)
				defer c.stopAll()
				for i := range 2 {
					cfg := c.config(i)
					cfg.Keys = [][]byte{ours}
					c.start(address(i), cfg)
					c.until(5*time.Second, "synced", func() bool { return c.nodes[i].View().Phase == gossip.Synced })
				}
				c.whole(2)
				cfg := c.config(2)
				cfg.Cluster, cfg.Writer = strange.label, 7777
				if strange.key != nil {
					cfg.Keys = [][]byte{strange.key}
				}
				c.start(address(2), cfg).set(1, 1)
				time.Sleep(30 * time.Second)
				if c.nodes[0].Stats().FramesDropped[strange.reason] == 0 {
					t.Errorf("not counted: %v", c.nodes[0].Stats().FramesDropped)
				}
				if v := c.nodes[0].View(); len(v.Known) != 2 || len(c.nodes[0].all()) != 0 {
					t.Errorf("the stranger came in: %+v", v)
				}
				c.nodes[1].set(2, 2)
				c.until(time.Second, "ours still hear each other", func() bool { return c.nodes[0].all()[2] == 2 })
			})
		})
	}
}

func TestKeysRotateWithoutACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 10)
		defer c.stopAll()
		old, fresh := []byte("0123456789abcdef"), []byte("fedcba9876543210")
		for i := range 2 {
			cfg := c.config(i)
			cfg.Keys = [][]byte{old}
			c.start(address(i), cfg)
		}
		c.whole(2)
		for step, keys := range [][][]byte{{old, fresh}, {fresh, old}, {fresh}} {
			for _, n := range c.nodes {
				if err := n.SetKeys(keys); err != nil {
					t.Fatal(err)
				}
				n.set(uint32(step), 1)
				c.equal(time.Second)
			}
		}
		if d := c.nodes[0].Stats().FramesDropped["key"]; d != 0 {
			t.Errorf("%d frames lost in the rotation", d)
		}
		cfg := c.config(2)
		cfg.Keys, cfg.Seeds, cfg.FoundAfter = [][]byte{old}, []string{address(0)}, time.Hour
		c.start(address(2), cfg)
		time.Sleep(5 * time.Second)
		if c.nodes[0].Stats().FramesDropped["key"] == 0 || c.nodes[0].Alive() != 2 {
			t.Error("the old key still opens the door")
		}
		if c.nodes[0].SetKeys(nil) == nil || c.nodes[0].SetKeys([][]byte{{1}}) == nil {
			t.Error("bad keys were taken")
		}
	})
}

func TestDamagedRosterFileIsKeptAside(t *testing.T) {
	file := filepath.Join(t.TempDir(), "roster")
	if err := os.WriteFile(file, []byte(`{"format":1,"cluster":"test","sum":1,"entries":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 11)
		defer c.stopAll()
		cfg := c.config(0)
		cfg.RosterFile = file
		n := c.start(address(0), cfg)
		c.until(time.Second, "founded", func() bool { return n.View().Founded })
	})
	for _, f := range []string{file, file + ".damaged"} {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
}

func TestAuditMendsWhatVectorsHide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 12)
		defer c.stopAll()
		for i := range 3 {
			cfg := c.config(i)
			cfg.AuditEvery = 20 * time.Second
			c.start(address(i), cfg)
		}
		c.whole(3)
		for step := range 600 { // a minute of load: some audits, no repair
			for i, n := range c.nodes {
				n.set(uint32(step%97), uint64(step*3+i))
			}
			time.Sleep(100 * time.Millisecond)
		}
		c.equal(time.Second)
		for _, n := range c.nodes {
			if r := n.Stats().Repairs; r != 0 {
				t.Errorf("%s: %d repairs in a healthy cluster", n.addr, r)
			}
		}
		c.nodes[0].plant(5, 1<<30)
		c.nodes[1].plant(2000, 9)
		took := c.equal(2 * time.Minute)
		var repairs uint64
		for _, n := range c.nodes {
			repairs += n.Stats().Repairs
		}
		if repairs < 2 || repairs > 6 {
			t.Errorf("%d repairs, want 2 differences mended", repairs)
		}
		t.Logf("mended after %v", took)
	})
}

func TestRunLeavesNothingAlive(t *testing.T) {
	defer leak.None(t)
	var ns []*gossip.Gossip
	var ends []func() error
	for i, name := range []string{"a", "b", "c"} {
		cfg := gossip.Config{Cluster: "test", Node: name, Region: "here", Writer: uint64(i + 1), Bind: "127.0.0.1:0",
			State: newToy(), Logger: quiet(), Keys: [][]byte{[]byte("0123456789abcdef")}}
		if i > 0 {
			cfg.Seeds = []string{ns[0].Addr()}
		}
		g, err := gossip.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		<-g.Started()
		ns = append(ns, g)
		ends = append(ends, func() error { cancel(); return <-done })
		cfg.State.(*toy).set(uint32(i), 1)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		whole := 0
		for _, g := range ns {
			if v := g.View(); len(v.Members) == 3 && v.Phase == gossip.Synced {
				whole++
			}
		}
		if whole == 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not whole: %+v", ns[0].View())
		}
	}
	for _, end := range ends {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	if err := ns[0].Forget("b"); err == nil {
		t.Error("a stopped node forgets")
	}
}

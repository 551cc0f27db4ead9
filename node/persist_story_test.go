package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/program"
)

// life is a machine in virtual time: nodes start and stop on it, its disk stays.
type life struct {
	t    *testing.T
	net  *memnet.Network
	addr string
	cfg  Config
	log  *program.Output

	*Node
	stop func()
}

func newLife(t *testing.T, net *memnet.Network, i int, dir string) *life {
	m := &life{t: t, net: net, addr: fmt.Sprintf("10.0.0.%d:7946", i+1), cfg: DefaultConfig(), log: &program.Output{}}
	m.cfg.Node, m.cfg.Gossip, m.cfg.NoListen, m.cfg.DataDir = fmt.Sprint("edge-", i), m.addr, true, dir
	m.cfg.Logger = slog.New(slog.NewTextHandler(m.log, nil))
	m.cfg.Limits = []crdt.Definition{definition(t, "slow", 100, "60/m"), definition(t, "hourly", 1000, "100/h")}
	m.cfg.LimitsVersion, m.cfg.Tick = 1, 50*time.Millisecond
	return m
}

func definition(t testing.TB, name string, capacity int64, rate string) crdt.Definition {
	return crdt.Definition{Name: name, Capacity: crdt.Milli(capacity) * crdt.Token, Rate: mustRate(t, rate), MaxBuckets: 2_000_000, TTL: 24 * time.Hour}
}

// run starts a node that need not be ready yet.
func (m *life) run() {
	m.t.Helper()
	transport, err := m.net.Listen(m.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	m.cfg.Transport = transport
	n, err := New(m.cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	m.Node, m.stop = n, func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Errorf("%s: %v", m.cfg.Node, err)
		}
	}
}

func (m *life) start() {
	m.t.Helper()
	m.run()
	m.ready()
}

func (m *life) ready() {
	m.t.Helper()
	why := ""
	for range 6000 {
		var ok bool
		if ok, why = m.Ready(); ok {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatalf("%s not ready: %s\n%s", m.cfg.Node, why, m.log)
}

// kill ends nodes as kill -9 would: what their disks hold now is what the next start finds, and
// no peer hears another word.
func kill(ms ...*life) {
	links := func(do func(a, b string)) {
		for _, m := range ms {
			for i := range 4 {
				if other := fmt.Sprintf("10.0.0.%d:7946", i+1); other != m.addr {
					do(m.addr, other)
				}
			}
		}
	}
	disks := make([]string, len(ms))
	for i, m := range ms {
		disks[i] = m.t.TempDir()
		if err := os.CopyFS(disks[i], os.DirFS(m.cfg.DataDir)); err != nil {
			m.t.Fatal(err)
		}
	}
	links(ms[0].net.Cut)
	for i, m := range ms {
		m.stop()
		m.cfg.DataDir = disks[i]
	}
	links(ms[0].net.Heal)
}

func (m *life) level(limit, key string) float64 {
	m.t.Helper()
	b, err := m.Look(limit, key)
	if err != nil {
		m.t.Fatal(err)
	}
	return tokens(b.Level)
}

func (m *life) take(limit, key string, cost int64) {
	m.t.Helper()
	if d, err := m.Take(limit, key, cost); err != nil || !d.Allowed {
		m.t.Fatalf("%s: take of %d: %+v, %v", key, cost, d, err)
	}
}

func (m *life) expect(what, limit, key string, want, within float64) {
	m.t.Helper()
	if got := m.level(limit, key); math.Abs(got-want) > within {
		m.t.Errorf("%s: %s of %s at %.2f, want %.2f", what, key, limit, got, want)
	}
}

// bubble runs a story in virtual time.
func bubble(t *testing.T, story func(t *testing.T, net *memnet.Network)) {
	synctest.Test(t, func(t *testing.T) {
		story(t, memnet.New(1))
		time.Sleep(5 * time.Minute) // memberlist's last timers
	})
}

// A restart takes nothing away and gives nothing but the time that passed.
func TestACleanRestartKeepsLevelsSlotsAndTime(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		m := newLife(t, net, 0, t.TempDir())
		m.start()
		m.take("hourly", "alice", 600)
		m.take("slow", "bob", 90)
		m.take("hourly", "carol", 7)
		m.Credit("hourly", "carol", 3)
		before, _ := m.Look("hourly", "carol")
		m.stop()
		time.Sleep(time.Hour)
		m.start()
		m.expect("an hour later", "hourly", "alice", 500, 0.2)
		m.expect("full again", "slow", "bob", 100, 0)
		b, _ := m.Look("hourly", "carol")
		if len(b.Slots) != 1 || b.Slots[0] != before.Slots[0] {
			t.Errorf("slots %+v, before %+v", b.Slots, before.Slots)
		}
		m.take("hourly", "alice", 100)
		if b, _ := m.Look("hourly", "alice"); len(b.Slots) != 2 {
			t.Errorf("a new start writes into a slot of its own: %+v", b.Slots)
		}
		for range 3 { // and again: nothing is paid twice
			m.stop()
			time.Sleep(36 * time.Second) // a token
			m.start()
		}
		m.expect("after four restarts", "hourly", "alice", 403, 0.5)
		m.stop()
	})
}

// kill -9 loses what was taken since the last round, and no more.
func TestACrashLosesAtMostOneInterval(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		m := newLife(t, net, 0, t.TempDir())
		m.start()
		m.take("hourly", "alice", 500)
		time.Sleep(m.cfg.Persist.SnapshotEvery * 5 / 4)
		m.take("hourly", "alice", 100)
		m.take("hourly", "bob", 100)
		kill(m)
		m.start()
		m.expect("stored", "hourly", "alice", 500, 1)
		m.expect("since the last round", "hourly", "bob", 1000, 0)
		m.stop()
	})
}

// A file that was changed while the node was down succeeds the limits that its buckets obey,
// also if its version says that it is older: alone, a node is what its file says.
func TestAChangedFileResetsNoBucket(t *testing.T) {
	for name, version := range map[string]uint64{"newer": 2, "the same version": 1, "older": 0} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, net *memnet.Network) {
				m := newLife(t, net, 0, t.TempDir())
				m.start()
				m.take("hourly", "alice", 600)
				m.take("slow", "bob", 90)
				kill(m) // before any round …
				m.start()
				m.take("hourly", "alice", 600)
				m.take("slow", "bob", 90)
				time.Sleep(m.cfg.Persist.SnapshotEvery * 5 / 4)
				kill(m) // … and after one
				m.cfg.Limits = []crdt.Definition{definition(t, "hourly", 2000, "200/h"), definition(t, "slow", 100, "1/h"), definition(t, "new", 5, "1")}
				m.cfg.LimitsVersion = version
				time.Sleep(time.Hour)
				m.start()
				m.expect("an hour at the old rate", "hourly", "alice", 500, 1)
				m.expect("the same bucket, at another rate", "slow", "bob", 100, 0)
				m.take("new", "carol", 5)
				time.Sleep(6 * time.Minute)
				m.expect("a tenth of an hour at the new rate", "hourly", "alice", 520, 1)
				if m.Drift("hourly") {
					t.Error("the file is not in force")
				}
				m.stop()
			})
		})
	}
}

// What one node stored another one finds, with nothing on its disk.
func TestAnEmptyDiskIsFilledFromASharedStore(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		shared := newMemStore("kv")
		m := newLife(t, net, 0, t.TempDir())
		m.cfg.stores = &stores{primary: shared, shared: true}
		m.start()
		for i := range 300 {
			m.take("hourly", fmt.Sprint("key-", i), int64(1+i))
		}
		time.Sleep(10 * time.Minute)
		m.take("hourly", "late", 500)
		m.stop()
		time.Sleep(36 * time.Second)
		other := newLife(t, net, 1, t.TempDir())
		other.cfg.stores = &stores{primary: shared, shared: true}
		other.start()
		for i := range 300 {
			other.expect("restored", "hourly", fmt.Sprint("key-", i), math.Min(1000, float64(1000-1-i)+17.8), 1)
			if b, _ := other.Look("hourly", fmt.Sprint("key-", i)); len(b.Slots) != 1 || b.Slots[0].Taken != crdt.Milli(1+i)*crdt.Token {
				t.Fatalf("%+v", b)
			}
		}
		other.expect("restored", "hourly", "late", 501, 1)
		time.Sleep(6 * time.Minute)
		other.expect("on the clock that came with it", "hourly", "late", 511, 1)
		other.stop()
	})
}

// A damaged file costs what was in it, and not the start.
func TestADamagedSnapshotFileIsMovedAside(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		m := newLife(t, net, 0, t.TempDir())
		m.start()
		m.take("hourly", "alice", 600)
		m.stop()
		path := filepath.Join(m.cfg.DataDir, snapshotFile)
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
			t.Fatal(err)
		}
		m.start()
		m.expect("nothing is known", "hourly", "alice", 1000, 0)
		m.stop()
		if moved, _ := filepath.Glob(path + ".damaged*"); len(moved) != 1 || !strings.Contains(m.log.String(), filepath.Base(moved[0])) {
			t.Errorf("moved to %v; the log:\n%s", moved, m.log)
		}
	})
}

// While a store hangs the node says so and is not ready, but takes are answered; then it goes
// on without, and what the store says later still counts.
func TestAStoreThatHangsDelaysReadinessOnly(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		shared := newMemStore("kv")
		m := newLife(t, net, 0, t.TempDir())
		m.cfg.stores = &stores{primary: shared, shared: true}
		m.start()
		m.take("hourly", "alice", 600)
		m.stop()
		shared.hang(true)
		m.cfg.DataDir = t.TempDir()
		m.run()
		began := time.Now()
		time.Sleep(5 * time.Second)
		if ok, why := m.Ready(); ok || why != "restoring: 0 of 133 segments" {
			t.Errorf("%v: %q", ok, why)
		}
		if m.settled.Load() {
			t.Error("the file counts before the past is known")
		}
		m.take("slow", "bob", 1)
		if err := m.Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "restoring") {
			t.Errorf("a snapshot during restore: %v", err)
		}
		m.ready()
		if took := time.Since(began); took < restoreLimit-time.Second || took > restoreLimit+2*time.Second {
			t.Errorf("ready after %v", took)
		}
		m.expect("not known yet", "hourly", "alice", 1000, 0)
		shared.hang(false)
		time.Sleep(3 * time.Minute)
		m.expect("read later", "hourly", "alice", 406, 2)
		m.stop()
	})
}

// However nodes of a cluster stop and start, the refill clock is never ahead of the wall, and
// not behind either if all of them were down.
func TestRestartsNeverRunAheadOfTheWall(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		var ms []*life
		for i := range 3 {
			m := newLife(t, net, i, t.TempDir())
			if i > 0 {
				m.cfg.Join = []string{ms[0].addr}
			}
			ms = append(ms, m)
			m.start()
		}
		time.Sleep(time.Minute)
		began, zero := time.Now(), ms[0].refill.readings()
		check := func(what string, least time.Duration) {
			t.Helper()
			passed := time.Since(began)
			for _, m := range ms {
				for p := range crdt.Policies {
					r := time.Duration(m.refill.reading(crdt.Policy(p)) - zero[p])
					if r > passed+time.Second || r < least {
						t.Errorf("%s: %s's %v clock has run %v in %v, want at least %v", what, m.cfg.Node, crdt.Policy(p), r, passed, least)
					}
				}
			}
		}
		ms[1].take("hourly", "alice", 1000)
		time.Sleep(15 * time.Second)
		check("no fault", 14*time.Second)

		kill(ms[2]) // one falls; two go on
		time.Sleep(9 * time.Minute)
		ms[2].start()
		time.Sleep(time.Minute)
		lived := time.Since(began) * 2 / 3 // what the share clock runs at meanwhile
		check("one was down", lived)
		for _, m := range ms { // the share clock has missed a third of those minutes, and nobody makes up for it
			if r := time.Duration(m.refill.reading(crdt.Share) - zero[crdt.Share]); r > time.Since(began)-2*time.Minute {
				t.Errorf("%s's share clock has run %v in %v", m.cfg.Node, r, time.Since(began))
			}
		}
		for _, m := range ms {
			m.expect("one was down", "hourly", "alice", time.Since(began).Hours()*100, 1)
		}

		time.Sleep(15 * time.Second)
		before := ms[0].refill.readings()
		kill(ms...)
		time.Sleep(time.Hour)
		for _, m := range ms {
			m.run()
		}
		for _, m := range ms {
			m.ready()
		}
		time.Sleep(time.Minute)
		check("all were down", lived+time.Hour-5*time.Second) // TTL and all: an hour is less than any bucket is kept
		for p := range before {
			if r := time.Duration(ms[1].refill.reading(crdt.Policy(p)) - before[p]); r < time.Hour || r > time.Hour+2*time.Minute {
				t.Errorf("%v clock ran %v in an hour without nodes and a minute with", crdt.Policy(p), r)
			}
		}
		ms[0].expect("all were down", "hourly", "alice", time.Since(began).Hours()*100, 1)
		if s := ms[0].Stats(); s.FramesDropped["clock"] > 0 {
			t.Errorf("frames refused: %v", s.FramesDropped)
		}
		for _, m := range ms {
			m.stop()
		}
	})
}

package node

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/kv"
	"github.com/openclaw/edge/testnet/memnet"
)

const kvAllows = 1200 // calls in five minutes

// callers are nodes that take all the time, snapshot more often than they can pay, and share a KV.
func callers(t *testing.T, net *memnet.Network, count int) (ms []*lagging, server *kv.Server) {
	server = kv.New(kv.Config{Quota: kvAllows})
	for i := range count {
		m := newLagging(t, net, i, server)
		m.cfg.Persist.SnapshotEvery, m.cfg.Persist.ReconcileEvery = time.Second, 20*time.Second
		m.cfg.RoundRegion, m.cfg.RoundWAN, m.cfg.Tick = 500*time.Millisecond, 500*time.Millisecond, 100*time.Millisecond
		if i > 0 {
			m.cfg.Join = []string{ms[0].addr}
		}
		m.begin()
		ms = append(ms, m)
	}
	for _, m := range ms {
		m.ready()
	}
	return ms, server
}

var long = flag.Bool("long", false, "all stories of restarts and their calls of KV, not half of them, and of thirty nodes, not fifteen")

// Four nodes want more of KV than they may, and restart in every way, with their disks or
// without: no five minutes see more calls than Cloudflare allows.
func TestRestartsKeepToTheBudgetOfKV(t *testing.T) {
	for _, story := range []struct {
		name  string
		every time.Duration
		which func(n int) []int // restart at the n-th time
	}{
		{"one in a crash loop", 3 * time.Second, func(int) []int { return []int{2} }},
		{"one after the other", 9 * time.Second, func(n int) []int { return []int{n % 4} }},
		{"all at once", 40 * time.Second, func(int) []int { return []int{0, 1, 2, 3} }},
	} {
		for _, wiped := range []bool{false, true} {
			if wiped == (story.name == "one after the other") && !*long {
				continue
			}
			t.Run(fmt.Sprintf("%s, wiped=%v", story.name, wiped), func(t *testing.T) {
				bubble(t, func(t *testing.T, net *memnet.Network) {
					ms, server := callers(t, net, 4)
					time.Sleep(2 * time.Minute) // to have a burst each
					began, restarts := time.Now(), 0
					next := began
					for n := 0; time.Since(began) < 6*time.Minute; time.Sleep(500 * time.Millisecond) {
						for i, m := range ms {
							m.Take("hourly", fmt.Sprint("key-", i, n), 1)
						}
						if time.Now().Before(next) {
							continue
						}
						next = time.Now().Add(story.every)
						for _, i := range story.which(n) {
							ms[i].crash(wiped)
						}
						for _, i := range story.which(n) {
							ms[i].begin()
							restarts++
						}
						n++
					}
					stats := server.Stats()
					fullest := stats.Fullest(5 * time.Minute)
					t.Logf("%d restarts: %v, %d calls in the fullest five minutes", restarts, stats.Calls, fullest)
					if fullest > kvAllows {
						t.Errorf("%d calls in five minutes", fullest)
					}
					if fullest < 300 {
						t.Errorf("%d calls in five minutes: the test tests nothing", fullest)
					}
					for _, m := range ms {
						m.stop()
					}
				})
			})
		}
	}
}

// Many nodes lose their disks and start again at once. Each has its part of the budget, of thirty
// three calls until its restore is over; together they read all, and tell each other.
func TestManyNodesRestoreWithTheirShareOfCalls(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		const keys = 300
		count := 15
		if *long {
			count = 30
		}
		ms, server := callers(t, net, count)
		for k := range keys {
			ms[k%len(ms)].take("hourly", fmt.Sprint("key-", k), 40)
		}
		time.Sleep(10 * time.Second)
		for _, m := range ms {
			if err := m.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range ms {
			m.crash(true)
		}
		held, before, began := len(server.Dump()), server.Stats().Total(), time.Now()
		for _, m := range ms {
			m.begin()
		}
		for _, m := range ms {
			m.ready()
		}
		t.Logf("%d values in KV; all ready after %v and %d calls", held, time.Since(began), server.Stats().Total()-before)
		if took := time.Since(began); took > restoreLimit+5*time.Second {
			t.Errorf("ready after %v", took)
		}
		time.Sleep(5 * time.Second) // gossip
		lost := 0
		for _, m := range ms {
			for k := range keys {
				if got := m.taken(fmt.Sprint("key-", k)); got != 40 {
					lost++
				}
			}
		}
		if lost > 0 {
			t.Errorf("%d of %d buckets are not restored", lost, keys*len(ms))
		}
		if most := server.Stats().Fullest(5 * time.Minute); most > kvAllows {
			t.Errorf("%d calls in five minutes", most)
		}
		for _, m := range ms {
			m.stop()
		}
	})
}

// A node hears the newest incarnation of a member that it reaches, and nobody else.
func TestWhoIsHeard(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		a, b := newLife(t, net, 0, t.TempDir()), newLife(t, net, 1, t.TempDir())
		b.cfg.Join = []string{a.addr}
		a.start()
		b.start()
		time.Sleep(time.Second)
		old := uint64(b.writer)
		if !a.hears("edge-1", old) || a.hears("edge-1", old+1) || a.hears("edge-0", uint64(a.writer)) || a.hears("edge-2", old) {
			t.Error("while all is well")
		}
		a.settled.Store(false)
		if a.hears("edge-1", old) {
			t.Error("before the first sync")
		}
		a.settled.Store(true)
		net.Cut(a.addr, b.addr)
		time.Sleep(a.cfg.Lease + time.Second)
		if !a.hears("edge-1", old) {
			t.Error("a lease after the cut: what it stores is for after the heal")
		}
		net.Heal(a.addr, b.addr)
		kill(b)
		b.start()
		time.Sleep(time.Second)
		if a.hears("edge-1", old) || !a.hears("edge-1", uint64(b.writer)) {
			t.Error("after its restart")
		}
		b.stop()
		a.stop()
	})
}

// A side that is cut off goes on reading the store for two minutes after its start, in which the
// other side keeps what it has spent: none of that time is spent again.
func TestACutOffSideSpendsNoTimeOfTheStore(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		ms, _ := callers(t, net, 3)
		lone := ms[0]
		net.Cut(lone.addr, ms[1].addr)
		net.Cut(lone.addr, ms[2].addr)
		time.Sleep(2 * lone.cfg.Lease)
		began, before := time.Now(), lone.refill.reading(crdt.Share)
		for range 600 {
			for i, m := range ms {
				m.Take("hourly", fmt.Sprint("key-", i), 1)
			}
			time.Sleep(100 * time.Millisecond)
		}
		grown, share := time.Duration(lone.refill.reading(crdt.Share)-before), time.Since(began)/3
		if grown < share*98/100 || grown > share*102/100 {
			t.Errorf("its share clock grew by %v in a minute, a third is %v", grown, share)
		}
		for _, m := range ms {
			m.stop()
		}
	})
}

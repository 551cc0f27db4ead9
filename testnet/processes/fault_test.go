package processes

import (
	"slices"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
)

// KV fails, Redis takes over, KV comes back: takes are answered all the time, and the state says it.
func TestTheStoresFailInTurn(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Limits: limited(t, crdt.Share)})
	if w.stores.redis == nil {
		t.Skip("redis-server is not installed")
	}
	load := hot("g", 60)
	// One bucket is in one segment, which one of the nodes writes.
	onRedis := func() bool {
		return slices.ContainsFunc(w.names(), func(name string) bool { return w.State(name).Cluster.Store.FallbackActive })
	}
	run(t, w, second, load)
	do(t, w.Fault("kv", "500"))
	took := until(t, w, 15*second, "snapshots go to Redis", onRedis, load)
	do(t, w.Fault("kv", ""))
	back := until(t, w, 30*second, "snapshots go to KV", func() bool { return !onRedis() }, load)
	t.Logf("on Redis after %v, back after %v", took, back)
	for _, fault := range []string{"down", "hang", "empty", "down", ""} {
		do(t, w.Fault("redis", fault))
		run(t, w, 200*time.Millisecond, load)
	}
	if err := w.stores.redis.Do("PING"); err != nil {
		t.Errorf("healed, and Redis says %v", err)
	}
	judged(t, w, judge.Laws{Delay: delay})
}

// What is done to a link is seen in the round trips, and by who hears whom.
func TestLinksAreAsTheyAreSet(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Limits: limited(t, crdt.Quorum), Delay: wide})
	rtt := func(from, to string) time.Duration {
		for _, m := range w.State(from).Cluster.Members {
			if m.Node == to {
				return time.Duration(m.RTTMS * float64(time.Millisecond))
			}
		}
		return 0
	}
	reachable := func(name string, n int) func() bool {
		return func() bool { return w.State(name).Cluster.ReachableMembers == n }
	}
	between := func(from, to string, least, most time.Duration) func() bool {
		return func() bool { d := rtt(from, to); return d >= least && d <= most }
	}
	until(t, w, 5*second, "eu sees us 40 ms away", between("eu-1", "us-1", 38*time.Millisecond, 100*time.Millisecond))
	do(t, w.Link([]string{"us-1"}, []string{"eu-1"}, memnet.Link{Delay: 150 * time.Millisecond, Duplicate: 0.5}))
	until(t, w, 5*second, "eu sees us 170 ms away", between("eu-1", "us-1", 160*time.Millisecond, 250*time.Millisecond))
	if d := rtt("eu-1", "ap-1"); d > 100*time.Millisecond {
		t.Errorf("nothing was done to the link from eu to ap, and eu sees it %v away", d)
	}
	do(t, w.Link([]string{"ap-1"}, []string{"eu-1", "us-1"}, memnet.Link{Loss: 1}))
	until(t, w, lease+2*second, "nobody hears ap", reachable("eu-1", 2))
	if s := w.links.fronts[0].Stats(); s.Doubled == 0 || s.Doubled >= s.Forwarded/2 {
		t.Errorf("half of what us sends to eu comes twice, and only that: %+v", s)
	}
	do(t, w.Heal(w.names(), w.names()))
	until(t, w, 10*second, "all hear all", reachable("eu-1", 3))
	until(t, w, 5*second, "the old delay", between("eu-1", "us-1", 38*time.Millisecond, 100*time.Millisecond))

	do(t, w.Cut([]string{"ap-1"}, []string{"eu-1", "us-1"}))
	do(t, w.Link([]string{"ap-1"}, []string{"eu-1", "us-1"}, memnet.Link{Delay: time.Millisecond}))
	until(t, w, lease+2*second, "what is cut stays cut", reachable("eu-1", 2))
	do(t, w.Heal([]string{"eu-1"}, []string{"ap-1"}))
	until(t, w, 10*second, "eu hears ap again", reachable("eu-1", 3))
}

// A new file through one node holds on all, and at the next start; a pause is one node's.
func TestAReloadAndAPause(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Limits: limited(t, crdt.Quorum)})
	load := hot("g", 60)
	run(t, w, second, load)
	limits := w.Limits()
	limits[0].Rate = rate(t, "40")
	do(t, w.Reload("us-1", limits))
	configured := func(rate float64) func() bool {
		return func() bool {
			return !slices.ContainsFunc(w.names(), func(name string) bool { return w.State(name).Limits["g"].Configured != rate })
		}
	}
	until(t, w, 5*second, "the new rate holds everywhere", configured(40), load)
	do(t, w.Crash("eu-1"))
	do(t, w.Start("eu-1"))
	until(t, w, 15*second, "eu is back", func() bool { return w.State("eu-1").Ready }, load)
	until(t, w, 5*second, "the new rate still holds", configured(40), load)

	limits[0].Capacity = 0
	if err := w.Reload("us-1", limits); err == nil || w.Limits()[0].Capacity == 0 {
		t.Errorf("a capacity of none was taken: %v", err)
	}
	do(t, w.Pause("ap-1", true))
	until(t, w, 5*second, "ap's refill stands still", func() bool { return refill(w, "ap-1") == 0 && refill(w, "us-1") > 0.97 }, load)
	do(t, w.Pause("ap-1", false))
	until(t, w, 5*second, "ap refills again", func() bool { return refill(w, "ap-1") > 0.97 }, load)
	judged(t, w, judge.Laws{Delay: delay})
	var kinds []judge.Kind
	for _, e := range w.Observed().Events {
		kinds = append(kinds, e.Kind)
	}
	if want := []judge.Kind{judge.Reload, judge.Crash, judge.Start, judge.Pause, judge.Pause}; !slices.Equal(kinds, want) {
		t.Errorf("noted %v, want %v", kinds, want)
	}
}

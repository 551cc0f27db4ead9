package process

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/netns"
)

// The lease is the default one; the promises of design.md, section 9, are multiples of it.
const lease = 3 * time.Second

const guarded = ", on_partition: %s, backup: {capacity: 10, refill_rate: 1}"

// island is a cluster whose nodes live on machines of their own.
type island struct {
	*netns.InTest
	nodes []*Node
}

func islands(t *testing.T, n int, config string) *island {
	t.Helper()
	is := &island{InTest: netns.Start(t, n)}
	for i := range n {
		o := Options{
			Node: fmt.Sprintf("edge-%d", i+1), Region: "eu", Config: config, Log: "info",
			Host: is.Addr(i), Gossip: is.Addr(i) + ":7946", Wrap: []string{"ip", "netns", "exec", is.Name(i)},
		}
		if i > 0 {
			o.Join = []string{is.Addr(0) + ":7946"}
		}
		is.nodes = append(is.nodes, Start(t, o))
	}
	whole(t, is.nodes)
	return is
}

// watch samples what the nodes together add to a policy's refill clock, until stopped.
type watch struct {
	policy  string
	nodes   []*Node
	stop    chan struct{}
	done    sync.WaitGroup
	samples []grown
}

// grown is what each node had added at its own time of answering; both in ms.
type grown struct{ at, own []float64 }

func watching(policy string, nodes []*Node) *watch {
	w := &watch{policy: policy, nodes: nodes, stop: make(chan struct{})}
	w.done.Go(func() {
		g := grown{make([]float64, len(nodes)), make([]float64, len(nodes))}
		for {
			select {
			case <-w.stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			for i, n := range w.nodes {
				var c clusterBody
				if n.Get("/v1/cluster", &c) {
					g.at[i], g.own[i] = c.TimeMS, c.Policies[w.policy].OwnMS
				}
			}
			w.samples = append(w.samples, grown{slices.Clone(g.at), slices.Clone(g.own)})
		}
	})
	return w
}

// fastest is the highest speed of all sides together over any 5 s: the sum of what each node
// added in its own 5 s.
func (w *watch) fastest() (most float64) {
	close(w.stop)
	w.done.Wait()
	for i, a := range w.samples {
		for _, b := range w.samples[i+1:] {
			if b.at[0]-a.at[0] < 5000 {
				continue
			}
			sum := 0.0
			for k := range a.at {
				if span := b.at[k] - a.at[k]; span > 0 {
					sum += (b.own[k] - a.own[k]) / span
				}
			}
			most = max(most, sum)
			break
		}
	}
	return most
}

func refillRate(n *Node) float64 { return n.Metric(`openclaw_token_bucket_refill_rate{bucket="g"}`) }

// meanRefillRate is the mean of two seconds: a machine that stands still for a moment shows in one
// reading, and in the next the other way round.
func meanRefillRate(n *Node) float64 {
	const readings = 20
	sum := 0.0
	for range readings {
		time.Sleep(100 * time.Millisecond)
		sum += refillRate(n)
	}
	return sum / readings
}

// One of three is cut off: its refill rate falls, it is not ready, its backup serves; the
// others refill in full; together they never refill more than the rate, nor admit more than
// the limit; after the heal all is as before, without help.
func TestOneOfThreeIsCutOff(t *testing.T) {
	t.Parallel()
	type cut struct {
		name   string
		policy string
		lasts  time.Duration
		sever  func(is *island)
		long   bool
	}
	both := func(is *island) { is.Cut(0, 2); is.Cut(1, 2) }
	out := func(is *island) { is.CutOneWay(2, 0); is.CutOneWay(2, 1) }
	in := func(is *island) { is.CutOneWay(0, 2); is.CutOneWay(1, 2) }
	for _, c := range []cut{
		{"quorum, both ways, 5 s", "quorum", 5 * time.Second, both, false},
		{"quorum, both ways, 20 s", "quorum", 20 * time.Second, both, false},
		{"quorum, both ways, 90 s", "quorum", 90 * time.Second, both, true},
		{"quorum, one way out, 5 s", "quorum", 5 * time.Second, out, false},
		{"quorum, one way out, 20 s", "quorum", 20 * time.Second, out, false},
		{"quorum, one way out, 90 s", "quorum", 90 * time.Second, out, true},
		{"quorum, one way in, 20 s", "quorum", 20 * time.Second, in, false},
		{"share, both ways, 20 s", "share", 20 * time.Second, both, false},
		{"share, both ways, 90 s", "share", 90 * time.Second, both, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && !*long {
				t.Log("takes minutes: run with -long")
				return
			}
			t.Parallel()
			is := islands(t, 3, limits(100, 100, fmt.Sprintf(guarded, c.policy)))
			a, lone := is.nodes[0], is.nodes[2]
			l := (&Load{Nodes: is.nodes, Limit: "g", Key: "hot", PerNode: 150}).Begin()
			w := watching(c.policy, is.nodes)
			time.Sleep(2 * time.Second)
			c.sever(is)
			since := time.Now()
			if c.policy == "quorum" {
				lone.Eventually(lease+time.Second, "loses its refill", func() bool { return refillRate(lone) < 20 })
				t.Logf("cut-off side below 20 %% after %v", time.Since(since))
				lone.Eventually(lease+time.Second, "is not ready", func() bool { return lone.Status("/readyz") == 503 })
				a.Eventually(time.Until(since.Add(lease+lease/2+time.Second)), "refills in full", func() bool { return time.Since(since) > lease && refillRate(a) > 97 })
				t.Logf("other side above 97 %% after %v", time.Since(since))
			}
			time.Sleep(time.Until(since.Add(c.lasts)))
			for range 100 {
				a.Take("g", "left")
				lone.Take("g", "left")
			}
			is.Heal()
			healed := time.Now()
			whole(t, is.nodes)
			t.Logf("whole again after %v", time.Since(healed))
			same(t, is.nodes, "left", 15*time.Second)
			a.Eventually(time.Until(healed.Add(time.Since(healed)+2*time.Second+time.Second)), "has a full bucket left alone", func() bool {
				var b bucketBody
				return a.Get("/v1/buckets/g/left", &b) && b.Tokens == 100
			})
			time.Sleep(time.Second)
			ran := l.Stop()
			t.Logf("buckets equal %v after the load", same(t, is.nodes, "hot", 15*time.Second))
			if d := time.Since(healed); d > 15*time.Second {
				t.Errorf("whole and equal only after %v", d)
			}
			share := float64(l.Admitted.Load()) / (100 + 100*ran.Seconds())
			fastest := w.fastest()
			t.Logf("admitted %.4f of the ideal, by backup %d; fastest 5 s: %.4f of the rate", share, l.Backup.Load(), fastest)
			if share > 1.05 {
				t.Errorf("admitted %.4f of the ideal, want at most 1.05", share)
			}
			if fastest > 1.02 {
				t.Errorf("refilled at %.4f of the rate over 5 s, want at most 1.02", fastest)
			}
			if served := l.Backup.Load() > 0; served != (c.policy == "quorum") {
				t.Errorf("backup served %d takes", l.Backup.Load())
			}
		})
	}
}

// Only the link between two of three is cut: nothing happens, as the third passes on.
func TestASingleLinkIsCut(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"quorum", "share"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			lasts := 20 * time.Second
			if *long {
				lasts = time.Minute
			}
			is := islands(t, 3, limits(100, 100, fmt.Sprintf(guarded, policy)))
			l := (&Load{Nodes: is.nodes, Limit: "g", Key: "hot", PerNode: 150}).Begin()
			w := watching(policy, is.nodes)
			time.Sleep(2 * time.Second)
			is.Cut(0, 1)
			end := time.Now().Add(lasts)
			time.Sleep(2 * lease)
			sum, reads := 0.0, 0.0
			for time.Now().Before(end) {
				for _, n := range is.nodes {
					sum += refillRate(n)
					reads++
				}
				time.Sleep(time.Second)
			}
			if sum/reads < 97 {
				t.Errorf("refills at %.1f in the mean", sum/reads)
			}
			is.Heal()
			whole(t, is.nodes)
			ran := l.Stop()
			same(t, is.nodes, "hot", 15*time.Second)
			share := float64(l.Admitted.Load()) / (100 + 100*ran.Seconds())
			fastest := w.fastest()
			t.Logf("admitted %.4f of the ideal; fastest 5 s: %.4f of the rate", share, fastest)
			if share > 1.05 || share < 0.95 {
				t.Errorf("admitted %.4f of the ideal, want 0.95 to 1.05", share)
			}
			if fastest > 1.02 {
				t.Errorf("refilled at %.4f of the rate over 5 s", fastest)
			}
		})
	}
}

// Two nodes: each side of a cut goes on at half the rate.
func TestTwoNodesShareThroughACut(t *testing.T) {
	t.Parallel()
	is := islands(t, 2, limits(100, 100, fmt.Sprintf(guarded, "quorum")))
	is.Cut(0, 1)
	time.Sleep(2 * lease)
	for _, n := range is.nodes {
		if r := meanRefillRate(n); r < 48 || r > 52 {
			t.Errorf("%s refills at %.1f, want 50", n.Node, r)
		}
		if s := n.Status("/readyz"); s != 200 {
			t.Errorf("%s: readiness %d", n.Node, s)
		}
	}
	is.Heal()
	whole(t, is.nodes)
}

// A crash of one of three is taken over.
func TestACrashIsTakenOver(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, limits(100, 100, fmt.Sprintf(guarded, "quorum")))
	w := watching("quorum", nodes)
	nodes[1].Kill()
	since := time.Now()
	for _, n := range []*Node{nodes[0], nodes[2]} {
		n.Eventually(time.Until(since.Add(lease+lease/2+time.Second)), "refills in full", func() bool { return time.Since(since) > lease && refillRate(n) > 97 })
	}
	t.Logf("taken over after %v", time.Since(since))
	time.Sleep(5 * time.Second)
	if f := w.fastest(); f > 1.02 {
		t.Errorf("refilled at %.4f of the rate over 5 s", f)
	}
}

// A node that restarts alone inside a minority knows that it is one of three.
func TestARestartInsideAMinority(t *testing.T) {
	t.Parallel()
	is := islands(t, 3, limits(100, 100, fmt.Sprintf(guarded, "quorum")))
	is.Cut(0, 2)
	is.Cut(1, 2)
	lone := is.nodes[2]
	lone.Kill()
	lone.Restart()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		var c clusterBody
		if !lone.Get("/v1/cluster", &c) || c.ExpectedMembers != 3 || c.Policies["quorum"].Speed > 0.2 || lone.Status("/readyz") != 503 {
			t.Fatalf("believes: %+v, readiness %d", c, lone.Status("/readyz"))
		}
	}
	is.Heal()
	whole(t, is.nodes)
}

// A process stopped for 10 s and resumed pays no arrears.
func TestAStoppedProcessPaysNoArrears(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, limits(100, 100, ""))
	own := func() float64 {
		var c clusterBody
		nodes[1].Get("/v1/cluster", &c)
		return c.Policies["quorum"].OwnMS
	}
	before, at := own(), time.Now()
	nodes[1].Pause()
	time.Sleep(10 * time.Second)
	nodes[1].Resume()
	whole(t, nodes)
	slept := 10 * time.Second
	grew, awake := own()-before, time.Since(at)-slept
	t.Logf("added %.0f ms in %v awake", grew, awake)
	if most := float64(awake.Milliseconds())/3 + 150; grew > most {
		t.Errorf("added %.0f ms in %v awake, want at most %.0f", grew, awake, most)
	}
}

// A paused refill daemon freezes that node's R, whatever its peers send; the others go on.
func TestAPausedDaemonFreezesItsNode(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, limits(100, 100, ""))
	l := (&Load{Nodes: nodes, Limit: "g", Key: "hot", PerNode: 50}).Begin()
	defer l.Stop()
	clock := func(n *Node) float64 {
		var c clusterBody
		n.Get("/v1/cluster", &c)
		return c.Policies["quorum"].ClockMS
	}
	if s := nodes[0].Post("/-/refill?paused=true"); s != 200 && s != 204 {
		t.Fatalf("pause: status %d", s)
	}
	before := clock(nodes[0])
	time.Sleep(3 * time.Second)
	if after := clock(nodes[0]); after != before {
		t.Errorf("R moved from %.0f to %.0f ms while paused", before, after)
	}
	if r := refillRate(nodes[0]); r > 1 {
		t.Errorf("paused node shows a refill of %.1f", r)
	}
	if r := meanRefillRate(nodes[1]); r < 97 {
		t.Errorf("its peer refills at %.1f", r)
	}
	nodes[0].Post("/-/refill?paused=false")
	nodes[0].Eventually(5*time.Second, "refills again", func() bool { return refillRate(nodes[0]) > 97 })
}

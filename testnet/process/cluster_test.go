package process

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

var long = flag.Bool("long", false, "also run what takes minutes: the 90 s cuts, and outages of a minute")

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	Cleanup()
	os.Exit(code)
}

// limits is a config of one limit "g" and what else is given.
func limits(capacity, rate int, more string) string {
	return fmt.Sprintf("version: 1\nlimits:\n  - {name: g, capacity: %d, refill_rate: %d%s}\n", capacity, rate, more)
}

// cluster starts n nodes in one region and waits until all see all.
func cluster(t *testing.T, n int, config string) []*Node {
	t.Helper()
	var nodes []*Node
	for i := range n {
		o := Options{Node: fmt.Sprintf("edge-%d", i+1), Region: "eu", Config: config}
		if i > 0 {
			o.Join = []string{nodes[0].Addresses.Gossip}
		}
		nodes = append(nodes, Start(t, o))
	}
	whole(t, nodes)
	return nodes
}

type clusterBody struct {
	TimeMS           float64 `json:"time_ms"`
	ExpectedMembers  int     `json:"expected_members"`
	ReachableMembers int     `json:"reachable_members"`
	Policies         map[string]struct {
		Speed   float64 `json:"speed"`
		ClockMS float64 `json:"clock_ms"`
		OwnMS   float64 `json:"own_ms"`
	} `json:"policies"`
}

// whole waits until every node reaches every other and the refill clocks run at full speed.
func whole(t *testing.T, nodes []*Node) time.Duration {
	t.Helper()
	start := time.Now()
	for _, n := range nodes {
		n.Ready(20 * time.Second)
		n.Eventually(20*time.Second, "sees a whole cluster", func() bool {
			var c clusterBody
			return n.Get("/v1/cluster", &c) && c.ExpectedMembers == len(nodes) && c.ReachableMembers == len(nodes) && c.Policies["quorum"].Speed > 0.97
		})
	}
	return time.Since(start)
}

type bucketBody struct {
	Tokens float64 `json:"tokens"`
	Debt   float64 `json:"debt"`
	Slots  []struct {
		Node, Writer    string
		Taken, Credited float64
	} `json:"slots"`
}

func (b *bucketBody) takenBy(node string) (sum float64) {
	for _, s := range b.Slots {
		if s.Node == node {
			sum += s.Taken
		}
	}
	return sum
}

// A take on one node is seen by the others within 150 ms, in the median of 100 tries; then
// all show the same slots and level.
func TestATakeIsSeenEverywhere(t *testing.T) {
	nodes := cluster(t, 3, limits(1000, 1, ""))
	var delays []time.Duration
	for i := range 100 {
		from, to := nodes[i%3], nodes[(i+1)%3]
		var before, b bucketBody
		from.Get("/v1/buckets/g/alice", &before)
		if _, ok := from.Take("g", "alice"); !ok {
			t.Fatal("no answer")
		}
		want := before.takenBy(from.Node) + 1
		delays = append(delays, to.Eventually(5*time.Second, "sees the take", func() bool {
			return to.Get("/v1/buckets/g/alice", &b) && b.takenBy(from.Node) >= want
		}))
	}
	slices.Sort(delays)
	t.Logf("seen by the next node after %v in the median, %v at most", delays[50], delays[99])
	if delays[50] > 150*time.Millisecond {
		t.Errorf("median %v, want at most 150 ms", delays[50])
	}
	same(t, nodes, "alice", time.Second)
}

// same waits until all nodes show the same slots and level of a key.
func same(t *testing.T, nodes []*Node, key string, within time.Duration) time.Duration {
	t.Helper()
	show := func(n *Node) string {
		var b bucketBody
		if !n.Get("/v1/buckets/g/"+key, &b) {
			return n.Node + " does not answer"
		}
		slices.SortFunc(b.Slots, func(x, y struct {
			Node, Writer    string
			Taken, Credited float64
		}) int {
			return slices.Compare([]string{x.Node, x.Writer}, []string{y.Node, y.Writer})
		})
		return fmt.Sprintf("%.0f tokens, %v", b.Tokens, b.Slots)
	}
	return nodes[0].Eventually(within, "agrees with the others on "+key, func() bool {
		first := show(nodes[0])
		return !slices.ContainsFunc(nodes[1:], func(n *Node) bool { return show(n) != first })
	})
}

// The limit holds globally: three nodes, each offered three times the rate.
func TestTheLimitIsGlobal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		capacity    int
		regions     int
		each        int
		delay       time.Duration
		least, most float64
	}{
		{"three nodes", 100, 1, 3, 0, 0.97, 1.02},
		{"three regions 80 ms apart", 100, 3, 1, 80 * time.Millisecond, 0.95, 1.05},
		{"nine nodes in three regions 80 ms apart", 100, 3, 3, 80 * time.Millisecond, 0.95, 1.08},
		{"capacity 10", 10, 1, 3, 0, 0, 1.05},
		{"capacity 1", 1, 1, 3, 0, 0, 1.05},
		{"capacity 10, 80 ms apart", 10, 3, 1, 80 * time.Millisecond, 0, 1.05},
		{"capacity 1, 80 ms apart", 1, 3, 1, 80 * time.Millisecond, 0, 1.05},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nodes := distant(t, c.regions, c.each, c.delay, 0, limits(c.capacity, 100, ""))
			l := (&Load{Nodes: nodes, Limit: "g", Key: "hot", PerNode: 300, For: 20 * time.Second}).Begin().Wait()
			ideal := float64(c.capacity) + 100*20
			share := float64(l.Admitted.Load()) / ideal
			t.Logf("%d admitted of an ideal %.0f: %.4f (refused %d, unserved %d)", l.Admitted.Load(), ideal, share, l.Refused.Load(), l.Unserved.Load())
			if share < c.least || share > c.most {
				t.Errorf("%.4f of the ideal, want %.2f to %.2f", share, c.least, c.most)
			}
			if l.Unserved.Load() > 0 {
				t.Errorf("%d takes without an answer", l.Unserved.Load())
			}
		})
	}
}

// Lawful traffic is served: 0.8 of the rate, spread over the nodes, capacity of half a
// second of refill.
func TestLawfulTrafficIsServed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		delay time.Duration
		loss  float64
	}{{"loopback", 0, 0}, {"150 ms one way, 5 % loss", 150 * time.Millisecond, 0.05}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nodes := distant(t, 3, 1, c.delay, c.loss, limits(50, 100, ""))
			l := (&Load{Nodes: nodes, Limit: "g", Key: "lawful", PerNode: 80.0 / 3, For: 30 * time.Second}).Begin().Wait()
			share := float64(l.Refused.Load()) / float64(l.Refused.Load()+l.Admitted.Load())
			t.Logf("%d admitted, %d refused: %.3f %%", l.Admitted.Load(), l.Refused.Load(), 100*share)
			if share > 0.001 {
				t.Errorf("%.3f %% refused, want at most 0.1 %%", 100*share)
			}
		})
	}
}

// A key used on one node only is exact to the token, whatever the others do.
func TestAKeyOnOneNodeIsExact(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, "version: 1\nlimits:\n  - {name: g, capacity: 100, refill_rate: 1/h}\n")
	admitted := 0
	for range 150 {
		if b, _ := nodes[1].Take("g", "mine"); b.Allowed {
			admitted++
		}
	}
	if admitted != 100 {
		t.Errorf("%d admitted, want 100", admitted)
	}
	for _, n := range nodes {
		n.Eventually(time.Second, "is dry", func() bool {
			var b bucketBody
			return n.Get("/v1/buckets/g/mine", &b) && b.Tokens == 0 && b.Debt == 0
		})
		if b, _ := n.Take("g", "mine"); b.Allowed {
			t.Errorf("%s admitted a 101st take", n.Node)
		}
	}
}

// A node is restarted under load: the cluster admits what it should.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		stop func(n *Node)
	}{{"SIGTERM", func(n *Node) { n.Stop() }}, {"kill -9", (*Node).Kill}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nodes := cluster(t, 3, limits(100, 100, ""))
			l := (&Load{Nodes: nodes[:2], Limit: "g", Key: "hot", PerNode: 300}).Begin()
			third := (&Load{Nodes: nodes[2:], Limit: "g", Key: "hot", PerNode: 300}).Begin()
			time.Sleep(8 * time.Second)
			third.Stop()
			c.stop(nodes[2])
			nodes[2].Restart()
			nodes[2].Ready(20 * time.Second)
			again := (&Load{Nodes: nodes[2:], Limit: "g", Key: "hot", PerNode: 300}).Begin()
			time.Sleep(20 * time.Second)
			ran := l.Stop()
			again.Stop()
			admitted := l.Admitted.Load() + third.Admitted.Load() + again.Admitted.Load()
			ideal := 100 + 100*ran.Seconds()
			share := float64(admitted) / ideal
			t.Logf("%d admitted of an ideal %.0f: %.4f", admitted, ideal, share)
			if share < 0.97 || share > 1.03 {
				t.Errorf("%.4f of the ideal, want 0.97 to 1.03", share)
			}
		})
	}
}

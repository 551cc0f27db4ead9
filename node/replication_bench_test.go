package node

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
)

// BenchmarkReplication offers 20,000 takes a second, each on another key than the 99,999
// before it, to three nodes on loopback: all to one of them, or to each in turn. An operation
// is a second of that. What matters is in the metrics:
//
//	lag-ms        median of the age of the oldest change that a peer lacks, over all pairs
//	late-lag-ms   the same over the last third: it must not have grown
//	worst-lag-ms  the highest seen
//	B/change      bytes of frames for one change to one peer, everything included
//	resent-%      of the changes sent, those sent again
//	cpu-%         of one core: the three nodes and the load together
//	behind        takes that the load could not offer in time
//
//	go test -run - -bench Replication -benchtime 15x ./node
func BenchmarkReplication(b *testing.B) {
	for _, to := range []int{1, 3} {
		b.Run(fmt.Sprintf("to=%d", to), func(b *testing.B) {
			nodes := mesh(b, 3)
			offered := 0
			before, cpu, began := spent(nodes), cpuTime(), time.Now()
			var lags []time.Duration
			for b.Loop() {
				for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
					due := min(int(time.Since(began)*replicated/time.Second), offered+replicated/10)
					for ; offered < due; offered++ {
						nodes[offered%to].Take("per-user", fmt.Sprintf("key-%012d", offered%100_000), 1)
					}
					lags = append(lags, worstLag(nodes))
				}
			}
			wall := time.Since(began)
			cpu = cpuTime() - cpu
			eventually(b, "all replicated", func() bool { return worstLag(nodes) == 0 })
			sameEverywhere(b, nodes, fmt.Sprintf("key-%012d", (offered-1)%100_000))
			used := spent(nodes)
			late := slices.Clone(lags[len(lags)*2/3:])
			for _, l := range [][]time.Duration{lags, late} {
				slices.Sort(l)
			}
			b.ReportMetric(lags[len(lags)/2].Seconds()*1e3, "lag-ms")
			b.ReportMetric(late[len(late)/2].Seconds()*1e3, "late-lag-ms")
			b.ReportMetric(lags[len(lags)-1].Seconds()*1e3, "worst-lag-ms")
			b.ReportMetric(float64(used.bytes-before.bytes)/float64(2*offered), "B/change")
			b.ReportMetric(100*float64(used.resent-before.resent)/float64(2*offered), "resent-%")
			b.ReportMetric(100*cpu.Seconds()/wall.Seconds(), "cpu-%")
			b.ReportMetric(wall.Seconds()*replicated-float64(offered), "behind")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// replicated is how many changes a second are promised.
const replicated = 20_000

// mesh starts nodes that know each other.
func mesh(b *testing.B, count int) []running {
	var nodes []running
	for i := range count {
		c := testConfig(b)
		c.Node = fmt.Sprintf("edge-%d", i+1)
		c.Limits = []crdt.Definition{{Name: "per-user", Capacity: 1_000_000 * crdt.Token, Rate: mustRate(b, "10"), MaxBuckets: 1_000_000}}
		if i > 0 {
			c.Join = []string{nodes[0].gossipAddr()}
		}
		nodes = append(nodes, startNode(b, c))
	}
	eventually(b, "all members", func() bool {
		return !slices.ContainsFunc(nodes, func(n running) bool { return n.Stats().AliveMembers < count })
	})
	return nodes
}

func worstLag(nodes []running) (worst time.Duration) {
	for _, n := range nodes {
		v := n.gossip.View()
		for i := range v.Members {
			if v.Members[i].Node != v.Self {
				worst = max(worst, v.Members[i].Lag)
			}
		}
	}
	return worst
}

type traffic struct{ bytes, resent uint64 }

func spent(nodes []running) (sum traffic) {
	for _, n := range nodes {
		s := n.gossip.Stats()
		sum.bytes += s.BytesOut
		sum.resent += s.Resent
	}
	return sum
}

func sameEverywhere(b *testing.B, nodes []running, key string) {
	for _, n := range nodes {
		if look, err := n.Look("per-user", key); err != nil || len(look.Slots) == 0 {
			b.Errorf("%s does not know %s: %v", n.cfg.Node, key, err)
		}
	}
}

// cpuTime is what this process has used of the cores.
func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

package node

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkScrape is a scrape's walk over a million buckets, while another goroutine takes
// and times each of its takes: ns/op is the scrape, the rest are takes meanwhile. The slowest
// holds whatever else kept the core busy; idle-worst-ns is the same without scrapes. A take can
// wait for one stride of the walk.
func BenchmarkScrape(b *testing.B) {
	n := quietNode(b, 100, "10", 2_000_000)
	keys := benchKeys(1_000_000)
	for _, k := range keys {
		n.Take("bench", k, 1)
	}
	idle := timeTakes(n, keys, func() { time.Sleep(time.Second) })
	var walks []time.Duration
	busy := timeTakes(n, keys, func() {
		for b.Loop() {
			began := time.Now()
			n.Stats()
			walks = append(walks, time.Since(began))
		}
	})
	slices.Sort(walks)
	b.ReportMetric(walks[len(walks)/2].Seconds()*1e3, "median-ms")
	for name, at := range map[string]float64{"median-ns": 0.5, "p99.9-ns": 0.999, "worst-ns": 1} {
		i := int(float64(len(busy)-1) * at)
		b.ReportMetric(float64(busy[i].Nanoseconds()), "take-"+name)
		i = int(float64(len(idle)-1) * at)
		b.ReportMetric(float64(idle[i].Nanoseconds()), "idle-"+name)
	}
}

// timeTakes takes while f runs, and returns how long each take took, sorted.
func timeTakes(n *Node, keys []string, f func()) []time.Duration {
	stop, took := make(chan struct{}), make(chan []time.Duration)
	go func() {
		ds := make([]time.Duration, 0, 1<<22)
		for i := 0; len(ds) < cap(ds); i += 7919 {
			select {
			case <-stop:
				took <- ds
				return
			default:
			}
			began := time.Now()
			n.Take("bench", keys[i%len(keys)], 1)
			ds = append(ds, time.Since(began))
		}
		<-stop
		took <- ds
	}()
	f()
	close(stop)
	ds := <-took
	slices.Sort(ds)
	return ds
}

package gossip_test

import (
	"context"
	"testing"
	"time"

	"github.com/openclaw/edge/gossip"
)

// BenchmarkReplication changes items on three nodes over loopback sockets, as fast as they
// take it or at 20,000 a second, and reports what a change costs.
func BenchmarkReplication(b *testing.B) {
	for name, perMilli := range map[string]int{"20000 a second": 20, "flat out": 0} {
		b.Run(name, func(b *testing.B) { replicate(b, perMilli) })
	}
}

func replicate(b *testing.B, perMilli int) {
	var gs []*gossip.Gossip
	var toys []*toy
	for i := range 3 {
		s := newToy()
		cfg := gossip.Config{Cluster: "bench", Node: string(rune('a' + i)), Region: "here", Writer: uint64(i + 1),
			Bind: "127.0.0.1:0", State: s, Logger: quiet()}
		if i > 0 {
			cfg.Seeds = []string{gs[0].Addr()}
		}
		g, err := gossip.New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		b.Cleanup(func() { cancel(); <-done })
		<-g.Started()
		for g.View().Phase != gossip.Synced {
			time.Sleep(time.Millisecond)
		}
		gs, toys = append(gs, g), append(toys, s)
	}
	wait := func(n int) {
		for _, s := range toys {
			for s.len() < n {
				time.Sleep(time.Millisecond)
			}
		}
	}
	b.ReportAllocs()
	var worst time.Duration
	start := time.Now()
	for i := range b.N {
		toys[i%3].set(uint32(i), 1)
		if perMilli > 0 && i%perMilli == 0 {
			time.Sleep(time.Until(start.Add(time.Duration(i/perMilli) * time.Millisecond)))
			for _, m := range gs[0].View().Members {
				worst = max(worst, m.Lag)
			}
		}
	}
	wait(b.N)
	elapsed := time.Since(start)
	var bytes, frames uint64
	for _, g := range gs {
		s := g.Stats()
		bytes, frames = bytes+s.BytesOut, frames+s.FramesSent
	}
	b.ReportMetric(float64(b.N)/elapsed.Seconds(), "changes/s")
	b.ReportMetric(float64(bytes)/float64(b.N)/2, "B/change/peer")
	b.ReportMetric(float64(worst.Milliseconds()), "ms-worst-lag")
	b.ReportMetric(float64(frames), "frames")
}

func (s *toy) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.keys)
}

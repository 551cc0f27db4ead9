package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
)

// Decisions a second of Envoy's service over loopback, the client in the same process and on the
// same processors: of many callers on two connections, as Envoy's workers are, each of one or of several descriptors.
// decisions/cpu-s is what one processor does in a second, both ends included.
//
//	go test -run - -bench EnvoyService -benchtime 3s -cpu 2 ./node
func BenchmarkEnvoyService(b *testing.B) {
	for _, descriptors := range []int{1, 4, 20} {
		b.Run(fmt.Sprintf("descriptors=%d", descriptors), func(b *testing.B) {
			const callers = 128
			n := envoyBench(b)
			q := userAlice()
			for i := 1; i < descriptors; i++ {
				q.Descriptors = append(q.Descriptors, descriptor("user", fmt.Sprint("user-", i)))
			}
			askers := []asker{newAsker(b, n), newAsker(b, n)}
			began := processorTime(b)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var g sync.WaitGroup
			for i := range callers {
				g.Go(func() {
					for left.Add(-1) >= 0 {
						if r, err := askers[i%2].ShouldRateLimit(b.Context(), q); err != nil || len(r.Statuses) != descriptors {
							b.Error(err)
							return
						}
					}
				})
			}
			g.Wait()
			b.ReportMetric(float64(b.N*descriptors)/b.Elapsed().Seconds(), "decisions/s")
			b.ReportMetric(float64(b.N*descriptors)/(processorTime(b)-began).Seconds(), "decisions/cpu-s")
		})
	}
}

// processorTime is what this process has used of all processors: on a busy machine the measure
// that still tells something.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What the service itself costs, without the network.
func BenchmarkShouldRateLimit(b *testing.B) {
	n, err := New(envoyBenchConfig(b))
	if err != nil {
		b.Fatal(err)
	}
	s, err := newServer(n)
	if err != nil {
		b.Fatal(err)
	}
	q := userAlice()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.envoy.ShouldRateLimit(b.Context(), q); err != nil {
			b.Fatal(err)
		}
	}
}

func envoyBench(b *testing.B) running { return startNode(b, envoyBenchConfig(b)) }

func envoyBenchConfig(b *testing.B) Config {
	c := envoyConfig(b)
	c.Limits[0].Capacity = crdt.MaxCapacity
	return c
}

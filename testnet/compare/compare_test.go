// Package compare measures this project's take beside those of well-known
// limiters of one process, in the same run. It is a module of its own, so that
// the product does not depend on them.
//
//	go test -bench=Take -benchtime=200ms -count=6     (some ten minutes)
//	go test -bench=BytesPerLiveKey
//
// Names of results are keys=K/answer=A/limiter=L/cores=C: benchstat -col
// /limiter puts the limiters side by side. What differs beyond speed: the
// others read the clock at every take and count for one process; ours reads
// the refill clock, which the refill daemon moves, and counts for a cluster.
package compare

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// take spends one token of the key with that index and says whether it was admitted.
type take func(key int) bool

// rules of the one limit under test, the same for all.
type rules struct {
	capacity  int // tokens
	perSecond int // 0: one token an hour
}

// answers that every take of a benchmark gets.
var answers = []struct {
	name   string
	admits bool
	rules  rules
}{
	{"admitted", true, rules{capacity: 1_000_000_000, perSecond: 1_000_000}}, // never dry
	{"refused", false, rules{capacity: 1}},                                   // dry after the first take
}

// limiters by the name in the results. Each makes a limiter without any key.
var limiters = []struct {
	name string
	make func(tb testing.TB, r rules, keys []string) take
}{
	{"ours", ours},
	{"x-rate", xRate},
	{"go-limiter", goLimiter},
	{"throttled", throttledGCRA},
}

// draws is how many keys are drawn in advance; a power of two.
const draws = 1 << 20

// shapes of traffic: how many keys live, and which take comes next.
var shapes = []struct {
	name  string
	count int
	draw  func(r *rand.Rand, count int) func() int
}{
	{"hot", 1, func(*rand.Rand, int) func() int { return func() int { return 0 } }},
	{"10k", 10_000, func(r *rand.Rand, count int) func() int { return func() int { return r.IntN(count) } }},
	{"1m-zipf", 1_000_000, func(r *rand.Rand, count int) func() int {
		z := rand.NewZipf(r, 1.1, 1, uint64(count-1))
		return func() int { return int(z.Uint64()) }
	}},
}

// names are keys of 16 bytes; which are popular has nothing to do with their order.
func names(count int) []string {
	keys := make([]string, count)
	for i := range keys {
		keys[i] = fmt.Sprintf("%016x", uint64(i)*0x9e3779b97f4a7c15)
	}
	return keys
}

func BenchmarkTake(b *testing.B) {
	for _, shape := range shapes {
		b.Run("keys="+shape.name, func(b *testing.B) {
			keys := names(shape.count)
			next := shape.draw(rand.New(rand.NewPCG(1, 2)), shape.count)
			order := make([]int32, draws)
			for i := range order {
				order[i] = int32(next())
			}
			for _, answer := range answers {
				for _, l := range limiters {
					b.Run("answer="+answer.name+"/limiter="+l.name, func(b *testing.B) {
						t := l.make(b, answer.rules, keys)
						for i := range keys { // every key lives; in a refusing one, it is dry now
							t(i)
						}
						runtime.GC()
						b.Run("cores=1", func(b *testing.B) { serial(b, t, order, answer.admits) })
						b.Run("cores=2", func(b *testing.B) { parallel(b, t, order, answer.admits) })
					})
				}
			}
		})
	}
}

func serial(b *testing.B, t take, order []int32, want bool) {
	b.ReportAllocs()
	wrong, i := 0, 0
	for b.Loop() {
		if t(int(order[i&(draws-1)])) != want {
			wrong++
		}
		i++
	}
	report(b, wrong)
}

func parallel(b *testing.B, t take, order []int32, want bool) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	b.ReportAllocs()
	var starts, wrong atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		i, bad := int(starts.Add(draws/3)), 0
		for pb.Next() {
			if t(int(order[i&(draws-1)])) != want {
				bad++
			}
			i++
		}
		wrong.Add(int64(bad))
	})
	report(b, int(wrong.Load()))
}

// report adds the share of takes not answered as the rules say, where there
// are any: fast and wrong is no speed. (throttled gives up with an error after
// ten lost races for a hot key.)
func report(b *testing.B, wrong int) {
	if wrong > 0 {
		b.ReportMetric(float64(wrong)/float64(b.N), "wrong/op")
	}
}

// BenchmarkBytesPerLiveKey is memory, not time: what a million live buckets
// hold after a collection, keys of 16 bytes included.
func BenchmarkBytesPerLiveKey(b *testing.B) {
	const count = 1_000_000
	for _, l := range limiters {
		b.Run("limiter="+l.name, func(b *testing.B) {
			keys := names(count)
			before := heap()
			own := make([]string, count) // what a request brings, and nobody else holds
			for i, k := range keys {
				own[i] = strings.Clone(k)
			}
			t := l.make(b, rules{capacity: 100}, own)
			for i := range own {
				t(i)
			}
			clear(own) // headers remain: 16 bytes a key, subtracted below
			after := heap()
			for b.Loop() {
				// Nothing to time: once through this function is enough.
			}
			b.ReportMetric(float64(after-before)/count-16, "B/key")
			b.ReportMetric(0, "ns/op")
			runtime.KeepAlive(keys)
			runtime.KeepAlive(own)
			runtime.KeepAlive(t)
		})
	}
}

// heap is what is in use after a collection, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

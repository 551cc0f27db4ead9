// Package compare measures this project's take beside those of well-known
// limiters of one process, in the same run. It is a module of its own, so that
// the product does not depend on them.
//
//	go test -bench=Take -benchtime=3s -count=3     (some ten minutes)
//	go test -bench=BytesPerLiveKey
//
// What differs beyond speed: the
// others read the clock at every take and count for one process; ours reads
// the refill clock, which the refill daemon moves, and counts for a cluster.
package compare

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
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
	{"10k-zipf", 10_000, zipf},
	{"1m-zipf", 1_000_000, zipf},
}

func zipf(r *rand.Rand, count int) func() int {
	z := rand.NewZipf(r, 1.1, 1, uint64(count-1))
	return func() int { return int(z.Uint64()) }
}

// names are keys of 16 bytes; which are popular has nothing to do with their order.
func names(count int) []string {
	keys := make([]string, count)
	for i := range keys {
		keys[i] = fmt.Sprintf("%016x", uint64(i)*0x9e3779b97f4a7c15)
	}
	return keys
}

// BenchmarkTake asks all limiters in turns that are shorter than a time slice of the machine, so
// that other work on it falls on all alike, and reports the median turn of each, in
// nanoseconds a take. x-y is the median share of y that x took in the same round: below 1,
// ours is faster.
func BenchmarkTake(b *testing.B) {
	for _, shape := range shapes {
		keys := names(shape.count)
		next := shape.draw(rand.New(rand.NewPCG(1, 2)), shape.count)
		order := make([]int32, draws)
		for i := range order {
			order[i] = int32(next())
		}
		for _, answer := range answers {
			b.Run("keys="+shape.name+"/answer="+answer.name, func(b *testing.B) {
				asked := slices.Clone(keys) // what limiters keep is replaced below
				takes := make([]take, len(limiters))
				for i, l := range limiters {
					takes[i] = l.make(b, answer.rules, asked)
					for key := range keys { // every key lives; in a refusing one, it is dry now
						takes[i](key)
					}
				}
				for key := range asked { // a request brings its key in memory of its own
					asked[key] = strings.Clone(asked[key])
				}
				runtime.GC()
				for cores := 1; cores <= 2; cores++ {
					b.Run(fmt.Sprintf("cores=%d", cores), func(b *testing.B) {
						inTurns(b, takes, order, answer.admits, cores)
					})
				}
			})
		}
	}
}

func inTurns(b *testing.B, takes []take, order []int32, want bool, cores int) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores + 1)) // one is for what ours does in the background
	each := make([][]float64, len(takes))
	ratio := make([]float64, 0, 1000)
	wrong := make([]int, len(takes))
	turns := 0
	for b.Loop() {
		var spent [4]float64
		for i := range takes {
			i = (i + turns) % len(takes) // who goes first changes
			start := turns * (warm + turn)
			turned(takes[i], order, start, warm, want, cores)
			d, bad := turned(takes[i], order, start+warm, turn, want, cores)
			spent[i] = float64(d.Nanoseconds()) / float64(turn*cores)
			each[i] = append(each[i], spent[i])
			wrong[i] += bad
		}
		ratio = append(ratio, spent[0]/spent[2])
		turns++
	}
	for i, l := range limiters {
		b.ReportMetric(median(each[i]), l.name+"-ns")
		if wrong[i] > 0 { // fast and wrong is no speed: throttled gives up after ten lost races for a hot key
			b.ReportMetric(float64(wrong[i])/float64(turns*turn*cores), l.name+"-wrong")
		}
	}
	b.ReportMetric(median(ratio), "ours/go-limiter")
	b.ReportMetric(0, "ns/op")
}

// Of the takes that each core does before the next limiter's turn, turn are timed. Those before
// bring back into the caches what the others' turns drove out, as it would be there had the
// limiter the machine to itself.
const (
	warm = 40000
	turn = 2000
)

// turned does count takes on each core: how long it took from when all were ready, and how
// many were not answered as the rules say.
func turned(t take, order []int32, start, count int, want bool, cores int) (time.Duration, int) {
	var ready, wrong atomic.Int64
	var done sync.WaitGroup
	ends := make([]time.Time, cores)
	begins := make([]time.Time, cores)
	for core := range cores {
		done.Go(func() {
			bad, i := 0, start+core*draws/3
			for ready.Add(1); ready.Load() < int64(cores); {
				runtime.Gosched()
			}
			begins[core] = time.Now()
			for range count {
				if t(int(order[i&(draws-1)])) != want {
					bad++
				}
				i++
			}
			ends[core] = time.Now()
			wrong.Add(int64(bad))
		})
	}
	done.Wait()
	return slices.MaxFunc(ends, time.Time.Compare).Sub(slices.MinFunc(begins, time.Time.Compare)), int(wrong.Load())
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
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

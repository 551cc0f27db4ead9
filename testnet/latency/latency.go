// Package latency measures how long many short things take, without an allocation for each.
package latency

import (
	"fmt"
	"math/bits"
	"time"
)

// Histogram has sixteen steps to each power of two nanoseconds: what it tells is right to a
// sixteenth. The zero value is empty and ready; it is not safe for concurrent use.
type Histogram struct {
	counts [64 * 16]int
	n      int
	worst  time.Duration
}

// Add counts one duration; less than 16 ns is 16 ns.
func (h *Histogram) Add(d time.Duration) {
	v := uint64(max(d, 16))
	e := bits.Len64(v) - 5
	h.counts[e*16+int(v>>e)-16]++
	h.n++
	h.worst = max(h.worst, d)
}

// Merge adds all that o has counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.worst = max(h.worst, o.worst)
}

// At is the duration that a share of all, 0 to 1, did not exceed.
func (h *Histogram) At(share float64) time.Duration {
	rest := int(share * float64(h.n))
	for i, c := range h.counts {
		if rest -= c; rest < 0 {
			return time.Duration((16 + i%16 + 1) << (i / 16))
		}
	}
	return h.worst
}

// Worst is the longest of all.
func (h *Histogram) Worst() time.Duration { return h.worst }

// Count is how many there were.
func (h *Histogram) Count() int { return h.n }

func (h *Histogram) String() string {
	return fmt.Sprintf("p50 %v p99 %v p99.9 %v worst %v of %d", h.At(0.5), h.At(0.99), h.At(0.999), h.worst, h.n)
}

package latency_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/latency"
)

// What the histogram tells is what sorting tells, or a sixteenth more.
func TestItTellsWhatSortingTells(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h, rest latency.Histogram
	var all []time.Duration
	for i := range 100_000 {
		d := time.Duration(16 << r.IntN(30))
		d += time.Duration(r.Int64N(int64(d)))
		all = append(all, d)
		if i%2 == 0 {
			h.Add(d)
		} else {
			rest.Add(d)
		}
	}
	h.Merge(&rest)
	slices.Sort(all)
	for _, share := range []float64{0, 0.5, 0.99, 0.999} {
		want := all[int(share*float64(len(all)))]
		if got := h.At(share); got < want || got > want+want/16+1 {
			t.Errorf("%v of all: %v, sorted %v", share, got, want)
		}
	}
	if h.Worst() != all[len(all)-1] || h.Count() != len(all) {
		t.Errorf("worst %v of %d, want %v of %d", h.Worst(), h.Count(), all[len(all)-1], len(all))
	}
}

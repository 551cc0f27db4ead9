package world_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/world"
)

// collect looks at a flow every step until a time.
func collect(f *world.Flow, from, until, step time.Duration) (all []world.Arrival) {
	for now := from; now <= until; now += step {
		all = slices.AppendSeq(all, f.Due(now))
	}
	return all
}

func TestRates(t *testing.T) {
	for name, c := range map[string]struct {
		pattern world.Pattern
		rate    float64
		slack   float64 // share
	}{
		"even":                     {world.Pattern{Even: true}, 300, 0.0001},
		"even, odd rate":           {world.Pattern{Even: true}, 7.3, 0.01},
		"at random":                {world.Pattern{}, 300, 0.02},
		"even bursts":              {world.Pattern{Even: true, Burst: 50}, 300, 0.005},
		"bursts at random":         {world.Pattern{Burst: 50}, 300, 0.15},
		"on and off":               {world.Pattern{Even: true, On: time.Second, Off: 3 * time.Second}, 300, 0.001},
		"bursts, on and off":       {world.Pattern{Even: true, Burst: 10, On: 2 * time.Second, Off: 2 * time.Second}, 100, 0.01},
		"twenty thousand a second": {world.Pattern{Even: true, Burst: 1000}, 20_000, 0.001},
	} {
		t.Run(name, func(t *testing.T) {
			f := &world.Flow{Limit: "l", PerSecond: c.rate, Pattern: c.pattern, Keys: world.Keys{Name: "k"}}
			f.Begin(1, time.Second)
			const lasts = 60 * time.Second
			got := float64(len(collect(f, time.Second, time.Second+lasts, 5*time.Millisecond)))
			want := c.rate * lasts.Seconds()
			if math.Abs(got-want) > c.slack*want+1 {
				t.Errorf("%.0f takes, want %.0f", got, want)
			}
			if f.Skipped() > 0 {
				t.Errorf("%d skipped", f.Skipped())
			}
		})
	}
}

// A stream does not depend on how often it is looked at, but on its seed.
func TestTheSameSeedGivesTheSameStream(t *testing.T) {
	stream := func(seed uint64, step time.Duration) []world.Arrival {
		f := &world.Flow{PerSecond: 500, Pattern: world.Pattern{Burst: 3, On: time.Second, Off: time.Second}, Keys: world.Keys{Name: "k", N: 50, Zipf: 1.3}}
		f.Begin(seed, 0)
		return collect(f, 0, 10*time.Second, step)
	}
	one, other := stream(7, time.Millisecond), stream(7, 200*time.Millisecond)
	if !slices.Equal(one, other) || len(one) < 1000 {
		t.Errorf("%d and %d arrivals, and not the same", len(one), len(other))
	}
	if slices.Equal(one, stream(8, time.Millisecond)) {
		t.Error("another seed gives the same stream")
	}
}

func TestArrivalsKeepToTheirPattern(t *testing.T) {
	f := &world.Flow{PerSecond: 100, Pattern: world.Pattern{Burst: 10, On: time.Second, Off: 2 * time.Second}, Keys: world.Keys{Name: "k"}}
	f.Begin(1, 0)
	at := map[time.Duration]int{}
	for _, a := range collect(f, 0, 30*time.Second, time.Millisecond) {
		at[a.At]++
		if a.At%(3*time.Second) > time.Second {
			t.Errorf("a take at %v, in a silence", a.At)
		}
	}
	for when, n := range at {
		if n != 10 {
			t.Errorf("%d takes at %v, want bursts of 10", n, when)
		}
	}
}

// Evenly spaced takes go by turns; others do not, but to all alike.
func TestTurns(t *testing.T) {
	for _, even := range []bool{true, false} {
		f := &world.Flow{PerSecond: 1000, Pattern: world.Pattern{Even: even}, Keys: world.Keys{Name: "k"}}
		f.Begin(1, 0)
		var asked [6]int
		inTurn := true
		for i, a := range collect(f, 0, 6*time.Second, time.Millisecond) {
			asked[a.Turn%6]++
			inTurn = inTurn && a.Turn == i
		}
		if inTurn != even || slices.Max(asked[:]) > 1100 || slices.Min(asked[:]) < 900 {
			t.Errorf("even %v: asked %v, in turn %v", even, asked, inTurn)
		}
	}
}

func TestKeys(t *testing.T) {
	draw := func(k world.Keys) map[string]int {
		f := &world.Flow{PerSecond: 10_000, Pattern: world.Pattern{Even: true}, Keys: k}
		f.Begin(3, 0)
		n := map[string]int{}
		for _, a := range collect(f, 0, 10*time.Second, time.Millisecond) {
			n[a.Key]++
		}
		return n
	}
	if n := draw(world.Keys{Name: "hot"}); len(n) != 1 || n["hot"] != 100_000 {
		t.Errorf("one key: %v", n)
	}
	for key, n := range draw(world.Keys{Name: "user-", N: 20}) {
		if n < 4500 || n > 5500 {
			t.Errorf("of 20 keys: %s %d times of 100,000", key, n)
		}
	}
	if n := draw(world.Keys{Name: "x", New: true}); len(n) != 100_000 {
		t.Errorf("a flood: %d keys of 100,000", len(n))
	}
	if n := draw(world.Keys{Name: "x", N: 50_000}); len(n) < 40_000 || n["x50000"] == 0 && n["x49999"] == 0 && n["x49998"] == 0 {
		t.Errorf("50,000 keys: %d of them drawn", len(n))
	}
	// Number k is taken k^1.5 times less often than number 1.
	n := draw(world.Keys{Name: "z", N: 1000, Zipf: 1.5})
	for k, want := range map[string]float64{"z2": math.Pow(2, 1.5), "z4": 8, "z9": 27} {
		if got := float64(n["z1"]) / float64(n[k]); math.Abs(got-want) > want/8 {
			t.Errorf("zipf: %s is taken %.1f times less often than z1, want %.1f", k, got, want)
		}
	}
}

// Who was away for seconds finds 250 ms of takes, not all of them.
func TestALateFlowDoesNotFlood(t *testing.T) {
	f := &world.Flow{PerSecond: 1000, Pattern: world.Pattern{Even: true}, Keys: world.Keys{Name: "k"}}
	f.Begin(1, 0)
	collect(f, 0, time.Second, 5*time.Millisecond)
	if n := len(slices.Collect(f.Due(11 * time.Second))); n < 240 || n > 260 {
		t.Errorf("%d takes after ten seconds away, want those of 250 ms", n)
	}
	if n := f.Skipped(); n < 9740 || n > 9760 {
		t.Errorf("%d skipped, want those of 9.75 s", n)
	}
	if n := len(slices.Collect(f.Due(12 * time.Second))); n < 240 || n > 260 {
		t.Errorf("then %d takes", n)
	}
}

// A rate that is changed holds at once, also one from and to nothing.
func TestARateMayChange(t *testing.T) {
	f := &world.Flow{Pattern: world.Pattern{Even: true}, Keys: world.Keys{Name: "k"}}
	f.Begin(1, 0)
	now := time.Duration(0)
	for _, rate := range []float64{0, 100, 0.001, 1000, 0, 10} {
		f.PerSecond = rate
		got := float64(len(collect(f, now, now+10*time.Second, 5*time.Millisecond)))
		if want := 10 * rate; math.Abs(got-want) > 0.01*want+1 {
			t.Errorf("at %g a second: %.0f takes in ten", rate, got)
		}
		now += 10 * time.Second
	}
}

func TestABusyFlowAllocatesNothing(t *testing.T) {
	f := &world.Flow{PerSecond: 100_000, Keys: world.Keys{Name: "k", N: 5000, Zipf: 1.2}}
	f.Begin(1, 0)
	now, taken := time.Duration(0), 0
	look := func() {
		now += 10 * time.Millisecond
		for range f.Due(now) {
			taken++
		}
	}
	look() // makes the names
	if n := testing.AllocsPerRun(100, look); n > 3 || taken < 50_000 {
		t.Errorf("%.0f allocations for each 1,000 takes, %d takes", n, taken)
	}
}

package sim_test

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/sim"
)

var (
	oneSeed = flag.Uint64("seed", 0, "replay this seed of TestSimulation only")
	many    = flag.Int("seeds", 0, "seeds of small clusters in TestSimulation; 0: as many as CI has time for")
)

// Memory is collected late: that is an eighth of the time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// bigSeeds is where the seeds of clusters of thirty begin.
const bigSeeds = 1_000_000

// Random clusters under random weather obey the laws. A failing seed is printed with what
// happened; -seed replays it.
func TestSimulation(t *testing.T) {
	small, big := smallSeeds, bigClusters
	if testing.Short() {
		small, big = 8, 0
	}
	if *many > 0 {
		small, big = *many, 0
	}
	var seeds []uint64
	for i := range big { // first, as they take longest
		seeds = append(seeds, bigSeeds+uint64(i+1))
	}
	for i := range small {
		seeds = append(seeds, uint64(i+1))
	}
	if *oneSeed > 0 {
		seeds = []uint64{*oneSeed}
	}
	var sum tally
	began := time.Now()
	t.Run("seed", func(t *testing.T) {
		for _, seed := range seeds {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				sum.add(weather(t, seed))
			})
		}
	})
	t.Logf("%d seeds in %v: overdraft at most %.2f of its bound, refill clocks at most %.4f of real time, lawful traffic refused at most %.4f %%, %d tokens lost in crashes, all agree %v after the last fault",
		len(seeds), time.Since(began).Round(time.Second), sum.Overdraft, sum.Growth, 100*sum.Refused, sum.Lost, sum.Settled)
}

func weather(t *testing.T, seed uint64) *judge.Verdict {
	nodes := 3 + int(seed%4)
	if seed > bigSeeds {
		nodes = 30
	}
	w := sim.NewWeather(seed, nodes)
	var v *judge.Verdict
	coarse := func(c *node.Config) error { c.Tick = 20 * time.Millisecond; return nil } // a tenth of the time otherwise
	play(t, sim.Config{Seed: seed, Limits: w.Limits, Tune: coarse}, func(t *testing.T, c *sim.Cluster) {
		var err error
		if v, err = w.Play(c); err != nil {
			t.Fatal(err, standing(c))
		}
		if len(v.Breaches) > 0 {
			t.Log(strings.Join(standing(c), "\n"))
		}
	})
	for _, b := range v.Breaches {
		t.Error(b)
	}
	if t.Failed() {
		t.Logf("replay: go test ./testnet/sim -run TestSimulation -seed %d\n%d nodes, calm %v, link %+v\n%s", seed, w.Nodes, w.Calm, w.Link, strings.Join(w.Log, "\n"))
	}
	return v
}

// tally is the worst of all verdicts.
type tally struct {
	mu sync.Mutex
	judge.Verdict
}

func (s *tally) add(v *judge.Verdict) {
	if v == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Overdraft, s.Growth, s.Refused = max(s.Overdraft, v.Overdraft), max(s.Growth, v.Growth), max(s.Refused, v.Refused)
	s.Lost, s.Settled = s.Lost+v.Lost, max(s.Settled, v.Settled)
}

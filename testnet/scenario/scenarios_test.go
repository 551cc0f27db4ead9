package scenario_test

import (
	"context"
	"flag"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/testnet/local"
	"github.com/openclaw/edge/testnet/scenario"
	"github.com/openclaw/edge/testnet/world"
)

var (
	seed     = flag.Uint64("seed", 1, "of loads and links, for all scenarios")
	realTime = flag.String("real", "", `scenarios that TestRealTime plays, a minute each, with commas between, or "all"`)
)

// Every scenario passes in virtual time, but for those that need the shared stores.
func TestScenarios(t *testing.T) {
	for _, s := range all(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			if s.Stores() {
				t.Log("needs the shared stores, and so real time: TestRealTime plays it with -real " + s.Name)
				return
			}
			synctest.Test(t, func(t *testing.T) { pass(t, s, local.Config{Virtual: true}) })
		})
	}
}

// In real time those that -real names.
func TestRealTime(t *testing.T) {
	if *realTime == "" {
		t.Log("played are those that -real names")
		return
	}
	names := strings.Split(*realTime, ",")
	for _, name := range names {
		if _, err := scenario.Open(name); err != nil && name != "all" {
			t.Error(err)
		}
	}
	for _, s := range all(t) {
		if *realTime == "all" || slices.Contains(names, s.Name) {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				pass(t, s, local.Config{NoStores: !s.Stores()})
			})
		}
	}
}

func all(t *testing.T) []*scenario.Scenario {
	t.Helper()
	list, err := scenario.All()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// pass plays a scenario and reports what was not as expected. A play that failed on a machine that
// was too busy for it, by the player's own clock, says nothing of the cluster: as the player tells
// its user, it is played again, twice at most.
func pass(t *testing.T, s *scenario.Scenario, cfg local.Config) {
	t.Helper()
	r := play(t, s, cfg)
	for again := 0; again < 2 && !r.OK() && r.Report("").Warning() != ""; again++ {
		t.Log(r.Report("").Warning())
		r = play(t, s, cfg)
	}
	for _, c := range r.Checks {
		say := t.Logf
		if !c.OK {
			say = func(f string, a ...any) { t.Errorf("FAIL "+f, a...) }
		}
		say("line %d: %s: %s", c.Line, c.Text, c.Measured)
	}
	if t.Failed() {
		t.Log(r.Report("").Warning())
		for _, e := range r.Events {
			t.Logf("%8v  %s", e.At.Round(time.Millisecond), e.Text)
		}
	}
}

func play(t *testing.T, s *scenario.Scenario, cfg local.Config) *scenario.Result {
	t.Helper()
	cfg.Regions, cfg.Delay, cfg.Limits, cfg.Seed = nil, make(map[[2]string]time.Duration), s.Limits, *seed
	for _, r := range s.Regions {
		cfg.Regions = append(cfg.Regions, world.Region{Name: r, Nodes: s.Nodes})
	}
	for _, d := range s.Delays {
		cfg.Delay[[2]string{d.A, d.B}] = d.OneWay
	}
	w, err := local.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	r, err := scenario.Play(context.Background(), s, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

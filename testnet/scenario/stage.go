package scenario

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/world"
)

// stage is the testnet during a play, and what was done to it: the laws depend on it.
type stage struct {
	world  world.World
	all    []string // nodes
	limits []crdt.Definition
	began  time.Duration // zero of the scenario's times, on the World's clock

	cuts  map[[2]string]time.Duration // directions that are cut, and since when
	down  map[string]bool
	lives map[string]int
	slow  memnet.Link // the worst of all links in each respect
	late  time.Duration
	laws  judge.Laws // what cuts and crashes add to them
}

func newStage(s *Scenario, w world.World) (*stage, error) {
	g := &stage{world: w, all: s.Names(), limits: slices.Clone(s.Limits),
		cuts: make(map[[2]string]time.Duration), down: make(map[string]bool), lives: make(map[string]int)}
	g.laws.Missed = make(map[judge.Life]time.Duration)
	var there []string
	for _, m := range w.Machines() {
		there = append(there, m.Name)
		g.lives[m.Name] = 1
	}
	if slices.Sort(there); !slices.Equal(there, slices.Sorted(slices.Values(g.all))) {
		return nil, fmt.Errorf("scenario %s is about the nodes %v, the testnet has %v; make it of the scenario's regions", s.Name, g.all, there)
	}
	for _, d := range s.Delays {
		g.slow.Delay = max(g.slow.Delay, d.OneWay)
	}
	for _, step := range s.Steps {
		if l := step.link; l != nil {
			g.slow.Delay, g.slow.Jitter = max(g.slow.Delay, l.Delay), max(g.slow.Jitter, l.Jitter)
			g.slow.Loss, g.slow.Reorder = max(g.slow.Loss, l.Loss), max(g.slow.Reorder, l.Reorder)
		}
	}
	return g, nil
}

// now is the scenario's time.
func (g *stage) now() time.Duration { return g.world.Now() - g.began }

// gather lets time pass until all nodes hear all and offer the whole rate; then the scenario's
// time begins.
func (g *stage) gather(ctx context.Context) error {
	const patience, calm = 30 * time.Second, 2 * time.Second
	for waited := time.Duration(0); ; waited += SampleEvery {
		missing := g.missing()
		switch {
		case missing == "":
			err := g.run(ctx, calm, nil)
			g.began = g.world.Now()
			return err
		case waited >= patience:
			return fmt.Errorf("the testnet is not whole after %v: %s", patience, missing)
		}
		if err := g.run(ctx, SampleEvery, nil); err != nil {
			return err
		}
	}
}

// missing says who is not yet as he should be before a scenario begins.
func (g *stage) missing() string {
	var who []string
	for _, n := range g.all {
		s := g.world.State(n)
		if why := s.Reason; !s.Ready || s.Cluster.ReachableMembers < len(g.all) {
			who = append(who, fmt.Sprintf("%s hears %d of %d. %s", n, s.Cluster.ReachableMembers, len(g.all), why))
			continue
		}
		for name, l := range s.Limits {
			if l.Refill < 0.95*l.Configured {
				who = append(who, fmt.Sprintf("%s offers %.0f of %.0f tokens/s of %s", n, l.Refill, l.Configured, name))
			}
		}
	}
	return strings.Join(who, "; ")
}

func (g *stage) cut(from, to []string, both bool) error {
	if err := g.world.Cut(from, to); err != nil {
		return err
	}
	if both {
		if err := g.world.Cut(to, from); err != nil {
			return err
		}
	}
	for _, a := range from {
		for _, b := range to {
			g.sever(a, b)
			if both {
				g.sever(b, a)
			}
		}
	}
	return nil
}

func (g *stage) sever(a, b string) {
	if _, already := g.cuts[[2]string{a, b}]; !already {
		g.cuts[[2]string{a, b}] = g.now()
	}
}

// heal counts one heal, however many links it repairs, and the time that the oldest of them
// was cut for.
func (g *stage) heal(from, to []string) error {
	if err := g.world.Heal(from, to); err != nil {
		return err
	}
	oldest, any := g.now(), false
	for pair, since := range maps.Clone(g.cuts) {
		a, b := pair[0], pair[1]
		if slices.Contains(from, a) && slices.Contains(to, b) || slices.Contains(from, b) && slices.Contains(to, a) {
			oldest, any = min(oldest, since), true
			delete(g.cuts, pair)
		}
	}
	if any {
		g.laws.Cuts++
		g.laws.Frozen += g.now() - oldest
	}
	return nil
}

// each does one thing to several nodes.
func (g *stage) each(verb string, nodes []string) (err error) {
	for _, n := range nodes {
		switch verb {
		case "pause":
			err = g.world.Pause(n, true)
		case "resume":
			err = g.world.Pause(n, false)
		case "start":
			if err = g.world.Start(n); err == nil {
				g.risen(n)
			}
		default:
			err = g.end(n, verb)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", verb, n, err)
		}
	}
	return nil
}

// risen: who starts behind a cut may find nobody to tell it what was taken.
func (g *stage) risen(n string) {
	delete(g.down, n)
	g.lives[n]++
	if len(g.cuts) > 0 {
		g.laws.Blind++
	}
}

// end ends a life. What it took since it was cut off may be lost with it, also when it could
// say goodbye.
func (g *stage) end(n, verb string) error {
	life := judge.Life{Machine: n, Number: g.lives[n]}
	lonely := g.isCut(n) || g.slow.Loss > 0.2
	if verb == "crash" {
		if err := g.world.Crash(n); err != nil {
			return err
		}
	} else if err := g.world.Stop(n); err != nil {
		return err
	}
	g.down[n] = true
	if lonely {
		g.laws.Missed[life] = 0
		if verb == "stop" {
			g.world.Observed().Crash(life, g.world.Now())
		}
	}
	return nil
}

func (g *stage) isCut(n string) bool {
	for pair := range g.cuts {
		if pair[0] == n || pair[1] == n {
			return true
		}
	}
	return false
}

// reload gives a node a file in which one limit differs.
func (g *stage) reload(via string, d crdt.Definition) error {
	for i := range g.limits {
		if g.limits[i].Name == d.Name {
			g.limits[i] = d
		}
	}
	return g.world.Reload(via, slices.Clone(g.limits))
}

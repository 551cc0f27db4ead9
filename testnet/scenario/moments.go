package scenario

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/openclaw/edge/testnet/world"
)

// Sample is how all nodes showed themselves at one time of the scenario.
type Sample struct {
	At    time.Duration
	Nodes map[string]world.State
}

// ofMoment reads what is expected of a sample.
func (p *parser) ofMoment(l *line, e *Expect) {
	subjects := []string{"refill", "rate", "ready", "members", "roster", "fallback", "pending", "skew"}
	if e.when.kind == allTheTime {
		subjects = append(subjects, "mean")
	}
	switch l.choose(subjects...) {
	case "mean":
		l.must("refill")
		nodes, limits := p.nodesAndLimits(l)
		e.run = e.meanRefill(nodes, limits, l.compare(percent))
	case "refill":
		nodes, limits := p.nodesAndLimits(l)
		e.moment = refill(nodes, limits, l.compare(percent))
	case "rate":
		nodes, limit := p.place(l, nil), p.anyLimit(l)
		e.moment = figure(nodes, l.compare(plain), plain, func(s world.State) float64 { return s.Limits[limit].Configured })
	case "members":
		e.moment = figure(p.place(l, nil), l.compare(plain), plain, func(s world.State) float64 { return float64(s.Cluster.ReachableMembers) })
	case "roster":
		e.moment = figure(p.place(l, nil), l.compare(plain), plain, func(s world.State) float64 { return float64(s.Cluster.ExpectedMembers) })
	case "pending":
		e.moment = figure(p.place(l, nil), l.compare(plain), plain, func(s world.State) float64 { return float64(s.Cluster.Store.PendingSegments) })
	case "skew":
		nodes := p.place(l, nil)
		l.must("of")
		of := p.place(l, nodes)
		e.moment = skew(nodes, of, l.compare(seconds))
	case "ready":
		e.moment = said(p.place(l, nil), l.choose("yes", "no") == "yes", func(s world.State) (bool, string) { return s.Ready, s.Reason })
	case "fallback":
		e.moment = said(p.place(l, nil), l.choose("yes", "no") == "yes", func(s world.State) (bool, string) { return s.Cluster.Store.FallbackActive, "" })
	}
}

// nodesAndLimits reads a place, and one limit; if none is named all are meant.
func (p *parser) nodesAndLimits(l *line) (nodes, limits []string) {
	nodes, limits = p.place(l, nil), p.names()
	if p.definition(l.peek()) != nil {
		limits = []string{l.next("").text}
	}
	return nodes, limits
}

func (p *parser) names() (names []string) {
	for _, d := range p.s.Limits {
		names = append(names, d.Name)
	}
	return names
}

// tightest is the figure among several that comes closest to missing, or misses by most.
type tightest struct {
	compare comparison
	unit    unit
	margin  float64
	who     string
	x       float64
}

func newTightest(c comparison, u unit) *tightest {
	return &tightest{compare: c, unit: u, margin: math.Inf(1)}
}

func (t *tightest) add(who string, x float64) {
	if m := t.compare.margin(x); m < t.margin {
		t.margin, t.who, t.x = m, who, x
	}
}

func (t *tightest) finding() Finding {
	return Finding{t.compare.holds(t.x), t.unit.show(t.x) + " on " + t.who, t.margin}
}

// refill is of every node and limit, as a share of the configured rate.
func refill(nodes, limits []string, c comparison) moment {
	return func(s *Sample) Finding {
		worst := newTightest(c, percent)
		for _, n := range nodes {
			for _, limit := range limits {
				worst.add(n+", "+limit, s.refill(n, limit))
			}
		}
		return worst.finding()
	}
}

// refill is the share of the rate that a node offers. One that does not run offers nothing.
func (s *Sample) refill(node, limit string) float64 {
	if l := s.Nodes[node].Limits[limit]; l.Configured > 0 {
		return l.Refill / l.Configured
	}
	return 0
}

// meanRefill is of every node and limit over some time. What one sample shows is measured over
// a second, which a late packet or a busy machine can spoil.
func (e *Expect) meanRefill(nodes, limits []string, c comparison) func(*Result) Finding {
	return func(r *Result) Finding {
		worst := newTightest(c, percent)
		for _, n := range nodes {
			for _, limit := range limits {
				sum, samples := 0.0, 0.0
				for i := range r.Samples {
					if s := &r.Samples[i]; s.At >= e.when.from && s.At <= e.when.to {
						sum += s.refill(n, limit)
						samples++
					}
				}
				worst.add(n+", "+limit, sum/max(1, samples))
			}
		}
		return worst.finding()
	}
}

// figure is of every node that runs.
func figure(nodes []string, c comparison, u unit, of func(world.State) float64) moment {
	return func(s *Sample) Finding {
		worst := newTightest(c, u)
		for _, n := range nodes {
			if s.Nodes[n].Up {
				worst.add(n, of(s.Nodes[n]))
			}
		}
		if worst.who == "" {
			return Finding{Measured: "none of " + strings.Join(nodes, ", ") + " runs"}
		}
		return worst.finding()
	}
}

// skew is how nodes see the clocks of others, against their own.
func skew(nodes, of []string, c comparison) moment {
	return func(s *Sample) Finding {
		worst := newTightest(c, seconds)
		for _, n := range nodes {
			for _, m := range s.Nodes[n].Cluster.Members {
				if slices.Contains(of, m.Node) {
					worst.add(n+" of "+m.Node, m.ClockSkewMS/1000)
				}
			}
		}
		if worst.who == "" {
			return Finding{Measured: "nobody is seen"}
		}
		return worst.finding()
	}
}

// said is a yes or no of every node; of one that does not run it is no.
func said(nodes []string, want bool, of func(world.State) (bool, string)) moment {
	return func(s *Sample) Finding {
		f := Finding{OK: true}
		for _, n := range nodes {
			state := s.Nodes[n]
			yes, why := of(state)
			if yes = yes && state.Up; !state.Up {
				why = "does not run"
			}
			if f.Measured == "" || yes != want && f.OK {
				f.Measured = fmt.Sprintf("%s on %s", map[bool]string{true: "yes", false: "no"}[yes], n)
				if why != "" {
					f.Measured += ": " + why
				}
			}
			f.OK = f.OK && yes == want
		}
		return f
	}
}

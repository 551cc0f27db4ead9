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
	switch subject := l.choose("refill", "rate", "ready", "members", "roster", "fallback", "pending", "skew"); subject {
	case "refill":
		nodes, limits := p.place(l, nil), p.names()
		if p.definition(l.peek()) != nil {
			limits = []string{l.next("").text}
		}
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

// refill is of every node and limit, as a share of the configured rate. What does not run
// offers nothing.
func refill(nodes, limits []string, c comparison) moment {
	return func(s *Sample) Finding {
		worst := newTightest(c, percent)
		for _, n := range nodes {
			for _, name := range limits {
				l, share := s.Nodes[n].Limits[name], 0.0
				if l.Configured > 0 {
					share = l.Refill / l.Configured
				}
				worst.add(n+", "+name, share)
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

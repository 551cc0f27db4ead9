package scenario

import (
	"slices"
	"time"

	"github.com/openclaw/edge/testnet/judge"
)

// Spread is how long it took after a step until every node knew what any node had taken before
// it. That can be seen under load: slots only grow. (All nodes alike, to the token, is asked for
// by the laws, in the quiet.)
type Spread struct {
	After time.Duration // the step
	Took  time.Duration
	Done  bool

	step  int
	known map[judge.ID]map[string]int64 // millitokens taken, by writer
}

// spreads tells whether anybody wants to know it of a step. Looking costs a look at each bucket
// on each node, four times a second.
func (s *Scenario) spreads(step int) bool {
	return slices.ContainsFunc(s.Expects, func(e *Expect) bool { return e.spread && slices.Contains(e.when.steps, step) })
}

// spread notes what is known now, by anybody.
func (p *play) spread(step int) Spread {
	s := Spread{After: p.now(), step: step, known: make(map[judge.ID]map[string]int64)}
	p.world.Look()
	for id, holdings := range p.world.Observed().Holdings {
		s.known[id] = make(map[string]int64)
		for _, h := range holdings {
			for writer, taken := range h.Taken {
				s.known[id][writer] = max(s.known[id][writer], taken)
			}
		}
	}
	return s
}

// follow looks whether what was known at some steps has come to everybody.
func (p *play) follow(now time.Duration) {
	looked := false
	for i := range p.r.Spread {
		s := &p.r.Spread[i]
		if s.Done {
			continue
		}
		if !looked {
			p.world.Look()
			looked = true
		}
		if s.everywhere(p.world.Observed(), len(p.all)-len(p.down)) {
			s.Done, s.Took = true, now-s.After
		}
	}
}

// everywhere tells whether so many nodes all know it.
func (s *Spread) everywhere(o *judge.Observed, nodes int) bool {
	for id, known := range s.known {
		if len(o.Holdings[id]) < nodes {
			return false
		}
		for _, h := range o.Holdings[id] {
			for writer, taken := range known {
				if h.Taken[writer] < taken {
					return false
				}
			}
		}
	}
	return true
}

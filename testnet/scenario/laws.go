package scenario

import (
	"maps"
	"time"

	"github.com/openclaw/edge/testnet/judge"
)

// How long a round takes at most, beyond the link.
const aRound = 300 * time.Millisecond

// lateness is how late a tick or a round of a node may be on this machine, from how late the player
// was at worst: it has one goroutine, they have dozens.
func (g *stage) lateness() time.Duration {
	if g.late == 0 {
		return 0 // virtual time
	}
	return 100*time.Millisecond + 2*min(g.late, time.Second)
}

// lawsNow is what was done to the testnet so far allows.
func (g *stage) lawsNow() judge.Laws {
	l := g.laws
	l.Missed = maps.Clone(g.laws.Missed)
	l.Nodes, l.Delay, l.Ahead = len(g.all), judge.Delay(aRound, g.slow)+g.lateness(), 300*time.Millisecond
	l.Late, l.Apart = g.lateness(), 100*time.Millisecond+g.lateness()
	l.Whole = len(g.cuts) == 0 && len(g.down) == 0
	return l
}

// judgeOf holds the run against the laws. Of a flood of new keys each bucket is used once and may
// be forgotten as soon as it is full, or never have been: its slots say nothing.
func (s *Scenario) judgeOf(o *judge.Observed, l judge.Laws) *judge.Verdict {
	calm := *o
	calm.Holdings = maps.Clone(o.Holdings)
	for id := range calm.Holdings {
		for _, load := range s.Loads {
			if load.Flow.Keys.New && load.Flow.Limit == id.Limit {
				delete(calm.Holdings, id)
			}
		}
	}
	return judge.Of(&calm, l)
}

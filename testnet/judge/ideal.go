package judge

import (
	"time"

	"github.com/openclaw/edge/crdt"
)

// Ideal is what a limit promises: one bucket, in one place, on real time.
type Ideal struct {
	Capacity int64   // tokens
	Rate     float64 // tokens per second
	Policy   crdt.Policy
	Reset    int // how often a new definition started the buckets anew
}

// level is the ideal bucket's: full at time 0.
type level struct {
	of     *Ideal
	tokens float64
	at     time.Duration
}

func (i *Ideal) full() level { return level{of: i, tokens: float64(i.Capacity)} }

// advance refills up to a time.
func (l *level) advance(to time.Duration) {
	l.tokens = min(float64(l.of.Capacity), l.tokens+l.of.Rate*(to-l.at).Seconds())
	l.at = to
}

// crumb is what rounding may cost a bucket of floats, in tokens.
const crumb = 1e-6

// Admits is the tokens that the ideal bucket would have admitted of the takes offered to the
// cluster, first come, first served.
func (i *Ideal) Admits(takes []Take) (admitted int64) {
	l := i.full()
	for _, t := range takes {
		l.advance(t.At)
		if l.tokens >= float64(t.Cost)-crumb {
			l.tokens -= float64(t.Cost)
			admitted += t.Cost
		}
	}
	return admitted
}

// Overdraft is how far below zero the takes that the cluster admitted would have brought the
// ideal bucket at worst, in tokens, and when. Unlike a sum from the start it sees a
// burst in the middle of a run, too.
func (i *Ideal) Overdraft(takes []Take) (worst float64, at time.Duration) {
	l := i.full()
	for _, t := range takes {
		if !t.Admitted || t.Backup {
			continue
		}
		l.advance(t.At)
		l.tokens -= float64(t.Cost)
		if -l.tokens > worst {
			worst, at = -l.tokens, t.At
		}
	}
	return worst, at
}

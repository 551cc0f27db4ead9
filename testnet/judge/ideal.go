package judge

import (
	"math"
	"time"

	"github.com/openclaw/edge/crdt"
)

// Ideal is what a limit promises: one bucket, in one place, on real time. Once a limit was
// defined anew the laws go by the most that any of its definitions allows, as it depends on who
// has heard of it what holds where; the figures go by the newest one.
type Ideal struct {
	Capacity int64   // tokens
	Rate     float64 // tokens per second
	Policy   crdt.Policy
	Reset    int // how often a new definition started the buckets anew

	later []piece // definitions after the first one, in order of time
	first piece
}

// piece is a definition from a time on.
type piece struct {
	at       time.Duration
	capacity int64
	rate     float64
}

// level is an ideal bucket's, counted in billionths of a token: at a whole number of tokens a
// second every nanosecond brings a whole number of them, and nothing is rounded.
type level struct {
	piece
	later []piece
	left  int64
	rest  float64 // of a billionth, at other rates
	at    time.Duration
}

const billion = 1_000_000_000

// full is the bucket at time 0.
func (i *Ideal) full() level {
	return level{piece: piece{capacity: i.Capacity, rate: i.Rate}, left: i.Capacity * billion}
}

// dated is the bucket at time 0, which obeys each definition from its time on.
func (i *Ideal) dated() level {
	if i.first.capacity == 0 { // made by hand
		return i.full()
	}
	return level{piece: i.first, later: i.later, left: i.first.capacity * billion}
}

// advance refills up to a time.
func (l *level) advance(to time.Duration) {
	for len(l.later) > 0 && l.later[0].at <= to {
		l.obey(l.later[0])
		l.later = l.later[1:]
	}
	l.refill(to)
}

// obey goes over to another definition.
func (l *level) obey(p piece) {
	l.refill(p.at)
	l.piece, l.left = p, min(l.left, p.capacity*billion)
}

func (l *level) refill(to time.Duration) {
	if to <= l.at {
		return
	}
	gain := l.rate*float64(to-l.at) + l.rest
	l.at = to
	most := l.capacity * billion
	if gain >= float64(most-l.left) {
		l.left, l.rest = most, 0
		return
	}
	whole := math.Floor(gain)
	l.left += int64(whole)
	l.rest = gain - whole
}

// crumb is what rounding may cost a bucket, in tokens.
const crumb = 1e-6

// take is whether the ideal bucket admits a take.
func (l *level) take(at time.Duration, cost int64) bool {
	l.advance(at)
	if l.left < cost*billion-crumb*billion {
		return false
	}
	l.left -= cost * billion
	return true
}

// force takes from the bucket whatever its level, and tells how far below zero it is, in tokens.
func (l *level) force(at time.Duration, cost int64) float64 {
	l.advance(at)
	l.left -= cost * billion
	return -float64(l.left) / billion
}

func (l *level) isFull() bool { return l.left >= l.capacity*billion }

// Admits is the tokens that the ideal bucket would have admitted of the takes offered to the
// cluster, first come, first served.
func (i *Ideal) Admits(takes []Take) (admitted int64) {
	l := i.full()
	for _, t := range takes {
		if l.take(t.At, t.Cost) {
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
	return overdraft(&l, takes)
}

func overdraft(l *level, takes []Take) (worst float64, at time.Duration) {
	for _, t := range takes {
		if !t.Admitted || t.Backup {
			continue
		}
		if below := l.force(t.At, t.Cost); below > worst {
			worst, at = below, t.At
		}
	}
	return worst, at
}

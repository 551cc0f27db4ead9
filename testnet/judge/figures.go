package judge

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
)

// Figures is what a report shows of a run, whatever the laws say to it. Tokens are counted; of
// the ideal bucket only what rounding its refill to a billionth of a token costs is missing.
type Figures struct {
	Limits []LimitFigures // by name
	Keys   []KeyFigures   // the busiest, most was offered to the first
	Cuts   []CutFigures   // in order of time
	Heals  []HealFigures
	Growth Growth // the worst of the quorum and share clocks
}

// Tally is what was offered to a bucket or a limit, and what came of it.
type Tally struct {
	Sum
	Overdraft   float64 // how far below zero one bucket would have been at worst, in tokens
	OverdraftAt time.Duration
	Windows     []Spell // one of each of SpellLengths
}

// SpellLengths are over how long the worst windows are sought.
var SpellLengths = []time.Duration{time.Second, 5 * time.Second}

// Spell is the worst that came in any window of a length, in tokens: how many more, and fewer,
// were admitted in it than one ideal bucket would have admitted in the same window.
type Spell struct {
	Length           time.Duration
	Above, Below     int64
	AboveAt, BelowAt time.Duration // ends of those windows
}

// LimitFigures is all keys of a limit together. Its overdraft is that of its worst key.
type LimitFigures struct {
	Limit string
	Tally
	Worst string // key
	Keys  int
}

// KeyFigures is one bucket.
type KeyFigures struct {
	ID
	Tally
}

// CutFigures is when the metric showed a cut: when the refill rate that a node offers, of quorum
// limits, was seen under 20 % of the configured one. Cuts of one moment are one.
type CutFigures struct {
	At    time.Duration
	Nodes []string      // that showed it before the next cut or heal, or ever if none came
	First time.Duration // after the cut; Never: no node showed it
	All   time.Duration // until the last of them did
}

// HealFigures is what came of a heal.
type HealFigures struct {
	At     time.Duration
	Agreed time.Duration // until everybody knew all that anybody had taken before it; Never: not seen
	Back   time.Duration // until every node that runs offered 80 % of the configured rate again; Never: not before the next cut, or the end
}

// Growth is what all nodes together added to one refill clock in the worst Window.
type Growth struct {
	Policy crdt.Policy
	Share  float64 // of the time that passed
	Until  time.Duration
}

// What a metric has to fall below, and rise above, to show a cut and its end.
const (
	shownBelow = 0.2
	backAbove  = 0.8
)

// Measure works out the figures of what was observed, with those of the busiest keys.
func Measure(o *Observed, keys int) Figures {
	f := Figures{Growth: growth(o)}
	busiest := make(map[ID]bool)
	for _, id := range o.busiest(keys) {
		busiest[id] = true
	}
	byLimit := make(map[string]*limitSum)
	for _, id := range o.ids() {
		t, steps := o.tally(id)
		if busiest[id] {
			f.Keys = append(f.Keys, KeyFigures{id, t})
		}
		l := byLimit[id.Limit]
		if l == nil {
			l = &limitSum{LimitFigures: LimitFigures{Limit: id.Limit}}
			byLimit[id.Limit] = l
		}
		l.add(id.Key, t, steps)
	}
	slices.SortStableFunc(f.Keys, func(a, b KeyFigures) int { return cmp.Compare(b.Offered, a.Offered) })
	for _, name := range slices.Sorted(maps.Keys(byLimit)) {
		l := byLimit[name]
		slices.SortFunc(l.steps, func(a, b stepOff) int { return cmp.Compare(a.at, b.at) })
		l.Windows = worst(l.steps)
		f.Limits = append(f.Limits, l.LimitFigures)
	}
	f.Cuts, f.Heals = o.cuts(), o.heals()
	return f
}

type limitSum struct {
	LimitFigures
	steps []stepOff
}

func (l *limitSum) add(key string, t Tally, steps []stepOff) {
	l.Sum.add(t.Sum)
	if l.Keys++; t.Overdraft > l.Overdraft || l.Keys == 1 {
		l.Overdraft, l.OverdraftAt, l.Worst = t.Overdraft, t.OverdraftAt, key
	}
	l.steps = append(l.steps, steps...)
}

// stepOff is a take that the cluster and the ideal bucket answered differently: how many tokens
// the cluster admitted more.
type stepOff struct {
	at   time.Duration
	more int64
}

// tally is a bucket's figures, and where it was off.
func (o *Observed) tally(id ID) (t Tally, steps []stepOff) {
	limit := o.Limits[id.Limit]
	ideal := limit.dated()
	for _, take := range o.Takes[id] {
		var more int64
		t.Offered += take.Cost
		switch {
		case take.Backup:
			t.Backup += take.Cost
		case take.Admitted:
			t.Admitted += take.Cost
			more += take.Cost
		}
		if ideal.take(take.At, take.Cost) {
			t.Ideal += take.Cost
			more -= take.Cost
		}
		if more != 0 {
			steps = append(steps, stepOff{take.At, more})
		}
	}
	real := limit.dated()
	t.Overdraft, t.OverdraftAt = overdraft(&real, o.Takes[id])
	t.Windows = worst(steps)
	return t, steps
}

// worst finds the worst windows of each length. What was admitted more in a window is the sum of
// its steps; the largest such sum ends at some step and begins after the smallest sum so far that
// is not too long ago.
func worst(steps []stepOff) (list []Spell) {
	for _, length := range SpellLengths {
		w := Spell{Length: length}
		low, high := lowest{sign: 1}, lowest{sign: -1}
		sum := int64(0)
		for _, s := range steps {
			low.push(s.at, sum)
			high.push(s.at, sum)
			sum += s.more
			if above := sum - low.since(s.at-length); above > w.Above {
				w.Above, w.AboveAt = above, s.at
			}
			if below := high.since(s.at-length) - sum; below > w.Below {
				w.Below, w.BelowAt = below, s.at
			}
		}
		list = append(list, w)
	}
	return list
}

// lowest is the smallest (sign 1) or largest (sign -1) of the sums before the steps of a sliding
// window: a queue whose head is it, and in which each one is beaten by none that came later.
type lowest struct {
	sign  int64
	queue []stepOff
}

func (l *lowest) push(at time.Duration, sum int64) {
	for k := len(l.queue); k > 0 && l.sign*l.queue[k-1].more >= l.sign*sum; k-- {
		l.queue = l.queue[:k-1]
	}
	l.queue = append(l.queue, stepOff{at, sum})
}

func (l *lowest) since(at time.Duration) int64 {
	for l.queue[0].at < at {
		l.queue = l.queue[1:]
	}
	return l.queue[0].more
}

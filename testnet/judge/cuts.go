package judge

import (
	"maps"
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
)

// oneMoment is how far apart the events of one cut may be: both directions, or several sides.
const oneMoment = 100 * time.Millisecond

// cuts is when each cut showed in the metric.
func (o *Observed) cuts() (list []CutFigures) {
	for i, e := range o.Events {
		if e.Kind != Cut || len(list) > 0 && e.At-list[len(list)-1].At < oneMoment {
			continue
		}
		c := CutFigures{At: e.At, First: Never, All: Never}
		end := o.next(i, e.At+oneMoment, Cut, Heal)
		shown := make(map[string]bool)
		before := map[string]Shown{}
		if past := o.between(0, e.At); len(past) > 0 {
			before = past[len(past)-1].By
		}
		for _, s := range o.between(e.At, end) {
			for name, m := range s.By {
				if fell := before[name].offers() && m.Up && !m.offers(); !fell || shown[name] || o.paused(name, s.At) {
					continue
				}
				shown[name] = true
				if c.All = s.At - e.At; c.First == Never {
					c.First = c.All
				}
			}
			before = s.By
		}
		c.Nodes = slices.Sorted(maps.Keys(shown))
		list = append(list, c)
	}
	return list
}

// offers tells whether the metric shows no cut. Who has just started does not show one either.
func (s Shown) offers() bool { return s.Up && s.Speed[crdt.Quorum] >= shownBelow }

// heals is what came of each heal.
func (o *Observed) heals() (list []HealFigures) {
	for i, e := range o.Events {
		if e.Kind != Heal {
			continue
		}
		h := HealFigures{At: e.At, Agreed: e.Agreed, Back: Never}
		for _, s := range o.between(e.At, o.next(i, e.At, Cut)) {
			if o.allBack(s) {
				h.Back = s.At - e.At
				break
			}
		}
		list = append(list, h)
	}
	return list
}

func (o *Observed) allBack(s Sample) bool {
	for name, m := range s.By {
		if m.Up && m.Speed[crdt.Quorum] < backAbove && !o.paused(name, s.At) {
			return false
		}
	}
	return true
}

// paused tells whether a node's refill daemon was paused at a time: then its metric shows that, and
// no cut.
func (o *Observed) paused(node string, at time.Duration) (paused bool) {
	for _, e := range o.Events {
		if e.At > at {
			break
		}
		if !slices.Contains(e.From, node) {
			continue
		}
		switch e.Kind {
		case Pause:
			paused = e.Detail == ""
		case Start:
			paused = false
		}
	}
	return paused
}

// next is when one of these kinds comes after event i and a time; the end of all if none does.
func (o *Observed) next(i int, after time.Duration, kinds ...Kind) time.Duration {
	for _, e := range o.Events[i+1:] {
		if e.At >= after && slices.Contains(kinds, e.Kind) {
			return e.At
		}
	}
	if len(o.Samples) == 0 {
		return after
	}
	return o.Samples[len(o.Samples)-1].At + 1
}

// between is the samples after a time and before another.
func (o *Observed) between(from, to time.Duration) []Sample {
	i, _ := slices.BinarySearchFunc(o.Samples, from, func(s Sample, at time.Duration) int { return int(s.At - at) })
	j, _ := slices.BinarySearchFunc(o.Samples, to, func(s Sample, at time.Duration) int { return int(s.At - at) })
	return o.Samples[i:max(i, j)]
}

// growth is the most that all nodes together added to a clock in any Window.
func growth(o *Observed) (worst Growth) {
	o.windows(func(from, to *Sample) {
		for _, p := range []crdt.Policy{crdt.Quorum, crdt.Share} {
			if share := float64(to.Own[p]-from.Own[p]) / float64(to.At-from.At); share > worst.Share {
				worst = Growth{p, share, to.At}
			}
		}
	})
	return worst
}

// windows calls do for every pair of samples that are a Window apart, or one or two samples less.
func (o *Observed) windows(do func(from, to *Sample)) {
	from := 0
	for to := range o.Samples {
		for o.Samples[to].At-o.Samples[from].At > Window {
			from++
		}
		if o.Samples[to].At-o.Samples[from].At >= Window-2*SampleEvery {
			do(&o.Samples[from], &o.Samples[to])
		}
	}
}

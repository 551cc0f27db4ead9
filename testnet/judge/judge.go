package judge

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/memnet"
)

// Laws are the figures that the laws depend on; zero values are the strictest.
type Laws struct {
	Nodes   int                    // that ever were
	Delay   time.Duration          // one round and the slowest link, repeats of what was lost included
	Ahead   time.Duration          // how far R may be ahead of real time: the doubt at most
	Cuts    int                    // heals
	Frozen  time.Duration          // how long the cuts lasted, together
	Blind   int                    // starts that may have found nobody to tell them what was taken
	Lawful  map[string]bool        // limits whose traffic is to be refused no more than Refused
	Refused float64                // share of what the ideal bucket admits
	Apart   time.Duration          // how far the R of two nodes may differ when all is quiet
	Late    time.Duration          // how late ticks may be paid, and samples taken: on a busy machine, in real time
	Whole   bool                   // everybody hears everybody for five seconds at the end
	Missed  map[Life]time.Duration // from when on a life that crashed may not have been heard
}

// Delay is for Laws: one round, the slowest link, and some repeats where packets are lost.
func Delay(round time.Duration, slowest memnet.Link) time.Duration {
	once := slowest.Delay + slowest.Jitter
	if slowest.Reorder > 0 {
		once += slowest.Delay + slowest.Jitter + 10*time.Millisecond
	}
	repeat := 400*time.Millisecond + 2*once
	switch {
	case slowest.Loss > 0.1:
		return round + once + 5*repeat
	case slowest.Loss > 0:
		return round + once + 2*repeat
	}
	return round + once
}

// Breach is a law that did not hold.
type Breach struct{ Law, Detail string }

func (b Breach) String() string { return b.Law + ": " + b.Detail }

// Verdict is the breaches, and how close to the laws the run came.
type Verdict struct {
	Breaches  []Breach
	Overdraft float64       // the worst, as a share of what was allowed
	Growth    float64       // the most added to a refill clock in five seconds, as a share of them
	Refused   float64       // share of lawful traffic
	Lost      int64         // tokens admitted by nodes that crashed before anybody heard of it
	Settled   time.Duration // after the last fault, when everybody was seen to have everything
}

// breach notes the first few of each law.
func (v *Verdict) breach(law, format string, args ...any) {
	known := 0
	for _, b := range v.Breaches {
		if b.Law == law {
			known++
		}
	}
	if known < 5 {
		v.Breaches = append(v.Breaches, Breach{law, fmt.Sprintf(format, args...)})
	}
}

// Of holds what was observed against the laws.
func Of(o *Observed, laws Laws) *Verdict {
	v := new(Verdict)
	if o.Missed > 0 {
		v.breach("observed", "%d takes came after the most that are kept: shorten the run, or offer less", o.Missed)
	}
	lost := v.conserved(o, laws)
	v.bounded(o, laws, lost)
	v.authorised(o, laws)
	v.awake(o, laws)
	v.converged(o, laws)
	v.lawful(o, laws)
	return v
}

func (o *Observed) ids() []ID {
	return slices.SortedFunc(maps.Keys(o.Takes), compareID)
}

// bounded holds each bucket's overdraft against promises 1 and 2. Open limits are bound only
// as long as nothing is cut.
func (v *Verdict) bounded(o *Observed, laws Laws, lost map[ID]int64) {
	for _, id := range o.ids() {
		l := o.Limits[id.Limit]
		if l.Policy == crdt.Open && laws.Cuts > 0 {
			continue
		}
		bound := l.allowance(laws) + float64(lost[id])
		worst, at := l.Overdraft(o.Takes[id])
		if bound > 0 {
			v.Overdraft = max(v.Overdraft, worst/bound)
		}
		if worst > bound+crumb {
			v.breach("bounded", "%s %s: overdrawn by %.1f tokens at %v, at most %.1f (capacity %d, %g/s, %d of them lost in crashes)",
				id.Limit, id.Key, worst, at, bound, l.Capacity, l.Rate, lost[id])
		}
	}
}

// allowance is promise 1, and once per heal min(capacity, rate · frozen time); a node that
// started blind brings a full bucket, and so does every new definition.
func (l *Ideal) allowance(laws Laws) float64 {
	capacity := float64(l.Capacity)
	each := capacity + l.Rate*laws.Delay.Seconds()
	sum := float64(laws.Nodes-1)*each + l.Rate*laws.Ahead.Seconds()
	sum += min(float64(laws.Cuts)*capacity, l.Rate*laws.Frozen.Seconds())
	return sum + float64(laws.Blind+l.Reset)*capacity + float64(l.Reset*(laws.Nodes-1))*each
}

// SampleEvery is how often the refill clocks are to be sampled.
const SampleEvery = 250 * time.Millisecond

// Window is over how long the growth of the refill clocks is judged, and how much more than
// it may be added (ticks do not fall on its ends).
const (
	Window   = 5 * time.Second
	overGrow = 1.02
)

// authorised: over any Window, all nodes together add no more than its length.
func (v *Verdict) authorised(o *Observed, laws Laws) {
	o.windows(func(from, to *Sample) {
		for _, p := range []crdt.Policy{crdt.Quorum, crdt.Share} {
			passed, grown := to.At-from.At, to.Own[p]-from.Own[p]
			v.Growth = max(v.Growth, float64(grown)/float64(passed))
			if float64(grown-laws.Late) <= overGrow*float64(passed) {
				continue
			}
			by := make(map[string]time.Duration)
			for m, own := range to.By {
				by[m] = (own.Own[p] - from.By[m].Own[p]).Round(time.Millisecond)
			}
			v.breach("authorised", "%v clock grew by %v in the %v before %v: %v", p, grown, passed, to.At, by)
		}
	})
}

// awake: at the end, when everybody hears everybody, the clocks run at one second a second.
func (v *Verdict) awake(o *Observed, laws Laws) {
	if !laws.Whole || len(o.Samples) == 0 {
		return
	}
	last := o.Samples[len(o.Samples)-1]
	first := last
	for _, s := range o.Samples {
		if last.At-s.At <= Window {
			first = s
			break
		}
	}
	for p := range last.Own {
		grown, passed := last.Own[p]-first.Own[p], last.At-first.At
		if float64(grown+laws.Late) < float64(passed)/overGrow {
			v.breach("awake", "%v clock grew by %v in the last %v, though everybody hears everybody", crdt.Policy(p), grown, passed)
		}
	}
}

// converged: all nodes show the same slots, and a level as far apart as their R at most.
func (v *Verdict) converged(o *Observed, laws Laws) {
	for _, id := range o.ids() {
		hs := o.Holdings[id]
		for i := 1; i < len(hs); i++ {
			if !maps.Equal(hs[0].Taken, hs[i].Taken) {
				v.breach("converged", "%s %s: %s shows slots %v, %s shows %v", id.Limit, id.Key, hs[0].Node, hs[0].Taken, hs[i].Node, hs[i].Taken)
				break
			}
			apart := math.Abs(float64(hs[0].Level - hs[i].Level))
			if most := 1000*o.Limits[id.Limit].Rate*laws.Apart.Seconds() + 1; apart > most {
				v.breach("converged", "%s %s: level %d on %s, %d on %s (millitokens)", id.Limit, id.Key, hs[0].Level, hs[0].Node, hs[i].Level, hs[i].Node)
				break
			}
		}
	}
}

// conserved: what each life admitted is what its slots say. Of a life that crashed the slots
// may say less, but then what they say is what it had admitted at some earlier moment. It
// returns what was lost like that.
func (v *Verdict) conserved(o *Observed, laws Laws) map[ID]int64 {
	lost := make(map[ID]int64)
	for _, id := range o.ids() {
		if o.Limits[id.Limit].Reset > 0 || len(o.Holdings[id]) == 0 {
			continue
		}
		taken := make(map[Life]int64)
		for writer, n := range o.Holdings[id][0].Taken {
			life, known := o.Writers[writer]
			if !known {
				v.breach("conserved", "%s %s: slot of %s, who never took anything", id.Limit, id.Key, writer)
			}
			taken[life] += n
		}
		for life, mine := range byLife(o.Takes[id]) {
			all := mine[len(mine)-1].sum
			at, crashed := o.Crashed[life]
			switch got := taken[life] / 1000; {
			case got == all:
			case !crashed:
				v.breach("conserved", "%s %s: life %d of %s admitted %d tokens, its slots say %d", id.Limit, id.Key, life.Number, life.Machine, all, got)
			default:
				lost[id] += all - got
				v.Lost += all - got
				v.prefix(id, life, mine, got, at, laws)
			}
		}
	}
	return lost
}

// prefix judges what a crash left of a life's takes.
func (v *Verdict) prefix(id ID, life Life, mine []running, got int64, crash time.Duration, laws Laws) {
	heard := got == 0
	for i, r := range mine {
		heard = heard || r.sum == got
		since, excused := laws.Missed[life]
		if !excused {
			since = crash - laws.Delay
		}
		if r.sum > got && r.at < since {
			v.breach("conserved", "%s %s: life %d of %s admitted take %d at %v, nobody knows of it, and it crashed only at %v", id.Limit, id.Key, life.Number, life.Machine, i, r.at, crash)
			return
		}
	}
	if !heard {
		v.breach("conserved", "%s %s: slots of life %d of %s, which crashed, say %d tokens: at no time had it admitted that many", id.Limit, id.Key, life.Number, life.Machine, got)
	}
}

// running is what a life had admitted, its take at a time included.
type running struct {
	at  time.Duration
	sum int64
}

func byLife(takes []Take) map[Life][]running {
	lives := make(map[Life][]running)
	for _, t := range takes {
		if !t.Admitted || t.Backup {
			continue
		}
		mine := lives[t.Life]
		sum := t.Cost
		if len(mine) > 0 {
			sum += mine[len(mine)-1].sum
		}
		lives[t.Life] = append(mine, running{t.At, sum})
	}
	return lives
}

// lawful: what the ideal bucket would have admitted was admitted, all lawful buckets together.
func (v *Verdict) lawful(o *Observed, laws Laws) {
	var missed, admits int64
	for _, id := range o.ids() {
		if !laws.Lawful[id.Limit] {
			continue
		}
		ideal := o.Limits[id.Limit].Admits(o.Takes[id])
		admitted, _ := o.Admitted(id)
		admits += ideal
		missed += max(0, ideal-admitted)
	}
	if admits == 0 {
		return
	}
	v.Refused = float64(missed) / float64(admits)
	if v.Refused > laws.Refused {
		v.breach("lawful", "%d of %d tokens that an ideal bucket admits were refused", missed, admits)
	}
}

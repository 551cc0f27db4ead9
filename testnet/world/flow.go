package world

import (
	"iter"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// Flow is a stream of takes: who is asked, for which buckets, how often. Its own place in the
// stream is in it, so a Flow belongs to one World. Its fields may be changed between two Runs.
type Flow struct {
	Limit     string
	PerSecond float64  // takes offered in the mean, by all asked nodes together; silences count as time
	Cost      int64    // tokens a take; 0: one
	Nodes     []string // that are asked in turn; nil: all. One that does not run is left out
	Pattern   Pattern
	Keys      Keys

	state flowState
}

// Pattern is how takes arrive.
type Pattern struct {
	Even  bool          // evenly spaced, nodes by turns; else both at random (Poisson)
	Burst int           // so many at once, each time; 0: one
	On    time.Duration // sends for so long, then
	Off   time.Duration // is silent for so long; 0: never silent
}

// Keys is whose buckets are taken from.
type Keys struct {
	Name string  // of the key, or before the number of one
	N    int     // how many there are, numbered from 1; 0: one, Name itself
	Zipf float64 // > 1: by zipf, number 1 the hottest, number k taken k to this power less often; else evenly
	New  bool    // each take brings a key that nobody has seen: a flood
}

// Arrival is a take that is due.
type Arrival struct {
	At   time.Duration
	Key  string
	Cost int64
	Turn int // who is asked: this modulo the number of those who can be
}

// tooLate is how late a take is still offered: of what was due while the caller was away it gets
// no flood.
const tooLate = 250 * time.Millisecond

// flowState is a place in the stream. The stream is drawn on a clock of its own that stands
// still while the flow is silent.
type flowState struct {
	random  *rand.Rand
	drawn   drawn         // what next was drawn for
	from    time.Duration // zero of the clock
	sent    float64       // its reading at next, in nanoseconds
	next    time.Duration
	left    int // of the burst at next
	turn    int
	skipped uint64
	names   names
}

type drawn struct {
	perSecond float64
	pattern   Pattern
}

// Begin puts the flow at the start of a stream, at a time. The same seed gives the same stream,
// however often it is looked at. World.Run begins a flow that it sees for the first time.
func (f *Flow) Begin(seed uint64, at time.Duration) {
	f.state = flowState{random: rand.New(rand.NewPCG(seed, 0xf10))}
	f.redraw(at)
}

// Begun tells whether the flow has a place in its stream.
func (f *Flow) Begun() bool { return f.state.random != nil }

// Skipped is how many takes were not offered as they were looked at too late.
func (f *Flow) Skipped() uint64 { return f.state.skipped }

// Due is the takes due by now that were not due before, in order. What is more than 250 ms late
// is skipped.
func (f *Flow) Due(now time.Duration) iter.Seq[Arrival] {
	return func(yield func(Arrival) bool) {
		s := &f.state
		if s.drawn != (drawn{f.PerSecond, f.Pattern}) {
			f.redraw(now)
		}
		for s.next <= now {
			if s.left == 0 {
				f.draw()
				continue
			}
			s.left--
			if now-s.next > tooLate {
				s.skipped++
				continue
			}
			a := Arrival{At: s.next, Key: s.names.draw(&f.Keys, s.random), Cost: max(1, f.Cost), Turn: s.turn}
			if s.turn++; !f.Pattern.Even {
				a.Turn = int(s.random.Int32())
			}
			if !yield(a) {
				return
			}
		}
	}
}

// never is when a flow of no takes comes.
const never = time.Duration(math.MaxInt64)

// redraw begins the arrivals anew at a time, for the pattern that there is now.
func (f *Flow) redraw(at time.Duration) {
	s := &f.state
	s.drawn, s.from, s.sent, s.next = drawn{f.PerSecond, f.Pattern}, at, 0, never
	if f.PerSecond > 0 {
		f.draw()
	}
}

// draw draws when the next burst comes.
func (f *Flow) draw() {
	s, p := &f.state, &f.Pattern
	s.left = max(1, p.Burst)
	gap := float64(s.left) * float64(time.Second) / f.PerSecond
	silent := p.On > 0 && p.Off > 0
	if silent {
		gap *= float64(p.On) / float64(p.On+p.Off)
	}
	if !p.Even {
		gap *= s.random.ExpFloat64()
	}
	s.sent += max(gap, 1)
	s.next = never
	at := s.sent
	if silent {
		at += math.Floor(s.sent/float64(p.On)) * float64(p.Off)
	}
	if at < float64(never-s.from) {
		s.next = s.from + time.Duration(at)
	}
}

// names draws keys. It keeps their names, so that a busy flow allocates none.
type names struct {
	of   Keys // that the rest was made for
	zipf *rand.Zipf
	kept []string
}

// mostKept bounds the names kept; others are made when they are drawn.
const mostKept = 10_000

func (n *names) draw(k *Keys, random *rand.Rand) string {
	switch {
	case k.New:
		return k.Name + strconv.FormatUint(random.Uint64(), 36)
	case k.N <= 0:
		return k.Name
	}
	if n.of != *k {
		n.make(k, random)
	}
	i := 0
	if n.zipf != nil {
		i = int(n.zipf.Uint64())
	} else {
		i = random.IntN(k.N)
	}
	if i < len(n.kept) {
		return n.kept[i]
	}
	return k.name(i)
}

func (n *names) make(k *Keys, random *rand.Rand) {
	*n = names{of: *k}
	if k.Zipf > 1 {
		n.zipf = rand.NewZipf(random, k.Zipf, 1, uint64(k.N-1))
	}
	for i := range min(k.N, mostKept) {
		n.kept = append(n.kept, k.name(i))
	}
}

func (k *Keys) name(i int) string { return k.Name + strconv.Itoa(i+1) }

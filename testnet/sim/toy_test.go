package sim_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
)

// rule is one node's way to hold one limit on one key: how it takes, what it tells the
// others, and what it makes of what they tell. Nodes share a perfect clock.
type rule interface {
	take(now time.Duration) bool
	state() any // sent to every other node each round
	receive(now time.Duration, from int, state any)
	level(now time.Duration) int64 // millitokens
	taken() map[int]int64          // millitokens, by node
}

// maker makes node i of n with a limit.
type maker func(i, n int, l judge.Ideal) rule

// toy is a cluster of rules: rounds, delay and loss as in the real one, everything else
// left out.
type toy struct {
	nodes   []rule
	round   time.Duration
	delay   time.Duration
	loss    float64
	limit   judge.Ideal
	offered float64       // per second, spread over those who are asked
	asked   int           // how many of the nodes, the first ones
	moves   time.Duration // after which the next node alone is asked; 0: they take turns
	lasts   time.Duration
}

// letter is a state under way.
type letter struct {
	at       time.Duration
	from, to int
	state    any
}

type letters []letter

func (l letters) Len() int           { return len(l) }
func (l letters) Less(i, j int) bool { return l[i].at < l[j].at }
func (l letters) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *letters) Push(x any)        { *l = append(*l, x.(letter)) }
func (l *letters) Pop() any          { x := (*l)[len(*l)-1]; *l = (*l)[:len(*l)-1]; return x }

const toyStep = 5 * time.Millisecond

// play runs the toy under load, then quietly, and judges it as the real cluster is judged.
func (y *toy) play(mk maker, seed uint64) *judge.Verdict {
	random := rand.New(rand.NewPCG(seed, 7))
	for i := range y.nodes {
		y.nodes[i] = mk(i, len(y.nodes), y.limit)
	}
	id := judge.ID{Limit: "l", Key: "k"}
	o := &judge.Observed{Limits: map[string]*judge.Ideal{"l": &y.limit}, Takes: make(map[judge.ID][]judge.Take), Writers: make(map[string]judge.Life), Holdings: make(map[judge.ID][]judge.Holding)}
	var mail letters
	gap := time.Duration(float64(time.Second) / y.offered)
	next, turn := time.Duration(0), 0
	quiet := 10 * (y.round + y.delay)
	for now := toyStep; now <= y.lasts+quiet; now += toyStep {
		for len(mail) > 0 && mail[0].at <= now {
			m := heap.Pop(&mail).(letter)
			y.nodes[m.to].receive(now, m.from, m.state)
		}
		for ; next <= now && now <= y.lasts; next += gap {
			i := turn % y.asked
			if turn++; y.moves > 0 {
				i = int(now/y.moves) % y.asked
			}
			o.Takes[id] = append(o.Takes[id], judge.Take{At: now, Life: life(i), Cost: 1, Admitted: y.nodes[i].take(now)})
		}
		if now%y.round != 0 {
			continue
		}
		for from := range y.nodes {
			for to := range y.nodes {
				if lost := random.Float64() < y.loss; from != to && !(lost && now <= y.lasts) {
					heap.Push(&mail, letter{now + y.delay, from, to, y.nodes[from].state()})
				}
			}
		}
	}
	for i, n := range y.nodes {
		h := judge.Holding{Node: fmt.Sprint(i), Level: n.level(y.lasts + quiet), Taken: make(map[string]int64)}
		for w, tokens := range n.taken() {
			h.Taken[fmt.Sprint(w)] = tokens
			o.Writers[fmt.Sprint(w)] = life(w)
		}
		o.Holdings[id] = append(o.Holdings[id], h)
	}
	delay := y.round + y.delay
	if y.loss > 0 {
		delay += 5 * y.round
	}
	return judge.Of(o, judge.Laws{Nodes: len(y.nodes), Delay: delay, Apart: toyStep, Lawful: map[string]bool{"l": y.offered < y.limit.Rate}, Refused: 0.001})
}

func life(i int) judge.Life { return judge.Life{Machine: fmt.Sprint(i), Number: 1} }

// ours is the product's rule, crdt.Bucket, on the toy's perfect clock.
type ours struct {
	me    int
	terms crdt.Terms
	b     crdt.Bucket
}

func newOurs(i, n int, l judge.Ideal) rule {
	d := limit("l", l.Capacity, fmt.Sprint(l.Rate))
	o := &ours{me: i, terms: crdt.Terms{Definition: d, Pieces: []crdt.Piece{{Rate: d.Rate}}, Idle: crdt.Never}}
	o.terms.MaxDebt = crdt.Milli(n-1) * (d.Capacity + o.terms.Fill(0, crdt.Instant(3*time.Second)))
	o.b = crdt.NewBucket(&o.terms, 0)
	return o
}

func (o *ours) take(now time.Duration) bool {
	return o.b.Take(&o.terms, crdt.Instant(now), crdt.Token, crdt.SlotID{Writer: crdt.Writer(o.me), Serial: 1})
}
func (o *ours) state() any { return o.b.Clone() }
func (o *ours) receive(now time.Duration, _ int, state any) {
	theirs := state.(crdt.Bucket)
	theirs = theirs.Clone()
	theirs.Advance(&o.terms, crdt.Instant(now))
	o.b.Advance(&o.terms, crdt.Instant(now))
	o.b.Join(&theirs)
}
func (o *ours) level(now time.Duration) int64 {
	o.b.Advance(&o.terms, crdt.Instant(now))
	return int64(o.b.Level(&o.terms))
}
func (o *ours) taken() map[int]int64 {
	m := make(map[int]int64)
	for _, s := range o.b.Slots() {
		m[int(s.Writer)] += s.N
	}
	return m
}

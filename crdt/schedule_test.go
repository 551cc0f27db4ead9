package crdt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// limiter is one node's copy of one limited key, by whatever rule. Messages are values:
// a sender's later doings must not show in them.
type limiter interface {
	take(r Instant, n Milli) bool
	level(r Instant) Milli
	send(r Instant) any
	receive(r Instant, message any)
}

// ours is the rule of this package.
type ours struct{ replica }

func newOurs(node, _ int, tr *Terms) limiter {
	return &ours{replica{terms: tr, writer: Writer(node + 1), serial: 1}}
}

func (o *ours) take(r Instant, n Milli) bool { o.r = max(o.r, r); return o.replica.take(n) }
func (o *ours) level(r Instant) Milli        { o.r = max(o.r, r); return o.replica.level() }
func (o *ours) send(r Instant) any           { o.r = max(o.r, r); return o.meet().Clone() }
func (o *ours) receive(r Instant, m any)     { o.r = max(o.r, r); b := m.(Bucket); o.replica.receive(&b) }

// play is one random schedule from a seed: takes in bursts and pauses on nodes whose
// readings of R lag, messages that are lost, doubled, late and out of order. It watches
// the nodes from outside and judges by four laws:
//
//	heard     no take is admitted if the takes that its node has heard of, and this one,
//	          come to more than the capacity and the refill so far
//	agree     after quiet, all nodes show one level
//	ideal     that level is never above, and at most one capacity below, the level of
//	          an ideal bucket that was fed every admitted take at its taker's reading
//	rest      left alone until its debt and capacity are refilled, the bucket is full
type play struct {
	*rand.Rand
	terms    *Terms
	nodes    []limiter
	now      Instant
	reading  []Instant // of each node: behind now by up to lag
	lag      Instant
	heard    [][]Milli // [i][j]: of j's takes, what has reached i by any way
	air      []flying
	admitted []taken
	takes    int
}

type flying struct {
	at      Instant
	to      int
	message any
	heard   []Milli
}

type taken struct {
	r Instant
	n Milli
}

const tick = Instant(50e6)

// run plays the schedule of a seed and returns the law that was broken, if any.
func run(seed uint64, rule func(node, nodes int, tr *Terms) limiter) (*play, error) {
	p := &play{Rand: rand.New(rand.NewPCG(seed, 1))}
	capacity := Milli(10+p.IntN(190)) * Token
	perSecond := 1 + p.IntN(int(capacity/Token)) // so that filling takes a second or more
	r, err := ParseRate(fmt.Sprint(perSecond))
	if err != nil {
		return nil, err
	}
	p.terms = terms(capacity, r)
	p.now, p.lag = second, Instant(p.IntN(int(2*tick)))
	n := 2 + p.IntN(4)
	for i := range n {
		p.nodes = append(p.nodes, rule(i, n, p.terms))
		p.reading = append(p.reading, p.now)
		p.heard = append(p.heard, make([]Milli, n))
	}
	loss, delay := p.Float64()*0.3, Instant(p.IntN(int(3*tick)))
	for range 1 + p.IntN(4) {
		if err := p.phase(10+p.IntN(100), p.Float64()*3, loss, delay); err != nil {
			return p, err
		}
	}
	return p, p.judge()
}

// phase is some ticks in which each node tries load·(rate/nodes) tokens and then sends.
func (p *play) phase(ticks int, load, loss float64, delay Instant) error {
	perTick := load * float64(p.terms.Fill(0, tick)) / float64(len(p.nodes))
	for range ticks {
		p.now += tick
		for i := range p.nodes {
			p.reading[i] = max(p.reading[i], p.now-Instant(p.Int64N(int64(p.lag)+1)))
			for want := perTick * 2 * p.Float64(); want > 0; {
				cost := Milli(1+p.IntN(3)) * Token
				want -= float64(cost)
				if want < 0 && p.Float64() > (want+float64(cost))/float64(cost) {
					break
				}
				if err := p.take(i, cost); err != nil {
					return err
				}
			}
		}
		p.exchange(loss, delay)
		p.deliver()
	}
	return nil
}

func (p *play) take(i int, cost Milli) error {
	p.takes++
	if !p.nodes[i].take(p.reading[i], cost) {
		return nil
	}
	p.admitted = append(p.admitted, taken{p.reading[i], cost})
	p.heard[i][i] += cost
	sum := Milli(0)
	for _, n := range p.heard[i] {
		sum += n
	}
	if most := p.terms.Capacity + p.terms.Fill(0, p.now) - p.terms.Fill(0, second); sum > most {
		return fmt.Errorf("heard: node %d of %d admits %d millitokens that it knows of, of %d", i, len(p.nodes), sum, most)
	}
	return nil
}

func (p *play) exchange(loss float64, delay Instant) {
	for i := range p.nodes {
		for j := range p.nodes {
			if i == j {
				continue
			}
			m := flying{p.now + Instant(p.Int64N(int64(delay)+1)), j, p.nodes[i].send(p.reading[i]), slices.Clone(p.heard[i])}
			if p.Float64() < loss {
				continue
			}
			p.air = append(p.air, m)
			if p.Float64() < loss {
				m.at += delay
				p.air = append(p.air, m)
			}
		}
	}
}

func (p *play) deliver() {
	p.air = slices.DeleteFunc(p.air, func(m flying) bool {
		if m.at > p.now {
			return false
		}
		p.nodes[m.to].receive(p.reading[m.to], m.message)
		for j, n := range m.heard {
			p.heard[m.to][j] = max(p.heard[m.to][j], n)
		}
		return true
	})
}

// judge lets everything arrive at one reading, then compares, then lets the bucket rest.
func (p *play) judge() error {
	p.now += second // all that flies has landed
	for i := range p.reading {
		p.reading[i] = p.now
	}
	p.deliver()
	for range 4 {
		p.exchange(0, 0)
		p.deliver()
	}
	want := newIdeal(p.terms.Capacity, p.terms.Rate)
	slices.SortStableFunc(p.admitted, func(a, b taken) int { return int(a.r - b.r) })
	for _, t := range p.admitted {
		want.force(t.r, t.n)
	}
	want.advance(p.now)
	first := p.nodes[0].level(p.now)
	for i, n := range p.nodes {
		level := n.level(p.now)
		switch {
		case level != first:
			return fmt.Errorf("agree: node %d shows %d, node 0 %d", i, level, first)
		case level > want.floor()+1:
			return fmt.Errorf("ideal: level %d, an ideal bucket has %d", level, want.floor())
		case level < want.floor()-p.terms.Capacity:
			return fmt.Errorf("ideal: level %d, an ideal bucket has %d of %d", level, want.floor(), p.terms.Capacity)
		}
	}
	p.now += Instant(p.terms.Rate.Time(p.terms.Capacity - first))
	for i, n := range p.nodes {
		if level := n.level(p.now + 1); level != p.terms.Capacity {
			return fmt.Errorf("rest: node %d shows %d of %d", i, level, p.terms.Capacity)
		}
	}
	return nil
}

func TestOurRulePassesEverySchedule(t *testing.T) {
	takes := 0
	for seed := range uint64(300) {
		p, err := run(seed, newOurs)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		takes += p.takes
		var sum, admitted Milli
		for _, s := range p.nodes[0].(*ours).bucket.Slots() {
			sum += Milli(s.N)
		}
		for _, a := range p.admitted {
			admitted += a.n
		}
		if sum != admitted {
			t.Fatalf("seed %d: admitted %d, but the slots hold %d", seed, admitted, sum)
		}
	}
	t.Logf("%d takes", takes)
}

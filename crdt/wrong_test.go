package crdt

import (
	"strings"
	"testing"
)

// The rules of others, each in a few lines, and condemned by the schedules that ours passes.

// patrol keeps one shared slot, merged by maximum: concurrent takes hide each other.
func newPatrol(_, _ int, tr *Terms) limiter {
	return &ours{replica{terms: tr, writer: 1, serial: 1}}
}

// colibri is a PN-counter into which every node writes the refill that it sees.
type colibri struct {
	PNCounter
	id    SlotID
	terms *Terms
	mark  Instant
}

func newColibri(node, _ int, tr *Terms) limiter {
	return &colibri{id: SlotID{Writer(node + 1), 1}, terms: tr, mark: second}
}

func (c *colibri) level(r Instant) Milli {
	if r > c.mark {
		c.Raise(c.id, int64(min(-Milli(c.sum), c.terms.Fill(c.mark, r))), 0)
		c.mark = r
	}
	return min(c.terms.Capacity, c.terms.Capacity+Milli(c.sum))
}

func (c *colibri) take(r Instant, n Milli) bool {
	if c.level(r) < n {
		return false
	}
	c.Raise(c.id, 0, int64(n))
	return true
}

func (c *colibri) send(r Instant) any       { c.level(r); return c.clone() }
func (c *colibri) receive(r Instant, m any) { o := m.(PNCounter); c.level(r); c.Join(&o) }

// seconds is ours, but the mark travels in whole seconds: what was refilled since is
// refilled again at every merge.
type seconds struct{ ours }

func newSeconds(node, _ int, tr *Terms) limiter {
	return &seconds{ours{replica{terms: tr, writer: Writer(node + 1), serial: 1}}}
}

func (s *seconds) receive(r Instant, m any) {
	s.ours.receive(r, m)
	s.bucket.Mark -= s.bucket.Mark % second
}

// limitador counts in fixed windows, and when a window rolls keeps what it has of peers.
type limitador struct {
	node   int
	counts []Milli
	terms  *Terms
	window Instant
}

func newLimitador(node, nodes int, tr *Terms) limiter {
	return &limitador{node: node, counts: make([]Milli, nodes), terms: tr}
}

func (l *limitador) level(r Instant) Milli {
	if w := r / Instant(l.terms.Rate.Time(l.terms.Capacity)); w > l.window {
		l.window, l.counts[l.node] = w, 0
	}
	return l.terms.Capacity - l.counted()
}

func (l *limitador) counted() (sum Milli) {
	for _, n := range l.counts {
		sum += n
	}
	return sum
}

func (l *limitador) take(r Instant, n Milli) bool {
	if l.level(r) < n {
		return false
	}
	l.counts[l.node] += n
	return true
}

func (l *limitador) send(Instant) any { return [2]Milli{Milli(l.node), l.counts[l.node]} }
func (l *limitador) receive(_ Instant, m any) {
	l.counts[m.([2]Milli)[0]] = m.([2]Milli)[1]
}

// gubernator has an owner, node 0, to which the others send their hits once, and which
// tells them the level: hits in a message that is lost are dropped.
type gubernator struct {
	node  int
	hits  Milli // since the last send
	terms *Terms
	mark  Instant
	left  Milli
}

func newGubernator(node, _ int, tr *Terms) limiter {
	return &gubernator{node: node, terms: tr, mark: second, left: tr.Capacity}
}

func (g *gubernator) level(r Instant) Milli {
	if r > g.mark {
		g.left = min(g.terms.Capacity, g.left+g.terms.Fill(g.mark, r))
		g.mark = r
	}
	return g.left
}

func (g *gubernator) take(r Instant, n Milli) bool {
	if g.level(r) < n {
		return false
	}
	g.left -= n
	g.hits += n
	return true
}

func (g *gubernator) send(r Instant) any {
	defer func() { g.hits = 0 }()
	return [3]Milli{Milli(g.node), g.hits, g.level(r)}
}

func (g *gubernator) receive(r Instant, m any) {
	switch from := m.([3]Milli); {
	case g.node == 0:
		g.level(r)
		g.left -= from[1]
	case from[0] == 0:
		g.left, g.mark = from[2]-g.hits, max(g.mark, r)
	}
}

func TestWrongRulesAreCondemned(t *testing.T) {
	for _, c := range []struct {
		name string
		rule func(node, nodes int, tr *Terms) limiter
	}{
		{"one shared slot merged by max (patrol)", newPatrol},
		{"refill written by every node (colibri)", newColibri},
		{"timestamp cut to seconds", newSeconds},
		{"window roll keeps the peers' counts (limitador)", newLimitador},
		{"hits dropped when a peer does not answer (gubernator)", newGubernator},
	} {
		t.Run(c.name, func(t *testing.T) {
			laws := map[string]int{}
			for seed := range uint64(50) {
				if _, err := run(seed, c.rule); err != nil {
					law, _, _ := strings.Cut(err.Error(), ":")
					laws[law]++
				}
			}
			if t.Logf("broken in 50 schedules: %v", laws); len(laws) == 0 {
				t.Fatal("passes: the laws are too weak")
			}
		})
	}
}

// saturate offers a token to every node in turn, each tick for the whole time, everybody
// hearing everybody perfectly between two ticks, and returns what was admitted.
func saturate(nodes int, tr *Terms, time, tick Instant, rule func(node, nodes int, tr *Terms) limiter) (admitted Milli) {
	var all []limiter
	for i := range nodes {
		all = append(all, rule(i, nodes, tr))
	}
	for r := second; r < second+time; r += tick {
		for _, n := range all {
			if n.take(r, Token) {
				admitted += Token
			}
		}
		for i, from := range all {
			m := from.send(r)
			for j, to := range all {
				if i != j || nodes == 1 { // alone, it hears its own echo
					to.receive(r, m)
				}
			}
		}
	}
	return admitted
}

// The damage, in figures: what is admitted, over what may be.
func TestWhatTheWrongRulesAdmit(t *testing.T) {
	for _, c := range []struct {
		name       string
		nodes      int
		capacity   Milli
		rate       string
		time, tick Instant
		rule       func(node, nodes int, tr *Terms) limiter
		may, least Milli // tokens: an ideal bucket's total; what the wrong rule admits at least
	}{
		{"patrol", 5, 100, "1/d", 300 * second, second, newPatrol, 100, 500},
		{"colibri", 5, 20, "10", 60 * second, second / 20, newColibri, 620, 2700},
		{"seconds", 1, 10, "5", 10 * second, second / 20, newSeconds, 60, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := terms(c.capacity*Token, rate(t, c.rate))
			wrong := saturate(c.nodes, tr, c.time, c.tick, c.rule) / Token
			right := saturate(c.nodes, tr, c.time, c.tick, newOurs) / Token
			t.Logf("of %d: wrong %d, ours %d", c.may, wrong, right)
			if wrong < c.least {
				t.Errorf("the wrong rule admits %d only, want %d", wrong, c.least)
			}
			if most := c.may + Milli(c.nodes-1); right > most || right < c.may-1 {
				t.Errorf("ours admits %d, want %d to %d", right, c.may-1, most)
			}
		})
	}
}

// After a roll of its window, limitador reads 91 for a single take: 90 are its peers' of old.
func TestAWindowRollKeepsNoPeersCounts(t *testing.T) {
	read := func(rule func(node, nodes int, tr *Terms) limiter) Milli {
		tr := terms(100*Token, rate(t, "10"))
		a, b := rule(0, 2, tr), rule(1, 2, tr)
		for range 90 {
			b.take(second, Token)
		}
		a.receive(second, b.send(second))
		later := second + 20*second
		a.take(later, Token)
		return tr.Capacity - a.level(later)
	}
	if got := read(newLimitador); got != 91*Token {
		t.Errorf("limitador reads %d, want its 91", got)
	}
	if got := read(newOurs); got != Token {
		t.Errorf("ours reads %d, want 1 token", got)
	}
}

// An hour-old key on a node that first sees it: lawful use goes on, no second bucket is granted.
func TestFirstSightOfAnOldKey(t *testing.T) {
	tr := terms(10*Token, rate(t, "10"))
	a, b := newOurs(0, 2, tr), newOurs(1, 2, tr)
	now := second
	for range 3600 * 8 {
		now += second / 8
		a.take(now, Token)
	}
	b.receive(now, a.send(now))
	if a.level(now) != b.level(now) {
		t.Fatalf("level %d there, %d here", a.level(now), b.level(now))
	}
	for i := range 600 {
		if now += second / 8; !b.take(now, Token) {
			t.Fatalf("lawful take %d refused", i)
		}
	}
	for b.take(now, Token) {
	}
	a.receive(now, b.send(now))
	if a.take(now, Token) {
		t.Fatal("a second bucket was granted")
	}
}

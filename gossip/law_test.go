package gossip

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func entries(t *rapid.T, label string) []entry {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) entry {
		return entry{Node: string(rune('a' + rapid.IntRange(0, 4).Draw(t, "node"))), Addr: "10.0.0.1:1",
			Writer: rapid.Uint64Range(1, 3).Draw(t, "writer"), Counter: rapid.Uint64Range(1, 4).Draw(t, "counter"),
			State: MemberState(rapid.IntRange(0, 2).Draw(t, "state"))}
	}), 0, 8).Draw(t, label)
}

func joined(sets ...[]entry) roster {
	r := make(roster)
	for _, es := range sets {
		r.join(es)
	}
	return r
}

func TestRosterJoinIsALattice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := entries(t, "a"), entries(t, "b"), entries(t, "c")
		abc := joined(a, b, c)
		for _, other := range []roster{joined(c, b, a), joined(b, c, a, a), joined(abc.sorted(), b)} {
			if !maps.Equal(abc, other) {
				t.Fatalf("%v\n%v", abc, other)
			}
		}
		if changed, _ := abc.join(b); changed {
			t.Fatal("joined twice, changed twice")
		}
	})
}

func TestRosterStaysBounded(t *testing.T) {
	r := make(roster)
	var es []entry
	for i := range 3 * maxRoster {
		es = append(es, entry{Node: fmt.Sprintf("n%04d", i), Addr: "10.0.0.1:1", Writer: 1, Counter: uint64(i + 1),
			State: MemberState(i % 2)})
	}
	_, cut := r.join(es)
	gone := 0
	for _, e := range r {
		if e.State != Joined {
			gone++
		}
	}
	if len(r) > maxRoster || gone > maxGone || cut == 0 {
		t.Errorf("%d entries, %d gone, %d cut", len(r), gone, cut)
	}
}

// TestVectorEqualsASet: whatever ranges come, in whatever order, the vector knows exactly
// what a set of versions would.
func TestVectorEqualsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, set := newVector(), map[uint64]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "ranges") {
			from := rapid.Uint64Range(0, 60).Draw(t, "from")
			s := span{from, from + rapid.Uint64Range(1, 10).Draw(t, "length")}
			inside := true
			for i := s.from + 1; i <= s.to; i++ {
				inside = inside && set[i]
			}
			if v.has(1, s) != inside {
				t.Fatalf("has %v: %v, a set says %v; %v", s, !inside, inside, v)
			}
			v.take(1, s)
			for i := s.from + 1; i <= s.to; i++ {
				set[i] = true
			}
			var upTo uint64
			for set[upTo+1] {
				upTo++
			}
			if v.upTo[1] != upTo {
				t.Fatalf("up to %d, a set says %d; %v", v.upTo[1], upTo, v)
			}
			if !slices.IsSortedFunc(v.beyond[1], func(a, b span) int { return int(a.from) - int(b.from) }) {
				t.Fatalf("%v", v)
			}
		}
	})
}

// TestMarksInTurnsTellEverything: a vector too large for a frame is told in parts, each with what
// we have of its addressee: else that one resends for want of an acknowledgement.
func TestMarksInTurnsTellEverything(t *testing.T) {
	v := newVector()
	for i := range uint64(100) {
		v.raise(i*7919+1, i+1)
	}
	told := map[uint64]uint64{}
	const to = 50*7919 + 1
	var part []mark
	var turn uint64
	for range 100/maxVector + 1 {
		part, turn = v.marks(maxVector, to, turn)
		ascending := slices.IsSortedFunc(part, func(a, b mark) int { return cmp.Compare(a.writer, b.writer) })
		if len(part) > maxVector || !ascending || !slices.Contains(part, mark{to, 51}) {
			t.Fatalf("%d marks, sorted %v: %v", len(part), ascending, part)
		}
		for _, m := range part {
			told[m.writer] = m.version
		}
	}
	if !maps.Equal(told, v.upTo) {
		t.Errorf("told %d of %d", len(told), len(v.upTo))
	}
}

// words is a State that packs ids as single bytes, to watch what packs.
type words struct{ State }

func (words) Pack(dst []byte, ids []uint32, room int) ([]byte, int) {
	for i, id := range ids {
		if i >= room {
			return dst, i
		}
		dst = append(dst, byte(id))
	}
	return dst, len(ids)
}

// TestPacksCoverTheLog: packed piece by piece, every item listed goes out in the piece that
// claims its version.
func TestPacksCoverTheLog(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		var c changelog
		version := uint64(0)
		for range rng.IntN(60) {
			version += uint64(rng.IntN(3))
			if version > 0 {
				c.add(version, uint32(rng.IntN(20)))
			}
		}
		head := version
		p := newPacker(words{})
		for from := uint64(0); from < head; {
			payload, to, _ := p.pack(&c, from, head, 1+rng.IntN(6))
			if to <= from {
				t.Fatalf("no progress from %d to %d", from, head)
			}
			for _, ch := range c.list {
				if ch.version > from && ch.version <= to && !slices.Contains(payload, byte(ch.id)) {
					t.Fatalf("(%d, %d] lacks %v: %v of %v", from, to, ch, payload, c.list)
				}
			}
			from = to
		}
	}
}

// TestCompactionKeepsTheLast: half of a log that repeats itself goes, no item does.
func TestCompactionKeepsTheLast(t *testing.T) {
	var c changelog
	for v := range uint64(10_000) {
		c.add(v+1, uint32(v%100))
	}
	c.compact()
	if len(c.list) != 100 || c.list[0].version != 9901 {
		t.Errorf("%d left, first %v", len(c.list), c.list[0])
	}
	if n := c.cut(50); n != 50 || c.floor != 9950 {
		t.Errorf("cut %d, floor %d", n, c.floor)
	}
}

// TestRangesEndWhereTheVectorStood is the story that broke the first version: (7, 8], then
// (3, 12] with an item of version 5 in it. Who has all up to 3 must not be told that (3, 8]
// is only what (7, 8] had.
func TestRangesEndWhereTheVectorStood(t *testing.T) {
	v, c := newVector(), changelog{}
	take := func(s span, ids ...uint32) {
		old := v.upTo[1]
		c.add(s.to, ids...)
		v.take(1, s)
		c.settle(old, v.upTo[1])
	}
	take(span{0, 3}, 1)
	take(span{7, 8}, 8)
	take(span{3, 12}, 5, 12)
	p := newPacker(words{})
	payload, to, _ := p.pack(&c, 3, v.upTo[1], 1)
	if to < 12 || len(payload) != 3 {
		t.Errorf("(3, %d] is %v", to, payload)
	}
}

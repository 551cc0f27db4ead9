package crdt

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever happened before, an exchange at one reading ends, and leaves one state: evictions,
// new generations and a new definition that only some had adopted included.
func TestQuietReplicasBecomeEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		latest := h.nodes[0].terms
		for _, n := range h.nodes {
			if n.terms.Epoch > latest.Epoch {
				latest = n.terms
			}
		}
		for _, n := range h.nodes {
			if n.terms != latest {
				n.adopt(latest, n.r)
			}
		}
		quiet(t, h.nodes)
		first := h.nodes[0].meet()
		first.Advance(latest, h.nodes[0].r)
		for _, n := range h.nodes[1:] {
			b := n.meet()
			b.Advance(latest, n.r)
			if !equal(b, first) {
				t.Fatalf("after quiet\n%+v\n%+v", *first, *b)
			}
		}
	})
}

// Two nodes that met each other's takes at different readings hold the same slots, and yet
// different refills. Without the answer of the one that sees the other lack something they
// would stay apart until the next take.
func TestWhoSeesThatTheOtherLacksSendsAgain(t *testing.T) {
	tr := terms(100*Token, rate(t, "10"))
	a := &replica{terms: tr, writer: 1, serial: 1, r: second}
	b := &replica{terms: tr, writer: 2, serial: 1, r: second}
	a.take(50 * Token)
	b.take(50 * Token)
	fromA, fromB := a.bucket.Clone(), b.bucket.Clone()
	a.r = 2 * second
	a.receive(&fromB) // early: from now on it refills the takes of both
	b.r = 10 * second
	b.receive(&fromA) // late: it held itself for full meanwhile
	a.r = b.r
	if a.level() <= b.level() {
		t.Fatal("the story does not show what it should")
	}
	m := b.bucket.Clone()
	if learnt, lacks := a.receive(&m); learnt || !lacks {
		t.Fatalf("learnt %v, lacks %v; want false, true", learnt, lacks)
	}
	quiet(t, []*replica{a, b})
	if !equal(a.bucket, b.bucket) {
		t.Fatalf("apart:\n%+v\n%+v", *a.bucket, *b.bucket)
	}
}

// Every admitted take and every granted credit is in a slot, once, whatever was lost,
// repeated or late. Evictions and new generations aside: they forget on purpose.
func TestSlotsConserveWhatWasAdmitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, "take", "credit", "evict", "regenerate", "adopt")
		var taken, credited Milli
		for _, n := range h.nodes {
			n.terms = terms(10*Token, Rate{1, 1e6})
			n.bucket = nil
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			n := h.nodes[rapid.IntRange(0, len(h.nodes)-1).Draw(t, "node")]
			n.r += Instant(rapid.Int64Range(0, 1e9).Draw(t, "ns"))
			switch cost := amount(t); rapid.IntRange(0, 2).Draw(t, "op") {
			case 0:
				if n.take(cost) {
					taken += cost
				}
			case 1:
				credited += n.meet().Credit(n.terms, n.r, cost, n.slot())
			case 2:
				m := n.meet().Clone()
				h.nodes[rapid.IntRange(0, len(h.nodes)-1).Draw(t, "to")].receive(&m)
			}
		}
		quiet(t, h.nodes)
		for _, n := range h.nodes {
			var p, m Milli
			for _, s := range n.meet().Slots() {
				p += Milli(s.P)
				m += Milli(s.N)
			}
			if p != credited || m != taken {
				t.Fatalf("slots hold %d taken, %d credited; admitted %d and %d", m, p, taken, credited)
			}
		}
	})
}

// A credit fills a bucket at most to the brim. Credits and refills that did not know of each
// other may pass it once joined, by no more than those credits, and only until they are taken.
func TestCreditStopsAtTheCapacity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, "regenerate", "adopt", "evict")
		n := h.nodes[0]
		b := n.meet()
		b.Advance(n.terms, n.r)
		before := b.Filled + Milli(b.sum)
		granted := b.Credit(n.terms, n.r, amount(t), n.slot())
		if after := b.Filled + Milli(b.sum); after != before+granted || granted > 0 && after > n.terms.Capacity || granted < 0 {
			t.Fatalf("level %d, credited %d, became %d of %d", before, granted, after, n.terms.Capacity)
		}
		quiet(t, h.nodes)
		var credits Milli
		for _, s := range n.meet().Slots() {
			credits += Milli(s.P)
		}
		if level := n.bucket.Filled + Milli(n.bucket.sum); level > n.terms.Capacity+credits || n.bucket.Level(n.terms) > n.terms.Capacity {
			t.Fatalf("level %d of %d with %d credited", level, n.terms.Capacity, credits)
		}
	})
}

// An absent bucket and a fresh one answer every take alike: who evicts, and when, does not show.
func TestAbsentAndFreshAreOneToTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := drawTerms(t)
		tr.Idle = drawSpan(t)
		old := drawBucket(t, tr)
		r := old.Mark + drawSpan(t) + Instant(tr.Rate.Time(2*tr.Capacity))
		if !old.Absent(tr, r) {
			t.Skip("not absent yet")
		}
		fresh := NewBucket(tr, r)
		for range 20 {
			n := Milli(rapid.Int64Range(1, int64(tr.Capacity)).Draw(t, "n"))
			a, b := old.Take(tr, r, n, SlotID{7, 1}), fresh.Take(tr, r, n, SlotID{7, 1})
			if a != b || old.Level(tr) != fresh.Level(tr) {
				t.Fatalf("take of %d: old %v with %d left, fresh %v with %d left", n, a, old.Level(tr), b, fresh.Level(tr))
			}
			r += drawSpan(t)
		}
	})
}

// Who meets a key again after forgetting it opens a fresh slot. Its takes then count
// for everybody, also for those who remember the old slot.
func TestFreshSerialNeverHidesTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t, "credit", "regenerate", "adopt")
		together(h.nodes)
		n := h.nodes[0]
		if n.bucket != nil && n.bucket.Full(n.terms, n.r) {
			n.forget()
		}
		cost := amount(t)
		if !n.take(cost) {
			return
		}
		quiet(t, h.nodes)
		for _, o := range h.nodes {
			if o.level() > o.terms.Capacity-cost {
				t.Fatalf("level %d after a take of %d of %d", o.level(), cost, o.terms.Capacity)
			}
		}
	})
	// The old serial would hide them: what is written into it is below what others know.
	tr := terms(10*Token, rate(t, "1"))
	known, again := NewBucket(tr, 0), NewBucket(tr, 20*second)
	known.Take(tr, 0, 8*Token, SlotID{1, 1})
	again.Take(tr, 20*second, 5*Token, SlotID{1, 1})
	known.Advance(tr, 20*second)
	known.Join(&again)
	if known.Level(tr) != 10*Token {
		t.Fatal("a serial used twice hides nothing? Then this test shows nothing")
	}
}

package crdt

import (
	"testing"

	"pgregory.net/rapid"
)

// The laws hold on reachable states: those that schedules of several replicas produce.

func TestJoinIsASemilattice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		a, b, c := h.draw(t), h.draw(t), h.draw(t)
		if !equal(joined(a, b), joined(b, a)) {
			t.Fatalf("not commutative:\n%+v\n%+v", joined(a, b), joined(b, a))
		}
		if !equal(joined(joined(a, b), c), joined(a, joined(b, c))) {
			t.Fatalf("not associative:\n%+v\n%+v\n%+v", a, b, c)
		}
		if !equal(joined(a, a), a) {
			t.Fatalf("not idempotent: %+v", a)
		}
		if ab := joined(a, b); !below(a, ab) || !below(b, ab) {
			t.Fatalf("not an upper bound: %+v of %+v and %+v", ab, a, b)
		}
		if ac := joined(a, c); below(a, b) && !below(ac, joined(b, c)) || !below(ac, joined(ac, b)) {
			t.Fatalf("not monotone:\n%+v\n%+v\n%+v", a, b, c)
		}
	})
}

func TestJoinTellsWhoLearntAndWhoLacks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		a, b := h.draw(t).Clone(), h.draw(t).Clone()
		a.Mark = max(a.Mark, b.Mark) // marks move by themselves: they are nothing to learn
		b.Mark = a.Mark
		wantLearnt, wantLacks := !below(&b, &a), !below(&a, &b)
		if learnt, lacks := a.Join(&b); learnt != wantLearnt || lacks != wantLacks {
			t.Fatalf("learnt %v, lacks %v; want %v, %v", learnt, lacks, wantLearnt, wantLacks)
		}
	})
}

func TestEveryMutatorInflates(t *testing.T) {
	for name, mutate := range mutations {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			n := drawHistory(t).nodes[0]
			b := n.meet()
			before := b.Clone()
			mutate(t, n, b)
			if !below(&before, b) {
				t.Fatalf("%+v\nis not below\n%+v", before, b)
			}
		}))
	}
	t.Run("convert", rapid.MakeCheck(func(t *rapid.T) {
		n := drawHistory(t).nodes[0]
		b := n.meet()
		before := b.Clone()
		next := *n.terms
		next.Epoch++
		b.Convert(n.terms, &next, n.r, n.r)
		if !below(&before, b) || len(b.slots) != 0 || b.own != 0 {
			t.Fatalf("%+v\nis not below\n%+v", before, b)
		}
	}))
}

// A copy by Clone or from a message shares no slot: neither side sees the other's takes.
func TestCopiesShareNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		a, b := h.draw(t).Clone(), h.draw(t)
		was := b.Clone()
		c := Bucket{}
		c.Epoch = b.Epoch
		c.Join(b)
		a.Join(b)
		for _, x := range []*Bucket{&a, &c} {
			for i := range x.slots {
				x.Raise(x.slots[i].SlotID, 1, 2)
			}
			x.Raise(SlotID{99, 1}, 1, 2)
		}
		if !equal(b, &was) {
			t.Fatalf("%+v became %+v", was, b)
		}
	})
}

func TestPNCounterSumsItsSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawHistory(t).draw(t)
		var sum int64
		for _, s := range b.Slots() {
			sum += s.P - s.N
		}
		if b.Value() != sum || b.Touched > b.Mark {
			t.Fatalf("sum %d of %+v", sum, b)
		}
	})
}

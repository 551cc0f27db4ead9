package crdt

import (
	"testing"

	"pgregory.net/rapid"
)

// What reachable states look like is plausible to everybody, whatever was given back.
func TestHonestBucketsArePlausible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		b := h.draw(t)
		for _, n := range h.nodes {
			if !b.Plausible(n.terms, max(n.r, b.Mark)) || b.Plausible(n.terms, b.Mark-1) {
				t.Fatalf("%+v at %d", b, n.r)
			}
		}
	})
	tr := terms(10*Token, rate(t, "1/d"))
	b := NewBucket(tr, 0)
	for range 100_000 { // jobs that all fail and are given back: slots grow, the level does not
		b.Take(tr, second, 10*Token, SlotID{1, 1})
		b.Credit(tr, second, 10*Token, SlotID{1, 1})
	}
	if !b.Plausible(tr, second) {
		t.Fatalf("%+v is refused", b)
	}
	// Eight reloads later the rate that filled the bucket is no longer known.
	for i := range Instant(MaxPieces) {
		if tr.Pieces = append(tr.Pieces, Piece{b.Mark + i, Rate{1, uint64(i + 2)}}); len(tr.Pieces) > MaxPieces {
			tr.Pieces = tr.Pieces[1:]
		}
	}
	if !b.Plausible(tr, b.Mark+second) {
		t.Fatalf("%+v is refused after reloads", b)
	}
	// A bucket of another definition, a million times larger, met before its set.
	large := terms(1_000_000*Token, rate(t, "1"))
	large.Epoch++
	b = NewBucket(large, second)
	if !b.Plausible(tr, second) {
		t.Fatal("a later definition's bucket is refused")
	}
}

func TestAbsurdBucketsAreNotPlausible(t *testing.T) {
	tr := terms(10*Token, rate(t, "1"))
	for name, corrupt := range map[string]func(b *Bucket){
		"filled":    func(b *Bucket) { b.Filled += 1 << 40 },
		"empty":     func(b *Bucket) { b.Filled -= 1 << 40 },
		"taken":     func(b *Bucket) { b.Raise(SlotID{1, 1}, 0, 1<<40) },
		"credited":  func(b *Bucket) { b.Raise(SlotID{1, 1}, 1<<40, 0) },
		"future":    func(b *Bucket) { b.Mark += 1 << 40 },
		"past":      func(b *Bucket) { b.Mark = -1 },
		"new state": func(b *Bucket) { b.Gen = 1<<32 - 1 },
	} {
		b := NewBucket(tr, second)
		b.Take(tr, second, Token, SlotID{1, 1})
		if !b.Plausible(tr, second) {
			t.Fatal("refused before it was corrupt")
		}
		if corrupt(&b); b.Plausible(tr, second) {
			t.Errorf("%s: %+v is accepted", name, b)
		}
	}
}

// Reserving and settling at full size without end: a worn slot starts a new generation in
// time, so the bucket stays decodable, and no token is won or lost.
func TestWornSlotsStartANewGeneration(t *testing.T) {
	tr := terms(MaxCapacity, rate(t, "1000000"))
	b := NewBucket(tr, 0)
	gen := b.Gen
	b.Raise(SlotID{1, 1}, worn-int64(MaxCapacity), worn-int64(MaxCapacity)) // long ago
	b.own = 1
	for i := range 10 {
		level := b.Level(tr)
		if !b.Take(tr, 0, MaxCapacity, SlotID{1, 1}) || b.Level(tr) != level-MaxCapacity {
			t.Fatalf("take %d of %+v", i, b)
		}
		if got := b.Credit(tr, 0, MaxCapacity-Token, SlotID{1, 1}); got != MaxCapacity-Token {
			t.Fatalf("credit %d gave %d", i, got)
		}
		b.Credit(tr, 0, Token, SlotID{1, 1})
		if !roundTrips(t, &b) || !b.Plausible(tr, second) {
			t.Fatalf("%+v does not travel", b)
		}
	}
	if b.Gen == gen || b.slots[0].N > worn {
		t.Fatalf("still %+v", b)
	}
}

// A bucket with the most slots and the largest values of honest use still travels.
func TestTheLargestBucketTravels(t *testing.T) {
	tr := terms(MaxCapacity, rate(t, "1000000"))
	b := NewBucket(tr, maxInstant)
	for i := range 127 {
		b.Raise(SlotID{Writer(i + 1), 1}, 0, worn)
		b.Filled += worn
	}
	for i := 127; i < maxSlots; i++ {
		b.Raise(SlotID{Writer(i + 1), 1<<32 - 1}, worn, worn)
	}
	if !roundTrips(t, &b) || !b.Plausible(tr, maxInstant) {
		t.Fatal("refused")
	}
}

// A take of nothing takes nothing: it asks. Less than nothing gives nothing back.
func TestATakeOfNothingOnlyAsks(t *testing.T) {
	tr := terms(10*Token, rate(t, "1"))
	b := NewBucket(tr, 0)
	for _, n := range []Milli{0, -1, -1 << 62} {
		if !b.Take(tr, second, n, SlotID{1, 1}) || len(b.Slots()) != 0 || b.Level(tr) != 10*Token {
			t.Fatalf("take of %d: %+v", n, b)
		}
		if got := b.Credit(tr, second, n, SlotID{1, 1}); got != 0 || len(b.Slots()) != 0 {
			t.Fatalf("credit of %d: %+v", n, b)
		}
	}
	b.Take(tr, second, 10*Token, SlotID{1, 1})
	b.Raise(SlotID{2, 1}, 0, 5)
	if b.Take(tr, second, 0, SlotID{1, 1}) {
		t.Fatal("a bucket in debt has nothing to give, and says it has")
	}
}

// After a later state came in, a writer opens its slot anew: the number of the old one
// belongs to the state that is gone.
func TestALaterStateClosesTheOwnSlot(t *testing.T) {
	tr := terms(10*Token, rate(t, "1"))
	a := NewBucket(tr, 0)
	a.Take(tr, 0, Token, SlotID{1, 1})
	later := a.Clone()
	later.Regenerate(tr, 0)
	later.Take(tr, 0, Token, SlotID{2, 1})
	if learnt, lacks := a.Join(&later); !learnt || lacks || a.own != 0 || !equal(&a, &later) {
		t.Fatalf("%+v", a)
	}
	if learnt, lacks := later.Join(&Bucket{}); learnt || !lacks {
		t.Fatal("an earlier state was taken over")
	}
	a.Take(tr, 0, Token, SlotID{1, 9})
	if s := a.find(SlotID{1, 9}); s == nil || s.N != int64(Token) || later.find(SlotID{1, 9}) != nil {
		t.Fatalf("%+v", a)
	}
	a.Take(tr, 0, Token, SlotID{1, 10})
	if len(a.slots) != 2 {
		t.Fatalf("a second slot was opened: %+v", a)
	}
}

// A name that stands twice, or that nobody uses, would give a batch two encodings.
func TestDictionariesAreExact(t *testing.T) {
	tr := terms(10*Token, rate(t, "1"))
	b := busy(tr, 2)
	for name, spoil := range map[string]func(p *Packer){
		"unused writer": func(p *Packer) { p.writers = append(p.writers, 77) },
		"unused limit":  func(p *Packer) { p.limits = append(p.limits, packedLimit{name: "m"}) },
		"writer twice":  func(p *Packer) { p.writers[1] = p.writers[0] },
		"limit twice":   func(p *Packer) { p.limits[1] = p.limits[0] },
		"wild reading":  func(p *Packer) { p.limits[0].base = -1 },
		"slot twice": func(p *Packer) {
			b := b.Clone()
			b.slots = append(b.slots, b.slots[0])
			p.Add("l", "k", &b, 0, 1<<20)
		},
		"writers out of order": func(p *Packer) {
			p.Reset()
			p.writers = append(p.writers, b.slots[1].Writer, b.slots[0].Writer)
			p.Add("l", "k", &b, 0, 0)
			p.Add("l", "k", &b, 0, 1<<20)
		},
	} {
		var p Packer
		p.Add("l", "k", &b, b.Mark, 0)
		p.Add("m", "k", &b, b.Mark, 1<<20)
		if _, _, err := unpack(p.Append(nil)); err != nil {
			t.Fatal(err)
		}
		spoil(&p)
		if _, _, err := unpack(p.Append(nil)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Values that no honest bucket has do not decode: readings out of order, sums beyond bounds.
func TestImpossibleValuesDoNotDecode(t *testing.T) {
	for name, b := range map[string]Bucket{
		"touched after mark": {Mark: 5, Touched: 6},
		"touched before 0":   {Mark: 5, Touched: -1},
		"mark beyond":        {Mark: maxInstant + 1, Touched: maxInstant},
		"level below":        {Filled: Milli(-maxMilli) - 1},
		"sum beyond": {PNCounter: PNCounter{sum: 0, slots: []Slot{
			{SlotID{1, 1}, maxMilli, 0}, {SlotID{2, 1}, 1, 0}, {SlotID{3, 1}, 0, maxMilli}, {SlotID{4, 1}, 0, 1}}}},
	} {
		var p Packer
		p.Add("l", "k", &b, 4, 0)
		if _, _, err := unpack(p.Append(nil)); err == nil {
			t.Errorf("%s: %+v is accepted", name, b)
		}
	}
}

package crdt

// Bucket is one limit applied to one key: a PN-counter with a refill ledger. Make one
// with NewBucket, then Advance, Take, Credit (this node's doing) and Join (the others').
// It is a plain value without a lock. A copy shares its slots: use Clone.
//
// Every method that takes a reading r of the refill clock accepts any; readings that lie
// before the bucket's mark change nothing.
type Bucket struct {
	Epoch   Epoch
	Filled  Milli   // ever credited by refill; starts at the capacity
	Mark    Instant // Filled is complete up to here
	Touched Instant // last take or credit; never after Mark
	PNCounter
	Gen uint32 // generation within the epoch: a later one replaces an earlier
	own uint32 // serial of the slot that this node opened, 0: none
}

// NewBucket is a full bucket at reading r.
func NewBucket(t *Terms, r Instant) Bucket {
	return Bucket{Epoch: t.Epoch, Filled: t.Capacity, Mark: r, Touched: r}
}

// Clone shares nothing with b, and owns no slot.
func (b *Bucket) Clone() Bucket {
	c := *b
	c.own = 0
	c.PNCounter = b.clone()
	return c
}

// Level is what may be taken, at most the capacity; below 0 it is a debt.
func (b *Bucket) Level(t *Terms) Milli {
	return min(b.Filled+Milli(b.sum), t.Capacity)
}

// Advance refills up to reading r. It tells whether debt was forgiven, which other nodes
// must hear of. Advance(r1) then Advance(r2) equals Advance(r2).
func (b *Bucket) Advance(t *Terms, r Instant) (forgave bool) {
	if r <= b.Mark {
		return false
	}
	forgave = b.Filled+Milli(b.sum) < -t.MaxDebt
	b.Filled = b.filledAt(t, r)
	b.Mark = r
	return forgave
}

// filledAt is what Filled becomes by reading r: first forgiveness, then refill.
func (b *Bucket) filledAt(t *Terms, r Instant) Milli {
	if r <= b.Mark {
		return b.Filled
	}
	filled := max(b.Filled, -t.MaxDebt-Milli(b.sum))
	if room := t.Capacity - filled - Milli(b.sum); room > 0 {
		filled += min(room, t.Fill(b.Mark, r))
	}
	return filled
}

// Take removes n from the bucket at reading r if its level allows, in the slot of id's
// writer: the one it opened, else a new one, id, of a serial (not 0) that this writer never
// used before it last forgot a bucket. With n of 0 or less nothing is taken: the answer
// is whether the level is at least n. A refused take changes nothing, not even the mark: so
// that many of them on many cores only read the bucket.
func (b *Bucket) Take(t *Terms, r Instant, n Milli, id SlotID) bool {
	_, ok := b.TryTake(t, r, n, id)
	return ok
}

// TryTake is Take that also tells the level it came to.
func (b *Bucket) TryTake(t *Terms, r Instant, n Milli, id SlotID) (level Milli, ok bool) {
	filled := b.filledAt(t, r)
	level = filled + Milli(b.sum)
	if level < n {
		return min(level, t.Capacity), false
	}
	b.Filled, b.Mark = filled, max(b.Mark, r)
	if n > 0 {
		b.raise(t, r, id, 0, int64(n))
	}
	return b.Level(t), true
}

// Credit gives up to n back at reading r, clipped to the room left, and returns how much.
func (b *Bucket) Credit(t *Terms, r Instant, n Milli, id SlotID) Milli {
	b.Advance(t, r)
	n = min(n, t.Capacity-b.Filled-Milli(b.sum))
	if n <= 0 {
		return 0
	}
	b.raise(t, r, id, int64(n), 0)
	return n
}

// worn is the value at which a slot is used up, and its bucket starts a new generation. So
// no amount of taking and giving back makes a bucket that a decoder refuses: 128 worn
// slots still fit. At a million tokens a second it comes once a year.
const worn = 1 << 55

func (b *Bucket) raise(t *Terms, r Instant, id SlotID, p, n int64) {
	s := b.ownSlot(id)
	if s.P > worn || s.N > worn {
		b.Regenerate(t, r)
		s = b.ownSlot(id)
	}
	s.P += p
	s.N += n
	b.sum += p - n
	b.Touched = max(b.Touched, r)
}

func (b *Bucket) ownSlot(id SlotID) *Slot {
	if b.own == 0 {
		b.own = id.Serial
	}
	return b.slot(SlotID{id.Writer, b.own})
}

// Join makes b the least upper bound of both states. learnt: b changed; lacks: o is
// missing something that b has. Both should have been advanced to one reading before: a
// mark tells that Filled is complete, and the maximum of marks would skip refill.
func (b *Bucket) Join(o *Bucket) (learnt, lacks bool) {
	switch b.compareState(o) {
	case -1:
		*b = o.Clone()
		return true, false
	case +1:
		return false, true
	}
	learnt, lacks = b.PNCounter.Join(&o.PNCounter)
	learnt = learnt || o.Filled > b.Filled || o.Touched > b.Touched
	lacks = lacks || b.Filled > o.Filled || b.Touched > o.Touched
	b.Filled = max(b.Filled, o.Filled)
	b.Mark = max(b.Mark, o.Mark)
	b.Touched = max(b.Touched, o.Touched)
	return learnt, lacks
}

// compareState orders by epoch, then generation.
func (b *Bucket) compareState(o *Bucket) int {
	switch {
	case b.Epoch < o.Epoch || b.Epoch == o.Epoch && b.Gen < o.Gen:
		return -1
	case b.Epoch > o.Epoch || b.Gen > o.Gen:
		return +1
	}
	return 0
}

// Absent is the eviction rule: at reading r the bucket is full and was not touched for
// the limit's idle time. Such a bucket is to be treated as if it had never been.
func (b *Bucket) Absent(t *Terms, r Instant) bool {
	if r-b.Touched < t.Idle {
		return false
	}
	return b.Full(t, r)
}

// Full tells whether the bucket is full at reading r.
func (b *Bucket) Full(t *Terms, r Instant) bool {
	level := b.Filled + Milli(b.sum)
	return level >= t.Capacity || r > b.Mark && max(level, -t.MaxDebt)+t.Fill(b.Mark, r) >= t.Capacity
}

// Regenerate starts a new generation at reading r: the level carried over, no slots.
// The price is what other nodes take before they hear of it.
func (b *Bucket) Regenerate(t *Terms, r Instant) {
	b.Advance(t, r)
	*b = Bucket{Epoch: b.Epoch, Gen: b.Gen + 1, Filled: b.Level(t), Mark: b.Mark, Touched: b.Touched}
}

// Convert moves the bucket to another epoch of its limit: the level at reading `at` of the
// old clock, at most the new capacity, with the mark of the new clock and empty slots. One
// that is a draft's keeps its slots.
func (b *Bucket) Convert(old, next *Terms, at, mark Instant) {
	b.Advance(old, at)
	if old.Policy == next.Policy {
		mark = max(mark, b.Mark) // what was refilled already is not refilled again
	}
	c := Bucket{Epoch: next.Epoch, Filled: min(b.Level(old), next.Capacity), Mark: mark, Touched: mark}
	if b.Epoch.Draft() {
		c.PNCounter, c.own = b.PNCounter, b.own
		c.Filled -= Milli(c.sum)
	}
	*b = c
}

// Plausible tells whether the bucket's values can have come about under these terms by
// reading r, within orders of magnitude; under a maximum a corrupt one would stay for
// ever. It looks at the level, which shows a corrupt Filled or slot, and not at the slots:
// taking and giving back raises them without bound. A state of another epoch than the
// terms' can be judged by its readings only.
func (b *Bucket) Plausible(t *Terms, r Instant) bool {
	if b.Mark < 0 || b.Mark > r || b.Gen > maxGen {
		return false
	}
	const slack = 1000
	debt := min(t.Capacity+t.Fill(0, r), Milli(maxMilli)/slack)
	level := b.Filled + Milli(b.sum)
	return b.Epoch != t.Epoch || level <= slack*t.Capacity && level >= -slack*debt
}

// LevelAt is the level that the bucket would have at reading r; it changes nothing.
func (b *Bucket) LevelAt(t *Terms, r Instant) Milli {
	return min(b.filledAt(t, r)+Milli(b.sum), t.Capacity)
}

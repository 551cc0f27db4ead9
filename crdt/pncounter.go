package crdt

// Writer is a node's incarnation: the upper half is NodeTag of its name, the lower half
// random, drawn at every start and never reused.
type Writer uint64

// NewWriter makes the incarnation of a node from its name and 32 random bits.
func NewWriter(node string, random uint32) Writer {
	return Writer(uint64(NodeTag(node))<<32 | uint64(random))
}

// Tag is the NodeTag of the writer's node.
func (w Writer) Tag() uint32 { return uint32(w >> 32) }

// NodeTag shortens a node's name to 32 bits (FNV-1a), enough to name the node of a
// slot to a person; nothing that counts depends on its being unique.
func NodeTag(node string) uint32 {
	h := uint32(2166136261)
	for i := range len(node) {
		h = (h ^ uint32(node[i])) * 16777619
	}
	return h
}

// SlotID names a slot. A writer opens a second serial in a bucket only after it forgot
// the bucket: it never writes into a slot whose last value it does not know.
type SlotID struct {
	Writer Writer
	Serial uint32
}

// Slot is what one writer ever added (P) and removed (N). Both only grow.
type Slot struct {
	SlotID
	P, N int64
}

// PNCounter is a counter that many writers raise and lower without asking each other.
// The zero value counts 0 and is ready to use. Its value is ΣP − ΣN; each slot is raised
// by its own writer only, so the maximum of each component joins two copies.
type PNCounter struct {
	sum   int64  // ΣP − ΣN; first, as a take that is refused reads nothing behind it
	slots []Slot // in order of first sight: nothing may depend on the order
}

// Value is ΣP − ΣN.
func (c *PNCounter) Value() int64 { return c.sum }

// Slots is the counter's own memory: to be read, under the owner's lock.
func (c *PNCounter) Slots() []Slot { return c.slots }

// Settle moves the slots into room, which from now on is the counter's own; more slots than
// fit are kept elsewhere. It saves the allocation and the cache miss of a separate array.
func (c *PNCounter) Settle(room []Slot) {
	if len(c.slots) <= len(room) {
		c.slots = append(room[:0], c.slots...)
	}
}

// Raise adds p and n, neither negative, to the slot id, which must be the caller's own.
func (c *PNCounter) Raise(id SlotID, p, n int64) {
	s := c.slot(id)
	s.P += p
	s.N += n
	c.sum += p - n
}

// Join makes c the least upper bound of both. learnt: c grew; lacks: o is missing
// something that c has.
func (c *PNCounter) Join(o *PNCounter) (learnt, lacks bool) {
	matched := 0
	had := len(c.slots)
	for i := range o.slots {
		theirs := &o.slots[i]
		mine := c.find(theirs.SlotID)
		if mine == nil {
			c.slots = append(c.slots, *theirs)
			c.sum += theirs.P - theirs.N
			learnt = true
			continue
		}
		matched++
		lacks = lacks || mine.P > theirs.P || mine.N > theirs.N
		if theirs.P > mine.P {
			c.sum += theirs.P - mine.P
			mine.P = theirs.P
			learnt = true
		}
		if theirs.N > mine.N {
			c.sum -= theirs.N - mine.N
			mine.N = theirs.N
			learnt = true
		}
	}
	return learnt, lacks || matched < had
}

func (c *PNCounter) find(id SlotID) *Slot {
	for i := range c.slots {
		if c.slots[i].SlotID == id {
			return &c.slots[i]
		}
	}
	return nil
}

func (c *PNCounter) slot(id SlotID) *Slot {
	if s := c.find(id); s != nil {
		return s
	}
	c.slots = append(c.slots, Slot{SlotID: id})
	return &c.slots[len(c.slots)-1]
}

func (c *PNCounter) clone() PNCounter {
	return PNCounter{slots: append([]Slot(nil), c.slots...), sum: c.sum}
}

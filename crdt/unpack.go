package crdt

import (
	"errors"
	"fmt"
	"slices"
)

// ErrBatch is wrapped by every refusal of a batch.
var ErrBatch = errors.New("crdt: bad batch")

// Entry is one bucket of a batch.
type Entry struct {
	Limit  string
	Key    []byte // part of the batch
	Bucket Bucket
}

// Unpacker reads a batch. After Open, Set has the set of limits if there is one, and Next
// yields the buckets.
type Unpacker struct {
	Set     *Set
	r       reader
	limits  []packedLimit
	writers []Writer
	scratch []Writer
	entry   Entry
	used    struct{ limits, writers int } // dictionary entries seen so far, in order
}

// Open reads the head of a batch. The batch must not change while it is read.
func (u *Unpacker) Open(batch []byte) error {
	*u = Unpacker{limits: u.limits[:0], writers: u.writers[:0], scratch: u.scratch, r: reader{src: batch}}
	if f := u.r.uint(255); f != batchFormat {
		u.r.fail(fmt.Sprintf("format %d, want %d", f, batchFormat))
	}
	if set := u.r.optionalBytes(maxSetBytes); set != nil {
		u.Set, u.r.err = DecodeSet(set)
	}
	for n := u.r.array(maxEpochs); n > 0 && u.r.err == nil; n-- {
		u.r.tuple(3)
		name := string(u.r.string(1, MaxName))
		u.limits = append(u.limits, packedLimit{name, Epoch(u.r.uint(1<<64 - 1)), u.r.instant()})
	}
	for n := u.r.array(maxWriters); n > 0 && u.r.err == nil; n-- {
		u.writers = append(u.writers, Writer(u.r.uint(1<<64-1)))
	}
	if u.r.err == nil && u.twice() {
		u.r.fail("name twice")
	}
	if u.r.err != nil {
		return fmt.Errorf("%w: %w", ErrBatch, u.r.err)
	}
	return nil
}

// twice tells whether a dictionary holds a name more than once.
func (u *Unpacker) twice() bool {
	u.scratch = append(u.scratch[:0], u.writers...)
	slices.Sort(u.scratch)
	if len(slices.Compact(u.scratch)) < len(u.writers) {
		return true
	}
	for i, a := range u.limits {
		for _, b := range u.limits[:i] {
			if a.epoch == b.epoch && a.name == b.name {
				return true
			}
		}
	}
	return false
}

// Next reads the next bucket; nil at the end. The entry is valid until the next call,
// its Bucket for good.
func (u *Unpacker) Next() (*Entry, error) {
	if u.r.err == nil && u.r.left() > 0 {
		u.next()
		if u.r.err == nil {
			return &u.entry, nil
		}
	}
	if u.r.err == nil && (u.used.limits < len(u.limits) || u.used.writers < len(u.writers)) {
		u.r.fail("unused names")
	}
	if u.r.err == nil && u.used.limits == 0 && u.Set == nil {
		u.r.fail("nothing in it")
	}
	if u.r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBatch, u.r.err)
	}
	return nil, nil
}

func (u *Unpacker) next() {
	r := &u.r
	n := r.array(6 + 4*maxSlots)
	if n < 6 || (n-6)%4 != 0 || n-6 > r.left() { // what is not there is not made room for
		r.fail("entry of wrong length")
		return
	}
	l := r.index(&u.used.limits, len(u.limits))
	if r.err != nil {
		return
	}
	e := &u.entry
	e.Limit = u.limits[l].name
	e.Key = r.string(0, MaxKey)
	b := Bucket{Epoch: u.limits[l].epoch, Gen: uint32(r.uint(maxGen))}
	level := r.int(maxMilli)
	b.Mark = u.limits[l].base + Instant(r.int(int64(maxInstant)))
	b.Touched = b.Mark - Instant(r.int(int64(maxInstant)))
	if b.Touched < 0 || b.Touched > b.Mark || b.Mark > maxInstant {
		r.fail("readings out of order")
	}
	if n > 6 {
		b.slots = make([]Slot, 0, (n-6)/4)
	}
	for range (n - 6) / 4 {
		w := r.index(&u.used.writers, len(u.writers))
		if r.err != nil {
			return
		}
		s := Slot{SlotID: SlotID{u.writers[w], uint32(r.uint(1<<32 - 1))}, P: r.amount(), N: r.amount()}
		if b.find(s.SlotID) != nil {
			r.fail("slot twice")
			return
		}
		b.slots = append(b.slots, s)
		b.sum += s.P - s.N
		if b.sum > maxMilli || b.sum < -maxMilli {
			r.fail("slots overflow")
			return
		}
	}
	b.Filled = Milli(level - b.sum)
	e.Bucket = b
}

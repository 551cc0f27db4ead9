package crdt

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
)

// A batch carries whole buckets, and if there is one to carry, the set of limits. It is
// a sequence of msgpack values; names that recur stand in a dictionary at its head:
//
//	┌────────┬──────────┬─ limits ──────────────────┬─ writers ─┬─ entries, to the end ───────┐
//	│ format │ set: bin │ array of                  │ array of  │ array of 6 + 4·slots:       │
//	│ uint 1 │ or nil   │ [name, epoch, base]       │ uint64    │  limit#  key  gen           │
//	│        │          │ base: a reading of the    │           │  level   mark−base          │
//	│        │          │ limit's clock             │           │  mark−touched               │
//	└────────┴──────────┴───────────────────────────┴───────────┴──────────── slots ──────────┘
//	slot: writer#  serial  P  N;  level = Filled + ΣP − ΣN (small where Filled is large)
//
// Integers are in their shortest form and dictionaries in order of first use, so a batch
// has one encoding only and the decoder refuses every other.
const batchFormat = 1

// MaxKey is the longest key of a bucket, in bytes.
const MaxKey = 255

// Bounds of what a decoder accepts, all far above what an encoder meets: a bucket starts
// a new generation at 32 dead writers and at slots of value worn.
const (
	maxSlots   = 4096
	maxWriters = 4096 // of one batch; Add refuses to go beyond
	maxEpochs  = 2 * MaxLimits
	maxGen     = 1 << 24
	maxInstant = Instant(1<<62 - 1) // 146 years
	maxMilli   = int64(1<<62 - 1)   // of levels, slots and their sum: two of them do not overflow
)

// ErrBatch is wrapped by every refusal of a batch.
var ErrBatch = errors.New("crdt: bad batch")

// Entry is one bucket of a batch.
type Entry struct {
	Limit  string
	Key    []byte // valid until the next call of Next
	Bucket Bucket
}

// Packer builds batches. The zero value is ready; it keeps its memory between batches.
type Packer struct {
	set     []byte
	limits  []packedLimit
	writers []Writer
	head    bytes.Buffer // limits and writers, once sealed
	body    bytes.Buffer
	enc     *msgpack.Encoder
	size    int // bytes of the dictionaries, estimated from above
	entries int
}

type packedLimit struct {
	name  string
	epoch Epoch
	base  Instant
}

// Reset begins a new batch.
func (p *Packer) Reset() {
	p.set, p.limits, p.writers = nil, p.limits[:0], p.writers[:0]
	p.body.Reset()
	p.size, p.entries = 0, 0
}

// Set adds the set of limits.
func (p *Packer) Set(s *Set) {
	p.set = s.Bytes()
	p.size += len(p.set) + 5
	p.entries++
}

// Len is an upper bound of the batch's size in bytes.
func (p *Packer) Len() int { return headSize + p.size + p.body.Len() }

// headSize is a batch's format, nil and heads of arrays, at most.
const headSize = 1 + 1 + 5 + 5

// Entries counts what was added since Reset, the set included.
func (p *Packer) Entries() int { return p.entries }

// Add appends a bucket if the batch stays within max bytes or is still empty, and tells
// whether it did. base is a reading near the bucket's mark, the same for a limit's whole batch.
func (p *Packer) Add(limit, key string, b *Bucket, base Instant, max int) bool {
	limits, writers, size, body := len(p.limits), len(p.writers), p.size, p.body.Len()
	p.entry(limit, key, b, base)
	if p.entries > 0 && (p.Len() > max || len(p.writers) > maxWriters || len(p.limits) > maxEpochs) {
		p.limits, p.writers, p.size = p.limits[:limits], p.writers[:writers], size
		p.body.Truncate(body)
		return false
	}
	p.entries++
	return true
}

func (p *Packer) entry(limit, key string, b *Bucket, base Instant) {
	if p.enc == nil {
		p.enc = msgpack.NewEncoder(&p.body)
	}
	e := p.enc
	n, base := p.limit(limit, b.Epoch, base)
	e.EncodeArrayLen(6 + 4*len(b.slots))
	e.EncodeUint(uint64(n))
	e.EncodeString(key)
	e.EncodeUint(uint64(b.Gen))
	e.EncodeInt(int64(b.Filled) + b.sum)
	e.EncodeInt(int64(b.Mark - base))
	e.EncodeInt(int64(b.Mark - b.Touched))
	for i := range b.slots {
		s := &b.slots[i]
		e.EncodeUint(uint64(p.writer(s.Writer)))
		e.EncodeUint(uint64(s.Serial))
		e.EncodeUint(uint64(s.P))
		e.EncodeUint(uint64(s.N))
	}
}

func (p *Packer) limit(name string, epoch Epoch, base Instant) (int, Instant) {
	for i := range p.limits {
		if p.limits[i].name == name && p.limits[i].epoch == epoch {
			return i, p.limits[i].base
		}
	}
	p.limits = append(p.limits, packedLimit{name, epoch, base})
	p.size += 1 + 2 + len(name) + 9 + 9
	return len(p.limits) - 1, base
}

func (p *Packer) writer(w Writer) int {
	for i := range p.writers {
		if p.writers[i] == w {
			return i
		}
	}
	p.writers = append(p.writers, w)
	p.size += 9
	return len(p.writers) - 1
}

// Append appends the finished batch to dst; nothing if nothing was added.
func (p *Packer) Append(dst []byte) []byte {
	if p.entries == 0 {
		return dst
	}
	p.head.Reset()
	e := msgpack.NewEncoder(&p.head)
	e.EncodeUint(batchFormat)
	if p.set == nil {
		e.EncodeNil()
	} else {
		e.EncodeBytes(p.set)
	}
	e.EncodeArrayLen(len(p.limits))
	for _, l := range p.limits {
		e.EncodeArrayLen(3)
		e.EncodeString(l.name)
		e.EncodeUint(uint64(l.epoch))
		e.EncodeUint(uint64(l.base))
	}
	e.EncodeArrayLen(len(p.writers))
	for _, w := range p.writers {
		e.EncodeUint(uint64(w))
	}
	dst = append(dst, p.head.Bytes()...)
	return append(dst, p.body.Bytes()...)
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
	*u = Unpacker{limits: u.limits[:0], writers: u.writers[:0], scratch: u.scratch, r: reader{dec: u.r.dec}}
	u.r.reset(batch)
	if f := u.r.uint(255); f != batchFormat {
		return fmt.Errorf("%w: format %d, want %d", ErrBatch, f, batchFormat)
	}
	if set := u.r.optionalBytes(maxSetBytes); set != nil && u.r.err == nil {
		if u.Set, u.r.err = DecodeSet(set); u.r.err != nil {
			return fmt.Errorf("%w: %w", ErrBatch, u.r.err)
		}
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
	l := u.index(&u.used.limits, len(u.limits))
	if r.err != nil {
		return
	}
	e := &u.entry
	e.Limit = u.limits[l].name
	e.Key = r.string(1, MaxKey)
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
		w := u.index(&u.used.writers, len(u.writers))
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

// index reads a dictionary index; new names come in order.
func (u *Unpacker) index(used *int, names int) int {
	i := int(u.r.uint(1 << 20))
	switch {
	case u.r.err != nil:
	case i >= names || i > *used:
		u.r.fail("name out of order")
	case i == *used:
		*used++
	}
	return i
}

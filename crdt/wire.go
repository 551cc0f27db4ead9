package crdt

import (
	"bytes"

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

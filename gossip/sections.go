package gossip

import "encoding/binary"

// Bodies of the sections, besides the roster's (roster.go):
//
//	want         id (8), base, mask (1)                  first sync: chunks below base are in, and base+1+i for bit i
//	delta        origin (8), from, to−from, payload      all that origin changed in (from, to], or newer
//	chunk        id (8), n, last (1), vector, payload    vector, of the dump's start, on the last chunk only
//	audit ask    id (8), point, n × sum (8)              the sums of all ranges at point
//	audit tell   id (8), point, n × range, payload       the ranges that differ, and our items of them
//	audit items  payload                                 the asker's items of them
//
// payload runs to the end of the body.

// want asks a peer for everything, and acknowledges what of it came.
type want struct {
	id, base uint64
	mask     byte
}

// delta carries origin's changes in (from, to]. An empty payload: their items are gone.
type delta struct {
	origin, from, to uint64
	payload          []byte
}

// chunk is one of a dump's; vector is what its sender had when the dump began.
type chunk struct {
	id, n   uint64
	last    bool
	vector  []mark
	payload []byte
}

const (
	auditRanges = 1024 // sums in one audit
	auditRepair = 64   // ranges mended in one exchange
	maxPoint    = 4096
	maxWriters  = 1024 // of a whole vector
)

type auditAsk struct {
	id    uint64
	point []byte
	sums  []uint64
}

type auditTell struct {
	id      uint64
	point   []byte
	ranges  []uint64
	payload []byte
}

func appendWant(b []byte, w *want) []byte {
	b = binary.BigEndian.AppendUint64(b, w.id)
	return append(binary.AppendUvarint(b, w.base), w.mask)
}

func (r *reader) want() *want { return &want{r.u64(), r.uvarint(), r.byte()} }

func appendDelta(b []byte, d *delta) []byte {
	b = binary.BigEndian.AppendUint64(b, d.origin)
	b = binary.AppendUvarint(b, d.from)
	b = binary.AppendUvarint(b, d.to-d.from)
	return append(b, d.payload...)
}

func (r *reader) delta() delta {
	d := delta{origin: r.u64(), from: r.uvarint()}
	n := r.uvarint()
	d.to = d.from + n
	if n == 0 || d.to < d.from || d.origin == 0 {
		r.bad = true
	}
	d.payload = r.rest()
	return d
}

func appendChunk(b []byte, c *chunk) []byte {
	b = binary.BigEndian.AppendUint64(b, c.id)
	b = binary.AppendUvarint(b, c.n)
	if !c.last {
		return append(append(b, 0), c.payload...)
	}
	return append(appendVector(append(b, 1), c.vector), c.payload...)
}

func (r *reader) chunk() *chunk {
	c := &chunk{id: r.u64(), n: r.uvarint()}
	switch r.byte() {
	case 0:
	case 1:
		c.last = true
		c.vector = r.vector(maxWriters)
	default:
		r.bad = true
	}
	c.payload = r.rest()
	return c
}

func appendAuditAsk(b []byte, a *auditAsk) []byte {
	b = binary.BigEndian.AppendUint64(b, a.id)
	b = appendBytes(b, a.point)
	b = binary.AppendUvarint(b, uint64(len(a.sums)))
	for _, s := range a.sums {
		b = binary.BigEndian.AppendUint64(b, s)
	}
	return b
}

func (r *reader) auditAsk() *auditAsk {
	a := &auditAsk{id: r.u64(), point: r.bytes(maxPoint)}
	for range r.count(auditRanges) {
		a.sums = append(a.sums, r.u64())
	}
	return a
}

func appendAuditTell(b []byte, a *auditTell) []byte {
	b = binary.BigEndian.AppendUint64(b, a.id)
	b = appendBytes(b, a.point)
	b = binary.AppendUvarint(b, uint64(len(a.ranges)))
	for _, i := range a.ranges {
		b = binary.AppendUvarint(b, i)
	}
	return append(b, a.payload...)
}

func (r *reader) auditTell() *auditTell {
	a := &auditTell{id: r.u64(), point: r.bytes(maxPoint)}
	for range r.count(auditRepair) {
		i := r.uvarint()
		if i >= auditRanges || len(a.ranges) > 0 && i <= a.ranges[len(a.ranges)-1] {
			r.bad = true
		}
		a.ranges = append(a.ranges, i)
	}
	a.payload = r.rest()
	return a
}

// rest is all that is left; empty, but never nil, at the end.
func (r *reader) rest() []byte {
	if r.bad {
		return nil
	}
	v := r.b[:len(r.b):len(r.b)]
	r.b = nil
	return v
}
